// SPDX-License-Identifier: GPL-2.0

//! `udba=notify`: nothing that is changed behind the union's back stays unnoticed.
//!
//! `udba=reval` compares what a name was found by ([`super::revalidate`]). That
//! misses what appears where nothing was found: a name, a whiteout or an opaque
//! mark on another branch. With `udba=notify` each instance of a cached directory is
//! watched, except on `rr` branches. When a name comes or goes in one of them, all
//! names that are cached of that directory are looked at again at their next use:
//! asked of the branches, and kept if the answer is the same.
//!
//! # Terms
//!
//! - *pulse*: counts what happened in the instances of a directory.
//! - *seen*: the pulses that a name depends on at the last look, kept in the dentry.
//!   Compared inside RCU walk.
//!
//! # Locking
//!
//! [`Watches::list`](crate::union::objects::watches::Watches::list) is a leaf lock but for the
//! locks of the notification system.

#![forbid(unsafe_code)]

use crate::fs::{
    access::notify::{
        Group,
        Pulse,
        Watch, //
    },
    objects::walk::Walk, //
};
use crate::logic::{
    branch_spec::Perm,
    options::Udba, //
};
use crate::union::{
    branches::branch::Stack,
    objects::object::InodeInfo,
    state::sb::Shape,
    types::{
        Inode,
        Section,
        Union, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Makes the watches of `inode` those of its instances. With another `udba=` it has none.
pub(crate) fn watch(section: Section<'_>, inode: &Inode) -> Result {
    if !inode.is_dir() {
        return Ok(());
    }
    let info = inode.sb().data();
    let watches = &inode.data().watches;
    if section.settings().udba != Udba::Notify {
        return Ok(());
    }
    let group = info.watchers()?;
    if watches.pulse.as_ref().is_none() {
        watches
            .pulse
            .populate(Arc::new(Pulse::new(), GFP_KERNEL_ACCOUNT)?);
    }
    let pulse = watches.pulse.as_ref().ok_or(EIO)?;
    let stack = inode.stack(section)?;
    let mut list = watches.list.lock();
    let mut ended = KVec::new();
    let mut at = 0;
    while let Some(watch) = list.get(at) {
        if stack
            .iter()
            .any(|slot| slot.inode().is_ok_and(|dir| watch.is_of(dir)))
        {
            at = at.saturating_add(1);
            continue;
        }
        ended.reserve(1, GFP_KERNEL)?;
        if let Ok(watch) = list.remove(at) {
            ended.push(watch, GFP_KERNEL)?;
        }
    }
    let result = add(group, stack, pulse, &mut list);
    drop(list);
    drop(ended);
    result
}

/// Adds what is missing.
fn add(group: &Group, stack: &Stack, pulse: &Arc<Pulse>, list: &mut KVec<Watch>) -> Result {
    for slot in stack.iter() {
        let dir = slot.inode()?;
        if slot.branch().access.perm != Perm::Rr && !list.iter().any(|watch| watch.is_of(dir)) {
            list.reserve(1, GFP_KERNEL_ACCOUNT)?;
            list.push(Watch::new(group, dir, pulse.clone())?, GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(())
}

/// As [`watch`], where it is too late for an error: what is not watched is as with `udba=reval`.
#[inline(never)]
pub(crate) fn watch_or_log(section: Section<'_>, inode: &Inode) {
    if let Err(error) = watch(section, inode) {
        warn_limited!("cannot watch inode {}: {:?}\n", inode.ino(), error);
    }
}

/// Whether cached names depend on pulses.
pub(crate) fn is_on(shape: &Shape) -> bool {
    shape.settings.udba == Udba::Notify
}

/// What a name of `dir` that leads to `inode` depends on. For a directory these are its own
/// instances, too, since an opaque mark is inside one. Both only grow, so their sum tells.
pub(super) fn pulses(dir: &InodeInfo, inode: Option<&InodeInfo>) -> u64 {
    let own = inode.map_or(0, |inode| inode.watches.count());
    dir.watches.count().wrapping_add(own)
}

/// Whether the name that is walked must be looked at again, as the pulses are not what they were at
/// the last look.
pub(crate) fn has_moved(walk: &Walk<'_, Union>) -> bool {
    let inode = walk.inode().map(|inode| inode.data());
    is_on(walk.shape()) && pulses(walk.dir().data(), inode) != walk.seen()
}
