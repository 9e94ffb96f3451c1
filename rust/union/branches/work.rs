// SPDX-License-Identifier: GPL-2.0

//! What a writable branch has at its root: the directories of bookkeeping, made and taken away.

#![forbid(unsafe_code)]

use super::{
    branch::Work,
    orphans,
    whiteout, //
};
use crate::compat::errno::ENOTEMPTY;
use crate::fs::{
    access::{
        attr::Change,
        dirop::{
            self,
            Creating,
            Removing, //
        }, //
    },
    objects::{
        inode::Kind,
        path::{
            Path,
            PathRef,
            WriteAccess, //
        }, //
    }, //
};
use crate::logic::branch_spec::Access;
use crate::union::types::LowerDentry;
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// The mode of the directories at the root of a branch.
const DIR_MODE: u16 = 0o700;

/// What a writable branch has at its root.
const OBJECTS: [(&[u8], Kind); 3] = [
    (whiteout::BASE, Kind::Regular),
    (whiteout::PLINK_DIR, Kind::Dir),
    (whiteout::ORPHAN_DIR, Kind::Dir),
];

/// Why a branch cannot be written.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    /// Something else bears the name of a bookkeeping object, which is of this type.
    Foreign(&'static [u8], Kind),
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
            return Err(Refused::Foreign(name, kind));
        }
        there.0 |= 1 << at;
    }
    let work = make(at, access, alone, write);
    if work.is_err() {
        for (name, kind) in Objects::ALL.without(there).iter() {
            if let Err(error) = remove_object(at, name, kind, write) {
                cannot_give_up(error);
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
            remove_object(at, name, kind, &write)?;
        }
        Ok(())
    };
    if let Err(error) = result() {
        cannot_give_up(error);
    }
}

/// The objects at the root `at`, made where there are none.
fn make(at: PathRef<'_>, access: &Access, alone: bool, write: &WriteAccess<'_>) -> Result<Work> {
    let work = Work {
        base: match access.makes_linked_whiteouts() {
            true => Some(own_object(at, whiteout::BASE, Kind::Regular, write)?),
            false => None,
        },
        plinks: own_object(at, whiteout::PLINK_DIR, Kind::Dir, write)?,
        orphans: own_object(at, whiteout::ORPHAN_DIR, Kind::Dir, write)?,
    };
    if alone {
        orphans::clean(at.at(&work.orphans)?, write)?;
    }
    Ok(work)
}

/// Removes an object at the root `at`. Fine if there is none, or if a directory is in use.
fn remove_object(at: PathRef<'_>, name: &[u8], kind: Kind, write: &WriteAccess<'_>) -> Result {
    let removed = Removing::new(at, name, write).and_then(|removing| match kind {
        Kind::Dir => removing.rmdir(),
        _ => removing.unlink(),
    });
    match removed {
        Err(error) if error == ENOTEMPTY || [ENOENT, EEXIST].contains(&error) => Ok(()),
        other => other,
    }
}

/// Says that the bookkeeping objects of a branch that is not written any more are left.
#[cold]
pub(crate) fn cannot_give_up(error: Error) {
    warn_limited!(
        "cannot remove the bookkeeping objects ({}) of a branch: {:?}\n",
        whiteout::BOOKKEEPING,
        error
    );
}

/// Finds or makes one bookkeeping object.
fn own_object(
    root: PathRef<'_>,
    name: &'static [u8],
    kind: Kind,
    write: &WriteAccess<'_>,
) -> Result<ARef<LowerDentry>> {
    if let Some(found) = dirop::lookup_positive(root.dentry().dir()?, name)? {
        return Ok(found);
    }
    let creating = Creating::new(root, name, write)?;
    let (made, mode) = if kind == Kind::Dir {
        (creating.mkdir(DIR_MODE)?, DIR_MODE)
    } else {
        (creating.create(whiteout::MARK_MODE)?, whiteout::MARK_MODE)
    };
    // Whatever the umask of whoever mounts.
    Change::new().mode(mode).apply(write.to(root.at(&made)?)?)?;
    Ok(made)
}
