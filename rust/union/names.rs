// SPDX-License-Identifier: GPL-2.0

//! Finding: from a name to an inode of the union, and what is known of names meanwhile.
//!
//! May use [`plink`](super::plink), [`state`](super::state) and what is below. It changes nothing
//! on branches.

#![forbid(unsafe_code)]

pub(crate) mod ask;
pub(crate) mod find;
pub(crate) mod index;
pub(crate) mod look_again;
pub(crate) mod lookup;
pub(crate) mod readdir;
pub(crate) mod records;
pub(crate) mod revalidate;
pub(crate) mod watch;
