// SPDX-License-Identifier: GPL-2.0

//! A value that is replaced as a whole while the gate is closed.

use super::{
    gate::Closed,
    once::load_acquire, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::sync::{
    atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
    Arc, //
};

/// A value that is replaced as a whole.
///
/// # Invariants
///
/// `current` comes from [`Arc::into_raw`]; the cell owns that reference.
pub(in crate::fs) struct Snapshot<X> {
    current: Atomic<*mut X>,
    _own: PhantomData<Arc<X>>,
}

// SAFETY: What is shared is the value; it is replaced atomically.
unsafe impl<X: Send + Sync> Send for Snapshot<X> {}

// SAFETY: As above.
unsafe impl<X: Send + Sync> Sync for Snapshot<X> {}

impl<X> Snapshot<X> {
    /// A cell that holds `value`.
    pub(in crate::fs) fn new(value: Arc<X>) -> Self {
        // INVARIANT: The reference was the caller's.
        Snapshot {
            current: Atomic::new(Arc::into_raw(value).cast_mut()),
            _own: PhantomData,
        }
    }

    /// The value now.
    ///
    /// # Safety
    ///
    /// The caller must be in a section of the gate or in a walk under RCU, and use the value no
    /// longer, or be who frees what is replaced, and use it before.
    #[inline]
    pub(in crate::fs) unsafe fn get(&self) -> &X {
        // SAFETY: By the type invariant and the caller's contract: what a change replaces is freed
        // after the grace period of that change, which such sections and walks hold up.
        unsafe { &*load_acquire(&self.current) }
    }

    /// Replaces the value, which is a change, and gives the old one, which may still be in use.
    pub(in crate::fs) fn replace(
        &self,
        closed: &Closed<'_>,
        value: Arc<X>,
    ) -> ManuallyDrop<Arc<X>> {
        // Who is outside sees that something changed, once it is inside again.
        closed.gate.changes.fetch_add(1, Full);
        let old = self.current.xchg(Arc::into_raw(value).cast_mut(), Full);
        // SAFETY: By the type invariant it is a reference, which is ours now.
        ManuallyDrop::new(unsafe { Arc::from_raw(old) })
    }
}

impl<X> Drop for Snapshot<X> {
    fn drop(&mut self) {
        let current = self.current.load(Relaxed);
        if let Some(current) = NonNull::new(current) {
            // SAFETY: By the type invariant; nobody reads any more.
            drop(unsafe { Arc::from_raw(current.as_ptr()) });
        }
        self.current.store(ptr::null_mut(), Relaxed);
    }
}
