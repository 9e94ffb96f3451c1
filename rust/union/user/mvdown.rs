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
//! its object's lock, and for the moments of the changes its place
//! ([`Places`](crate::union::state::places::Places)).
//!
//! # Order of steps
//!
//! The copy gets its name, where the original hides it. Then it is brought to disk, and with it
//! all that leads to it ([`OnDisk`]); nobody waits for that but who wants to change this file.
//! Then the original goes. So after a power cut the file is on one of the branches, or on both.

#![forbid(unsafe_code)]

use super::argument::{
    read,
    write, //
};
use crate::compat::errno::{
    Errno,
    ESTALE, //
};
use crate::fs::{
    access::{
        attr,
        descriptor::WritableFile,
        dirop::{
            self,
            Creating,
            Removing,
            Renaming, //
        },
        statfs::Statfs, //
    },
    base::{
        gate::OVERTAKEN,
        seats::Doing,
        task, //
    },
    objects::{
        file::File,
        path::WriteAccess, //
    }, //
};
use crate::logic::{
    branch_spec::Attrs,
    name::Name,
    uapi::{
        Mvdown,
        MvdownReason as Reason, //
    }, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        durable::OnDisk,
        ino::{
            InoTable,
            Lower,
            Reserved, //
        },
        orphans,
        stack,
        whiteout, //
    },
    copyup::{
        copy::{
            CopyUp,
            Nursery,
            Staged, //
        },
        data::Data,
        meta::DirTimes,
        promote::promote_to, //
    },
    names::{
        index::View,
        lookup::{
            self,
            Depth, //
        }, //
    },
    state::{
        moves,
        places::{
            Act,
            Taken,
            Wanted, //
        }, //
    },
    types::{
        Dentry,
        Inode,
        LowerDentry,
        Section,
        Union, //
    }, //
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
    },
    time::{
        Instant,
        Monotonic, //
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

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Error::from(error).into()
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
    if !task::is_admin() {
        return Err(EPERM);
    }
    drop(WritableFile::new(file)?);
    if file.inode().is_dir() {
        return Err(EISDIR);
    }
    let mut request = Mvdown::decode(&read(arg)?);
    let begin = Instant::now();
    request.flags &= !Mvdown::ANSWERS;
    let result = {
        let inode = file.inode();
        let _writable = WritableFile::new(file)?;
        // In this order: who holds `i_rwsem` may be waiting for the gate.
        let _locked = inode.lock();
        loop {
            let entered = inode.sb().enter(Doing::Move);
            let section = entered.section();
            match run(section, file.dentry(), &mut request, begin) {
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

fn run(
    section: Section<'_>,
    dentry: &Dentry,
    request: &mut Mvdown,
    begin: Instant<Monotonic>,
) -> Outcome {
    let inode = dentry.object()?;
    let info = inode.sb().data();
    if dentry.is_nameless() {
        // Found by a file handle: where it should go down is not known.
        return Err(ENOENT.into());
    }
    let (upper, lower) = branches(section, inode, request)?;
    info.cred
        .scope(|| check_way(section, dentry, &upper, &lower))?;
    let parent = dentry.parent();
    if section.settings().dirren && parent.object()?.slot_on(section, lower.id)?.is_none() {
        // A renamed directory leads to another name there.
        return Err(EXDEV.into());
    }
    promote_to(section, &parent, &lower)?;

    let lock = inode.promotion_lock();
    let stack = inode.stack(section)?;
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
        bytes: Cell::new(0),
    };
    let result = info.cred.scope(|| Move(&copy).run(section, request));
    copy.moved_down(
        begin,
        result.as_ref().copied().map_err(|refused| refused.error),
    );
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
fn branches(
    section: Section<'_>,
    inode: &Inode,
    request: &mut Mvdown,
) -> Outcome<(Arc<Branch>, Arc<Branch>)> {
    let table = section.table();
    let upper = inode.stack(section)?.top().branch().clone();
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
fn check_way(section: Section<'_>, dentry: &Dentry, upper: &Branch, lower: &Branch) -> Outcome {
    let table = section.table();
    let (from, to) = (table.index_of(upper.id), table.index_of(lower.id));
    let mut child: ARef<Dentry> = dentry.into();
    while !child.is_root() {
        let parent = child.parent();
        let name = child.name()?;
        let name = whiteout::check(&name)?;
        for slot in parent.object()?.stack(section)?.iter() {
            let branch = slot.branch();
            let at = table.index_of(branch.id);
            if at >= to {
                break;
            }
            if !child.is_dir()
                && at > from
                && dirop::lookup_positive(slot.dentry().dir()?, &name)?.is_some()
            {
                return Err(Reason::Upper.into());
            }
            if branch.access.honours_whiteouts() && whiteout::exists(slot.dentry(), name)? {
                return Err(Reason::Whiteout.into());
            }
            if whiteout::is_opaque_on(branch, slot.dentry())? {
                return Err(Reason::Opaque.into());
            }
        }
        child = parent;
    }
    Ok(())
}

/// What had the name on the target before, and its name among the orphans.
type Aside = Option<(ARef<LowerDentry>, Name)>;

/// A copy that has its name, below the original.
struct Named {
    lower: ARef<LowerDentry>,
    aside: Aside,
}

/// What the copy needs to take the place of the original: nothing fails for it then.
struct Reserve {
    number: Reserved,
    retired: Reserved,
    gone: Lower,
    room: stack::Room,
    moves: Option<moves::Room>,
}

/// One move. The object's lock is held, so that nobody removes or renames it.
struct Move<'a>(&'a CopyUp<'a>);

impl Move<'_> {
    fn run(&self, section: Section<'_>, request: &Mvdown) -> Outcome {
        let copy = self.0;
        let info = copy.sb.data();
        let upper = copy.source;
        info.ino.space(copy.target, &copy.target.work()?.orphans)?;
        let reserved = Reserve {
            number: InoTable::reserve()?,
            retired: InoTable::reserve()?,
            gone: info.ino.lower(upper.branch(), upper.dentry())?,
            room: stack::Room::alone()?,
            moves: info.moves.reserve_again(section, copy.inode)?,
        };
        let name = copy.dentry.name()?;
        let parent = copy.dentry.parent();
        let dir = parent
            .object()?
            .slot_on(section, copy.target.id)?
            .ok_or(ESTALE)?;
        let staged = copy.stage(section, Some(dir.dentry()), Nursery::Orphans)?;
        if copy.overtaken.get() {
            // Whether it would be seen there must be asked again.
            if let Ok(write) = copy.target.want_write() {
                copy.discard(section, staged, &write);
            }
            return Err(OVERTAKEN.into());
        }
        // What is begun must be done, or undone, in pieces: only one of the branches is under write
        // access at a time. If they are on one file system and somebody froze it in between, the
        // freeze would wait for us, and we for the thaw.
        let kept = copy.target.root.mount().keep_writable()?;
        let named = match self.name(section, &staged, dir, &name, request) {
            Ok(named) => named,
            Err(error) => {
                if let Ok(write) = copy.target.want_write() {
                    copy.discard(section, staged, &write);
                }
                return Err(error.into());
            }
        };
        if !request.has(Mvdown::KUPPER) {
            let place = (&*parent, dir, &*name);
            let moved = OnDisk::bring(copy.target, &named.lower, dir.dentry())
                .and_then(|on_disk| self.take_over(section, place, &named, reserved, on_disk));
            match moved {
                Ok(installed) => installed?,
                Err(error) => {
                    self.undo(section, dir, &name, named);
                    return Err(error.into());
                }
            }
        }
        self.tidy(section, dir, &name, named);
        drop(kept);
        self.guard(section);
        Ok(())
    }

    /// Gives the copy its name, below the original.
    fn name(
        &self,
        section: Section<'_>,
        staged: &Staged,
        dir: &Slot,
        name: &[u8],
        request: &Mvdown,
    ) -> Result<Named> {
        let copy = self.0;
        let taken = self.take_place()?;
        let write = copy.target.want_write()?;
        let times = DirTimes::of_slot(dir)?;
        let aside = self.aside(dir, name, request, &write)?;
        let named = match self.link(staged, dir, name, &write) {
            Ok(lower) => Ok(Named { lower, aside }),
            Err(error) => {
                self.put_back(dir, name, aside, &write);
                Err(error)
            }
        };
        times.restore(section, dir, &write);
        drop(write);
        drop(taken);
        named
    }

    /// The directories of the object stay where they are until the value that this gives is
    /// dropped.
    fn take_place(&self) -> Result<Taken<'_>> {
        let copy = self.0;
        let parent = copy.dentry.parent();
        let wanted = Wanted {
            objects: [Some(copy.dentry), None],
            parents: [Some(&parent), None],
        };
        copy.sb.data().places.take(Act::Move, wanted)
    }

    /// Takes the original away, and shows the copy in its place. An error comes before that, or
    /// after it, as the result.
    fn take_over(
        &self,
        section: Section<'_>,
        (parent, dir, name): (&Dentry, &Slot, &[u8]),
        named: &Named,
        reserved: Reserve,
        on_disk: OnDisk,
    ) -> Result<Result> {
        let copy = self.0;
        let info = copy.sb.data();
        let taken = self.take_place()?;
        self.check_place(section, parent, dir)?;
        // What is seen by its name changes its place in two steps.
        let moving = copy.inode.moving();
        self.unlink_upper(section, parent, name, on_disk)?;
        let Reserve {
            number,
            retired,
            gone,
            room,
            moves,
        } = reserved;
        let installed = copy.install(section, named.lower.clone(), room, Some(number), moves);
        info.ino.retire(retired, gone);
        drop(moving);
        drop(taken);
        Ok(installed)
    }

    /// `ESTALE` if a directory above was renamed, and left its part on the target. The place of the
    /// object is taken.
    fn check_place(&self, section: Section<'_>, parent: &Dentry, dir: &Slot) -> Result {
        let target = self.0.target.id;
        let slot = parent.object()?.slot_on(section, target)?.ok_or(ESTALE)?;
        if !slot.dentry().is(&**dir.dentry()) {
            return Err(ESTALE.into());
        }
        let mut next: ARef<Dentry> = parent.into();
        while !next.is_root() {
            next = next.parent();
            next.object()?.slot_on(section, target)?.ok_or(ESTALE)?;
        }
        Ok(())
    }

    /// The file stays where it is: takes the copy away.
    fn undo(&self, section: Section<'_>, dir: &Slot, name: &[u8], named: Named) {
        let result = || -> Result {
            let write = self.0.target.want_write()?;
            let times = DirTimes::of_slot(dir)?;
            let removed = Removing::new(dir.path()?, name, &write).and_then(Removing::unlink);
            self.put_back(dir, name, named.aside, &write);
            times.restore(section, dir, &write);
            removed
        };
        self.warn(name, result());
    }

    /// What had the name on the target has it again.
    fn put_back(&self, dir: &Slot, name: &[u8], aside: Aside, write: &WriteAccess<'_>) {
        let Some((_, temp)) = aside else {
            return;
        };
        let result = || -> Result {
            let orphans = self.0.target.at(&self.0.target.work()?.orphans)?;
            Renaming::new((orphans, &temp), (dir.path()?, name), 0, write)?.commit()?;
            Ok(())
        };
        self.warn(name, result());
    }

    /// Removes what means nothing any more. If it stays it does no harm.
    fn tidy(&self, section: Section<'_>, dir: &Slot, name: &[u8], named: Named) {
        let target = self.0.target;
        let result = || -> Result {
            let write = target.want_write()?;
            let times = DirTimes::of_slot(dir)?;
            if let Some((old, temp)) = &named.aside {
                orphans::purge(target, &target.work()?.orphans, old, temp, &write);
            }
            let removed = whiteout::check(name)
                .and_then(|name| whiteout::remove(target, dir.dentry(), name, &write));
            times.restore(section, dir, &write);
            removed
        };
        if let Err(error) = result() {
            warn_limited!(
                "cannot remove the whiteout of {:?}: {:?}\n",
                BStr::from_bytes(name),
                error
            );
        }
    }

    /// Moves what has the name on the target out of the way. `EEXIST` if that is not wanted.
    fn aside(
        &self,
        dir: &Slot,
        name: &[u8],
        request: &Mvdown,
        write: &WriteAccess<'_>,
    ) -> Result<Aside> {
        let copy = self.0;
        let Some(old) = dirop::lookup_positive(dir.dentry().dir()?, name)? else {
            return Ok(None);
        };
        if !request.has(Mvdown::OWLOWER) || old.is_dir() {
            return Err(EEXIST);
        }
        let temp = copy.sb.data().temp_name(name)?;
        let orphans = copy.target.at(&copy.target.work()?.orphans)?;
        let old = Renaming::new((dir.path()?, name), (orphans, &temp), 0, write)?.commit()?;
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
            None => Creating::new(dir.path()?, name, write)?.link(&staged.dentry)?,
            Some(temp) => {
                const NOREPLACE: u32 = 1;
                let from = copy.target.at(&temp.dir)?;
                Renaming::new((from, &temp.name), (dir.path()?, name), NOREPLACE, write)?
                    .of(staged.dentry.positive()?)?
                    .commit()?
            }
        };
        let copied = write
            .to(copy.target.at(&lower)?)
            .and_then(|to| attr::copy_flags(copy.source.path()?, to));
        if let Err(error) = copied {
            warn_limited!("cannot copy the flags of a file: {:?}\n", error);
        }
        Ok(lower)
    }

    /// Removes the original, of which the copy is on disk.
    fn unlink_upper(
        &self,
        section: Section<'_>,
        parent: &Dentry,
        name: &[u8],
        _copy: OnDisk,
    ) -> Result {
        let upper = self.0.source;
        let dir = parent
            .object()?
            .slot_on(section, upper.branch().id)?
            .ok_or(ESTALE)?;
        let write = upper.branch().want_write()?;
        let removing = Removing::new(dir.path()?, name, &write)?;
        if !dirop::same_inode(removing.child(), upper.inode()?) {
            return Err(ESTALE.into());
        }
        let times = DirTimes::of(section, parent.object()?, dir)?;
        removing.unlink_then(|dir| times.restore_locked(section, dir))
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
    fn guard(&self, section: Section<'_>) {
        let dentry = self.0.dentry;
        let guard = || -> Result<Option<ARef<LowerDentry>>> {
            let parent = dentry.parent();
            let dir = parent.object()?;
            let info = dir.sb().data();
            let view = View::plain(info, section.shape(), dir.stack(section)?);
            let name = dentry.name()?;
            Ok(lookup::probe(&view, 0, whiteout::sought(&name), Depth::First)?.guard)
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
    let of = |branch: &Branch| Statfs::of(branch.root.here());
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
