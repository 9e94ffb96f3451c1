// SPDX-License-Identifier: GPL-2.0

//! Copy-up of a file's contents.
//!
//! Blocks are shared where both instances are on one file system that can do
//! it. Else the data is copied, stretch by stretch, and holes stay holes. A kill
//! ends the copy.

#![forbid(unsafe_code)]

use crate::fs::{
    access::{
        attr::{
            self,
            Change, //
        },
        io::{
            self,
            Extent,
            KernelFile, //
        }, //
    },
    base::task,
    objects::cred::Cred, //
};
use crate::union::{
    branches::branch::{
        Branch,
        Slot, //
    },
    types::LowerDentry, //
};
use core::cell::Cell;
use kernel::prelude::*;

/// Who does a piece of the work.
#[derive(Clone, Copy)]
enum Place {
    /// This task.
    Here,
    /// A kernel thread, which has no limits and gets no signals.
    Worker,
}

impl Place {
    /// Runs `f` with the credentials `cred`, which this task has already.
    fn run<R: Send>(self, cred: &Cred, f: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        match self {
            Self::Here => f(),
            Self::Worker => io::on_worker(|| cred.scope(f)).unwrap_or(Err(EIO)),
        }
    }
}

/// Bytes that are copied between two looks for a kill.
const CHUNK: i64 = 1 << 20;

/// Copies the contents of `source` to `to`, which is empty, with the mounter's credentials `cred`.
///
/// The user did not ask for a copy, so the limit of file sizes that a user may have does not
/// count, and his signals, but for a kill, do not disturb it: a call like `chmod` has no way to
/// say that it was interrupted, and with a timer that fires all the time it would never get on.
///
/// Bytes that are read and written are counted in `copied`.
pub(super) fn copy(
    cred: &Cred,
    source: &Slot,
    target: &Branch,
    to: &KernelFile,
    to_dentry: &LowerDentry,
    wanted: Data<'_>,
    copied: &Cell<u64>,
) -> Result {
    let size = source.inode()?.size();
    let size = match wanted {
        Data::All => size,
        Data::Resized(resize) => size.min(resize.size),
    };
    if size == 0 {
        return Ok(());
    }
    let mut from = KernelFile::read(source.path()?)?;
    let place = match io::over_size_limit(size) {
        true => Place::Worker,
        false => Place::Here,
    };
    let whole = matches!(wanted, Data::All);
    let same_fs = source.branch().fs == target.fs;
    if whole && same_fs && place.run(cred, || from.clone_to(to, size)).is_ok() {
        return Ok(());
    }
    let mut pos = 0;
    while pos < size {
        let (start, end) = match from.next_data(pos, size)? {
            Extent::End => break,
            Extent::Data(start, end) => (start, end),
        };
        pos = start;
        while pos < end {
            if task::killed() {
                return Err(EINTR);
            }
            let len = usize::try_from((end - pos).min(CHUNK))?;
            let copy = |place: Place| place.run(cred, || from.copy_to(to, pos, len));
            let done = match copy(place) {
                // Of a task with a pending signal nothing is taken.
                Err(error) if error == ERESTARTSYS && !task::killed() => copy(Place::Worker)?,
                Err(error) if error == ERESTARTSYS => return Err(EINTR),
                done => done?,
            };
            if done == 0 {
                // Somebody cut the original short behind our back.
                return Err(EIO);
            }
            copied.set(copied.get().saturating_add(done as u64));
            pos = pos.checked_add(i64::try_from(done)?).ok_or(EFBIG)?;
        }
    }
    // A hole at the end.
    if to_dentry.inode().ok_or(EIO)?.size() < size {
        let write = target.want_write()?;
        let lengthen = || {
            Change::new()
                .size(size)
                .apply(write.to(target.at(to_dentry)?)?)
        };
        place.run(cred, lengthen)?;
        drop(write);
    }
    Ok(())
}

/// How much of a file's data is wanted in the copy.
#[derive(Clone, Copy)]
pub(crate) enum Data<'a> {
    /// All of it.
    All,
    /// What is left after a change of size.
    Resized(&'a Resize),
}

impl Data<'_> {
    /// Whether the object was copied, and is changed by that.
    pub(super) fn is_changed(self) -> bool {
        matches!(self, Self::Resized(resize) if resize.made.get())
    }

    /// Whether the change time of the copy is that of a change.
    pub(super) fn is_dated(self) -> bool {
        matches!(self, Self::Resized(resize) if resize.dated.get())
    }
}

/// A change of a file's size, with all that changes beside it. It is made to the staged copy: once
/// others see that data is gone, nothing may fail any more.
pub(crate) struct Resize {
    pub(crate) size: i64,
    pub(crate) change: attr::Change,
    /// Whether it was made: not if there was no need of a copy.
    pub(super) made: Cell<bool>,
    /// Whether the file system of the copy took it for a change. If the size is what it was, not
    /// all do, also where a set-id bit goes.
    pub(super) dated: Cell<bool>,
}

impl Resize {
    /// To be made.
    pub(crate) fn new(size: i64, change: attr::Change) -> Self {
        Resize {
            size,
            change,
            made: Cell::new(false),
            dated: Cell::new(false),
        }
    }

    /// Whether it was made.
    pub(crate) fn is_made(&self) -> bool {
        self.made.get()
    }
}
