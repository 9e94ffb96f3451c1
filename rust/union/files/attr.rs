// SPDX-License-Identifier: GPL-2.0

//! Attributes: stat, chmod, chown, truncate, utimes, and chattr flags.
//!
//! Who may do what is decided by the attributes of our inode, which the VFS
//! checks; the branch is changed by the mounter.
//!
//! What an object on a branch that is not written has already is not set: a copy, made
//! for a change time, would be no change but for its cost.

#![forbid(unsafe_code)]

use crate::fs::{
    access::attr::{
        Request,
        Stat, //
    },
    base::seats::Doing,
    objects::path::{
        IdMap,
        PathRef,
        Writable, //
    }, //
};
use crate::union::{
    copyup::{
        data::{
            Data,
            Resize, //
        },
        promote, //
    },
    types::{
        Dentry,
        Inode,
        Section, //
    }, //
};
use kernel::prelude::*;

/// stat(2) of what is no directory: the instance to ask, if all that it says is shown.
#[inline]
pub(crate) fn plain_source<'a>(
    section: Section<'a>,
    inode: &'a Inode,
) -> Result<Option<PathRef<'a>>> {
    let stack = inode.noticed(section)?;
    if !stack.is_plain() || inode.data().veil.is_set() {
        return Ok(None);
    }
    // As `Slot::path()`, without a call.
    let top = stack.top();
    PathRef::new(top.branch().root.mount(), top.dentry()).map(Some)
}

/// stat(2).
pub(crate) fn getattr(
    section: Section<'_>,
    inode: &Inode,
    mut stat: Stat<'_>,
    idmap: IdMap<'_>,
) -> Result {
    let stack = inode.noticed(section)?;
    if inode.is_dir() {
        inode.show_links(section)?;
    }
    // The size of a directory means nothing, and programs ask for the rest all the time.
    if inode.is_dir() && stat.is_basic() {
        stat.fill(inode, idmap);
        stat.mark_times(stack.top_inode());
    } else {
        // Blocks and the time of birth are known to the branch alone. Local file systems do not
        // care who asks.
        let mut fill = || stat.fill_from(stack.top().path()?, inode, idmap);
        if stack.is_remote() {
            let _sitting = inode.sb().sit(Doing::Look);
            inode.sb().data().cred.scope(fill)?;
        } else {
            fill()?;
        }
    }
    let veil = &inode.data().veil;
    if veil.is_set() {
        stat.show_change_time(|real| veil.over(real));
    }
    Ok(())
}

/// chmod(2), chown(2), truncate(2), utimensat(2).
pub(crate) fn setattr(
    section: Section<'_>,
    dentry: &Dentry,
    mut request: Request<'_>,
    idmap: IdMap<'_>,
) -> Result {
    request.prepare(dentry, idmap)?;
    let inode = dentry.object()?;
    let stack = inode.noticed(section)?;
    if !stack.writable() && !request.changes(inode, stack.top_inode(), idmap) {
        return Ok(());
    }
    let noticed = match inode.is_dir() {
        true => Some(inode.notice_others(section)?),
        false => None,
    };
    let mut change = request.for_branch(inode, idmap);
    match request.size() {
        Some(size) => {
            // The copy is made with its final size, or nearly: the branch would see no change then.
            if size != inode.size() {
                change = change.modified();
            }
            let resize = Resize::new(size, change.clone());
            promote::promote(section, dentry, Data::Resized(&resize))?;
            if resize.is_made() {
                return settle(section, &request, inode);
            }
        }
        None => promote::promote(section, dentry, Data::All)?,
    }
    let access = match request.size() {
        Some(_) => Some(inode.stack(section)?.top_inode().write_access()?),
        None => None,
    };
    let result = inode.change_top(section, |top, write| change.apply(write.to(top.path()?)?));
    drop(access);
    if let Some(noticed) = noticed {
        // The modification time may be another one.
        inode.counts_anew(section, inode.stack(section)?.top().branch().id, noticed)?;
    }
    settle(section, &request, inode)?;
    result
}

/// Our inode shows what was changed.
fn settle(section: Section<'_>, request: &Request<'_>, inode: &Inode) -> Result {
    if request.changes_mode() {
        inode.forget_acls();
    }
    inode.refresh(section)
}

/// Runs `f` on the instance whose file flags `dentry` shows.
pub(crate) fn show_flags(
    section: Section<'_>,
    dentry: &Dentry,
    f: &mut dyn FnMut(PathRef<'_>) -> Result,
) -> Result {
    let inode = dentry.object()?;
    let cred = &inode.sb().data().cred;
    cred.scope(|| f(inode.stack(section)?.top().path()?))
}

/// Runs `f`, which changes file flags of `dentry`, on a writable instance. `has` says whether one
/// has those flags already.
pub(crate) fn change_flags(
    section: Section<'_>,
    dentry: &Dentry,
    has: &mut dyn FnMut(PathRef<'_>) -> bool,
    f: &mut dyn FnMut(Writable<'_>) -> Result,
) -> Result {
    let inode = dentry.object()?;
    let cred = &inode.sb().data().cred;
    let stack = inode.noticed(section)?;
    let top = stack.top().path()?;
    if !stack.writable() && cred.scope(|| has(top)) {
        return Ok(());
    }
    promote::promote(section, dentry, Data::All)?;
    let result = inode.change_top(section, |top, write| f(write.to(top.path()?)?));
    inode.refresh(section)?;
    result
}
