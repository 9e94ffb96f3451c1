// SPDX-License-Identifier: GPL-2.0

//! What lets the shape of a mounted file system change while it is in use.
//!
//! # Terms
//!
//! - *reader*: a callback of the VFS that is under way. While it runs, what it
//!   found through a [`Snapshot`] or a [`StackCell`](super::stack::StackCell) stays.
//! - *closed*: a change of the shape is under way. Readers that change names or
//!   instances wait before they begin ([`Gate::enter`]); those that only look
//!   ([`Gate::read`]) go on with what is published.
//!
//! # Locking
//!
//! A reader is an SRCU read section (fast flavour: a counter of its own CPU, no
//! barrier). Who closes the gate waits until all readers have left, so:
//!
//! - a reader never closes a gate, and never takes `s_umount` of its own super block
//!   or a lock under which a gate is closed;
//! - [`Gate::enter`] is never called inside a read section of the same gate, nor
//!   under `mmap_lock` (a reader may fault on user memory);
//! - [`Gate::enter`] ranks after `i_rwsem` of our inodes and before all locks of
//!   branches.
//!
//! # Invariants
//!
//! The callback tables of this layer run each callback of a file system that
//! looks at snapshots inside a read section of its super block's gate: this is
//! what [`Snapshot::get`] and `StackCell::get` rest on. Whatever was replaced is
//! freed by [`Closed::free`], after the readers have left.

use super::once::load_acquire;
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    pin::Pin,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        lock::mutex::MutexGuard,
        LockClassKey,
        Mutex, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// The gate of a super block.
#[pin_data(PinnedDrop)]
pub(crate) struct Gate {
    #[pin]
    srcu: Opaque<bindings::srcu_struct>,
    /// A change is under way.
    closed: Atomic<bool>,
    /// Held by who closed the gate.
    #[pin]
    closer: Mutex<()>,
}

// SAFETY: An SRCU domain is made for use by all CPUs.
unsafe impl Send for Gate {}
// SAFETY: As above.
unsafe impl Sync for Gate {}

/// A lock class for each depth of stacking: a change of a union looks into unions below.
fn closer_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

impl Gate {
    /// An open gate of a super block in which `depth` file systems are stacked.
    pub(crate) fn new(depth: i32) -> impl PinInit<Self, Error> {
        try_pin_init!(Gate {
            srcu <- Opaque::try_ffi_init(move |srcu| {
                // SAFETY: `srcu` is valid for writes and stays pinned.
                kernel::error::to_result(unsafe { bindings::ruaufs_helper_srcu_init(srcu, depth) })
            }),
            closed: Atomic::new(false),
            closer <- Mutex::new((), c"ruaufs_gate", closer_class(depth)),
        })
    }

    /// Begins a read section. Does not wait.
    #[inline]
    pub(crate) fn read(&self) -> Reading<'_> {
        // SAFETY: The domain is initialised.
        let section = unsafe { bindings::ruaufs_helper_srcu_lock(self.srcu.get()) };
        Reading {
            gate: self,
            section,
            _task: NotThreadSafe,
        }
    }

    /// Begins a read section in which names or instances change; waits while the gate is closed.
    #[inline]
    pub(crate) fn enter(&self) -> Reading<'_> {
        loop {
            let reading = self.read();
            // Who closes it waits for the sections that began before; the others see this.
            if !load_acquire(&self.closed) {
                return reading;
            }
            drop(reading);
            drop(self.closer.lock());
        }
    }

    /// Closes the gate and waits until nobody is inside.
    pub(crate) fn close(&self) -> Closed<'_> {
        let closer = self.closer.lock();
        self.closed.store(true, Release);
        let closed = Closed {
            gate: self,
            _closer: closer,
        };
        closed.wait();
        closed
    }
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised, and the super block has no user any more.
        unsafe { bindings::cleanup_srcu_struct(self.srcu.get()) };
    }
}

/// A read section.
pub(crate) struct Reading<'a> {
    gate: &'a Gate,
    section: c_ulong,
    _task: NotThreadSafe,
}

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Begun by `read()` in this task, and ended once.
        unsafe { bindings::ruaufs_helper_srcu_unlock(self.gate.srcu.get(), self.section) };
    }
}

/// A closed gate. It opens when this is dropped.
pub(crate) struct Closed<'a> {
    gate: &'a Gate,
    _closer: MutexGuard<'a, ()>,
}

impl Closed<'_> {
    /// Waits until all read sections that began before have ended.
    fn wait(&self) {
        // SAFETY: The domain is initialised; the rules of the module documentation keep us from
        // being called inside a read section.
        unsafe { bindings::synchronize_srcu_expedited(self.gate.srcu.get()) };
    }

    /// Frees what nobody can find any more, when the last reader has left it.
    pub(crate) fn free<A, B>(&self, a: Retired<A>, b: Retired<B>) {
        self.wait();
        // Path walks under RCU are readers, too. Expedited, as above: a client with many branches
        // adds them one remount at a time.
        // SAFETY: May be called wherever one may sleep outside RCU read sections.
        unsafe { bindings::synchronize_rcu_expedited() };
        drop(ManuallyDrop::into_inner(a.0));
        drop(ManuallyDrop::into_inner(b.0));
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // The mutex, dropped next, lets those go on who wait.
        self.gate.closed.store(false, Release);
    }
}

/// Something that was replaced and may still be in use by readers.
///
/// Freed by [`Closed::free`]; one that is dropped otherwise is leaked, which is safe.
#[must_use]
pub(crate) struct Retired<X>(ManuallyDrop<X>);

impl<X> Retired<X> {
    pub(super) fn new(value: X) -> Self {
        Retired(ManuallyDrop::new(value))
    }

    pub(super) fn get_mut(&mut self) -> &mut X {
        &mut self.0
    }
}

/// A value that is replaced as a whole.
///
/// # Invariants
///
/// `current` comes from [`KBox::into_raw`] and is owned by the cell.
pub(crate) struct Snapshot<X> {
    current: Atomic<*mut X>,
    _own: PhantomData<KBox<X>>,
}

// SAFETY: What is shared is the value; it is replaced atomically.
unsafe impl<X: Send + Sync> Send for Snapshot<X> {}
// SAFETY: As above.
unsafe impl<X: Send + Sync> Sync for Snapshot<X> {}

impl<X> Snapshot<X> {
    /// A cell that holds `value`.
    pub(crate) fn new(value: KBox<X>) -> Self {
        // INVARIANT: Just taken from its box.
        Snapshot {
            current: Atomic::new(KBox::into_raw(value)),
            _own: PhantomData,
        }
    }

    /// The value now.
    #[inline]
    pub(crate) fn get(&self) -> &X {
        // SAFETY: By the type invariant. What is replaced is freed after the readers have left,
        // and by the invariant of the module the caller is one (or is who closed the gate, which
        // frees it, or nobody else can reach the super block).
        unsafe { &*load_acquire(&self.current) }
    }

    /// Replaces the value.
    pub(crate) fn replace(&self, _closed: &Closed<'_>, value: KBox<X>) -> Retired<KBox<X>> {
        let old = self.current.xchg(KBox::into_raw(value), Full);
        // SAFETY: By the type invariant it came from a box, which is ours now.
        Retired::new(unsafe { KBox::from_raw(old) })
    }
}

impl<X> Drop for Snapshot<X> {
    fn drop(&mut self) {
        let current = self.current.load(Relaxed);
        if let Some(current) = NonNull::new(current) {
            // SAFETY: By the type invariant; nobody reads any more.
            drop(unsafe { KBox::from_raw(current.as_ptr()) });
        }
        self.current.store(ptr::null_mut(), Relaxed);
    }
}
