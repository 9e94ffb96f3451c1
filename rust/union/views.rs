// SPDX-License-Identifier: GPL-2.0

//! What people look at, and what all unions share: sysfs, debugfs, `/proc/fs/aufs`.
//!
//! The views show branches and pseudo-links that they are given; of a mounted union they know
//! nothing, it owns them. May use [`objects`](super::objects) and [`branches`](super::branches).

#![forbid(unsafe_code)]

pub(crate) mod claim_file;
pub(crate) mod constants;
pub(crate) mod debugfs;
pub(crate) mod global;
pub(crate) mod maintenance;
pub(crate) mod plink_maint;
pub(crate) mod sysfs;
