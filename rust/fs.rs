// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel's VFS: all `unsafe` code of the module.
//!
//! This layer knows nothing of branches. It is written as if it were to become
//! part of the `kernel` crate. A file system implements [`FileSystem`] and gets
//! its callbacks with typed, borrowed arguments; objects of *other* file systems
//! (those it stacks upon) are reached through [`inode::Inode`](crate::fs::objects::inode::Inode),
//! [`dentry::Dentry`](crate::fs::objects::dentry::Dentry),
//! [`path::Path`](crate::fs::objects::path::Path) and the guards of
//! [`dirop`](crate::fs::access::dirop).
//!
//! # Terms
//!
//! - *ours*: an object of a file system that implements [`FileSystem`]; its
//!   type parameter is that file system.
//! - *foreign*: an object of any other file system; its type parameter is
//!   [`Foreign`].
//!
//! # What the types do not carry
//!
//! A counted reference to an inode or dentry keeps that, and not its super block. Who keeps one for
//! longer than a callback keeps a mount with it ([`stack::Slot`](crate::fs::objects::stack::Slot),
//! [`path::Path`](crate::fs::objects::path::Path)), and gives that up later.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`Documentation/filesystems/vfs.rst`](srctree/Documentation/filesystems/vfs.rst).

pub(crate) mod access;
pub(crate) mod base;
pub(crate) mod callbacks;
pub(crate) mod objects;

use self::{
    access::{
        dir,
        export, //
    },
    callbacks::{
        context,
        file_ops,
        inode_ops,
        ioctl, //
    },
    objects::{
        dentry,
        inode,
        inode_cache::InodeCache,
        sb, //
    }, //
};
use crate::bindings;
use core::ptr;
use kernel::{
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// Marks an object of a file system that is not ours.
pub(crate) struct Foreign;

/// What a file system of this module says about itself.
///
/// The callbacks are spread over the traits that it must implement as well, one
/// per VFS object: [`context::Operations`](crate::fs::callbacks::context::Operations),
/// [`sb::Operations`](crate::fs::objects::sb::Operations),
/// [`dentry::Operations`](crate::fs::objects::dentry::Operations),
/// [`inode_ops::Operations`](crate::fs::callbacks::inode_ops::Operations),
/// [`file_ops::Operations`](crate::fs::callbacks::file_ops::Operations),
/// [`dir::Operations`](crate::fs::access::dir::Operations),
/// [`ioctl::Operations`](crate::fs::callbacks::ioctl::Operations),
/// [`export::Operations`](crate::fs::access::export::Operations).
pub(crate) trait FileSystem: Sized + Send + Sync + 'static {
    /// State of the loaded module, shared by all super blocks.
    type Global: Send + Sync;
    /// State of a mounted super block (`s_fs_info`).
    type Data: Send + Sync;
    /// What is replaced as a whole while it is mounted ([`section`](crate::fs::objects::section)).
    type Shape: Send + Sync;
    /// State beside each inode.
    type Inode: inode::Private;
    /// What it says about the place of a foreign dentry, for all in that place
    /// ([`stack::Slot`](crate::fs::objects::stack::Slot)).
    type Place: Send + Sync;
    /// State of an open directory (`private_data`).
    type Dir: Send + Sync;

    /// The `f_type` that statfs(2) reports.
    const MAGIC: usize;
}

/// All the traits that make a [`FileSystem`] mountable.
pub(crate) trait Mountable:
    FileSystem
    + context::Operations
    + sb::Operations
    + dentry::Operations
    + inode_ops::Operations
    + file_ops::Operations
    + dir::Operations
    + ioctl::Operations
    + export::Operations
{
}

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
    fs_type: Opaque<bindings::file_system_type>,
    cache: Arc<InodeCache<T>>,
    global: Arc<T::Global>,
}

// SAFETY: The C side serialises registration; after it, `fs_type` is only read.
unsafe impl<T: Mountable> Send for Registration<T> {}

// SAFETY: As above, and `InodeCache` is `Sync`.
unsafe impl<T: Mountable> Sync for Registration<T> {}

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
                    kill_sb: Some(sb::Table::<T>::kill_sb),
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
    unsafe fn global_of<'a>(fs_type: *mut bindings::file_system_type) -> &'a Arc<T::Global> {
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

#[pinned_drop]
impl<T: Mountable> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It is initialised; the VFS refuses (`EINVAL`) a type that was not registered.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
        // Inodes are freed by RCU callbacks that use the cache.
        kernel::sync::rcu::rcu_barrier();
    }
}
