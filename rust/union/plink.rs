// SPDX-License-Identifier: GPL-2.0

//! Pseudo-links: hard links that survive copy-up.
//!
//! When a file with several names is copied up, the copy gets one of the names,
//! and a second link in `.wh..wh.plnk` of the branch. The union's inode stays in
//! memory until unmount: whoever comes by another name, which still leads to the
//! original, gets it ([`super::inode::get`]), and so the copy.
//!
//! # Locking
//!
//! The list is a leaf lock; references are dropped after it.

#![forbid(unsafe_code)]

use super::{
    branch::Branch,
    Inode,
    LowerDentry,
    SuperBlock, //
};
use crate::fs::{
    dirop::{
        Creating,
        Removing, //
    },
    path::WriteAccess, //
};
use crate::logic::whname;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    }, //
};

/// The inodes that are kept.
#[pin_data]
pub(crate) struct Plinks {
    #[pin]
    kept: Mutex<KVVec<ARef<Inode>>>,
}

impl Plinks {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Plinks {
            kept <- new_mutex!(KVVec::new(), "ruaufs_plinks"),
        })
    }

    /// Drops all of them, at unmount.
    pub(crate) fn release(&self) {
        let kept = core::mem::replace(&mut *self.kept.lock(), KVVec::new());
        drop(kept);
    }

    /// Keeps `inode` until unmount, or until its last name is gone.
    pub(crate) fn keep(&self, inode: &Inode) -> Result {
        let mut kept = self.kept.lock();
        kept.push(inode.into(), GFP_KERNEL)?;
        inode.set_held(true);
        Ok(())
    }

    /// Keeps `inode` no longer.
    pub(crate) fn let_go(&self, inode: &Inode) {
        let mut kept = self.kept.lock();
        let found = kept.iter().position(|other| core::ptr::eq(&**other, inode));
        let old = found.and_then(|at| kept.remove(at).ok());
        inode.set_held(false);
        drop(kept);
        drop(old);
    }
}

/// Gives `copy`, on `branch`, a link in the directory of pseudo-links and keeps `inode`.
///
/// The copy has no name yet, so nobody knows it; after an error it has none in the directory of
/// pseudo-links either.
pub(crate) fn add(
    sb: &SuperBlock,
    inode: &Inode,
    branch: &Branch,
    copy: &LowerDentry,
    write: &WriteAccess<'_>,
) -> Result<ARef<LowerDentry>> {
    let lower = copy.inode().ok_or(EIO)?.ino();
    let name = whname::plink(inode.ino(), lower)?;
    let dir = branch.at(&branch.work()?.plinks);
    let keeps = !inode.is_kept();
    if keeps {
        sb.data().plinks.keep(inode)?;
    }
    let link = match Creating::new(dir, name.as_bytes(), write) {
        // The numbers were used before, by a union that is unmounted.
        Err(error) if error == EEXIST => Removing::new(dir, name.as_bytes(), write)
            .and_then(Removing::unlink)
            .and_then(|()| Creating::new(dir, name.as_bytes(), write)),
        other => other,
    }
    .and_then(|creating| creating.link(copy));
    match link {
        Ok(link) => {
            inode.set_plinked(true);
            Ok(link)
        }
        Err(error) => {
            if keeps {
                sb.data().plinks.let_go(inode);
            }
            Err(error)
        }
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
    if let Some(lower) = link.inode() {
        drop_link(inode, branch, lower.ino(), write);
    }
    inode.set_plinked(false);
    sb.data().plinks.let_go(inode);
}

/// Removes the link from the directory of pseudo-links.
fn drop_link(inode: &Inode, branch: &Branch, lower: u64, write: &WriteAccess<'_>) {
    let result = || -> Result {
        let name = whname::plink(inode.ino(), lower)?;
        let dir = branch.at(&branch.work()?.plinks);
        Removing::new(dir, name.as_bytes(), write)?.unlink()
    };
    if let Err(error) = result() {
        pr_warn!(
            "cannot remove the pseudo-link of inode {}: {:?}\n",
            inode.ino(),
            error
        );
    }
}

/// Takes the pseudo-link of `inode` away when its last name is gone.
pub(crate) fn remove(sb: &SuperBlock, inode: &Inode, branch: &Branch, write: &WriteAccess<'_>) {
    if !inode.is_plinked() {
        return;
    }
    if let Ok(stack) = inode.stack() {
        drop_link(inode, branch, stack.top_inode().ino(), write);
    }
    inode.set_plinked(false);
    sb.data().plinks.let_go(inode);
}
