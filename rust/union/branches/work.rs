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

/// Makes or finds what a writable branch has at its root, and removes what an interrupted
/// operation left there. If that fails, nothing is left that was not there.
pub(crate) fn prepare(
    root: &Path,
    access: &Access,
    alone: bool,
    write: &WriteAccess<'_>,
) -> core::result::Result<Work, Refused> {
    let at = root.here();
    let mut there = [false; OBJECTS.len()];
    // Before anything is made: the branch of a mount that fails for one of them stays as it is.
    for ((name, kind), there) in OBJECTS.into_iter().zip(&mut there) {
        let Some(found) = dirop::lookup_positive(root.dentry().dir()?, name)? else {
            continue;
        };
        let inode = found.positive()?;
        // Whiteouts become links of the base: it is nobody's file.
        if inode.kind() != kind || (kind == Kind::Regular && inode.size() != 0) {
            return Err(Refused::Foreign(name));
        }
        *there = true;
    }
    let work = whiteout::work(at, access, alone, write);
    if work.is_err() {
        for ((name, kind), _) in OBJECTS.into_iter().zip(there).filter(|(_, there)| !there) {
            if let Err(error) = whiteout::remove_object(at, name, kind, write) {
                whiteout::cannot_give_up(error);
            }
        }
    }
    Ok(work?)
}

/// Whether the branch at `root` has any bookkeeping object. The mounter's credentials are in
/// force.
pub(crate) fn has_work(root: &Path) -> Result<bool> {
    for (name, _) in OBJECTS {
        if dirop::lookup_positive(root.dentry().dir()?, name)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the bookkeeping objects of a branch that is not written any more. What is in use stays:
/// whiteouts are links of the base, but do not need it; pseudo-links that nobody flushed are kept.
/// The mounter's credentials are in force.
pub(crate) fn give_up(root: &Path) {
    let at = root.here();
    let result = || -> Result {
        let write = root.mount().want_write()?;
        for (name, kind) in OBJECTS {
            whiteout::remove_object(at, name, kind, &write)?;
        }
        Ok(())
    };
    if let Err(error) = result() {
        whiteout::cannot_give_up(error);
    }
}
