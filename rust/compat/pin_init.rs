// SPDX-License-Identifier: GPL-2.0

//! Initialisers that are run by hand.

use kernel::prelude::*;

/// Initialises what `slot` points to.
///
/// # Safety
///
/// `slot` must be valid for writes and unused; what is there stays there until it is dropped.
#[cfg(ruaufs_raw_init)]
#[inline(always)]
pub(crate) unsafe fn init<T>(slot: *mut T, init: impl PinInit<T>) {
    // SAFETY: By the caller's contract.
    unsafe { pin_init::raw_init(slot, init) };
}

/// Initialises what `slot` points to.
///
/// # Safety
///
/// As above.
#[cfg(not(ruaufs_raw_init))]
#[inline(always)]
pub(crate) unsafe fn init<T>(slot: *mut T, init: impl PinInit<T>) {
    // SAFETY: By the caller's contract.
    unsafe { init.__pinned_init(slot) }.unwrap_or_else(|error| match error {});
}
