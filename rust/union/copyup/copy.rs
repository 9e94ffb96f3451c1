// SPDX-License-Identifier: GPL-2.0

//! One copy: from staging to publication.

#![forbid(unsafe_code)]

use super::{
    data::{
        self,
        Data, //
    },
    meta, //
};
use crate::compat::{
    barrier::smp_mb,
    errno::{
        EOPNOTSUPP,
        ESTALE, //
    }, //
};
use crate::fs::{
    access::{
        attr,
        dirop::Creating,
        io::KernelFile, //
    },
    base::gate::OVERTAKEN,
    objects::{
        cred::Cred,
        inode::Kind,
        path::WriteAccess, //
    }, //
};
use crate::logic::{
    branch_spec::{
        Attrs,
        OnOpen, //
    },
    name::Name, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        ino::InoTable,
        stack, //
    },
    plink,
    state::places::{
        Act,
        Wanted, //
    },
    types::{
        Dentry,
        Inode,
        LowerDentry,
        Section,
        SuperBlock, //
    }, //
};
use core::cell::Cell;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

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
pub(super) enum Published {
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
    pub(crate) name: Name,
    /// The directory of the branch that it is in.
    pub(crate) dir: ARef<LowerDentry>,
    /// The times that this directory had before, and what counted its changes then, unless it is
    /// that of the orphans.
    pub(super) times: Option<(u64, meta::Times)>,
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
    pub(super) fn run(&self, section: Section<'_>, parent: Option<&Dentry>) -> Result {
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
            stack::Room::beside(self.inode.stack(section)?)?
        } else {
            stack::Room::alone()?
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
        smp_mb();
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
        let wanted = Wanted {
            objects: [Some(self.dentry), None],
            parents: [parent, None],
        };
        let taken = match self.sb.data().places.take(Act::Publish, wanted) {
            Ok(taken) => taken,
            Err(error) => {
                if let Ok(write) = self.target.want_write() {
                    self.discard(section, staged, &write);
                }
                return Err(error);
            }
        };
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
        drop(taken);
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
        let noted = info.running.begin(self.dentry, self.target)?;
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
    #[inline(never)]
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
    #[inline(never)]
    pub(super) fn goes_down(&self, section: Section<'_>) -> bool {
        let table = section.table();
        self.inode.is_dir()
            && table.index_of(self.target.id) > table.index_of(self.source.branch().id)
    }
}
