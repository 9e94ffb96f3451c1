// SPDX-License-Identifier: GPL-2.0

//! The state beside each inode of the union.
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

use super::shown::{
    Noticed,
    Surplus,
    Veil, //
};
use crate::fs::{
    access::attr::Change,
    base::{
        gate::OVERTAKEN,
        once::{
            load,
            load_acquire,
            store,
            store_release, //
        }, //
    },
    objects::{
        inode::{
            Got,
            Private, //
        },
        overlay::Reals,
        path::WriteAccess,
        stack::StackSpace,
        writes::Writes, //
    }, //
};
use crate::logic::ino;
use crate::union::{
    branches::branch::{
        Branch,
        BranchId,
        BranchTable,
        Slot,
        Slots,
        Stack, //
    },
    names::{
        index::DirCache,
        watch::{
            self,
            Watches, //
        }, //
    },
    plink,
    state::fhsm::{
        self,
        Event, //
    },
    Dentry,
    Inode,
    LowerDentry,
    LowerInode,
    Section, //
};
use crate::warn_limited;
use core::{
    convert::Infallible,
    pin::Pin, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
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
    hidden: Atomic<u32>,
    /// The change time that is shown in place of the top instance's.
    pub(crate) veil: Veil,
    /// How many sub-directories too many the instances of a directory count.
    pub(crate) surplus: Surplus,
    /// Changes of the directory by us; branches with coarse time stamps do not show all.
    changes: Atomic<u64>,
    /// With `udba=notify`, what watches the instances of a directory.
    #[pin]
    pub(crate) watches: Watches,
    /// Changes of its data that are under way.
    pub(crate) writes: Writes,
    /// It is held by [`crate::union::plink::Plinks`].
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

    /// The directory was changed by us, on `branch`. The top instance, whose times are shown, is
    /// another one if a policy chose a lower branch: then it gets the time, too.
    ///
    /// The change is done and not undone for what comes after it: a failure is only logged.
    pub(crate) fn changed_on(&self, section: Section<'_>, branch: &Branch, noticed: Noticed) {
        // Ordered against the look at the veil: see `keep_change_time_of`.
        self.data().changes.fetch_add(1, Full);
        self.unveil();
        fhsm::tell(section, branch, Event::Changed);
        let touch = || -> Result {
            let top = self.stack(section)?.top();
            if top.branch().id == branch.id || !top.branch().writable() {
                return Ok(());
            }
            let write = top.branch().want_write()?;
            self.sb()
                .data()
                .cred
                .scope(|| Change::new().modified().apply(write.to(top.path()?)?))?;
            drop(write);
            Ok(())
        };
        if let Err(error) = touch()
            .and(self.counts_anew(section, branch.id, noticed))
            .and(self.refresh(section))
        {
            warn_limited!("a directory was changed, its times were not: {:?}\n", error);
        }
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

    /// Whether [`crate::union::plink::Plinks`] has a reference to it.
    pub(crate) fn is_held(&self) -> bool {
        load_acquire(&self.data().held)
    }

    /// Notes that [`crate::union::plink::Plinks`] has a reference to it, or no longer.
    pub(crate) fn set_held(&self, held: bool) {
        store_release(&self.data().held, held);
    }

    /// Takes one name away from the link count. It may have been hidden only, by something on the
    /// branch `hidden_on`: then its own branch still counts it. The object's lock is held.
    pub(crate) fn name_removed(&self, section: Section<'_>, hidden_on: Option<&Branch>) -> Result {
        let mut done = Ok(());
        if hidden_on.is_some() && !self.is_dir() {
            self.name_hidden(section);
        }
        let nlink = if self.is_dir() {
            0
        } else if self.is_plinked() {
            let left = self.nlink().saturating_sub(1);
            // A copy on a branch that became a layer cannot be told
            // ([`plink::settle`](crate::union::plink::settle)).
            let layer = !self.stack(section)?.writable();
            if let Some(branch) = hidden_on.filter(|_| layer && left > 0) {
                done = plink::hide(section, self, left, branch).map(drop);
            }
            left
        } else {
            if let Some(branch) = hidden_on {
                let left = self.nlink().saturating_sub(1);
                self.data().hidden.fetch_add(1, Relaxed);
                // The branch still counts the name, so that it is hidden must not be forgotten
                // while there are others; with `noplink` the branch's count is what is shown.
                if left > 0 {
                    let noted = plink::hide(section, self, left, branch);
                    if !matches!(noted, Ok(true)) && section.settings().plink {
                        done = self.sb().data().plinks.keep(self).and(noted.map(drop));
                    }
                }
            }
            let stack = self.stack(section)?;
            let hidden = load(&self.data().hidden);
            // The name that it was given goes when it is used no more.
            let in_use = u32::from(stack.top().dentry().is_removed_in_use());
            let links = stack.top_inode().nlink();
            links.saturating_sub(hidden).saturating_sub(in_use)
        };
        self.set_nlink(nlink);
        done
    }

    /// A name is hidden, and the instance does not know: its change time moves all the same.
    fn name_hidden(&self, section: Section<'_>) {
        let touch = || -> Result<bool> {
            let top = self.stack(section)?.top();
            if self.nlink() <= 1 || !top.branch().writable() {
                return Ok(false);
            }
            let before = top.inode()?.change_time();
            // Nobody waits for another branch than the one that is changed.
            let Some(write) = top.branch().try_write()? else {
                return Ok(false);
            };
            self.sb()
                .data()
                .cred
                .scope(|| Change::new().changed().apply(write.to(top.path()?)?))?;
            drop(write);
            // A server need not do what it is told.
            Ok(top.inode()?.change_time() != before)
        };
        // What cannot be told the branch is shown as long as the inode is in memory.
        match touch() {
            Ok(true) => self.unveil(),
            _ => self.show_change(section),
        }
    }

    /// The object was promoted: its new top instance counts its own names.
    pub(crate) fn count_anew(&self) {
        store(&self.data().hidden, 0);
    }
}

/// The link count that stat(2) shows. For a directory it counts the sub-directories of each
/// instance, so it is never too small for programs that trust it. 1 tells them that nobody counted,
/// as btrfs does.
pub(crate) fn link_count(stack: &Stack) -> Result<u32> {
    let mut count = stack.top_inode().nlink();
    if !stack.top_inode().is_dir() {
        return Ok(count);
    }
    for slot in stack.rest() {
        let nlink = slot.inode()?.nlink();
        if count == 1 || nlink == 1 {
            return Ok(1);
        }
        count = count.saturating_add(nlink.saturating_sub(2));
    }
    if stack.top().is_root() && count > 2 {
        // The directories of bookkeeping do not show.
        let works = stack.iter().filter(|slot| slot.branch().work.is_some());
        count = works.fold(count, |count, _| count.saturating_sub(2)).max(2);
    }
    Ok(count)
}

/// The union's inode for the instances `slots`, which are not empty: a cached one or a new one.
pub(crate) fn get(section: Section<'_>, slots: Slots) -> Result<ARef<Inode>> {
    let (top, rest) = slots.split().ok_or(EIO)?;
    if top.inode()?.is_dir() {
        get_dir(section, top, rest)
    } else {
        get_other(section, top)
    }
}

/// What was found by a name gets the instance under that name, if the one that it is known by is
/// none, or none any more: it was found by a file handle, the name was removed, or the file was
/// moved to another branch.
fn give_named(section: Section<'_>, inode: &Inode, named: KBox<Stack>) -> Result {
    let wanted = || -> Result<bool> {
        let (known, new) = (inode.stack(section)?, named.top());
        let top = known.top();
        let gone = top.dentry().is_root()
            || top.dentry().is_unhashed()
            || (top.dentry().is(new.dentry()) && top.branch().id != new.branch().id);
        Ok(gone && core::ptr::eq(known.top_inode(), named.top_inode()))
    };
    if !wanted()? {
        return Ok(());
    }
    let lock = inode.promotion_lock();
    if wanted()? {
        inode.publish(section, named);
    }
    drop(lock);
    Ok(())
}

/// As [`get`], for a directory with `top` and the instances below it.
fn get_dir(section: Section<'_>, top: Slot, rest: KVec<Slot>) -> Result<ARef<Inode>> {
    let branch = top.branch().clone();
    let lower: ARef<LowerDentry> = top.dentry().clone();
    let lower_inode = lower.inode().ok_or(ESTALE)?;
    plink::part_numbers(section, &top)?;
    let number = section.data().ino.number_of(&branch, &lower)?;
    let stack = StackSpace::new()?.fill(top, rest)?;
    let nlink = link_count(&stack)?;
    let mut stack = Some(stack);
    let found = Inode::get(
        section.sb(),
        number,
        |inode| inode.nlink() > 0 && inode.ever_led_to(section, lower_inode),
        |inode| {
            if let Some(stack) = stack.take() {
                inode.publish(section, stack);
            }
        },
    )?;
    match (found, stack) {
        (Got::New(new), _) => {
            let inode = new.finish(lower_inode, branch.root.mount().idmap(), nlink);
            watch::watch(section, &inode)?;
            Ok(inode)
        }
        (Got::Cached(inode), None) => Ok(inode),
        (Got::Cached(inode), Some(stack)) => {
            let lock = inode.promotion_lock();
            let known = inode.stack(section)?;
            // It may have gained or lost an instance behind our back. After a promotion, which the
            // scan may have missed, the top inode differs, and what is known is newer; but not if
            // it was removed.
            let same_top = core::ptr::eq(known.top_inode(), lower_inode);
            let changes =
                (same_top || known.top_inode().is_dead_dir()) && !same_slots(known, &stack);
            if changes {
                inode.publish(section, stack);
                inode.forget_surplus();
            }
            drop(lock);
            if changes {
                watch::watch(section, &inode)?;
            }
            Ok(inode)
        }
    }
}

/// Whether both have the same instances.
fn same_slots(a: &Stack, b: &Stack) -> bool {
    for (a, b) in Iterator::zip(a.iter(), b.iter()) {
        if !a.dentry().is(b.dentry()) || a.branch().id != b.branch().id {
            return false;
        }
    }
    a.len() == b.len()
}

/// A stack of these slots, which are not empty.
pub(crate) fn stack_of(slots: Slots) -> Result<KBox<Stack>> {
    let (top, rest) = slots.split().ok_or(EIO)?;
    StackSpace::new()?.fill(top, rest)
}

/// As [`get`], for a non-directory that was found as `found`.
fn get_other(section: Section<'_>, found: Slot) -> Result<ARef<Inode>> {
    let info = section.data();
    let found_inode = found.inode()?;
    loop {
        // Another name of it may have been copied up.
        let known = plink::resolve(section, &found)?;
        let (slot, is_copy, names) = match &known {
            Some(known) => (&known.slot, known.is_copy, known.names),
            None => (&found, false, None),
        };
        let lower_inode = slot.inode()?;
        plink::part_numbers(section, slot)?;
        let number = info.ino.number_of(slot.branch(), slot.dentry())?;
        let links = lower_inode.nlink();
        let nlink = names.map_or(links, |count| count.max(1));
        let mut stack = Some(StackSpace::new()?.fill(slot.clone(), KVec::new())?);
        let got = Inode::get(
            section.sb(),
            number,
            |inode| {
                // A copy-up that is about to end has not published its stack yet.
                inode.nlink() > 0
                    && (inode.ever_led_to(section, lower_inode)
                        || inode.ever_led_to(section, found_inode))
            },
            |inode| {
                if let Some(stack) = stack.take() {
                    inode.publish(section, stack);
                }
                inode.set_plinked(is_copy);
                if names.is_some() && !is_copy {
                    let hidden = links.saturating_sub(nlink);
                    store(&inode.data().hidden, hidden);
                }
            },
        )?;
        match got {
            Got::Cached(inode) => {
                if let Some(stack) = stack.filter(|_| !slot.dentry().is_root()) {
                    give_named(section, &inode, stack)?;
                }
                return Ok(inode);
            }
            Got::New(new) => {
                // A copy-up may have begun and ended since we asked, and its inode be gone.
                let now = plink::resolve(section, &found)?;
                let now = now.as_ref().map_or(&found, |known| &known.slot);
                if now.dentry().is(&**slot.dentry()) {
                    let idmap = slot.branch().root.mount().idmap();
                    return Ok(new.finish(lower_inode, idmap, nlink));
                }
            }
        }
    }
}

/// Memory for a new stack, taken before a change that must not fail after it.
pub(crate) struct Room {
    space: StackSpace<Branch>,
    rest: KVec<Slot>,
}

impl Room {
    /// For one slot.
    pub(crate) fn alone() -> Result<Self> {
        Ok(Room {
            space: StackSpace::new()?,
            rest: KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// For one more slot than `stack` has.
    pub(crate) fn beside(stack: &Stack) -> Result<Self> {
        let mut rest = KVec::with_capacity(stack.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
        for slot in stack.iter() {
            rest.push(slot.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Room {
            space: StackSpace::new()?,
            rest,
        })
    }

    /// The stack, with `slot` at its place in the order of `table`. Allocates nothing.
    pub(crate) fn fill(self, table: &BranchTable, slot: Slot) -> Result<KBox<Stack>> {
        let Room { space, mut rest } = self;
        let place = table.index_of(slot.branch().id).ok_or(ESTALE)?;
        let at = rest
            .iter()
            .position(|other| table.index_of(other.branch().id).is_none_or(|i| i > place))
            .unwrap_or(rest.len());
        rest.insert_within_capacity(at, slot).map_err(|_| EIO)?;
        let top = rest.remove(0).map_err(|_| EIO)?;
        space.fill(top, rest)
    }
}

/// The root inode, for the roots of all branches.
pub(crate) fn get_root(section: Section<'_>, slots: Slots) -> Result<ARef<Inode>> {
    let (top, rest) = slots.split().ok_or(EIO)?;
    let branch = top.branch().clone();
    let lower: ARef<LowerDentry> = top.dentry().clone();
    let lower_inode = lower.inode().ok_or(ESTALE)?;
    let stack = StackSpace::new()?.fill(top, rest)?;
    let nlink = link_count(&stack)?;
    let mut stack = Some(stack);
    let fill = |inode: &Inode| {
        if let Some(stack) = stack.take() {
            inode.publish(section, stack);
        }
    };
    match Inode::get(section.sb(), ino::ROOT, |_| false, fill)? {
        Got::New(new) => {
            let inode = new.finish(lower_inode, branch.root.mount().idmap(), nlink);
            watch::watch(section, &inode)?;
            Ok(inode)
        }
        Got::Cached(inode) => Ok(inode),
    }
}

impl Dentry {
    /// The inode of a dentry that must have one.
    pub(crate) fn object(&self) -> Result<&Inode> {
        self.positive()
    }
}
