// SPDX-License-Identifier: GPL-2.0

//! Attributes: stat, chmod, chown, truncate, utimes, and chattr flags.
//!
//! Who may do what is decided by the attributes of our inode, which the VFS
//! checks; the branch is changed by the mounter.

#![forbid(unsafe_code)]

use super::{
    copyup::{
        self,
        Data, //
    },
    Dentry,
    Inode, //
};
use crate::fs::{
    attr::{
        Request,
        Stat, //
    },
    path::{
        IdMap,
        PathRef, //
    }, //
};
use kernel::prelude::*;

/// stat(2).
#[inline]
pub(crate) fn getattr(inode: &Inode, stat: Stat<'_>, idmap: IdMap<'_>) -> Result {
    let stack = inode.stack()?;
    if inode.attr_moved(stack.top_inode()) {
        inode.refresh_moved()?;
    }
    if inode.is_dir() {
        return getattr_dir(inode, stat, idmap);
    }
    if stack.is_remote() {
        return getattr_remote(inode, stat, idmap);
    }
    // Blocks and the time of birth are known to the branch alone. Local file systems do not care
    // who asks.
    stat.fill_from(stack.top().path(), inode, idmap)
}

/// As [`getattr`], for a directory. Its size means nothing, and programs ask for it all the time.
#[inline(never)]
fn getattr_dir(inode: &Inode, mut stat: Stat<'_>, idmap: IdMap<'_>) -> Result {
    let stack = inode.stack()?;
    if stat.is_basic() {
        stat.fill(inode, idmap);
        stat.mark_times(stack.top_inode());
        return Ok(());
    }
    if stack.is_remote() {
        return getattr_remote(inode, stat, idmap);
    }
    stat.fill_from(stack.top().path(), inode, idmap)
}

/// As [`getattr`], for a file system that asks who wants to know.
#[inline(never)]
fn getattr_remote(inode: &Inode, stat: Stat<'_>, idmap: IdMap<'_>) -> Result {
    let top = inode.stack()?.top();
    let cred = &inode.sb().data().cred;
    cred.scope(|| stat.fill_from(top.path(), inode, idmap))
}

/// chmod(2), chown(2), truncate(2), utimensat(2).
pub(crate) fn setattr(dentry: &Dentry, mut request: Request<'_>, idmap: IdMap<'_>) -> Result {
    request.prepare(dentry, idmap)?;
    let inode = dentry.object()?;
    // What others changed before would not show after this.
    if inode.attr_moved(inode.stack()?.top_inode()) {
        inode.refresh_moved()?;
    }
    let wanted = request.size().map_or(Data::All, Data::Before);
    // The copy is made with its final size, or nearly: the branch would see no change then.
    let modified = request.size().is_some_and(|size| size != inode.size());
    copyup::promote(dentry, wanted)?;
    let stack = inode.stack()?;
    let top = stack.top();
    let access = match request.size() {
        Some(_) => Some(stack.top_inode().write_access()?),
        None => None,
    };
    let write = top.branch().want_write()?;
    let mut change = request.for_branch(inode, idmap);
    if modified {
        change = change.modified();
    }
    let result = inode
        .sb()
        .data()
        .cred
        .scope(|| change.apply(&top.branch().root.mount, top.dentry()));
    drop(write);
    drop(access);
    if request.changes_mode() {
        inode.forget_acls();
    }
    inode.refresh()?;
    result
}

/// Runs `f` on the instance whose file flags `dentry` shows; with `promote` on a writable one.
pub(crate) fn with_flags_source(
    dentry: &Dentry,
    promote: bool,
    f: &mut dyn FnMut(PathRef<'_>) -> Result,
) -> Result {
    let inode = dentry.object()?;
    if promote {
        copyup::promote(dentry, Data::All)?;
    }
    let top = inode.stack()?.top();
    let cred = &inode.sb().data().cred;
    if !promote {
        return cred.scope(|| f(top.path()));
    }
    let write = top.branch().want_write()?;
    let result = cred.scope(|| f(top.path()));
    drop(write);
    inode.refresh()?;
    result
}
