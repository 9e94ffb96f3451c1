// SPDX-License-Identifier: GPL-2.0

//! Branches: what one is, and what it holds.
//!
//! A branch has its identity and its place in the [table](branch::BranchTable), its claim, and on
//! its own file system whiteouts and opaque marks, notes of pseudo-links, records of renamed
//! directories and the bookkeeping directories. Here they are read and written; what they mean for
//! a name is said further up. Nothing here knows an inode of the union. May use `fs`, `logic` and
//! [`types`](super::types).

#![forbid(unsafe_code)]

pub(crate) mod askers;
pub(crate) mod branch;
pub(crate) mod claim;
pub(crate) mod durable;
pub(crate) mod errand;
pub(crate) mod ino;
pub(crate) mod marks;
pub(crate) mod notes;
pub(crate) mod origin;
pub(crate) mod orphans;
pub(crate) mod renamed;
pub(crate) mod seal;
pub(crate) mod sealing;
pub(crate) mod space;
pub(crate) mod stack;
pub(crate) mod stats;
pub(crate) mod whiteout;
pub(crate) mod work;
