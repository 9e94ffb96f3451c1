// SPDX-License-Identifier: GPL-2.0

//! Looking a name up in the branches.
//!
//! Only the branches in which the directory exists are asked, in their order;
//! [`crate::logic::lookup`] says when to stop and what belongs to the object.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Slot,
        Stack, //
    },
    dirren,
    inode,
    sb::Shape,
    Inode,
    LowerDentry,
    Union, //
};
use crate::fs::{
    dirop,
    inode_ops::Entry, //
};
use crate::logic::{
    lookup::{
        Found,
        Mark,
        Marks,
        Scan,
        Step,
        Take, //
    },
    whname, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// What the branches know of a name.
pub(crate) struct Answer {
    /// The instances, topmost first; none if the name is absent.
    pub(crate) slots: KVec<Slot>,
    /// The negative dentry of the topmost writable branch above the first instance.
    pub(crate) guard: Option<ARef<LowerDentry>>,
}

/// How much of an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All instances.
    All,
    /// The first instance is enough.
    First,
}

/// Asks the branches of the directory `dir`, from its `skip`-th on, for `name`. The mounter's
/// credentials are in force.
///
/// # Errors
///
/// What a branch's look-up gives, except that names which are too long for a branch are absent
/// there. `ESTALE` if a directory was taken away behind our back.
pub(crate) fn probe(
    shape: &Shape,
    dir: &Stack,
    skip: usize,
    name: &[u8],
    depth: Depth,
) -> Result<Answer> {
    let mut answer = Answer {
        slots: KVec::new(),
        guard: None,
    };
    let mut scan = Scan::new(dir.len().saturating_sub(skip));
    // Asked for with `shwh` only.
    let is_mark = whname::is_reserved(name);
    'branches: for slot in dir.iter().skip(skip) {
        let marks = slot.branch().marks();
        let dentry = if is_mark && marks == Marks::Ignored {
            None
        } else {
            dirop::lookup(slot.dentry(), name)?
        };
        let found = match dentry.as_ref().and_then(|dentry| dentry.inode()) {
            None => Found::Absent,
            Some(inode) if inode.is_dir() => Found::Dir,
            Some(_) => Found::Other,
        };
        let said = scan.real(found, marks);
        let mut step = said.step;
        if let Some(dentry) = dentry {
            if said.take == Take::Yes {
                if depth == Depth::First {
                    answer
                        .slots
                        .push(Slot::new(slot.branch().clone(), dentry), GFP_KERNEL)?;
                    break 'branches;
                }
                let found_slot = Slot::new(slot.branch().clone(), dentry.clone());
                let renamed = if found == Found::Dir {
                    dirren::below(shape, &found_slot, dir)?
                } else {
                    None
                };
                answer.slots.push(found_slot, GFP_KERNEL)?;
                if let Some(parts) = renamed {
                    // It came from elsewhere: what has its name below is something else.
                    for part in parts {
                        answer.slots.push(part, GFP_KERNEL)?;
                    }
                    break 'branches;
                }
            } else if found == Found::Absent
                && answer.guard.is_none()
                && answer.slots.is_empty()
                && slot.branch().access.may_write()
            {
                answer.guard = Some(dentry.clone());
            }
            // The opaque mark is asked for inside what was just found.
            loop {
                step = match step {
                    Step::Next => continue 'branches,
                    Step::Stop => break 'branches,
                    Step::AskWhiteout => {
                        let whiteout = whname::whiteout(name)?;
                        scan.mark(mark(dirop::lookup_positive(slot.dentry(), &whiteout)?)?)
                    }
                    Step::AskOpaque => {
                        scan.mark(mark(dirop::lookup_positive(&dentry, whname::OPAQUE)?)?)
                    }
                };
            }
        }
        // The name is too long for this branch, and so is its whiteout.
        while step == Step::AskWhiteout {
            step = scan.mark(Mark::Absent);
        }
        if step == Step::Stop {
            break;
        }
    }
    Ok(answer)
}

/// Whether a whiteout or opaque mark was found. `EIO` if it is not a regular file, which only
/// somebody else can have made.
fn mark(found: Option<ARef<LowerDentry>>) -> Result<Mark> {
    match found {
        None => Ok(Mark::Absent),
        Some(found)
            if found
                .inode()
                .is_some_and(|inode| inode.kind() == crate::fs::inode::Kind::Regular) =>
        {
            Ok(Mark::Present)
        }
        Some(_) => Err(EIO),
    }
}

/// Whether `name` would be seen through the instances of `dir` from the `skip`-th on.
pub(crate) fn visible(shape: &Shape, dir: &Stack, skip: usize, name: &[u8]) -> Result<bool> {
    if skip >= dir.len() {
        return Ok(false);
    }
    Ok(!probe(shape, dir, skip, name, Depth::First)?
        .slots
        .is_empty())
}

/// Looks `entry` up in `dir`, for the VFS.
pub(crate) fn lookup(dir: &Inode, entry: Entry<'_, Union>) -> Result<Option<ARef<Inode>>> {
    let sb = dir.sb();
    let info = sb.data();
    if !(info.settings().shwh && whname::is_mark(entry.name)) {
        whname::check(entry.name)?;
    }
    let stack = dir.stack()?;
    // From before the look: what happens meanwhile makes the next walk look again.
    entry.dentry.set_seen(dir.data().watches.count());
    let answer = info
        .cred
        .scope(|| probe(info.shape(), stack, 0, entry.name, Depth::All))?;
    entry.dentry.set_guard(answer.guard);
    let Some(first) = answer.slots.first() else {
        return Ok(None);
    };
    if whname::is_reserved(entry.name) {
        mark(Some(first.dentry().clone()))?;
    }
    inode::get(sb, answer.slots).map(Some)
}
