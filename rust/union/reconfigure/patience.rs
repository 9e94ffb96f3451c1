// SPDX-License-Identifier: GPL-2.0

//! How a remount waits: never for long with the gate closed, never for ever, and
//! not once it was killed.

#![forbid(unsafe_code)]

use super::super::{
    draft::text,
    lookup::Answer,
    sb::{
        SbInfo,
        Shape, //
    },
    Dentry, //
};
use crate::fs::{
    context::Context,
    gate::{
        Attempt,
        Closed,
        Doing,
        Occupant, //
    },
    io,
    task::Label, //
};
use crate::mount_error;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How much may be asked while the gate is closed.
pub(super) struct Allowance {
    names: u32,
    until: Delta,
    begin: Instant<Monotonic>,
}

impl Allowance {
    /// Takes one name of it, if any is left.
    pub(super) fn take(&mut self) -> bool {
        let left = self.names > 0 && self.begin.elapsed() < self.until;
        self.names = self.names.saturating_sub(1);
        left
    }
}

/// How long a remount tries to get through, and how hard.
pub(super) struct Patience<'c> {
    pub(super) context: &'c Context<'c>,
    begin: Instant<Monotonic>,
    /// How often it was in vain.
    tries: u32,
}

/// How long a remount tries to get through.
const TRYING: Delta = Delta::from_secs(10);
/// How long a branch has to answer, at least.
const ANSWERING: Delta = Delta::from_secs(2);
/// For how long the gate is closed in vain, at first and at most, in milliseconds.
const CLOSED: i64 = 50;
const CLOSED_AT_MOST: i64 = 200;
/// How many names are asked for while the gate is closed, at first.
const NAMES: u32 = 64;

impl<'c> Patience<'c> {
    pub(super) fn new(context: &'c Context<'c>) -> Self {
        Patience {
            context,
            begin: Instant::now(),
            tries: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.begin.elapsed() >= TRYING
    }

    /// `EINTR` if the task was killed.
    pub(super) fn go_on(&self) -> Result {
        if io::killed() {
            return Err(EINTR);
        }
        Ok(())
    }

    /// For how long the gate may be closed in vain this time.
    fn closed(&self) -> Delta {
        let more = i64::from(self.tries).saturating_mul(CLOSED / 2);
        Delta::from_millis(CLOSED.saturating_add(more).min(CLOSED_AT_MOST))
    }

    /// What may be asked while it is.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance {
            names: NAMES << self.tries.min(6),
            until: self.closed(),
            begin: Instant::now(),
        }
    }

    /// Lets everybody go on for longer than the gate was closed.
    fn rest(&mut self) -> Result {
        let pause = self.closed().as_millis().saturating_mul(2);
        self.tries = self.tries.saturating_add(1);
        for _ in 0..pause / 10 {
            self.go_on()?;
            fsleep(Delta::from_millis(10));
        }
        Ok(())
    }

    /// It was not known what to do when the gate was closed; `failed` is the error, if there was
    /// one.
    ///
    /// # Errors
    ///
    /// `EBUSY`, or that error, if the time is over.
    pub(super) fn again(&mut self, failed: Option<Error>) -> Result {
        match failed {
            Some(error) if self.tries > 1 || self.is_over() => return Err(error),
            None if self.is_over() => {
                return Err(mount_error!(
                    self.context,
                    EBUSY,
                    "busy: names change faster than the branches can be asked for them"
                ));
            }
            _ => {}
        }
        self.rest()
    }

    /// Has another task ask branches of `shape` that may not answer, and waits for it. If it takes
    /// too long, that task goes on with what it has.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the time is over, `EINTR`, and what `ask` gives.
    pub(super) fn ask(
        &self,
        info: &SbInfo,
        shape: &Shape,
        ask: impl FnOnce() -> Result<Answer> + Send + 'static,
    ) -> Result<Arc<Answer>> {
        let reply: Arc<SetOnce<Result<Arc<Answer>>>> = Arc::new(SetOnce::new(), GFP_KERNEL)?;
        let to = reply.clone();
        info.askers.run_apart(move || {
            to.populate(ask().and_then(|answer| Ok(Arc::new(answer, GFP_KERNEL)?)));
        })?;
        let begin = Instant::<Monotonic>::now();
        let mut pause = Delta::from_micros(20);
        loop {
            if let Some(reply) = reply.as_ref().as_ref() {
                return reply.clone();
            }
            self.go_on()?;
            // One that was asked at the very end is not to blame.
            if self.is_over() && begin.elapsed() >= ANSWERING {
                let mut branches = shape.table.order.iter();
                let silent = branches.find(|branch| branch.root.dentry().is_remote());
                let shown = silent.map_or(Ok(KVec::new()), |branch| branch.shown.to_bytes())?;
                return Err(mount_error!(
                    self.context,
                    EBUSY,
                    "busy: branch {} does not answer",
                    text(&shown)
                ));
            }
            fsleep(pause);
            pause = Delta::from_nanos(pause.as_nanos().saturating_mul(2));
            pause = pause.min(Delta::from_millis(2));
        }
    }

    /// Waits until the directories that were removed before are empty.
    pub(super) fn drain(&self, info: &SbInfo) -> Result {
        while !info.worker.is_idle() {
            self.go_on()?;
            if self.is_over() {
                return Err(mount_error!(
                    self.context,
                    EBUSY,
                    "busy: directories that were removed are still being emptied"
                ));
            }
            fsleep(Delta::from_millis(1));
        }
        Ok(())
    }

    /// Closes the gate of `info`, if `drained` when nothing is left to be done on branches.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody is in the way for too long, `EINTR`, `ENOMEM`.
    pub(super) fn close<'a>(&mut self, info: &'a SbInfo, drained: bool) -> Result<Closed<'a>> {
        loop {
            if drained {
                self.drain(info)?;
            }
            let who = match info.gate.close(self.closed())? {
                Attempt::Closed(closed) if !drained || info.worker.is_idle() => return Ok(closed),
                Attempt::Closed(_) => None,
                Attempt::Busy(who) => who,
            };
            if self.is_over() {
                return Err(self.busy(who));
            }
            self.rest()?;
        }
    }

    /// A copy is made to a branch that may not be written any more.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the time is over.
    pub(super) fn copying(&mut self, task: i32, name: &Dentry) -> Result {
        if !self.is_over() {
            return self.rest();
        }
        let path = name.path()?;
        Err(match Label::of(task) {
            Some(task) => mount_error!(
                self.context,
                EBUSY,
                "busy: process {} ({}) causes the file {} to be copied up",
                task.number(),
                text(task.name()),
                text(&path)
            ),
            None => mount_error!(
                self.context,
                EBUSY,
                "busy: the file {} is being copied up",
                text(&path)
            ),
        })
    }

    /// `EBUSY`, with who is in the way.
    fn busy(&self, who: Option<Occupant>) -> Error {
        let doing = who
            .and_then(|who| who.doing)
            .map_or("is inside", Doing::text);
        match who.and_then(|who| who.task) {
            Some(task) => mount_error!(
                self.context,
                EBUSY,
                "busy: process {} ({}) {} and does not get on",
                task.number(),
                text(task.name()),
                doing
            ),
            None => mount_error!(
                self.context,
                EBUSY,
                "busy: a process {} and does not get on",
                doing
            ),
        }
    }
}
