// SPDX-License-Identifier: GPL-2.0

//! Dentries: names in directories, ours and those of other file systems.
//!
//! # Terms
//!
//! - *guard*: a foreign dentry, kept in `d_fsdata` of one of ours, whose state
//!   tells whether what we know of the name still holds. It is compared inside
//!   RCU walk without a reference: the VFS frees dentries after a grace period.
//! - *seal*: what a full check of a cached name found, kept in `d_time` of ours. That
//!   of a positive name is broken when the stacks or the top foreign dentry change
//!   (its `d_seq` moves when it is renamed, unhashed or becomes negative). While it is
//!   whole, RCU walk compares the guard and the attributes, and asks for nothing else.
//!
//! # Locking
//!
//! Names are read under the parent's `i_rwsem` (callbacks that get an unhashed
//! dentry or a locked parent), or through [`Dentry::name`], which copies them.

use super::{
    inode::{
        Inode,
        SeenInode, //
    },
    sb::SuperBlock,
    walk::{
        Seal,
        SeenDentry, //
    }, //
};
use crate::bindings;
use crate::fs::{
    base::{
        name,
        once::load_acquire,
        ret::from_err_ptr, //
    },
    types::{
        FileSystem,
        Foreign, //
    }, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
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
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        }, //
    },
    types::Opaque, //
};

/// The cached children of a directory.
pub(crate) struct Children<T> {
    /// Those that are not about to be freed.
    pub(crate) alive: KVVec<ARef<Dentry<T>>>,
    /// One that is about to be freed has a guard still.
    pub(crate) guarded: bool,
}

/// `struct dentry`.
///
/// # Invariants
///
/// Instances are refcounted by `dget()`/`dput()`, and no reference outlives the super block, which
/// whoever keeps one sees to. If `T` is a [`FileSystem`], the dentry belongs
/// to a super block of it, and `d_fsdata` is null or a dentry whose reference it owns.
#[repr(transparent)]
pub(crate) struct Dentry<T = Foreign>(Opaque<bindings::dentry>, PhantomData<fn() -> T>);

// SAFETY: Dentries are shared between CPUs by design.
unsafe impl<T> Send for Dentry<T> {}

// SAFETY: As above.
unsafe impl<T> Sync for Dentry<T> {}

// SAFETY: `dget()`/`dput()` count references.
unsafe impl<T> AlwaysRefCounted for Dentry<T> {
    fn inc_ref(&self) {
        // SAFETY: `&self` shows that there is a reference.
        unsafe { bindings::ruaufs_helper_dget(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference of its own.
        unsafe { bindings::dput(obj.as_ptr().cast()) };
    }
}

impl<T> Dentry<T> {
    /// # Safety
    ///
    /// `ptr` must be a valid dentry for `'a`, of the file system that `T` says.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::dentry) -> &'a Self {
        // SAFETY: `repr(transparent)`; valid by the caller's contract.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.get()
    }

    /// The inode, or `None` for a negative dentry. A positive dentry stays positive while there
    /// is a reference other than the caller's to it, or its parent is locked.
    #[inline]
    pub(crate) fn inode(&self) -> Option<&Inode<T>> {
        // SAFETY: A single word; `d_delete()` of a dentry that is in use unhashes it but leaves
        // the inode, so what is read stays valid while `self` is borrowed from a reference.
        let inode = unsafe { (&raw const (*self.as_ptr()).d_inode).read_volatile() };
        if inode.is_null() {
            None
        } else {
            // SAFETY: As above; same file system as the dentry.
            Some(unsafe { Inode::from_raw(inode) })
        }
    }

    /// The inode; `ENOENT` for a negative dentry.
    pub(crate) fn positive(&self) -> Result<&Inode<T>> {
        self.inode().ok_or(ENOENT)
    }

    /// Whether the name is absent.
    pub(crate) fn is_negative(&self) -> bool {
        self.inode().is_none()
    }

    /// Whether it is positive and a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.inode().is_some_and(Inode::is_dir)
    }

    /// Returns the dentry as a directory in which names can be looked up.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` if it is absent, something else, or a directory whose file system has no look-up
    /// (`d_can_lookup()`).
    #[inline]
    pub(crate) fn dir(&self) -> Result<Dir<'_, T>> {
        // SAFETY: The dentry is valid; a racy read of one word. The type of a positive dentry does
        // not change, and it stays positive, see `inode()`.
        let flags = unsafe { (&raw const (*self.as_ptr()).d_flags).read_volatile() };
        let kind = flags & bindings::dentry_flags_DCACHE_ENTRY_TYPE;
        if kind != bindings::dentry_flags_DCACHE_DIRECTORY_TYPE {
            return Err(ENOTDIR);
        }
        // INVARIANT: Just seen.
        Ok(Dir(self))
    }

    /// Whether the name was removed (or never was in the cache).
    #[inline]
    pub(crate) fn is_unhashed(&self) -> bool {
        // SAFETY: The dentry is valid; a racy read of one word, as `d_unhashed()` does it.
        unsafe {
            (&raw const (*self.as_ptr()).d_hash.pprev)
                .read_volatile()
                .is_null()
        }
    }

    /// Whether its file system wants to be asked at each use whether it is still valid.
    pub(crate) fn is_remote(&self) -> bool {
        // SAFETY: The dentry is valid; the flag is set when it is made.
        unsafe { (*self.as_ptr()).d_flags & bindings::dentry_flags_DCACHE_OP_REVALIDATE != 0 }
    }

    /// A number that moves when the name or the inode changes, and is odd while they do.
    #[inline]
    pub(super) fn sequence(&self) -> u32 {
        // SAFETY: The dentry is valid; a racy read of one word, as `raw_read_seqcount()` does it.
        let sequence =
            unsafe { (&raw const (*self.as_ptr()).d_seq.seqcount.sequence).read_volatile() };
        fence(Ordering::Acquire);
        sequence
    }

    /// Whether it is the root of its super block.
    pub(crate) fn is_root(&self) -> bool {
        // SAFETY: A racy read of one word; a root never gets another parent.
        let parent = unsafe { (&raw const (*self.as_ptr()).d_parent).read_volatile() };
        parent == self.as_ptr()
    }

    /// Whether it is the root directory of its file system.
    pub(crate) fn is_top_of_file_system(&self) -> bool {
        // SAFETY: The dentry and its super block are valid; `s_root` is set as long as there are
        // dentries in use.
        let root = unsafe { (*self.sb_ptr()).s_root };
        root == self.as_ptr()
    }

    /// A reference to the parent, whoever that is right now.
    pub(crate) fn parent(&self) -> ARef<Dentry<T>> {
        // SAFETY: The dentry is valid, `dget_parent()` never returns null and gives a reference.
        unsafe {
            let parent = bindings::dget_parent(self.as_ptr());
            ARef::from_raw(NonNull::new_unchecked(parent).cast())
        }
    }

    /// Whether names in it, a directory, are looked up without regard to case, so that one name
    /// has several spellings.
    pub(crate) fn folds_case(&self) -> bool {
        // SAFETY: The dentry is valid; a directory is positive and stays so.
        self.is_dir() && unsafe { bindings::ruaufs_helper_folds_case(self.as_ptr()) }
    }

    /// Whether its names are encrypted, and nobody has given the key: then those that are seen mean
    /// nothing.
    pub(crate) fn is_locked(&self) -> bool {
        self.inode().is_some_and(|inode| {
            let inode = inode.as_ptr();
            // SAFETY: The inode is valid; a racy read of one word.
            let flags = unsafe { (&raw const (*inode).i_flags).read_volatile() };
            if flags & bindings::RUAUFS_S_ENCRYPTED == 0 {
                return false;
            }
            // SAFETY: As above.
            unsafe { bindings::ruaufs_helper_is_locked(inode) }
        })
    }

    /// The super block, for comparison.
    pub(crate) fn sb_ptr(&self) -> *mut bindings::super_block {
        // SAFETY: `d_sb` never changes.
        unsafe { (*self.as_ptr()).d_sb }
    }

    /// Whether it is `other`, by identity.
    pub(crate) fn is<U>(&self, other: &Dentry<U>) -> bool {
        ptr::eq(self.as_ptr(), other.as_ptr())
    }

    /// Whether it is `ancestor` or lies below it.
    pub(crate) fn is_below<U>(&self, ancestor: &Dentry<U>) -> bool {
        // SAFETY: Both are valid; `is_subdir()` copes with concurrent renames.
        unsafe { bindings::is_subdir(self.as_ptr(), ancestor.as_ptr()) }
    }

    /// Whether it is on the same file system as `other`, and above it, below it or the same.
    pub(crate) fn overlaps<U>(&self, other: &Dentry<U>) -> bool {
        // SAFETY: Both are valid; the super block of a dentry never changes.
        let together = unsafe { ptr::eq((*self.as_ptr()).d_sb, (*other.as_ptr()).d_sb) };
        together && (self.is_below(other) || other.is_below(self))
    }

    /// The name as it is now, in memory of its own.
    #[inline(never)]
    pub(crate) fn name(&self) -> Result<KVec<u8>> {
        let mut snapshot = MaybeUninit::<bindings::name_snapshot>::uninit();
        // SAFETY: The dentry is valid; the call fills the snapshot, which does not move until it
        // is released (it may point into itself).
        let copy = unsafe {
            bindings::take_dentry_name_snapshot(snapshot.as_mut_ptr(), self.as_ptr());
            let mut copy = KVec::new();
            let done = copy.extend_from_slice(name::bytes(&(*snapshot.as_ptr()).name), GFP_KERNEL);
            bindings::release_dentry_name_snapshot(snapshot.as_mut_ptr());
            done.map(|()| copy)
        };
        Ok(copy?)
    }

    /// The path from the root of the file system as it is now, in memory of its own.
    pub(crate) fn path(&self) -> Result<KVec<u8>> {
        const PATH_MAX: usize = bindings::PATH_MAX as usize;
        let mut buffer: KVec<u8> = KVec::with_capacity(PATH_MAX, GFP_KERNEL)?;
        let mut path = KVec::new();
        // SAFETY: The dentry is valid, the buffer has the given length; the call gives a string
        // inside it.
        unsafe {
            let start = from_err_ptr(bindings::dentry_path_raw(
                self.as_ptr(),
                buffer.as_mut_ptr().cast(),
                PATH_MAX as c_int,
            ))?;
            path.extend_from_slice(CStr::from_char_ptr(start).to_bytes(), GFP_KERNEL)?;
        }
        Ok(path)
    }

    /// The name, in place.
    ///
    /// # Safety
    ///
    /// The name must be stable for `'a`: the parent's `i_rwsem` is held, or the dentry is still
    /// in look-up.
    pub(in crate::fs) unsafe fn name_unchecked<'a>(&self) -> &'a [u8] {
        // SAFETY: Stable by the caller's contract.
        unsafe { name::bytes(&(*self.as_ptr()).__bindgen_anon_1.d_name) }
    }
}

/// A directory in which names can be looked up.
///
/// # Invariants
///
/// The dentry is positive, and its inode has a `->lookup()`.
pub(crate) struct Dir<'a, T = Foreign>(&'a Dentry<T>);

impl<T> Clone for Dir<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Dir<'_, T> {}

impl<'a, T> Dir<'a, T> {
    /// The dentry.
    #[inline]
    pub(crate) fn dentry(self) -> &'a Dentry<T> {
        self.0
    }
}

impl Dentry {
    /// How many references there are to it, right now.
    pub(crate) fn references(&self) -> u32 {
        // SAFETY: The dentry is valid.
        unsafe { bindings::ruaufs_helper_d_count(self.as_ptr()) }
    }

    /// The next look-up of its name makes another dentry; who has this one keeps it.
    pub(crate) fn forget_name(&self) {
        // SAFETY: The dentry is valid.
        unsafe { bindings::d_drop(self.as_ptr()) };
    }

    /// Whether its name was removed while it had other users, so that its file system gave it
    /// another one (`.nfs*`), which goes with the last of them.
    pub(crate) fn is_removed_in_use(&self) -> bool {
        // SAFETY: The dentry is valid; a racy read of one word.
        let flags = unsafe { (&raw const (*self.as_ptr()).d_flags).read_volatile() };
        flags & bindings::dentry_flags_DCACHE_NFSFS_RENAMED != 0
    }
}

impl<T: FileSystem> Dentry<T> {
    /// The super block.
    pub(crate) fn sb(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariant; it is of the same file system.
        unsafe { SuperBlock::from_raw(self.sb_ptr()) }
    }

    /// `d_fsdata` as an atomic.
    #[inline]
    pub(super) fn guard_slot(&self) -> &Atomic<*mut c_void> {
        // SAFETY: The field is pointer-sized, aligned, and only accessed atomically by us; the VFS
        // does not touch it.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).d_fsdata) }
    }

    /// Whether the guard, if there is one, is still absent, or is what leads to `top`. Under RCU.
    #[inline]
    pub(in crate::fs) fn guard_holds(&self, top: Option<SeenInode<'_>>) -> bool {
        let guard = load_acquire(self.guard_slot());
        if guard.is_null() {
            return true;
        }
        // SAFETY: The reference owned by `d_fsdata` was there a moment ago, and dentries are freed
        // after a grace period (`fs/dcache.c`, `dentry_free()`), which the caller keeps from
        // ending.
        let guard: SeenDentry<'_> = unsafe { SeenDentry::from_raw(guard.cast()) };
        if guard.is_unhashed() {
            return false;
        }
        match (guard.inode(), top) {
            (None, _) => true,
            (Some(found), Some(top)) => found.is_same(top),
            (Some(_), None) => false,
        }
    }

    /// Replaces the guard. A walker that still looks at the old one is safe: dentries are freed
    /// after a grace period.
    pub(crate) fn set_guard(&self, guard: Option<ARef<Dentry>>) {
        if guard.is_none() && load_acquire(self.guard_slot()).is_null() {
            return;
        }
        let new = guard.map_or(ptr::null_mut(), |guard| ARef::into_raw(guard).as_ptr());
        let old = self.guard_slot().xchg(new.cast(), Full);
        if let Some(old) = NonNull::new(old) {
            // SAFETY: By the type invariant `d_fsdata` owned a reference, which is ours now.
            drop(unsafe { ARef::<Dentry>::from_raw(old.cast()) });
        }
    }

    /// `d_time`, which the VFS leaves to us: what the file system wants to find again.
    pub(crate) fn seen(&self) -> u64 {
        // SAFETY: The dentry is valid; a single word.
        // CAST: A word of the machine.
        unsafe { (&raw const (*self.as_ptr()).d_time).read_volatile() as u64 }
    }

    /// Sets what [`Dentry::seen`] gives.
    pub(crate) fn set_seen(&self, seen: u64) {
        // CAST: Where a word is smaller, the lower half is as good for comparison.
        // SAFETY: As above.
        unsafe { (&raw mut (*self.as_ptr()).d_time).write_volatile(seen as usize) };
    }

    /// `d_time` as an atomic: a seal, or what [`Dentry::set_seen`] left, which is no seal.
    #[inline]
    pub(in crate::fs) fn seal_slot(&self) -> &Atomic<usize> {
        // SAFETY: The field is word-sized, aligned, and only accessed by us, a word at a time; the
        // VFS does not touch it.
        unsafe { Atomic::from_ptr((&raw mut (*self.as_ptr()).d_time).cast()) }
    }

    /// The next walk checks the name in full.
    pub(crate) fn break_seal(&self) {
        let left = load_acquire(self.seal_slot());
        if Seal(left).is_one() {
            // One that is left meanwhile is for what is there now.
            let _ = self.seal_slot().cmpxchg(left, 0, Relaxed);
        }
    }

    /// Moves the guard of `from` here, for a look-up that ended in another dentry.
    pub(in crate::fs) fn take_guard(&self, from: &Dentry<T>) {
        self.set_seen(from.seen());
        let guard = from.guard_slot().xchg(ptr::null_mut(), Full);
        // SAFETY: By the type invariant `d_fsdata` owned a reference, which is ours now.
        self.set_guard(NonNull::new(guard).map(|guard| unsafe { ARef::from_raw(guard.cast()) }));
    }

    /// Sees that the dentry, which is about to lead to `inode`, has a `d_real()` or none.
    #[inline]
    pub(in crate::fs) fn settle_real(&self, inode: &Inode<T>) {
        if inode.is_dir() {
            self.hide_real();
        } else if !self.sb().shows_real() {
            self.settle_file();
        }
    }

    /// As if it had no `d_real()`. The directory that an overlayfs writes to must have none.
    pub(in crate::fs) fn hide_real(&self) {
        // SAFETY: The dentry is valid.
        unsafe { bindings::ruaufs_helper_clear_real(self.as_ptr()) };
    }

    /// The cached children as they are now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn children(&self) -> Result<Children<T>> {
        let mut children: KVVec<ARef<Dentry<T>>> = KVVec::new();
        let mut room: usize = 0;
        loop {
            let mut guarded = false;
            children.reserve(room, GFP_KERNEL)?;
            // SAFETY: The dentry is valid, and there is room for as many pointers; a reference is
            // one, not null.
            let count = unsafe {
                bindings::ruaufs_helper_children(
                    self.as_ptr(),
                    children.as_mut_ptr().cast(),
                    room as c_ulong,
                    &mut guarded,
                )
            };
            // SAFETY: As many were written, of the same file system; the references are ours.
            unsafe { children.inc_len(count.min(room)) };
            if count <= room {
                return Ok(Children {
                    alive: children,
                    guarded,
                });
            }
            children.clear();
            // Some more may come meanwhile.
            room = count.saturating_add(count / 8).saturating_add(8);
        }
    }

    /// Whether walks ask for its revalidation.
    pub(crate) fn set_checked(&self, checked: bool) {
        // SAFETY: The dentry is valid.
        unsafe { bindings::ruaufs_helper_set_checked(self.as_ptr(), checked) };
    }

    /// Whether something is mounted on it.
    pub(crate) fn is_mountpoint(&self) -> bool {
        // SAFETY: The dentry is valid; a racy read of one word.
        let flags = unsafe { (&raw const (*self.as_ptr()).d_flags).read_volatile() };
        flags & bindings::dentry_flags_DCACHE_MOUNTED != 0
    }

    /// Unhashes the dentry: the next walk looks the name up again.
    pub(crate) fn unhash(&self) {
        // SAFETY: The dentry is valid.
        unsafe { bindings::d_drop(self.as_ptr()) };
    }
}

/// A name that a creating callback is for, while the object has not got it.
///
/// # Invariants
///
/// The dentry is negative, and its parent is locked as long as the value lives.
pub(in crate::fs) struct Negative<'a, T: FileSystem>(&'a Dentry<T>);

impl<'a, T: FileSystem> Negative<'a, T> {
    /// `EEXIST` for a positive dentry.
    ///
    /// # Safety
    ///
    /// The parent must be locked exclusively by this task for `'a`.
    pub(in crate::fs) unsafe fn new(dentry: &'a Dentry<T>) -> Result<Self> {
        if !dentry.is_negative() {
            return Err(EEXIST);
        }
        // INVARIANT: Just seen, and the lock keeps it so.
        Ok(Negative(dentry))
    }

    /// Makes it the name of `inode`.
    ///
    /// # Errors
    ///
    /// `EIO` for an inode of another super block, and for a directory that has a name.
    pub(in crate::fs) fn instantiate(self, inode: ARef<Inode<T>>) -> Result {
        let dentry = self.0;
        if !ptr::eq(inode.sb_ptr(), dentry.sb_ptr()) || (inode.is_dir() && inode.has_alias()) {
            return Err(EIO);
        }
        dentry.break_seal();
        dentry.settle_real(&inode);
        // SAFETY: By the type invariant the dentry is negative, which is what `d_instantiate()`
        // demands (`BUG_ON()`). The call consumes the inode reference.
        unsafe { bindings::d_instantiate(dentry.as_ptr(), ARef::into_raw(inode).as_ptr().cast()) };
        Ok(())
    }
}
