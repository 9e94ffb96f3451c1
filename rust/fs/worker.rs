// SPDX-License-Identifier: GPL-2.0

//! Work that a kernel thread does later.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    workqueue::Queue, //
};

/// A queue of work; dropping it waits for all that was queued.
///
/// # Invariants
///
/// It owns a work queue that was not destroyed.
pub(crate) struct Worker(NonNull<bindings::workqueue_struct>);

// SAFETY: Work queues are made to be used from everywhere.
unsafe impl Send for Worker {}
// SAFETY: As above.
unsafe impl Sync for Worker {}

impl Worker {
    /// A queue without work.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Always callable from process context.
        let queue = NonNull::new(unsafe { bindings::ruaufs_helper_alloc_workqueue() });
        // INVARIANT: Just made.
        Ok(Worker(queue.ok_or(ENOMEM)?))
    }

    /// Has `f` done by a kernel thread, with the thread's credentials. `f` is dropped after an
    /// error.
    pub(crate) fn run(&self, f: impl FnOnce() + Send + 'static) -> Result {
        // SAFETY: By the type invariant it is valid while `self` is borrowed.
        let queue = unsafe { Queue::from_raw(self.0.as_ptr()) };
        Ok(queue.try_spawn(GFP_KERNEL, f)?)
    }

    /// Waits until all that was queued before is done.
    pub(crate) fn wait(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_flush_workqueue(self.0.as_ptr()) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is not used again. The call waits for running work.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
