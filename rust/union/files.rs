// SPDX-License-Identifier: GPL-2.0

//! Contents and attributes of objects, and handles to them.
//!
//! May use [`copyup`](super::copyup), [`names`](super::names) and what is below.

#![forbid(unsafe_code)]

pub(crate) mod attr;
pub(crate) mod handle;
pub(crate) mod io;
pub(crate) mod search;
pub(crate) mod xattr;
