// SPDX-License-Identifier: GPL-2.0

//! Proofs of being in a section of the [`gate`](crate::fs::base::gate), or of being alone.
//!
//! What may be replaced while a super block is mounted, its shape and the stacks of its inodes, is
//! given to who shows a [`Section`], for no longer than that lasts. A section is borrowed from the
//! guard of a read section ([`Reading`], [`Entered`]), or from [`Alone`], the proof that nobody
//! else replaces anything.
//!
//! # Invariants
//!
//! A section of `'r` was begun on its super block, and does not end before `'r` does. One that is
//! borrowed from [`Alone`] ends before anything that was replaced is freed: [`Replaced::free`]
//! borrows it exclusively. What a change retires is owned by the [`Replaced`] of that change, and
//! freed after the grace period of that change.

use super::{
    inode::Inode,
    sb::SuperBlock,
    stack::{
        Chain,
        Stack, //
    }, //
};
use crate::fs::{
    base::{
        gate::{
            self,
            Room, //
        },
        seats::{
            Doing,
            Occupant, //
        }, //
    },
    types::FileSystem, //
};
use core::{
    mem::ManuallyDrop,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::Delta,
    types::NotThreadSafe, //
};

/// A section of a task, as long as it lasts: what a callback works in.
///
/// # Invariants
///
/// Those of the module.
pub(crate) struct Section<'r, T: FileSystem>(&'r SuperBlock<T>, NotThreadSafe);

impl<T: FileSystem> Clone for Section<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FileSystem> Copy for Section<'_, T> {}

impl<'r, T: FileSystem> Section<'r, T> {
    /// The super block.
    #[inline]
    pub(crate) fn sb(self) -> &'r SuperBlock<T> {
        self.0
    }

    /// The state of the file system.
    #[inline]
    pub(crate) fn data(self) -> &'r T::Data {
        self.0.data()
    }

    /// The shape.
    #[inline]
    pub(crate) fn shape(self) -> &'r T::Shape {
        // SAFETY: By the invariant of the module.
        unsafe { self.0.state().shape.get() }
    }

    /// Runs `f`, which takes long, outside the section. See [`Gate::outside`].
    pub(crate) fn outside<R>(self, f: impl FnOnce() -> R) -> (R, bool) {
        self.0.gate().outside(f)
    }
}

/// A section of a callback that only looks.
pub(crate) struct Reading<'a, T: FileSystem> {
    sb: &'a SuperBlock<T>,
    /// Ends it.
    _guard: gate::Reading<'a>,
}

impl<T: FileSystem> Reading<'_, T> {
    /// The section, as long as the guard.
    #[inline]
    pub(crate) fn section(&self) -> Section<'_, T> {
        // INVARIANT: Begun by `SuperBlock::read()`; it ends when the guard, which is borrowed, is
        // dropped.
        Section(self.sb, NotThreadSafe)
    }
}

/// A section of a callback that changes names or instances.
pub(crate) struct Entered<'a, T: FileSystem> {
    sb: &'a SuperBlock<T>,
    /// Ends it.
    guard: gate::Entered<'a>,
}

impl<T: FileSystem> Entered<'_, T> {
    /// The section, as long as the guard.
    #[inline]
    pub(crate) fn section(&self) -> Section<'_, T> {
        // INVARIANT: As for `Reading::section()`. What was seen before a call of
        // `Gate::outside()` stays until the guard is dropped.
        Section(self.sb, NotThreadSafe)
    }

    /// See [`gate::Entered::mark`](crate::fs::base::gate::Entered::mark).
    #[inline]
    pub(in crate::fs) fn mark(&self) -> usize {
        self.guard.mark()
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Begins a section of the gate. Does not wait.
    #[inline]
    pub(crate) fn read(&self) -> Reading<'_, T> {
        Reading {
            sb: self,
            _guard: self.gate().read(),
        }
    }

    /// Begins a short section when the gate is open, see [`Gate::pass`].
    ///
    /// [`Gate::pass`]: crate::fs::base::gate::Gate::pass
    #[inline]
    pub(in crate::fs) fn pass(&self) -> Reading<'_, T> {
        Reading {
            sb: self,
            _guard: self.gate().pass(),
        }
    }

    /// Begins a section in which names or instances change; waits while the gate is closed.
    #[inline]
    pub(crate) fn enter(&self, doing: Doing) -> Entered<'_, T> {
        Entered {
            sb: self,
            guard: self.gate().enter(doing),
        }
    }

    /// As [`SuperBlock::enter`], if the gate is open.
    pub(crate) fn try_enter(&self) -> Option<Reading<'_, T>> {
        Some(Reading {
            sb: self,
            _guard: self.gate().try_enter()?,
        })
    }

    /// Shows that the current task may be in something long, see [`Gate::sit`].
    pub(crate) fn sit(&self, doing: Doing) -> gate::Sitting<'_> {
        self.gate().sit(doing)
    }
}

/// Proof that nobody but its owner changes the shape of the super block.
///
/// # Invariants
///
/// This task holds `s_umount` exclusively, or nobody else can reach the super block. There is one
/// value for a super block at a time.
pub(crate) struct Alone<'a, T: FileSystem>(&'a SuperBlock<T>, NotThreadSafe);

impl<'a, T: FileSystem> Alone<'a, T> {
    /// # Safety
    ///
    /// The type invariant must hold until the value is dropped.
    pub(in crate::fs) unsafe fn new(sb: &'a SuperBlock<T>) -> Self {
        // INVARIANT: By the caller's contract.
        Alone(sb, NotThreadSafe)
    }

    /// The super block.
    pub(crate) fn sb(&self) -> &'a SuperBlock<T> {
        self.0
    }

    /// What there is stays as long as the proof is not borrowed exclusively.
    pub(crate) fn section(&self) -> Section<'_, T> {
        // INVARIANT: Nobody else frees anything, and `Replaced::free()` borrows `self` exclusively.
        Section(self.0, NotThreadSafe)
    }

    /// Closes the gate for at most about `time`. See [`Gate::close`].
    pub(crate) fn close(&self, time: Delta) -> Result<Attempt<'a, T>> {
        let room = Room::new()?;
        Ok(match self.0.gate().close(time)? {
            gate::Attempt::Closed(gate) => Attempt::Closed(Closed {
                gate,
                sb: self.0,
                room,
            }),
            gate::Attempt::Busy(who) => Attempt::Busy(who),
        })
    }
}

/// What became of an attempt to close a gate.
pub(crate) enum Attempt<'a, T: FileSystem> {
    /// It is closed, and nobody is inside.
    Closed(Closed<'a, T>),
    /// It is open again; this one did not leave in time.
    Busy(Option<Occupant>),
}

/// What a change retires.
type Retired<T> = (
    Arc<<T as FileSystem>::Shape>,
    Chain<<T as FileSystem>::Place>,
);

/// A closed gate. It opens when this is dropped.
pub(crate) struct Closed<'a, T: FileSystem> {
    gate: gate::Closed<'a>,
    sb: &'a SuperBlock<T>,
    /// Memory to remember what is retired.
    room: Room<Retired<T>>,
}

impl<'a, T: FileSystem> Closed<'a, T> {
    /// The super block.
    pub(crate) fn sb(&self) -> &'a SuperBlock<T> {
        self.sb
    }

    /// Begins a change: replaces the shape. Who has found the old one may go on with it.
    pub(crate) fn replace(self, shape: Arc<T::Shape>) -> Replaced<'a, T> {
        let Closed { gate, sb, room } = self;
        let shape = sb.state().shape.replace(&gate, shape);
        // INVARIANT: The gate counted the change, and nobody finds the shape any more.
        Replaced {
            gate,
            sb,
            room,
            retired: ManuallyDrop::new((ManuallyDrop::into_inner(shape), Chain::new())),
        }
    }
}

/// A change of the shape, the gate still closed. It owns what it retires, the old shape and stacks.
/// If it is dropped the gate opens, and what is retired is leaked: [`Replaced::free`] frees it.
///
/// # Invariants
///
/// The gate is closed, and counted this change after it was. Nobody finds what is in `retired` any
/// more but who may have seen it before: sections, and walks under RCU.
pub(crate) struct Replaced<'a, T: FileSystem> {
    gate: gate::Closed<'a>,
    sb: &'a SuperBlock<T>,
    room: Room<Retired<T>>,
    retired: ManuallyDrop<Retired<T>>,
}

impl<T: FileSystem> Replaced<'_, T> {
    /// Retires the stacks of `inode` for which `unwanted` holds, but for the current one, and for
    /// those that are lent. Does nothing for an inode of another super block.
    pub(crate) fn prune(
        &mut self,
        inode: &Inode<T>,
        unwanted: &mut dyn FnMut(&Stack<T::Place>) -> bool,
    ) {
        if ptr::eq(self.sb.as_ptr(), inode.sb_ptr()) {
            // SAFETY: By the type invariant the change was counted. Nobody else takes stacks out,
            // as the gate is closed and `self` is borrowed exclusively.
            unsafe { inode.prune(unwanted, &mut self.retired.1) };
        }
    }

    /// Opens the gate and frees what was retired, once nobody may look at it: at once, or, if
    /// somebody does not leave, later. See
    /// [`gate::Closed::free`](crate::fs::base::gate::Closed::free).
    pub(crate) fn free(self, alone: &mut Alone<'_, T>) {
        let Replaced {
            gate,
            sb,
            room,
            retired,
        } = self;
        if !ptr::eq(alone.0, sb) {
            // What is retired is leaked.
            return;
        }
        // SAFETY: By the type invariant. Of those who look without entering, the owner of the one
        // `Alone` of the super block borrows it exclusively, and with it no section.
        unsafe { gate.free(room, ManuallyDrop::into_inner(retired)) };
    }
}
