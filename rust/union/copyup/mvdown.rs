// SPDX-License-Identifier: GPL-2.0

//! Moving a file down: the ioctl [`uapi::MVDOWN`].
//!
//! The file at the top is copied to a lower writable branch, as a promotion copies
//! one upwards, and then removed above. Nothing of the union changes but the place.
//!
//! # Who uses the file meanwhile
//!
//! Nobody can write: a file that is open for writing is refused, and opening it for
//! writing gives `ETXTBSY` until it is done. Readers go on, and follow to the new
//! place. What is removed above is kept by the cache no longer than it is used.
//!
//! # Locking
//!
//! `i_rwsem` of the file is held. Parents are made on the target first. Then:
//! its object's lock, and for the moment of the change
//! [`SbInfo::replace`](crate::union::sb::SbInfo::replace).

#![forbid(unsafe_code)]

use super::{
    promote_to,
    CopyUp,
    Data,
    DirTimes,
    Nursery,
    Staged, //
};
use crate::fs::{
    attr,
    dirop::{
        self,
        Creating,
        Removing,
        Renaming, //
    },
    file::File,
    gate::{
        Doing,
        OVERTAKEN, //
    },
    ioctl::{
        self,
        WritableFile, //
    },
    path::WriteAccess,
    statfs::Statfs, //
};
use crate::logic::{
    branch_spec::Attrs,
    uapi::{
        Mvdown,
        MvdownReason as Reason, //
    },
    whname, //
};
use crate::union::{
    branch::{
        Branch,
        Slot, //
    },
    index::View,
    ino::InoTable,
    inode,
    ioctl::{
        read,
        write, //
    },
    lookup::{
        self,
        Depth, //
    },
    whiteout,
    Dentry,
    Inode,
    LowerDentry,
    Union, //
};
use crate::{
    inform_limited,
    warn_limited, //
};
use core::cell::Cell;
use kernel::{
    prelude::*,
    str::BStr,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Why a file stays where it is.
struct Refused {
    error: Error,
    reason: Reason,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let reason = Reason::Other;
        Refused { error, reason }
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        let error = EINVAL;
        Refused { error, reason }
    }
}

type Outcome<T = ()> = core::result::Result<T, Refused>;

/// [`uapi::MVDOWN`](crate::logic::uapi::MVDOWN): moves the file `file` down.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EROFS` if the file, or the branch that was asked for, cannot
/// be written; `EBUSY` if it is open for writing or has several names; `EEXIST` if there is one
/// below; `EXDEV` if its directory is not there and `dirren` is on; `EINVAL` with a [`Reason`];
/// what the branches give.
pub(crate) fn mvdown(file: &File<Union>, arg: usize) -> Result<isize> {
    if !ioctl::is_admin() {
        return Err(EPERM);
    }
    drop(WritableFile::new(file)?);
    if file.inode().is_dir() {
        return Err(EISDIR);
    }
    let mut request = Mvdown::decode(&read(arg)?);
    request.flags &= !Mvdown::ANSWERS;
    let result = {
        let inode = file.inode();
        let _writable = WritableFile::new(file)?;
        // In this order: who holds `i_rwsem` may be waiting for the gate.
        let _locked = inode.lock();
        loop {
            let _entered = inode.sb().enter(Doing::Move);
            match run(file.dentry(), &mut request) {
                // A remount came in between: once more.
                Err(Refused { error, .. }) if error == OVERTAKEN => {}
                result => break result,
            }
        }
    };
    // CAST: They are small.
    request.reason = match &result {
        Ok(()) => 0,
        Err(refused) => refused.reason as i8,
    };
    write(arg, &request.encode())?;
    match result {
        Ok(()) => Ok(0),
        Err(Refused { error, reason }) => {
            if request.has(Mvdown::DMSG) {
                inform_limited!(
                    "cannot move {:?} down: {:?}, {}\n",
                    BStr::from_bytes(&file.dentry().name()?),
                    error,
                    reason.text()
                );
            }
            Err(error)
        }
    }
}

fn run(dentry: &Dentry, request: &mut Mvdown) -> Outcome {
    let inode = dentry.object()?;
    let info = inode.sb().data();
    if dentry.is_nameless() {
        // Found by a file handle: where it should go down is not known.
        return Err(ENOENT.into());
    }
    let (upper, lower) = branches(inode, request)?;
    info.cred.scope(|| check_way(dentry, &upper, &lower))?;
    let parent = dentry.parent();
    if info.settings().dirren && parent.object()?.slot_on(lower.id)?.is_none() {
        // A renamed directory leads to another name there.
        return Err(EXDEV.into());
    }
    promote_to(&parent, &lower)?;

    let lock = inode.promotion_lock();
    let stack = inode.stack()?;
    if stack.top().branch().id != upper.id {
        return Err(EBUSY.into());
    }
    if dentry.is_unhashed() || inode.nlink() == 0 {
        return Err(ENOENT.into());
    }
    if inode.has_other_count() || stack.top_inode().nlink() > 1 {
        return Err(EBUSY.into());
    }
    let still = stack.top_inode().deny_writers().map_err(|_| EBUSY)?;
    // Mappings count as writers, but for those that are not the branch's own.
    if inode.data().writes.may_be_mapped_beyond() {
        return Err(EBUSY.into());
    }
    let copy = CopyUp {
        sb: inode.sb(),
        inode,
        dentry,
        source: stack.top(),
        target: &lower,
        wanted: Data::All,
        upwards: false,
        overtaken: Cell::new(false),
    };
    let result = info.cred.scope(|| Move(&copy).run(request));
    drop(still);
    drop(lock);
    result?;
    if !request.has(Mvdown::KUPPER) {
        // What was above takes room there as long as the inode remembers it.
        inode.forget_soon();
    }
    tell(request, &upper, &lower);
    Ok(())
}

/// From which branch to which one, told in `request`.
fn branches(inode: &Inode, request: &mut Mvdown) -> Outcome<(Arc<Branch>, Arc<Branch>)> {
    let table = inode.sb().data().table();
    let upper = inode.stack()?.top().branch().clone();
    let at = table.index_of(upper.id).ok_or(ESTALE)?;
    let has_id = |branch: &&Arc<Branch>, id: i16| {
        i16::try_from(branch.id.number()).is_ok_and(|number| number == id)
    };
    if request.has(Mvdown::BRID_UPPER) && !has_id(&&upper, request.upper_id) {
        return Err(Reason::NoUpper.into());
    }
    if !upper.writable() {
        return Err(EROFS.into());
    }
    let mut below = table.order.iter().skip(at.saturating_add(1));
    let lower = if request.has(Mvdown::BRID_LOWER) {
        let lower = below.find(|branch| has_id(branch, request.lower_id));
        let lower = lower.ok_or(Reason::NoLower)?;
        if !lower.writable() {
            return Err(EROFS.into());
        }
        lower
    } else {
        let fhsm = request.has(Mvdown::FHSM_LOWER);
        let fits = |branch: &&Arc<Branch>| {
            branch.writable() && (!fhsm || branch.access.attrs.contains(Attrs::FHSM))
        };
        below.find(fits).ok_or(Reason::Bottom)?
    };
    let index = |branch: &Branch| -> Result<i16> {
        Ok(i16::try_from(table.index_of(branch.id).ok_or(ESTALE)?)?)
    };
    request.upper_id = i16::try_from(upper.id.number()).map_err(Error::from)?;
    request.upper_index = index(&upper)?;
    request.lower_id = i16::try_from(lower.id.number()).map_err(Error::from)?;
    request.lower_index = index(lower)?;
    let more = below.any(|branch| branch.writable());
    if !more {
        request.flags |= Mvdown::BOTTOM;
    }
    Ok((upper, lower.clone()))
}

/// Refuses if the file would not be seen on `lower`. The mounter's credentials are in force.
fn check_way(dentry: &Dentry, upper: &Branch, lower: &Branch) -> Outcome {
    let table = dentry.sb().data().table();
    let (from, to) = (table.index_of(upper.id), table.index_of(lower.id));
    let mut child: ARef<Dentry> = dentry.into();
    while !child.is_root() {
        let parent = child.parent();
        let name = child.name()?;
        for slot in parent.object()?.stack()?.iter() {
            let branch = slot.branch();
            let at = table.index_of(branch.id);
            if at >= to {
                break;
            }
            if !child.is_dir()
                && at > from
                && dirop::lookup_positive(slot.dentry(), &name)?.is_some()
            {
                return Err(Reason::Upper.into());
            }
            if branch.access.honours_whiteouts() && whiteout::exists(slot.dentry(), &name)? {
                return Err(Reason::Whiteout.into());
            }
            if whiteout::hides_below(branch, slot.dentry(), whname::OPAQUE)? {
                return Err(Reason::Opaque.into());
            }
        }
        child = parent;
    }
    Ok(())
}

/// One move, with all locks held.
struct Move<'a>(&'a CopyUp<'a>);

impl Move<'_> {
    fn run(&self, request: &Mvdown) -> Outcome {
        let copy = self.0;
        let (number, retired) = (InoTable::reserve()?, InoTable::reserve()?);
        let room = inode::Room::alone()?;
        let info = copy.sb.data();
        let upper = copy.source;
        let gone = info.ino.lower(upper.branch(), upper.dentry())?;
        info.ino.space(copy.target, &copy.target.work()?.orphans)?;
        let moves = info.moves.reserve_again(copy.inode)?;
        let dir = copy.dir(&copy.dentry.parent())?;
        let staged = copy.stage(Some(&dir), Nursery::Orphans)?;
        let lock = info.replace.lock();
        // What is begun must be done, or undone, in pieces: see `place()`.
        let kept = copy.target.root.mount.keep_writable()?;
        // What is seen by its name changes its place in two steps.
        let moving = copy.inode.moving();
        let moved = self.place(&staged, request);
        let result = match moved {
            Ok(None) => Ok(()),
            Ok(Some(lower)) => {
                let result = copy.install(lower, room, Some(number), moves);
                info.ino.retire(retired, gone);
                result.map_err(Refused::from)
            }
            Err(error) => {
                if let Ok(write) = copy.target.want_write() {
                    copy.discard(staged, &write);
                }
                Err(error.into())
            }
        };
        drop(moving);
        drop(kept);
        drop(lock);
        if result.is_ok() {
            self.guard();
        }
        result
    }

    /// Gives the copy its name, and takes the original away; gives the copy then.
    ///
    /// Only one of the branches is under write access at a time: if they are on one file system
    /// and somebody froze it in between, the freeze would wait for us, and we for the thaw.
    fn place(&self, staged: &Staged, request: &Mvdown) -> Result<Option<ARef<LowerDentry>>> {
        let copy = self.0;
        let name = copy.dentry.name()?;
        let parent = copy.dentry.parent();
        let dir = parent.object()?.slot_on(copy.target.id)?.ok_or(ESTALE)?;
        let times = DirTimes::of(parent.object()?, dir)?;
        let write = copy.target.want_write()?;
        let aside = self.aside(dir, &name, request, &write)?;
        let named = self.link(staged, dir, &name, &write);
        drop(write);
        let kept = request.has(Mvdown::KUPPER);
        let unlinked = match &named {
            Ok(_) if !kept => self.unlink_upper(&parent, &name),
            _ => Ok(()),
        };
        let write = copy.target.want_write()?;
        if let (Ok(_), Err(_)) = (&named, &unlinked) {
            let undone = Removing::new(dir.path(), &name, &write).and_then(Removing::unlink);
            self.warn(&name, undone);
        }
        let result = named.and_then(|lower| unlinked.map(|()| lower));
        match (&result, aside) {
            (Ok(_), Some((old, temp))) => {
                let orphans = &copy.target.work()?.orphans;
                whiteout::purge(copy.target, orphans, &old, &temp, &write);
            }
            (Err(_), Some((_, temp))) => {
                let orphans = copy.target.at(&copy.target.work()?.orphans);
                let undone = Renaming::new((orphans, &temp), (dir.path(), &name), 0, &write)
                    .and_then(Renaming::commit);
                self.warn(&name, undone.map(|_| ()));
            }
            (_, None) => {}
        }
        times.restore(dir, &write);
        let lower = result?;
        whiteout::remove(copy.target, dir.dentry(), &name, &write)?;
        Ok(Some(lower).filter(|_| !kept))
    }

    /// Moves what has the name on the target out of the way. `EEXIST` if that is not wanted.
    fn aside(
        &self,
        dir: &Slot,
        name: &[u8],
        request: &Mvdown,
        write: &WriteAccess<'_>,
    ) -> Result<Option<(ARef<LowerDentry>, whname::Name)>> {
        let copy = self.0;
        let Some(old) = dirop::lookup_positive(dir.dentry(), name)? else {
            return Ok(None);
        };
        if !request.has(Mvdown::OWLOWER) || old.is_dir() {
            return Err(EEXIST);
        }
        let temp = copy.sb.data().temp_name(name)?;
        let orphans = copy.target.at(&copy.target.work()?.orphans);
        let old = Renaming::new((dir.path(), name), (orphans, &temp), 0, write)?.commit()?;
        Ok(Some((old, temp)))
    }

    /// Gives the copy its name on the target.
    fn link(
        &self,
        staged: &Staged,
        dir: &Slot,
        name: &[u8],
        write: &WriteAccess<'_>,
    ) -> Result<ARef<LowerDentry>> {
        let copy = self.0;
        let lower = match &staged.temp {
            None => Creating::new(dir.path(), name, write)?.link(&staged.dentry)?,
            Some(temp) => {
                const NOREPLACE: u32 = 1;
                let from = copy.target.at(&temp.dir);
                Renaming::new((from, &temp.name), (dir.path(), name), NOREPLACE, write)?.commit()?
            }
        };
        if let Err(error) = attr::copy_flags(copy.source.path(), copy.target.at(&lower)) {
            warn_limited!("cannot copy the flags of a file: {:?}\n", error);
        }
        Ok(lower)
    }

    /// Removes the original.
    fn unlink_upper(&self, parent: &Dentry, name: &[u8]) -> Result {
        let upper = self.0.source;
        let dir = parent.object()?.slot_on(upper.branch().id)?.ok_or(ESTALE)?;
        let times = DirTimes::of(parent.object()?, dir)?;
        let write = upper.branch().want_write()?;
        let removing = Removing::new(dir.path(), name, &write)?;
        if !dirop::same_inode(removing.child(), upper.inode()?) {
            return Err(ESTALE);
        }
        removing.unlink()?;
        times.restore(dir, &write);
        Ok(())
    }

    fn warn(&self, name: &[u8], undone: Result) {
        if let Err(error) = undone {
            warn_limited!(
                "cannot undo the move of {:?} to a lower branch: {:?}\n",
                BStr::from_bytes(name),
                error
            );
        }
    }

    /// The name is absent above now, and stays under watch there.
    fn guard(&self) {
        let dentry = self.0.dentry;
        let guard = || -> Result<Option<ARef<LowerDentry>>> {
            let parent = dentry.parent();
            let dir = parent.object()?;
            let info = dir.sb().data();
            let view = View::plain(info, info.shape(), dir.stack()?);
            Ok(lookup::probe(&view, 0, &dentry.name()?, Depth::First)?.guard)
        };
        // Without one, what is put there behind the union's back is noticed later.
        dentry.set_guard(guard().unwrap_or(None));
    }
}

/// Tells how full the two file systems are, if that was asked for.
fn tell(request: &mut Mvdown, upper: &Branch, lower: &Branch) {
    if !request.has(Mvdown::STFS) {
        return;
    }
    let of = |branch: &Branch| Statfs::of(branch.at(&branch.root.dentry));
    match (of(upper), of(lower)) {
        (Ok(above), Ok(below)) => {
            request.upper_blocks = above.blocks;
            request.upper_available = above.blocks_available;
            request.upper_files = above.files;
            request.upper_free_files = above.files_free;
            request.lower_blocks = below.blocks;
            request.lower_available = below.blocks_available;
            request.lower_files = below.files;
            request.lower_free_files = below.files_free;
        }
        _ => request.flags |= Mvdown::STFS_FAILED,
    }
}
