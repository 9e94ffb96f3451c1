// SPDX-License-Identifier: GPL-2.0

//! Faults from below: no memory, no space, no quota, devices that fail or vanish, file systems
//! that are frozen, read-only or unmounted under their union.
//!
//! An operation that meets a fault succeeds, or fails and leaves everything as it was.
//!
//! | module | what |
//! |---|---|
//! | [`ops`] | a union with one of everything; the operations |
//! | [`memory`] | the n-th allocation fails, for each n (needs the debug kernel) |
//! | [`space`] | n blocks, or n inodes, are left, for each n |
//! | [`device`] | reads or writes of the branch's device fail, or it is gone |
//! | [`below`] | what the administrator does to a branch's file system |
//! | [`signals`] | signals come during a copy-up |

pub(crate) mod ops;

mod below;
mod device;
mod memory;
mod signals;
mod space;

use crate::harness::{inject, run::Case};

/// The tests of these modules.
pub(crate) fn cases() -> Vec<Case> {
    [
        space::cases(),
        below::cases(),
        signals::cases(),
        device::cases(),
        match inject::debug_kernel() {
            true => memory::sweeps().chain(memory::cases()).collect(),
            false => Vec::new(),
        },
    ]
    .into_iter()
    .flatten()
    .map(|case| Case {
        name: format!("faults::{}", case.name),
        ..case
    })
    .collect()
}
