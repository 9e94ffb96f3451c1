// SPDX-License-Identifier: GPL-2.0

//! Writes to an inode that are under way.

use crate::bindings;
use crate::fs::base::{
    gate,
    once::load_acquire,
    ret::to_result, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed,
        Release, //
    }, //
};

/// Writes to an inode that are under way: they have found the instance that they change, and are
/// in no read section of the gate.
///
/// Who closes the gate sees those that began before; the others wait. All that changes data is
/// one, unless it stays in its read section.
pub(crate) struct Writes {
    /// One by who holds `i_rwsem`, which excludes all others: the
    /// [`Entered::mark`](super::section::Entered::mark) of the section that it began in; 0 if there
    /// is none.
    pub(in crate::fs) locked: Atomic<usize>,
    /// Those that go on without it: asynchronous ones on their way to the disk.
    queued: Atomic<u32>,
    /// A shared mapping that may store went past the instance, to an object of a file system
    /// below the branch's: nobody tells when it ends.
    beyond: Atomic<bool>,
    /// Another instance is about to take the place of the one that is written.
    copying: Atomic<bool>,
    /// Shared mappings that may store, that are about to be made and have had their turn to wait.
    reserved: Atomic<u32>,
}

impl Writes {
    /// None.
    pub(crate) fn none() -> Self {
        Writes {
            locked: Atomic::new(0),
            queued: Atomic::new(0),
            beyond: Atomic::new(false),
            copying: Atomic::new(false),
            reserved: Atomic::new(0),
        }
    }

    /// Whether there is none. What they wrote can be seen then.
    pub(crate) fn have_ended(&self) -> bool {
        // In this order: one that is queued is so before the lock is given up.
        load_acquire(&self.locked) == 0 && self.none_queued()
    }

    /// The number of the task that writes, for [`Label::of`](crate::fs::base::task::Label::of), if
    /// there is one and it is known.
    pub(crate) fn writer(&self) -> Option<i32> {
        gate::task_of_mark(load_acquire(&self.locked))
    }

    fn none_queued(&self) -> bool {
        load_acquire(&self.queued) == 0
    }

    /// A mapping that may store went to another inode than that of the instance.
    pub(in crate::fs) fn mapped_beyond(&self) {
        self.beyond.store(true, Relaxed);
    }

    /// Whether there may be a mapping that is counted nowhere. It refers to our inode.
    pub(crate) fn may_be_mapped_beyond(&self) -> bool {
        self.beyond.load(Relaxed)
    }

    /// Says that the instance is about to be replaced by a copy, until the guard is dropped. The
    /// caller holds `i_rwsem`. Mappings that may store are seen from now on, or wait.
    pub(crate) fn copying(&self) -> Copying<'_> {
        // Ordered against the look at mappings that follows; the kernel's count of those is, too.
        self.copying.xchg(true, Full);
        Copying(self)
    }

    /// Whether a mapping that may store must wait until nobody holds `i_rwsem`.
    pub(in crate::fs) fn are_copied(&self) -> bool {
        load_acquire(&self.copying)
    }

    /// A mapping is reserved, see [`map`](crate::fs::callbacks::map). It is counted at the inode.
    pub(in crate::fs) fn reserve_mapping(&self) {
        self.reserved.fetch_add(1, Full);
    }

    /// The reverse of [`Writes::reserve_mapping`]. The mapping is still counted at the inode.
    pub(in crate::fs) fn unreserve_mapping(&self) {
        self.reserved.fetch_sub(1, Full);
    }

    /// Whether a mapping is reserved.
    pub(in crate::fs) fn has_reserved_mapping(&self) -> bool {
        load_acquire(&self.reserved) != 0
    }

    /// Waits for those that are queued. The caller holds `i_rwsem`, so that there are no others.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task was killed.
    pub(crate) fn wait_for_queued(&self) -> Result {
        if self.none_queued() {
            return Ok(());
        }
        // SAFETY: The word outlives the call.
        to_result(unsafe { bindings::ruaufs_helper_wait_for_zero(self.queued.as_ptr()) })
            .map_err(|_| EINTR)
    }

    pub(in crate::fs) fn queue(&self) {
        self.queued.fetch_add(1, Relaxed);
    }

    /// The reverse of [`Writes::queue`].
    pub(in crate::fs) fn unqueue(&self) {
        // SAFETY: The word is counted by `queue()`; the inode lives, as the request's file does.
        unsafe { bindings::ruaufs_helper_count_down(self.queued.as_ptr()) };
    }
}

/// An instance is being replaced.
pub(crate) struct Copying<'a>(&'a Writes);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.copying.store(false, Release);
    }
}
