// SPDX-License-Identifier: GPL-2.0

//! Inodes of ours: the data beside them, their attributes, how they are found, made and let go.
//!
//! # Terms
//!
//! - [`New`]: an inode in state `I_NEW`: nobody else can use it yet.
//! - [`Candidate`]: an inode that may be the one that is looked for.
//! - [`Dying`]: an inode that has no reference any more.

use super::{
    dentry::Dentry,
    inode::Inode,
    inode_cache::InodeCell,
    path::IdMap,
    sb::SuperBlock,
    stack::StackCell,
    time::ChangeTime, //
};
use crate::bindings;
use crate::fs::types::FileSystem;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

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
pub(crate) struct New<T: FileSystem>(pub(in crate::fs) ARef<Inode<T>>);

impl<T: FileSystem> Drop for New<T> {
    fn drop(&mut self) {
        // `iget_failed()` drops a reference, and so does the field.
        let extra = ARef::into_raw(self.0.clone());
        // SAFETY: By the type invariant it is in state `I_NEW`; `extra` is given up.
        unsafe { bindings::iget_failed(extra.as_ptr().cast()) };
    }
}
