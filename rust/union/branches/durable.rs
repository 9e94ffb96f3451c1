// SPDX-License-Identifier: GPL-2.0

//! What is on disk for sure.
//!
//! Two file systems bring what they are told to disk when they like, each for itself. So a copy
//! on one of them is brought there before the original on the other goes: its contents, its
//! attributes, its name, and the names of the directories that it is in. Whoever removes an
//! original shows that this was done, by an [`OnDisk`].
//!
//! Within one file system the order of changes is kept, but by btrfs: what is synced by itself
//! comes to disk before what was done earlier to other objects, and takes the removal of names
//! along. A name and its whiteout are two objects, so there the directory is synced in between
//! ([`in_order`]).
//!
//! # Locking
//!
//! [`OnDisk::bring`] is called without [`crate::union::state::sb::SbInfo::replace`], write access
//! and locks of a branch. The object's lock may be held, so that the object stays what it is.
//! [`in_order`] is called in the middle of a change, under all of these but locks of the branch.

#![forbid(unsafe_code)]

use super::branch::Branch;
use crate::compat::errno::EOPNOTSUPP;
use crate::fs::{
    access::io::{
        self,
        KernelFile, //
    },
    objects::{
        inode::Kind,
        path::PathRef, //
    }, //
};
use crate::union::types::LowerDentry;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Shows that an object, and all that leads to it, was brought to disk.
pub(crate) struct OnDisk(());

impl OnDisk {
    /// Brings `object`, which has a name in the directory `dir` of `branch`, to disk. The
    /// mounter's credentials are in force.
    ///
    /// # Errors
    ///
    /// What the file system gives: `EIO`, `ENOSPC`, ... Then nothing is known.
    pub(crate) fn bring(
        branch: &Branch,
        object: &LowerDentry,
        dir: &ARef<LowerDentry>,
    ) -> Result<OnDisk> {
        match each(branch, object, dir) {
            // It cannot be synced by itself, or not opened for that.
            Err(error) if error == EOPNOTSUPP || [EINVAL, EACCES, EPERM].contains(&error) => {
                io::sync_fs(branch.at(object)?)?;
            }
            other => other?,
        }
        Ok(OnDisk(()))
    }
}

/// Syncs `object` and the directories on the way to it, one by one.
fn each(branch: &Branch, object: &LowerDentry, dir: &ARef<LowerDentry>) -> Result {
    match object.positive()?.kind() {
        Kind::Regular => KernelFile::read(branch.at(object)?)?.sync()?,
        Kind::Dir => sync_dir(branch.at(object)?)?,
        Kind::Special | Kind::Symlink => return Err(EINVAL),
    }
    let link = object.parent();
    if !link.is(&**dir) {
        // It is a pseudo-link, and the name in `dir` another one.
        sync_dir(branch.at(&link)?)?;
    }
    // The directory of the branch may be as new as all in it.
    let mut next = dir.clone();
    loop {
        sync_dir(branch.at(&next)?)?;
        if next.is_root() {
            return Ok(());
        }
        next = next.parent();
    }
}

/// Brings the names in a directory to disk.
pub(crate) fn sync_dir(dir: PathRef<'_>) -> Result {
    KernelFile::dir(dir, true)?.sync()
}

/// Sees that what was done to names in `dir` is not overtaken by what comes next.
pub(crate) fn in_order(branch: &Branch, dir: &LowerDentry) -> Result {
    // btrfs, and overlayfs, which may lie on it.
    if branch.has_spaces {
        sync_dir(branch.at(dir)?)?;
    }
    Ok(())
}
