// SPDX-License-Identifier: GPL-2.0

//! Layer `logic`: verdicts and plans, without any call into the kernel but allocation.
//!
//! The `union` layer collects facts from the branches, this layer turns them into a verdict or a
//! plan, `union` executes it. Nothing here sleeps (except in an allocation), locks, or knows a
//! kernel object; names are byte strings, branches are indexes into the caller's slices.
//!
//! | module | what it decides |
//! |---|---|
//! | [`whname`] | names beginning with `.wh.`: making and recognising them, what users may not use |
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
//! | [`escape`] | paths in sysfs and ioctls |
//! | [`uapi`] | numbers and layouts of ioctls |
//!
//! # Invariants
//!
//! - No panic: no index, conversion or arithmetic on outside data that can fail unchecked.
//! - Each allocation is fallible.
//! - The same text is compiled for the host by `tests/host`, where the crate `kernel` is a small
//!   stand-in; [`env`] is the only module that names it.

#![forbid(unsafe_code)]
#![allow(
    dead_code,
    unused_imports,
    reason = "logic is complete against its specification and tested on the host, \
              whether or not `union` already asks each question"
)]

pub(crate) mod branch_spec;
pub(crate) mod copyup;
pub(crate) mod create;
pub(crate) mod dirren;
pub(crate) mod env;
pub(crate) mod escape;
pub(crate) mod handle;
pub(crate) mod hash;
pub(crate) mod index;
pub(crate) mod ino;
pub(crate) mod lookup;
pub(crate) mod merge;
pub(crate) mod num;
pub(crate) mod options;
pub(crate) mod plink;
pub(crate) mod remove;
pub(crate) mod uapi;
pub(crate) mod whname;
