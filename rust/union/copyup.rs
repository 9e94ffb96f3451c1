// SPDX-License-Identifier: GPL-2.0

//! Promotion: giving an object an instance on a writable branch.
//!
//! # Terms
//!
//! - *target*: the branch that gets the instance.
//! - *staged*: the instance is complete, among the orphans of the target, under a
//!   temporary name or none; nobody sees it.
//! - *published*: it has its name, by one link or rename, and is the top slot.
//!
//! | module | what it does |
//! |---|---|
//! | [`data`] | the contents: shared, or copied with their holes |
//! | [`meta`] | owner, mode, times, extended attributes, ACLs |
//! | [`mvdown`](crate::union::user::mvdown::mvdown) | the way back: to a lower writable branch |
//! | [`running`](crate::union::state::running) | who copies what, for a remount |
//! | [`seen`] | what is counted and traced of it |
//!
//! # Locking
//!
//! The object's lock is held from staging to publication: the winner does the
//! work, the others wait and find it done. [`crate::union::state::sb::SbInfo::replace`] is held
//! for the publication. No directory of a branch is locked while data is copied.
//!
//! Data is copied, and brought to disk, outside the section of the gate that the callback is
//! in, so that a remount does not wait for it ([`CopyUp::outside`]). After it the copy must
//! still be what is wanted: of the top instance, to a branch that is above it and may be
//! written. If the shape has changed, the callback begins anew in any case ([`OVERTAKEN`]),
//! as its caller may have looked at the old one. Who wants a copy of the same file waits
//! outside, too.
//!
//! # Invariants
//!
//! Ancestors are promoted first, from the top down, one at a time. A failed or
//! killed promotion leaves nothing behind but, at worst, an orphan that the next
//! mount removes.

#![forbid(unsafe_code)]

pub(crate) mod data;
pub(crate) mod meta;
pub(crate) mod on_open;
pub(crate) mod seen;
pub(crate) mod target;

use self::meta::DirTimes;
use crate::fs::{
    access::{
        attr,
        dirop::{
            self,
            Creating,
            Renaming, //
        },
        io::KernelFile, //
    },
    base::gate::OVERTAKEN,
    objects::{
        cred::Cred,
        inode::Kind,
        path::WriteAccess,
        writes::Copying, //
    }, //
};
use crate::logic::{
    branch_spec::{
        Attrs,
        OnOpen, //
    },
    whname, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        durable::{
            self,
            OnDisk, //
        },
        ino::{
            InoTable,
            Reserved, //
        },
        whiteout, //
    },
    files::handle,
    mount::{
        busy,
        draft::text, //
    },
    names::watch,
    objects::{
        object,
        shown::watched_time, //
    },
    plink,
    state::{
        fhsm::{
            self,
            Event, //
        },
        running::Running, //
    },
    Dentry,
    Inode,
    LowerDentry,
    Section,
    SuperBlock, //
};
use crate::{
    inform_limited,
    warn_limited, //
};
use core::cell::Cell;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Full,
        barrier::smp_mb,
        Arc, //
    }, //
};

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
    fn is_changed(self) -> bool {
        matches!(self, Self::Resized(resize) if resize.made.get())
    }

    /// Whether the change time of the copy is that of a change.
    fn is_dated(self) -> bool {
        matches!(self, Self::Resized(resize) if resize.dated.get())
    }
}

/// A change of a file's size, with all that changes beside it. It is made to the staged copy: once
/// others see that data is gone, nothing may fail any more.
pub(crate) struct Resize {
    pub(crate) size: i64,
    pub(crate) change: attr::Change,
    /// Whether it was made: not if there was no need of a copy.
    made: Cell<bool>,
    /// Whether the file system of the copy took it for a change. If the size is what it was, not
    /// all do, also where a set-id bit goes.
    dated: Cell<bool>,
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

/// Makes sure that the object of `dentry` may be written.
///
/// # Errors
///
/// `EROFS` if there is no writable branch above it; `EPERM` for a whiteout, which `shwh` shows;
/// what the branches give. `EINTR` if the task was killed.
pub(crate) fn promote(section: Section<'_>, dentry: &Dentry, wanted: Data<'_>) -> Result {
    if section.settings().shwh {
        // A whiteout is shown, not offered for change.
        whname::check(&dentry.name()?)?;
    }
    loop {
        let inode = dentry.object()?;
        let stack = inode.stack(section)?;
        if stack.writable() {
            // A copy that was made by this name has it; and data that is gone is gone.
            return if inode.is_plinked() && !wanted.is_changed() {
                give_name(section, dentry, stack.top())
            } else {
                Ok(())
            };
        }
        let target = target::above(section, &dentry.directory(), stack.top())?;
        promote_step(section, dentry, &target, wanted)?;
    }
}

/// Makes sure that `dentry`, one of several names of an object whose top instance is `top`, is
/// there on the branch of `top`: a promotion made only the name that it came by. A file that is
/// immutable or append-only gets no name, nor one whose directory cannot be there; the pseudo-link
/// leads to it.
pub(crate) fn give_name(section: Section<'_>, dentry: &Dentry, top: &Slot) -> Result {
    if dentry.is_nameless() {
        return Ok(());
    }
    let parent = dentry.parent();
    let branch = top.branch();
    if !target::has_room(section, &parent, branch)? {
        return Ok(());
    }
    promote_to(section, &parent, branch)?;
    let inode = dentry.object()?;
    let info = inode.sb().data();
    let _lock = inode.promotion_lock();
    if dentry.is_unhashed() || !dentry.parent().is(&parent) {
        // Removed, or moved by somebody who gave it its name.
        return Ok(());
    }
    let name = dentry.name()?;
    let dir = parent
        .object()?
        .slot_on(section, branch.id)?
        .ok_or(ESTALE)?;
    info.cred.scope(|| {
        let found = dirop::lookup_positive(dir.dentry().dir()?, &name)?;
        let lower = top.inode()?;
        if lower.is_protected() || found.is_some_and(|found| dirop::same_inode(&found, lower)) {
            return Ok(());
        }
        let write = branch.want_write()?;
        dentry.set_guard(None);
        plink::count_all(section, inode, &write)?;
        let new = match Creating::new(dir.path()?, &name, &write) {
            // A rename, or somebody behind our back, gave it to another object: `dentry` is the
            // name of this one no longer, and none is needed.
            Err(error) if error == EEXIST => return Ok(()),
            other => other?,
        };
        let times = DirTimes::of(section, parent.object()?, dir)?;
        let (modified, kept) = (lower.mtime(), inode.shown_change_time(section)?);
        match new.link_regardless(top.dentry(), |dir| times.restore_locked(section, dir)) {
            Err(error) if error == EEXIST => return Ok(()),
            other => other?,
        };
        // A store through a mapping may have come in between: nothing excludes it.
        if lower.mtime() == modified {
            inode.keep_change_time(section, kept);
        }
        Ok(())
    })
}

/// Names in the directory `dir` are about to change, on whatever branch: makes sure that its top
/// instance, whose times are shown, can be written, unless there is no branch for that.
pub(crate) fn promote_shown(section: Section<'_>, dir: &Dentry) -> Result {
    if dir.object()?.stack(section)?.writable() {
        return Ok(());
    }
    match promote(section, dir, Data::All) {
        Err(error) if error == EROFS => Ok(()),
        other => other,
    }
}

/// Makes sure that `dentry` has an instance on `target`, which for a non-directory is its top
/// one: `target` is not below that.
pub(crate) fn promote_to(section: Section<'_>, dentry: &Dentry, target: &Arc<Branch>) -> Result {
    while !is_on(section, dentry.object()?, target)? {
        promote_step(section, dentry, target, Data::All)?;
    }
    Ok(())
}

/// Whether `inode` has no need of an instance on `target`: it has one, or, if it is no directory,
/// one above that.
fn is_on(section: Section<'_>, inode: &Inode, target: &Branch) -> Result<bool> {
    let stack = inode.stack(section)?;
    if stack.on(target.id).is_some() {
        return Ok(true);
    }
    let table = section.table();
    Ok(!inode.is_dir() && table.index_of(stack.top().branch().id) < table.index_of(target.id))
}

/// Promotes the topmost ancestor of `dentry`, or `dentry` itself, that has no instance on
/// `target`.
fn promote_step(
    section: Section<'_>,
    dentry: &Dentry,
    target: &Arc<Branch>,
    wanted: Data<'_>,
) -> Result {
    let mut next: ARef<Dentry> = dentry.into();
    loop {
        // What has no name any more, or none that is known, is copied without one.
        let nameless = next.is_nameless() || next.object()?.nlink() == 0;
        if nameless && !next.is_dir() {
            return promote_one(section, None, &next, target, wanted);
        }
        if next.is_root() {
            // It has an instance on each branch, unless one above is opaque.
            return Err(EROFS);
        }
        let parent = next.parent();
        if parent.object()?.slot_on(section, target.id)?.is_some() {
            return promote_one(section, Some(&parent), &next, target, wanted);
        }
        next = parent;
    }
}

/// Promotes one object whose parent has an instance on `target`.
///
/// # Errors
///
/// [`OVERTAKEN`] if the shape changed meanwhile, whatever became of it.
fn promote_one(
    section: Section<'_>,
    parent: Option<&Dentry>,
    dentry: &Dentry,
    target: &Arc<Branch>,
    wanted: Data<'_>,
) -> Result {
    let inode = dentry.object()?;
    let lock = if inode.is_dir() {
        inode.promotion_lock()
    } else {
        inode.promotion_lock_outside(section)?
    };
    let stack = inode.stack(section)?;
    // Somebody else won, or the name moved before we had the lock: the caller looks again.
    if is_on(section, inode, target)? {
        return Ok(());
    }
    if parent.is_some_and(|parent| !dentry.parent().is(parent)) {
        return Ok(());
    }
    // It was removed before we had the lock: then the copy gets no name.
    let gone = dentry.is_nameless() || inode.nlink() == 0;
    if gone && inode.is_dir() {
        return Err(ENOENT);
    }
    let parent = parent.filter(|_| !gone);
    let copying = match inode.is_dir() {
        true => None,
        false => Some(leave_original(section, inode)?),
    };
    let copy_up = CopyUp {
        sb: inode.sb(),
        inode,
        dentry,
        source: stack.top(),
        target,
        wanted,
        upwards: true,
        overtaken: Cell::new(false),
        bytes: Cell::new(0),
    };
    let result = copy_up.run_seen(section, parent);
    drop(lock);
    drop(copying);
    if copy_up.overtaken.get() && result != Err(EINTR) {
        return Err(OVERTAKEN);
    }
    if section.settings().verbose {
        if let Err(error) = result {
            inform_limited!(
                "cannot copy {:?} up: {:?}\n",
                kernel::str::BStr::from_bytes(&dentry.name()?),
                error
            );
        }
    }
    result
}

/// Sees to it that no data is changed on the top instance of the locked `inode` while it is copied,
/// nor after that. `EXDEV` if it may be written, and somebody may store to it through a mapping,
/// which would not follow.
fn leave_original<'a>(section: Section<'_>, inode: &'a Inode) -> Result<Copying<'a>> {
    inode.assert_locked();
    let writes = &inode.data().writes;
    writes.wait_for_queued()?;
    let copying = writes.copying();
    let stack = inode.stack(section)?;
    if stack.writable() && busy::is_mapped(inode, stack.top_inode()) {
        return Err(EXDEV);
    }
    Ok(copying)
}

/// One promotion.
pub(crate) struct CopyUp<'a> {
    pub(crate) sb: &'a SuperBlock,
    pub(crate) inode: &'a Inode,
    pub(crate) dentry: &'a Dentry,
    pub(crate) source: &'a Slot,
    pub(crate) target: &'a Arc<Branch>,
    pub(crate) wanted: Data<'a>,
    /// The target is above the source.
    pub(crate) upwards: bool,
    /// The shape changed meanwhile.
    pub(crate) overtaken: Cell<bool>,
    /// How much data was copied.
    pub(crate) bytes: Cell<u64>,
}

/// What became of a staged instance.
enum Published {
    /// It has its name, and is this.
    Named(ARef<LowerDentry>),
    /// There is no name for it any more; it may have a pseudo-link for others.
    Nameless(Option<ARef<LowerDentry>>),
}

/// What a promotion has made.
enum Copied {
    /// It will be looked for: under its name, or as the pseudo-link of others.
    Known(ARef<LowerDentry>),
    /// Nobody will look for it.
    Unknown(ARef<LowerDentry>),
}

/// An instance in the making, which nobody sees.
pub(crate) struct Staged {
    pub(crate) dentry: ARef<LowerDentry>,
    /// Its temporary name, if it has one.
    pub(crate) temp: Option<Temporary>,
}

/// A temporary name.
pub(crate) struct Temporary {
    pub(crate) name: whname::Name,
    /// The directory of the branch that it is in.
    pub(crate) dir: ARef<LowerDentry>,
    /// The times that this directory had before, and what counted its changes then, unless it is
    /// that of the orphans.
    times: Option<(u64, meta::Times)>,
}

/// Where an object gets its temporary name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nursery {
    /// Among the orphans of the branch.
    Orphans,
    /// In the directory that it is for: what it inherits there (a project, a key, a subvolume) may
    /// be what lets it have a name there.
    Directory,
}

impl CopyUp<'_> {
    fn run(&self, section: Section<'_>, parent: Option<&Dentry>) -> Result {
        // What may fail for lack of memory comes before anything can be seen.
        let number = InoTable::reserve()?;
        let ino = &self.sb.data().ino;
        let original = ino.lower(self.source.branch(), self.source.dentry())?;
        let dir = parent.map(|parent| self.dir(section, parent)).transpose()?;
        let orphans = &self.target.work()?.orphans;
        // Known from here on, which `install` relies upon.
        ino.space(self.target, dir.as_ref().unwrap_or(orphans))?;
        let moves = self.sb.data().moves.reserve(section, self.inode)?;
        let parted = InoTable::reserve()?;
        let room = if self.inode.is_dir() {
            object::Room::beside(self.inode.stack(section)?)?
        } else {
            object::Room::alone()?
        };
        let changes = self.inode.changes();
        let copied = match self.make(section, parent, dir.as_deref(), Nursery::Orphans) {
            Err(error) if error == EXDEV && dir.is_some() => {
                self.make(section, parent, dir.as_deref(), Nursery::Directory)?
            }
            other => other?,
        };
        let (dentry, number) = match copied {
            Copied::Known(dentry) => (dentry, Some(number)),
            Copied::Unknown(dentry) => (dentry, None),
        };
        let parts = plink::part::parts(self.inode, self.source)?;
        if parts {
            self.inode.set_parted();
        }
        let copy = dentry.clone();
        let installed = self.install(section, dentry, room, number, moves);
        if parts {
            plink::part::part(self.inode, self.dentry, original, parted);
        }
        if installed.is_ok() {
            self.follow(section, &copy, changes);
            self.free_source(section, &copy);
        }
        installed
    }

    /// A directory on a branch that is written may have got and lost names while it was copied,
    /// when the count of its changes was `changes`: its copy has the time of that.
    fn follow(&self, section: Section<'_>, copy: &LowerDentry, changes: u64) {
        if !self.inode.is_dir() || self.goes_down(section) {
            return;
        }
        // Who changes it counts that before he looks which instance is the top one, which has been
        // published: one of the two sees the other.
        smp_mb(Full);
        if self.inode.changes() == changes {
            return;
        }
        let touch = || -> Result {
            let write = self.target.want_write()?;
            attr::Change::new()
                .modified()
                .apply(write.to(self.target.at(copy)?)?)?;
            drop(write);
            self.inode.refresh(section)
        };
        if let Err(error) = touch() {
            pr_debug!(
                "a directory was changed, its copy has an older time: {:?}\n",
                error
            );
        }
    }

    /// The instance of the directory `parent` on the target.
    fn dir(&self, section: Section<'_>, parent: &Dentry) -> Result<ARef<LowerDentry>> {
        let slot = parent
            .object()?
            .slot_on(section, self.target.id)?
            .ok_or(ESTALE)?;
        Ok(slot.dentry().clone())
    }

    /// Makes the instance and gives it its name in the directory `parent`, `dir` on the target.
    ///
    /// # Errors
    ///
    /// `EXDEV` if it cannot come there from the `nursery`.
    fn make(
        &self,
        section: Section<'_>,
        parent: Option<&Dentry>,
        dir: Option<&LowerDentry>,
        nursery: Nursery,
    ) -> Result<Copied> {
        let staged = self.stage(section, dir, nursery)?;
        let lock = self.sb.data().replace.lock();
        // Read-only since a moment ago: then nothing can be removed there either.
        let write = self.target.want_write()?;
        if !self.goes_down(section) {
            // From here on the name appears on the target; the guard, which waits for that, has
            // done its duty.
            self.dentry.set_guard(None);
        }
        let published = match parent {
            Some(parent) => self.publish(section, parent, &staged, &write),
            None => self
                .keep_links(section, &staged, &write)
                .map(Published::Nameless),
        };
        let copied = match published {
            Ok(Published::Named(dentry)) => Ok(Copied::Known(dentry)),
            Ok(Published::Nameless(link)) => {
                let copied = match link {
                    Some(link) => Copied::Known(link),
                    None => Copied::Unknown(staged.dentry.clone()),
                };
                // The open file keeps the instance, or the other names do.
                self.discard(section, staged, &write);
                Ok(copied)
            }
            Err(error) => {
                self.discard(section, staged, &write);
                Err(error)
            }
        };
        drop(write);
        drop(lock);
        copied
    }

    /// Makes the instance, complete. `dir` is the directory of the target that it is for.
    ///
    /// A file without a name lies where it will get one, so that what it inherits there lets it.
    pub(crate) fn stage(
        &self,
        section: Section<'_>,
        dir: Option<&LowerDentry>,
        nursery: Nursery,
    ) -> Result<Staged> {
        let source = self.source.inode()?;
        let orphans = &self.target.work()?.orphans;
        let kind = source.kind();
        // Permissions come last; until then only the mounter has access.
        let unnamed = if kind == Kind::Regular {
            // Where nothing can be made by a name, nothing can be made without one either.
            let dir = dir.filter(|dir| dir.inode().is_some_and(|dir| !dir.is_protected()));
            let at = self.target.at(dir.unwrap_or(orphans))?;
            let write = self.target.want_write()?;
            let file = Cred::scope_for_copy_up(self.source.dentry(), || {
                KernelFile::unnamed(write.to(at)?, 0o600)
            });
            drop(write);
            match file {
                Err(error) if error == EOPNOTSUPP => None,
                other => Some(other?),
            }
        } else {
            None
        };
        if let Some(file) = unnamed {
            let dentry = file.dentry();
            self.copy_data(section, &file, &dentry)?;
            let write = self.target.want_write()?;
            self.copy_meta(section, &dentry, &write)?;
            self.resize(&dentry, &write)?;
            drop(write);
            if dentry.inode().is_some_and(|copy| copy.size() != 0) {
                self.outside(section, || file.sync())?;
            }
            return Ok(Staged { dentry, temp: None });
        }
        let staged = self.begin(section, dir.filter(|_| nursery == Nursery::Directory))?;
        let fill = || -> Result {
            if kind == Kind::Regular {
                let file = KernelFile::write(self.target.at(&staged.dentry)?)?;
                self.copy_data(section, &file, &staged.dentry)?;
                if staged.dentry.inode().is_some_and(|copy| copy.size() != 0) {
                    self.outside(section, || file.sync())?;
                }
            }
            let write = self.target.want_write()?;
            self.copy_meta(section, &staged.dentry, &write)?;
            match kind {
                Kind::Regular => self.resize(&staged.dentry, &write),
                _ => Ok(()), // A parent of the file.
            }
        };
        if let Err(error) = fill() {
            if let Ok(write) = self.target.want_write() {
                self.discard(section, staged, &write);
            }
            return Err(error);
        }
        Ok(staged)
    }

    /// Makes the instance, empty, under a temporary name in `dir`, or among the orphans.
    fn begin(&self, section: Section<'_>, dir: Option<&LowerDentry>) -> Result<Staged> {
        let source = self.source.inode()?;
        let home: ARef<LowerDentry> = dir.unwrap_or(&self.target.work()?.orphans).into();
        let name = self.sb.data().temp_name(b"copyup")?;
        let parent = self.dentry.parent();
        // What counts changes comes first: the times are those after them.
        let kept = match dir {
            Some(_) => {
                let parent = parent.object()?;
                Some((parent, parent.changes(), parent.shown_change_time(section)?))
            }
            None => None,
        };
        let times = dir.map(meta::Times::of).transpose()?;
        let write = self.target.want_write()?;
        let dentry = Cred::scope_for_copy_up(self.source.dentry(), || {
            let creating = Creating::new(self.target.at(&home)?, &name, &write)?;
            match source.kind() {
                Kind::Regular => creating.create(0o600),
                Kind::Dir => creating.mkdir(0o700),
                Kind::Special => creating.mknod(source.mode() & !0o7777, source.rdev()),
                Kind::Symlink => {
                    let target = crate::fs::objects::inode::link_text(self.source.dentry())?;
                    creating.symlink(&target)
                }
            }
        })?;
        drop(write);
        let times = kept.zip(times).map(|((parent, changes, time), times)| {
            parent.keep_change_time_of(section, changes, time);
            (changes, times)
        });
        let temp = Some(Temporary {
            name,
            dir: home,
            times,
        });
        Ok(Staged { dentry, temp })
    }

    /// Copies the contents to `file`, of which `dentry` is a name.
    fn copy_data(&self, section: Section<'_>, file: &KernelFile, dentry: &LowerDentry) -> Result {
        let (cred, bytes) = (&self.sb.data().cred, &self.bytes);
        let (from, to) = (self.source, self.target);
        self.outside(section, || {
            data::copy(cred, from, to, file, dentry, self.wanted, bytes)
        })
    }

    /// Does what takes long outside the section.
    ///
    /// # Errors
    ///
    /// [`OVERTAKEN`] if the copy is not what is wanted any more; what `f` gives.
    fn outside<R>(&self, section: Section<'_>, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let info = self.sb.data();
        let noted = Running::begin(info, self.dentry, self.target)?;
        let (result, changed) = section.outside(f);
        // Who closes the gate from here on waits for the section.
        drop(noted);
        if changed {
            self.overtaken.set(true);
            if !self.holds(section)? {
                return Err(OVERTAKEN);
            }
        }
        result
    }

    /// Whether the copy is still one of the top instance, to a branch on the same side of it.
    fn holds(&self, section: Section<'_>) -> Result<bool> {
        let table = section.table();
        let top = self.inode.stack(section)?.top();
        let (source, target) = (self.source.branch(), self.target);
        let same = top.dentry().is(self.source.dentry()) && Arc::ptr_eq(top.branch(), source);
        let there = table
            .get(target.id)
            .is_some_and(|branch| Arc::ptr_eq(branch, target));
        Ok(same && there && table.is_above(target.id, source.id) == self.upwards)
    }

    /// Gives the instance its name. [`crate::union::state::sb::SbInfo::replace`] is held.
    fn publish(
        &self,
        section: Section<'_>,
        parent: &Dentry,
        staged: &Staged,
        write: &WriteAccess<'_>,
    ) -> Result<Published> {
        let name = self.dentry.name()?;
        let dir = parent
            .object()?
            .slot_on(section, self.target.id)?
            .ok_or(ESTALE)?;
        let at = self.target.at(dir.dentry())?;
        // A rename may have taken its place meanwhile; then the copy gets no name either.
        if self.dentry.is_unhashed() || self.inode.nlink() == 0 {
            return self
                .keep_links(section, staged, write)
                .map(Published::Nameless);
        }
        let before = staged.temp.as_ref().and_then(|temp| temp.times.clone());
        let times =
            || Ok::<_, Error>(DirTimes::of(section, parent.object()?, dir)?.from(before.clone()));
        // What it hides below stays hidden.
        let whiteouted = self.goes_down(section) && whiteout::exists(dir.dentry(), &name)?;
        if whiteouted {
            whiteout::make_opaque(self.target, &staged.dentry, write)?;
        }
        // Its removal is the last change then.
        let outer = if whiteouted { Some(times()?) } else { None };
        let linked = self.keep_links(section, staged, write)?;
        let known = parent.object()?.known_surplus();
        let published = match &staged.temp {
            None => {
                let new = Creating::new(at, &name, write);
                new.and_then(|new| {
                    let times = times()?;
                    new.link_regardless(&staged.dentry, |dir| times.restore_locked(section, dir))
                })
            }
            Some(temp) => {
                let from = self.target.at(&temp.dir)?;
                // The name is absent, or it would be the top instance.
                const NOREPLACE: u32 = 1;
                Renaming::new((from, &temp.name), (at, &name), NOREPLACE, write)
                    // Who may write to the directory that it was made in may have swapped it.
                    .and_then(|renaming| renaming.of(staged.dentry.positive()?))
                    .and_then(|renaming| {
                        let times = times()?;
                        renaming.commit_regardless(|dir| times.restore_locked(section, dir))
                    })
            }
        };
        match published {
            Ok(published) => {
                if whiteouted {
                    // Beside a directory that is opaque it means nothing: a failure does no harm.
                    let removed = durable::in_order(self.target, dir.dentry())
                        .and_then(|()| whiteout::remove(self.target, dir.dentry(), &name, write));
                    if let Err(error) = removed {
                        warn_limited!(
                            "cannot remove the whiteout of {:?}: {:?}\n",
                            kernel::str::BStr::from_bytes(&name),
                            error
                        );
                    }
                }
                if let Some(times) = outer {
                    times.restore(section, dir, write);
                }
                if self.inode.is_dir() {
                    if let Err(error) =
                        parent
                            .object()?
                            .counts_twice(section, self.target.id, known)
                    {
                        pr_debug!("the link count of a directory is too large: {:?}\n", error);
                    }
                }
                // A lower instance of a directory has none: they would outlive those that are
                // shown.
                if !self.goes_down(section) {
                    // Last of all, as an immutable object gets no name.
                    let to = self.target.at(&published)?;
                    let copied = write
                        .to(to)
                        .and_then(|to| attr::copy_flags(self.source.path()?, to));
                    if let Err(error) = copied {
                        warn_limited!("cannot copy the flags of an object: {:?}\n", error);
                    }
                }
                Ok(Published::Named(linked.unwrap_or(published)))
            }
            Err(error) => {
                if let Some(link) = linked {
                    plink::undo(self.sb, self.inode, self.target, &link, write);
                }
                Err(error)
            }
        }
    }

    /// Gives the instance of a file with several names a pseudo-link, and gives that.
    fn keep_links(
        &self,
        section: Section<'_>,
        staged: &Staged,
        write: &WriteAccess<'_>,
    ) -> Result<Option<ARef<LowerDentry>>> {
        let several = !self.inode.is_dir()
            && section.settings().plink
            && self.inode.nlink() > 0
            && (self.source.inode()?.nlink() > 1 || self.dentry.is_root());
        if !several {
            return Ok(None);
        }
        self.sb.data().maintenance.check()?;
        let (inode, copy) = (self.inode, &staged.dentry);
        plink::add(
            section,
            self.sb,
            inode,
            self.source,
            self.target,
            copy,
            write,
        )
    }

    /// Makes the published instance the top slot.
    pub(crate) fn install(
        &self,
        section: Section<'_>,
        published: ARef<LowerDentry>,
        room: object::Room,
        number: Option<Reserved>,
        moves: Option<handle::Room>,
    ) -> Result {
        let info = self.sb.data();
        let lower = info.ino.lower(self.target, &published)?;
        let slot = Slot::new(self.target.clone(), published);
        if let Some(moves) = moves {
            info.moves.copied(section, moves, self.inode, &slot);
        }
        let stack = room.fill(section.table(), slot)?;
        // A lower instance of a directory is never what it is known by.
        if let Some(number) = number.filter(|_| !self.goes_down(section)) {
            info.ino.keep(number, lower, self.inode.ino());
        }
        let kept = self.inode.shown_change_time(section)?;
        // Before others change the copy.
        let copied = watched_time(&stack);
        if self.inode.is_dir() {
            self.inode.counts_beside(section, &stack)?;
        }
        self.inode.publish(section, stack);
        // A copy is no change, but what is made in it is one.
        if let Some(copied) = copied.filter(|_| !self.wanted.is_dated()) {
            self.inode.show_in_place_of(copied, kept);
        }
        watch::watch_or_log(section, self.inode);
        fhsm::tell(section, self.target, Event::Changed);
        fhsm::tell(section, self.source.branch(), Event::Changed);
        self.inode.count_anew();
        self.inode.refresh(section)
    }

    /// Copies everything but the contents.
    fn copy_meta(&self, section: Section<'_>, to: &LowerDentry, write: &WriteAccess<'_>) -> Result {
        let tolerance = meta::Tolerance {
            ignored: if self.goes_down(section) {
                Attrs::ICEX
            } else {
                self.target.access.attrs
            },
            moves: self.moves(section),
            verbose: section.settings().verbose,
        };
        meta::copy(self.source, self.target, to, &tolerance, write)
    }

    /// Makes the change of size that the copy is for.
    fn resize(&self, copy: &LowerDentry, write: &WriteAccess<'_>) -> Result {
        if let Data::Resized(resize) = self.wanted {
            let copied = copy.positive()?;
            let before = copied.watch().then(|| copied.change_time());
            let change = resize.change.clone();
            change.apply(write.to(self.target.at(copy)?)?)?;
            resize.made.set(true);
            resize.dated.set(before != Some(copied.change_time()));
        }
        Ok(())
    }

    /// A directory's flags are shown, and changed, of its top instance. On the one that was it, if
    /// it is still written, they would outlive those. They go when those of `copy` are on disk.
    fn free_source(&self, section: Section<'_>, copy: &LowerDentry) {
        let branch = self.source.branch();
        if !self.inode.is_dir() || self.goes_down(section) || !branch.writable() {
            return;
        }
        let result = || -> Result {
            if !self.source.inode()?.is_protected() {
                return Ok(());
            }
            OnDisk::bring(self.target, copy, &copy.parent())?;
            let write = branch.want_write()?;
            attr::unbind(write.to(self.source.path()?)?)?;
            drop(write);
            Ok(())
        };
        if let Err(error) = result() {
            warn_limited!(
                "branch {}: directory {:?} keeps its flags below its copy: {:?}\n",
                text(&branch.shown.to_bytes().unwrap_or_default()),
                text(&self.dentry.name().unwrap_or_default()),
                error
            );
        }
    }

    /// Whether a file is moved, to above as it is opened (`moo`) or to below
    /// ([`mvdown`](crate::union::user::mvdown::mvdown)).
    fn moves(&self, section: Section<'_>) -> bool {
        let table = section.table();
        let source = self.source.branch();
        !self.inode.is_dir()
            && (table.is_above(source.id, self.target.id)
                || source.access.attrs.on_open() == Some(OnOpen::MoveRegular))
    }

    /// Whether a directory gets an instance below its top one: one that nobody sees.
    fn goes_down(&self, section: Section<'_>) -> bool {
        let table = section.table();
        self.inode.is_dir()
            && table.index_of(self.target.id) > table.index_of(self.source.branch().id)
    }

    /// Removes what was staged.
    pub(crate) fn discard(&self, section: Section<'_>, staged: Staged, write: &WriteAccess<'_>) {
        if let Some(temp) = staged.temp {
            whiteout::purge(self.target, &temp.dir, &staged.dentry, &temp.name, write);
            if let Some((changes, times)) = temp.times {
                let parent = self.dentry.parent();
                let kept = parent
                    .object()
                    .and_then(|parent| Ok((parent, parent.shown_change_time(section)?)));
                match kept {
                    Ok((parent, time)) if parent.changes() == changes => {
                        times.restore(self.target, &temp.dir, write);
                        parent.keep_change_time_of(section, changes, time);
                    }
                    _ => {}
                }
            }
        }
    }
}
