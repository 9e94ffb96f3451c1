// SPDX-License-Identifier: GPL-2.0

//! How many names a file has that notes count.

#![forbid(unsafe_code)]

use super::{
    link,
    originals, //
};
use crate::fs::{
    access::{
        dirop::{
            Creating,
            Renaming, //
        },
        xattr, //
    },
    objects::{
        cred::Cred,
        path::WriteAccess, //
    }, //
};
use crate::logic::plink::{
    self as stored,
    Names,
    Note,
    What,
    XATTR, //
};
use crate::union::{
    branches::{
        branch::Branch,
        notes::{
            Entry,
            File,
            Room, //
        },
        origin,
        orphans, //
    },
    types::{
        text,
        Inode,
        Section, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::atomic::Release, //
};

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
            if let Some(file) = originals::file_of(branch, &entry)? {
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
        if let Some((home, entry)) = originals::noted(section, top)? {
            if let Some(file) = originals::file_of(home, &entry)? {
                let note = Note {
                    names,
                    ..entry.note
                };
                let done = match home.try_write() {
                    Ok(Some(write)) => link::put(write.to(home.at(&file)?)?, note)?.is_some(),
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
            if link::put(write.to(branch.at(&made)?)?, note)?.is_none() {
                return Ok(None);
            }
            let file = File::of(made.inode().ok_or(EIO)?);
            let name = stored::name(inode.ino(), file.ino)?;
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
            orphans::purge(branch, &work.orphans, &made, &temp, &write);
        }
        let Some(file) = published? else {
            return Ok(false);
        };
        let number = inode.ino();
        let old = branch.plinks.insert(room, Entry::new(number, file, note));
        info.plinks.noted.store(true, Release);
        if let Some(old) = old {
            link::drop_file(branch, &old, &write);
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
        if let Ok(Some((branch, entry))) = originals::noted(section, stack.top()) {
            if entry.note.what == What::Hidden {
                branch.plinks.remove(&entry);
                if let Ok(Some(write)) = branch.try_write() {
                    link::drop_file(branch, &entry, &write);
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
            let note = link::take_out(inode, branch, file, &write);
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
