// SPDX-License-Identifier: GPL-2.0

//! What keeps a branch from being taken out, or from becoming read-only.
//!
//! Asked by a remount, once the gate is closed ([`super::reconfigure`]). A write that has begun is
//! waited for there for some tenths of a second; if it takes longer the gate opens again meanwhile.

#![forbid(unsafe_code)]

use super::outcome::Outcome;
use crate::fs::{
    base::task::Label,
    operations::context::Context, //
};
use crate::mount_error;
use crate::union::{
    branches::branch::{
        Branch,
        Slot,
        Stack, //
    },
    copyup::promote,
    types::{
        text,
        Inode,
        LowerInode,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// After how long it is looked again at what may pass.
const PAUSE: Delta = Delta::from_millis(2);

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
    fn why(
        section: Section<'_>,
        inode: &Inode,
        outcome: &Outcome,
    ) -> Result<Option<(Busy, Arc<Branch>)>> {
        let current = inode.stack(section)?;
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
            let single = inode
                .is_listed()
                .then(|| inode.history(section).find(alone));
            return Ok(single
                .flatten()
                .map(|stack| (Busy::Listed, stack.top().branch().clone())));
        }
        // Of a file in use none may go that it ever had: what was opened or mapped is one of them.
        if let Some(slot) = inode.history(section).map(Stack::top).find(gone) {
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
        // Our inode first: see [`crate::fs::callbacks::map`].
        if !writes.have_ended() || inode.is_mapped_writably() {
            return Some(Busy::Written);
        }
        promote::is_mapped(inode, lower).then_some(Busy::Mapped)
    }
}

/// What is in the way of an outcome, and where.
pub(crate) struct Hindrance {
    inode: ARef<Inode>,
    busy: Busy,
    branch: Arc<Branch>,
}

impl Hindrance {
    /// Whether it ends by itself, and soon, if nothing holds it up.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.busy, Busy::Cached | Busy::Written)
    }

    /// The number of the object that is in use.
    pub(crate) fn number(&self) -> u64 {
        self.inode.ino()
    }

    /// `EBUSY`, with the object, and the process if that is known.
    pub(crate) fn error(&self, context: &Context<'_>) -> Error {
        match self.text(context) {
            Ok(error) | Err(error) => error,
        }
    }

    fn text(&self, context: &Context<'_>) -> Result<Error> {
        let Hindrance {
            inode,
            busy,
            branch,
        } = self;
        let what = match busy {
            Busy::Used | Busy::Cached => "is in use",
            Busy::Listed => "is open for reading",
            Busy::Mapped => "is mapped for writing",
            Busy::Written => "is being written",
        };
        let kind = if inode.is_dir() { "directory" } else { "file" };
        let shown = branch.shown.to_bytes()?;
        let Some(name) = inode.any_name() else {
            return Ok(mount_error!(
                context,
                EBUSY,
                "branch {}: busy: a {} without a name (inode {}) {}",
                text(&shown),
                kind,
                inode.ino(),
                what
            ));
        };
        let path = name.path()?;
        let writer = match busy {
            Busy::Written => inode.data().writes.writer().and_then(Label::of),
            _ => None,
        };
        Ok(match writer {
            Some(task) => mount_error!(
                context,
                EBUSY,
                "branch {}: busy: the {} {} {} by process {} ({})",
                text(&shown),
                kind,
                text(&path),
                what,
                task.number(),
                text(task.name())
            ),
            None => mount_error!(
                context,
                EBUSY,
                "branch {}: busy: the {} {} {}",
                text(&shown),
                kind,
                text(&path),
                what
            ),
        })
    }
}

/// Looks for what is in the way of `outcome`: of taking a branch out, or of making it read-only.
/// The gate is closed. What may pass is given up to `time` to do so.
pub(crate) fn find(
    section: Section<'_>,
    outcome: &Outcome,
    time: Delta,
) -> Result<Option<Hindrance>> {
    if !outcome.takes_away() {
        return Ok(None);
    }
    let begin = Instant::<Monotonic>::now();
    loop {
        let found = find_now(section, outcome)?;
        let passing = found.as_ref().filter(|found| found.may_pass());
        let Some(Hindrance { busy, .. }) = passing.filter(|_| begin.elapsed() < time) else {
            return Ok(found);
        };
        let is_cached = matches!(busy, Busy::Cached);
        drop(found);
        // No other write begins before the gate is open, and most take no time.
        fsleep(PAUSE);
        if is_cached {
            // Somebody let it go after the cache was shrunk.
            section.sb().shrink();
        }
    }
}

fn find_now(section: Section<'_>, outcome: &Outcome) -> Result<Option<Hindrance>> {
    let mut found = None;
    let walked = section.sb().each_inode(&mut |inode| {
        let Some((busy, branch)) = Busy::why(section, inode, outcome)? else {
            return Ok(());
        };
        let passes = matches!(busy, Busy::Cached);
        found = Some(Hindrance {
            inode: inode.into(),
            busy,
            branch,
        });
        // What follows may be in use, which would be worse.
        if passes {
            return Ok(());
        }
        Err(EBUSY)
    });
    match walked {
        Err(error) if error != EBUSY => Err(error),
        _ => Ok(found),
    }
}
