// SPDX-License-Identifier: GPL-2.0

//! Pseudo-links: hard links that survive copy-up.
//!
//! When a file with several names is copied up, the copy gets one of the names, and a second
//! link in `.wh..wh.plnk` of the branch with a note ([`crate::logic::plink`]) that says which
//! lower file it is a copy of. Whoever comes by another name, which still leads to the original
//! (the *origin*), gets the copy ([`resolve`]): at once, after eviction, and at the next mount.
//!
//! The note counts the names, too, as the link count of the copy says nothing of those that are
//! only on the branches below. A file that was not copied has a note as soon as one of its names
//! is hidden: then an empty file carries it.
//!
//! | module | what it does |
//! |---|---|
//! | [`origin`] | what tells a lower file from all others |
//! | [`load`] | reading what an earlier mount left |
//! | [`index`](crate::union::branches::notes) | the notes of a branch, in memory |
//! | [`part`] | `noplink`: names part when one of them is copied up |
//!
//! # Without a note
//!
//! Some file systems cannot be recognised at the next mount
//! ([`identity`](crate::union::branches::origin::identity)), some take no `trusted.*` attributes.
//! Then the union's inode is kept in memory until unmount instead, and the names part there, as in
//! aufs.
//!
//! # With `noplink`
//!
//! No pseudo-links are made. Those that are there go on to hold, as they say what a name leads to:
//! what a file contains does not depend on the option.
//!
//! # Why a note leads to no wrong file
//!
//! It is believed only where the file that was found has all that is noted: file system, number,
//! generation, type, size and time of the last change of contents; the last two not if it was not
//! copied, since the union writes to it on its own branch then. The file that carries the note must
//! be what the note says, too, each time it is looked for: a copy is of the type of the origin,
//! what only counts is an empty regular file, and it is the one that was read at the mount
//! ([`notes::File`](crate::union::branches::notes::File)). A note is asked for only on branches
//! above the one where the file was found. If two branches are on file systems that look the same
//! (clones of one image), nothing is believed of either.
//!
//! # Locking
//!
//! Entries of an object are changed under its lock
//! ([`crate::union::objects::object::InodeInfo::lock`]). The lists are leaf locks; references are
//! dropped after them.

#![forbid(unsafe_code)]

pub(crate) mod load;
pub(crate) mod part;

use crate::fs::{
    access::{
        attr,
        dirop::{
            self,
            Creating,
            Removing,
            Renaming, //
        },
        xattr, //
    },
    base::once::load_acquire,
    objects::{
        cred::Cred,
        path::{
            Writable,
            WriteAccess, //
        }, //
    }, //
};
use crate::logic::{
    plink::{
        Names,
        Note,
        What,
        XATTR, //
    },
    whname, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        ino::{
            InoTable,
            Lower, //
        },
        notes::{
            Entry,
            File,
            Room, //
        },
        origin,
        whiteout, //
    },
    copyup,
    mount::draft::text,
    state::sb::SbInfo,
    Dentry,
    Inode,
    LowerDentry,
    LowerInode,
    Section,
    SuperBlock, //
};
use crate::warn_limited;
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
            Full,
            Release, //
        },
        Arc,
        Mutex, //
    }, //
};

/// Pseudo-links of a mount.
#[pin_data]
pub(crate) struct Plinks {
    /// Inodes that are kept in memory, by their address.
    #[pin]
    kept: Mutex<RBTree<usize, ARef<Inode>>>,
    /// Whether any branch has notes: most look-ups ask no further.
    noted: Atomic<bool>,
}

impl Plinks {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Plinks {
            kept <- new_mutex!(RBTree::new(), "ruaufs_kept"),
            noted: Atomic::new(false),
        })
    }

    /// How many there are in memory only.
    pub(crate) fn count(&self) -> usize {
        let kept = self.kept.lock();
        kept.values().filter(|inode| inode.is_plinked()).count()
    }

    /// Drops all inodes that are kept, at unmount.
    pub(crate) fn release(&self) {
        let kept = core::mem::replace(&mut *self.kept.lock(), RBTree::new());
        drop(kept);
    }

    /// Forgets which names belong together: all are links by now. What is kept for a name that is
    /// only hidden stays.
    pub(crate) fn clean(&self) {
        loop {
            let next = {
                let kept = self.kept.lock();
                let mut plinked = kept.values().filter(|inode| inode.is_plinked());
                plinked.next().cloned()
            };
            let Some(inode) = next else {
                return;
            };
            inode.set_plinked(false);
            if !inode.has_other_count() {
                self.let_go(&inode);
            }
        }
    }

    /// Keeps `inode` until unmount, or until its last name is gone.
    pub(crate) fn keep(&self, inode: &Inode) -> Result {
        let node = RBTreeNode::new(address(inode), ARef::from(inode), GFP_KERNEL_ACCOUNT)?;
        let old = self.kept.lock().insert(node);
        inode.set_held(true);
        drop(old);
        Ok(())
    }

    /// Keeps `inode` no longer.
    pub(crate) fn let_go(&self, inode: &Inode) {
        let old = self.kept.lock().remove_node(&address(inode));
        inode.set_held(false);
        drop(old);
    }
}

/// `list_plink`: writes all to the log, each with the branch of its copy, where that is noted.
pub(crate) fn list(section: Section<'_>) -> Result {
    let info = section.data();
    for inode in info.plinks.kept.lock().values() {
        if inode.is_plinked() {
            pr_info!("pseudo-link: inode {}, in memory only\n", inode.ino());
        }
    }
    for branch in section.table().order.iter() {
        let path = branch.shown.to_bytes()?;
        branch.plinks.each_copy(&mut |entry| {
            pr_info!(
                "pseudo-link: inode {}, {} on branch {}\n",
                entry.number,
                entry.file.ino,
                kernel::str::BStr::from_bytes(&path)
            );
        });
    }
    Ok(())
}

fn address(inode: &Inode) -> usize {
    core::ptr::from_ref(inode).addr()
}

/// The copies which new branches brought along have the inode numbers of their originals.
pub(crate) fn adopt(section: Section<'_>) -> Result {
    let info = section.data();
    let table = section.table();
    // An original may be a copy itself, of something below it.
    for branch in table
        .order
        .iter()
        .rev()
        .filter(|branch| branch.plinks.is_used())
    {
        info.plinks.noted.store(true, Release);
        if branch.plinks.adopted.xchg(true, Full) {
            continue;
        }
        for (file, origin) in branch.plinks.copies()?.iter() {
            // Only one copy has the number: that which is shown in place of the original, or has
            // it already.
            let at = table.index_of(branch.id).unwrap_or(0);
            let taken = table.order.iter().enumerate().any(|(n, other)| {
                let first = n < at || load_acquire(&other.plinks.adopted);
                other.id != branch.id && first && other.plinks.has_copy_of(origin)
            });
            if taken {
                continue;
            }
            // An original is below its copy, where it is looked for.
            let below = table.order.iter().skip(at.saturating_add(1));
            let mut homes = below.filter(|other| other.identity == Some(origin.fs));
            if let Some(home) = homes.next().filter(|home| !origin::has_twin(table, home)) {
                let number = info.ino.number(numbered(info, home, origin.ino)?)?;
                let copy = numbered(info, branch, *file)?;
                info.ino.keep(InoTable::reserve()?, copy, number);
            }
        }
    }
    Ok(())
}

/// The object that was found as `found` gets a number of its own, unless it is in memory, if the
/// one that it would have belongs to a copy which, for what is noted of it, is none of this object:
/// that was changed, or has the number of the original by now, or the note is forged.
pub(crate) fn part_numbers(section: Section<'_>, found: &Slot) -> Result {
    let (sb, info) = (section.sb(), section.data());
    if !load_acquire(&info.plinks.noted) {
        return Ok(());
    }
    let table = section.table();
    let at = table.index_of(found.branch().id).ok_or(ESTALE)?;
    let above = || {
        let above = table.order.iter().take(at);
        above.filter(|branch| branch.plinks.is_used())
    };
    if above().next().is_none() {
        return Ok(());
    }
    let Some(origin) = origin::of(table, found)? else {
        return Ok(());
    };
    if !above().any(|branch| branch.plinks.has_copy_of_other(&origin)) {
        return Ok(());
    }
    let lower = info.ino.lower(found.branch(), found.dentry())?;
    let cached = Inode::cached(sb, info.ino.number(lower)?);
    let inode = found.inode()?;
    if !cached.is_some_and(|cached| cached.ever_led_to(section, inode)) {
        info.ino.part(InoTable::reserve()?, lower);
    }
    Ok(())
}

/// The object with the number `ino` of a branch, in the number space of the branch's root.
fn numbered(info: &SbInfo, branch: &Branch, ino: u64) -> Result<Lower> {
    Ok(Lower {
        space: info.ino.space(branch, branch.root.dentry())?,
        number: ino,
    })
}

/// What is known of an object that was found under some name.
pub(crate) struct Known {
    /// Its topmost instance: the one that was found, or a copy of it.
    pub(crate) slot: Slot,
    /// Whether that is a copy of something.
    pub(crate) is_copy: bool,
    /// The names that the union shows of it, if the branch's link count does not say it.
    pub(crate) names: Option<u32>,
}

/// What is noted of the non-directory that was found as `found`; `None` if nothing is noted at all:
/// then it is what was found.
pub(crate) fn resolve(section: Section<'_>, found: &Slot) -> Result<Option<Known>> {
    let info = section.data();
    if !load_acquire(&info.plinks.noted) {
        return Ok(None);
    }
    let mut known = Known {
        slot: found.clone(),
        is_copy: false,
        names: None,
    };
    info.cred.scope(|| {
        while let Some((branch, entry)) = noted(section, &known.slot)? {
            if entry.note.what == What::Hidden {
                // It may be a copy on a branch that became a layer.
                let inode = known.slot.inode()?;
                known.is_copy |= known.slot.branch().plinks.by_copy(inode).is_some();
                known.names = Some(shown(&entry, inode));
                return Ok(Some(known));
            }
            let Some(copy) = file_of(branch, &entry)? else {
                return Ok(Some(known));
            };
            known.slot = Slot::new(branch.clone(), copy);
            known.is_copy = true;
        }
        let inode = known.slot.inode()?;
        if let Some(entry) = known.slot.branch().plinks.by_copy(inode) {
            known.is_copy = true;
            known.names = Some(shown(&entry, inode));
        }
        Ok(Some(known))
    })
}

/// How many names the union shows of an object that was found by one of them.
fn shown(entry: &Entry, links: &LowerInode) -> u32 {
    entry.note.names.count(links.nlink()).max(1)
}

/// The entry for the instance `slot` on a branch above it.
fn noted<'a>(section: Section<'a>, slot: &Slot) -> Result<Option<(&'a Arc<Branch>, Entry)>> {
    let info = section.data();
    if !load_acquire(&info.plinks.noted) {
        return Ok(None);
    }
    let table = section.table();
    let at = table.index_of(slot.branch().id).ok_or(ESTALE)?;
    let above = || {
        let above = table.order.iter().take(at);
        above.filter(|branch| branch.plinks.is_used())
    };
    if above().next().is_none() {
        return Ok(None);
    }
    let Some(origin) = origin::of(table, slot)? else {
        return Ok(None);
    };
    let mut hidden = None;
    for branch in above() {
        match branch.plinks.by_origin(&origin) {
            Some(entry) if entry.note.what == What::Copy => return Ok(Some((branch, entry))),
            // A lower one is from before its branch became a layer.
            Some(entry) => hidden = hidden.or(Some((branch, entry))),
            None => {}
        }
    }
    Ok(hidden)
}

/// The file of `entry`, on `branch`; `None` if somebody took it away, or put another in its place.
fn file_of(branch: &Branch, entry: &Entry) -> Result<Option<ARef<LowerDentry>>> {
    let dir = branch.plinks.dir.as_ref().ok_or(EIO)?;
    let name = whname::plink(entry.number, entry.file.ino)?;
    let found = dirop::lookup_positive(dir.dir()?, &name)?;
    Ok(found.filter(|found| found.inode().is_some_and(|inode| entry.is(inode))))
}

/// Errors of link(2) by which a file system says that it has no links, or none from there.
const NO_LINKS: [Error; 5] = [EPERM, EXDEV, EMLINK, EOPNOTSUPP, ENOSYS];

/// Gives `copy` of `source`, on `branch`, a link in the directory of pseudo-links.
///
/// `None` if the branch has no links that lead to one object, as with many FUSE servers, for which
/// each path is an object of its own: then names part ([`part`]).
///
/// The copy has no name yet, so nobody knows it; after an error it has none in the directory of
/// pseudo-links either.
pub(crate) fn add(
    section: Section<'_>,
    sb: &SuperBlock,
    inode: &Inode,
    source: &Slot,
    branch: &Arc<Branch>,
    copy: &LowerDentry,
    write: &WriteAccess<'_>,
) -> Result<Option<ARef<LowerDentry>>> {
    let info = sb.data();
    let inode_of_copy = copy.positive()?;
    let file = File::of(inode_of_copy);
    let lower = info.ino.lower(branch, copy)?;
    let number = InoTable::reserve()?;
    let room = Room::new()?;
    let note = match origin::of(section.table(), source)? {
        Some(origin) => put(
            write.to(branch.at(copy)?)?,
            Note {
                what: What::Copy,
                origin,
                names: Names::All(inode.nlink()),
            },
        )?,
        None => None,
    };
    let keeps = note.is_none();
    if keeps {
        info.plinks.keep(inode)?;
    }
    let name = whname::plink(inode.ino(), file.ino)?;
    let dir = branch.at(&branch.work()?.plinks)?;
    let make = || -> Result<Option<ARef<LowerDentry>>> {
        let creating = match Creating::new(dir, name.as_bytes(), write) {
            // The numbers were used before, by a union that is unmounted.
            Err(error) if error == EEXIST => Removing::new(dir, name.as_bytes(), write)
                .and_then(Removing::unlink)
                .and_then(|()| Creating::new(dir, name.as_bytes(), write)),
            other => other,
        }?;
        match creating.link(copy) {
            Ok(link) if dirop::same_inode(&link, inode_of_copy) => Ok(Some(link)),
            Ok(_) => {
                Removing::new(dir, name.as_bytes(), write)?.unlink()?;
                // The copy's object has counted it.
                attr::sync(branch.at(copy)?)?;
                Ok(None)
            }
            Err(error) if NO_LINKS.contains(&error) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let made = make();
    if keeps && !matches!(made, Ok(Some(_))) {
        info.plinks.let_go(inode);
    }
    let Some(link) = made? else {
        if note.is_some() {
            xattr::remove(write.to(branch.at(copy)?)?, XATTR)?;
        }
        return Ok(None);
    };
    // Before anybody can find it by the note.
    info.ino.keep(number, lower, inode.ino());
    if let Some(note) = note {
        let entry = Entry::new(inode.ino(), file, note);
        let old = branch.plinks.insert(room, entry);
        info.plinks.noted.store(true, Release);
        if let Some(old) = old.filter(|old| !old.has_name_of(&entry)) {
            drop_file(branch, &old, write);
        }
    }
    inode.set_plinked(true);
    Ok(Some(link))
}

/// Puts `note` on a file and gives it back; `None` if the file system takes none.
fn put(file: Writable<'_>, note: Note) -> Result<Option<Note>> {
    match xattr::set(file, XATTR, &note.encode(), 0) {
        Ok(()) => Ok(Some(note)),
        Err(error) if error == EOPNOTSUPP || error == EPERM => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes back what [`add`] did, when the copy did not get its name.
pub(crate) fn undo(
    sb: &SuperBlock,
    inode: &Inode,
    branch: &Branch,
    link: &LowerDentry,
    write: &WriteAccess<'_>,
) {
    let info = sb.data();
    if let Some(lower) = link.inode() {
        take_out(inode, branch, lower.ino(), write);
        if let Ok(lower) = info.ino.lower(branch, link) {
            info.ino.forget(lower);
        }
    }
    inode.set_plinked(false);
    info.plinks.let_go(inode);
}

/// Removes the pseudo-link of the copy `file` on `branch`, and gives what was noted of it.
fn take_out(inode: &Inode, branch: &Branch, file: u64, write: &WriteAccess<'_>) -> Option<Note> {
    let entry = branch.plinks.by_number(file);
    match &entry {
        Some(entry) => {
            branch.plinks.remove(entry);
            drop_file(branch, entry, write);
        }
        None => drop_name(branch, inode.ino(), file, write),
    }
    entry.map(|entry| entry.note)
}

/// Removes the file of `entry`.
fn drop_file(branch: &Branch, entry: &Entry, write: &WriteAccess<'_>) {
    drop_name(branch, entry.number, entry.file.ino, write);
}

/// Removes a pseudo-link.
fn drop_name(branch: &Branch, number: u64, file: u64, write: &WriteAccess<'_>) {
    let result = || -> Result {
        let name = whname::plink(number, file)?;
        let dir = branch.at(&branch.work()?.plinks)?;
        match Removing::new(dir, name.as_bytes(), write).and_then(Removing::unlink) {
            // A tool was faster.
            Err(error) if error == ENOENT => Ok(()),
            other => other,
        }
    };
    if let Err(error) = result() {
        warn_limited!(
            "cannot remove the pseudo-link of inode {}: {:?}\n",
            number,
            error
        );
    }
}

/// A name of the object is about to come or go on the branch of its copy: from now on the count
/// follows the branch's. `write` is access to that branch.
pub(crate) fn count_beside(section: Section<'_>, inode: &Inode, write: &WriteAccess<'_>) -> Result {
    let links = inode.stack(section)?.top_inode().nlink();
    set_names(section, inode, Names::beside(inode.nlink(), links), write)
}

/// A name that shows already is about to be made on the branch of the copy: the count is what it
/// is. `write` is access to that branch.
pub(crate) fn count_all(section: Section<'_>, inode: &Inode, write: &WriteAccess<'_>) -> Result {
    set_names(section, inode, Names::All(inode.nlink()), write)
}

/// The name `dentry` of `inode` is about to be removed: if the object was copied up, the name gets
/// to the branch of the copy first, so that its removal is one of a link there ([`goes`]).
///
/// Not more than a help: without it the count is noted afterwards, not safe from a crash.
pub(crate) fn gather(section: Section<'_>, dentry: &Dentry, inode: &Inode) {
    if !inode.is_plinked() {
        return;
    }
    let result = inode
        .stack(section)
        .and_then(|stack| copyup::give_name(section, dentry, stack.top()));
    if let Err(error) = result {
        pr_debug!("a name was not brought to its copy: {:?}\n", error);
    }
}

/// A link of `inode` is about to be removed from the branch of its copy. `write` is access to that
/// branch.
pub(crate) fn goes(section: Section<'_>, inode: &Inode, write: &WriteAccess<'_>) {
    if inode.is_plinked() {
        // If this fails the count is noted afterwards ([`settle`]).
        if let Err(error) = count_beside(section, inode, write) {
            pr_debug!("the count of names was not noted: {:?}\n", error);
        }
    }
}

/// Notes the count of a copied object's names. `write` is access to the branch of the copy.
fn set_names(section: Section<'_>, inode: &Inode, names: Names, write: &WriteAccess<'_>) -> Result {
    let stack = inode.stack(section)?;
    let top = stack.top();
    let plinks = &top.branch().plinks;
    let Some(entry) = plinks.by_copy(stack.top_inode()) else {
        return Ok(());
    };
    if entry.note.names == names && entry.stored {
        return Ok(());
    }
    let note = Note {
        names,
        ..entry.note
    };
    xattr::set(write.to(top.path()?)?, XATTR, &note.encode(), 0)?;
    plinks.set_names(&note.origin, names, true);
    Ok(())
}

/// Sees that what is noted is the count that the union shows, after a name was removed. The
/// object's lock is held.
///
/// The name may have been hidden by a change on another branch than that of the copy. Nobody waits
/// for that branch: while it is frozen or read-only the count is kept in memory ([`flush`]).
pub(crate) fn settle(section: Section<'_>, inode: &Inode) -> Result {
    if !inode.is_plinked() || inode.nlink() == 0 {
        return Ok(());
    }
    let stack = inode.stack(section)?;
    let links = stack.top_inode();
    let branch = stack.top().branch();
    let Some(entry) = branch.plinks.by_copy(links) else {
        return Ok(());
    };
    if entry.note.names.count(links.nlink()) == inode.nlink() {
        return Ok(());
    }
    let write = match branch.try_write() {
        Err(error) if error == EROFS => None,
        other => other?,
    };
    let Some(write) = write else {
        let names = Names::All(inode.nlink());
        branch.plinks.set_names(&entry.note.origin, names, false);
        return Ok(());
    };
    let cred = &inode.sb().data().cred;
    let result = cred.scope(|| count_all(section, inode, &write));
    drop(write);
    result
}

/// Notes the counts that could not be noted when they changed. Waits while the branch is frozen.
pub(crate) fn flush_logged(cred: &Cred, branch: &Branch) {
    if let Err(error) = flush(cred, branch) {
        warn_limited!(
            "branch {}: link counts may be wrong at the next mount: {:?}\n",
            text(&branch.shown.to_bytes().unwrap_or_default()),
            error
        );
    }
}

fn flush(cred: &Cred, branch: &Branch) -> Result {
    let plinks = &branch.plinks;
    if !plinks.has_unstored() {
        return Ok(());
    }
    let write = branch.want_write()?;
    cred.scope(|| {
        while let Some(entry) = plinks.next_unstored() {
            let note = &entry.note;
            if let Some(file) = file_of(branch, &entry)? {
                xattr::set(write.to(branch.at(&file)?)?, XATTR, &note.encode(), 0)?;
            }
            plinks.set_names(&note.origin, note.names, true);
        }
        Ok(())
    })
}

/// Notes, on `branch`, that only `left` names of `inode`, which was not copied, show. The
/// object's lock is held.
///
/// `false` if there is no way to note it.
pub(crate) fn hide(
    section: Section<'_>,
    inode: &Inode,
    left: u32,
    branch: &Branch,
) -> Result<bool> {
    let info = inode.sb().data();
    let top = inode.stack(section)?.top();
    info.cred.scope(|| {
        // Its branch counts the names that come and go there.
        let names = Names::beside(left, top.inode()?.nlink());
        if let Some((home, entry)) = noted(section, top)? {
            if let Some(file) = file_of(home, &entry)? {
                let note = Note {
                    names,
                    ..entry.note
                };
                let done = match home.try_write() {
                    Ok(Some(write)) => put(write.to(home.at(&file)?)?, note)?.is_some(),
                    // As in `settle`.
                    Ok(None) => false,
                    Err(error) if error == EROFS => false,
                    Err(error) => return Err(error),
                };
                home.plinks.set_names(&note.origin, names, done);
                // One on a branch that became a layer goes on to say what it said then.
                let table = section.table();
                if done || home.writable() || table.index_of(home.id) <= table.index_of(branch.id) {
                    return Ok(true);
                }
            } else {
                home.plinks.remove(&entry);
            }
        }
        if !section.settings().plink {
            return Ok(false);
        }
        let Some(origin) = origin::of(section.table(), top)? else {
            return Ok(false);
        };
        let note = Note {
            what: What::Hidden,
            origin,
            names,
        };
        let room = Room::new()?;
        let work = branch.work()?;
        let orphans = branch.at(&work.orphans)?;
        let temp = info.temp_name(b"plink")?;
        let write = branch.want_write()?;
        let made = Creating::new(orphans, &temp, &write)?.create(0o600)?;
        let publish = || -> Result<Option<File>> {
            if put(write.to(branch.at(&made)?)?, note)?.is_none() {
                return Ok(None);
            }
            let file = File::of(made.inode().ok_or(EIO)?);
            let name = whname::plink(inode.ino(), file.ino)?;
            let links = branch.at(&work.plinks)?;
            Renaming::new((orphans, &temp), (links, &name), 0, &write)?.commit()?;
            Ok(Some(file))
        };
        let published = match publish() {
            // The two directories are of two projects.
            Err(error) if error == EXDEV => Ok(None),
            other => other,
        };
        if !matches!(published, Ok(Some(_))) {
            whiteout::purge(branch, &work.orphans, &made, &temp, &write);
        }
        let Some(file) = published? else {
            return Ok(false);
        };
        let number = inode.ino();
        let old = branch.plinks.insert(room, Entry::new(number, file, note));
        info.plinks.noted.store(true, Release);
        if let Some(old) = old {
            drop_file(branch, &old, &write);
        }
        drop(write);
        Ok(true)
    })
}

/// Takes the pseudo-link of `inode` away, when its last name is gone, and those of the files that
/// it is a copy of. The object's lock is held.
pub(crate) fn remove(section: Section<'_>, inode: &Inode) {
    let info = inode.sb().data();
    info.plinks.let_go(inode);
    let Ok(stack) = inode.stack(section) else {
        return;
    };
    let table = section.table();
    info.cred.scope(|| {
        if let Ok(Some((branch, entry))) = noted(section, stack.top()) {
            if entry.note.what == What::Hidden {
                branch.plinks.remove(&entry);
                if let Ok(Some(write)) = branch.try_write() {
                    drop_file(branch, &entry, &write);
                }
            }
        }
        if !inode.is_plinked() {
            return;
        }
        inode.set_plinked(false);
        let mut next = Some((stack.top().branch(), stack.top_inode().ino()));
        while let Some((branch, file)) = next {
            // What cannot be removed now has no name: the next mount removes it.
            let Ok(Some(write)) = branch.try_write() else {
                break;
            };
            let note = take_out(inode, branch, file, &write);
            drop(write);
            next = note.and_then(|note| {
                let home = table.order.iter().find(|other| {
                    other.identity == Some(note.origin.fs)
                        && other.plinks.by_number(note.origin.ino).is_some()
                });
                Some((home?, note.origin.ino))
            });
        }
    });
}
