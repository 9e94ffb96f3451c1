// SPDX-License-Identifier: GPL-2.0

//! What a draft leads to.

#![forbid(unsafe_code)]

use super::made::Made;
use crate::union::{
    branches::branch::{
        Branch,
        BranchId, //
    },
    state::sb::Shape, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What a draft leads to.
pub(crate) struct Outcome {
    /// Branches and options.
    pub(crate) shape: Arc<Shape>,
    /// What was made on disk; it goes again unless it is kept.
    pub(crate) made: Made,
    /// Branches that were members before and are not any more.
    pub(crate) removed: KVec<Arc<Branch>>,
    /// Branches that are not writable any more, as they were.
    pub(crate) given_up: KVec<Arc<Branch>>,
}

impl Outcome {
    /// Whether the branch `id` may not be written any more.
    pub(crate) fn takes(&self, id: BranchId) -> bool {
        let mut taken = Iterator::chain(self.removed.iter(), self.given_up.iter());
        taken.any(|branch| branch.id == id)
    }

    /// Whether anything is taken away from what may be done on branches.
    pub(crate) fn takes_away(&self) -> bool {
        !self.removed.is_empty() || !self.given_up.is_empty()
    }
}
