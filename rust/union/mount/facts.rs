// SPDX-License-Identifier: GPL-2.0

//! What is asked of a new branch that may not answer.

#![forbid(unsafe_code)]

use crate::fs::objects::path::PrivatePath;
use crate::logic::{
    branch_spec::Access,
    plink::FsId, //
};
use crate::union::branches::{
    origin,
    renamed::Renamed,
    seal::BranchKey, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What a branch says of itself that becomes one.
pub(super) struct Facts {
    pub(super) renamed: Arc<Renamed>,
    pub(super) key: Option<Arc<BranchKey>>,
    pub(super) identity: Option<FsId>,
}

impl Facts {
    /// Of the branch with the root `root`. The mounter's credentials are in force.
    pub(super) fn of(root: &PrivatePath, access: &Access) -> Result<Self> {
        Ok(Facts {
            renamed: Arc::new(Renamed::new(root)?, GFP_KERNEL)?,
            key: BranchKey::load(root, access)?,
            identity: origin::identity(root)?,
        })
    }
}
