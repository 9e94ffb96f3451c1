// SPDX-License-Identifier: GPL-2.0

//! Changing names: creating, removing, renaming, and what follows from that.
//!
//! May use [`copyup`](super::copyup), [`names`](super::names) and what is below.

#![forbid(unsafe_code)]

pub(crate) mod aside;
pub(crate) mod changed;
pub(crate) mod create;
pub(crate) mod dirren;
pub(crate) mod remove;
pub(crate) mod rename;
