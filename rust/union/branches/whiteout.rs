// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque marks of a branch, and other names that it reserves.
//!
//! On disk all of it is as aufs has it: `.wh.NAME` and `.wh..wh..opq` are hard
//! links of `.wh..wh.aufs`, or empty files of their own where that cannot have
//! another link or the branch is `nolwh`.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        Work, //
    },
    stats, //
};
use crate::compat::errno::ENOTEMPTY;
use crate::fs::{
    access::{
        attr::Change,
        dirop::{
            self,
            Creating,
            Removing, //
        },
        io::KernelFile, //
    },
    base::{
        task,
        trace::Mark, //
    },
    objects::{
        inode::Kind,
        path::{
            PathRef,
            WriteAccess, //
        }, //
    }, //
};
use crate::logic::{
    branch_spec::Access,
    whname, //
};
use crate::union::types::LowerDentry;
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// The mode of whiteouts and their base.
const MARK_MODE: u16 = 0o444;
/// The mode of the directories at the root of a branch.
const DIR_MODE: u16 = 0o700;

/// Makes the mark `name` in `dir`.
fn make_mark(branch: &Branch, dir: &LowerDentry, name: &[u8], write: &WriteAccess<'_>) -> Result {
    let at = branch.at(dir)?;
    if let Some(base) = &branch.work()?.base {
        match Creating::new(at, name, write)?.link(base) {
            Ok(_) => return Ok(()),
            // As many as the file system allows; somebody removed the base; there are no links
            // there (vfat), or none from here (a subvolume of btrfs).
            Err(error) if [EMLINK, ENOENT, EPERM, EXDEV].contains(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Creating::new(at, name, write)?.create(MARK_MODE)?;
    Ok(())
}

/// Hides `name` on the branches below: makes its whiteout in `dir`. Fine if it is there.
pub(crate) fn create(
    branch: &Branch,
    dir: &LowerDentry,
    name: &[u8],
    write: &WriteAccess<'_>,
) -> Result {
    let whiteout = whname::whiteout(name)?;
    let made = make_mark(branch, dir, &whiteout, write);
    stats::mark(Mark::Make, branch, dir, name, made);
    match made {
        Err(error) if error == EEXIST => Ok(()),
        other => other,
    }
}

/// Whether `dir` has a whiteout of `name`.
pub(crate) fn exists(dir: &LowerDentry, name: &[u8]) -> Result<bool> {
    Ok(dirop::lookup_positive(dir.dir()?, &whname::whiteout(name)?)?.is_some())
}

/// Whether `dir` has the mark `name`, and the branch is one whose marks count.
pub(crate) fn hides_below(branch: &Branch, dir: &LowerDentry, name: &[u8]) -> Result<bool> {
    Ok(branch.access.honours_whiteouts() && dirop::lookup_positive(dir.dir()?, name)?.is_some())
}

/// Removes the whiteout of `name` from `dir`. Fine if there is none.
pub(crate) fn remove(
    branch: &Branch,
    dir: &LowerDentry,
    name: &[u8],
    write: &WriteAccess<'_>,
) -> Result {
    let whiteout = whname::whiteout(name)?;
    let removing = Removing::new(branch.at(dir)?, &whiteout, write);
    let removed = removing.and_then(Removing::unlink_regardless);
    stats::mark(Mark::Remove, branch, dir, name, removed);
    match removed {
        Err(error) if error == ENOENT => Ok(()),
        other => other,
    }
}

/// Makes the directory `dir` opaque. Fine if it is.
pub(crate) fn make_opaque(branch: &Branch, dir: &LowerDentry, write: &WriteAccess<'_>) -> Result {
    let made = make_mark(branch, dir, whname::OPAQUE, write);
    stats::mark(Mark::Opaque, branch, dir, b"", made);
    match made {
        Err(error) if error == EEXIST => Ok(()),
        other => other,
    }
}

/// What is among the orphans is out of sight; the next mount removes it.
#[cold]
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

/// The names in `dir`. `EINTR` if the task was killed.
pub(crate) fn names(dir: PathRef<'_>) -> Result<KVVec<KVec<u8>>> {
    let mut names = KVVec::new();
    more_names(&mut KernelFile::dir(dir, true)?, &mut names, usize::MAX)?;
    Ok(names)
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

/// Removes the marks from `dir`, and nothing else.
pub(crate) fn remove_marks(dir: PathRef<'_>, write: &WriteAccess<'_>) -> Result {
    each_name(dir, &mut |name| match whname::is_reserved(name) {
        true => remove_mark(dir, name, DEPTH, write),
        false => Ok(()),
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
    for name in names(inside)?.iter() {
        if !whname::is_reserved(name) {
            return Err(ENOTEMPTY.into());
        }
        remove_mark(inside, name, depth, write)?;
    }
    Removing::new(dir, name, write)?.rmdir()
}

/// What a writable branch has at its root.
pub(super) const OBJECTS: [(&[u8], Kind); 3] = [
    (whname::BASE, Kind::Regular),
    (whname::PLINK_DIR, Kind::Dir),
    (whname::ORPHAN_DIR, Kind::Dir),
];

/// The objects at the root `at`, made where there are none.
pub(super) fn work(
    at: PathRef<'_>,
    access: &Access,
    alone: bool,
    write: &WriteAccess<'_>,
) -> Result<Work> {
    let work = Work {
        base: match access.makes_linked_whiteouts() {
            true => Some(own_object(at, whname::BASE, Kind::Regular, write)?),
            false => None,
        },
        plinks: own_object(at, whname::PLINK_DIR, Kind::Dir, write)?,
        orphans: own_object(at, whname::ORPHAN_DIR, Kind::Dir, write)?,
    };
    if alone {
        clean(at.at(&work.orphans)?, write)?;
    }
    Ok(work)
}

/// Removes an object at the root `at`. Fine if there is none, or if a directory is in use.
pub(super) fn remove_object(
    at: PathRef<'_>,
    name: &[u8],
    kind: Kind,
    write: &WriteAccess<'_>,
) -> Result {
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
        "cannot remove the bookkeeping objects (.wh..wh.*) of a branch: {:?}\n",
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
        (creating.create(MARK_MODE)?, MARK_MODE)
    };
    // Whatever the umask of whoever mounts.
    Change::new().mode(mode).apply(write.to(root.at(&made)?)?)?;
    Ok(made)
}

/// Removes what is left in the directory of orphans: objects that never got their name,
/// directories that were removed already. What does not go is left and logged.
///
/// What has no temporary name was not put there by us, nor what is no mark in such a directory: who
/// owns the root of a branch could have moved anything there. It is left alone.
fn clean(dir: PathRef<'_>, write: &WriteAccess<'_>) -> Result {
    each_name(dir, &mut |name| {
        if !whname::is_temp(name) {
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

/// Whether the root of `branch`, which answers, is opaque. The mounter's credentials are in force.
pub(crate) fn is_opaque(branch: &Arc<Branch>) -> Result<bool> {
    hides_below(branch, branch.root.dentry(), whname::OPAQUE)
}
