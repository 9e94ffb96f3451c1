// SPDX-License-Identifier: GPL-2.0

//! Removing what users do not see: temporary objects, and directories that hold only marks.

#![forbid(unsafe_code)]

use super::{
    branch::Branch,
    whiteout, //
};
use crate::compat::errno::ENOTEMPTY;
use crate::fs::{
    access::{
        dirop::{
            self,
            Removing, //
        },
        io::KernelFile, //
    },
    base::task,
    objects::path::{
        PathRef,
        WriteAccess, //
    }, //
};
use crate::union::types::LowerDentry;
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// What is among the orphans is out of sight; the next mount removes it.
pub(crate) fn cannot_remove(name: &[u8], error: Error) {
    warn_limited!(
        "cannot remove {:?} from the directory of orphans, the next mount tries again: {:?}\n",
        kernel::str::BStr::from_bytes(name),
        error
    );
}

/// Removes `object`, which has the temporary name `name` in the directory `home` of `branch`, with
/// all it holds.
pub(crate) fn purge(
    branch: &Branch,
    home: &LowerDentry,
    object: &LowerDentry,
    name: &[u8],
    write: &WriteAccess<'_>,
) {
    let result = || -> Result {
        if object.is_dir() {
            remove_marks(branch.at(object)?, write)?;
            Removing::new(branch.at(home)?, name, write)?.rmdir()
        } else {
            Removing::new(branch.at(home)?, name, write)?.unlink()
        }
    };
    if let Err(error) = result() {
        cannot_remove(name, error);
    }
}

/// Adds the names that come next in `dir`, up to `max`; whether there may be more.
fn more_names(dir: &mut KernelFile, names: &mut KVVec<KVec<u8>>, max: usize) -> Result<bool> {
    let mut full = false;
    let result = dir.each_entry(&mut |name, _, _| {
        if task::killed() {
            return Err(EINTR);
        }
        if name == b"." || name == b".." {
            return Ok(());
        }
        if names.len() >= max {
            // It comes again with the next call.
            full = true;
            return Err(EAGAIN);
        }
        let mut copy = KVec::new();
        copy.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        Ok(names.push(copy, GFP_KERNEL_ACCOUNT)?)
    });
    match result {
        Err(error) if !full => Err(error),
        _ => Ok(full),
    }
}

/// Calls `f` with each name in `dir`, of which there may be any number. `f` may remove names.
///
/// # Errors
///
/// `EINTR` if the task was killed; what `f` gives.
pub(crate) fn each_name(dir: PathRef<'_>, f: &mut dyn FnMut(&[u8]) -> Result) -> Result {
    const BATCH: usize = 1024;
    let mut file = KernelFile::dir(dir, true)?;
    let mut names = KVVec::new();
    while {
        names.clear();
        let more = more_names(&mut file, &mut names, BATCH)?;
        for name in names.iter() {
            f(name)?;
        }
        more
    } {}
    Ok(())
}

/// Returns the names of the marks in `dir`; `None` if it has anything else. `EINTR` if the task was
/// killed.
pub(crate) fn marks_alone(dir: PathRef<'_>) -> Result<Option<KVVec<KVec<u8>>>> {
    let mut names = KVVec::new();
    more_names(&mut KernelFile::dir(dir, true)?, &mut names, usize::MAX)?;
    let alone = names.iter().all(|name| whiteout::user(name).is_none());
    Ok(alone.then_some(names))
}

/// Removes the marks from `dir`, and nothing else.
pub(crate) fn remove_marks(dir: PathRef<'_>, write: &WriteAccess<'_>) -> Result {
    each_name(dir, &mut |name| match whiteout::user(name) {
        None => remove_mark(dir, name, DEPTH, write),
        Some(_) => Ok(()),
    })
}

/// How deep directories with reserved names are removed: each was left by a crash of its own.
pub(crate) const DEPTH: usize = 4;

/// Removes what has the reserved name `name` in `dir`. A directory, which a crash has left there
/// ([`crate::union::copyup`], [`remove_dir`](crate::union::change::aside::remove_dir)), goes with
/// the reserved names that it holds.
pub(crate) fn remove_mark(
    dir: PathRef<'_>,
    name: &[u8],
    depth: usize,
    write: &WriteAccess<'_>,
) -> Result {
    let removing = Removing::new(dir, name, write)?;
    let child = removing.child();
    if !child.is_dir() {
        return removing.unlink();
    }
    let left: ARef<LowerDentry> = child.into();
    drop(removing);
    let depth = depth.checked_sub(1).ok_or(ENOTEMPTY)?;
    let inside = dir.at(&left)?;
    for name in marks_alone(inside)?.ok_or(ENOTEMPTY)?.iter() {
        remove_mark(inside, name, depth, write)?;
    }
    Removing::new(dir, name, write)?.rmdir()
}

/// Removes what is left in the directory of orphans: objects that never got their name,
/// directories that were removed already. What does not go is left and logged.
///
/// What has no temporary name was not put there by us, nor what is no mark in such a directory: who
/// owns the root of a branch could have moved anything there. It is left alone.
pub(super) fn clean(dir: PathRef<'_>, write: &WriteAccess<'_>) -> Result {
    each_name(dir, &mut |name| {
        if !whiteout::is_temp(name) {
            return Ok(());
        }
        if let Err(error) = clean_one(dir, name, write) {
            warn_limited!(
                "cannot remove left-over {:?}: {:?}\n",
                kernel::str::BStr::from_bytes(name),
                error
            );
        }
        Ok(())
    })
}

/// Removes `name` from the directory of orphans.
fn clean_one(dir: PathRef<'_>, name: &[u8], write: &WriteAccess<'_>) -> Result {
    let Some(found) = dirop::lookup_positive(dir.dentry().dir()?, name)? else {
        return Ok(());
    };
    if !found.is_dir() {
        return Removing::new(dir, name, write)?.unlink();
    }
    remove_marks(dir.at(&found)?, write)?;
    Removing::new(dir, name, write)?.rmdir()
}
