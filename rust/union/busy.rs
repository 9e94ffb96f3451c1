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
    }, //
};

/// How often what is given up by its last user at this very moment is waited for.
const TRIES: u32 = 20;

/// Why a branch cannot be taken out, or made read-only.
enum Busy {
    /// The object is in use and has its instance there, and nowhere else.
    Used,
    /// A directory is being read from its instance there.
    Listed,
    /// A file has a shared mapping that may write.
    Mapped,
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
        if among(&outcome.given_up, top) && top.inode()?.is_mapped_writably() {
            return Ok(Some((Busy::Mapped, top.branch().clone())));
        }
        Ok(None)
    }
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
        if matches!(busy, Busy::Cached) && tries > 0 {
            // Somebody let it go after the cache was shrunk.
            tries = tries.saturating_sub(1);
            drop(inode);
            sb.shrink();
            continue;
        }
        let what = match busy {
            Busy::Used | Busy::Cached => "is in use",
            Busy::Listed => "is open for reading",
            Busy::Mapped => "is mapped for writing",
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
