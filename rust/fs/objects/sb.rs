// SPDX-License-Identifier: GPL-2.0

//! Super blocks of ours. What they are filled with, and when that is freed, is in
//! [`super_ops`](crate::fs::callbacks::super_ops).

use super::{
    dentry::Dentry,
    inode::Inode,
    path::Mount, //
};
use crate::bindings;
use crate::fs::{
    base::{
        gate::{
            Gate,
            Waits, //
        },
        snapshot::Snapshot, //
    },
    types::FileSystem, //
};
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};

/// `struct super_block` of a file system of ours.
///
/// # Invariants
///
/// `s_fs_info` is set as the module documentation says.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `ptr` must be a super block of `T` with `s_fs_info` set, valid for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::super_block) -> &'a Self {
        // SAFETY: `repr(transparent)`; valid by the caller's contract.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// The device number that stat(2) shows.
    pub(crate) fn device(&self) -> u64 {
        // SAFETY: Set when the super block is made.
        u64::from(unsafe { (*self.as_ptr()).s_dev })
    }

    /// What `s_fs_info` leads to.
    #[inline]
    pub(in crate::fs) fn state(&self) -> &State<T> {
        // SAFETY: By the type invariant it is a live `KBox` of the type.
        unsafe { &*(*self.as_ptr()).s_fs_info.cast() }
    }

    /// The state of the file system.
    #[inline]
    pub(crate) fn data(&self) -> &T::Data {
        &self.state().data
    }

    /// The gate.
    #[inline]
    pub(in crate::fs) fn gate(&self) -> &Gate {
        &self.state().gate
    }

    /// Whether names are revalidated that are cached from now on.
    pub(crate) fn set_checked(&self, checked: bool) {
        // SAFETY: The super block is valid; the flags are a word that is read racily.
        unsafe { bindings::ruaufs_helper_sb_set_checked(self.as_ptr(), checked) };
    }

    /// Says of its files what follows from the branches.
    pub(crate) fn set_limits(&self, limits: Limits) {
        let sb = self.as_ptr();
        let block_size = match limits.block_bits {
            0 => 0,
            bits => 1 << (bits & 31),
        };
        // SAFETY: The super block is valid; all are words that are read racily. Nobody else can
        // reach it yet, or the caller holds `s_umount` (reconfiguration).
        unsafe {
            (&raw mut (*sb).s_maxbytes).write_volatile(limits.max_bytes);
            (&raw mut (*sb).s_time_gran).write_volatile(limits.time_granularity);
            (&raw mut (*sb).s_blocksize_bits).write_volatile(limits.block_bits);
            (&raw mut (*sb).s_blocksize).write_volatile(block_size);
        }
    }

    /// An error of writing back: each open file of the super block is told of it by its next
    /// syncfs(2).
    pub(crate) fn tell_write_error(&self, error: Error) {
        // SAFETY: The super block is valid.
        unsafe { bindings::errseq_set(&raw mut (*self.as_ptr()).s_wb_err, error.to_errno()) };
    }

    /// The number of stacked file systems, this one included.
    pub(crate) fn stack_depth(&self) -> i32 {
        // SAFETY: Set before the super block is published, and never changed.
        unsafe { (*self.as_ptr()).s_stack_depth }
    }

    /// The root of the tree of names.
    pub(crate) fn root(&self) -> Option<ARef<Dentry<T>>> {
        // SAFETY: Set once the super block is mounted, and kept until it is not any more, which
        // callbacks exclude.
        unsafe {
            let root = (*self.as_ptr()).s_root;
            (!root.is_null()).then(|| Dentry::from_raw(root).into())
        }
    }

    /// Drops cached names and inodes that nobody uses.
    pub(crate) fn shrink(&self) {
        // SAFETY: The super block is valid and mounted.
        unsafe {
            bindings::shrink_dcache_sb(self.as_ptr());
            bindings::evict_inodes(self.as_ptr());
        }
    }

    /// Calls `f` for each cached inode, until it gives an error.
    pub(crate) fn each_inode(&self, f: &mut dyn FnMut(&Inode<T>) -> Result) -> Result {
        let mut last: Option<ARef<Inode<T>>> = None;
        loop {
            let prev = last
                .as_ref()
                .map_or(ptr::null_mut(), |inode| inode.as_ptr());
            // SAFETY: The super block is valid; `prev` is held, and so stays in the list.
            let next = unsafe { bindings::ruaufs_helper_next_inode(self.as_ptr(), prev) };
            let Some(next) = NonNull::new(next) else {
                return Ok(());
            };
            // SAFETY: An inode of ours; the reference that the helper took is ours.
            let next: ARef<Inode<T>> = unsafe { ARef::from_raw(next.cast()) };
            f(&next)?;
            last = Some(next);
        }
    }
}

/// The most file systems that may be stacked.
pub(crate) const MAX_STACK_DEPTH: i32 = bindings::RUAUFS_MAX_STACK_DEPTH;

/// A number that is nobody else's.
pub(crate) fn random_id() -> u64 {
    // SAFETY: Always callable.
    unsafe { bindings::ruaufs_helper_random() }
}

/// What a super block says about its files.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// The largest file size.
    pub(in crate::fs) max_bytes: i64,
    /// The granularity of time stamps in nanoseconds.
    pub(in crate::fs) time_granularity: u32,
    /// The size of a block, as a power of two; 0 if there is none.
    pub(in crate::fs) block_bits: u8,
}

/// What a mounted super block has.
#[pin_data]
pub(crate) struct State<T: FileSystem> {
    /// What is closed while the shape changes.
    #[pin]
    gate: Gate,
    /// What is replaced as a whole.
    pub(in crate::fs) shape: Snapshot<T::Shape>,
    #[pin]
    data: T::Data,
}

impl<T: FileSystem> State<T> {
    /// That of a super block in which `depth` file systems are stacked. Who waits for its gate is
    /// counted in `waits`.
    pub(crate) fn new(
        depth: i32,
        waits: Arc<Waits>,
        shape: Arc<T::Shape>,
        data: impl PinInit<T::Data, Error>,
    ) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            try_pin_init!(State {
                gate <- Gate::new(depth, waits),
                shape: Snapshot::new(shape),
                data <- data,
            }),
            GFP_KERNEL,
        )
    }
}

/// The errors of writing back that a foreign super block has had: which of them were told.
pub(crate) struct WriteErrors(Atomic<u32>);

impl WriteErrors {
    /// From now on; one that nobody was told of yet counts.
    pub(crate) fn of(mount: &Mount) -> Self {
        // SAFETY: The super block is valid.
        WriteErrors(Atomic::new(unsafe {
            bindings::errseq_sample(&raw mut (*mount.sb_ptr()).s_wb_err)
        }))
    }

    /// The error that came last, if any came since this was asked the last time.
    pub(crate) fn check(&self, mount: &Mount) -> Result {
        let mut told = self.0.load(Relaxed);
        // SAFETY: Both words are valid, the second one is our own. Of two callers at once both may
        // be told, which tells `tell_write_error()` the same twice.
        let ret = unsafe {
            bindings::errseq_check_and_advance(&raw mut (*mount.sb_ptr()).s_wb_err, &mut told)
        };
        self.0.store(told, Relaxed);
        crate::fs::base::ret::to_result(ret)
    }
}

/// Brings the file system of `sb` to disk.
///
/// # Safety
///
/// `sb` must be valid, and no `s_umount` of a file system stacked below it may be held.
pub(in crate::fs) unsafe fn sync_foreign(sb: *mut bindings::super_block) -> Result {
    // SAFETY: Valid by the caller's contract; ours ranks above foreign super blocks.
    unsafe {
        bindings::down_read(&mut (*sb).s_umount);
        let ret = bindings::sync_filesystem(sb);
        bindings::up_read(&mut (*sb).s_umount);
        crate::fs::base::ret::to_result(ret)
    }
}
