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
        statfs::Statfs,
        xattr, //
    },
    base::once::load_acquire,
    objects::{
        cred::Cred,
        inode::Kind,
        path::Path, //
    }, //
};
use crate::logic::{
    dirren::{
        self as stored,
        Record, //
    },
    whname, //
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
        }, //
    },
    copyup::meta::DirTimes,
    names::{
        index::View,
        lookup::{
            self,
            Ask,
            Depth, //
        }, //
    },
    state::sb::Shape,
    Inode,
    LowerDentry,
    LowerInode,
    Section, //
};
use crate::warn_limited;
use core::pin::Pin;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Release, //
        },
        Mutex, //
    }, //
};

/// The attribute of a record with the path of the old parent, which begins with a slash.
const PARENT: &CStr = c"trusted.ruaufs.parent";

/// The longest such path.
const PATH_MAX: usize = 4095;

/// The mode of records and lists.
const MODE: u16 = 0o600;

/// Bytes of the longest list: 131,072 directories.
const LIST_MAX: usize = 1 << 20;

/// The renamed directories of a branch.
pub(crate) struct Renamed {
    /// The name of a record about this branch.
    record_name: KVec<u8>,
    /// Whether the list was read.
    loaded: Atomic<bool>,
    /// Whether there are any.
    used: Atomic<bool>,
    numbers: Pin<KBox<Mutex<Numbers>>>,
}

/// A list that was read.
pub(crate) struct List(RBTree<u64, ()>);

/// What is in the list.
struct Numbers {
    set: RBTree<u64, ()>,
    /// The stored list has more.
    stale: bool,
}

impl Renamed {
    /// Those of the branch with the root `root`. The mounter's credentials are in force.
    pub(crate) fn new(root: &Path) -> Result<Renamed> {
        let ino = root.dentry().positive()?.ino();
        let record_name =
            stored::record_name(Statfs::of(root.here())?.fsid, root.mount().device(), ino)?;
        let numbers = Numbers {
            set: RBTree::new(),
            stale: false,
        };
        Ok(Renamed {
            record_name,
            loaded: Atomic::new(false),
            used: Atomic::new(false),
            numbers: KBox::pin_init(new_mutex!(numbers, "ruaufs_renamed"), GFP_KERNEL)?,
        })
    }

    /// Reads the list of the branch with the root `root`. The mounter's credentials are in force.
    ///
    /// # Errors
    ///
    /// `EIO` if it is no regular file, `EFBIG` if it is too long, `EINTR` if the task was killed;
    /// what the branch gives.
    pub(crate) fn read(root: &Path) -> Result<List> {
        let mut set = RBTree::new();
        let found = match dirop::lookup_positive(root.dentry().dir()?, stored::LIST) {
            // A union has no such names.
            Err(error) if error == EPERM => None,
            other => other?,
        };
        if let Some(list) = &found {
            for number in stored::numbers(&read(root, list, LIST_MAX)?) {
                if io::killed() {
                    return Err(EINTR);
                }
                set.try_create_and_insert(number, (), GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(List(set))
    }

    /// Whether the list was read.
    pub(crate) fn is_loaded(&self) -> bool {
        load_acquire(&self.loaded)
    }

    /// Begins with `list`, which was just read, unless there is one. The list on the branch only
    /// changes after that.
    pub(crate) fn load(&self, list: List) {
        let List(mut set) = list;
        let mut numbers = self.numbers.lock();
        if !load_acquire(&self.loaded) {
            self.used.store(!set.is_empty(), Release);
            core::mem::swap(&mut numbers.set, &mut set);
            self.loaded.store(true, Release);
        }
        drop(numbers);
        drop(set);
    }

    /// Whether the directory with the number `ino` may have records.
    fn has(&self, ino: u64) -> bool {
        load_acquire(&self.used) && self.numbers.lock().set.get(&ino).is_some()
    }

    /// The directory with the number `ino` has no records any more.
    pub(crate) fn forget(&self, ino: u64) {
        if load_acquire(&self.used) {
            let mut numbers = self.numbers.lock();
            if numbers.set.remove(&ino).is_some() {
                numbers.stale = true;
            }
        }
    }
}

/// The contents of a small file. `EFBIG` if it has more than `max` bytes, `EIO` if it is no
/// regular file.
fn read(root: &Path, file: &LowerDentry, max: usize) -> Result<KVVec<u8>> {
    let inode = file.positive()?;
    if inode.kind() != Kind::Regular {
        return Err(EIO);
    }
    let size = usize::try_from(inode.size())?;
    if size > max {
        return Err(EFBIG);
    }
    let mut bytes = KVVec::new();
    bytes.resize(size, 0u8, GFP_KERNEL_ACCOUNT)?;
    let len = KernelFile::read(root.at(file)?)?.read_start(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// The parts of the directory `found`, which is an entry of `parent`, on the branches below it,
/// as its records say; `None` if it has none. The mounter's credentials are in force; branches are
/// asked by `ask`.
pub(crate) fn below<A: Ask>(
    ask: &A,
    shape: &Shape,
    found: &Slot,
    parent: &Stack,
) -> Result<Option<KVec<Slot>>> {
    let branch = found.branch();
    if !shape.settings.dirren || !branch.renamed.has(found.inode()?.ino()) {
        return Ok(None);
    }
    let table = &shape.table;
    let at = table.index_of(branch.id).ok_or(ESTALE)?;
    let mut slots = KVec::new();
    let mut any = false;
    for other in table.order.iter().skip(at.saturating_add(1)) {
        let (dir, renamed) = (found.dentry().clone(), other.renamed.clone());
        let record = move |root: &Path| stored_record(root, &dir, &renamed);
        let Some(known) = ask.on(branch, record)? else {
            continue;
        };
        any = true;
        let start = parent.on(other.id).map(|slot| slot.dentry().clone());
        if let Some(part) = ask.on(other, move |root| known.find(root, start))? {
            other.check_case(&part)?;
            slots.push(Slot::new(other.clone(), part), GFP_KERNEL)?;
        }
    }
    Ok(any.then_some(slots))
}

/// A record that was read.
struct Known {
    record: KVVec<u8>,
    /// The path of the old parent, if that is another directory.
    parent: Option<KVec<u8>>,
}

impl Known {
    /// The directory that the record speaks of, on the branch with the root `root`, where `parent`
    /// is the directory that has the renamed one; `None` if it is not there any more.
    fn find(
        &self,
        root: &Path,
        parent: Option<ARef<LowerDentry>>,
    ) -> Result<Option<ARef<LowerDentry>>> {
        let Some(record) = Record::decode(&self.record) else {
            return Ok(None);
        };
        let dir = match &self.parent {
            None => parent,
            Some(path) => walk(root.dentry(), path)?,
        };
        let Some(dir) = dir else {
            return Ok(None);
        };
        let part = dirop::lookup_positive(dir.dir()?, record.name)?;
        Ok(part.filter(|part| {
            part.is_dir() && part.inode().is_some_and(|inode| inode.ino() == record.ino)
        }))
    }
}

/// The directory that `path` leads to from `root`.
fn walk(root: &ARef<LowerDentry>, path: &[u8]) -> Result<Option<ARef<LowerDentry>>> {
    let mut dir = root.clone();
    for name in path
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
    {
        if name == b"." || name == b".." || whname::is_reserved(name) {
            return Ok(None);
        }
        match dirop::lookup_positive(dir.dir()?, name)?.filter(|found| found.is_dir()) {
            Some(found) => dir = found,
            None => return Ok(None),
        }
    }
    Ok(Some(dir))
}

/// The path of `dir` from `root`, beginning with a slash. `EXDEV` if it is too long to be noted.
fn path_of(root: &LowerDentry, dir: &ARef<LowerDentry>) -> Result<KVec<u8>> {
    let mut names: KVec<KVec<u8>> = KVec::new();
    let mut next = dir.clone();
    while !next.is(root) {
        if next.is_root() {
            return Err(ESTALE);
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

/// What is recorded in `dir`, on the branch with the root `root`, of the part on the branch with
/// the renamed directories `other`.
fn stored_record(root: &Path, dir: &LowerDentry, other: &Renamed) -> Result<Option<Known>> {
    let Some(file) = dirop::lookup_positive(dir.dir()?, &other.record_name)? else {
        return Ok(None);
    };
    let record = match is_foreign(root, file.positive()?)? {
        true => KVVec::new(),
        false => read(root, &file, stored::RECORD_MAX)?,
    };
    if Record::decode(&record).is_none() {
        warn_limited!(
            "a record of a renamed directory is damaged: {:?} in {:?}\n",
            kernel::str::BStr::from_bytes(&other.record_name),
            kernel::str::BStr::from_bytes(&dir.name()?)
        );
        return Ok(None);
    }
    let mut path = KVec::new();
    path.resize(PATH_MAX, 0u8, GFP_KERNEL)?;
    let parent = match xattr::get(root.at(&file)?, PARENT, &mut path) {
        Ok(len) => {
            path.truncate(len);
            Some(path)
        }
        Err(error) if error == ENODATA || error == EOPNOTSUPP => None,
        Err(error) => return Err(error),
    };
    Ok(Some(Known { record, parent }))
}

/// Whether the file `record` was put there by somebody else than who owns the list, or comes from
/// another directory, as another name of its record. A directory may belong to somebody who must
/// not say what it shows.
fn is_foreign(root: &Path, record: &LowerInode) -> Result<bool> {
    if record.kind() != Kind::Regular {
        return Ok(false);
    }
    let list = dirop::lookup_positive(root.dentry().dir()?, stored::LIST)?;
    let own = match &list {
        Some(list) => record.has_user_of(list.positive()?),
        None => false,
    };
    Ok(!own || record.nlink() != 1)
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
    name: &[u8],
) -> Result<bool> {
    let info = object.sb().data();
    let stack = object.stack(section)?;
    let parent = dir.stack(section)?;
    let top = stack.top();
    if top.branch().id != branch.id {
        return Err(ESTALE);
    }
    info.cred.scope(|| {
        let at = parent
            .iter()
            .position(|slot| slot.branch().id == branch.id)
            .ok_or(ESTALE)?;
        let view = View::plain(info, section.shape(), parent);
        let found = lookup::probe(&view, at.saturating_add(1), name, Depth::All)?.slots;
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
    let known = stored_record(&branch.root, dir.dentry(), &other.renamed)?;
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
            "cannot write the list of renamed directories (.wh..wh.hino): {:?}\n",
            error
        );
    }
}
