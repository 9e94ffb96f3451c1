// SPDX-License-Identifier: GPL-2.0

//! Who is calling.

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A process, also after it ended: its number is not given to another one.
///
/// # Invariants
///
/// It owns a reference to the `struct pid`.
pub(crate) struct Process(NonNull<bindings::pid>);

// SAFETY: `struct pid` is counted and shared between threads by design.
unsafe impl Send for Process {}
// SAFETY: As above.
unsafe impl Sync for Process {}

impl Process {
    /// The process that the current task is of.
    pub(crate) fn current() -> Self {
        // SAFETY: A running task has a process. The reference is ours.
        Process(unsafe { NonNull::new_unchecked(bindings::ruaufs_helper_current_process()) })
    }

    /// Whether the current task is of this process, or of one that descends from it.
    pub(crate) fn is_above_current(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_current_is_below(self.0.as_ptr()) }
    }

    /// Its number as the caller knows it; 0 if it has none there.
    pub(crate) fn number(&self) -> i32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::pid_vnr(self.0.as_ptr()) }
    }
}

/// The most bytes of the name of a task.
const NAME_MAX: usize = 16;

/// The name of a task.
pub(crate) struct Name([u8; NAME_MAX]);

impl Name {
    /// The name of the current task as it is now.
    pub(crate) fn of_current() -> Self {
        let mut name = [0; NAME_MAX];
        // SAFETY: The call fills as many bytes as there are.
        unsafe { bindings::ruaufs_helper_current_name(name.as_mut_ptr().cast(), NAME_MAX) };
        Name(name)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        CStr::from_bytes_until_nul(&self.0).map_or(&[], CStr::to_bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::put_pid(self.0.as_ptr()) };
    }
}
