// SPDX-License-Identifier: GPL-2.0

//! Layer `union`: the union file system itself.
//!
//! # Folders
//!
//! From the bottom. A file may name what is in its own row and in those above it in this table,
//! never what is below: `scripts/check-order.py` holds that.
//!
//! | folder or file | what is in it |
//! |---|---|
//! | [`types`] | the types that all name |
//! | [`branches`] | what a branch is, and what it holds |
//! | [`objects`] | state beside an inode |
//! | [`views`] | what people look at, what all unions share |
//! | [`state`] | state of a mounted union |
//! | [`plink`] | pseudo-links |
//! | [`names`] | finding: look-up, listing, revalidation |
//! | [`copyup`] | giving an object an instance on another branch |
//! | [`change`] | creating, removing, renaming |
//! | [`files`] | contents, attributes, handles |
//! | [`user`] | what programs ask by number: ioctls |
//! | [`mount`] | mounting, and changing what is mounted |
//! | [`callbacks`] | hands the callbacks on inodes to who does the work |
//!
//! # Terms
//!
//! - *branch*: a directory that is stacked into the union ([`branches`]).
//! - *slot*: one branch's instance of an object; an inode's slots, topmost first,
//!   are its stack ([`crate::fs::objects::stack`]). A non-directory has one slot.
//! - *whiteout*: a mark that hides one name on the branches below ([`branches::whiteout`]).
//! - *opaque*: a directory that hides what its namesakes below hold.
//! - *copy-up*, *promotion*: giving an object an instance on a writable branch
//!   ([`copyup`]).
//! - *guard*: a negative dentry of a writable branch, which tells that nobody put
//!   the name there behind our back ([`names::revalidate`]).
//!
//! # Locking
//!
//! Outermost first; `Documentation/ruaufs/locking.rst` has the whole table:
//!
//! 1. `i_rwsem` of our inodes (the VFS);
//! 2. the gate of the super block ([`crate::fs::base::gate`]);
//! 3. the lock of an object ([`objects::object`]), one at a time;
//! 4. [`replace`](state::sb::SbInfo::replace);
//! 5. write access to a branch's mount;
//! 6. `i_rwsem` of branch directories ([`crate::fs::access::dirop`]);
//! 7. leaf locks ([`branches::ino`], [`objects::cache`], [`objects::kept`]), under which nothing is
//!    called.

#![forbid(unsafe_code)]

pub(crate) mod branches;
pub(crate) mod callbacks;
pub(crate) mod change;
pub(crate) mod copyup;
pub(crate) mod files;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod plink;
pub(crate) mod state;
pub(crate) mod types;
pub(crate) mod user;
pub(crate) mod views;
