// SPDX-License-Identifier: GPL-2.0

//! The second half of a copy: it gets its name and becomes the top instance.

#![forbid(unsafe_code)]

use super::{
    copy::{
        CopyUp,
        Published,
        Staged, //
    },
    meta::DirTimes, //
};
use crate::compat::errno::ESTALE;
use crate::fs::{
    access::{
        attr,
        dirop::{
            Creating,
            Renaming, //
        }, //
    },
    objects::path::WriteAccess, //
};
use crate::union::{
    branches::{
        branch::Slot,
        durable::{
            self,
            OnDisk, //
        },
        ino::Reserved,
        orphans,
        stack,
        whiteout, //
    },
    names::watch,
    objects::shown::watched_time,
    plink,
    state::{
        daemon,
        fhsm::Event,
        moves, //
    },
    types::{
        text,
        Dentry,
        LowerDentry,
        Section, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

impl CopyUp<'_> {
    /// Gives the instance its name. The place of the object is taken
    /// ([`Places`](crate::union::state::places::Places)).
    pub(super) fn publish(
        &self,
        section: Section<'_>,
        parent: &Dentry,
        staged: &Staged,
        write: &WriteAccess<'_>,
    ) -> Result<Published> {
        let name = self.dentry.name()?;
        let name = whiteout::check(&name)?;
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
        let whiteouted = self.goes_down(section) && whiteout::exists(dir.dentry(), name)?;
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
                        .and_then(|()| whiteout::remove(self.target, dir.dentry(), name, write));
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
                    plink::link::undo(self.sb, self.inode, self.target, &link, write);
                }
                Err(error)
            }
        }
    }

    /// Gives the instance of a file with several names a pseudo-link, and gives that.
    pub(super) fn keep_links(
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
        plink::link::add(
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
        room: stack::Room,
        number: Option<Reserved>,
        moves: Option<moves::Room>,
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
        daemon::tell(section, self.target, Event::Changed);
        daemon::tell(section, self.source.branch(), Event::Changed);
        self.inode.count_anew();
        self.inode.refresh(section)
    }

    /// A directory's flags are shown, and changed, of its top instance. On the one that was it, if
    /// it is still written, they would outlive those. They go when those of `copy` are on disk.
    pub(super) fn free_source(&self, section: Section<'_>, copy: &LowerDentry) {
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

    /// Removes what was staged.
    pub(crate) fn discard(&self, section: Section<'_>, staged: Staged, write: &WriteAccess<'_>) {
        if let Some(temp) = staged.temp {
            orphans::purge(self.target, &temp.dir, &staged.dentry, &temp.name, write);
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
