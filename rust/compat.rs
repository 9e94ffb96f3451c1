// SPDX-License-Identifier: GPL-2.0

//! What differs between the kernels that ruaufs is built for: one file for each subject.
//!
//! A file gives the layers above one interface for all kernels. Which kernel it is, `cfg` flags
//! say. No version number sets them: `probes/NAME.rs` is a crate of a few lines, and where the
//! kernel at hand compiles it, there is `cfg(ruaufs_NAME)` (see `Makefile`).
//!
//! This layer may use `bindings` and the crate `kernel`.

pub(crate) mod barrier;
pub(crate) mod create;
pub(crate) mod errno;
pub(crate) mod module;
pub(crate) mod pin_init;
