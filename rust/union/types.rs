// SPDX-License-Identifier: GPL-2.0

//! The types that all of the union names.

#![forbid(unsafe_code)]

use crate::fs;
use kernel::str::BStr;

/// The file system.
pub(crate) struct Union;

/// An inode of the union.
pub(crate) type Inode = fs::objects::inode::Inode<Union>;
/// A dentry of the union.
pub(crate) type Dentry = fs::objects::dentry::Dentry<Union>;
/// A super block of the union.
pub(crate) type SuperBlock = fs::objects::sb::SuperBlock<Union>;
/// A section of a super block of the union: what a callback works in.
pub(crate) type Section<'r> = fs::objects::section::Section<'r, Union>;
/// A dentry of a branch.
pub(crate) type LowerDentry = fs::objects::dentry::Dentry;
/// An inode of a branch.
pub(crate) type LowerInode = fs::objects::inode::Inode;

/// aufs's magic number, ASCII "aufs".
pub(crate) const MAGIC: usize = 0x6175_6673;

/// A byte string for a message.
pub(crate) fn text(bytes: &[u8]) -> &BStr {
    BStr::from_bytes(bytes)
}
