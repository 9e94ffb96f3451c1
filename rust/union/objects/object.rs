// SPDX-License-Identifier: GPL-2.0

//! The state beside each inode of the union. How an inode is found is in
//! [`find`](crate::union::names::find).
//!
//! # Locking
//!
//! [`InodeInfo::lock`] excludes promotion, removal and renaming of one object
//! from each other, so that the winner of a promotion does it once and a name
//! does not change under it. The stack is read without a lock.
//!
//! # Invariants
//!
//! A positive inode has a stack; its slots are in the order of the branch table
//! and all of one type; only the top one is written.

#![forbid(unsafe_code)]

use super::{
    cache::DirCache,
    shown::{
        Surplus,
        Veil, //
    },
    watches::Watches, //
};
use crate::fs::{
    base::{
        gate::OVERTAKEN,
        once::{
            load,
            load_acquire,
            store,
            store_release, //
        },
        reals::Reals, //
    },
    objects::{
        path::WriteAccess,
        writes::Writes, //
    },
    types::Private, //
};
use crate::union::{
    branches::branch::{
        BranchId,
        Slot,
        Stack, //
    },
    types::{
        Dentry,
        Inode,
        LowerInode,
        Section, //
    }, //
};
use core::{
    convert::Infallible,
    pin::Pin, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        LockClassKey,
        Mutex, //
    }, //
};

/// The state beside an inode.
#[pin_data]
pub(crate) struct InodeInfo {
    /// See the module documentation.
    #[pin]
    lock: Mutex<()>,
    /// What a directory keeps of its instances, while it holds.
    #[pin]
    pub(crate) dir: Mutex<DirCache>,
    /// A rename is under way: the branch's name and ours differ for a moment.
    moving: Atomic<bool>,
    /// It has a pseudo-link: the link count is kept here, not by the branch.
    plinked: Atomic<bool>,
    /// Other names of it may have parted ([`plink::part`](crate::union::plink::part)).
    parted: Atomic<bool>,
    /// Names that were hidden by whiteouts while the object was on a branch that is not written:
    /// the branch still counts them.
    pub(crate) hidden: Atomic<u32>,
    /// The change time that is shown in place of the top instance's.
    pub(crate) veil: Veil,
    /// How many sub-directories too many the instances of a directory count.
    pub(crate) surplus: Surplus,
    /// Changes of the directory by us; branches with coarse time stamps do not show all.
    pub(crate) changes: Atomic<u64>,
    /// With `udba=notify`, what watches the instances of a directory.
    #[pin]
    pub(crate) watches: Watches,
    /// Changes of its data that are under way.
    pub(crate) writes: Writes,
    /// It is held by [`super::kept::Plinks`].
    held: Atomic<bool>,
    /// Open directories that read from the only instance.
    listed: Atomic<u32>,
    /// The last attempt to change branches that looked at it.
    round: Atomic<u32>,
    /// The mark by which a remount remembers what it found out about its names.
    known: Atomic<u32>,
    /// For an overlayfs that writes to a directory of the union.
    reals: Reals,
}

/// A lock class for each depth of stacking: a union on a union takes both locks.
fn lock_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

/// As [`lock_class`], for [`InodeInfo::dir`].
fn dir_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

impl Private for InodeInfo {
    fn init(depth: i32) -> impl PinInit<Self, Infallible> {
        pin_init!(InodeInfo {
            lock <- Mutex::new((), c"ruaufs_inode", lock_class(depth)),
            dir <- Mutex::new(DirCache::new(), c"ruaufs_dir_cache", dir_class(depth)),
            moving: Atomic::new(false),
            plinked: Atomic::new(false),
            parted: Atomic::new(false),
            hidden: Atomic::new(0),
            veil: Veil::new(),
            surplus: Surplus::new(),
            changes: Atomic::new(0),
            watches <- Watches::new(depth),
            writes: Writes::none(),
            held: Atomic::new(false),
            listed: Atomic::new(0),
            round: Atomic::new(0),
            known: Atomic::new(0),
            reals: Reals::unknown(),
        })
    }

    fn reals(&self) -> &Reals {
        &self.reals
    }
}

impl InodeInfo {
    /// Gives up the references to objects of branches, but for the instances.
    pub(crate) fn release(&self) {
        self.watches.end_last();
        let names = core::mem::replace(&mut *self.dir.lock(), DirCache::new());
        drop(names);
    }

    /// Whether a rename is under way.
    pub(crate) fn is_moving(&self) -> bool {
        load_acquire(&self.moving)
    }

    /// Whether the inode has a pseudo-link.
    pub(crate) fn is_plinked(&self) -> bool {
        load_acquire(&self.plinked)
    }
}

/// [`InodeInfo::lock`], held.
pub(crate) type PromotionLock<'a> = kernel::sync::lock::mutex::MutexGuard<'a, ()>;

/// Says for its lifetime that an inode is being renamed.
pub(crate) struct Moving<'a>(&'a Inode);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        store_release(&self.0.data().moving, false);
    }
}

impl Inode {
    /// The object's lock, see the module documentation.
    ///
    /// Who holds it for long, beyond what a section may wait for, is who copies the file: outside
    /// the section, and with the file's `i_rwsem`. Who changes names or attributes of the file
    /// holds that, too, and so never waits here for a copy. Who does not hold it, and may meet a
    /// copy, asks with [`Inode::promotion_lock_outside`].
    pub(crate) fn promotion_lock(&self) -> PromotionLock<'_> {
        self.data().lock.lock()
    }

    /// The same for who may have to wait for a copy to be made: waits outside the section.
    ///
    /// # Errors
    ///
    /// [`OVERTAKEN`].
    pub(crate) fn promotion_lock_outside(&self, section: Section<'_>) -> Result<PromotionLock<'_>> {
        if let Some(lock) = self.data().lock.try_lock() {
            return Ok(lock);
        }
        let (lock, changed) = section.outside(|| self.promotion_lock());
        if changed {
            return Err(OVERTAKEN);
        }
        Ok(lock)
    }

    /// Whether `lower`, which was found under one of its names, leads to it: it is the top
    /// instance, or another name of the file was copied up.
    pub(crate) fn is_now(&self, section: Section<'_>, lower: &LowerInode) -> Result<bool> {
        Ok(self.is_plinked() || core::ptr::eq(self.stack(section)?.top_inode(), lower))
    }

    /// Says that an attempt to change branches looked at it.
    pub(crate) fn mark(&self, round: u32) {
        store(&self.data().round, round);
    }

    /// Whether this attempt looked at it.
    pub(crate) fn is_marked(&self, round: u32) -> bool {
        load(&self.data().round) == round
    }

    /// What was noted by [`Inode::note`], 0 at first.
    pub(crate) fn noted(&self) -> u32 {
        load(&self.data().known)
    }

    /// Notes the mark by which a remount remembers what it found out about its names.
    pub(crate) fn note(&self, known: u32) {
        store(&self.data().known, known);
    }

    /// Drops what is kept of a directory's names.
    pub(crate) fn forget_names(&self) {
        let old = core::mem::replace(&mut *self.data().dir.lock(), DirCache::new());
        drop(old);
    }

    /// Whether an open directory reads from its only instance.
    pub(crate) fn is_listed(&self) -> bool {
        load(&self.data().listed) != 0
    }

    /// Counts an open directory that reads from the only instance.
    pub(crate) fn listing_begins(&self) {
        self.data().listed.fetch_add(1, Relaxed);
    }

    /// The reverse of [`Inode::listing_begins`].
    pub(crate) fn listing_ends(&self) {
        self.data().listed.fetch_sub(1, Relaxed);
    }

    /// Marks the inode as being renamed.
    pub(crate) fn moving(&self) -> Moving<'_> {
        store_release(&self.data().moving, true);
        Moving(self)
    }

    /// Whether it has a pseudo-link.
    pub(crate) fn is_plinked(&self) -> bool {
        self.data().is_plinked()
    }

    /// It has a pseudo-link from now on, or no longer.
    pub(crate) fn set_plinked(&self, plinked: bool) {
        store_release(&self.data().plinked, plinked);
    }

    /// Whether other names of it may have parted.
    pub(crate) fn has_parted(&self) -> bool {
        load_acquire(&self.data().parted)
    }

    /// Other names of it are about to part. To be called before the copy is published.
    pub(crate) fn set_parted(&self) {
        store_release(&self.data().parted, true);
    }

    /// The slot on the branch `id`.
    #[inline(never)]
    pub(crate) fn slot_on<'a>(
        &'a self,
        section: Section<'a>,
        id: BranchId,
    ) -> Result<Option<&'a Slot>> {
        Ok(self.stack(section)?.on(id))
    }

    /// Runs `f`, which changes attributes of the top instance, as the mounter. `f` gets the
    /// instance and write access to its branch.
    ///
    /// What is changed of a directory that is being copied to a branch above its own would stay
    /// below: the copy is waited for. Other objects are locked while they are copied.
    pub(crate) fn change_top<R>(
        &self,
        section: Section<'_>,
        f: impl FnOnce(&Slot, &WriteAccess<'_>) -> Result<R>,
    ) -> Result<R> {
        let _lock = self.is_dir().then(|| self.promotion_lock());
        let top = self.stack(section)?.top();
        let write = top.branch().want_write()?;
        self.sb().data().cred.scope(|| f(top, &write))
    }

    /// Copies the attributes of the top instance, after a change by us or behind our back.
    pub(crate) fn refresh(&self, section: Section<'_>) -> Result {
        let stack = self.stack(section)?;
        let top = stack.top();
        // Where times are coarse, two changes within one tick may look like one.
        stack.top_inode().watch();
        self.copy_attr(stack.top_inode(), top.branch().root.mount().idmap());
        self.copy_flags(stack.top_inode());
        if !self.is_plinked() {
            let hidden = load(&self.data().hidden);
            self.update_nlink(self.shown_links(stack)?.saturating_sub(hidden).max(1));
        }
        Ok(())
    }

    /// Copies the attributes that a write changes. The change time is not marked as seen, or each
    /// write would have to note one of its own; the next look at the object compares the rest.
    pub(crate) fn written(&self, section: Section<'_>) -> Result {
        let stack = self.stack(section)?;
        let lower = stack.top_inode();
        if self.differs_by_write(lower) {
            self.copy_changed_attr(lower, stack.top().branch().root.mount().idmap());
        }
        Ok(())
    }

    /// Its instances, after what others changed on the top one was taken over: before attributes
    /// are shown, and before a change by us, which would hide theirs.
    #[inline]
    pub(crate) fn noticed<'a>(&'a self, section: Section<'a>) -> Result<&'a Stack> {
        let stack = self.stack(section)?;
        if self.attr_moved(stack.top_inode()) {
            self.refresh_moved(section)?;
        }
        Ok(stack)
    }

    /// As [`Inode::refresh`], if the top instance, which may have moved, was changed since.
    #[cold]
    fn refresh_moved(&self, section: Section<'_>) -> Result {
        if self.confirm_attr(self.stack(section)?.top_inode()) {
            return Ok(());
        }
        self.refresh_all(section)
    }

    /// As [`Inode::refresh`], after a change that was none of ours.
    #[cold]
    pub(crate) fn refresh_all(&self, section: Section<'_>) -> Result {
        self.refresh(section)?;
        // After the change time was taken: what others find meanwhile may be from before it.
        self.forget_acls();
        self.forget_nosec();
        self.copy_no_acl(self.stack(section)?.top_inode());
        Ok(())
    }

    /// Counts the changes of the directory by us.
    pub(crate) fn changes(&self) -> u64 {
        load(&self.data().changes)
    }

    /// Whether the names that the branch counts are not those that the union shows
    /// ([`crate::union::plink`]).
    pub(crate) fn has_other_count(&self) -> bool {
        self.is_plinked() || load(&self.data().hidden) != 0
    }

    /// Whether [`super::kept::Plinks`] has a reference to it.
    pub(crate) fn is_held(&self) -> bool {
        load_acquire(&self.data().held)
    }

    /// Notes that [`super::kept::Plinks`] has a reference to it, or no longer.
    pub(crate) fn set_held(&self, held: bool) {
        store_release(&self.data().held, held);
    }

    /// The object was promoted: its new top instance counts its own names.
    pub(crate) fn count_anew(&self) {
        store(&self.data().hidden, 0);
    }
}

impl Dentry {
    /// The inode of a dentry that must have one.
    pub(crate) fn object(&self) -> Result<&Inode> {
        self.positive()
    }
}
