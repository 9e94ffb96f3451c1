// SPDX-License-Identifier: GPL-2.0

//! What a branch wants done when one of its objects is opened (`coo_reg`,
//! `coo_all`, `moo`): the object is copied to the nearest writable branch above,
//! and with `moo` the original is removed.
//!
//! It is a service to the reader: where there is no such branch, or the copy
//! fails, the object is opened where it is. The original goes when the copy is on disk
//! ([`OnDisk`]), so the reader waits for that.
//!
//! # Locking
//!
//! The `i_rwsem` of our inode is held, so nobody changes the original meanwhile, or
//! opens it for writing; if somebody has already it stays.

#![forbid(unsafe_code)]

use super::{
    meta::DirTimes,
    promote,
    target, //
};
use crate::compat::errno::ESTALE;
use crate::fs::{
    access::dirop::{
        self,
        LockedDir,
        Removing, //
    },
    base::gate::OVERTAKEN,
    objects::{
        file::File,
        inode::Kind, //
    }, //
};
use crate::logic::branch_spec::OnOpen;
use crate::union::{
    branches::{
        branch::Slot,
        durable::OnDisk,
        ino::InoTable,
        whiteout, //
    },
    types::{
        Dentry,
        Inode,
        LowerDentry,
        Section,
        Union, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// What `file`, which is about to be opened, wants done first, if anything. Who writes to its
/// instance, or may store to it, keeps it there.
fn wanted(section: Section<'_>, file: &File<Union>) -> Result<Option<OnOpen>> {
    let (dentry, inode) = (file.dentry(), file.inode());
    let source = inode.stack(section)?.top();
    let Some(how) = source.branch().access.attrs.on_open() else {
        return Ok(None);
    };
    let fhsm = dentry.sb().data().fhsm.get();
    if fhsm.is_some_and(|fhsm| fhsm.is_daemon()) {
        // It moves files itself.
        return Ok(None);
    }
    // Who may only read changes no branch.
    if file.is_read_only() {
        return Ok(None);
    }
    // What has no name is not looked for again.
    if (inode.is_dir() && how != OnOpen::CopyAll) || dentry.is_root() || dentry.is_unhashed() {
        return Ok(None);
    }
    if section.settings().shwh && whiteout::user(&dentry.name()?).is_none() {
        return Ok(None);
    }
    let stored = inode.data().writes.may_be_mapped_beyond();
    let writers = || Ok::<_, Error>(stored || source.inode()?.is_open_for_write());
    if source.branch().writable() && !inode.is_dir() && writers()? {
        return Ok(None);
    }
    Ok(Some(how))
}

/// Whether an object that is about to be opened must be locked for [`prepare`].
pub(crate) fn is_wanted(section: Section<'_>, file: &File<Union>) -> Result<bool> {
    Ok(wanted(section, file)?.is_some())
}

/// An object is about to be opened. Its `i_rwsem` is held.
///
/// # Errors
///
/// `EINTR` if the task was killed.
pub(crate) fn prepare(section: Section<'_>, file: &File<Union>) -> Result {
    let (dentry, inode) = (file.dentry(), file.inode());
    let Some(how) = wanted(section, file)? else {
        return Ok(());
    };
    let source = inode.stack(section)?.top();
    let result = target::nearest_above(section, &dentry.parent(), source)
        .and_then(|branch| promote::promote_to(section, dentry, &branch));
    match result {
        Ok(()) => {}
        Err(error) if error == OVERTAKEN => {
            // With the copy on top, nobody would move it any more.
            if how == OnOpen::MoveRegular {
                finish(section, dentry, inode, source);
            }
            return Err(error);
        }
        Err(error) if error == EINTR => return Err(error),
        // It is logged with `verbose`.
        Err(_) => return Ok(()),
    }
    if how == OnOpen::MoveRegular {
        finish(section, dentry, inode, source);
    }
    Ok(())
}

/// Ends the move of a file, whose instance was `source`, if it was copied.
fn finish(section: Section<'_>, dentry: &Dentry, inode: &Inode, source: &Slot) {
    let finish = || -> Result {
        // A remount since then may have changed what is allowed on the branch.
        let table = section.table();
        let branch = table
            .get(source.branch().id)
            .filter(|branch| branch.writable());
        let copied = !core::ptr::eq(inode.stack(section)?.top_inode(), source.inode()?);
        match branch {
            Some(branch) if copied => {
                let left = Slot::new(branch.clone(), source.dentry().clone());
                remove(section, dentry, inode, &left)
            }
            _ => Ok(()),
        }
    };
    if let Err(error) = finish() {
        warn_limited!(
            "cannot remove the original of a file that was moved up: {:?}\n",
            error
        );
    }
}

/// Removes the original `source` of a file that was copied up.
fn remove(section: Section<'_>, dentry: &Dentry, inode: &Inode, source: &Slot) -> Result {
    let info = dentry.sb().data();
    let branch = source.branch();
    let number = InoTable::reserve()?;
    let retired = info.ino.lower(branch, source.dentry())?;
    // The name does not change as long as it is held.
    let lock = inode.promotion_lock();
    if dentry.is_unhashed() {
        return Ok(());
    }
    let name = dentry.name()?;
    let parent: ARef<Dentry> = dentry.parent();
    let Some(dir) = parent.object()?.slot_on(section, branch.id)? else {
        return Ok(());
    };
    let original: ARef<LowerDentry> = source.dentry().clone();
    let lower = original.inode().ok_or(ESTALE)?;
    let copy = inode.stack(section)?.top();
    let home = parent
        .object()?
        .slot_on(section, copy.branch().id)?
        .ok_or(ESTALE)?;
    let on_disk = info
        .cred
        .scope(|| OnDisk::bring(copy.branch(), copy.dentry(), home.dentry()))?;
    let write = branch.want_write()?;
    info.cred.scope(|| {
        let removing = match Removing::new(dir.path()?, &name, &write) {
            // Somebody else who opened it was first.
            Err(error) if error == ENOENT => return Ok(()),
            other => other?,
        };
        // Of several names it may be known by another one.
        if !dirop::same_inode(removing.child(), lower) || lower.kind() != Kind::Regular {
            return Ok(());
        }
        let times = DirTimes::of(section, parent.object()?, dir)?;
        unlink(removing, on_disk, |dir| times.restore_locked(section, dir))?;
        Ok::<(), Error>(())
    })?;
    if lower.nlink() == 0 {
        info.ino.retire(number, retired);
    }
    drop(write);
    drop(lock);
    Ok(())
}

/// Removes an original, of which the copy is on disk.
fn unlink(original: Removing<'_>, _copy: OnDisk, then: impl FnOnce(&LockedDir<'_>)) -> Result {
    original.unlink_then(then)
}
