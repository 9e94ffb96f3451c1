// SPDX-License-Identifier: GPL-2.0

//! Layer `logic`: verdicts and plans, without any call into the kernel but allocation.
//!
//! The `union` layer collects facts from the branches, this layer turns them into a verdict or a
//! plan, `union` executes it. Nothing here sleeps (except in an allocation), locks, or knows a
//! kernel object; names are byte strings, branches are indexes into the caller's slices.
//!
//! | module | what it decides |
//! |---|---|
//! | [`marks`] | whiteouts and opaque marks: how they are stored, what names users may not use |
//! | [`name`] | names that the union makes |
//! | [`branch_spec`] | `PATH=PERM+ATTR`: permissions and attributes of a branch |
//! | [`options`] | mount options, the mount-wide settings, their text in `/proc/mounts` |
//! | [`lookup`] | which branches make up a name |
//! | [`merge`] | which names make up a directory |
//! | [`index`] | in which branches of a directory a name is, so that it need not be looked for |
//! | [`create`], [`copyup`], [`remove`] | which branch is changed, and how |
//! | [`dirren`] | what is stored of renamed directories |
//! | [`plink`] | what is noted of a pseudo-link |
//! | [`handle`] | file handles |
//! | [`ino`] | inode numbers of the union |
//! | [`reply`] | handing an answer over to who may have given up |
//! | [`stats`] | names of what is counted |
//! | [`escape`] | paths in sysfs and ioctls |
//! | [`uapi`] | numbers and layouts of ioctls |
//!
//! # Invariants
//!
//! - No panic: no index, conversion or arithmetic on outside data that can fail unchecked.
//! - Each allocation is fallible.
//! - Formats, words and numbers are written here only. The same files are a module of the kernel
//!   module and a crate, `logic`, for the tools and the tests on the host. What the modules take
//!   from outside comes through [`env`].

#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    CONFIG_RUST,
    allow(unreachable_pub, reason = "to the tools this is a crate")
)]
#![allow(
    clippy::len_without_is_empty,
    clippy::new_without_default,
    reason = "there is only what is used"
)]

pub mod branch_spec;
pub mod copyup;
pub mod create;
pub mod dirren;
pub mod env;
pub mod escape;
pub mod handle;
pub mod hash;
pub mod index;
pub mod ino;
pub mod lookup;
pub mod marks;
pub mod merge;
pub mod name;
pub mod num;
pub mod options;
pub mod plink;
pub mod remove;
pub mod reply;
pub mod stats;
pub mod uapi;
