// SPDX-License-Identifier: GPL-2.0

//! What keeps a branch from being taken out, or from becoming read-only.
//!
//! Asked by a remount, once the gate is closed ([`super::reconfigure`]).

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        Slot,
        Stack, //
    },
    draft::{
        text,
        Outcome, //
    },
    Inode,
    LowerInode,
    SuperBlock, //
};
use crate::{
    fs::context::Context,
    mount_error, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often what is given up by its last user at this very moment is waited for.
const TRIES: u32 = 20;
/// How long a write that is under way is waited for each time.
const WRITE: Delta = Delta::from_millis(5);

/// Why a branch cannot be taken out, or made read-only.
enum Busy {
    /// The object is in use and has its instance there, and nowhere else.
    Used,
    /// A directory is being read from its instance there.
    Listed,
    /// A file has a shared mapping that may write.
    Mapped,
    /// A file is being written at this moment.
    Written,
    /// Nobody uses the object; it only has to leave the cache.
    Cached,
}

/// Whether one of `branches` is that of `slot`.
fn among(branches: &[Arc<Branch>], slot: &Slot) -> bool {
    branches.iter().any(|branch| branch.id == slot.branch().id)
}

impl Busy {
    /// What keeps the branches that `outcome` takes out from going, and those that it makes
    /// read-only, as far as `inode` is concerned. The caller has one reference to `inode`.
    fn why(inode: &Inode, outcome: &Outcome) -> Result<Option<(Busy, Arc<Branch>)>> {
        let current = inode.stack()?;
        let gone = |slot: &&Slot| among(&outcome.removed, slot);
        if inode.is_dir() {
            if current.iter().all(|slot| gone(&slot)) {
                let busy = if inode.references() > 1 {
                    Busy::Used
                } else {
                    Busy::Cached
                };
                return Ok(Some((busy, current.top().branch().clone())));
            }
            let alone = |stack: &&Stack| stack.len() == 1 && gone(&stack.top());
            let single = inode.is_listed().then(|| inode.history().find(alone));
            return Ok(single
                .flatten()
                .map(|stack| (Busy::Listed, stack.top().branch().clone())));
        }
        // Of a file in use none may go that it ever had: its instances are lent out, see
        // `fs::dentry::Operations::stack`.
        if let Some(slot) = inode.history().map(Stack::top).find(gone) {
            let own = if inode.is_held() { 2 } else { 1 };
            if inode.references() > own {
                return Ok(Some((Busy::Used, slot.branch().clone())));
            }
            // One that is kept for its pseudo-links alone is let go in the end.
            let lives_there = gone(&current.top());
            if lives_there && !inode.is_held() {
                return Ok(Some((Busy::Cached, slot.branch().clone())));
            }
        }
        let top = current.top();
        let busy = if among(&outcome.given_up, top) {
            Self::written(inode, top.inode()?)
        } else {
            None
        };
        Ok(busy.map(|busy| (busy, top.branch().clone())))
    }

    /// Whether the data of `inode` is changed, or may be without a word, on its instance `lower`.
    fn written(inode: &Inode, lower: &LowerInode) -> Option<Busy> {
        let writes = &inode.data().writes;
        // Our inode first: see [`crate::fs::map`].
        if !writes.have_ended() || inode.is_mapped_writably() {
            return Some(Busy::Written);
        }
        is_mapped(inode, lower).then_some(Busy::Mapped)
    }
}

/// Whether somebody may store to `lower`, the instance of the file `inode`, through a mapping. The
/// caller has one reference to `inode`.
pub(super) fn is_mapped(inode: &Inode, lower: &LowerInode) -> bool {
    let own = if inode.is_held() { 2 } else { 1 };
    let beyond = inode.data().writes.may_be_mapped_beyond() && inode.references() > own;
    // Our inode first: see [`crate::fs::map`].
    inode.is_mapped_writably() || lower.is_mapped_writably() || beyond
}

/// Refuses to take a branch out, or to make it read-only, that is in use.
pub(super) fn check_free(context: &Context<'_>, sb: &SuperBlock, outcome: &Outcome) -> Result {
    if outcome.removed.is_empty() && outcome.given_up.is_empty() {
        return Ok(());
    }
    let mut tries = TRIES;
    loop {
        let mut found = None;
        sb.each_inode(&mut |inode| match Busy::why(inode, outcome)? {
            None => Ok(()),
            // What follows may be in use, which would be worse.
            Some(cached @ (Busy::Cached, _)) => {
                found = Some((ARef::from(inode), cached));
                Ok(())
            }
            Some(busy) => {
                found = Some((ARef::from(inode), busy));
                Err(EBUSY)
            }
        })
        .or_else(|error| if error == EBUSY { Ok(()) } else { Err(error) })?;
        let Some((inode, (busy, branch))) = found else {
            return Ok(());
        };
        if matches!(busy, Busy::Cached | Busy::Written) && tries > 0 {
            tries = tries.saturating_sub(1);
            drop(inode);
            match busy {
                // No other write begins before the gate is open, and most take no time.
                Busy::Written => fsleep(WRITE),
                // Somebody let it go after the cache was shrunk.
                _ => sb.shrink(),
            }
            continue;
        }
        let what = match busy {
            Busy::Used | Busy::Cached => "is in use",
            Busy::Listed => "is open for reading",
            Busy::Mapped => "is mapped for writing",
            Busy::Written => "is being written",
        };
        let kind = if inode.is_dir() { "directory" } else { "file" };
        let shown = branch.shown.to_bytes()?;
        return Err(match inode.any_name() {
            Some(name) => mount_error!(
                context,
                EBUSY,
                "branch {}: busy: the {} {} {}",
                text(&shown),
                kind,
                text(&name.path()?),
                what
            ),
            None => mount_error!(
                context,
                EBUSY,
                "branch {}: busy: a {} without a name (inode {}) {}",
                text(&shown),
                kind,
                inode.ino(),
                what
            ),
        });
    }
}
