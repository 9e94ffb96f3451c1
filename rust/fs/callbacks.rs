// SPDX-License-Identifier: GPL-2.0

//! What the VFS calls: the tables of C functions, each of which calls a trait of
//! [`operations`](super::operations) with typed, borrowed arguments.
//!
//! May use [`operations`](super::operations) and what is below. A table is installed by the
//! callback that makes its object: [`context`] makes super blocks, [`super_ops`] installs the
//! tables of dentries, handles and attributes, [`inode_ops`] those of files and directories.

pub(crate) mod attr_ops;
pub(crate) mod context;
pub(crate) mod dentry_ops;
pub(crate) mod dir_ops;
pub(crate) mod export_ops;
pub(crate) mod file_ops;
pub(crate) mod file_table;
pub(crate) mod inode_ops;
pub(crate) mod ioctl;
pub(crate) mod map;
pub(crate) mod registered;
pub(crate) mod super_ops;
pub(crate) mod transfer;
pub(crate) mod writing;
pub(crate) mod xattr_ops;
