// SPDX-License-Identifier: GPL-2.0

//! Work that a kernel thread does later.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
    workqueue::Queue, //
};

/// A queue of work; dropping it waits for all that was queued.
///
/// # Invariants
///
/// It owns a work queue that was not destroyed.
pub(crate) struct Worker {
    queue: NonNull<bindings::workqueue_struct>,
    /// How much was queued and is not done.
    pending: Arc<Atomic<usize>>,
}

// SAFETY: Work queues are made to be used from everywhere.
unsafe impl Send for Worker {}

// SAFETY: As above.
unsafe impl Sync for Worker {}

impl Worker {
    /// A queue without work, of which at most `at_a_time` pieces are done at a time.
    pub(crate) fn new(at_a_time: c_int) -> Result<Self> {
        // SAFETY: Always callable from process context.
        let queue = NonNull::new(unsafe { bindings::ruaufs_helper_alloc_workqueue(at_a_time) });
        let pending = Arc::new(Atomic::new(0), GFP_KERNEL);
        let queue = queue.ok_or(ENOMEM)?;
        match pending {
            // INVARIANT: Just made.
            Ok(pending) => Ok(Worker { queue, pending }),
            Err(error) => {
                // SAFETY: Just made, and used by nobody.
                unsafe { bindings::destroy_workqueue(queue.as_ptr()) };
                Err(error.into())
            }
        }
    }

    /// Has `f` done by a kernel thread, with the thread's credentials. `f` is dropped after an
    /// error.
    pub(crate) fn run(&self, f: impl FnOnce() + Send + 'static) -> Result {
        // SAFETY: By the type invariant it is valid while `self` is borrowed.
        let queue = unsafe { Queue::from_raw(self.queue.as_ptr()) };
        let pending = self.pending.clone();
        pending.fetch_add(1, Relaxed);
        let queued = queue.try_spawn(GFP_KERNEL, move || {
            f();
            pending.fetch_sub(1, Full);
        });
        if queued.is_err() {
            self.pending.fetch_sub(1, Relaxed);
        }
        Ok(queued?)
    }

    /// As [`Worker::run`], for a queue of the module's own: the module stays until it is done.
    pub(crate) fn run_apart(&self, f: impl FnOnce() + Send + 'static) -> Result {
        let kept = Kept::new();
        self.run(move || {
            f();
            drop(kept);
        })
    }

    /// Whether all that was queued is done.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.load(Acquire) == 0
    }

    /// Waits until all that was queued before is done.
    pub(crate) fn wait(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_flush_workqueue(self.queue.as_ptr()) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is not used again. The call waits for running work.
        unsafe { bindings::destroy_workqueue(self.queue.as_ptr()) };
    }
}

/// Keeps the module from being unloaded. Who runs its code beyond that is waited for when the
/// module goes: by the queue that it is a work of.
struct Kept(());

impl Kept {
    fn new() -> Self {
        // SAFETY: Somebody uses the module now.
        unsafe { bindings::ruaufs_helper_keep_module() };
        Kept(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: Kept by `new()`.
        unsafe { bindings::ruaufs_helper_let_module_go() };
    }
}
