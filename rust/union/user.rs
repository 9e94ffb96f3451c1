// SPDX-License-Identifier: GPL-2.0

//! What programs ask by number: aufs's ioctls.
//!
//! May use all folders but [`mount`](super::mount).

#![forbid(unsafe_code)]

pub(crate) mod argument;
pub(crate) mod ioctl;
pub(crate) mod mvdown;
pub(crate) mod rdu;
