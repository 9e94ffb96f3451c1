// SPDX-License-Identifier: GPL-2.0

//! Atomics on hot paths.
//!
//! Each operation of the kernel crate's `Atomic` is a call of a C function; a path walk makes
//! several of them per component. A load or a store is one instruction, and these are it.

use kernel::sync::{
    atomic::{
        Atomic,
        AtomicType, //
    },
    SetOnce, //
};

/// Reads `atomic`, inline; ordered against nothing.
#[inline]
pub(crate) fn load<T: AtomicType + Copy>(atomic: &Atomic<T>) -> T {
    const {
        assert!(
            size_of::<T>() <= size_of::<usize>(),
            "it would be read in two parts"
        )
    };
    // SAFETY: The pointer is valid and aligned for the lifetime of the borrow. A volatile read of
    // a word is what `READ_ONCE()` is, so it does not race in the kernel's memory model.
    unsafe { atomic.as_ptr().read_volatile() }
}

/// Reads `atomic` with acquire ordering, inline.
#[inline]
pub(crate) fn load_acquire<T: AtomicType + Copy>(atomic: &Atomic<T>) -> T {
    let value = load(atomic);
    core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
    value
}

/// Writes `atomic`, inline; ordered against nothing.
#[inline]
pub(crate) fn store<T: AtomicType + Copy>(atomic: &Atomic<T>, value: T) {
    const {
        assert!(
            size_of::<T>() <= size_of::<usize>(),
            "it would be written in two parts"
        )
    };
    // SAFETY: As for `load()`; a volatile write of a word is what `WRITE_ONCE()` is.
    unsafe { atomic.as_ptr().write_volatile(value) }
}

/// Writes `atomic` with release ordering, inline.
#[inline]
pub(crate) fn store_release<T: AtomicType + Copy>(atomic: &Atomic<T>, value: T) {
    core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
    store(atomic, value);
}

/// A value that comes late, if at all; as long as it has not, a look is one instruction.
pub(crate) struct Late<T> {
    there: Atomic<bool>,
    value: SetOnce<T>,
}

impl<T> Late<T> {
    /// Without a value.
    pub(crate) const fn new() -> Self {
        Late {
            there: Atomic::new(false),
            value: SetOnce::new(),
        }
    }

    /// The value, if it has come.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        match load(&self.there) {
            false => None,
            true => self.value.as_ref(),
        }
    }

    /// Sets the value, unless somebody was first.
    pub(crate) fn set(&self, value: T) {
        self.value.populate(value);
        store_release(&self.there, true);
    }
}
