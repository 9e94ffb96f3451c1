// SPDX-License-Identifier: GPL-2.0

//! Removing names: unlink and rmdir.
//!
//! The whiteout is made first, where something below would show through; then
//! the entry goes. An interruption between the two leaves the old state.

#![forbid(unsafe_code)]

use super::aside;
use crate::compat::errno::{
    ENOTEMPTY,
    ESTALE, //
};
use crate::fs::{
    access::dirop::{
        self,
        Removing, //
    },
    objects::{
        entry::Entry,
        path::WriteAccess, //
    }, //
};
use crate::logic::remove::{
    self as policy,
    Facts, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot,
            Stack, //
        },
        durable,
        whiteout::{
            self,
            UserName, //
        }, //
    },
    copyup::{
        promote,
        target, //
    },
    names::{
        index::{
            self,
            View, //
        },
        lookup::{
            self,
            Depth, //
        },
        readdir, //
    },
    objects::object::PromotionLock,
    plink,
    types::{
        Dentry,
        Inode,
        LowerDentry,
        Section,
        Union, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Where a name is, and what must be done to make it disappear.
pub(crate) struct Removal {
    /// The branch that is changed.
    pub(crate) branch: Arc<Branch>,
    /// The instance to remove there.
    pub(crate) instance: Option<ARef<LowerDentry>>,
    /// Whether the name gets a whiteout there.
    pub(crate) whiteout: bool,
}

impl Removal {
    /// Plans the removal of `name` from the directory `parent`. The mounter's credentials are in
    /// force.
    ///
    /// # Errors
    ///
    /// `ENOENT` if somebody removed the name behind our back, `EROFS` if there is no branch to
    /// change.
    fn plan(section: Section<'_>, parent: &Dentry, name: UserName<'_>) -> Result<Removal> {
        let table = section.table();
        let view = View::of(section, parent.object()?)?;
        let known = &mut view.known(name.into());
        let found = lookup::probe_known(&view, known, 0, name.into(), Depth::First)?;
        let (top, at) = found.slots.first().zip(found.place).ok_or(ENOENT)?;
        let top_index = table.index_of(top.branch().id).ok_or(ESTALE)?;
        let target = target::above(section, parent, top)?;
        let below = lookup::visible_known(&view, known, at.saturating_add(1), name)?
            && !hidden_at(view.stack(), at, name)?;
        let plan = policy::plan(&Facts {
            top: top_index,
            target: table.index_of(target.id),
            visible_below: below,
        })?;
        Ok(Removal {
            branch: target,
            instance: plan.remove.then(|| top.dentry().clone()),
            whiteout: plan.whiteout,
        })
    }
}

/// Whether the `at`-th instance of `dir` has a whiteout of `name` already.
fn hidden_at(dir: &Stack, at: usize, name: UserName<'_>) -> Result<bool> {
    match dir.get(at) {
        Some(slot) if slot.branch().access.honours_whiteouts() => {
            whiteout::exists(slot.dentry(), name)
        }
        _ => Ok(false),
    }
}

/// Removes the name of a non-directory.
pub(crate) fn unlink(section: Section<'_>, dir: &Inode, entry: Entry<'_, Union>) -> Result {
    let name = whiteout::check(entry.name())?;
    let inode = entry.dentry().object()?;
    promote::gather(section, entry.dentry(), inode);
    let may_go = || Ok(());
    let noticed = dir.notice_others(section)?;
    let (lock, removal) = with_whiteout(
        section,
        dir,
        (&entry, name),
        may_go,
        |removal, slot, write| {
            let Some(instance) = &removal.instance else {
                return Ok(());
            };
            plink::count::goes(section, inode, write);
            // One reference is the plan's.
            let_go(section, inode, slot.branch(), instance, 1);
            let removing = Removing::new(slot.path()?, &name, write)?;
            same(&removing, instance)?;
            removing.unlink()
        },
    )?;
    // Before the lock goes: a promotion that waits for it must see that the name is gone.
    entry.dentry().unhash();
    gone(section, inode, &removal);
    drop(lock);
    inode.refresh(section)?;
    dir.changed_on(section, &removal.branch, noticed);
    Ok(())
}

/// Types of file systems whose servers do not know who has a file open. A name whose dentry has
/// other users is not removed there but replaced by a hidden one, which goes with the last of them.
const STATELESS: [&[u8]; 3] = [b"nfs", b"nfs4", b"afs"];

/// A name of `inode` on `branch`, whose dentry is `instance`, is about to be removed: if nobody
/// uses that but `inode` itself, which has it as an instance, and the caller, who has `held`
/// references, it is looked up anew, and has no users then.
///
/// `inode` goes on with an instance without a name, as on other file systems.
pub(crate) fn let_go(
    section: Section<'_>,
    inode: &Inode,
    branch: &Branch,
    instance: &LowerDentry,
    held: usize,
) {
    if !instance.is_remote() || !STATELESS.contains(&branch.root.mount().type_name().to_bytes()) {
        return;
    }
    let own = inode
        .history(section)
        .filter(|stack| stack.top().dentry().is(instance));
    let own = own.count().saturating_add(held);
    if usize::try_from(instance.references()).is_ok_and(|all| all <= own) {
        instance.forget_name();
    }
}

/// Removes an empty directory.
pub(crate) fn rmdir(section: Section<'_>, dir: &Inode, entry: Entry<'_, Union>) -> Result {
    let name = whiteout::check(entry.name())?;
    let inode = entry.dentry().object()?;
    let info = dir.sb().data();
    // With one instance only, the branch says whether it is empty.
    let alone = inode.stack(section)?.len() == 1 && inode.stack(section)?.writable();
    if !alone {
        info.cred.scope(|| readdir::check_empty(section, inode))?;
    }
    let may_go = || match alone {
        true => readdir::check_empty(section, inode),
        false => Ok(()),
    };
    let noticed = dir.notice_others(section)?;
    let (lock, removal) = with_whiteout(
        section,
        dir,
        (&entry, name),
        may_go,
        |removal, slot, write| {
            let Some(instance) = &removal.instance else {
                return Ok(());
            };
            let removing = Removing::new(slot.path()?, &name, write)?;
            same(&removing, instance)?;
            match removing.rmdir() {
                // It holds marks, or names after all.
                Err(error) if error == ENOTEMPTY => {
                    // What was asked for is empty; something else may lie here by now.
                    if !dirop::same_inode(instance, inode.stack(section)?.top_inode()) {
                        return Err(ESTALE.into());
                    }
                    if alone {
                        readdir::check_empty(section, inode)?;
                    }
                    let object = instance.inode().ok_or(ESTALE)?;
                    let what = (name.bytes(), object);
                    aside::remove_dir(section, info, &removal.branch, slot.dentry(), what, write)
                }
                other => other,
            }
        },
    )?;
    entry.dentry().unhash();
    if let Some(instance) = removal.instance.as_deref().and_then(LowerDentry::inode) {
        removal.branch.renamed.forget(instance.ino());
    }
    gone(section, inode, &removal);
    drop(lock);
    if removal.instance.is_none() {
        // Its instance is hidden, and counted.
        if let Err(error) = dir.hides_one(section) {
            pr_debug!("the link count of a directory is too large: {:?}\n", error);
        }
    }
    dir.changed_on(section, &removal.branch, noticed);
    Ok(())
}

/// A name of `inode` was removed: what is counted and noted of it follows. The object's lock is
/// held.
fn gone(section: Section<'_>, inode: &Inode, removal: &Removal) {
    let hidden_on = removal.instance.is_none().then_some(&*removal.branch);
    name_gone(section, inode, hidden_on);
}

/// A name of `inode` is gone, or only hidden by something on the branch `hidden_on`. The object's
/// lock is held. The name does not come back for an error: that is logged.
pub(crate) fn name_gone(section: Section<'_>, inode: &Inode, hidden_on: Option<&Branch>) {
    if let Err(error) = inode
        .name_removed(section, hidden_on)
        .and_then(|()| plink::count::settle(section, inode))
    {
        warn_limited!(
            "the link count of inode {} may be wrong at the next mount: {:?}\n",
            inode.ino(),
            error
        );
    }
    cleanup_last(section, inode);
}

/// `ESTALE` unless what is about to be removed is what was found.
fn same(removing: &Removing<'_>, instance: &LowerDentry) -> Result {
    let inode = instance.inode().ok_or(ESTALE)?;
    if dirop::same_inode(removing.child(), inode) {
        Ok(())
    } else {
        Err(ESTALE.into())
    }
}

/// Plans the removal of `entry`, which has `name`, makes the whiteout that it needs, then runs
/// `remove`. The whiteout goes again after an error; but it leaves its mark in the times of the
/// directory, so `may_go` is asked before one is made.
///
/// Gives the lock of the removed object, still held, and what was planned.
fn with_whiteout<'a, F>(
    section: Section<'_>,
    dir: &Inode,
    (entry, name): (&Entry<'a, Union>, UserName<'_>),
    may_go: impl FnOnce() -> Result,
    remove: F,
) -> Result<(PromotionLock<'a>, Removal)>
where
    F: FnOnce(&Removal, &Slot, &WriteAccess<'_>) -> Result,
{
    let cred = &dir.sb().data().cred;
    let inode = entry.dentry().object()?;
    let parent = entry.parent();
    promote::promote_shown(section, parent)?;
    let (lock, removal) = loop {
        let lock = inode.promotion_lock();
        plink::part::check(entry.dentry())?;
        let removal = cred.scope(|| Removal::plan(section, parent, name))?;
        if dir.slot_on(section, removal.branch.id)?.is_some() {
            break (lock, removal);
        }
        // Promotions take locks of their own, one at a time.
        drop(lock);
        promote::promote_to(section, parent, &removal.branch)?;
    };
    let branch = &removal.branch;
    let slot = dir.slot_on(section, branch.id)?.ok_or(ESTALE)?;
    let write = branch.want_write()?;
    cred.scope(|| {
        if removal.whiteout {
            may_go()?;
            index::hides(dir);
            whiteout::create(branch, slot.dentry(), name, &write)?;
        }
        let in_order = match removal.whiteout && removal.instance.is_some() {
            true => durable::in_order(branch, slot.dentry()),
            false => Ok(()),
        };
        let removed = in_order.and_then(|()| remove(&removal, slot, &write));
        removed.inspect_err(|_| {
            if removal.whiteout {
                if let Err(error) = whiteout::remove(branch, slot.dentry(), name, &write) {
                    warn_limited!(
                        "cannot undo the whiteout of {:?}: {:?}\n",
                        kernel::str::BStr::from_bytes(&name),
                        error
                    );
                }
            }
        })
    })?;
    drop(write);
    Ok((lock, removal))
}

/// The last name of `inode` may be gone: then its number may come again on the branch, and its
/// pseudo-link has no use. What does not go is left for the next mount.
fn cleanup_last(section: Section<'_>, inode: &Inode) {
    if inode.nlink() != 0 {
        return;
    }
    let info = inode.sb().data();
    let Ok(stack) = inode.stack(section) else {
        return;
    };
    info.moves.removed(section, inode);
    let top = stack.top();
    if inode.has_other_count() {
        plink::count::remove(section, inode);
    }
    if top.branch().work.is_some() {
        match info.ino.lower(top.branch(), top.dentry()) {
            Ok(lower) => info.ino.forget(lower),
            Err(error) => warn_limited!("the inode number of a removed object: {:?}\n", error),
        }
    }
}
