// SPDX-License-Identifier: GPL-2.0

//! What a writable branch has at its root: the directories of bookkeeping, made and taken away.

#![forbid(unsafe_code)]

use super::{
    branch::Work,
    whiteout::{
        self,
        OBJECTS, //
    }, //
};
use crate::fs::{
    access::dirop,
    objects::{
        inode::Kind,
        path::{
            Path,
            WriteAccess, //
        }, //
    }, //
};
use crate::logic::branch_spec::Access;
use kernel::prelude::*;

/// Why a branch cannot be written.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    /// Something of another type bears the name of a bookkeeping object.
    Foreign(&'static [u8]),
    /// The branch gave this error.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

/// Some of the bookkeeping objects of a branch: a bit for each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Objects(pub(crate) usize);

impl Objects {
    pub(crate) const NONE: Objects = Objects(0);
    pub(crate) const ALL: Objects = Objects((1 << OBJECTS.len()) - 1);
    /// The base of whiteouts.
    pub(crate) const BASE: Objects = Objects(1);

    fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }

    /// Those that are in both.
    pub(crate) fn and(self, other: Objects) -> Objects {
        Objects(self.0 & other.0)
    }

    /// Those that are not in `other`.
    pub(crate) fn without(self, other: Objects) -> Objects {
        Objects(self.0 & !other.0)
    }

    /// Their names and kinds.
    fn iter(self) -> impl Iterator<Item = (&'static [u8], Kind)> {
        let all = OBJECTS.into_iter().enumerate();
        all.filter_map(move |(at, object)| self.has(at).then_some(object))
    }
}

/// Makes or finds what a writable branch has at its root, and removes what an interrupted
/// operation left there. If that fails, nothing is left that was not there. Says what was there
/// before; a base that is not wanted stays.
pub(crate) fn prepare(
    root: &Path,
    access: &Access,
    alone: bool,
    write: &WriteAccess<'_>,
) -> core::result::Result<(Work, Objects), Refused> {
    let at = root.here();
    let mut there = Objects::NONE;
    // Before anything is made: the branch of a mount that fails for one of them stays as it is.
    for (at, (name, kind)) in OBJECTS.into_iter().enumerate() {
        let Some(found) = dirop::lookup_positive(root.dentry().dir()?, name)? else {
            continue;
        };
        let inode = found.positive()?;
        // Whiteouts become links of the base: it is nobody's file.
        if inode.kind() != kind || (kind == Kind::Regular && inode.size() != 0) {
            return Err(Refused::Foreign(name));
        }
        there.0 |= 1 << at;
    }
    let work = whiteout::work(at, access, alone, write);
    if work.is_err() {
        for (name, kind) in Objects::ALL.without(there).iter() {
            if let Err(error) = whiteout::remove_object(at, name, kind, write) {
                whiteout::cannot_give_up(error);
            }
        }
    }
    Ok((work?, there))
}

/// Removes `objects` of a branch that needs them no more. What is in use stays: whiteouts are links
/// of the base, but do not need it; pseudo-links that nobody flushed are kept. The mounter's
/// credentials are in force.
pub(crate) fn give_up(root: &Path, objects: Objects) {
    let at = root.here();
    let result = || -> Result {
        let write = root.mount().want_write()?;
        for (name, kind) in objects.iter() {
            whiteout::remove_object(at, name, kind, &write)?;
        }
        Ok(())
    };
    if let Err(error) = result() {
        whiteout::cannot_give_up(error);
    }
}
