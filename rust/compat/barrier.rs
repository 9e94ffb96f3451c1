// SPDX-License-Identifier: GPL-2.0

//! Memory barriers.

/// Full barrier between CPUs.
#[cfg(ruaufs_typed_barrier)]
#[inline(always)]
pub(crate) fn smp_mb() {
    kernel::sync::barrier::smp_mb(kernel::sync::atomic::Full);
}

#[cfg(not(ruaufs_typed_barrier))]
pub(crate) use kernel::sync::barrier::smp_mb;
