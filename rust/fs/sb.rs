// SPDX-License-Identifier: GPL-2.0

//! Super blocks of ours.
//!
//! # Invariants
//!
//! `s_fs_info` of a mounted super block comes from a `KBox` of
//! [`FileSystem::Data`]; it is set before the root inode is made and freed after
//! `kill_anon_super()`, when no inode is left. While `fill_super()` runs and
//! before that point nobody can reach the super block.

use super::{
    context::Context,
    dentry::{
        self,
        Dentry, //
    },
    inode::{
        Inode,
        Private, //
    },
    seq::Seq,
    statfs::Statfs,
    xattr,
    FileSystem,
    Mountable,
    Registration, //
};
use crate::bindings;
use crate::mem_cache::InodeCache;
use core::{
    marker::PhantomData,
    pin::Pin, //
};
use kernel::{
    error::from_result,
    prelude::*,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    },
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

    /// The state of the file system.
    pub(crate) fn data(&self) -> &T::Data {
        // SAFETY: By the type invariant it is a live `KBox` of the type.
        unsafe { &*(*self.as_ptr()).s_fs_info.cast() }
    }
}

/// The most file systems that may be stacked.
pub(crate) const MAX_STACK_DEPTH: i32 = bindings::RUAUFS_MAX_STACK_DEPTH;

/// A number that is nobody else's.
pub(crate) fn random_id() -> u64 {
    // SAFETY: Always callable.
    unsafe { bindings::ruaufs_helper_random() }
}

/// What a super block is to look like, and its state.
pub(crate) struct Mounted<T: FileSystem> {
    /// State, reachable by [`SuperBlock::data`].
    pub(crate) data: Pin<KBox<T::Data>>,
    /// Number of stacked file systems, this one included.
    pub(crate) stack_depth: i32,
    /// The largest file size.
    pub(crate) max_bytes: i64,
    /// The granularity of time stamps in nanoseconds.
    pub(crate) time_granularity: u32,
    /// Whether cached names are revalidated.
    pub(crate) revalidate: bool,
}

/// Callbacks on the super block.
pub(crate) trait Operations: FileSystem {
    /// The root directory of a super block whose state is in place.
    fn root(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// statfs(2).
    fn statfs(dentry: &Dentry<Self>) -> Result<Statfs>;

    /// syncfs(2) and unmount: brings all data to disk.
    fn sync(sb: &SuperBlock<Self>) -> Result;

    /// The last mount is gone: gives up what refers to inodes of the super block itself.
    fn unmount(sb: &SuperBlock<Self>);

    /// The options of the mount, as `/proc/mounts` shows them, each with a leading comma.
    fn show_options(root: &Dentry<Self>, out: &Seq<'_>) -> Result;
}

/// `super_operations` of `T`.
pub(super) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    const OPERATIONS: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Self::alloc_inode),
        destroy_inode: Some(Self::destroy_inode),
        free_inode: Some(Self::free_inode),
        sync_fs: Some(Self::sync_fs),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        ..pin_init::zeroed()
    };

    /// Makes the super block what `mounted` says and gives it a root.
    pub(super) fn fill(
        context: &Context<'_>,
        sb: *mut bindings::super_block,
        options: &mut T::Options,
    ) -> Result {
        // SAFETY: The super block is of a type of ours, which cannot go while it is being made.
        let global = unsafe { Registration::<T>::global_of((*sb).s_type) };
        let mounted = T::mount(context, global, options)?;
        // SAFETY: Nobody else can reach the super block yet.
        unsafe {
            (*sb).s_magic = T::MAGIC as c_ulong;
            (*sb).s_op = &Self::OPERATIONS;
            (*sb).s_xattr = xattr::Table::<T>::HANDLERS.as_ptr();
            (*sb).s_stack_depth = mounted.stack_depth;
            (*sb).s_maxbytes = mounted.max_bytes;
            (*sb).s_time_gran = mounted.time_granularity;
            // Times of access are kept by the branches; the VFS only asks us (`update_time`).
            (*sb).s_flags |= bindings::RUAUFS_SB_POSIXACL
                | bindings::RUAUFS_SB_NOATIME
                | bindings::RUAUFS_SB_NODIRATIME
                // A file without set-id bits and capabilities is remembered as such, which
                // spares each write a look; whoever changes these forgets it.
                | bindings::RUAUFS_SB_NOSEC;
            // The umask is applied where the object is made, as default ACLs decide about it.
            (*sb).s_iflags |= bindings::RUAUFS_SB_I_NOUMASK
                | bindings::RUAUFS_SB_I_SKIP_SYNC
                | bindings::RUAUFS_SB_I_EVM_HMAC_UNSUPPORTED;
            bindings::set_default_d_op(
                sb,
                if mounted.revalidate {
                    &dentry::Table::<T>::CHECKED
                } else {
                    &dentry::Table::<T>::UNCHECKED
                },
            );
            // INVARIANT: Freed in `kill_sb` only.
            (*sb).s_fs_info = mounted.data.into_foreign().cast();
            let root = T::root(SuperBlock::from_raw(sb))?;
            // `d_make_root()` consumes the inode, also when it fails.
            (*sb).s_root = bindings::d_make_root(ARef::into_raw(root).as_ptr().cast());
            if (*sb).s_root.is_null() {
                return Err(ENOMEM);
            }
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called once per super block, when nobody uses it any more.
    pub(super) unsafe extern "C" fn kill_sb(sb: *mut bindings::super_block) {
        // SAFETY: By the invariant of the module, `s_fs_info` is set unless `fill()` failed early.
        unsafe {
            if !(*sb).s_fs_info.is_null() {
                T::unmount(SuperBlock::from_raw(sb));
            }
        }
        // SAFETY: Valid by the contract of the callback. It evicts all inodes.
        unsafe { bindings::kill_anon_super(sb) };
        // SAFETY: By the invariant of the module it is null or from `KBox::into_raw`.
        unsafe {
            let data: *mut T::Data = (*sb).s_fs_info.cast();
            if !data.is_null() {
                drop(Pin::<KBox<T::Data>>::from_foreign(data.cast()));
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with a super block of ours.
    unsafe extern "C" fn alloc_inode(sb: *mut bindings::super_block) -> *mut bindings::inode {
        // SAFETY: Super blocks with this table are mounted through `Registration<T>`.
        unsafe { Registration::<T>::cache_of(sb).alloc(sb) }
    }

    /// # Safety
    ///
    /// Called by the VFS when the last reference to an inode of ours is gone.
    unsafe extern "C" fn destroy_inode(inode: *mut bindings::inode) {
        // SAFETY: An inode of ours; its memory is still there.
        unsafe { Inode::<T>::from_raw(inode) }.data().release();
    }

    /// # Safety
    ///
    /// Called by RCU a grace period after `destroy_inode`; must not sleep.
    unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        // SAFETY: Allocated by `alloc_inode`; nobody uses it any more.
        unsafe { InodeCache::<T>::free(inode) };
    }

    /// # Safety
    ///
    /// Called by the VFS with `s_umount` held.
    unsafe extern "C" fn sync_fs(sb: *mut bindings::super_block, wait: c_int) -> c_int {
        from_result(|| {
            // sync(2) visits the super blocks of the branches by itself; syncfs(2) comes twice.
            if wait != 0 {
                // SAFETY: A super block of ours; mounted, so `s_fs_info` is set.
                T::sync(unsafe { SuperBlock::from_raw(sb) })?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with a dentry of ours and a buffer to fill.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            // The kernel crate declares `kstatfs` opaque; it is the one of our bindings.
            unsafe { *buf.cast() = T::statfs(Dentry::from_raw(dentry))?.into_raw() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the root of a mount of ours.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            unsafe { T::show_options(Dentry::from_raw(root), &Seq::from_raw(seq))? };
            Ok(0)
        })
    }
}

/// Brings the file system of `sb` to disk.
///
/// # Safety
///
/// `sb` must be valid, and no `s_umount` of a file system stacked below it may be held.
pub(super) unsafe fn sync_foreign(sb: *mut bindings::super_block) -> Result {
    // SAFETY: Valid by the caller's contract; ours ranks above foreign super blocks.
    unsafe {
        bindings::down_read(&mut (*sb).s_umount);
        let ret = bindings::sync_filesystem(sb);
        bindings::up_read(&mut (*sb).s_umount);
        kernel::error::to_result(ret)
    }
}
