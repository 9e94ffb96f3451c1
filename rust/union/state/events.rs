// SPDX-License-Identifier: GPL-2.0

//! What tracepoints show of a union: names, remounts, names that do not hold any more.

#![forbid(unsafe_code)]

use crate::fs::{
    base::trace::{
        self,
        Event,
        Tracepoint, //
    },
    objects::{
        section::Alone,
        walk::Held, //
    }, //
};
use crate::logic::stats::Counter;
use crate::union::{
    branches::stats,
    types::{
        Dentry,
        SuperBlock,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    time::Instant, //
};

/// An event of the union `sb`.
fn event<'a>(sb: &SuperBlock) -> Event<'a> {
    Event::new(sb.data().si, sb.device())
}

/// Shows an event on the object of `dentry`, a name in the directory with the number `dir`; `set`
/// says the rest.
#[cold]
#[inline(never)]
pub(crate) fn show(
    tracepoint: fn(&Event<'_>),
    dentry: &Dentry,
    dir: u64,
    set: &mut dyn FnMut(&mut Event<'_>),
) {
    let name = dentry.name().unwrap_or_default();
    let mut event = event(dentry.sb());
    if let Some(inode) = dentry.inode() {
        event.object(inode.ino(), inode.mode());
    }
    event.name(dir, &name);
    set(&mut event);
    tracepoint(&event);
}

/// The inode number of what `dentry` leads to, 0 if it leads nowhere.
pub(crate) fn ino(dentry: Option<&Dentry>) -> u64 {
    dentry
        .and_then(|dentry| dentry.inode())
        .map_or(0, |inode| inode.ino())
}

/// Runs `change`, which remounts.
pub(crate) fn remount(
    alone: &mut Alone<'_, Union>,
    change: impl FnOnce(&mut Alone<'_, Union>) -> Result,
) -> Result {
    // CAST: There are at most some hundred.
    let branches = |alone: &Alone<'_, Union>| alone.section().table().order.len() as u32;
    let (sb, before, begin) = (alone.sb(), branches(alone), Instant::now());
    let result = change(alone);
    sb.data()
        .stats()
        .add(Counter::Remounts, result.is_ok().into());
    if trace::Remount::is_on() {
        let mut event = event(sb);
        event.way(before, branches(alone));
        event.ended(result, stats::since(begin));
        trace::Remount::show(&event);
    }
    result
}

/// The cached name `name` does not hold.
#[cold]
pub(crate) fn stale(held: &Held<'_, Union>, name: &[u8]) {
    let sb = held.dir.sb();
    sb.data().stats().count(Counter::StaleNames);
    if trace::Stale::is_on() {
        let mut event = event(sb);
        if let Some(inode) = held.inode {
            event.object(inode.ino(), inode.mode());
        }
        event.name(held.dir.ino(), name);
        trace::Stale::show(&event);
    }
}
