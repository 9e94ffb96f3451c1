// SPDX-License-Identifier: GPL-2.0

//! Renamed directories (`dirren`): a directory moves on one branch only, and what it holds on the
//! branches below stays where it is.
//!
//! A *record* inside the moved directory says, for each branch below that has a part of it, what
//! it is called there ([`crate::logic::dirren`]). Look-up of the new name takes the parts from
//! the records, and only from them. The branch's *list* names the directories that have records,
//! so that no other one is asked for them.
//!
//! aufs stores name and number, which is enough as long as the directory stays in its parent. If
//! it leaves, the record has an extended attribute, [`PARENT`], with the path of the old parent
//! on that branch. aufs, which cannot move a directory so, does not look at it.
//!
//! # Order of steps
//!
//! Records, list, rename; each is on disk before the next. Records that go: list, then records.
//! So a directory that is in the list has all of its records, or none: then its number was used
//! before by another one, and it is like any other. Entries of directories that are gone stay in
//! the list until unmount. A record is never changed but for the path that is added to it, which
//! holds for the old place of the directory, too. So an interruption at any point is harmless.
//!
//! # Locking
//!
//! The list of a branch is under a leaf lock. Records are written while our two parent
//! directories are locked by the VFS.

#![forbid(unsafe_code)]

use crate::compat::errno::{
    EDQUOT,
    ESTALE, //
};
use crate::fs::{
    access::{
        attr::Change,
        dirop::{
            self,
            Creating,
            Removing, //
        },
        io::{
            self,
            KernelFile, //
        },
        xattr, //
    },
    base::once::load_acquire,
    objects::cred::Cred, //
};
use crate::logic::dirren::{
    self as stored,
    Record, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot,
            Stack, //
        },
        durable::{
            self,
            OnDisk, //
        },
        renamed::{
            LIST_MAX,
            MODE,
            PARENT,
            PATH_MAX, //
        },
        whiteout::UserName, //
    },
    copyup::meta::DirTimes,
    names::{
        index::View,
        lookup::{
            self,
            Depth, //
        },
        records, //
    },
    types::{
        text,
        Inode,
        LowerDentry,
        Section, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    rbtree::RBTreeNode,
    sync::{
        aref::ARef,
        atomic::Release, //
    }, //
};

/// The path of `dir` from `root`, beginning with a slash. `EXDEV` if it is too long to be noted.
fn path_of(root: &LowerDentry, dir: &ARef<LowerDentry>) -> Result<KVec<u8>> {
    let mut names: KVec<KVec<u8>> = KVec::new();
    let mut next = dir.clone();
    while !next.is(root) {
        if next.is_root() {
            return Err(ESTALE.into());
        }
        names.push(next.name()?, GFP_KERNEL)?;
        next = next.parent();
    }
    let mut path = KVec::new();
    for name in names.iter().rev() {
        path.push(b'/', GFP_KERNEL)?;
        path.extend_from_slice(name, GFP_KERNEL)?;
    }
    if path.is_empty() {
        path.push(b'/', GFP_KERNEL)?;
    }
    if path.len() > PATH_MAX {
        return Err(EXDEV);
    }
    Ok(path)
}

/// Sees that the directory `object`, whose top instance is on `branch`, keeps its parts on the
/// branches below when it becomes `name` in `dir`. Afterwards it can be renamed.
///
/// `false` if a look-up finds these parts without records.
///
/// # Errors
///
/// `EXDEV` if this cannot be recorded.
pub(crate) fn prepare(
    section: Section<'_>,
    object: &Inode,
    branch: &Branch,
    dir: &Inode,
    name: UserName<'_>,
) -> Result<bool> {
    let info = object.sb().data();
    let stack = object.stack(section)?;
    let parent = dir.stack(section)?;
    let top = stack.top();
    if top.branch().id != branch.id {
        return Err(ESTALE.into());
    }
    info.cred.scope(|| {
        let at = parent
            .iter()
            .position(|slot| slot.branch().id == branch.id)
            .ok_or(ESTALE)?;
        let view = View::plain(info, section.shape(), parent);
        let found = lookup::probe(&view, at.saturating_add(1), name.into(), Depth::All)?.slots;
        let same = found.len() == stack.rest().len()
            && found
                .iter()
                .zip(stack.rest())
                .all(|(found, part)| found.dentry().is(&**part.dentry()));
        if same {
            return Ok(false);
        }
        let ino = top.inode()?.ino();
        let root = Slot::new(top.branch().clone(), branch.root.dentry().clone());
        let times = (
            DirTimes::of(section, object, top)?,
            DirTimes::of_slot(&root)?,
        );
        let mut all = true;
        for part in stack.rest() {
            let name = &part.branch().renamed.record_name;
            all = all && dirop::lookup_positive(top.dentry().dir()?, name)?.is_some();
        }
        if !all || !branch.renamed.has(ino) {
            // What it has of records is of no use.
            unlist(&info.cred, branch, ino)?;
            remove_records(section, top)?;
        }
        for part in stack.rest() {
            record(&info.cred, top, part, parent)?;
        }
        list(&info.cred, branch, ino)?;
        // Nothing has changed yet for who uses the union.
        let write = branch.want_write()?;
        times.0.restore(section, top, &write);
        times.1.restore(section, &root, &write);
        drop(write);
        Ok(true)
    })
}

/// Records in the directory `dir`, about to be an entry of `parent`, where its part `part` is.
fn record(cred: &Cred, dir: &Slot, part: &Slot, parent: &Stack) -> Result {
    let branch = dir.branch();
    let other = part.branch();
    let home = part.dentry().parent();
    let stays = parent
        .on(other.id)
        .is_some_and(|slot| slot.dentry().is(&*home));
    let path = if stays {
        None
    } else if other.access.may_write() {
        // A path there may change.
        return Err(EXDEV);
    } else {
        Some(path_of(other.root.dentry(), &home)?)
    };
    let name = part.dentry().name()?;
    let bytes = Record {
        ino: part.inode()?.ino(),
        name: &name,
    }
    .encode()?;
    let record_name = &other.renamed.record_name;
    let known = records::stored_record(&branch.root, dir.dentry(), &other.renamed)?;
    let file = match &known {
        Some(known) if *known.record == *bytes => {
            dirop::lookup_positive(dir.dentry().dir()?, record_name)?.ok_or(ESTALE)?
        }
        _ => {
            remove(branch, dir.dentry(), record_name)?;
            store(cred, branch, dir.dentry(), record_name, &bytes)?
        }
    };
    let Some(path) = path else {
        return Ok(());
    };
    if known.and_then(|known| known.parent).as_deref() == Some(&*path) {
        return Ok(());
    }
    let write = branch.want_write()?;
    let noted = xattr::set(write.to(branch.at(&file)?)?, PARENT, &path, 0);
    drop(write);
    match noted {
        Ok(()) => KernelFile::read(branch.at(&file)?)?.sync(),
        Err(error) if error == ENOSPC || error == EDQUOT || error == ENOMEM => Err(error),
        // There is no such attribute, or none of this size.
        Err(_) => Err(EXDEV),
    }
}

/// Makes the file `name` with the contents `bytes` in `dir`, and brings it to disk.
fn store(
    cred: &Cred,
    branch: &Branch,
    dir: &LowerDentry,
    name: &[u8],
    bytes: &[u8],
) -> Result<ARef<LowerDentry>> {
    let write = branch.want_write()?;
    let made = Creating::new(branch.at(dir)?, name, &write)?.create(MODE)?;
    drop(write);
    append(cred, branch, &made, bytes)?;
    Ok(made)
}

/// Adds `bytes` to a file, and brings it to disk.
fn append(cred: &Cred, branch: &Branch, file: &LowerDentry, bytes: &[u8]) -> Result {
    let size = file.positive()?.size();
    let put = || {
        let file = KernelFile::write(branch.at(file)?)?;
        file.write_at(bytes, size)?;
        file.sync()
    };
    let end = size.saturating_add(i64::try_from(bytes.len())?);
    if io::over_size_limit(end) {
        // It is not the caller's file that grows.
        return io::on_worker(|| cred.scope(put)).unwrap_or(Err(EIO));
    }
    put()
}

/// Removes the file `name` from `dir`. `false` if there is none.
fn remove(branch: &Branch, dir: &LowerDentry, name: &[u8]) -> Result<bool> {
    if dirop::lookup_positive(dir.dir()?, name)?.is_none() {
        return Ok(false);
    }
    let write = branch.want_write()?;
    match Removing::new(branch.at(dir)?, name, &write).and_then(Removing::unlink) {
        Err(error) if error == ENOENT => Ok(false),
        other => other.map(|()| true),
    }
}

/// Puts the number `ino` into the list of `branch`.
fn list(cred: &Cred, branch: &Branch, ino: u64) -> Result {
    let renamed = &branch.renamed;
    if renamed.has(ino) {
        return Ok(());
    }
    let node = RBTreeNode::new(ino, (), GFP_KERNEL_ACCOUNT)?;
    let root = branch.root.dentry();
    let bytes = ino.to_be_bytes();
    let has_room = |list: &LowerDentry| -> Result<bool> {
        Ok(list.positive()?.size() <= i64::try_from(LIST_MAX - stored::NUMBER)?)
    };
    match dirop::lookup_positive(root.dir()?, stored::LIST)? {
        Some(list) if has_room(&list)? => append(cred, branch, &list, &bytes)?,
        // Too many that are not forgotten.
        Some(_) => return Err(EXDEV),
        None => {
            store(cred, branch, root, stored::LIST, &bytes)?;
        }
    }
    let old = renamed.numbers.lock().set.insert(node);
    drop(old);
    renamed.used.store(true, Release);
    Ok(())
}

/// The directory `object` was renamed to where look-up finds its parts without records: removes
/// those it had.
pub(crate) fn settle(section: Section<'_>, object: &Inode) -> Result {
    let top = object.stack(section)?.top();
    let branch = top.branch();
    let ino = top.inode()?.ino();
    if !branch.renamed.has(ino) {
        return Ok(());
    }
    let info = object.sb().data();
    info.cred.scope(|| {
        // The list is synced by itself. It must not get ahead of the rename.
        OnDisk::bring(branch, top.dentry(), &top.dentry().parent())?;
        unlist(&info.cred, branch, ino)?;
        let times = DirTimes::of(section, object, top)?;
        remove_records(section, top)?;
        let write = branch.want_write()?;
        times.restore(section, top, &write);
        drop(write);
        Ok(())
    })
}

/// Removes all records from `dir`; on disk, too, so that new ones are never among them.
fn remove_records(section: Section<'_>, dir: &Slot) -> Result {
    let mut any = false;
    for other in section.table().order.iter() {
        any |= remove(dir.branch(), dir.dentry(), &other.renamed.record_name)?;
    }
    match any {
        true => durable::sync_dir(dir.path()?),
        false => Ok(()),
    }
}

/// Takes the number `ino` out of the list of `branch`, on disk, too.
fn unlist(cred: &Cred, branch: &Branch, ino: u64) -> Result {
    if !branch.renamed.has(ino) {
        return Ok(());
    }
    let node = RBTreeNode::new(ino, (), GFP_KERNEL_ACCOUNT)?;
    branch.renamed.forget(ino);
    flush(cred, branch).inspect_err(|_| {
        let mut numbers = branch.renamed.numbers.lock();
        numbers.set.insert(node);
        numbers.stale = true;
    })
}

/// Brings the list of `branch` to disk without the directories that are gone.
fn flush(cred: &Cred, branch: &Branch) -> Result {
    if !branch.writable() {
        return Ok(());
    }
    let bytes = {
        let mut numbers = branch.renamed.numbers.lock();
        if !numbers.stale {
            return Ok(());
        }
        numbers.stale = false;
        stored::list(numbers.set.keys().copied())?
    };
    let root = branch.root.dentry();
    cred.scope(|| {
        if bytes.is_empty() {
            return remove(branch, root, stored::LIST).map(drop);
        }
        let Some(list) = dirop::lookup_positive(root.dir()?, stored::LIST)? else {
            return store(cred, branch, root, stored::LIST, &bytes).map(drop);
        };
        // It has more than these: at each moment none is missing.
        let file = KernelFile::write(branch.at(&list)?)?;
        file.write_at(&bytes, 0)?;
        let write = branch.want_write()?;
        Change::new()
            .size(i64::try_from(bytes.len())?)
            .apply(write.to(branch.at(&list)?)?)?;
        drop(write);
        file.sync()
    })
}

/// Whether the list of `branch` names directories that are gone.
pub(crate) fn is_stale(branch: &Branch) -> bool {
    load_acquire(&branch.renamed.used) && branch.renamed.numbers.lock().stale
}

/// [`flush`], which nobody waits for.
pub(crate) fn flush_logged(cred: &Cred, branch: &Branch) {
    if let Err(error) = flush(cred, branch) {
        warn_limited!(
            "cannot write the list of renamed directories ({}): {:?}\n",
            text(stored::LIST),
            error
        );
    }
}
