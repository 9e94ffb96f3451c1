// SPDX-License-Identifier: GPL-2.0

//! Who is calling.

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// The number of the current task, for [`Label::of`].
pub(crate) fn current_number() -> i32 {
    // SAFETY: Always callable.
    // CAST: Numbers of tasks are of that type.
    unsafe { bindings::ruaufs_helper_current_pid() as i32 }
}

/// What a message says of a task.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    number: c_int,
    name: [u8; bindings::TASK_COMM_LEN as usize],
}

impl Label {
    /// Of the task that the initial namespace knows as `pid`, if it is there and the current task
    /// sees it.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let mut name = [0; bindings::TASK_COMM_LEN as usize];
        // SAFETY: The name has room for one.
        let number = unsafe { bindings::ruaufs_helper_process_name(pid, name.as_mut_ptr().cast()) };
        (number != 0).then_some(Label { number, name })
    }

    /// Its number, as the current task knows it.
    pub(crate) fn number(&self) -> i32 {
        self.number
    }

    /// Its name.
    #[cold]
    pub(crate) fn name(&self) -> &[u8] {
        self.name.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
}

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

/// Whether a fatal signal waits for the current task: long work stops with `EINTR`.
pub(crate) fn killed() -> bool {
    // SAFETY: `current` is always valid.
    unsafe { bindings::ruaufs_helper_fatal_signal_pending() }
}

/// Whether the caller is an administrator of the machine.
pub(crate) fn is_admin() -> bool {
    // SAFETY: Always callable by a task.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}
