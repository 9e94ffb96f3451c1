// SPDX-License-Identifier: GPL-2.0

//! Making a pseudo-link with its note, and taking both away.

#![forbid(unsafe_code)]

use crate::compat::errno::{
    ENOSYS,
    EOPNOTSUPP, //
};
use crate::fs::{
    access::{
        attr,
        dirop::{
            self,
            Creating,
            Removing, //
        },
        xattr, //
    },
    objects::path::{
        Writable,
        WriteAccess, //
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
        branch::{
            Branch,
            Slot, //
        },
        ino::InoTable,
        notes::{
            Entry,
            File,
            Room, //
        },
        origin, //
    },
    types::{
        Inode,
        LowerDentry,
        Section,
        SuperBlock, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Release,
        Arc, //
    }, //
};

/// Whether link(2) says by this error that the file system has no links, or none from there.
fn says_no_links(error: Error) -> bool {
    error == EOPNOTSUPP || error == ENOSYS || [EPERM, EXDEV, EMLINK].contains(&error)
}

/// Gives `copy` of `source`, on `branch`, a link in the directory of pseudo-links.
///
/// `None` if the branch has no links that lead to one object, as with many FUSE servers, for which
/// each path is an object of its own: then names part ([`part`](super::part)).
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
    let name = stored::name(inode.ino(), file.ino)?;
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
            Err(error) if says_no_links(error) => Ok(None),
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
pub(super) fn put(file: Writable<'_>, note: Note) -> Result<Option<Note>> {
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
pub(super) fn take_out(
    inode: &Inode,
    branch: &Branch,
    file: u64,
    write: &WriteAccess<'_>,
) -> Option<Note> {
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
pub(super) fn drop_file(branch: &Branch, entry: &Entry, write: &WriteAccess<'_>) {
    drop_name(branch, entry.number, entry.file.ino, write);
}

/// Removes a pseudo-link.
fn drop_name(branch: &Branch, number: u64, file: u64, write: &WriteAccess<'_>) {
    let result = || -> Result {
        let name = stored::name(number, file)?;
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
