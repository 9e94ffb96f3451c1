// SPDX-License-Identifier: GPL-2.0

//! What an option asks for: which branch, at which place, which change.

#![forbid(unsafe_code)]

use crate::fs::objects::path::Path;
use crate::logic::{
    branch_spec::{
        Access,
        BranchSpec, //
    },
    options::Opt, //
};
use kernel::prelude::*;

/// Where a branch is to be put.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// At the end of those given by `br=` and `dirs=` in this call.
    Next,
    /// At this index.
    Index(i32),
    /// At the bottom.
    Bottom,
    /// At the top.
    Top,
}

impl Place {
    /// The index among `len` branches, or the bad one that was asked for. `next` is that of the
    /// next branch of `br=`.
    pub(super) fn among(self, len: usize, next: &mut usize) -> Result<usize, i32> {
        match self {
            Place::Next => {
                let at = usize::min(*next, len);
                *next = at.saturating_add(1);
                Ok(at)
            }
            Place::Top => Ok(0),
            Place::Bottom => Ok(len),
            Place::Index(index) => usize::try_from(index)
                .ok()
                .filter(|&at| at <= len)
                .ok_or(index),
        }
    }
}

/// A branch that was asked for, in any way.
pub(crate) struct Wanted {
    /// The option that it was asked for by.
    pub(crate) option: KVec<u8>,
    /// The path and the access that was given.
    pub(crate) spec: BranchSpec,
    /// Where the path led.
    pub(crate) path: Path,
}

impl Wanted {
    /// The path that was given, in memory of its own.
    #[inline(never)]
    pub(super) fn shown(&self) -> Result<KVec<u8>> {
        let mut shown = KVec::new();
        shown.extend_from_slice(&self.spec.path, GFP_KERNEL)?;
        Ok(shown)
    }
}

/// One change that a call asks for.
pub(crate) enum Change {
    /// A branch is added.
    Add(Wanted, Place),
    /// A branch is removed.
    Remove(Wanted),
    /// A branch gets another access.
    Modify(Wanted, Access),
    /// The table of a branch's inode numbers, which it does not have, is cut short.
    Truncate(Wanted),
    /// An option that is no branch.
    Set(Opt),
}
