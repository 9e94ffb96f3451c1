// SPDX-License-Identifier: GPL-2.0

//! Super blocks of ours.
//!
//! # Invariants
//!
//! `s_fs_info` of a mounted super block comes from a `KBox` of
//! [`State`]; it is set before the root inode is made and freed after
//! `kill_anon_super()`, when no inode is left. While `fill_super()` runs and
//! before that point nobody can reach the super block.

use super::{
    dentry::{
        self,
        Dentry, //
    },
    inode::{
        Dying,
        Inode, //
    },
    inode_cache::InodeCache,
    path::Mount,
    section::{
        Alone,
        Section, //
    }, //
};
use crate::bindings;
use crate::fs::{
    access::{
        export,
        statfs::Statfs,
        xattr, //
    },
    base::{
        gate::{
            Doing,
            Gate,
            Snapshot,
            Waits, //
        },
        seq::Seq, //
    },
    callbacks::context::Context,
    FileSystem,
    Mountable,
    Registration, //
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
    error::from_result,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
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

/// What a super block is to look like, and its state.
pub(crate) struct Mounted<T: FileSystem> {
    /// State, see [`SuperBlock::data`].
    pub(crate) state: Pin<KBox<State<T>>>,
    /// Number of stacked file systems, this one included.
    pub(crate) stack_depth: i32,
    /// What it says about its files.
    pub(crate) limits: Limits,
    /// Whether cached names are revalidated.
    pub(crate) revalidate: bool,
}

/// Callbacks on the super block.
pub(crate) trait Operations: crate::fs::callbacks::context::Operations {
    /// The root directory of a super block whose state is in place: the last step of a mount.
    fn root(
        context: &Context<'_>,
        options: &mut Self::Options,
        alone: &Alone<'_, Self>,
    ) -> Result<ARef<Inode<Self>>>;

    /// statfs(2).
    fn statfs(section: Section<'_, Self>) -> Result<Statfs>;

    /// syncfs(2) and unmount: brings all data to disk. Runs outside the gate, since it waits for
    /// `s_umount` of foreign super blocks.
    fn sync(sb: &SuperBlock<Self>) -> Result;

    /// The last mount is gone: gives up what refers to inodes of the super block itself.
    fn unmount(alone: &Alone<'_, Self>);

    /// The last reference to an inode is gone: gives up its references to other objects, but for
    /// those of its stack, which end next. Walks under RCU may still look at what is built for
    /// them; memory is freed by `Drop` of the data beside the inode, after a grace period of RCU,
    /// in a context that must not sleep.
    fn dies(dying: &Dying<'_, Self>);

    /// The options of the mount, as `/proc/mounts` shows them, each with a leading comma.
    fn show_options(section: Section<'_, Self>, out: &Seq<'_>) -> Result;
}

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
            (*sb).s_xattr = xattr::Table::<T>::HANDLERS.as_ptr();
            let handles: &'static bindings::export_operations = &export::Table::<T>::OPERATIONS;
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
            bindings::set_default_d_op(sb, &dentry::Table::<T>::OPERATIONS);
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
