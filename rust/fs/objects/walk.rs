// SPDX-License-Identifier: GPL-2.0

//! What a path walk in RCU mode sees: it holds no reference, so it compares and reads plain words.

use super::{
    dentry::Dentry,
    inode::{
        Inode,
        SeenInode, //
    },
    section::Section,
    stack::RcuStack, //
};
use crate::bindings;
use crate::fs::{
    base::{
        name,
        once::load_acquire, //
    },
    types::{
        FileSystem,
        Foreign, //
    }, //
};
use kernel::sync::{
    atomic::Full,
    rcu, //
};

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

/// One of our dentries inside a walk, possibly under RCU.
///
/// Only comparisons are offered; none of them takes a reference. A walk that holds references has
/// more to offer ([`Walk::held`]).
///
/// # Invariants
///
/// The walk is in a section of the gate, with references to all three objects, or else under RCU.
pub(crate) struct Walk<'a, T: FileSystem> {
    pub(in crate::fs) dir: &'a Inode<T>,
    pub(in crate::fs) dentry: &'a Dentry<T>,
    pub(in crate::fs) inode: Option<&'a Inode<T>>,
    pub(in crate::fs) name: &'a bindings::qstr,
    pub(in crate::fs) section: Option<Section<'a, T>>,
    /// `d_time` before all checks.
    pub(in crate::fs) left: usize,
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
pub(crate) struct Seal(pub(in crate::fs) usize);

impl Seal {
    const SEQ_SHIFT: u32 = 32;

    /// The seal of a name that is absent: nothing but its guard tells.
    // CAST: Where a word is too small for it, it is none.
    pub(crate) const ABSENT: Self = Seal((2u64 << Self::SEQ_SHIFT) as usize);

    /// The seal for the top dentry of `stack` in the directory `dirs`, as they are now.
    #[inline]
    pub(in crate::fs) fn now<P>(stack: &RcuStack<'_, P>, dirs: &RcuStack<'_, P>) -> Self {
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
    pub(in crate::fs) const fn is_one(self) -> bool {
        self.sequence() != 0 && self.may_go()
    }

    /// Whether a seal may take the place of what is left there. All bits set are a mark of the file
    /// system's that stays.
    const fn may_go(self) -> bool {
        self.sequence() & 1 == 0
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
