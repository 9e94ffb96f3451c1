// SPDX-License-Identifier: GPL-2.0

//! What C functions give, as a `Result`.
//!
//! As in [`kernel::error`], where these are calls.

use core::ops::Range;
use kernel::prelude::*;

/// Errors as numbers: `-MAX_ERRNO` to -1.
const ERRORS: Range<isize> = -4095..0;

/// An error, if it is negative.
#[inline]
pub(in crate::fs) fn to_result(ret: c_int) -> Result {
    if ret < 0 {
        return Err(Error::from_errno(ret));
    }
    Ok(())
}

/// A pointer, or an error in place of it.
#[inline]
pub(in crate::fs) fn from_err_ptr<X>(ptr: *mut X) -> Result<*mut X> {
    // CAST: So C codes it.
    let value = ptr.addr() as isize;
    if ERRORS.contains(&value) {
        // CAST: It is small.
        return Err(Error::from_errno(value as c_int));
    }
    Ok(ptr)
}
