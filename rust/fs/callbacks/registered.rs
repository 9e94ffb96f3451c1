// SPDX-License-Identifier: GPL-2.0

//! A registered file system type, and what its super blocks find through it.

use crate::bindings;
use crate::fs::{
    objects::inode_cache::InodeCache,
    operations::mountable::Mountable, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A file system type, once [`register()`](Self::register) succeeded known to the VFS.
/// Dropping it unregisters the type.
///
/// It must be part of a static: the locks of all super blocks and inodes of the type have
/// their lockdep classes in it, and lockdep takes classes from static memory only.
///
/// # Invariants
///
/// `cache` outlives all inodes of the type: the VFS holds a reference to the module for
/// each mounted super block, and [`Drop`] waits for inodes that still wait for
/// their grace period.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Mountable> {
    #[pin]
    pub(in crate::fs) fs_type: Opaque<bindings::file_system_type>,
    pub(in crate::fs) cache: Arc<InodeCache<T>>,
    pub(in crate::fs) global: Arc<T::Global>,
}

// SAFETY: The C side serialises registration; after it, `fs_type` is only read.
unsafe impl<T: Mountable> Send for Registration<T> {}

// SAFETY: As above, and `InodeCache` is `Sync`.
unsafe impl<T: Mountable> Sync for Registration<T> {}

impl<T: Mountable> Registration<T> {
    /// The inode cache of the registration that `sb` was mounted through.
    ///
    /// # Safety
    ///
    /// `sb` must be a super block of a type registered by `Registration<T>`.
    pub(crate) unsafe fn cache_of<'a>(sb: *mut bindings::super_block) -> &'a InodeCache<T> {
        // SAFETY: `s_type` is set by `alloc_super()` before any callback runs and never
        // changes; by the caller's contract it is of a `Registration<T>`. The VFS pins the
        // module as long as there is a super block.
        unsafe { &*Arc::as_ptr(&(*Self::of((*sb).s_type)).cache) }
    }

    /// The state of the module that registered `fs_type`.
    ///
    /// # Safety
    ///
    /// `fs_type` must be registered by `Registration<T>`, and stay so for `'a`.
    pub(super) unsafe fn global_of<'a>(
        fs_type: *mut bindings::file_system_type,
    ) -> &'a Arc<T::Global> {
        // SAFETY: By the caller's contract.
        unsafe { &(*Self::of(fs_type)).global }
    }

    /// # Safety
    ///
    /// `fs_type` must be registered by `Registration<T>`.
    unsafe fn of(fs_type: *mut bindings::file_system_type) -> *mut Self {
        let fs_type: *mut Opaque<bindings::file_system_type> = fs_type.cast();
        // SAFETY: By the caller's contract it is that field.
        unsafe { kernel::container_of!(fs_type, Self, fs_type) }
    }
}
