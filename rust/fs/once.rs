// SPDX-License-Identifier: GPL-2.0

//! Reading an atomic on a hot path.
//!
//! Each operation of the kernel crate's `Atomic` is a call of a C function; a
//! path walk makes several of them per component. A load is one instruction, and
//! this is it.

use kernel::sync::atomic::{
    Atomic,
    AtomicType, //
};

/// Reads `atomic` with acquire ordering, inline.
#[inline]
pub(crate) fn load_acquire<T: AtomicType + Copy>(atomic: &Atomic<T>) -> T {
    // SAFETY: The pointer is valid and aligned for the lifetime of the borrow. A volatile read of
    // a word is what `READ_ONCE()` is, so it does not race in the kernel's memory model.
    let value = unsafe { atomic.as_ptr().read_volatile() };
    core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
    value
}
