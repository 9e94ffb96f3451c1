// SPDX-License-Identifier: GPL-2.0

//! What a file system of this module is, and what marks one that is none of ours.

use crate::fs::base::reals::Reals;
use core::convert::Infallible;
use kernel::prelude::*;

/// Marks an object of a file system that is not ours.
pub(crate) struct Foreign;

/// What a file system of this module says about itself.
///
/// The callbacks are spread over the traits that it must implement as well, one
/// per VFS object: [`context::Operations`](crate::fs::operations::context::Operations),
/// [`sb::Operations`](crate::fs::operations::sb::Operations),
/// [`dentry::Operations`](crate::fs::operations::dentry::Operations),
/// [`inode::Operations`](crate::fs::operations::inode::Operations),
/// [`file::Operations`](crate::fs::operations::file::Operations),
/// [`dir::Operations`](crate::fs::operations::dir::Operations),
/// [`ioctl::Operations`](crate::fs::operations::ioctl::Operations),
/// [`export::Operations`](crate::fs::operations::export::Operations).
pub(crate) trait FileSystem: Sized + Send + Sync + 'static {
    /// State of the loaded module, shared by all super blocks.
    type Global: Send + Sync;
    /// State of a mounted super block (`s_fs_info`).
    type Data: Send + Sync;
    /// What is replaced as a whole while it is mounted ([`section`](crate::fs::objects::section)).
    type Shape: Send + Sync;
    /// State beside each inode.
    type Inode: Private;
    /// What it says about the place of a foreign dentry, for all in that place
    /// ([`stack::Slot`](crate::fs::objects::stack::Slot)).
    type Place: Send + Sync;
    /// State of an open directory (`private_data`).
    type Dir: Send + Sync;

    /// The `f_type` that statfs(2) reports.
    const MAGIC: usize;
}

/// Data that a file system keeps beside each inode.
pub(crate) trait Private: Send + Sync + Sized {
    /// Initialises the data of a fresh inode of a super block in which `depth` file systems are
    /// stacked.
    fn init(depth: i32) -> impl PinInit<Self, Infallible>;

    /// What is known of the cached files of a directory.
    fn reals(&self) -> &Reals;
}
