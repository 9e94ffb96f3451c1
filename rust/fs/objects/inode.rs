// SPDX-License-Identifier: GPL-2.0

//! Inodes: ours, with data beside them, and those of other file systems.
//!
//! # Terms
//!
//! - [`Inode<T>`]: `struct inode`. With `T: FileSystem` it is one of ours and
//!   [`Inode::data`] reaches the Rust half of its slab object.
//! - [`New`]: an inode in state `I_NEW`: nobody else can use it yet.
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
//! ([`Dying`]), memory freed in `free_inode()`, a grace period later.

use super::{
    dentry::Dentry,
    inode_cache::InodeCell,
    overlay::Reals,
    path::IdMap,
    sb::SuperBlock,
    stack::StackCell, //
};
use crate::bindings;
use crate::fs::{
    base::{
        name::CBytes,
        ret::from_err_ptr, //
    },
    FileSystem,
    Foreign, //
};
use core::{
    convert::Infallible,
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
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// Data that a file system keeps beside each inode.
pub(crate) trait Private: Send + Sync + Sized {
    /// Initialises the data of a fresh inode of a super block in which `depth` file systems are
    /// stacked.
    fn init(depth: i32) -> impl PinInit<Self, Infallible>;

    /// What is known of the cached files of a directory.
    fn reals(&self) -> &Reals;
}

/// An inode whose last reference is gone, shown to the callback of `destroy_inode()`: nobody
/// looks at it any more but walks under RCU. It gives no [`Inode`], as no reference to it can be
/// taken again.
///
/// # Invariants
///
/// `destroy_inode()` runs for the inode, and `free_inode()` does not before the value is dropped.
pub(crate) struct Dying<'a, T: FileSystem>(&'a Inode<T>, NotThreadSafe);

impl<'a, T: FileSystem> Dying<'a, T> {
    /// # Safety
    ///
    /// `destroy_inode()` must run for `inode`, until the value is dropped.
    pub(in crate::fs) unsafe fn new(inode: &'a Inode<T>) -> Self {
        // INVARIANT: By the caller's contract.
        Dying(inode, NotThreadSafe)
    }

    /// The inode number.
    pub(crate) fn ino(&self) -> u64 {
        self.0.ino()
    }

    /// The link count.
    pub(crate) fn nlink(&self) -> u32 {
        self.0.nlink()
    }

    /// The data beside the inode.
    pub(crate) fn data(&self) -> &'a T::Inode {
        self.0.data()
    }

    /// The state of the super block.
    pub(crate) fn state(&self) -> &'a T::Data {
        self.0.sb().data()
    }

    /// The inode, for `fs` alone.
    pub(in crate::fs) fn inode(&self) -> &'a Inode<T> {
        self.0
    }
}

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

/// Those of a second.
const NANOSECONDS: i64 = 1_000_000_000;

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

/// An inode that is compared with what is looked for in the inode hash. It may be about to go, so
/// no reference to it can be taken; what it refers to stays for `'a`.
///
/// # Invariants
///
/// The lock of the inode hash is held for `'a`, or the inode is referenced for as long.
pub(crate) struct Candidate<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Clone for Candidate<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FileSystem> Copy for Candidate<'_, T> {}

impl<'a, T: FileSystem> Candidate<'a, T> {
    /// # Safety
    ///
    /// The type invariant must hold for the inode `ptr`.
    pub(in crate::fs) unsafe fn from_raw(ptr: *mut bindings::inode) -> Self {
        // INVARIANT: By the caller's contract.
        // SAFETY: As above. The reference stays in here, so that nobody counts it.
        Candidate(unsafe { Inode::from_raw(ptr) })
    }

    /// The inode, for `fs` alone.
    pub(in crate::fs) fn inode(self) -> &'a Inode<T> {
        self.0
    }

    /// The inode number.
    pub(crate) fn ino(self) -> u64 {
        self.0.ino()
    }

    /// The link count.
    pub(crate) fn nlink(self) -> u32 {
        self.0.nlink()
    }

    /// Whether it is a directory.
    pub(crate) fn is_dir(self) -> bool {
        self.0.is_dir()
    }
}

impl<'a, T: FileSystem> From<&'a Inode<T>> for Candidate<'a, T> {
    fn from(inode: &'a Inode<T>) -> Self {
        // INVARIANT: It is referenced.
        Candidate(inode)
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
    fn change_seconds(&self) -> i64 {
        // SAFETY: A racy read of one word. A torn pair with the nanoseconds can only make times
        // differ that would be equal a moment later, or be equal to one that was true a moment ago.
        unsafe { (&raw const (*self.as_ptr()).i_ctime_sec).read_volatile() }
    }

    /// The nanoseconds of the change time, with the mark that the VFS or, in an inode of ours,
    /// [`Inode::copy_attr`] left.
    #[inline]
    fn marked_nanoseconds(&self) -> u32 {
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

/// A time of the last change of an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeTime {
    pub(in crate::fs) seconds: i64,
    pub(in crate::fs) nanoseconds: u32,
}

impl ChangeTime {
    /// In one word, which is not 0. `None` if it is some centuries away.
    pub(crate) fn word(self) -> Option<u64> {
        let nanoseconds = i64::from(self.nanoseconds);
        let all = self
            .seconds
            .checked_mul(NANOSECONDS)?
            .checked_add(nanoseconds)?;
        // CAST: Turned so that the least, which is far in the past, is 0.
        Some(all as u64 ^ (1 << 63)).filter(|&word| word != 0)
    }

    /// Reverses [`ChangeTime::word`].
    pub(crate) fn of_word(word: u64) -> Self {
        // CAST: As there; a remainder is small.
        let all = (word ^ (1 << 63)) as i64;
        ChangeTime {
            seconds: all.div_euclid(NANOSECONDS),
            nanoseconds: all.rem_euclid(NANOSECONDS) as u32,
        }
    }

    /// This one, or the next one after `other` if that is not earlier.
    pub(crate) fn after(self, other: Self) -> Self {
        if self > other {
            return self;
        }
        other
            .word()
            .and_then(|word| word.checked_add(1))
            .map_or(other, Self::of_word)
    }
}

/// What tells whether a directory or file was changed since a look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Moves whenever the modification time does.
    ctime: ChangeTime,
    version: i64,
}

impl Stamp {
    /// The time in it, as one word.
    pub(crate) fn time(&self) -> u64 {
        // CAST: Only compared.
        (self.ctime.seconds as u64)
            .wrapping_mul(NANOSECONDS as u64)
            .wrapping_add(u64::from(self.ctime.nanoseconds))
    }

    /// The version in it, without the note of the VFS's that an inode read anew has.
    pub(crate) fn version(&self) -> u64 {
        // CAST: Only compared.
        (self.version as u64) >> 1
    }
}

impl<T: FileSystem> Inode<T> {
    /// A name of it, if one is cached.
    pub(crate) fn any_name(&self) -> Option<ARef<Dentry<T>>> {
        // SAFETY: The inode is valid; the call gives a reference or null.
        let dentry = unsafe { bindings::d_find_any_alias(self.as_ptr()) };
        // SAFETY: The reference is ours; an alias is of the same file system.
        NonNull::new(dentry).map(|dentry| unsafe { ARef::from_raw(dentry.cast()) })
    }

    /// A name of it that is in use and is not `except`.
    pub(crate) fn other_name(&self, except: &Dentry<T>) -> Option<ARef<Dentry<T>>> {
        // SAFETY: Both are valid; the call gives a reference or null.
        let dentry = unsafe { bindings::ruaufs_helper_other_name(self.as_ptr(), except.as_ptr()) };
        // SAFETY: The reference is ours; an alias is of the same file system.
        NonNull::new(dentry).map(|dentry| unsafe { ARef::from_raw(dentry.cast()) })
    }

    /// Where its stack is published.
    #[inline]
    pub(in crate::fs) fn cell(&self) -> &StackCell<T::Place> {
        let cell: *mut InodeCell<T> = self.as_ptr().cast();
        // SAFETY: By the type invariant it is a slab object of ours with an initialised cell.
        unsafe { &(*cell).stack }
    }

    /// The data beside the inode.
    #[inline]
    pub(crate) fn data(&self) -> &T::Inode {
        let cell: *mut InodeCell<T> = self.as_ptr().cast();
        // SAFETY: By the type invariant it is a slab object of ours with initialised data.
        unsafe { &(*cell).data }
    }

    /// The super block.
    pub(crate) fn sb(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariant; it is of the same file system.
        unsafe { SuperBlock::from_raw(self.sb_ptr()) }
    }

    /// Lets the cache forget it, and its names, as soon as nobody uses them.
    pub(crate) fn forget_soon(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::d_mark_dontcache(self.as_ptr()) };
    }

    /// Copies owner, mode, times and size of `from`, as seen through the mount of `idmap`.
    ///
    /// Where times are coarse, two changes within one tick may look like one. If the next change
    /// of `from` might not show, our change time is marked, and [`Inode::attr_moved`] holds until
    /// [`Inode::confirm_attr`] takes the mark away or attributes are copied again.
    pub(crate) fn copy_attr(&self, from: &Inode, idmap: IdMap<'_>) {
        self.copy_attr_after(from, idmap, false);
    }

    /// As [`Inode::copy_attr`], after a change by us, which may hide that others made one before:
    /// our change time is marked.
    pub(crate) fn copy_changed_attr(&self, from: &Inode, idmap: IdMap<'_>) {
        self.copy_attr_after(from, idmap, true);
    }

    fn copy_attr_after(&self, from: &Inode, idmap: IdMap<'_>, changed: bool) {
        // SAFETY: Both inodes are valid; the helper takes `i_lock` of ours.
        unsafe {
            bindings::ruaufs_helper_copy_attr(
                self.as_ptr(),
                from.as_ptr(),
                idmap.as_ptr(),
                changed,
            );
        }
    }

    /// Copies the inode flags that bind users (immutable, append-only, ...).
    pub(crate) fn copy_flags(&self, from: &Inode) {
        // SAFETY: Both inodes are valid; `inode_set_flags()` is atomic.
        unsafe { bindings::ruaufs_helper_copy_flags(self.as_ptr(), from.as_ptr()) };
    }

    /// Whether attributes of `from` moved since they were copied, or may have without a trace. May
    /// be asked under RCU.
    #[inline]
    pub(crate) fn attr_moved(&self, from: &Inode) -> bool {
        // A marked time is no time of a branch's. Word by word: there are few registers to spare.
        self.change_seconds() != from.change_seconds()
            || self.marked_nanoseconds()
                != from.marked_nanoseconds() & !bindings::RUAUFS_I_CTIME_QUERIED
            || self.mode() != from.mode()
    }

    /// Attributes may have moved: whether `from` is as it was when they were copied, which is
    /// relied on from now on. May be asked under RCU.
    #[cold]
    pub(crate) fn confirm_attr(&self, from: &Inode) -> bool {
        // SAFETY: Both inodes are valid, or freed only when RCU read sections have ended; the
        // helper does not sleep, and what it changes are marks on times.
        unsafe { bindings::ruaufs_helper_confirm_attr(self.as_ptr(), from.as_ptr()) }
    }

    /// Whether times, mode or size of `from` are others than those that were copied: after a write
    /// by us, which changes nothing else.
    pub(crate) fn differs_by_write(&self, from: &Inode) -> bool {
        self.change_time() != from.change_time()
            || self.mode() != from.mode()
            || self.size() != from.size()
    }

    /// The change time that a change of it would have now.
    pub(crate) fn now(&self) -> ChangeTime {
        let (mut seconds, mut nanoseconds) = (0, 0);
        // SAFETY: The inode is valid; the helper fills in both.
        unsafe { bindings::ruaufs_helper_now(self.as_ptr(), &mut seconds, &mut nanoseconds) };
        ChangeTime {
            seconds,
            nanoseconds,
        }
    }

    /// Sets the link count that stat(2) shows.
    pub(crate) fn set_nlink(&self, nlink: u32) {
        // SAFETY: The inode is valid; the helper takes `i_lock`.
        unsafe { bindings::ruaufs_helper_set_nlink(self.as_ptr(), nlink, true) };
    }

    /// Sets the link count, unless the object has no name any more.
    pub(crate) fn update_nlink(&self, nlink: u32) {
        // SAFETY: As above.
        unsafe { bindings::ruaufs_helper_set_nlink(self.as_ptr(), nlink, false) };
    }

    /// Forgets cached ACLs; the next permission check asks for them.
    pub(crate) fn forget_acls(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::forget_all_cached_acls(self.as_ptr()) };
    }

    /// Takes over from `from`, which our inode stands for, that it has no ACL, if that is known
    /// there and nothing here.
    pub(crate) fn copy_no_acl(&self, from: &Inode) {
        // SAFETY: Both inodes are valid; the cached ACL is changed atomically.
        unsafe { bindings::ruaufs_helper_copy_no_acl(self.as_ptr(), from.as_ptr()) };
    }

    /// Forgets that there is nothing which a write takes away (set-id bits, capabilities).
    pub(crate) fn forget_nosec(&self) {
        // SAFETY: The inode is valid; the flags are changed atomically.
        unsafe { bindings::ruaufs_helper_forget_nosec(self.as_ptr()) };
    }

    /// The inode `number` of `sb`, if it is in memory.
    pub(crate) fn cached(sb: &SuperBlock<T>, number: u64) -> Option<ARef<Inode<T>>> {
        // SAFETY: The super block is valid. Only finished inodes of `T` are found.
        let inode = unsafe { bindings::ilookup(sb.as_ptr(), number) };
        // SAFETY: The reference is ours.
        NonNull::new(inode).map(|inode| unsafe { ARef::from_raw(inode.cast()) })
    }

    /// The cached inode for which `matches` holds among those with number `ino`, or a new one,
    /// which `fill` gives what `matches` looks at.
    ///
    /// Both run under the lock of the inode hash: they do not sleep.
    pub(crate) fn get<F: Fn(Candidate<'_, T>) -> bool, G: FnMut(&Inode<T>)>(
        sb: &SuperBlock<T>,
        ino: u64,
        matches: F,
        fill: G,
    ) -> Result<Got<T>> {
        struct Key<F, G> {
            ino: u64,
            matches: F,
            fill: G,
        }
        /// # Safety
        ///
        /// Called by `iget5_locked()` with an inode of our super block and our key.
        unsafe extern "C" fn test<T: FileSystem, F: Fn(Candidate<'_, T>) -> bool, G>(
            inode: *mut bindings::inode,
            key: *mut c_void,
        ) -> c_int {
            // SAFETY: `iget5_locked()` passes an inode of our super block and our key. The inode
            // may be about to go, but not as long as the lock of the hash is held.
            unsafe {
                let key = &*key.cast::<Key<F, G>>();
                c_int::from((*inode).i_ino == key.ino && (key.matches)(Candidate::from_raw(inode)))
            }
        }
        /// # Safety
        ///
        /// Called by `iget5_locked()` with a fresh inode and our key.
        unsafe extern "C" fn set<T: FileSystem, F, G: FnMut(&Inode<T>)>(
            inode: *mut bindings::inode,
            key: *mut c_void,
        ) -> c_int {
            // SAFETY: `iget5_locked()` passes a fresh inode and our key.
            unsafe {
                let key = &mut *key.cast::<Key<F, G>>();
                (*inode).i_ino = key.ino;
                (key.fill)(Inode::from_raw(inode));
            }
            0
        }
        let mut key = Key { ino, matches, fill };
        // SAFETY: `sb` is valid; the callbacks fit the key, which outlives the call.
        let inode = unsafe {
            bindings::iget5_locked(
                sb.as_ptr(),
                ino,
                Some(test::<T, F, G>),
                Some(set::<T, F, G>),
                (&raw mut key).cast(),
            )
        };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: The reference that `iget5_locked()` returned is ours.
        let inode: ARef<Self> = unsafe { ARef::from_raw(inode.cast()) };
        // SAFETY: The inode is valid.
        if unsafe { bindings::ruaufs_helper_inode_is_new(inode.as_ptr()) } {
            // INVARIANT: `I_NEW` is set, so only we use it.
            Ok(Got::New(New(inode)))
        } else {
            Ok(Got::Cached(inode))
        }
    }
}

/// What [`Inode::get`] found.
pub(crate) enum Got<T: FileSystem> {
    /// It was in the cache.
    Cached(ARef<Inode<T>>),
    /// It is new and must be initialised.
    New(New<T>),
}

/// An inode that nobody else can use yet.
///
/// # Invariants
///
/// The inode is in state `I_NEW`.
pub(crate) struct New<T: FileSystem>(ARef<Inode<T>>);

impl<T: crate::fs::Mountable> New<T> {
    /// Copies all attributes of `from`, installs the operations of its type and publishes the
    /// inode.
    pub(crate) fn finish(self, from: &Inode, idmap: IdMap<'_>, nlink: u32) -> ARef<Inode<T>> {
        let inode = self.0.clone();
        let ptr = inode.as_ptr();
        // The change time is not marked as seen: the first write to what was just created would
        // have to note times once more. Whoever looks next refreshes.
        inode.copy_attr(from, idmap);
        inode.copy_flags(from);
        // SAFETY: By the type invariant nobody else uses the inode, so plain writes are fine.
        unsafe {
            crate::fs::callbacks::inode_ops::install::<T>(ptr, from.mode(), from.rdev());
            bindings::set_nlink(ptr, nlink);
            (*ptr).i_generation = (*from.as_ptr()).i_generation;
            (*ptr).i_blkbits = (*from.as_ptr()).i_blkbits;
            bindings::ruaufs_helper_inode_lockdep(ptr);
            if !from.has_acls() {
                bindings::ruaufs_helper_cache_no_acl(ptr);
            }
            inode.copy_no_acl(from);
            bindings::unlock_new_inode(ptr);
        }
        let this = core::mem::ManuallyDrop::new(self);
        // The inode is not new any more, so `Drop` of `self` must not fail it.
        // SAFETY: `this` is not used again; its only field is moved out.
        drop(unsafe { core::ptr::read(&this.0) });
        inode
    }
}

impl<T: FileSystem> Drop for New<T> {
    fn drop(&mut self) {
        // `iget_failed()` drops a reference, and so does the field.
        let extra = ARef::into_raw(self.0.clone());
        // SAFETY: By the type invariant it is in state `I_NEW`; `extra` is given up.
        unsafe { bindings::iget_failed(extra.as_ptr().cast()) };
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
