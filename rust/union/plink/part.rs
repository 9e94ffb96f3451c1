// SPDX-License-Identifier: GPL-2.0

//! Names that part: hard links without pseudo-links (`noplink`).
//!
//! When one of several names of a file is copied up, the copy belongs to that name
//! alone. The inode goes on as the copy, so who has the file open, under whatever
//! name, sees the copy. The other names are unhashed: the next walk finds the
//! original, which is another object from now on, with an inode number of its own.
//!
//! # Who uses another name at that moment
//!
//! Who changes names, or opens a file for writing, and got the name before, finds it
//! marked ([`check`]) and fails with `ESTALE`, on which the VFS walks the path again.
//! A change of attributes may come from a descriptor, which must not fail; it goes to
//! the copy.
//!
//! # Locking
//!
//! The object's lock is held: from the publication of the copy until the other names
//! are marked; while a look-up ties one of several names to the inode; and from a
//! check until what it is about is done. Only an inode of which names may have parted
//! ([`Inode::has_parted`], set before the publication) is locked to be opened.

#![forbid(unsafe_code)]

use crate::compat::errno::ESTALE;
use crate::union::{
    branches::{
        branch::Slot,
        ino::{
            Lower,
            Reserved, //
        }, //
    },
    types::{
        Dentry,
        Inode, //
    }, //
};
use kernel::prelude::*;

/// What is remembered with a name that parted, a word of the machine: no look-up counts so far.
// CAST: It is not wider.
const PARTED: u64 = usize::MAX as u64;

/// Whether a copy of `source`, which `inode` stands for, belongs to one name only.
pub(crate) fn parts(inode: &Inode, source: &Slot) -> Result<bool> {
    Ok(!inode.is_dir() && !inode.is_plinked() && source.inode()?.nlink() > 1)
}

/// `inode`, which stood for `original`, is the copy of the name `own` now.
pub(crate) fn part(inode: &Inode, own: &Dentry, original: Lower, number: Reserved) {
    let ino = &inode.sb().data().ino;
    ino.retire(number, original);
    while let Some(name) = inode.other_name(own) {
        name.set_seen(PARTED);
        name.unhash();
    }
}

/// As [`check`], for `name` of `inode`, which has its copy: no name parts from it any more.
pub(crate) fn check_copied(inode: &Inode, name: &Dentry) -> Result {
    if !inode.has_parted() {
        return Ok(());
    }
    let lock = inode.promotion_lock();
    let result = check(name);
    drop(lock);
    result
}

/// `ESTALE` if `name` leads to another object by now. The object's lock is held.
pub(crate) fn check(name: &Dentry) -> Result {
    if name.is_unhashed() && name.seen() == PARTED {
        Err(ESTALE.into())
    } else {
        Ok(())
    }
}
