// SPDX-License-Identifier: GPL-2.0

//! Makes a file system type known to the VFS: what names all the rest.

use crate::bindings;
use crate::fs::{
    callbacks::{
        context,
        registered::Registration,
        super_ops, //
    },
    objects::inode_cache::InodeCache,
    operations::mountable::Mountable, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

impl<T: Mountable> Registration<T> {
    /// Makes the type `name`, which nobody can mount yet.
    pub(crate) fn new(
        name: &'static CStr,
        module: &'static ThisModule,
        cache: Arc<InodeCache<T>>,
        global: Arc<T::Global>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            cache,
            global,
            fs_type <- Opaque::ffi_init(move |slot: *mut bindings::file_system_type| {
                let fs_type = bindings::file_system_type {
                    name: kernel::str::as_char_ptr_in_const_context(name),
                    // Names move while the file system still holds what excludes a look at
                    // half of the move.
                    fs_flags: (bindings::FS_RENAME_DOES_D_MOVE | bindings::FS_ALLOW_IDMAP)
                        as c_int,
                    init_fs_context: Some(context::Table::<T>::init_fs_context),
                    kill_sb: Some(super_ops::Table::<T>::kill_sb),
                    owner: module.as_ptr(),
                    ..pin_init::zeroed()
                };
                // SAFETY: `slot` is valid for writes by the contract of `ffi_init`.
                unsafe { ptr::write(slot, fs_type) };
            }),
        })
    }

    /// Makes the type known to the VFS. `EBUSY` if its name is taken.
    pub(crate) fn register(self: Pin<&mut Self>) -> Result {
        // SAFETY: `fs_type` is initialised and stays pinned until `PinnedDrop`.
        kernel::error::to_result(unsafe { bindings::register_filesystem(self.fs_type.get()) })
    }
}

#[pinned_drop]
impl<T: Mountable> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It is initialised; the VFS refuses (`EINVAL`) a type that was not registered.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
        // SAFETY: We may sleep here. Inodes are freed by RCU callbacks that use the cache.
        unsafe { bindings::rcu_barrier() };
    }
}
