// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque marks of a branch: the one place that knows how they are stored.
//!
//! Everybody else asks by meaning: may a user have this name ([`check`]), what is this entry of a
//! listing ([`each_entry`]), is this name hidden here ([`exists`], [`hides`]), is this directory
//! opaque ([`is_opaque`]); and has it made so ([`create`], [`remove`], [`make_opaque`]). Which
//! names and objects stand for that on disk is said by [`Marks`], the format.
//!
//! A mark is a hard link of the base at the branch's root, or an empty file of its own where that
//! cannot have another link or the branch is `nolwh`.

#![forbid(unsafe_code)]

use super::{
    branch::Branch,
    stats, //
};
use crate::fs::{
    access::{
        dirop::{
            self,
            Creating,
            Removing, //
        },
        io::KernelFile, //
    },
    base::trace::Mark,
    objects::{
        path::{
            PathRef,
            WriteAccess, //
        },
        walk::Walk, //
    }, //
};
use crate::logic::marks::{
    aufs::{
        self,
        Aufs, //
    },
    Format, //
};
pub(crate) use crate::logic::marks::{
    aufs::{
        is_temp,
        temp,
        BASE,
        BOOKKEEPING,
        NAME_MAX,
        ORPHAN_DIR,
        PLINK_DIR, //
    },
    Dir,
    Role,
    Sought,
    UserName, //
};
use crate::union::types::{
    LowerDentry,
    Union, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The format of the marks of all branches.
type Marks = Aufs;

/// The mode of whiteouts and their base.
pub(super) const MARK_MODE: u16 = 0o444;

impl Dir for LowerDentry {
    type Entry = LowerDentry;

    #[inline]
    fn has(&self, name: &[u8]) -> Result<bool> {
        Ok(dirop::lookup_positive(self.dir()?, name)?.is_some())
    }
}

/// Checks a name that a user gives to an object, or under which a user has one.
///
/// # Errors
///
/// `ENAMETOOLONG`; `EPERM` if it is a mark's or another one of the union's own.
#[inline]
pub(crate) fn check(name: &[u8]) -> Result<UserName<'_>> {
    aufs::check(name)
}

/// Returns `name` if a user's object may have it, whatever its length.
#[inline]
pub(crate) fn user(name: &[u8]) -> Option<UserName<'_>> {
    <Marks as Format<LowerDentry>>::user(name)
}

/// Returns the name of a dentry of the union as what a look-up asks for.
#[inline]
pub(crate) fn sought(name: &[u8]) -> Sought<'_> {
    user(name).map_or(Sought::Mark(name), Sought::Object)
}

/// Checks a name that a user looks up. Those of marks can be if they are shown (`shwh`).
///
/// # Errors
///
/// Those of [`check`].
#[inline]
pub(crate) fn check_sought(name: &[u8], shwh: bool) -> Result<Sought<'_>> {
    if shwh && aufs::is_mark(name) {
        return Ok(Sought::Mark(name));
    }
    check(name).map(Sought::Object)
}

/// Whether a listing that is passed through shows the entry `name`. Marks are shown with `shwh`.
#[inline]
pub(crate) fn is_shown(name: &[u8], shwh: bool) -> bool {
    user(name).is_some() || (shwh && aufs::is_mark(name))
}

/// Whether the entry `name` can be told to be an object at the first glance.
#[inline]
pub(crate) fn is_plain(name: &[u8]) -> bool {
    aufs::is_plain(name)
}

/// Whether the name that is walked is not that of a user's object: a mark, which `shwh` shows.
#[inline]
pub(crate) fn is_walked(walk: &Walk<'_, Union>) -> bool {
    walk.begins_with(aufs::PREFIX)
}

/// Calls `f` with name, role, inode number and `DT_*` type of each entry of the directory at
/// `path`, but for `.` and `..`, until it gives an error, which is passed on. Access times stay.
#[inline]
pub(crate) fn each_entry(
    path: PathRef<'_>,
    mut f: impl FnMut(&[u8], Role<'_>, u64, u8) -> Result,
) -> Result {
    let dir = path.dentry();
    KernelFile::dir(path, true)?.each_entry(&mut |name, ino, dtype| match name {
        b"." | b".." => Ok(()),
        _ => f(name, Marks::role(dir, name, dtype)?, ino, dtype),
    })
}

/// Whether `found`, which has a user's name on a branch, is a mark and not an object.
#[inline]
pub(crate) fn is_mark(found: &LowerDentry) -> bool {
    <Marks as Format<LowerDentry>>::is_mark(found)
}

/// Whether `dir`, which is asked in its own way, has a whiteout of `name`.
#[inline]
pub(crate) fn hides<D: Dir>(dir: &D, name: UserName<'_>) -> Result<bool> {
    Marks::hides(dir, name)
}

/// Whether `dir`, which is asked in its own way, is opaque.
#[inline]
pub(crate) fn is_opaque<D: Dir>(dir: &D) -> Result<bool> {
    Marks::is_opaque(dir)
}

/// Whether `dir` has a whiteout of `name`.
pub(crate) fn exists(dir: &LowerDentry, name: UserName<'_>) -> Result<bool> {
    hides(dir, name)
}

/// Whether `dir` is opaque, and `branch`, where it is, one whose marks count.
pub(crate) fn is_opaque_on(branch: &Branch, dir: &LowerDentry) -> Result<bool> {
    Ok(branch.access.honours_whiteouts() && is_opaque(dir)?)
}

/// Whether the root of `branch`, which answers, is opaque. The mounter's credentials are in force.
pub(crate) fn is_opaque_root(branch: &Arc<Branch>) -> Result<bool> {
    is_opaque_on(branch, branch.root.dentry())
}

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

/// Removes the mark `name` from `dir`. Fine if there is none.
fn remove_mark(branch: &Branch, dir: &LowerDentry, name: &[u8], write: &WriteAccess<'_>) -> Result {
    Removing::new(branch.at(dir)?, name, write).and_then(Removing::unlink_regardless)
}

/// Takes `absent`, an error that says that there is nothing to do, for success.
fn unless(absent: Error, done: Result) -> Result {
    match done {
        Err(error) if error == absent => Ok(()),
        other => other,
    }
}

/// Hides `name` on the branches below: makes its whiteout in `dir`. Fine if it is there.
pub(crate) fn create(
    branch: &Branch,
    dir: &LowerDentry,
    name: UserName<'_>,
    write: &WriteAccess<'_>,
) -> Result {
    let made = make_mark(branch, dir, &aufs::whiteout(&name)?, write);
    stats::mark(Mark::Make, branch, dir, &name, made);
    unless(EEXIST, made)
}

/// Removes the whiteout of `name` from `dir`. Fine if there is none.
pub(crate) fn remove(
    branch: &Branch,
    dir: &LowerDentry,
    name: UserName<'_>,
    write: &WriteAccess<'_>,
) -> Result {
    let removed = remove_mark(branch, dir, &aufs::whiteout(&name)?, write);
    stats::mark(Mark::Remove, branch, dir, &name, removed);
    unless(ENOENT, removed)
}

/// Makes the directory `dir` opaque. Fine if it is.
pub(crate) fn make_opaque(branch: &Branch, dir: &LowerDentry, write: &WriteAccess<'_>) -> Result {
    let made = make_mark(branch, dir, aufs::OPAQUE, write);
    stats::mark(Mark::Opaque, branch, dir, b"", made);
    unless(EEXIST, made)
}

/// Takes back [`make_opaque`]. Fine if the directory `dir` is not opaque.
pub(crate) fn unmake_opaque(branch: &Branch, dir: &LowerDentry, write: &WriteAccess<'_>) -> Result {
    unless(ENOENT, remove_mark(branch, dir, aufs::OPAQUE, write))
}
