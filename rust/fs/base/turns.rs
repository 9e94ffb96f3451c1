// SPDX-License-Identifier: GPL-2.0

//! Waiting until something changes, in a way that a fatal signal ends.

use crate::bindings;
use crate::fs::base::{
    once::load_acquire,
    ret::to_result, //
};
use kernel::{
    prelude::*,
    sync::atomic::Atomic, //
};

/// Counts changes that tasks wait for.
pub(crate) struct Turns(Atomic<u32>);

impl Turns {
    /// None yet.
    pub(crate) fn new() -> Self {
        Turns(Atomic::new(0))
    }

    /// How many there were. Read before it is looked at what changes.
    pub(crate) fn seen(&self) -> u32 {
        load_acquire(&self.0)
    }

    /// Says that something has changed, and wakes those who wait.
    pub(crate) fn next(&self) {
        // SAFETY: The word is valid, and outlives the call.
        unsafe { bindings::ruaufs_helper_next_turn(self.0.as_ptr()) };
    }

    /// Waits until something has changed after there were `seen` changes.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed.
    pub(crate) fn wait(&self, seen: u32) -> Result {
        // SAFETY: The word is valid, and outlives the call.
        to_result(unsafe { bindings::ruaufs_helper_wait_for_turn(self.0.as_ptr(), seen) })
            .map_err(|_| EINTR)
    }
}
