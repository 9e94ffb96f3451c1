// SPDX-License-Identifier: GPL-2.0

//! Reading what an earlier mount left in the directory of pseudo-links.
//!
//! What does not look like a pseudo-link was not made here, and is left alone: who owns the root of
//! a branch could have moved anything there.

#![forbid(unsafe_code)]

use crate::compat::errno::{
    ENODATA,
    EOPNOTSUPP, //
};
use crate::fs::{
    access::{
        dirop::{
            self,
            Removing, //
        },
        xattr, //
    },
    objects::path::{
        Path,
        PathRef,
        WriteAccess, //
    }, //
};
use crate::logic::{
    branch_spec::Access,
    plink::{
        self as stored,
        Note,
        What,
        LEN,
        XATTR, //
    }, //
};
use crate::union::{
    branches::{
        notes::{
            Entry,
            Index,
            Room, //
        },
        orphans,
        whiteout, //
    },
    types::LowerDentry, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The notes of the branch with the root `root`. With `write`, access to the branch for who is
/// alone on it and has its turn to change it, pseudo-links without a note, which an earlier mount
/// or aufs left, are removed.
pub(crate) fn load(
    root: &Path,
    access: &Access,
    write: Option<&WriteAccess<'_>>,
) -> Result<Arc<Index>> {
    // They count where other marks do.
    let dir = if access.honours_whiteouts() {
        dirop::lookup_positive(root.dentry().dir()?, whiteout::PLINK_DIR)?
    } else {
        None
    };
    let dir = dir.filter(|found| found.is_dir());
    let index = Arc::new(Index::new(dir.clone())?, GFP_KERNEL)?;
    let Some(dir) = &dir else {
        return Ok(index);
    };
    let at = root.at(dir)?;
    orphans::each_name(at, &mut |name| {
        let Some((number, file)) = stored::parse_name(name) else {
            return Ok(());
        };
        match entry(root, dir, name, number, file) {
            Ok(Some(entry)) => {
                // A copy is worth more than the count of its original.
                let known = index.by_origin(&entry.note.origin);
                let stale = match known {
                    Some(known) if known.note.what == What::Copy => Some(entry),
                    _ => index.insert(Room::new()?, entry),
                };
                if let (Some(stale), Some(write)) = (stale, write) {
                    let name = stored::name(stale.number, stale.file.ino)?;
                    discard(at, &name, write);
                }
            }
            Ok(None) => {
                if let Some(write) = write {
                    discard(at, name, write);
                }
            }
            Err(error) => warn_limited!(
                "cannot read pseudo-link {:?}: {:?}\n",
                kernel::str::BStr::from_bytes(name),
                error
            ),
        }
        Ok(())
    })?;
    Ok(index)
}

/// The pseudo-link `name` of `dir`, called by `number` and `file`, if its note can be believed.
fn entry(
    root: &Path,
    dir: &LowerDentry,
    name: &[u8],
    number: u64,
    file: u64,
) -> Result<Option<Entry>> {
    let Some(found) = dirop::lookup_positive(dir.dir()?, name)? else {
        return Ok(None);
    };
    let inode = found.positive()?;
    // A copy of a branch may have other numbers: then the name does not say which.
    if inode.ino() != file || inode.is_dir() {
        return Ok(None);
    }
    let mut note = [0; LEN];
    let note = match xattr::get(root.at(&found)?, XATTR, &mut note) {
        Ok(len) => note.get(..len).and_then(Note::decode),
        Err(error) if error == ENODATA || error == EOPNOTSUPP || error == ERANGE => None,
        Err(error) => return Err(error),
    };
    Ok(note.and_then(|note| Entry::found(number, inode, note)))
}

/// Removes a pseudo-link that nobody needs.
fn discard(dir: PathRef<'_>, name: &[u8], write: &WriteAccess<'_>) {
    if let Err(error) = Removing::new(dir, name, write).and_then(Removing::unlink) {
        warn_limited!(
            "cannot remove left-over {:?}: {:?}\n",
            kernel::str::BStr::from_bytes(name),
            error
        );
    }
}
