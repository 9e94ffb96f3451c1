// SPDX-License-Identifier: GPL-2.0

//! File handles of objects of ours.
//!
//! # Locking
//!
//! Handles are made with any lock of the VFS held (fanotify makes them in the
//! middle of an operation), so [`Operations::encode`] takes leaf locks only.
//! They are resolved with none; [`Operations::decode`] looks names up itself.

use crate::fs::{
    objects::{
        dentry::Dentry,
        inode::Inode,
        sb::SuperBlock,
        section::Section, //
    },
    types::FileSystem, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Callbacks for file handles.
pub(crate) trait Operations: FileSystem {
    /// Appends the handle of `inode` to `out`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it can have none.
    fn encode(section: Section<'_, Self>, inode: &Inode<Self>, out: &mut KVec<u32>) -> Result;

    /// Finds the object that a handle stands for, and gives what was left of the words. Runs
    /// outside the gate, since names are looked up.
    ///
    /// # Errors
    ///
    /// `ESTALE` if it is gone, or the handle is none of ours.
    fn decode<'a>(
        sb: &SuperBlock<Self>,
        words: &'a [u32],
    ) -> Result<(ARef<Dentry<Self>>, &'a [u32])>;

    /// Skips the first handle of `words`.
    fn skip(words: &[u32]) -> Option<&[u32]>;

    /// Brings the attributes of `inode` to disk. Runs outside the gate, since that takes long.
    fn commit_metadata(inode: &Inode<Self>) -> Result;
}
