// SPDX-License-Identifier: GPL-2.0

//! State of a mounted union: what it consists of, and accessors.
//!
//! May use [`views`](super::views), [`objects`](super::objects) and [`branches`](super::branches).

#![forbid(unsafe_code)]

pub(crate) mod daemon;
pub(crate) mod encode;
pub(crate) mod events;
pub(crate) mod fhsm;
pub(crate) mod moves;
pub(crate) mod places;
pub(crate) mod running;
pub(crate) mod sb;
