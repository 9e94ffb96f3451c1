// SPDX-License-Identifier: GPL-2.0

//! How branches are asked for a name: by the current task, or by another one.

#![forbid(unsafe_code)]

use crate::fs::{
    access::dirop,
    objects::path::Path, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        errand::{
            self,
            Errand, //
        }, //
    },
    types::LowerDentry, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Has other tasks ask.
pub(crate) trait Apart {
    /// Has another task do `errand`, which asks `branch`; it comes back when it is done.
    fn done(&self, branch: &Branch, errand: KBox<dyn Errand>) -> Result<KBox<dyn Errand>>;
}

/// How branches are asked.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// By the current task, however long that takes.
    AtOnce,
    /// Those that may not answer by another one.
    Apart(&'a dyn Apart),
}

impl<'a> Ask<'a> {
    /// What `dir` has under `name`, as [`dirop::lookup`] gives it.
    #[inline]
    pub(crate) fn name(self, dir: &Slot, name: &[u8]) -> Result<Option<ARef<LowerDentry>>> {
        match self {
            Ask::AtOnce => dirop::lookup(dir.dentry().dir()?, name),
            Ask::Apart(apart) => name_apart(apart, dir, name),
        }
    }

    /// Does `f`, which asks `branch`.
    pub(crate) fn on<R: Send + 'static>(
        self,
        branch: &Branch,
        f: impl FnOnce(&Path) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        match self {
            Ask::Apart(apart) if branch.root.dentry().is_remote() => {
                let errand = errand::calling(move |root| f(root))?;
                errand::result_of::<Result<R>>(apart.done(branch, errand)?)?
            }
            _ => f(&branch.root),
        }
    }
}

/// As [`Ask::name`], by another task if the branch of `dir` may not answer.
#[inline(never)]
fn name_apart(apart: &dyn Apart, dir: &Slot, name: &[u8]) -> Result<Option<ARef<LowerDentry>>> {
    if !dir.dentry().is_remote() {
        return Ask::AtOnce.name(dir, name);
    }
    let mut own = KVec::new();
    own.extend_from_slice(name, GFP_KERNEL)?;
    let dentry = dir.dentry().clone();
    let errand = errand::calling(move |_| dirop::lookup(dentry.dir()?, &own))?;
    errand::result_of(apart.done(dir.branch(), errand)?)?
}
