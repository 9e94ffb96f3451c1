// SPDX-License-Identifier: GPL-2.0

//! Slab cache for inodes that carry Rust data.
//!
//! The VFS wants `struct inode` constructed once per slab object
//! (`inode_init_once()`), so the object is a `repr(C)` pair whose first half
//! survives in the slab between uses; the Rust half is initialised at each
//! allocation and dropped at each free.

use super::stack::StackCell;
use crate::bindings;
use crate::compat::pin_init;
use crate::fs::types::{
    FileSystem,
    Private, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::prelude::*;

/// One slab object.
#[repr(C)]
pub(crate) struct InodeCell<T: FileSystem> {
    /// What the VFS knows.
    pub(crate) vfs: bindings::inode,
    /// The foreign dentries that it stands for.
    pub(crate) stack: StackCell<T::Place>,
    /// What the file system keeps beside it.
    pub(crate) data: T::Inode,
}

/// A slab cache of [`InodeCell`].
///
/// # Invariants
///
/// `cache` is a live kmem cache made for `InodeCell<T>`.
pub(crate) struct InodeCache<T: FileSystem> {
    cache: NonNull<bindings::kmem_cache>,
    _p: PhantomData<T>,
}

// SAFETY: kmem caches are used from any context.
unsafe impl<T: FileSystem> Send for InodeCache<T> {}

// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for InodeCache<T> {}

impl<T: FileSystem> InodeCache<T> {
    /// Makes the cache. `ENOMEM` if there is no memory for it.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: `name` is static, `init_once` fits objects of the given size.
        let cache = unsafe {
            bindings::ruaufs_helper_kmem_cache_create(
                kernel::str::as_char_ptr_in_const_context(name),
                size_of::<InodeCell<T>>() as c_uint,
                align_of::<InodeCell<T>>() as c_uint,
                bindings::RUAUFS_SLAB_FLAGS,
                Some(Self::init_once),
            )
        };
        let cache = NonNull::new(cache).ok_or(ENOMEM)?;
        // INVARIANT: Just made, with the size of `InodeCell<T>`.
        Ok(Self {
            cache,
            _p: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called by the slab allocator with a fresh object.
    unsafe extern "C" fn init_once(object: *mut c_void) {
        // SAFETY: The object begins with a `struct inode` (`repr(C)`).
        unsafe { bindings::inode_init_once(object.cast()) };
    }

    /// An inode with initialised Rust data, for `alloc_inode()`.
    ///
    /// # Safety
    ///
    /// `sb` must be valid.
    pub(crate) unsafe fn alloc(&self, sb: *mut bindings::super_block) -> *mut bindings::inode {
        // SAFETY: By the type invariant and the caller's contract.
        let object = unsafe {
            bindings::ruaufs_helper_alloc_inode_sb(
                sb,
                self.cache.as_ptr(),
                bindings::GFP_KERNEL_ACCOUNT,
            )
        };
        if object.is_null() {
            return core::ptr::null_mut();
        }
        let cell: *mut InodeCell<T> = object.cast();
        // SAFETY: Valid by the caller's contract; set before the first inode is made.
        let depth = unsafe { (*sb).s_stack_depth };
        // SAFETY: The object is ours alone and large enough.
        unsafe { (&raw mut (*cell).stack).write(StackCell::new()) };
        // SAFETY: As above; inodes do not move.
        unsafe { pin_init::init(&raw mut (*cell).data, T::Inode::init(depth)) };
        cell.cast()
    }

    /// Gives an inode back, for `free_inode()`.
    ///
    /// # Safety
    ///
    /// `inode` must come from [`InodeCache::alloc`]; nobody may use it any more.
    ///
    /// It takes no `self`: the super block, and with it the way to the cache, may be gone when
    /// the grace period of an inode ends.
    pub(crate) unsafe fn free(inode: *mut bindings::inode) {
        let cell: *mut InodeCell<T> = inode.cast();
        // SAFETY: Initialised in `alloc`; not used any more by the caller's contract.
        unsafe {
            core::ptr::drop_in_place(&raw mut (*cell).data);
            core::ptr::drop_in_place(&raw mut (*cell).stack);
        }
        // SAFETY: It is a slab object; `kfree()` finds its cache by itself.
        unsafe { bindings::kfree(inode.cast()) };
    }
}

impl<T: FileSystem> Drop for InodeCache<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the registrations, which are the only users, are gone.
        unsafe { bindings::kmem_cache_destroy(self.cache.as_ptr()) };
    }
}
