// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque marks, and what else a writable branch keeps at its root.
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
use crate::fs::{
    access::{
        attr::Change,
        dirop::{
            self,
            Creating,
            Removing,
            Renaming, //
        },
        io::{
            self,
            KernelFile, //
        }, //
    },
    base::trace::Mark,
    objects::{
        inode::Kind,
        path::{
            Path,
            PathRef,
            WriteAccess, //
        }, //
    }, //
};
use crate::logic::{
    branch_spec::Access,
    whname, //
};
use crate::union::{
    state::sb::SbInfo,
    LowerDentry,
    LowerInode,
    Section, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        UniqueArc, //
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

/// Moves the directory `name`, which is `object`, out of `dir` and removes it with the marks it
/// holds, the only things in it.
///
/// When it is out of the way it is gone for the user: what fails after that is only logged, and
/// removed at the next mount. If the orphans cannot take it (`EXDEV`: they have another project, or
/// are in another subvolume) it gets a reserved name in `dir`, which goes with that at the latest.
pub(crate) fn remove_dir(
    section: Section<'_>,
    info: &SbInfo,
    branch: &Arc<Branch>,
    dir: &LowerDentry,
    (name, object): (&[u8], &LowerInode),
    write: &WriteAccess<'_>,
) -> Result {
    let temp = info.temp_name(name)?;
    let orphans = &branch.work()?.orphans;
    let move_to = |home: &LowerDentry| {
        Renaming::new((branch.at(dir)?, name), (branch.at(home)?, &temp), 0, write)?
            .of(object)?
            .commit()
    };
    let (moved, in_place) = match move_to(orphans) {
        Err(error) if error == EXDEV => (move_to(dir)?, true),
        other => (other?, false),
    };
    let home = if in_place { dir } else { orphans };
    // The kernel thread opens no file: it would be closed some time after the work is done.
    match names(branch.at(&moved)?) {
        Ok(marks) if !marks.iter().all(|mark| whname::is_reserved(mark)) => {
            // Somebody put a name there while it was still in its place.
            const NOREPLACE: u32 = 1;
            let (from, to) = ((branch.at(home)?, &*temp), (branch.at(dir)?, name));
            Renaming::new(from, to, NOREPLACE, write)?
                .of(object)?
                .commit()?;
            return Err(ENOTEMPTY);
        }
        Ok(marks) => {
            let aside = Aside {
                branch: branch.clone(),
                home: home.into(),
                dir: moved,
                temp,
                marks,
            };
            // Later the times of `dir` would change once more.
            if in_place {
                aside.remove_now(write);
            } else {
                aside.remove(section, info, write);
            }
        }
        Err(error) => cannot_remove(&temp, error),
    }
    Ok(())
}

/// A directory that was moved out of the way, and what is in it.
struct Aside {
    branch: Arc<Branch>,
    /// Where it is now.
    home: ARef<LowerDentry>,
    dir: ARef<LowerDentry>,
    temp: whname::Name,
    marks: KVVec<KVec<u8>>,
}

impl Aside {
    /// Removes it: at once, or later if it holds more marks than `dirwh=` allows. File systems
    /// of other machines are not left alone with it.
    fn remove(self, section: Section<'_>, info: &SbInfo, write: &WriteAccess<'_>) {
        let limit = section.settings().dirwh;
        let many = limit <= 1 || u32::try_from(self.marks.len()).is_ok_and(|n| n > limit);
        if !many || self.dir.is_remote() {
            return self.remove_now(write);
        }
        let Ok(space) = UniqueArc::new_uninit(GFP_KERNEL) else {
            return self.remove_now(write);
        };
        let this: Arc<Aside> = space.write(self).into();
        let (job, cred) = (this.clone(), info.cred.clone());
        let queued = info.worker.run(move || {
            cred.scope(|| match job.branch.want_write() {
                Ok(write) => job.remove_now(&write),
                Err(error) => cannot_remove(&job.temp, error),
            });
        });
        if queued.is_err() {
            this.remove_now(write);
        }
    }

    /// Removes it, in this task.
    fn remove_now(&self, write: &WriteAccess<'_>) {
        let result = || -> Result {
            let at = self.branch.at(&self.dir)?;
            for mark in self.marks.iter() {
                remove_mark(at, mark, DEPTH, write)?;
            }
            Removing::new(self.branch.at(&self.home)?, &self.temp, write)?.rmdir()
        };
        if let Err(error) = result() {
            cannot_remove(&self.temp, error);
        }
    }
}

/// What is among the orphans is out of sight; the next mount removes it.
fn cannot_remove(name: &[u8], error: Error) {
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
fn names(dir: PathRef<'_>) -> Result<KVVec<KVec<u8>>> {
    let mut names = KVVec::new();
    more_names(&mut KernelFile::dir(dir, true)?, &mut names, usize::MAX)?;
    Ok(names)
}

/// Adds the names that come next in `dir`, up to `max`; whether there may be more.
fn more_names(dir: &mut KernelFile, names: &mut KVVec<KVec<u8>>, max: usize) -> Result<bool> {
    let mut full = false;
    let result = dir.each_entry(&mut |name, _, _| {
        if io::killed() {
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
const DEPTH: usize = 4;

/// Removes what has the reserved name `name` in `dir`. A directory, which a crash has left there
/// ([`crate::union::copyup`], [`remove_dir`]), goes with the reserved names that it holds.
fn remove_mark(dir: PathRef<'_>, name: &[u8], depth: usize, write: &WriteAccess<'_>) -> Result {
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
            return Err(ENOTEMPTY);
        }
        remove_mark(inside, name, depth, write)?;
    }
    Removing::new(dir, name, write)?.rmdir()
}

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

/// What a writable branch has at its root.
const OBJECTS: [(&[u8], Kind); 3] = [
    (whname::BASE, Kind::Regular),
    (whname::PLINK_DIR, Kind::Dir),
    (whname::ORPHAN_DIR, Kind::Dir),
];

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
    let work = work(at, access, alone, write);
    if work.is_err() {
        for ((name, kind), _) in OBJECTS.into_iter().zip(there).filter(|(_, there)| !there) {
            if let Err(error) = remove_object(at, name, kind, write) {
                cannot_give_up(error);
            }
        }
    }
    Ok(work?)
}

/// The objects at the root `at`, made where there are none.
fn work(at: PathRef<'_>, access: &Access, alone: bool, write: &WriteAccess<'_>) -> Result<Work> {
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
    if work.base.is_none() {
        remove_object(at, whname::BASE, Kind::Regular, write)?;
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
        Err(error) if [ENOENT, ENOTEMPTY, EEXIST].contains(&error) => Ok(()),
        other => other,
    }
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
            remove_object(at, name, kind, &write)?;
        }
        Ok(())
    };
    if let Err(error) = result() {
        cannot_give_up(error);
    }
}

/// Says that the bookkeeping objects of a branch that is not written any more are left.
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
