// SPDX-License-Identifier: GPL-2.0

//! Inodes: what ours and those of other file systems have in common.
//!
//! # Terms
//!
//! - [`Inode<T>`]: `struct inode`. With `T: FileSystem` it is one of ours and
//!   [`Inode::data`] reaches the Rust half of its slab object ([`ours`](super::ours)).
//!
//! # Locking
//!
//! `i_rwsem` is taken by the VFS for our inodes in most callbacks;
//! [`Inode::lock`] is for the callbacks that get it unlocked (write, fallocate).
//!
//! # Invariants
//!
//! Each non-bad inode of ours carries initialised data: made in `alloc_inode()`,
//! references to other objects given up in `destroy_inode()`
//! ([`Dying`](super::ours::Dying)), memory freed in `free_inode()`, a grace period later.

use super::{
    dentry::Dentry,
    time::{
        ChangeTime,
        Stamp, //
    }, //
};
use crate::bindings;
use crate::fs::{
    base::{
        name::CBytes,
        ret::from_err_ptr, //
    },
    types::{
        FileSystem,
        Foreign, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
    sync::atomic::{
        fence,
        Ordering, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::AlwaysRefCounted,
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// The type of an inode (`S_IFMT`), as far as behaviour depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A device node, named pipe or socket.
    Special,
}

impl Kind {
    /// The kind that `mode` says.
    pub(crate) fn of(mode: u16) -> Self {
        match u32::from(mode) & bindings::S_IFMT {
            bindings::S_IFDIR => Kind::Dir,
            bindings::S_IFREG => Kind::Regular,
            bindings::S_IFLNK => Kind::Symlink,
            _ => Kind::Special,
        }
    }
}

/// Where an inode lies, for comparison with one that is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(in crate::fs) *mut bindings::inode);

// SAFETY: It is compared, and never followed.
unsafe impl Send for Address {}

// SAFETY: As above.
unsafe impl Sync for Address {}

/// An inode that is looked at without a reference, in a walk under RCU. It may be about to go, so
/// it offers comparison and plain reads only.
///
/// # Invariants
///
/// The memory of the inode stays for `'a`.
pub(crate) struct SeenInode<'a, T = Foreign>(&'a Inode<T>);

impl<T> Clone for SeenInode<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SeenInode<'_, T> {}

impl<'a, T> SeenInode<'a, T> {
    /// # Safety
    ///
    /// `ptr` must be an inode of the file system that `T` says, whose memory stays for `'a`.
    #[inline]
    pub(in crate::fs) unsafe fn from_raw(ptr: *mut bindings::inode) -> Self {
        // INVARIANT: By the caller's contract.
        // SAFETY: As above. The reference stays in here, so that nobody counts it.
        SeenInode(unsafe { Inode::from_raw(ptr) })
    }

    /// Whether both are the same, by identity.
    #[inline]
    pub(in crate::fs) fn is_same(self, other: Self) -> bool {
        ptr::eq(self.0, other.0)
    }

    /// As [`Inode::nlink`].
    pub(crate) fn nlink(self) -> u32 {
        self.0.nlink()
    }

    /// As [`Inode::is_dir`].
    pub(crate) fn is_dir(self) -> bool {
        self.0.is_dir()
    }
}

impl<'a, T: FileSystem> SeenInode<'a, T> {
    /// The data beside the inode.
    #[inline]
    pub(crate) fn data(self) -> &'a T::Inode {
        self.0.data()
    }

    /// As [`Inode::attr_moved`].
    #[inline]
    pub(crate) fn attr_moved(self, from: SeenInode<'_>) -> bool {
        self.0.attr_moved(from.0)
    }

    /// As [`Inode::confirm_attr`].
    #[cold]
    pub(crate) fn confirm_attr(self, from: SeenInode<'_>) -> bool {
        self.0.confirm_attr(from.0)
    }
}

/// `struct inode`.
///
/// # Invariants
///
/// Instances are refcounted by `ihold()`/`iput()`, and no reference outlives the super block, which
/// whoever keeps one sees to. If `T` is a [`FileSystem`], the inode was
/// allocated by its `InodeCache`, and what lies beside it is initialised.
#[repr(transparent)]
pub(crate) struct Inode<T = Foreign>(Opaque<bindings::inode>, PhantomData<fn() -> T>);

// SAFETY: Inodes are shared between CPUs by design; fields read here are stable or racy by design
// (single words).
unsafe impl<T> Send for Inode<T> {}

// SAFETY: As above.
unsafe impl<T> Sync for Inode<T> {}

// SAFETY: `ihold()`/`iput()` count references.
unsafe impl<T> AlwaysRefCounted for Inode<T> {
    fn inc_ref(&self) {
        // SAFETY: `&self` shows that there is a reference.
        unsafe { bindings::ihold(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference of its own.
        unsafe { bindings::iput(obj.as_ptr().cast()) };
    }
}

impl<T> Inode<T> {
    /// # Safety
    ///
    /// `ptr` must be a valid inode for `'a`, of the file system that `T` says.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: `repr(transparent)`; valid by the caller's contract.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// The inode number in its file system.
    pub(crate) fn ino(&self) -> u64 {
        // SAFETY: Set before the inode is published.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// Type and permission bits. The type never changes, the bits may at any time.
    #[inline]
    pub(crate) fn mode(&self) -> u16 {
        // SAFETY: A racy read of one word, as all of the VFS does it.
        unsafe { (&raw const (*self.as_ptr()).i_mode).read_volatile() }
    }

    /// Whether it is a block device.
    pub(crate) fn is_block_device(&self) -> bool {
        u32::from(self.mode()) & bindings::S_IFMT == bindings::S_IFBLK
    }

    /// Whether a dentry leads to it.
    pub(in crate::fs) fn has_alias(&self) -> bool {
        // SAFETY: The inode is valid; a racy read of one word.
        let first = unsafe {
            (&raw const (*self.as_ptr()).__bindgen_anon_2.i_dentry.first).read_volatile()
        };
        !first.is_null()
    }

    /// Where it lies.
    #[inline]
    pub(crate) fn address(&self) -> Address {
        Address(self.as_ptr())
    }

    /// What behaviour follows from the type.
    pub(crate) fn kind(&self) -> Kind {
        Kind::of(self.mode())
    }

    /// Whether it is a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == Kind::Dir
    }

    /// The link count (racy).
    pub(crate) fn nlink(&self) -> u32 {
        // SAFETY: A racy read of one word.
        unsafe { (&raw const (*self.as_ptr()).__bindgen_anon_1.__i_nlink).read_volatile() }
    }

    /// The device number of a device node.
    pub(crate) fn rdev(&self) -> u32 {
        // SAFETY: Set before the inode is published.
        unsafe { (*self.as_ptr()).i_rdev }
    }

    /// Whether owner, group and mode are those of `other`.
    pub(crate) fn looks_like<U>(&self, other: &Inode<U>) -> bool {
        self.mode() == other.mode() && self.has_owner_of(other)
    }

    /// Whether owner and group are those of `other`.
    pub(crate) fn has_owner_of<U>(&self, other: &Inode<U>) -> bool {
        // SAFETY: Racy reads of single words.
        let owner = |inode: *mut bindings::inode| unsafe {
            (
                (&raw const (*inode).i_uid.val).read_volatile(),
                (&raw const (*inode).i_gid.val).read_volatile(),
            )
        };
        owner(self.as_ptr()) == owner(other.as_ptr())
    }

    /// Whether the owner, whatever the group, is that of `other`.
    pub(crate) fn has_user_of<U>(&self, other: &Inode<U>) -> bool {
        // SAFETY: Racy reads of single words.
        let user = |inode: *mut bindings::inode| unsafe {
            (&raw const (*inode).i_uid.val).read_volatile()
        };
        user(self.as_ptr()) == user(other.as_ptr())
    }

    /// The generation of the inode number: another one when the number is used again.
    pub(crate) fn generation(&self) -> u32 {
        // SAFETY: Set before the inode is published.
        unsafe { (*self.as_ptr()).i_generation }
    }

    /// Seconds and nanoseconds of the last change of contents (racy).
    pub(crate) fn mtime(&self) -> (i64, u32) {
        let inode = self.as_ptr();
        // SAFETY: Racy reads of single words.
        unsafe {
            (
                (&raw const (*inode).i_mtime_sec).read_volatile(),
                (&raw const (*inode).i_mtime_nsec).read_volatile(),
            )
        }
    }

    /// The size in bytes.
    #[cfg(CONFIG_64BIT)]
    #[inline]
    pub(crate) fn size(&self) -> i64 {
        // SAFETY: The inode is valid by the type invariant. What is a word is read as
        // `i_size_read()` does it.
        let size = unsafe { (&raw const (*self.as_ptr()).i_size).read_volatile() };
        fence(Ordering::Acquire);
        size
    }

    /// The size in bytes.
    #[cfg(not(CONFIG_64BIT))]
    pub(crate) fn size(&self) -> i64 {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::ruaufs_helper_i_size_read(self.as_ptr()) }
    }

    /// The super block: equal for objects of one file system.
    pub(crate) fn sb_ptr(&self) -> *mut bindings::super_block {
        // SAFETY: `i_sb` never changes.
        unsafe { (*self.as_ptr()).i_sb }
    }

    /// Whether the super block uses POSIX ACLs.
    pub(crate) fn has_acls(&self) -> bool {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::ruaufs_helper_is_posixacl(self.as_ptr()) }
    }

    /// The seconds of the change time.
    #[inline]
    pub(super) fn change_seconds(&self) -> i64 {
        // SAFETY: A racy read of one word. A torn pair with the nanoseconds can only make times
        // differ that would be equal a moment later, or be equal to one that was true a moment ago.
        unsafe { (&raw const (*self.as_ptr()).i_ctime_sec).read_volatile() }
    }

    /// The nanoseconds of the change time, with the mark that the VFS or, in an inode of ours,
    /// [`Inode::copy_attr`] left.
    #[inline]
    pub(super) fn marked_nanoseconds(&self) -> u32 {
        // SAFETY: As above.
        unsafe { (&raw const (*self.as_ptr()).i_ctime_nsec).read_volatile() }
    }

    /// The change time.
    #[inline]
    pub(crate) fn change_time(&self) -> ChangeTime {
        ChangeTime {
            seconds: self.change_seconds(),
            nanoseconds: self.marked_nanoseconds() & !bindings::RUAUFS_I_CTIME_QUERIED,
        }
    }

    /// Change time and version, for comparison.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            ctime: self.change_time(),
            version: self.version(),
        }
    }

    /// Whether its stamp is `stamp`.
    #[inline]
    pub(crate) fn has_stamp(&self, stamp: &Stamp) -> bool {
        // Word by word, as most that differ do so in the first.
        let ctime = stamp.ctime;
        self.change_seconds() == ctime.seconds
            && self.marked_nanoseconds() & !bindings::RUAUFS_I_CTIME_QUERIED == ctime.nanoseconds
            && self.version() == stamp.version
    }

    /// The version, for comparison.
    #[inline]
    fn version(&self) -> i64 {
        // Looking at the version sets the bit; reading a directory of ext4 does.
        // SAFETY: A racy read of one word.
        unsafe {
            (&raw const (*self.as_ptr()).i_version.counter).read_volatile()
                & !bindings::RUAUFS_I_VERSION_QUERIED
        }
    }

    /// Whether a shared mapping of it may be written.
    pub(crate) fn is_mapped_writably(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::ruaufs_helper_is_mapped_writably(self.as_ptr()) }
    }

    /// Marks a directory as one that a mount writes, as overlayfs does with its own. Whether it
    /// had no such mark.
    pub(crate) fn set_in_use(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::ruaufs_helper_set_in_use(self.as_ptr()) }
    }

    /// Takes the mark away, which the caller has set.
    pub(crate) fn clear_in_use(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::ruaufs_helper_clear_in_use(self.as_ptr()) };
    }

    /// The number of references to it (racy).
    pub(crate) fn references(&self) -> u32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::ruaufs_helper_icount(self.as_ptr()) }
    }

    /// Whether somebody has it open for writing.
    pub(crate) fn is_open_for_write(&self) -> bool {
        // SAFETY: A racy read of one word, as `inode_is_open_for_write()` does it.
        unsafe { (&raw const (*self.as_ptr()).i_writecount.counter).read_volatile() > 0 }
    }

    /// Whether its last change is so long ago that the next one will have another time.
    pub(crate) fn is_settled(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::ruaufs_helper_is_settled(self.as_ptr()) }
    }

    /// Whether it is a directory that was removed.
    pub(crate) fn is_dead_dir(&self) -> bool {
        // SAFETY: The inode is valid; a racy read of one word.
        unsafe { bindings::ruaufs_helper_is_dead_dir(self.as_ptr()) }
    }

    /// Makes the next change of it have a change time of its own, however soon it comes. Whether
    /// that is sure.
    pub(crate) fn watch(&self) -> bool {
        // SAFETY: The inode is valid; the helper sets a flag atomically.
        unsafe { bindings::ruaufs_helper_watch(self.as_ptr()) }
    }

    /// The stamp of a directory that is about to be listed, if each change from now on is sure to
    /// show in it.
    pub(crate) fn lasting_stamp(&self) -> Option<Stamp> {
        let before = self.stamp();
        let shows = self.watch();
        // A change in between may have had the old time still, or taken the flag away again.
        let stamp = self.stamp();
        (shows && stamp == before).then_some(stamp)
    }

    /// Locks `i_rwsem` exclusively until the guard is dropped.
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::ruaufs_helper_inode_lock(self.as_ptr()) };
        // INVARIANT: Just locked.
        Locked(self, NotThreadSafe)
    }

    /// As [`Inode::lock`]; `EINTR` if the task is killed while it waits.
    pub(crate) fn lock_killable(&self) -> Result<Locked<'_, T>> {
        // SAFETY: The inode is valid by the type invariant.
        let ret = unsafe { bindings::ruaufs_helper_inode_lock_killable(self.as_ptr()) };
        crate::fs::base::ret::to_result(ret)?;
        // INVARIANT: Just locked.
        Ok(Locked(self, NotThreadSafe))
    }

    /// Says where `i_rwsem` must be held exclusively; the debug kernel checks it.
    pub(crate) fn assert_locked(&self) {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::ruaufs_helper_assert_locked(self.as_ptr()) };
    }

    /// Whether it is immutable or append-only.
    pub(crate) fn is_protected(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::ruaufs_helper_is_protected(self.as_ptr()) }
    }

    /// Keeps everybody from opening it for writing (`ETXTBSY`) until the guard is dropped.
    /// `ETXTBSY` if somebody has done so.
    pub(crate) fn deny_writers(&self) -> Result<NoWriters<'_, T>> {
        // SAFETY: The inode is valid by the type invariant.
        let ret = unsafe { bindings::ruaufs_helper_deny_write_access(self.as_ptr()) };
        crate::fs::base::ret::to_result(ret)?;
        // INVARIANT: Just lowered.
        Ok(NoWriters(self))
    }

    /// Takes write access to the data (`ETXTBSY` while it is executed) until the guard is
    /// dropped.
    pub(crate) fn write_access(&self) -> Result<DataAccess<'_, T>> {
        // SAFETY: The inode is valid by the type invariant.
        let ret = unsafe { bindings::ruaufs_helper_get_write_access(self.as_ptr()) };
        crate::fs::base::ret::to_result(ret as c_int)?;
        // INVARIANT: Just taken.
        Ok(DataAccess(self))
    }
}

/// The text of the foreign symbolic link `dentry`.
pub(crate) fn link_text(dentry: &Dentry) -> Result<CBytes> {
    let mut done = bindings::delayed_call::default();
    // SAFETY: The dentry is valid; the text stays until the delayed call is made.
    unsafe {
        let text = from_err_ptr(bindings::vfs_get_link(dentry.as_ptr(), &mut done).cast_mut())?;
        let copy = CBytes::new(CStr::from_char_ptr(text).to_bytes());
        if let Some(f) = done.fn_ {
            f(done.arg);
        }
        copy
    }
}

/// `i_rwsem` of an inode, held exclusively.
///
/// # Invariants
///
/// The lock is held by this task.
pub(crate) struct Locked<'a, T>(&'a Inode<T>, NotThreadSafe);

impl<T> Locked<'_, T> {
    /// The inode.
    #[inline]
    pub(in crate::fs) fn inode(&self) -> &Inode<T> {
        self.0
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_inode_unlock(self.0.as_ptr()) };
    }
}

/// The flags of an inode that forbid changes (immutable, append-only), lifted in memory. On disk
/// they stay, so an interruption does no harm.
///
/// # Invariants
///
/// `ruaufs_helper_lift_flags()` lifted those of this inode, which is locked.
pub(in crate::fs) struct Lifted(NonNull<bindings::inode>, NotThreadSafe);

impl Lifted {
    /// `None` if there are no such flags.
    ///
    /// # Safety
    ///
    /// The inode must be valid, and its `i_rwsem` held exclusively by this task until the value is
    /// dropped.
    pub(in crate::fs) unsafe fn new(inode: NonNull<bindings::inode>) -> Option<Self> {
        // SAFETY: By the caller's contract.
        let lifted = unsafe { bindings::ruaufs_helper_lift_flags(inode.as_ptr()) };
        // INVARIANT: Just lifted.
        lifted.then(|| Lifted(inode, NotThreadSafe))
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_lower_flags(self.0.as_ptr()) };
    }
}

/// A negative `i_writecount` of an inode.
///
/// # Invariants
///
/// The count was lowered by one.
pub(crate) struct NoWriters<'a, T>(&'a Inode<T>);

impl<T> Drop for NoWriters<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_allow_write_access(self.0.as_ptr()) };
    }
}

/// A positive `i_writecount` of an inode.
///
/// # Invariants
///
/// The count was raised by one.
pub(crate) struct DataAccess<'a, T>(&'a Inode<T>);

impl<T> Drop for DataAccess<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_put_write_access(self.0.as_ptr()) };
    }
}
