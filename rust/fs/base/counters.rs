// SPDX-License-Identifier: GPL-2.0

//! Numbers that only grow, counted by each CPU for itself.
//!
//! To count costs a call and one instruction that no other CPU notices, so that it may be done
//! wherever more than some hundred instructions are run anyway.
//!
//! C header: [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h).

use crate::bindings;
use kernel::prelude::*;

/// `N` of them, which begin with 0.
///
/// # Invariants
///
/// The number is that of `N` counters of `ruaufs_helper_alloc_counters()`, which this value owns.
pub(crate) struct Counters<const N: usize>(c_ulong);

impl<const N: usize> Counters<N> {
    /// Takes the memory.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: May be called wherever one may sleep.
        let counters = unsafe { bindings::ruaufs_helper_alloc_counters(u32::try_from(N)?) };
        if counters == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: Allocated above.
        Ok(Counters(counters))
    }

    /// Adds `more` to the counter `which`. One that is not there does not count.
    #[inline]
    pub(crate) fn add(&self, which: usize, more: u64) {
        if which < N {
            // SAFETY: By the type invariant there is that counter; it is changed by one
            // instruction.
            unsafe { bindings::ruaufs_helper_count(self.0, which as u32, more) };
        }
    }

    /// Returns the sum of the counter `which` over all CPUs.
    pub(crate) fn get(&self, which: usize) -> u64 {
        if which >= N {
            return 0;
        }
        // SAFETY: By the type invariant there is that counter; words are read whole.
        unsafe { bindings::ruaufs_helper_counted(self.0, which as u32) }
    }
}

impl<const N: usize> Drop for Counters<N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is ours, and nobody counts any more.
        unsafe { bindings::ruaufs_helper_free_counters(self.0) };
    }
}
