// SPDX-License-Identifier: GPL-2.0

//! From the instances of an object to its inode: a cached one or a new one.

#![forbid(unsafe_code)]

use super::watch;
use crate::compat::errno::ESTALE;
use crate::fs::{
    base::once::store,
    objects::{
        ours::Got,
        stack::StackSpace, //
    }, //
};
use crate::logic::ino;
use crate::union::{
    branches::{
        branch::{
            Slot,
            Slots,
            Stack, //
        },
        stack, //
    },
    plink,
    types::{
        Inode,
        LowerDentry,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// The union's inode for the instances `slots`, which are not empty: a cached one or a new one.
pub(crate) fn get(section: Section<'_>, slots: Slots) -> Result<ARef<Inode>> {
    let (top, rest) = slots.split().ok_or(EIO)?;
    if top.inode()?.is_dir() {
        get_dir(section, top, rest)
    } else {
        get_other(section, top)
    }
}

/// What was found by a name gets the instance under that name, if the one that it is known by is
/// none, or none any more: it was found by a file handle, the name was removed, or the file was
/// moved to another branch.
fn give_named(section: Section<'_>, inode: &Inode, named: KBox<Stack>) -> Result {
    let wanted = || -> Result<bool> {
        let (known, new) = (inode.stack(section)?, named.top());
        let top = known.top();
        let gone = top.dentry().is_root()
            || top.dentry().is_unhashed()
            || (top.dentry().is(new.dentry()) && top.branch().id != new.branch().id);
        Ok(gone && core::ptr::eq(known.top_inode(), named.top_inode()))
    };
    if !wanted()? {
        return Ok(());
    }
    let lock = inode.promotion_lock();
    if wanted()? {
        inode.publish(section, named);
    }
    drop(lock);
    Ok(())
}

/// As [`get`], for a directory with `top` and the instances below it.
fn get_dir(section: Section<'_>, top: Slot, rest: KVec<Slot>) -> Result<ARef<Inode>> {
    let branch = top.branch().clone();
    let lower: ARef<LowerDentry> = top.dentry().clone();
    let lower_inode = lower.inode().ok_or(ESTALE)?;
    plink::originals::part_numbers(section, &top)?;
    let number = section.data().ino.number_of(&branch, &lower)?;
    let stack = StackSpace::new()?.fill(top, rest)?;
    let nlink = stack::link_count(&stack)?;
    let mut stack = Some(stack);
    let found = Inode::get(
        section.sb(),
        number,
        |inode| inode.nlink() > 0 && inode.ever_led_to(section, lower_inode),
        |inode| {
            if let Some(stack) = stack.take() {
                inode.publish(section, stack);
            }
        },
    )?;
    match (found, stack) {
        (Got::New(new), _) => {
            let inode = new.finish(lower_inode, branch.root.mount().idmap(), nlink);
            watch::watch(section, &inode)?;
            Ok(inode)
        }
        (Got::Cached(inode), None) => Ok(inode),
        (Got::Cached(inode), Some(stack)) => {
            let lock = inode.promotion_lock();
            let known = inode.stack(section)?;
            // It may have gained or lost an instance behind our back. After a promotion, which the
            // scan may have missed, the top inode differs, and what is known is newer; but not if
            // it was removed.
            let same_top = core::ptr::eq(known.top_inode(), lower_inode);
            let changes =
                (same_top || known.top_inode().is_dead_dir()) && !same_slots(known, &stack);
            if changes {
                inode.publish(section, stack);
                inode.forget_surplus();
            }
            drop(lock);
            if changes {
                watch::watch(section, &inode)?;
            }
            Ok(inode)
        }
    }
}

/// Whether both have the same instances.
fn same_slots(a: &Stack, b: &Stack) -> bool {
    for (a, b) in Iterator::zip(a.iter(), b.iter()) {
        if !a.dentry().is(b.dentry()) || a.branch().id != b.branch().id {
            return false;
        }
    }
    a.len() == b.len()
}

/// As [`get`], for a non-directory that was found as `found`.
fn get_other(section: Section<'_>, found: Slot) -> Result<ARef<Inode>> {
    let info = section.data();
    let found_inode = found.inode()?;
    loop {
        // Another name of it may have been copied up.
        let known = plink::originals::resolve(section, &found)?;
        let (slot, is_copy, names) = match &known {
            Some(known) => (&known.slot, known.is_copy, known.names),
            None => (&found, false, None),
        };
        let lower_inode = slot.inode()?;
        plink::originals::part_numbers(section, slot)?;
        let number = info.ino.number_of(slot.branch(), slot.dentry())?;
        let links = lower_inode.nlink();
        let nlink = names.map_or(links, |count| count.max(1));
        let mut stack = Some(StackSpace::new()?.fill(slot.clone(), KVec::new())?);
        let got = Inode::get(
            section.sb(),
            number,
            |inode| {
                // A copy-up that is about to end has not published its stack yet.
                inode.nlink() > 0
                    && (inode.ever_led_to(section, lower_inode)
                        || inode.ever_led_to(section, found_inode))
            },
            |inode| {
                if let Some(stack) = stack.take() {
                    inode.publish(section, stack);
                }
                inode.set_plinked(is_copy);
                if names.is_some() && !is_copy {
                    let hidden = links.saturating_sub(nlink);
                    store(&inode.data().hidden, hidden);
                }
            },
        )?;
        match got {
            Got::Cached(inode) => {
                if let Some(stack) = stack.filter(|_| !slot.dentry().is_root()) {
                    give_named(section, &inode, stack)?;
                }
                return Ok(inode);
            }
            Got::New(new) => {
                // A copy-up may have begun and ended since we asked, and its inode be gone.
                let now = plink::originals::resolve(section, &found)?;
                let now = now.as_ref().map_or(&found, |known| &known.slot);
                if now.dentry().is(&**slot.dentry()) {
                    let idmap = slot.branch().root.mount().idmap();
                    return Ok(new.finish(lower_inode, idmap, nlink));
                }
            }
        }
    }
}

/// The root inode, for the roots of all branches.
pub(crate) fn get_root(section: Section<'_>, slots: Slots) -> Result<ARef<Inode>> {
    let (top, rest) = slots.split().ok_or(EIO)?;
    let branch = top.branch().clone();
    let lower: ARef<LowerDentry> = top.dentry().clone();
    let lower_inode = lower.inode().ok_or(ESTALE)?;
    let stack = StackSpace::new()?.fill(top, rest)?;
    let nlink = stack::link_count(&stack)?;
    let mut stack = Some(stack);
    let fill = |inode: &Inode| {
        if let Some(stack) = stack.take() {
            inode.publish(section, stack);
        }
    };
    match Inode::get(section.sb(), ino::ROOT, |_| false, fill)? {
        Got::New(new) => {
            let inode = new.finish(lower_inode, branch.root.mount().idmap(), nlink);
            watch::watch(section, &inode)?;
            Ok(inode)
        }
        Got::Cached(inode) => Ok(inode),
    }
}
