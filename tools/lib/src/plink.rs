// SPDX-License-Identifier: GPL-2.0

//! Pseudo-links: files with several names of which some were copied up and some were not.
//!
//! The union keeps the names together while it is mounted. To *flush* is to copy up the other
//! names, too, which makes hard links of them all; after that nothing is left to be remembered.
//! While the kernel is told to be in *maintenance* no other process can make new ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::io::Errno;

use crate::{
    dir::Dir,
    names::{self, Show},
    system,
    union::Union,
};

/// Where the kernel is told.
pub const CONTROL: &str = "/proc/fs/aufs/plink_maint";

/// The pseudo-links of one writable branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The branch.
    pub branch: PathBuf,
    /// Inode number in the union, and name below `.wh..wh.plnk`.
    pub entries: Vec<(u64, std::ffi::OsString)>,
}

/// The pseudo-links of a union; none if it was mounted with `noplink`.
pub fn pending(union: &Union) -> Result<Vec<Pending>> {
    if union.mount.has_option("noplink") {
        return Ok(Vec::new());
    }
    let writable = union.branches.iter().filter(|b| b.access.may_write());
    let all: Result<Vec<_>> = writable.map(|b| of_branch(&b.path)).collect();
    Ok(all?.into_iter().filter(|p| !p.entries.is_empty()).collect())
}

/// The pseudo-links of a branch.
pub fn of_branch(branch: &Path) -> Result<Pending> {
    let mut entries = Vec::new();
    if let Some(dir) = Dir::open(branch)?.sub(names::PLINKS.as_ref())? {
        for name in dir.names()? {
            if let Some((ino, _)) = names::parse_plink(&name) {
                entries.push((ino, name));
            }
        }
    }
    Ok(Pending {
        branch: branch.to_owned(),
        entries,
    })
}

/// The pseudo-links of a branch that hold without a mounted union, too: ruaufs finds the copy by a
/// note on it. All others are left over and mean nothing.
pub fn lasting(branch: &Dir) -> Result<Vec<std::ffi::OsString>> {
    let mut all = Vec::new();
    let Some(dir) = branch.sub(names::PLINKS.as_ref())? else {
        return Ok(all);
    };
    for name in dir.names()? {
        match dir.get(&name)? {
            Some(copy) if copy.has_xattr(logic::plink::XATTR)? => all.push(name),
            _ => {}
        }
    }
    Ok(all)
}

/// All inode numbers.
pub fn inodes(pending: &[Pending]) -> BTreeSet<u64> {
    let entries = pending.iter().flat_map(|p| &p.entries);
    entries.map(|(ino, _)| *ino).collect()
}

/// Finds the names of these inodes in a union; mounts below it are not entered.
pub fn names_of(union: &Union, inodes: &BTreeSet<u64>) -> Result<BTreeMap<u64, Vec<PathBuf>>> {
    let mut found: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    union.walk(&mut |object| {
        let ino = object.id().ino;
        if inodes.contains(&ino) {
            found.entry(ino).or_default().push(object.path());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Maintenance of a union; ends when this is dropped.
pub struct Maintenance(File);

impl Maintenance {
    /// Begins it.
    pub fn begin(union: &Union) -> Result<Self> {
        let mut file = system::orders(CONTROL.as_ref()).with_context(|| {
            format!("{CONTROL} (does this kernel module have it? are you root?)")
        })?;
        let order = format!("si={}", union.si);
        match file.write_all(order.as_bytes()) {
            Ok(()) => Ok(Maintenance(file)),
            Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                Err(e).with_context(|| {
                    let target = union.mount.target.shown();
                    format!("{target}: another process maintains its pseudo-links; try again later")
                })
            }
            Err(e) => Err(e).with_context(|| format!("writing {order:?} to {CONTROL}")),
        }
    }

    /// Makes the kernel forget all pseudo-links of the union.
    fn clean(&mut self) -> Result<()> {
        self.0
            .write_all(b"clean")
            .with_context(|| format!("writing \"clean\" to {CONTROL}"))
    }
}

/// Copies up all names of the pseudo-linked files; returns how many names these were.
pub fn copy_up(union: &Union, pending: &[Pending]) -> Result<usize> {
    let inodes = inodes(pending);
    let mut names = 0;
    union.walk(&mut |object| {
        if !inodes.contains(&object.id().ino) {
            return Ok(());
        }
        // Sets the time of the last access to what it is: a reason to copy up which, unlike a change
        // of the owner or an opening for writing, leaves set-user-id bits, capabilities and times
        // alone, works for all types, and for a program that runs.
        match object.touch_unchanged() {
            Ok(()) => names += 1,
            Err(Errno::NOENT) => {}
            Err(e) => {
                return Err(e).with_context(|| format!("copying up {}", object.path().shown()));
            }
        }
        Ok(())
    })?;
    Ok(names)
}

/// Makes hard links of all pseudo-links; returns how many there were. Nothing is asked of the
/// kernel if there are none.
pub fn flush(union: &Union) -> Result<usize> {
    if pending(union)?.is_empty() {
        return Ok(0);
    }
    let mut maintenance = Maintenance::begin(union)?;
    // Again: now nobody makes new ones.
    copy_up(union, &pending(union)?)?;
    maintenance.clean()?;
    let mut count = 0;
    // And again: a copy has another number than what was noted of its original.
    for Pending { branch, entries } in &pending(union)? {
        let Some(plinks) = Dir::open(branch)?.sub(names::PLINKS.as_ref())? else {
            continue;
        };
        for (_, name) in entries {
            plinks.unlink(name)?;
            count += 1;
        }
    }
    Ok(count)
}
