// SPDX-License-Identifier: GPL-2.0

//! How branches are asked for a name: by the current task, or by another one.

#![forbid(unsafe_code)]

use crate::fs::{
    access::dirop,
    objects::path::Path, //
};
use crate::union::{
    branches::branch::{
        Branch,
        Slot, //
    },
    types::LowerDentry, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// How branches are asked.
pub(crate) trait Ask {
    /// What `dir` has under `name`, as [`dirop::lookup`](crate::fs::access::dirop::lookup) gives
    /// it.
    fn name(&self, dir: &Slot, name: &[u8]) -> Result<Option<ARef<LowerDentry>>>;

    /// Does `f`, which asks `branch`.
    fn on<R: Send + 'static>(
        &self,
        branch: &Branch,
        f: impl FnOnce(&Path) -> Result<R> + Send + 'static,
    ) -> Result<R>;
}

/// By the current task, however long that takes.
pub(crate) struct AtOnce;

impl Ask for AtOnce {
    #[inline]
    fn name(&self, dir: &Slot, name: &[u8]) -> Result<Option<ARef<LowerDentry>>> {
        dirop::lookup(dir.dentry().dir()?, name)
    }

    fn on<R: Send + 'static>(
        &self,
        branch: &Branch,
        f: impl FnOnce(&Path) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        f(&branch.root)
    }
}
