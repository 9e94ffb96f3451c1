// SPDX-License-Identifier: GPL-2.0

//! rename, with all its flags.
//!
//! Everything happens on one branch: the source is promoted there, both parents
//! have instances there. A directory whose contents lie on other branches, too,
//! cannot move (`EXDEV`), as in aufs; with `dirren` it can ([`super::dirren`]).
//!
//! # Order of steps
//!
//! whiteout of the old name, opaque mark on the source, rename, removal of the new
//! name's whiteout. After an interruption each name shows its old or its new
//! object.

#![forbid(unsafe_code)]

use super::{
    dirren,
    remove, //
};
use crate::compat::errno::{
    ENOTEMPTY,
    ESTALE, //
};
use crate::fs::{
    access::dirop::{
        self,
        Renaming, //
    },
    base::{
        gate::OVERTAKEN,
        trace::{
            self,
            Tracepoint, //
        }, //
    },
    objects::{
        entry::Entry,
        path::{
            IdMap,
            WriteAccess, //
        }, //
    },
    operations::inode::MoveNames, //
};
use crate::logic::options::Diropq;
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        durable,
        orphans,
        stack,
        stats,
        whiteout::{
            self,
            UserName, //
        }, //
    },
    copyup::{
        self,
        promote,
        target::{
            self,
            NewName, //
        }, //
    },
    names::{
        index::{
            self,
            View, //
        },
        lookup,
        readdir,
        watch, //
    },
    plink,
    state::{
        events,
        places::{
            Act,
            Wanted, //
        }, //
    },
    types::{
        text,
        Dentry,
        Inode,
        Section,
        Union, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// `RENAME_NOREPLACE` of renameat2(2).
const NOREPLACE: u32 = 1;
/// `RENAME_EXCHANGE` of renameat2(2).
const EXCHANGE: u32 = 2;
/// `RENAME_WHITEOUT` of renameat2(2): leaves a device node 0:0 in the place of the source, which
/// is a whiteout for overlayfs, and an ordinary object for us and all others.
const WHITEOUT: u32 = 4;
/// The mode of that node.
const DEVICE: u16 = 0o020_000;

/// One end of a rename.
struct End<'a> {
    dir: &'a Inode,
    parent: &'a Dentry,
    dentry: &'a Dentry,
    name: UserName<'a>,
    entry: Entry<'a, Union>,
}

impl<'a> End<'a> {
    fn new((dir, entry): (&'a Inode, Entry<'a, Union>)) -> Result<Self> {
        Ok(End {
            dir,
            parent: entry.parent(),
            dentry: entry.dentry(),
            name: whiteout::check(entry.name())?,
            entry,
        })
    }
}

/// Renames.
///
/// # Errors
///
/// `EINVAL` for flags that are not known, `EXDEV` for a directory with contents on branches that
/// it cannot leave, `ENOTEMPTY`, `EROFS`; what the branches give.
pub(crate) fn rename(
    section: Section<'_>,
    from: (&Inode, Entry<'_, Union>),
    to: (&Inode, Entry<'_, Union>),
    flags: u32,
    names: MoveNames<'_, Union>,
    idmap: IdMap<'_>,
) -> Result {
    let seen = trace::Rename::is_on().then(|| Seen {
        dir: from.0,
        dentry: from.1.dentry(),
        to_dir: to.0,
        begin: names.begun(),
    });
    let result = rename_unseen(section, from, to, flags, names, idmap);
    // One that was overtaken begins anew.
    if let Some(seen) = seen.filter(|_| result != Err(OVERTAKEN)) {
        seen.show(flags, result);
    }
    result
}

/// A rename that somebody watches.
struct Seen<'a> {
    dir: &'a Inode,
    dentry: &'a Dentry,
    to_dir: &'a Inode,
    begin: Instant<Monotonic>,
}

impl Seen<'_> {
    /// Shows how it ended.
    #[cold]
    fn show(&self, flags: u32, result: Result) {
        let nanoseconds = stats::since(self.begin);
        // It has its new name.
        events::show(
            trace::Rename::show,
            self.dentry,
            self.dir.ino(),
            &mut |event| {
                event.moved_to(self.to_dir.ino());
                event.flags(flags);
                event.ended(result, nanoseconds);
            },
        );
    }
}

fn rename_unseen(
    section: Section<'_>,
    from: (&Inode, Entry<'_, Union>),
    to: (&Inode, Entry<'_, Union>),
    flags: u32,
    names: MoveNames<'_, Union>,
    idmap: IdMap<'_>,
) -> Result {
    if flags & !(NOREPLACE | EXCHANGE | WHITEOUT) != 0 {
        return Err(EINVAL);
    }
    let (from, to) = (End::new(from)?, End::new(to)?);
    let same_dir = core::ptr::eq(from.dir, to.dir);
    let exchange = flags & EXCHANGE != 0;
    let info = from.dir.sb().data();
    let object = from.dentry.object()?;
    let victim = to.dentry.inode();

    let branch = common_branch(section, &from, &to, object, victim)?;
    let (parts, victim_parts) = info.cred.scope(|| {
        let parts = parts(section, object, &branch)?;
        let victim_parts = match victim {
            Some(victim) if exchange => self::parts(section, victim, &branch)?,
            Some(victim) if victim.is_dir() => {
                readdir::check_empty(section, victim)?;
                Parts::Left
            }
            _ => Parts::Left,
        };
        Ok::<_, Error>((parts, victim_parts))
    })?;
    bring(section, &from, &branch)?;
    promote::promote_to(section, to.parent, &branch)?;
    promote::promote_shown(section, to.parent)?;
    if !same_dir {
        promote::promote_shown(section, from.parent)?;
    }
    match victim {
        Some(_) if exchange => bring(section, &to, &branch)?,
        // On another branch its name stays, hidden by the new one.
        Some(victim) if victim.stack(section)?.top().branch().id == branch.id => {
            promote::gather(section, to.dentry, victim);
        }
        _ => {}
    }
    let recorded = parts.prepare(section, object, &branch, &to)?;
    let victim_recorded = match victim {
        Some(victim) => victim_parts.prepare(section, victim, &branch, &from)?,
        None => false,
    };

    // What may fail for lack of memory comes before the first change.
    let mut room = room_for(Some(object))?;
    let mut victim_room = room_for(victim)?;
    let lock = object.promotion_lock();
    let moving = object.moving();
    let victim_moving = victim.map(Inode::moving);
    let wanted = Wanted {
        objects: [Some(from.dentry), victim.map(|_| to.dentry)],
        parents: [Some(from.parent), Some(to.parent).filter(|_| !same_dir)],
    };
    let taken = info.places.take(Act::Move, wanted)?;
    plink::part::check(from.dentry)?;
    plink::part::check(to.dentry)?;
    let victim_was = match victim {
        Some(victim) => core::ptr::from_ref(victim.stack(section)?.top_inode()),
        None => core::ptr::null(),
    };
    let noticed = (
        from.dir.notice_others(section)?,
        to.dir.notice_others(section)?,
    );
    let write = branch.want_write()?;
    let old = from.dir.slot_on(section, branch.id)?.ok_or(ESTALE)?;
    let new = to.dir.slot_on(section, branch.id)?.ok_or(ESTALE)?;
    let victim_here = victim
        .map_or(Ok(None), |victim| victim.slot_on(section, branch.id))?
        .is_some();
    let job = Job {
        from: &from,
        to: &to,
        old,
        new,
        branch: &branch,
        write: &write,
        flags,
    };
    let work = || {
        if exchange {
            job.exchange(
                section,
                (object, parts),
                (victim.ok_or(ENOENT)?, victim_parts),
            )?;
            Ok(true)
        } else {
            if let Some(victim) = victim.filter(|_| victim_here) {
                plink::count::goes(section, victim, &write);
                if let Some(instance) = victim
                    .slot_on(section, branch.id)?
                    .filter(|_| !victim.is_dir())
                {
                    remove::let_go(section, victim, &branch, instance.dentry(), 0);
                }
            }
            job.rename(section, (object, parts), victim, &mut victim_room)
        }
    };
    let clean = if flags & WHITEOUT != 0 {
        // The device node that is left belongs to the caller.
        copyup::meta::share_inherited(section, from.dir, old, &write)?;
        info.cred
            .scope_for_creation(from.dir, &from.entry, DEVICE, idmap, work)
    } else {
        info.cred.scope(work)
    }?;
    // The branch has changed: from here on nothing fails. What is known of the names belongs to
    // the branch itself.
    from.dentry.set_guard(None);
    to.dentry.set_guard(None);
    if parts == Parts::Left {
        settle(section, object, &branch, &mut room);
    }
    if let Some(victim) = victim {
        if exchange && victim_parts == Parts::Left {
            settle(section, victim, &branch, &mut victim_room);
        }
    }
    names.commit();
    drop(write);
    drop(taken);
    drop(victim_moving);
    drop(moving);
    drop(lock);
    if let Some(victim) = victim {
        if !exchange {
            let lock = victim.promotion_lock();
            // If it parted since, the name is not one of the copy's, which it is now.
            let same = victim
                .stack(section)
                .is_ok_and(|stack| core::ptr::eq(stack.top_inode(), victim_was));
            if same || !victim.has_parted() {
                remove::name_gone(section, victim, (!victim_here).then_some(&*branch));
            }
            if let (true, Ok(stack)) = (victim_here && victim.is_dir(), victim.stack(section)) {
                branch.renamed.forget(stack.top_inode().ino());
            }
            drop(lock);
        } else if victim_parts == Parts::Kept && !victim_recorded {
            log(dirren::settle(section, victim));
        }
        log(victim.refresh(section));
    }
    // Beside a whiteout only records show the parts.
    if parts == Parts::Kept && !recorded && clean {
        log(dirren::settle(section, object));
    }
    log(object.refresh(section));
    if !exchange && !victim_here && victim.is_some_and(Inode::is_dir) {
        // What it had below is hidden, and counted there.
        log(to.dir.hides_one(section));
    }
    from.dir.changed_on(section, &branch, noticed.0);
    if !same_dir {
        to.dir.changed_on(section, &branch, noticed.1);
    }
    Ok(())
}

/// Memory for what [`settle`] makes of `object`.
fn room_for(object: Option<&Inode>) -> Result<Option<stack::Room>> {
    match object {
        Some(object) if object.is_dir() => stack::Room::alone().map(Some),
        _ => Ok(None),
    }
}

/// A rename that was done is not undone for what comes after it.
fn log(result: Result) {
    if let Err(error) = result {
        warn_limited!("after a rename: {:?}\n", error);
    }
}

/// What becomes of the parts that a directory has on branches below the one where it is renamed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// There are none, or they show nothing: the directory leaves them.
    Left,
    /// They go on being parts of it ([`dirren`]).
    Kept,
}

impl Parts {
    /// Does what it takes that the parts of `object` are found at `end`; whether records were
    /// made.
    fn prepare(
        self,
        section: Section<'_>,
        object: &Inode,
        branch: &Branch,
        end: &End<'_>,
    ) -> Result<bool> {
        match self {
            Parts::Left => Ok(false),
            Parts::Kept => dirren::prepare(section, object, branch, end.dir, end.name),
        }
    }
}

/// What becomes of the parts of `inode`, which is to be renamed on `branch`, on other branches.
///
/// `EXDEV` if they show anything and cannot be kept.
fn parts(section: Section<'_>, inode: &Inode, branch: &Branch) -> Result<Parts> {
    if !inode.is_dir() {
        return Ok(Parts::Left);
    }
    let stack = inode.stack(section)?;
    let skip = usize::from(stack.top().branch().id == branch.id);
    if stack.len() <= skip {
        return Ok(Parts::Left);
    }
    match readdir::check_empty_below(section, inode, skip) {
        Ok(()) => Ok(Parts::Left),
        Err(error) if error != ENOTEMPTY => Err(error),
        Err(_) if section.settings().dirren => Ok(Parts::Kept),
        Err(_) => Err(EXDEV),
    }
}

/// The branch on which it all happens.
fn common_branch(
    section: Section<'_>,
    from: &End<'_>,
    to: &End<'_>,
    object: &Inode,
    victim: Option<&Inode>,
) -> Result<Arc<Branch>> {
    let own = target::above(section, from.parent, object.stack(section)?.top())?;
    let new = NewName {
        dir: to.parent,
        name: to.name,
        victim,
        from: Some(from.parent),
        stays: false,
    };
    target::for_new_name(section, &new, &own)
}

/// Gives the object at `end`, and its directory, an instance on `branch`, under its name.
fn bring(section: Section<'_>, end: &End<'_>, branch: &Arc<Branch>) -> Result {
    let object = end.dentry.object()?;
    promote::promote_to(section, end.dentry, branch)?;
    if object.is_dir() {
        return Ok(());
    }
    // Of several names it may be one that is not there.
    promote::give_name(section, end.dentry, object.stack(section)?.top())
}

/// The renamed object has no instance below the top one any more.
fn settle(
    section: Section<'_>,
    object: &Inode,
    branch: &Arc<Branch>,
    room: &mut Option<stack::Room>,
) {
    let mut publish = || -> Result {
        let stack = object.stack(section)?;
        if object.is_dir() && stack.len() > 1 {
            let slot = Slot::new(branch.clone(), stack.top().dentry().clone());
            let room = room.take().ok_or(ENOMEM)?;
            object.publish(section, room.fill(section.table(), slot)?);
            watch::watch_or_log(section, object);
        }
        Ok(())
    };
    log(publish());
}

/// A rename whose ends are on one branch.
struct Job<'a> {
    from: &'a End<'a>,
    to: &'a End<'a>,
    old: &'a Slot,
    new: &'a Slot,
    branch: &'a Arc<Branch>,
    write: &'a WriteAccess<'a>,
    /// Those of renameat2(2).
    flags: u32,
}

impl Job<'_> {
    /// Whether `name` shows something from below the instance `slot` of `dir`.
    fn shows_below(
        &self,
        section: Section<'_>,
        dir: &Inode,
        slot: &Slot,
        name: UserName<'_>,
    ) -> Result<bool> {
        self.shows_below_in(&View::of(section, dir)?, slot, name)
    }

    /// As [`Job::shows_below`], in a directory of which it is known already what is known.
    fn shows_below_in(&self, dir: &View<'_>, slot: &Slot, name: UserName<'_>) -> Result<bool> {
        let at = dir.stack().position(slot.branch().id).ok_or(ESTALE)?;
        lookup::visible(dir, at.saturating_add(1), name)
    }

    /// `false` if the whiteout of the new name is still there.
    fn rename(
        &self,
        section: Section<'_>,
        (object, parts): (&Inode, Parts),
        victim: Option<&Inode>,
        victim_room: &mut Option<stack::Room>,
    ) -> Result<bool> {
        let branch = self.branch;
        let to = View::of(section, self.to.dir)?;
        let at = to.stack().position(branch.id).ok_or(ESTALE)?;
        let new_whiteout = to.whiteouted(at, self.to.name)?;
        // The device node that is left hides what is below, too.
        let old_below = self.flags & WHITEOUT == 0
            && if core::ptr::eq(self.from.dir, self.to.dir) {
                self.shows_below_in(&to, self.old, self.from.name)?
            } else {
                self.shows_below(section, self.from.dir, self.old, self.from.name)?
            };
        if object.is_dir() && parts == Parts::Left {
            let below = new_whiteout
                || section.settings().diropq == Diropq::Always
                || self.shows_below(section, self.to.dir, self.new, self.to.name)?;
            if below {
                // Nothing of its own shows from below, so this changes nothing if the rest fails.
                self.make_opaque(section, object)?;
            }
        }
        let old_hidden = old_below && !whiteout::exists(self.old.dentry(), self.from.name)?;
        if old_hidden {
            index::hides(self.from.dir);
            whiteout::create(branch, self.old.dentry(), self.from.name, self.write)?;
        }
        let in_order = match old_hidden {
            true => durable::in_order(branch, self.old.dentry()),
            false => Ok(()),
        };
        let moved = in_order.and_then(|()| self.replace(section, object, victim, victim_room));
        if moved.is_err() && old_hidden {
            if let Err(error) =
                whiteout::remove(branch, self.old.dentry(), self.from.name, self.write)
            {
                warn_limited!(
                    "cannot undo the whiteout of {:?}: {:?}\n",
                    kernel::str::BStr::from_bytes(&self.from.name),
                    error
                );
            }
        }
        moved?;
        if new_whiteout {
            // The object shows beside it, and nothing from below does; so a failure does no harm.
            let removed = durable::in_order(branch, self.new.dentry()).and_then(|()| {
                whiteout::remove(branch, self.new.dentry(), self.to.name, self.write)
            });
            if let Err(error) = removed {
                warn_limited!(
                    "cannot remove the whiteout of {:?}: {:?}\n",
                    kernel::str::BStr::from_bytes(&self.to.name),
                    error
                );
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The instance of `object` on the branch.
    fn instance<'a>(&self, section: Section<'a>, object: &'a Inode) -> Result<&'a Slot> {
        Ok(object.slot_on(section, self.branch.id)?.ok_or(ESTALE)?)
    }

    /// Makes a directory opaque; for the user it does not change.
    fn make_opaque(&self, section: Section<'_>, object: &Inode) -> Result {
        let slot = self.instance(section, object)?;
        let times = copyup::meta::DirTimes::of(section, object, slot)?;
        whiteout::make_opaque(self.branch, slot.dentry(), self.write)?;
        times.restore(section, slot, self.write);
        Ok(())
    }

    /// The rename proper.
    fn replace(
        &self,
        section: Section<'_>,
        object: &Inode,
        victim: Option<&Inode>,
        victim_room: &mut Option<stack::Room>,
    ) -> Result {
        let go = || -> Result {
            let renaming = Renaming::new(
                (self.old.path()?, self.from.name.bytes()),
                (self.new.path()?, self.to.name.bytes()),
                self.flags & WHITEOUT,
                self.write,
            )?;
            self.check(section, &renaming, object, victim)?;
            renaming.commit()?;
            Ok(())
        };
        match go() {
            // The directory in the way holds marks; it is empty for the user. XFS says EEXIST.
            Err(error)
                if (error == ENOTEMPTY || error == EEXIST) && victim.is_some_and(Inode::is_dir) =>
            {
                self.without_marks(section, victim.ok_or(ENOENT)?, victim_room, go)
            }
            other => other,
        }
    }

    /// Runs `go` while the directory in the way, `victim`, holds no marks. It stays in its place
    /// until `go` replaces it, so that there is one of the two at any time: its whiteout beside it
    /// hides what the marks did.
    fn without_marks(
        &self,
        section: Section<'_>,
        victim: &Inode,
        room: &mut Option<stack::Room>,
        go: impl FnOnce() -> Result,
    ) -> Result {
        let (branch, dir, name) = (self.branch, self.new.dentry(), self.to.name);
        let hidden = self.shows_below(section, self.to.dir, self.new, name)?
            && !whiteout::exists(dir, name)?;
        if hidden {
            index::hides(self.to.dir);
            whiteout::create(branch, dir, name, self.write)?;
        }
        let slot = self.instance(section, victim)?;
        settle(section, victim, slot.branch(), room);
        let result = orphans::remove_marks(slot.path()?, self.write).and_then(|()| go());
        let undo = || -> Result {
            // A mark for all that are gone.
            if result.is_err() {
                whiteout::make_opaque(branch, slot.dentry(), self.write)?;
            }
            if hidden {
                whiteout::remove(branch, dir, name, self.write)?;
            }
            Ok(())
        };
        if let Err(error) = undo() {
            warn_limited!(
                "branch {}: directory {:?} keeps a whiteout beside it or lacks its opaque mark: {:?}\n",
                text(&branch.shown.to_bytes().unwrap_or_default()),
                text(&name),
                error
            );
        }
        result
    }

    /// `ESTALE` if somebody changed one of the names behind our back.
    fn check(
        &self,
        section: Section<'_>,
        renaming: &Renaming<'_>,
        object: &Inode,
        victim: Option<&Inode>,
    ) -> Result {
        let top = self.instance(section, object)?.inode()?;
        if !dirop::same_inode(renaming.source(), top) {
            return Err(ESTALE.into());
        }
        match (renaming.target().inode(), victim) {
            (None, _) => Ok(()),
            // A name of a file with several, or the top instance of anything.
            (Some(found), Some(victim))
                if core::ptr::eq(found, victim.stack(section)?.top_inode()) =>
            {
                Ok(())
            }
            _ => Err(ESTALE.into()),
        }
    }

    fn exchange(
        &self,
        section: Section<'_>,
        object: (&Inode, Parts),
        other: (&Inode, Parts),
    ) -> Result {
        for ((inode, parts), end, slot) in
            [(object, self.to, self.new), (other, self.from, self.old)]
        {
            if inode.is_dir()
                && parts == Parts::Left
                && self.shows_below(section, end.dir, slot, end.name)?
            {
                self.make_opaque(section, inode)?;
            }
        }
        let renaming = Renaming::new(
            (self.old.path()?, self.from.name.bytes()),
            (self.new.path()?, self.to.name.bytes()),
            EXCHANGE,
            self.write,
        )?;
        self.check(section, &renaming, object.0, Some(other.0))?;
        renaming.commit()?;
        Ok(())
    }
}
