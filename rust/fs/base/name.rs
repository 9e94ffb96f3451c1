// SPDX-License-Identifier: GPL-2.0

//! Names of directory entries as C wants them.
//!
//! A name is a byte string without NUL and `/`; `struct qstr` is its C form.

use crate::bindings;
use core::ops::Deref;
use kernel::prelude::*;

/// A string as C wants it, made from bytes: a path, a name, the text of a symbolic link.
pub(crate) struct CBytes(KVec<u8>);

impl CBytes {
    /// Copies `bytes`. `EINVAL` if there is a NUL among them.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.contains(&0) {
            return Err(EINVAL);
        }
        let mut copy = KVec::with_capacity(bytes.len().saturating_add(1), GFP_KERNEL)?;
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        copy.push(0, GFP_KERNEL)?;
        Ok(CBytes(copy))
    }
}

impl Deref for CBytes {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        // Checked when it was made.
        CStr::from_bytes_with_nul(&self.0).unwrap_or(c"")
    }
}

/// The bytes of a `qstr`.
///
/// # Safety
///
/// The name must stay in place for `'a`.
pub(in crate::fs) unsafe fn bytes<'a>(name: &bindings::qstr) -> &'a [u8] {
    // SAFETY: `name` points to `len` bytes (and a NUL); stable by the caller's contract.
    unsafe {
        core::slice::from_raw_parts(
            name.name,
            name.__bindgen_anon_1.__bindgen_anon_1.len as usize,
        )
    }
}

/// A `qstr` of `name` without a hash, as the `lookup_*()` and `start_*()` calls take it; valid as
/// long as `name` is borrowed.
#[inline]
pub(in crate::fs) fn qstr(name: &[u8]) -> bindings::qstr {
    let mut qstr: bindings::qstr = pin_init::zeroed();
    // A name that is too long for the branch is refused by the branch: the length only has to
    // arrive unchanged, and no caller has names of 4 GiB.
    qstr.__bindgen_anon_1.__bindgen_anon_1.len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    qstr.name = name.as_ptr();
    qstr
}
