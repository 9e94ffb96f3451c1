// SPDX-License-Identifier: GPL-2.0

//! Where a section's task is noted while the section lasts, so that who closes the gate can name
//! it.

use super::{
    once::load_acquire,
    task::Label, //
};
use crate::bindings;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};

/// What a section does, for messages.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Doing {
    /// Looks a name up, or checks one that is cached.
    LookUp = 1,
    /// Opens a file.
    Open,
    /// Makes an object, or another name of one.
    Make,
    /// Removes a name.
    Remove,
    /// Renames.
    Rename,
    /// Changes attributes, of any kind.
    Attributes,
    /// Reads attributes, of any kind.
    Look,
    /// Reads a directory.
    List,
    /// Writes to a file.
    Write,
    /// Moves a file to another branch.
    Move,
}

impl Doing {
    /// All of them.
    const ALL: [Doing; 10] = [
        Doing::LookUp,
        Doing::Open,
        Doing::Make,
        Doing::Remove,
        Doing::Rename,
        Doing::Attributes,
        Doing::Look,
        Doing::List,
        Doing::Write,
        Doing::Move,
    ];

    /// It, as a message tells it of a process.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Doing::LookUp => "is looking a name up",
            Doing::Open => "is opening a file",
            Doing::Make => "is making a file",
            Doing::Remove => "is removing a name",
            Doing::Rename => "is renaming",
            Doing::Attributes => "is changing attributes",
            Doing::Look => "is reading attributes",
            Doing::List => "is reading a directory",
            Doing::Write => "is writing to a file",
            Doing::Move => "is moving a file to another branch",
        }
    }
}

/// Who is inside, and what it does there.
#[derive(Clone, Copy)]
pub(crate) struct Occupant {
    /// The task, if the caller may see it.
    pub(crate) task: Option<Label>,
    /// What it does, if that is known.
    pub(crate) doing: Option<Doing>,
}

/// See the module documentation.
#[repr(transparent)]
pub(super) struct Seat(pub(super) Opaque<bindings::ruaufs_seat>);

// SAFETY: Words that are read and written as atomics; see the methods.
unsafe impl Send for Seat {}

// SAFETY: As above.
unsafe impl Sync for Seat {}

impl Seat {
    /// The task and what it does; 0 if the seat is free.
    pub(super) fn who(&self) -> &Atomic<usize> {
        // SAFETY: A word, aligned, and only accessed as an atomic, here and in the helper.
        unsafe { Atomic::from_ptr((&raw mut (*self.0.get()).who).cast()) }
    }

    /// 0, or 1 more than how many changes there had been when its section went outside first.
    pub(super) fn kept(&self) -> &Atomic<usize> {
        // SAFETY: As above.
        unsafe { Atomic::from_ptr((&raw mut (*self.0.get()).kept).cast()) }
    }

    /// The section, or 0 if there is none; the task alone changes it.
    pub(super) fn section(&self) -> &Atomic<usize> {
        // SAFETY: As above.
        unsafe { Atomic::from_ptr((&raw mut (*self.0.get()).section).cast()) }
    }

    /// Whether its section is outside at the moment, and so holds nobody up.
    pub(super) fn is_outside(&self) -> bool {
        load_acquire(self.kept()) != 0 && self.section().load(Relaxed) == 0
    }

    /// Whether its section was begun by a task that is known as `pid`.
    pub(super) fn is_of(&self, pid: usize) -> bool {
        load_acquire(self.who()) & PID_MASK == pid
    }

    pub(super) fn occupant(&self) -> Option<Occupant> {
        let who = load_acquire(self.who());
        let doing = who >> bindings::RUAUFS_PID_BITS;
        (who != 0).then(|| Occupant {
            // CAST: Of the width of a task's number.
            task: Label::of((who & PID_MASK) as i32),
            doing: Doing::ALL
                .into_iter()
                .find(|known| *known as usize == doing),
        })
    }
}

pub(super) const PID_MASK: usize = (1 << bindings::RUAUFS_PID_BITS) - 1;

/// The seats of one CPU, or of several.
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [Seat; bindings::RUAUFS_ROW as usize]);

/// More CPUs than that share rows.
const MAX_ROWS: usize = 64;

/// Rows without anybody, their number is a power of two.
pub(super) fn rows() -> Result<KVec<Row>> {
    // SAFETY: Always callable.
    let cpus = unsafe { bindings::ruaufs_helper_cpus() };
    let count = cpus.clamp(1, MAX_ROWS).next_power_of_two();
    let mut rows = KVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    for _ in 0..count {
        rows.push(
            Row(core::array::from_fn(|_| {
                Seat(Opaque::new(pin_init::zeroed()))
            })),
            GFP_KERNEL_ACCOUNT,
        )?;
    }
    Ok(rows)
}
