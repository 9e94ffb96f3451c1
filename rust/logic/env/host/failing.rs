// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when a test wants it.

extern crate std;

use core::cell::Cell;
use std::thread_local;

use super::AllocError;

thread_local! {
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with all allocations of this thread failing after the first `n`; also tells whether
/// one failed.
pub fn fail_after<T>(n: u64, f: impl FnOnce() -> T) -> (T, bool) {
    LEFT.set(Some(n));
    FAILED.set(false);
    let result = f();
    LEFT.set(None);
    (result, FAILED.get())
}

/// Counts one allocation.
pub(super) fn allocate() -> Result<(), AllocError> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            FAILED.set(true);
            Err(AllocError)
        }
        Some(n) => {
            LEFT.set(Some(n - 1));
            Ok(())
        }
    }
}
