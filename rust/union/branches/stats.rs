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
    }, //
};
use crate::logic::stats::Counter;
use crate::union::types::LowerDentry;
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
