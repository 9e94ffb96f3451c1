// SPDX-License-Identifier: GPL-2.0

//! `struct super_operations`, and how a super block is filled and killed.
//!
//! # Invariants
//!
//! `s_fs_info` of a mounted super block comes from a `KBox` of
//! [`FileSystem::Data`](crate::fs::types::FileSystem::Data); it is set before the root inode is
//! made and freed after `kill_anon_super()`, when no inode is left. While `fill_super()` runs and
//! before that point nobody can reach the super block.

use super::{
    dentry_ops,
    export_ops,
    registered::Registration,
    xattr_ops, //
};
use crate::bindings;
use crate::fs::{
    base::{
        seats::Doing,
        seq::Seq, //
    },
    objects::{
        dentry::{
            self,
            Dentry, //
        },
        inode::Inode,
        inode_cache::InodeCache,
        ours::Dying,
        sb::{
            State,
            SuperBlock, //
        },
        section::Alone, //
    },
    operations::{
        context::Context,
        mountable::Mountable, //
    }, //
};
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr, //
};
use kernel::{
    error::from_result,
    prelude::*,
    sync::aref::ARef,
    types::ForeignOwnable, //
};

/// `super_operations` of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

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
    pub(in crate::fs) fn fill(
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
            (*sb).s_xattr = xattr_ops::Table::<T>::HANDLERS.as_ptr();
            let handles: &'static bindings::export_operations = &export_ops::Table::<T>::OPERATIONS;
            (*sb).s_export_op = ptr::from_ref(handles).cast();
            (*sb).s_stack_depth = mounted.stack_depth;
            SuperBlock::<T>::from_raw(sb).set_limits(mounted.limits);
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
            bindings::set_default_d_op(sb, &dentry_ops::Table::<T>::OPERATIONS);
            bindings::ruaufs_helper_sb_set_checked(sb, mounted.revalidate);
            // INVARIANT: Freed in `kill_sb` only.
            (*sb).s_fs_info = mounted.state.into_foreign().cast();
            // Nobody else can reach the super block yet.
            let root = T::root(context, options, &Alone::new(SuperBlock::from_raw(sb)))?;
            if !ptr::eq(root.sb_ptr(), sb) || !root.is_dir() {
                return Err(EIO);
            }
            // `d_make_root()` consumes the inode, also when it fails.
            (*sb).s_root = bindings::d_make_root(ARef::into_raw(root).as_ptr().cast());
            if (*sb).s_root.is_null() {
                return Err(ENOMEM);
            }
            dentry::Dentry::<T>::from_raw((*sb).s_root).hide_real();
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called once per super block, when nobody uses it any more.
    pub(in crate::fs) unsafe extern "C" fn kill_sb(sb: *mut bindings::super_block) {
        // SAFETY: By the invariant of the module, `s_fs_info` is set unless `fill()` failed early.
        unsafe {
            if !(*sb).s_fs_info.is_null() {
                // `s_umount` is held exclusively (`deactivate_locked_super()`).
                T::unmount(&Alone::new(SuperBlock::from_raw(sb)));
            }
        }
        // SAFETY: Valid by the contract of the callback. It evicts all inodes.
        unsafe { bindings::kill_anon_super(sb) };
        // SAFETY: By the invariant of the module it is null or from `KBox::into_raw`.
        unsafe {
            let state: *mut State<T> = (*sb).s_fs_info.cast();
            if !state.is_null() {
                drop(Pin::<KBox<State<T>>>::from_foreign(state.cast()));
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
        // SAFETY: An inode of ours; its memory is still there until `free_inode()`.
        let dying = unsafe { Dying::new(Inode::<T>::from_raw(inode)) };
        T::dies(&dying);
        dying.release();
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
            unsafe {
                let dentry = Dentry::<T>::from_raw(dentry);
                let _sitting = dentry.sb().sit(Doing::Look);
                let reading = dentry.sb().read();
                *buf.cast() = T::statfs(reading.section())?.into_raw();
            }
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
            unsafe {
                let root = Dentry::<T>::from_raw(root);
                let reading = root.sb().read();
                T::show_options(reading.section(), &Seq::from_raw(seq))?;
            }
            Ok(0)
        })
    }
}
