// SPDX-License-Identifier: GPL-2.0

//! What a file system implements: one trait for each object of the VFS, with its arguments.
//!
//! May use [`access`](super::access) and what is below. Who calls the traits is in
//! [`callbacks`](super::callbacks).

pub(crate) mod context;
pub(crate) mod dentry;
pub(crate) mod dir;
pub(crate) mod export;
pub(crate) mod file;
pub(crate) mod inode;
pub(crate) mod ioctl;
pub(crate) mod mountable;
pub(crate) mod sb;
