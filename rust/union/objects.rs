// SPDX-License-Identifier: GPL-2.0

//! State beside an inode: what it consists of, and accessors; no operation.
//!
//! May use [`branches`](super::branches).

#![forbid(unsafe_code)]

pub(crate) mod cache;
pub(crate) mod kept;
pub(crate) mod object;
pub(crate) mod shown;
pub(crate) mod watches;
