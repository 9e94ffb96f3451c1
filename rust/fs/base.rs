// SPDX-License-Identifier: GPL-2.0

//! The floor of the abstractions: no file in this folder knows an object of the VFS.
//!
//! Names and log, tasks and workers, files outside of a mount (sysfs, `/proc`), and the gate, which
//! lets what a super block consists of change while it is in use. May use `bindings` only.

pub(crate) mod counters;
pub(crate) mod debugfs;
pub(crate) mod gate;
pub(crate) mod log;
pub(crate) mod name;
pub(crate) mod once;
pub(crate) mod parameters;
pub(crate) mod procfs;
pub(crate) mod reals;
pub(crate) mod ret;
pub(crate) mod seats;
pub(crate) mod seq;
pub(crate) mod snapshot;
pub(crate) mod sysfs;
pub(crate) mod task;
pub(crate) mod trace;
pub(crate) mod turns;
pub(crate) mod worker;
