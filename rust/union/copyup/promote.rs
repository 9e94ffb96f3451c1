// SPDX-License-Identifier: GPL-2.0

//! Who wants an instance on which branch: ancestors first, then the object.

#![forbid(unsafe_code)]

use super::{
    copy::CopyUp,
    data::Data,
    meta::DirTimes,
    target, //
};
use crate::compat::errno::ESTALE;
use crate::fs::{
    access::dirop::{
        self,
        Creating, //
    },
    base::gate::OVERTAKEN,
    objects::writes::Copying, //
};
use crate::inform_limited;
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        whiteout, //
    },
    plink,
    types::{
        Dentry,
        Inode,
        LowerInode,
        Section, //
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

/// Makes sure that the object of `dentry` may be written.
///
/// # Errors
///
/// `EROFS` if there is no writable branch above it; `EPERM` for a whiteout, which `shwh` shows;
/// what the branches give. `EINTR` if the task was killed.
pub(crate) fn promote(section: Section<'_>, dentry: &Dentry, wanted: Data<'_>) -> Result {
    if section.settings().shwh {
        // A whiteout is shown, not offered for change.
        whiteout::check(&dentry.name()?)?;
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
        plink::count::count_all(section, inode, &write)?;
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
    if stack.writable() && is_mapped(inode, stack.top_inode()) {
        return Err(EXDEV);
    }
    Ok(copying)
}

/// Whether somebody may store to `lower`, the instance of the file `inode`, through a mapping. The
/// caller has one reference to `inode`.
pub(crate) fn is_mapped(inode: &Inode, lower: &LowerInode) -> bool {
    let own = if inode.is_held() { 2 } else { 1 };
    let beyond = inode.data().writes.may_be_mapped_beyond() && inode.references() > own;
    // Our inode first: see [`crate::fs::callbacks::map`].
    inode.is_mapped_writably() || lower.is_mapped_writably() || beyond
}

/// The name `dentry` of `inode` is about to be removed: if the object was copied up, the name gets
/// to the branch of the copy first, so that its removal is one of a link there
/// ([`goes`](crate::union::plink::count::goes)).
///
/// Not more than a help: without it the count is noted afterwards, not safe from a crash.
pub(crate) fn gather(section: Section<'_>, dentry: &Dentry, inode: &Inode) {
    if !inode.is_plinked() {
        return;
    }
    let result = inode
        .stack(section)
        .and_then(|stack| give_name(section, dentry, stack.top()));
    if let Err(error) = result {
        pr_debug!("a name was not brought to its copy: {:?}\n", error);
    }
}
