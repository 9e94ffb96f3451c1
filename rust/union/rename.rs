// SPDX-License-Identifier: GPL-2.0

//! rename, with all its flags.
//!
//! Everything happens on one branch: the source is promoted there, both parents
//! have instances there. A directory whose contents lie on other branches, too,
//! cannot move (`EXDEV`), as in aufs.
//!
//! # Order of steps
//!
//! whiteout of the old name, opaque mark on the source, rename, removal of the new
//! name's whiteout. After an interruption each name shows its old or its new
//! object.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        Slot, //
    },
    copyup,
    inode,
    lookup,
    notify,
    plink,
    readdir,
    remove,
    target,
    whiteout,
    Dentry,
    Inode,
    Union, //
};
use crate::fs::{
    dirop::{
        self,
        Renaming, //
    },
    inode_ops::{
        Entry,
        MoveNames, //
    },
    path::WriteAccess, //
};
use crate::logic::{
    options::Diropq,
    whname, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// `RENAME_NOREPLACE` of renameat2(2).
const NOREPLACE: u32 = 1;
/// `RENAME_EXCHANGE` of renameat2(2).
const EXCHANGE: u32 = 2;

/// One end of a rename.
struct End<'a> {
    dir: &'a Inode,
    dentry: &'a Dentry,
    name: &'a [u8],
}

impl<'a> End<'a> {
    fn new((dir, entry): (&'a Inode, Entry<'a, Union>)) -> Self {
        End {
            dir,
            dentry: entry.dentry,
            name: entry.name,
        }
    }
}

/// Renames.
///
/// # Errors
///
/// `EINVAL` for flags that are not known, `EXDEV` for a directory with contents on branches that
/// it cannot leave, `ENOTEMPTY`, `EROFS`; what the branches give.
pub(crate) fn rename(
    from: (&Inode, Entry<'_, Union>),
    to: (&Inode, Entry<'_, Union>),
    flags: u32,
    names: MoveNames<'_, Union>,
) -> Result {
    if flags & !(NOREPLACE | EXCHANGE) != 0 {
        return Err(EINVAL);
    }
    whname::check(to.1.name)?;
    let (from, to) = (End::new(from), End::new(to));
    let exchange = flags & EXCHANGE != 0;
    let info = from.dir.sb().data();
    let object = from.dentry.object()?;
    let victim = to.dentry.inode();

    let branch = common_branch(&from, &to, object, victim)?;
    info.cred.scope(|| {
        movable(object, &branch)?;
        match victim {
            Some(victim) if exchange => movable(victim, &branch),
            Some(victim) if victim.is_dir() => readdir::check_empty(victim),
            _ => Ok(()),
        }
    })?;
    bring(&from, &branch)?;
    copyup::promote_to(&to.dentry.parent(), &branch)?;
    match victim {
        Some(_) if exchange => bring(&to, &branch)?,
        Some(victim) => plink::gather(to.dentry, victim),
        None => {}
    }

    // What may fail for lack of memory comes before the first change.
    let mut room = Some(inode::Room::alone()?);
    let mut victim_room = Some(inode::Room::alone()?);
    let lock = object.promotion_lock();
    let moving = object.moving();
    let victim_moving = victim.map(Inode::moving);
    let replace = info.replace.lock();
    let write = branch.want_write()?;
    let old = from.dir.slot_on(branch.id)?.ok_or(ESTALE)?;
    let new = to.dir.slot_on(branch.id)?.ok_or(ESTALE)?;
    let victim_here = victim
        .map_or(Ok(None), |victim| victim.slot_on(branch.id))?
        .is_some();
    let job = Job {
        from: &from,
        to: &to,
        old,
        new,
        branch: &branch,
        write: &write,
    };
    info.cred.scope(|| {
        if exchange {
            job.exchange(object, victim.ok_or(ENOENT)?)
        } else {
            if let Some(victim) = victim {
                plink::goes(victim);
            }
            job.rename(object, victim)
        }
    })?;
    // The branch has changed: from here on nothing fails. What is known of the names belongs to
    // the branch itself.
    from.dentry.set_guard(None);
    to.dentry.set_guard(None);
    settle(object, &branch, &mut room);
    if let Some(victim) = victim {
        if exchange {
            settle(victim, &branch, &mut victim_room);
        }
    }
    names.commit();
    drop(write);
    drop(replace);
    drop(victim_moving);
    drop(moving);
    drop(lock);
    if let Some(victim) = victim {
        if !exchange {
            let lock = victim.promotion_lock();
            remove::name_gone(victim, (!victim_here).then_some(&*branch));
            drop(lock);
        }
        log(victim.refresh());
    }
    log(object.refresh());
    for dir in [from.dir, to.dir] {
        log(dir.changed_on(&branch));
    }
    Ok(())
}

/// A rename that was done is not undone for what comes after it.
fn log(result: Result) {
    if let Err(error) = result {
        pr_warn!("after a rename: {:?}\n", error);
    }
}

/// `EXDEV` if `inode` is a directory that shows anything from other branches than `branch`, on
/// which it is to be renamed: only its instance there moves.
fn movable(inode: &Inode, branch: &Branch) -> Result {
    if !inode.is_dir() {
        return Ok(());
    }
    let stack = inode.stack()?;
    let skip = usize::from(stack.top().branch().id == branch.id);
    if stack.len() <= skip {
        return Ok(());
    }
    match readdir::check_empty_below(inode, skip) {
        Err(error) if error == ENOTEMPTY => Err(EXDEV),
        other => other,
    }
}

/// The branch on which it all happens.
fn common_branch(
    from: &End<'_>,
    to: &End<'_>,
    object: &Inode,
    victim: Option<&Inode>,
) -> Result<Arc<Branch>> {
    let own = target::above(&from.dentry.parent(), object.stack()?.top())?;
    target::not_hidden(to.dir, to.name, victim, &own)
}

/// Gives the object at `end`, and its directory, an instance on `branch`, under its name.
fn bring(end: &End<'_>, branch: &Arc<Branch>) -> Result {
    let object = end.dentry.object()?;
    copyup::promote_to(end.dentry, branch)?;
    if object.is_dir() {
        return Ok(());
    }
    // Of several names it may be one that is not there.
    copyup::give_name(end.dentry, object.stack()?.top())
}

/// The renamed object has no instance below the top one any more.
fn settle(object: &Inode, branch: &Arc<Branch>, room: &mut Option<inode::Room>) {
    let mut publish = || -> Result {
        let stack = object.stack()?;
        if object.is_dir() && stack.len() > 1 {
            let slot = Slot::new(branch.clone(), stack.top().dentry().clone());
            let room = room.take().ok_or(ENOMEM)?;
            object.publish(room.fill(object.sb().data().table(), slot)?);
            notify::watch_or_log(object);
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
    branch: &'a Branch,
    write: &'a WriteAccess<'a>,
}

impl Job<'_> {
    /// Whether `name` shows something from below the instance `slot` of `dir`.
    fn shows_below(&self, dir: &Inode, slot: &Slot, name: &[u8]) -> Result<bool> {
        let stack = dir.stack()?;
        let at = stack
            .iter()
            .position(|other| other.branch().id == slot.branch().id)
            .ok_or(ESTALE)?;
        lookup::visible(stack, at.saturating_add(1), name)
    }

    fn rename(&self, object: &Inode, victim: Option<&Inode>) -> Result {
        let info = self.from.dir.sb().data();
        let branch = self.branch;
        // Where nothing lies below, a whiteout hides nothing, and beside an entry it has no effect.
        let new_whiteout =
            self.to.dir.stack()?.len() > 1 && whiteout::exists(self.new.dentry(), self.to.name)?;
        let old_below = self.shows_below(self.from.dir, self.old, self.from.name)?;
        if object.is_dir() {
            let below = new_whiteout
                || info.settings().diropq == Diropq::Always
                || self.shows_below(self.to.dir, self.new, self.to.name)?;
            if below {
                // Nothing of its own shows from below, so this changes nothing if the rest fails.
                self.make_opaque(object)?;
            }
        }
        let old_hidden = old_below && !whiteout::exists(self.old.dentry(), self.from.name)?;
        if old_hidden {
            whiteout::create(branch, self.old.dentry(), self.from.name, self.write)?;
        }
        let moved = self.replace(object, victim);
        if moved.is_err() && old_hidden {
            if let Err(error) =
                whiteout::remove(branch, self.old.dentry(), self.from.name, self.write)
            {
                pr_warn!(
                    "cannot undo the whiteout of {:?}: {:?}\n",
                    kernel::str::BStr::from_bytes(self.from.name),
                    error
                );
            }
        }
        moved?;
        if new_whiteout {
            // The object shows beside it, and nothing from below does; so a failure does no harm.
            if let Err(error) =
                whiteout::remove(branch, self.new.dentry(), self.to.name, self.write)
            {
                pr_warn!(
                    "cannot remove the whiteout of {:?}: {:?}\n",
                    kernel::str::BStr::from_bytes(self.to.name),
                    error
                );
            }
        }
        Ok(())
    }

    /// The instance of `object` on the branch.
    fn instance<'a>(&self, object: &'a Inode) -> Result<&'a Slot> {
        object.slot_on(self.branch.id)?.ok_or(ESTALE)
    }

    /// Makes a directory opaque; for the user it does not change.
    fn make_opaque(&self, object: &Inode) -> Result {
        let slot = self.instance(object)?;
        let times = copyup::DirTimes::of(slot)?;
        whiteout::make_opaque(self.branch, slot.dentry(), self.write)?;
        times.restore(slot, self.write);
        Ok(())
    }

    /// The rename proper.
    fn replace(&self, object: &Inode, victim: Option<&Inode>) -> Result {
        let go = || -> Result {
            let renaming = Renaming::new(
                (self.old.path(), self.from.name),
                (self.new.path(), self.to.name),
                0,
                self.write,
            )?;
            self.check(&renaming, object, victim)?;
            renaming.commit()?;
            Ok(())
        };
        match go() {
            // The directory in the way holds marks; it is empty for the user. XFS says EEXIST.
            Err(error)
                if (error == ENOTEMPTY || error == EEXIST) && victim.is_some_and(Inode::is_dir) =>
            {
                let info = self.from.dir.sb().data();
                whiteout::remove_dir(
                    info,
                    self.branch,
                    self.new.dentry(),
                    self.to.name,
                    self.write,
                )?;
                go()
            }
            other => other,
        }
    }

    /// `ESTALE` if somebody changed one of the names behind our back.
    fn check(&self, renaming: &Renaming<'_>, object: &Inode, victim: Option<&Inode>) -> Result {
        let top = self.instance(object)?.inode()?;
        if !dirop::same_inode(renaming.source(), top) {
            return Err(ESTALE);
        }
        match (renaming.target().inode(), victim) {
            (None, _) => Ok(()),
            // A name of a file with several, or the top instance of anything.
            (Some(found), Some(victim)) if core::ptr::eq(found, victim.stack()?.top_inode()) => {
                Ok(())
            }
            _ => Err(ESTALE),
        }
    }

    fn exchange(&self, object: &Inode, other: &Inode) -> Result {
        for (inode, end, slot) in [(object, self.to, self.new), (other, self.from, self.old)] {
            if inode.is_dir() && self.shows_below(end.dir, slot, end.name)? {
                self.make_opaque(inode)?;
            }
        }
        let renaming = Renaming::new(
            (self.old.path(), self.from.name),
            (self.new.path(), self.to.name),
            EXCHANGE,
            self.write,
        )?;
        self.check(&renaming, object, Some(other))?;
        renaming.commit()?;
        Ok(())
    }
}
