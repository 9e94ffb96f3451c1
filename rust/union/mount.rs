// SPDX-License-Identifier: GPL-2.0

//! Mounting, and changing branches and options of a union in use.
//!
//! Nothing but [`callbacks`](super::callbacks) is above it: it may use all other folders.

#![forbid(unsafe_code)]

pub(crate) mod busy;
pub(crate) mod draft;
pub(crate) mod memory;
pub(crate) mod options;
pub(crate) mod patience;
pub(crate) mod reconfigure;
pub(crate) mod show;
