// SPDX-License-Identifier: GPL-2.0

//! All that a file system implements.

use super::{
    context,
    dentry,
    dir,
    export,
    file,
    inode,
    ioctl,
    sb, //
};
use crate::fs::types::FileSystem;

/// All the traits that make a [`FileSystem`] mountable.
pub(crate) trait Mountable:
    FileSystem
    + context::Operations
    + sb::Operations
    + dentry::Operations
    + inode::Operations
    + file::Operations
    + dir::Operations
    + ioctl::Operations
    + export::Operations
{
}
