// SPDX-License-Identifier: GPL-2.0

//! Which parts of a renamed directory its records name ([`crate::logic::dirren`]).

#![forbid(unsafe_code)]

use super::ask::Ask;
use crate::compat::errno::{
    ENODATA,
    EOPNOTSUPP,
    ESTALE, //
};
use crate::fs::{
    access::{
        dirop,
        xattr, //
    },
    objects::{
        inode::Kind,
        path::Path, //
    }, //
};
use crate::logic::dirren::{
    self as stored,
    Record, //
};
use crate::union::{
    branches::{
        branch::{
            Slot,
            Stack, //
        },
        renamed::{
            self,
            Renamed,
            PARENT,
            PATH_MAX, //
        },
        whiteout, //
    },
    state::sb::Shape,
    types::{
        LowerDentry,
        LowerInode, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// The parts of the directory `found`, which is an entry of `parent`, on the branches below it,
/// as its records say; `None` if it has none. The mounter's credentials are in force; branches are
/// asked by `ask`.
pub(crate) fn below(
    ask: Ask<'_>,
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
pub(crate) struct Known {
    pub(crate) record: KVVec<u8>,
    /// The path of the old parent, if that is another directory.
    pub(crate) parent: Option<KVec<u8>>,
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
        if name == b"." || name == b".." || whiteout::user(name).is_none() {
            return Ok(None);
        }
        match dirop::lookup_positive(dir.dir()?, name)?.filter(|found| found.is_dir()) {
            Some(found) => dir = found,
            None => return Ok(None),
        }
    }
    Ok(Some(dir))
}

/// What is recorded in `dir`, on the branch with the root `root`, of the part on the branch with
/// the renamed directories `other`.
pub(crate) fn stored_record(
    root: &Path,
    dir: &LowerDentry,
    other: &Renamed,
) -> Result<Option<Known>> {
    let Some(file) = dirop::lookup_positive(dir.dir()?, &other.record_name)? else {
        return Ok(None);
    };
    let record = match is_foreign(root, file.positive()?)? {
        true => KVVec::new(),
        false => renamed::read(root, &file, stored::RECORD_MAX)?,
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
