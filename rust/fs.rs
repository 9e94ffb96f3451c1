// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel's VFS: all `unsafe` code of the module.
//!
//! This layer knows nothing of branches. It is written as if it were to become part of the `kernel`
//! crate. A file system implements [`FileSystem`](types::FileSystem) and the traits of
//! [`operations`], and gets its callbacks with typed, borrowed arguments; objects of *other* file
//! systems (those it stacks upon) are reached through [`objects`] and [`access`].
//!
//! # Folders
//!
//! From the bottom. A file may name what is in its own row and in those above it in this table,
//! never what is below: `scripts/check-order.py` holds that.
//!
//! | folder or file | what is in it |
//! |---|---|
//! | [`base`] | names, log, tasks, workers, the gate: no object of the VFS |
//! | [`types`] | what a file system is |
//! | [`objects`] | super blocks, inodes, dentries, mounts, open files |
//! | [`access`] | reading and changing what foreign objects contain |
//! | [`operations`] | the traits that a file system implements |
//! | [`callbacks`] | the tables of C functions that the VFS calls |
//! | [`registration`] | makes the type known to the VFS |
//!
//! # Terms
//!
//! - *ours*: an object of a file system that implements [`FileSystem`](types::FileSystem); its
//!   type parameter is that file system.
//! - *foreign*: an object of any other file system; its type parameter is
//!   [`Foreign`](types::Foreign).
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`Documentation/filesystems/vfs.rst`](srctree/Documentation/filesystems/vfs.rst).

pub(crate) mod access;
pub(crate) mod base;
pub(crate) mod callbacks;
pub(crate) mod objects;
pub(crate) mod operations;
pub(crate) mod registration;
pub(crate) mod types;
