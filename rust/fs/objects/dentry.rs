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
//! dentry or a locked parent), or through [`NameSnapshot`].

use super::{
    inode::{
        Inode,
        Kind,
        SeenInode, //
    },
    sb::SuperBlock,
    section::{
        Entered,
        Section, //
    },
    stack::RcuStack, //
};
use crate::bindings;
use crate::fs::{
    base::{
        gate::Doing,
        name,
        once::load_acquire,
        ret::from_err_ptr, //
    },
    FileSystem,
    Foreign,
    Mountable, //
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
        },
        rcu, //
    },
    types::Opaque, //
};

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
    fn sequence(&self) -> u32 {
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
    fn guard_slot(&self) -> &Atomic<*mut c_void> {
        // SAFETY: The field is pointer-sized, aligned, and only accessed atomically by us; the VFS
        // does not touch it.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).d_fsdata) }
    }

    /// Whether the guard, if there is one, is still absent, or is what leads to `top`. Under RCU.
    #[inline]
    fn guard_holds(&self, top: Option<SeenInode<'_>>) -> bool {
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
    fn seal_slot(&self) -> &Atomic<usize> {
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
    pub(crate) fn children(&self) -> Result<KVVec<ARef<Dentry<T>>>> {
        let mut children: KVVec<ARef<Dentry<T>>> = KVVec::new();
        let mut room: usize = 0;
        loop {
            children.reserve(room, GFP_KERNEL)?;
            // SAFETY: The dentry is valid, and there is room for as many pointers; a reference is
            // one, not null.
            let count = unsafe {
                bindings::ruaufs_helper_children(
                    self.as_ptr(),
                    children.as_mut_ptr().cast(),
                    room as c_ulong,
                )
            };
            // SAFETY: As many were written, of the same file system; the references are ours.
            unsafe { children.inc_len(count.min(room)) };
            if count <= room {
                return Ok(children);
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

/// A dentry that a walk looks at without a reference. It may be about to go, so it offers
/// comparison and plain reads only.
///
/// # Invariants
///
/// The memory of the dentry stays for `'a`.
pub(crate) struct SeenDentry<'a, T = Foreign>(&'a Dentry<T>);

impl<'a, T> SeenDentry<'a, T> {
    /// # Safety
    ///
    /// `ptr` must be a dentry of the file system that `T` says, whose memory stays for `'a`, as
    /// does that of its inode.
    #[inline]
    pub(in crate::fs) unsafe fn from_raw(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By the caller's contract.
        // SAFETY: As above. The reference stays in here, so that nobody counts it.
        SeenDentry(unsafe { Dentry::from_raw(ptr) })
    }

    /// The C object.
    #[inline]
    pub(in crate::fs) fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.as_ptr()
    }

    /// As [`Dentry::is_unhashed`].
    #[inline]
    pub(crate) fn is_unhashed(&self) -> bool {
        self.0.is_unhashed()
    }

    /// The inode, if it has one at the moment.
    #[inline]
    pub(in crate::fs) fn inode(&self) -> Option<SeenInode<'a, T>> {
        // SAFETY: A single word; the inode is freed after a grace period, as the dentry is.
        unsafe {
            let inode = (&raw const (*self.as_ptr()).d_inode).read_volatile();
            (!inode.is_null()).then(|| SeenInode::from_raw(inode))
        }
    }

    /// As [`Dentry::sequence`].
    #[inline]
    fn sequence(&self) -> u32 {
        self.0.sequence()
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

/// One of our dentries inside a walk, possibly under RCU.
///
/// Only comparisons are offered; none of them takes a reference. A walk that holds references has
/// more to offer ([`Walk::held`]).
///
/// # Invariants
///
/// The walk is in a section of the gate, with references to all three objects, or else under RCU.
pub(crate) struct Walk<'a, T: FileSystem> {
    dir: &'a Inode<T>,
    dentry: &'a Dentry<T>,
    inode: Option<&'a Inode<T>>,
    name: &'a bindings::qstr,
    section: Option<Section<'a, T>>,
    /// `d_time` before all checks.
    left: usize,
}

/// The dentry and inodes that a walk outside RCU holds references to.
pub(crate) struct Held<'a, T: FileSystem> {
    /// The section that it is in.
    pub(crate) section: Section<'a, T>,
    /// The directory that the name is in.
    pub(crate) dir: &'a Inode<T>,
    /// The dentry.
    pub(crate) dentry: &'a Dentry<T>,
    /// The inode that the name leads to.
    pub(crate) inode: Option<&'a Inode<T>>,
}

/// A seal, see the module documentation.
///
/// Not 0, and larger than any count of what was seen: the upper half is a `d_seq`, which is not 0
/// for a positive dentry; then come the numbers of the stacks, which are not 0 either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal(usize);

impl Seal {
    const SEQ_SHIFT: u32 = 32;

    /// The seal of a name that is absent: nothing but its guard tells.
    // CAST: Where a word is too small for it, it is none.
    pub(crate) const ABSENT: Self = Seal((2u64 << Self::SEQ_SHIFT) as usize);

    /// The seal for the top dentry of `stack` in the directory `dirs`, as they are now.
    #[inline]
    fn now<P>(stack: &RcuStack<'_, P>, dirs: &RcuStack<'_, P>) -> Self {
        let sequence = stack.top().sequence();
        let seal = u64::from(sequence) << Self::SEQ_SHIFT
            | u64::from(stack.serial())
            | u64::from(dirs.serial() >> u16::BITS);
        // Where a word is too small for it, there are none: each check is a full one.
        Seal(usize::try_from(seal).unwrap_or(0))
    }

    /// The `d_seq` in it.
    const fn sequence(self) -> u64 {
        self.0 as u64 >> Self::SEQ_SHIFT
    }

    /// Whether it is one, and no count; and not of a dentry that was being changed.
    const fn is_one(self) -> bool {
        self.sequence() != 0 && self.may_go()
    }

    /// Whether a seal may take the place of what is left there. All bits set are a mark of the file
    /// system's that stays.
    const fn may_go(self) -> bool {
        self.sequence() & 1 == 0
    }
}

impl<T: Operations> Walk<'_, T> {
    /// Gives what `d_revalidate()` gives for a name that does not hold.
    #[cold]
    #[inline(never)]
    fn is_stale(&self) -> c_int {
        if let Some(held) = self.held() {
            T::found_stale(&held, self.name());
        }
        0
    }
}

impl<T: FileSystem> Walk<'_, T> {
    /// The stack of the inode that the name leads to.
    #[inline]
    pub(crate) fn stack(&self) -> Option<RcuStack<'_, T::Place>> {
        // SAFETY: By the type invariant the caller is in a walk, which lasts as long as `self`.
        unsafe { self.inode?.cell().rcu() }
    }

    /// The stack of the directory that the name is in.
    #[inline]
    pub(crate) fn dir_stack(&self) -> Option<RcuStack<'_, T::Place>> {
        // SAFETY: As above.
        unsafe { self.dir.cell().rcu() }
    }
}

impl<T: FileSystem> Walk<'_, T> {
    /// Returns the objects that the walk holds. `None` under RCU, where nothing may sleep.
    pub(crate) fn held(&self) -> Option<Held<'_, T>> {
        Some(Held {
            section: self.section?,
            dir: self.dir,
            dentry: self.dentry,
            inode: self.inode,
        })
    }

    /// The shape.
    pub(crate) fn shape(&self) -> &T::Shape {
        // SAFETY: By the type invariant; the walk lasts as long as `self`.
        unsafe { self.dir.sb().state().shape.get() }
    }

    /// As [`Dentry::seen`].
    pub(crate) fn seen(&self) -> u64 {
        self.dentry.seen()
    }

    /// The name that is walked.
    pub(crate) fn name(&self) -> &[u8] {
        // SAFETY: By the contract of `d_revalidate()` the name is valid during the call.
        unsafe { name::bytes(self.name) }
    }

    /// The inode that the name leads to.
    #[inline]
    pub(crate) fn inode(&self) -> Option<SeenInode<'_, T>> {
        self.inode.map(|inode| {
            // SAFETY: By the type invariant its memory stays as long as the walk.
            unsafe { SeenInode::from_raw(inode.as_ptr()) }
        })
    }

    /// Whether the name begins with `prefix`.
    pub(crate) fn begins_with(&self, prefix: &[u8]) -> bool {
        // SAFETY: The walk keeps the name, which is a copy of its own or the user's.
        unsafe { name::bytes(self.name) }.starts_with(prefix)
    }

    /// Whether the guard, if there is one, is still absent, or is what leads to `top`.
    pub(crate) fn guard_holds(&self, top: Option<SeenInode<'_>>) -> bool {
        if load_acquire(self.dentry.guard_slot()).is_null() {
            return true;
        }
        // Outside RCU walk only our dentry is referenced: a promotion may drop its guard.
        let _rcu = self.section.map(|_| rcu::read_lock());
        self.dentry.guard_holds(top)
    }

    /// What a full check that begins now is good for.
    pub(crate) fn seal<P>(&self, stack: &RcuStack<'_, P>, dirs: &RcuStack<'_, P>) -> Seal {
        Seal::now(stack, dirs)
    }

    /// The check is done and the name holds. Not for a name that file systems below, or anything
    /// but [`Walk::still_named`], the guard and the attributes, have a say in.
    pub(crate) fn leave(&self, seal: Seal) {
        if seal.is_one() && self.left != seal.0 && Seal(self.left).may_go() {
            // What others left there meanwhile stays.
            let _ = self.dentry.seal_slot().cmpxchg(self.left, seal.0, Full);
        }
    }

    /// The directory that the name is in.
    pub(crate) fn dir(&self) -> SeenInode<'_, T> {
        // SAFETY: By the type invariant its memory stays as long as the walk.
        unsafe { SeenInode::from_raw(self.dir.as_ptr()) }
    }

    /// Whether the top of `stack` still leads to its inode, and, if it is the only name of it,
    /// still has this name in that of the directories `dirs` which is in the same place.
    pub(crate) fn still_named<P>(
        &self,
        stack: &RcuStack<'_, P>,
        dirs: &RcuStack<'_, P>,
        alone: bool,
    ) -> bool {
        let (lower, inode) = (stack.top(), stack.top_inode());
        if !lower.inode().is_some_and(|found| found.is_same(inode)) {
            return false;
        }
        if !alone {
            return true;
        }
        if lower.is_unhashed() {
            // The name it was found by is gone. A look-up finds the one that is left.
            return false;
        }
        let _rcu = self.section.map(|_| rcu::read_lock());
        // SAFETY: The dentry is alive; the helper reads name and parent consistently under RCU.
        let parent = unsafe { bindings::ruaufs_helper_d_named(lower.as_ptr(), self.name) };
        !parent.is_null() && dirs.has(parent, stack)
    }
}

/// How [`Operations::revalidate`] answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// What is cached still holds.
    Valid,
    /// The name must be looked up again.
    Stale,
    /// Ask again outside RCU walk.
    NeedRef,
}

/// Callbacks on our dentries.
pub(crate) trait Operations: FileSystem {
    /// Whether a cached name still holds; may run inside RCU walk.
    fn revalidate(walk: &Walk<'_, Self>) -> Validity;

    /// A cached name does not hold, and is about to go. Not in RCU walk.
    fn found_stale(held: &Held<'_, Self>, name: &[u8]);
}

/// `dentry_operations` of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    /// Whether walks ask `d_revalidate()` is said by a flag of each dentry
    /// ([`SuperBlock::set_checked`], [`Dentry::set_checked`]).
    pub(in crate::fs) const OPERATIONS: bindings::dentry_operations = bindings::dentry_operations {
        d_revalidate: Some(Self::d_revalidate),
        d_release: Some(Self::d_release),
        d_real: Some(Self::d_real),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the path walk with a dentry of ours, its name and `LOOKUP_*` flags; under
    /// `LOOKUP_RCU` nothing is referenced and nothing may sleep.
    unsafe extern "C" fn d_revalidate(
        dir: *mut bindings::inode,
        name: *const bindings::qstr,
        dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            if flags & bindings::RUAUFS_LOOKUP_RCU != 0
                && Self::is_sealed(Inode::from_raw(dir), Dentry::from_raw(dentry))
            {
                return 1;
            }
            Self::check(dir, name, dentry, flags)
        }
    }

    /// Whether a name holds by its seal, its guard and unchanged attributes. In RCU walk.
    ///
    /// # Safety
    ///
    /// The caller must be in a path walk under RCU.
    #[inline]
    unsafe fn is_sealed(dir: &Inode<T>, dentry: &Dentry<T>) -> bool {
        let Some(inode) = dentry.inode() else {
            let absent = Seal(load_acquire(dentry.seal_slot())) == Seal::ABSENT;
            return absent && Seal::ABSENT.is_one() && dentry.guard_holds(None);
        };
        // SAFETY: By the caller's contract; nothing of it leaves this function.
        let (inode, stacks) = unsafe {
            let stacks = (inode.cell().rcu(), dir.cell().rcu());
            (SeenInode::<T>::from_raw(inode.as_ptr()), stacks)
        };
        let (Some(stack), Some(dirs)) = stacks else {
            return false;
        };
        let top = stack.top_inode();
        Seal::now(&stack, &dirs).0 == load_acquire(dentry.seal_slot())
            && !inode.attr_moved(top)
            && dentry.guard_holds(Some(top))
    }

    /// Checks a name in full.
    ///
    /// # Safety
    ///
    /// As for `d_revalidate()`.
    #[cold]
    #[inline(never)]
    unsafe fn check(
        dir: *mut bindings::inode,
        name: *const bindings::qstr,
        dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let directory = unsafe { Inode::<T>::from_raw(dir) };
        // A name that is looked at again may get other instances.
        let entered =
            (flags & bindings::RUAUFS_LOOKUP_RCU == 0).then(|| directory.sb().enter(Doing::LookUp));
        // SAFETY: As above; `d_inode_rcu()` is a single read.
        let walk = unsafe {
            let inode = (&raw const (*dentry).d_inode).read_volatile();
            Walk {
                dir: directory,
                dentry: Dentry::<T>::from_raw(dentry),
                inode: (!inode.is_null()).then(|| Inode::from_raw(inode)),
                name: &*name,
                section: entered.as_ref().map(Entered::section),
                left: load_acquire(Dentry::<T>::from_raw(dentry).seal_slot()),
            }
        };
        match T::revalidate(&walk) {
            Validity::Valid => {}
            // What is seen while branches change may be half of it, and what is mounted on a stale
            // name goes.
            Validity::Stale if walk.section.is_some() => return walk.is_stale(),
            Validity::Stale | Validity::NeedRef => return ECHILD.to_errno(),
        }
        let Some(stack) = walk.stack().filter(|stack| stack.is_remote()) else {
            return 1;
        };
        for lower in stack.dentries() {
            // SAFETY: `RcuStack` shows dentries that are alive at least until the end of this
            // walk.
            let ret = unsafe { revalidate_foreign(lower, flags) };
            match ret {
                0 => return walk.is_stale(),
                ..0 => return ret,
                _ => {}
            }
        }
        1
    }

    /// The foreign dentry whose file has the contents that ours shows: what is mapped is that file,
    /// so that is where uprobes are set. As for overlayfs, it may be another one after a promotion.
    ///
    /// # Safety
    ///
    /// Called with a reference to a dentry of ours; it may sleep.
    unsafe extern "C" fn d_real(
        dentry: *mut bindings::dentry,
        wanted: bindings::d_real_type,
    ) -> *mut bindings::dentry {
        // SAFETY: A dentry of ours by the contract of the callback.
        let ours = unsafe { Dentry::<T>::from_raw(dentry) };
        let Some(inode) = ours.inode().filter(|inode| inode.kind() == Kind::Regular) else {
            return dentry;
        };
        let reading = ours.sb().read();
        match inode.lend(reading.section()) {
            // SAFETY: The dentry is valid, as is what is given, as long as the caller refers to
            // ours.
            Some(real) => unsafe { bindings::ruaufs_helper_d_real(real, wanted) },
            None => dentry,
        }
    }

    /// # Safety
    ///
    /// Called once, when the dentry dies; it may sleep.
    unsafe extern "C" fn d_release(dentry: *mut bindings::dentry) {
        // SAFETY: A dentry of ours by the contract of the callback.
        unsafe { Dentry::<T>::from_raw(dentry) }.set_guard(None);
    }
}

/// Asks a foreign file system whether its dentry is still valid, if it wants to be asked.
///
/// # Safety
///
/// `dentry` must be valid for the call, by a reference or by RCU as `flags` say.
unsafe fn revalidate_foreign(dentry: *mut bindings::dentry, flags: c_uint) -> c_int {
    // SAFETY: Valid by the caller's contract; `d_op` never changes.
    unsafe {
        if (*dentry).d_flags & bindings::dentry_flags_DCACHE_OP_REVALIDATE == 0 {
            return 1;
        }
        let Some(revalidate) = (*dentry).d_op.as_ref().and_then(|op| op.d_revalidate) else {
            return 1;
        };
        if flags & bindings::RUAUFS_LOOKUP_RCU != 0 {
            // The name snapshot below is RCU-safe, but network file systems leave RCU walk
            // anyway; one rule for all keeps this simple.
            return ECHILD.to_errno();
        }
        let parent = bindings::dget_parent(dentry);
        let mut snapshot = MaybeUninit::<bindings::name_snapshot>::uninit();
        bindings::take_dentry_name_snapshot(snapshot.as_mut_ptr(), dentry);
        let ret = revalidate(
            (*parent).d_inode,
            &raw const (*snapshot.as_ptr()).name,
            dentry,
            flags,
        );
        bindings::release_dentry_name_snapshot(snapshot.as_mut_ptr());
        bindings::dput(parent);
        if ret == 0 {
            bindings::d_invalidate(dentry);
        }
        ret
    }
}
