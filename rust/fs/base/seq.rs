// SPDX-License-Identifier: GPL-2.0

//! Text output through `struct seq_file`.

use crate::bindings;

/// A `seq_file` that a callback writes to.
///
/// # Invariants
///
/// The pointer is valid for `'a`.
pub(crate) struct Seq<'a>(&'a core::cell::UnsafeCell<bindings::seq_file>);

impl Seq<'_> {
    /// # Safety
    ///
    /// `seq` must be valid for the lifetime of the value.
    pub(in crate::fs) unsafe fn from_raw(seq: *mut bindings::seq_file) -> Self {
        // SAFETY: Valid by the caller's contract; `UnsafeCell` has the layout of what it wraps.
        Seq(unsafe { &*seq.cast() })
    }

    /// Writes `bytes` as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        // SAFETY: By the type invariant. What does not fit makes the reader ask again.
        unsafe {
            bindings::ruaufs_helper_seq_bytes(self.0.get(), bytes.as_ptr().cast(), bytes.len());
        }
    }

    /// Writes `bytes`; control characters, blanks and backslashes become `\ooo`.
    pub(crate) fn escaped(&self, bytes: &[u8]) {
        const ESCAPED: &core::ffi::CStr = c" \t\n\\,=";
        // SAFETY: By the type invariant; `ESCAPED` is a string.
        unsafe {
            bindings::ruaufs_helper_seq_escaped(
                self.0.get(),
                bytes.as_ptr().cast(),
                bytes.len(),
                kernel::str::as_char_ptr_in_const_context(ESCAPED),
            );
        }
    }
}
