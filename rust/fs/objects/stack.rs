// SPDX-License-Identifier: GPL-2.0

//! The foreign dentries that one of our inodes stands for, readable under RCU.
//!
//! # Terms
//!
//! - *slot*: one foreign dentry with what the file system says about its place.
//! - [`Slots`]: those of an object that were found, topmost first.
//! - [`Stack`]: the slots of an inode, topmost first; never changed once published.
//! - [`StackCell`]: the place in an inode where the current stack is published.
//!
//! # Locking
//!
//! Readers take no lock. Publishers exclude each other (a lock of the file
//! system's own). A replaced stack is kept, chained to its successor, until the
//! inode dies or a change of the file system's shape takes it out
//! ([`Replaced::prune`](super::section::Replaced::prune)): so a reader with a reference to the
//! inode, inside a [`Section`], may use what it read. Replacing is rare (copy-up, a change of
//! branches).
//!
//! # Invariants
//!
//! In RCU walk only the dentry *pointers* of a stack are read, and only compared
//! or looked at (dentries are freed after a grace period of RCU). References are
//! given up in `destroy_inode()`, the stack's own memory in `free_inode()`, a
//! grace period of RCU later: [`StackCell::release`] and `Drop`. What a change
//! takes out goes after the grace period of that change ([`gate`](crate::fs::base::gate)).

use super::{
    dentry::Dentry,
    inode::{
        Address,
        Inode,
        SeenInode, //
    },
    ours::{
        Candidate,
        Dying, //
    },
    section::Section,
    walk::SeenDentry, //
};
use crate::bindings;
use crate::compat::{
    barrier::smp_mb,
    errno::ESTALE, //
};
use crate::fs::{
    base::once::{
        load_acquire,
        store_release, //
    },
    types::FileSystem, //
};
use core::{
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// One foreign dentry and its place, which is compared by address.
///
/// # Invariants
///
/// `inode` is null or the inode of `dentry`, which has it as long as there are references
/// ([`Dentry::inode`]).
pub(crate) struct Slot<P> {
    // Dropped first: what keeps its file system mounted may be the place.
    dentry: ARef<Dentry>,
    /// What most readers want, without a walk through the dentry.
    pub(in crate::fs) inode: *mut bindings::inode,
    place: Arc<P>,
}

// SAFETY: What is shared are a dentry, its inode and a place.
unsafe impl<P: Send + Sync> Send for Slot<P> {}

// SAFETY: As above.
unsafe impl<P: Send + Sync> Sync for Slot<P> {}

impl<P> Clone for Slot<P> {
    fn clone(&self) -> Self {
        Slot {
            dentry: self.dentry.clone(),
            inode: self.inode,
            place: self.place.clone(),
        }
    }
}

impl<P> Slot<P> {
    /// A slot for a positive dentry.
    pub(crate) fn new(place: Arc<P>, dentry: ARef<Dentry>) -> Self {
        // INVARIANT: `dentry` is a reference.
        Slot {
            inode: dentry.inode().map_or(ptr::null_mut(), Inode::as_ptr),
            place,
            dentry,
        }
    }

    /// The inode of the foreign dentry. `ESTALE` if somebody took it away before the slot was made.
    #[inline]
    pub(crate) fn inode(&self) -> Result<&Inode> {
        if self.inode.is_null() {
            return Err(ESTALE.into());
        }
        // SAFETY: By the type invariant; the reference is alive as long as the slot.
        Ok(unsafe { Inode::from_raw(self.inode) })
    }

    /// What the file system says about its place.
    pub(crate) fn place(&self) -> &Arc<P> {
        &self.place
    }

    /// The foreign dentry.
    pub(crate) fn dentry(&self) -> &ARef<Dentry> {
        &self.dentry
    }
}

/// The slots that were found of an object, topmost first. Most objects have one, for which no
/// memory is taken.
pub(crate) struct Slots<P> {
    top: Option<Slot<P>>,
    rest: KVec<Slot<P>>,
}

impl<P> Slots<P> {
    /// None.
    pub(crate) fn new() -> Self {
        Slots {
            top: None,
            rest: KVec::new(),
        }
    }

    /// One.
    pub(crate) fn one(slot: Slot<P>) -> Self {
        Slots {
            top: Some(slot),
            ..Self::new()
        }
    }

    /// Adds one below the others.
    pub(crate) fn push(&mut self, slot: Slot<P>) -> Result {
        match self.top {
            None => self.top = Some(slot),
            Some(_) => self.rest.push(slot, GFP_KERNEL_ACCOUNT)?,
        }
        Ok(())
    }

    /// The topmost one.
    pub(crate) fn first(&self) -> Option<&Slot<P>> {
        self.top.as_ref()
    }

    /// The lowest one.
    pub(crate) fn last(&self) -> Option<&Slot<P>> {
        self.rest.last().or(self.top.as_ref())
    }

    /// All, topmost first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<P>> {
        Iterator::chain(self.top.iter(), self.rest.iter())
    }

    /// The same once more.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let mut rest = KVec::with_capacity(self.rest.len(), GFP_KERNEL)?;
        for slot in self.rest.iter() {
            rest.push(slot.clone(), GFP_KERNEL)?;
        }
        let top = self.top.clone();
        Ok(Slots { top, rest })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rest
            .len()
            .saturating_add(usize::from(!self.is_empty()))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// The topmost one and the others, if there is one.
    pub(crate) fn split(self) -> Option<(Slot<P>, KVec<Slot<P>>)> {
        Some((self.top?, self.rest))
    }
}

/// The first [`Stack::serial`], and the step to the next one.
const SERIAL_ONE: u32 = 1 << 16;

/// The slots of an inode.
///
/// # Invariants
///
/// The references of the slots are alive, unless the stack was released by its [`StackCell`]. The
/// top one has an inode.
pub(crate) struct Stack<P> {
    /// A foreign file system wants to be asked about its dentries itself.
    remote: bool,
    /// See [`Stack::is_plain`].
    plain: bool,
    /// Counts the stacks of one cell, from 1, in the upper half: that is where a seal has it.
    serial: u32,
    pub(in crate::fs) top: ManuallyDrop<Slot<P>>,
    rest: KVec<ManuallyDrop<Slot<P>>>,
    /// Changed under a closed gate only, but read by who may be inside all the same.
    previous: Atomic<*mut Stack<P>>,
    released: AtomicFlag,
    /// Its top dentry was given to who keeps it with a name of ours ([`Inode::lend`]).
    lent: AtomicFlag,
}

// SAFETY: What it owns are slots; `previous` is for the cell that it is published in, which is
// shared between threads.
unsafe impl<P: Send + Sync> Send for Stack<P> {}

/// Memory for a [`Stack`].
pub(crate) struct StackSpace<P>(KBox<MaybeUninit<Stack<P>>>);

impl<P> StackSpace<P> {
    /// Takes the memory.
    pub(crate) fn new() -> Result<Self> {
        Ok(StackSpace(KBox::new_uninit(GFP_KERNEL_ACCOUNT)?))
    }

    /// A stack of `top` and the slots below it. `ESTALE` if `top` is negative, which only
    /// somebody else can have brought about.
    pub(crate) fn fill(self, top: Slot<P>, rest: KVec<Slot<P>>) -> Result<KBox<Stack<P>>> {
        let inode = top.inode()?;
        let remote = top.dentry.is_remote() || rest.iter().any(|slot| slot.dentry.is_remote());
        let plain = !remote && !inode.is_block_device();
        let (slots, len, capacity) = rest.into_raw_parts();
        // INVARIANT: Slots that are not dropped have their references.
        Ok(self.0.write(Stack {
            remote,
            plain,
            serial: SERIAL_ONE,
            top: ManuallyDrop::new(top),
            // SAFETY: The parts of a vector that was just taken apart; `ManuallyDrop` has the
            // layout of what it wraps.
            rest: unsafe { KVec::from_raw_parts(slots.cast(), len, capacity) },
            previous: Atomic::new(ptr::null_mut()),
            released: AtomicFlag::new(false),
            lent: AtomicFlag::new(false),
        }))
    }
}

impl<P> Stack<P> {
    /// The top slot.
    pub(crate) fn top(&self) -> &Slot<P> {
        &self.top
    }

    /// The inode of the top slot.
    pub(crate) fn top_inode(&self) -> &Inode {
        // SAFETY: By the invariants of both types; inodes are freed after a grace period.
        unsafe { Inode::from_raw(self.top.inode) }
    }

    /// Tells the stack from those before and after it in the same inode; never 0. The lower half
    /// is 0.
    #[inline]
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether a foreign file system wants to be asked about its dentries itself, as those do that
    /// are not local.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote
    }

    /// Whether the file system of the top slot alone knows what stat(2) shows of it, and does not
    /// care who asks: it is local, and the object is no block device.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The slots below the top one.
    pub(crate) fn rest(&self) -> &[ManuallyDrop<Slot<P>>] {
        &self.rest
    }

    /// All slots, topmost first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<P>> {
        Iterator::chain(
            core::iter::once(&*self.top),
            self.rest.iter().map(|slot| &**slot),
        )
    }

    /// The `i`-th slot from the top.
    pub(crate) fn get(&self, i: usize) -> Option<&Slot<P>> {
        match i.checked_sub(1) {
            None => Some(&self.top),
            Some(i) => self.rest.get(i).map(|slot| &**slot),
        }
    }

    /// The number of slots, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.rest.len().saturating_add(1)
    }

    /// Gives up the references, not the memory.
    fn release(&self) {
        if self.released.xchg(true, Full) {
            return;
        }
        // RCU walkers may still read the pointers, so the slots are dropped as copies of
        // themselves, and nothing is written here.
        for slot in Iterator::chain(core::iter::once(&self.top), self.rest.iter()) {
            // SAFETY: By the type invariant they are alive; `released` keeps us from coming here
            // again, and everybody else from using them.
            drop(unsafe { ptr::read(&raw const **slot) });
        }
    }
}

impl<P> Drop for Stack<P> {
    fn drop(&mut self) {
        self.release();
    }
}

/// Where the current stack of an inode is published.
///
/// # Invariants
///
/// `current` is null or the head of a chain of stacks that the cell owns.
pub(crate) struct StackCell<P> {
    current: Atomic<*mut Stack<P>>,
    /// The inode of the current top slot, for comparison alone: that needs no read section.
    top: Atomic<*mut bindings::inode>,
    _own: PhantomData<KBox<Stack<P>>>,
}

// SAFETY: What is shared are stacks of `P` and dentries.
unsafe impl<P: Send + Sync> Send for StackCell<P> {}

// SAFETY: As above; publishing is atomic.
unsafe impl<P: Send + Sync> Sync for StackCell<P> {}

impl<P> StackCell<P> {
    /// An empty cell.
    pub(crate) const fn new() -> Self {
        StackCell {
            current: Atomic::new(ptr::null_mut()),
            top: Atomic::new(ptr::null_mut()),
            _own: PhantomData,
        }
    }

    /// The current stack, or `None` before the first was published.
    ///
    /// # Safety
    ///
    /// The caller must have a reference to the inode that the cell is part of, and be in a section
    /// of its super block; both must last for `'r`.
    #[inline]
    pub(in crate::fs) unsafe fn get<'r>(&self) -> Option<&'r Stack<P>> {
        // SAFETY: By the type invariant; stacks are kept until the cell is released, and that
        // happens after the last reference to the inode is gone. One that a change takes out before
        // is freed after the grace period of that change, which the section holds up.
        unsafe { load_acquire(&self.current).as_ref() }
    }

    /// The current stack and those before it, newest first. Beside [`StackCell::prune`], which a
    /// closed gate ensures does not happen to who has entered, some may be missing, or others'.
    ///
    /// # Safety
    ///
    /// As for [`StackCell::get`].
    pub(in crate::fs) unsafe fn history<'r>(&self) -> impl Iterator<Item = &'r Stack<P>>
    where
        P: 'r,
    {
        let mut next = load_acquire(&self.current);
        core::iter::from_fn(move || {
            // SAFETY: As for `get`; what a stack was linked to when the section began is freed
            // after it.
            let stack = unsafe { next.as_ref()? };
            next = load_acquire(&stack.previous);
            Some(stack)
        })
    }

    /// Takes the stacks for which `unwanted` holds out of the history. The current one stays.
    ///
    /// # Safety
    ///
    /// Nobody else takes stacks out or frees them. What is retired is freed after a grace period of
    /// the gate that begins after the call.
    pub(in crate::fs) unsafe fn prune(
        &self,
        unwanted: &mut dyn FnMut(&Stack<P>) -> bool,
        retired: &mut Chain<P>,
    ) {
        let current = load_acquire(&self.current);
        // SAFETY: By the type invariant and the caller's contract.
        unsafe {
            let mut link = current.as_ref();
            while let Some(newer) = link {
                let stack = load_acquire(&newer.previous);
                match stack.as_ref() {
                    Some(found) if unwanted(found) => {
                        store_release(&newer.previous, load_acquire(&found.previous));
                        store_release(&found.previous, retired.0);
                        retired.0 = stack;
                    }
                    other => link = other,
                }
            }
        }
    }

    /// Publishes `new`; the stack before it stays readable.
    ///
    /// # Safety
    ///
    /// The caller must be in a section of the super block of the inode that the cell is part of.
    pub(in crate::fs) unsafe fn publish(&self, new: KBox<Stack<P>>) {
        let top = new.top.inode;
        let new = KBox::into_raw(new);
        let mut current = self.current.load(Acquire);
        loop {
            // SAFETY: Nobody else knows `new` yet. The current one stays as long as the section,
            // and its number is not written any more.
            unsafe {
                (*new).previous.store(current, Relaxed);
                if let Some(current) = current.as_ref() {
                    (*new).serial = current.serial.wrapping_add(SERIAL_ONE).max(SERIAL_ONE);
                }
            }
            match self.current.cmpxchg(current, new, Full) {
                Ok(_) => break,
                Err(other) => current = other,
            }
        }
        store_release(&self.top, top);
    }

    /// The current stack, for a walk under RCU that holds no reference.
    ///
    /// # Safety
    ///
    /// The caller must be in a path walk under RCU or in a section of the gate, and not leave it
    /// before the last use of the value.
    #[inline]
    pub(in crate::fs) unsafe fn rcu(&self) -> Option<RcuStack<'_, P>> {
        // SAFETY: The memory of a stack lives until `free_inode()`, a grace period of RCU after the
        // inode could be found last, or until the grace period of the change that took it out
        // (`gate`, Invariants). Fields that are read are never written after publication.
        unsafe { load_acquire(&self.current).as_ref() }.map(RcuStack)
    }

    /// Gives up what the stacks refer to.
    ///
    /// # Safety
    ///
    /// The last reference to the inode that the cell is part of must be gone.
    unsafe fn release(&self) {
        let mut next = self.current.load(Relaxed);
        while !next.is_null() {
            // SAFETY: By the type invariant. By the caller's contract nobody has a reference to the
            // inode, and with it a slot, any more. Only walks under RCU may still read, and what
            // they read is not written here.
            unsafe {
                (*next).release();
                next = load_acquire(&(*next).previous);
            }
        }
    }
}

impl<P> Drop for StackCell<P> {
    fn drop(&mut self) {
        // INVARIANT: By the type invariant the chain is ours.
        drop(Chain(self.current.load(Relaxed)));
    }
}

impl<T: FileSystem> Dying<'_, T> {
    /// Gives up what the stacks refer to.
    pub(in crate::fs) fn release(self) {
        // SAFETY: By the type invariant the last reference is gone.
        unsafe { self.inode().cell().release() };
    }
}

impl<T: FileSystem> Inode<T> {
    /// Its cell, if the section is one of its super block.
    #[inline]
    fn cell_in(&self, section: Section<'_, T>) -> Result<&StackCell<T::Place>> {
        if !ptr::eq(self.sb_ptr(), section.sb().as_ptr()) {
            return Err(ESTALE.into());
        }
        Ok(self.cell())
    }

    /// The inode of the current top slot, for comparison; null before the first stack was
    /// published.
    #[inline]
    pub(crate) fn top_address(&self) -> Address {
        Address(load_acquire(&self.cell().top))
    }

    /// The top dentry, for who keeps it with a reference to a name of this inode, longer than the
    /// section: as long as there is one, the stack is not taken out.
    pub(in crate::fs) fn lend(&self, section: Section<'_, T>) -> Option<*mut bindings::dentry> {
        loop {
            let stack = self.stack(section).ok()?;
            // A word that others read is not written for nothing.
            if !stack.lent.load(Relaxed) {
                stack.lent.store(true, Relaxed);
            }
            smp_mb();
            // One that is taken out was replaced before, and there is a barrier between. Who takes
            // it out sees that it is lent, or this sees what has replaced it.
            if ptr::eq(load_acquire(&self.cell().current).cast_const(), stack) {
                return Some(stack.top.dentry.as_ptr());
            }
        }
    }

    /// The foreign dentries that it stands for.
    ///
    /// # Errors
    ///
    /// `ESTALE` if the section is one of another super block; `EIO` if it has none yet.
    #[inline]
    pub(crate) fn stack<'r>(&'r self, section: Section<'r, T>) -> Result<&'r Stack<T::Place>> {
        let cell = self.cell_in(section)?;
        // SAFETY: The inode is borrowed for `'r`, and the section, which is one of its super
        // block, lasts as long.
        unsafe { cell.get() }.ok_or(EIO)
    }

    /// The stacks that it has and had, newest first. Complete for who has entered the gate or is
    /// alone.
    pub(crate) fn history<'r>(
        &'r self,
        section: Section<'r, T>,
    ) -> impl Iterator<Item = &'r Stack<T::Place>> {
        let cell = self.cell_in(section).ok();
        // SAFETY: As for `stack()`.
        cell.into_iter().flat_map(|cell| unsafe { cell.history() })
    }

    /// Publishes a new stack. The caller excludes other publishers. Not published is one in a
    /// section of another super block.
    pub(crate) fn publish(&self, section: Section<'_, T>, stack: KBox<Stack<T::Place>>) {
        if let Ok(cell) = self.cell_in(section) {
            // SAFETY: The section is one of the inode's super block.
            unsafe { cell.publish(stack) };
        }
    }

    /// Takes stacks out of the history, but for those that are lent.
    ///
    /// # Safety
    ///
    /// As for [`StackCell::prune`].
    pub(in crate::fs) unsafe fn prune(
        &self,
        unwanted: &mut dyn FnMut(&Stack<T::Place>) -> bool,
        retired: &mut Chain<T::Place>,
    ) {
        // SAFETY: The inode is valid.
        let in_use = || unsafe { bindings::ruaufs_helper_is_named_in_use(self.as_ptr()) };
        let is_lent = |stack: &Stack<_>| stack.lent.load(Acquire) && in_use();
        // SAFETY: By the caller's contract.
        unsafe {
            self.cell()
                .prune(&mut |stack| unwanted(stack) && !is_lent(stack), retired)
        };
    }
}

impl<'a, T: FileSystem> Candidate<'a, T> {
    /// As [`Inode::stack`].
    pub(crate) fn stack<'s: 'a>(self, section: Section<'s, T>) -> Result<&'a Stack<T::Place>> {
        self.inode().stack(section)
    }

    /// Whether its top slot leads to `inode`, or did at any time. Does not sleep.
    pub(crate) fn ever_led_to(self, section: Section<'_, T>, inode: &Inode) -> bool {
        self.inode().ever_led_to(section, inode)
    }
}

impl<T: FileSystem> Inode<T> {
    /// Whether the top slot leads to `inode`, or did at any time. Does not sleep.
    pub(crate) fn ever_led_to(&self, section: Section<'_, T>, inode: &Inode) -> bool {
        self.history(section)
            .any(|stack| ptr::eq(stack.top.inode, inode.as_ptr()))
    }
}

/// Stacks that nobody can find any more.
///
/// # Invariants
///
/// A list, linked by `previous`, of stacks that came from [`KBox::into_raw`] and are owned by it.
pub(in crate::fs) struct Chain<P>(*mut Stack<P>);

// SAFETY: The list owns stacks of `P` and dentries.
unsafe impl<P: Send + Sync> Send for Chain<P> {}

impl<P> Chain<P> {
    /// No stacks yet.
    pub(in crate::fs) fn new() -> Self {
        Chain(ptr::null_mut())
    }
}

impl<P> Drop for Chain<P> {
    fn drop(&mut self) {
        let mut next = self.0;
        while !next.is_null() {
            // SAFETY: By the type invariant.
            let stack = unsafe { KBox::from_raw(next) };
            next = stack.previous.load(Relaxed);
        }
    }
}

/// What RCU walk may see of a stack: pointers, whose references may have been given up. Made for
/// a [`Walk`](super::walk::Walk), and valid as long as that.
pub(crate) struct RcuStack<'a, P>(&'a Stack<P>);

impl<'a, P> RcuStack<'a, P> {
    /// The inode of the top slot.
    #[inline]
    pub(crate) fn top_inode(&self) -> SeenInode<'a> {
        // SAFETY: Inodes are freed after a grace period, and the walk began before the stack's
        // references were given up, else it had not found our inode.
        unsafe { SeenInode::from_raw(self.0.top.inode) }
    }

    /// The top dentry.
    #[inline]
    pub(crate) fn top(&self) -> SeenDentry<'a> {
        // SAFETY: As for `top_inode`: dentries are freed after a grace period.
        unsafe { SeenDentry::from_raw(self.0.top.dentry.as_ptr()) }
    }

    /// As [`Stack::serial`].
    #[inline]
    pub(in crate::fs) fn serial(&self) -> u32 {
        self.0.serial
    }

    /// Whether a foreign file system wants to be asked about its dentries itself.
    #[inline]
    pub(crate) fn is_remote(&self) -> bool {
        self.0.remote
    }

    /// Whether one of the dentries is `dentry`, in the place of the top slot of `child`.
    #[inline]
    pub(in crate::fs) fn has(&self, dentry: *const bindings::dentry, child: &Self) -> bool {
        let is = |slot: &Slot<P>| ptr::eq(slot.dentry.as_ptr(), dentry);
        // Most names lie in the topmost branch or in the lowest one.
        let found = if is(&self.0.top) {
            Some(&self.0.top)
        } else {
            self.0.rest.iter().rev().find(|slot| is(slot))
        };
        found.is_some_and(|slot| Self::place(slot) == Self::place(&child.0.top))
    }

    /// All dentries, topmost first.
    pub(in crate::fs) fn dentries(&self) -> impl Iterator<Item = *mut bindings::dentry> + '_ {
        Iterator::chain(core::iter::once(&self.0.top), self.0.rest.iter())
            .map(|slot| slot.dentry.as_ptr())
    }

    /// Where the place of a slot lies, for comparison.
    fn place(slot: &Slot<P>) -> usize {
        const { assert!(size_of::<Arc<P>>() == size_of::<usize>()) };
        // SAFETY: The slot lives as long as the stack; an `Arc` is a pointer, which is not
        // followed.
        unsafe { (&raw const slot.place).cast::<usize>().read() }
    }
}
