// SPDX-License-Identifier: GPL-2.0

//! Why a union is slow: what it counts, and what can be watched of its work.
//!
//! The counters are read from debugfs ([`crate::union::views::debugfs`]); [`Counter`] says what
//! each counts. An event of a tracepoint is put together only if somebody watches
//! ([`crate::fs::base::trace`]). Names, numbers and times in it are those of the moment.
//!
//! # Locking
//!
//! None, and nothing is waited for: counters belong to their CPU.

#![forbid(unsafe_code)]

use super::branch::Branch;
use crate::fs::{
    access::attr,
    base::{
        counters::Counters,
        gate::Waits,
        trace::{
            self,
            Event,
            Mark,
            Tracepoint, //
        }, //
    },
    objects::{
        dentry::Held,
        section::Alone, //
    }, //
};
use crate::logic::stats::Counter;
use crate::union::{
    Dentry,
    LowerDentry,
    SuperBlock,
    Union, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// The counters of a union.
pub(crate) struct Stats {
    counters: Counters<{ Counter::ALL.len() }>,
    /// What its gate counts.
    pub(crate) waits: Arc<Waits>,
}

impl Stats {
    /// Nothing was counted yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Stats {
            counters: Counters::new()?,
            waits: Arc::new(Waits::new(), GFP_KERNEL)?,
        })
    }

    /// Counts one more.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `more` of them.
    #[inline]
    pub(crate) fn add(&self, counter: Counter, more: u64) {
        self.counters.add(counter as usize, more);
    }

    /// What was counted.
    #[inline(never)]
    pub(crate) fn get(&self, counter: Counter) -> u64 {
        match counter {
            // Each look-up counts once.
            Counter::Lookups => [Counter::Lookups, Counter::IndexHits, Counter::IndexMisses]
                .into_iter()
                .fold(0, |sum, one| {
                    self.counters.get(one as usize).wrapping_add(sum)
                }),
            Counter::GateWaits => self.waits.count(),
            Counter::GateWaitTime => self.waits.nanoseconds(),
            _ => self.counters.get(counter as usize),
        }
    }
}

/// The nanoseconds since `begin`.
pub(crate) fn since(begin: Instant<Monotonic>) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(0)
}

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
        event.ended(result, since(begin));
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

/// What was done, with this `result`, with a mark of `name` in the directory `dir` of `branch`.
#[inline(always)]
pub(crate) fn mark(what: Mark, branch: &Branch, dir: &LowerDentry, name: &[u8], result: Result) {
    if trace::Whiteout::is_on() {
        show_mark(what, branch, dir, name, result);
    }
}

#[cold]
#[inline(never)]
fn show_mark(what: Mark, branch: &Branch, dir: &LowerDentry, name: &[u8], result: Result) {
    let device = branch.at(dir).and_then(attr::device).unwrap_or(0);
    let mut event = Event::new(branch.claim.union(), device.into());
    event.name(dir.inode().map_or(0, |dir| dir.ino()), name);
    event.way(0, branch.id.number().into());
    event.flags(what as u32);
    event.ended(result, 0);
    trace::Whiteout::show(&event);
}
