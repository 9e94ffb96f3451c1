// SPDX-License-Identifier: GPL-2.0

//! The objects of the VFS, ours and foreign ones: super blocks, inodes, dentries, mounts, open
//! files.
//!
//! What they are and what can be asked of them; whatever changes or reads what they contain is in
//! [`access`](super::access). [`inode`], [`ours`], [`dentry`], [`walk`], [`sb`], [`path`] and
//! [`stack`] name each other, as the structures of C do. May use [`types`](super::types) and
//! [`base`](super::base).

pub(crate) mod cred;
pub(crate) mod dentry;
pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod inode;
pub(crate) mod inode_cache;
pub(crate) mod ours;
pub(crate) mod overlay;
pub(crate) mod path;
pub(crate) mod sb;
pub(crate) mod section;
pub(crate) mod stack;
pub(crate) mod time;
pub(crate) mod walk;
pub(crate) mod writes;
