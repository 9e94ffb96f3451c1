// SPDX-License-Identifier: GPL-2.0

//! Mounting, and changing branches and options of a union in use.
//!
//! Nothing but [`callbacks`](super::callbacks) is above it: it may use all other folders.

#![forbid(unsafe_code)]

pub(crate) mod busy;
pub(crate) mod callbacks;
pub(crate) mod check;
pub(crate) mod draft;
pub(crate) mod facts;
pub(crate) mod leave;
pub(crate) mod made;
pub(crate) mod make;
pub(crate) mod memory;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod patience;
pub(crate) mod plan;
pub(crate) mod reconfigure;
pub(crate) mod show;
pub(crate) mod super_block;
pub(crate) mod wanted;
