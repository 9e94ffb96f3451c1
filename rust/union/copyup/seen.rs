// SPDX-License-Identifier: GPL-2.0

//! What is counted and traced of a copy-up.

#![forbid(unsafe_code)]

use super::copy::CopyUp;
use crate::fs::base::{
    gate::OVERTAKEN,
    trace::{
        self,
        Event,
        Tracepoint, //
    }, //
};
use crate::logic::stats::Counter;
use crate::union::{
    branches::stats,
    state::events,
    types::{
        Dentry,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    }, //
};

impl CopyUp<'_> {
    /// As [`CopyUp::run`], with the mounter's credentials; counts it.
    pub(super) fn run_seen(&self, section: Section<'_>, parent: Option<&Dentry>) -> Result {
        let info = self.sb.data();
        let begin = Instant::now();
        let result = info.cred.scope(|| self.run(section, parent));
        let nanoseconds = stats::since(begin);
        let stats = info.stats();
        stats.add(Counter::CopyUps, result.is_ok().into());
        stats.add(Counter::CopyUpBytes, self.bytes.get());
        stats.add(Counter::CopyUpTime, nanoseconds);
        if trace::CopyUp::is_on() {
            self.show(trace::CopyUp::show, parent, result, nanoseconds);
        }
        result
    }

    /// A move down that began at `begin` has ended, or begins anew: counts it.
    pub(crate) fn moved_down(&self, begin: Instant<Monotonic>, result: Result) {
        let stats = self.sb.data().stats();
        stats.add(Counter::MovesDown, result.is_ok().into());
        stats.add(Counter::MoveDownBytes, self.bytes.get());
        if trace::MoveDown::is_on() && result != Err(OVERTAKEN) {
            let parent = self.dentry.parent();
            let nanoseconds = stats::since(begin);
            self.show(trace::MoveDown::show, Some(&parent), result, nanoseconds);
        }
    }

    #[cold]
    fn show(
        &self,
        tracepoint: fn(&Event<'_>),
        parent: Option<&Dentry>,
        result: Result,
        nanoseconds: u64,
    ) {
        let branch = |branch: &crate::union::branches::branch::Branch| branch.id.number().into();
        let dir = events::ino(parent);
        events::show(tracepoint, self.dentry, dir, &mut |event| {
            event.way(branch(self.source.branch()), branch(self.target));
            event.bytes(self.bytes.get());
            event.ended(result, nanoseconds);
        });
    }
}
