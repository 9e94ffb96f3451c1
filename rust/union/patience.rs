// SPDX-License-Identifier: GPL-2.0

//! How a mount and a remount wait: never for long with the gate closed, never for ever, and
//! not once they were killed.

#![forbid(unsafe_code)]

use super::{
    askers::{
        Askers,
        Changing,
        ANSWERING, //
    },
    branch::Branch,
    busy::Hindrance,
    draft::text,
    lookup::Answer,
    sb::{
        SbInfo,
        Shape, //
    },
    Dentry,
    Union, //
};
use crate::fs::{
    context::Context,
    gate::{
        Doing,
        Occupant, //
    },
    io,
    path::PrivatePath,
    section::{
        Alone,
        Attempt,
        Closed, //
    },
    task::Label, //
};
use crate::mount_error;
use kernel::{
    prelude::*,
    sync::Arc,
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
pub(crate) struct Patience<'c> {
    context: &'c Context<'c>,
    begin: Instant<Monotonic>,
    /// How often it was in vain.
    tries: u32,
    /// What was in use at the last try, that may pass.
    passing: Option<Passing>,
}

/// What a remount waits for that is in use.
struct Passing {
    /// The number of the object.
    number: u64,
    /// When it was found so first.
    begin: Instant<Monotonic>,
    /// How often it was found so.
    tries: u32,
}

/// How long a remount tries to get through.
const TRYING: Delta = Delta::from_secs(10);
/// For how long one object, and in how many tries at least, may be in use by what may pass: longer
/// than a write takes that nothing holds up.
const PASSING: Delta = Delta::from_millis(1500);
const PASSING_TRIES: u32 = 2;
/// For how long the gate is closed in vain, at first and at most, in milliseconds.
const CLOSED: i64 = 50;
const CLOSED_AT_MOST: i64 = 200;
/// How many names are asked for while the gate is closed, at first.
const NAMES: u32 = 64;

impl<'c> Patience<'c> {
    pub(crate) fn new(context: &'c Context<'c>) -> Self {
        Patience {
            context,
            begin: Instant::now(),
            tries: 0,
            passing: None,
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
    pub(super) fn closed(&self) -> Delta {
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
        let ask = move || ask().and_then(|answer| Ok(Arc::new(answer, GFP_KERNEL)?));
        self.apart(&info.askers, (), ask, || {
            let mut branches = shape.table.order.iter();
            let silent = branches.find(|branch| branch.root.dentry().is_remote());
            silent.map_or(Ok(KVec::new()), |branch| branch.shown.to_bytes())
        })?
    }

    /// Has another task do `f`, which asks a branch that may not answer, and waits for it. `silent`
    /// names the branch. `kept` goes when all that `f` gave is gone that nobody took.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the time is over, `EINTR`, `ENOMEM`.
    pub(super) fn apart<R: Clone + Send + Sync + 'static>(
        &self,
        askers: &Askers,
        kept: impl Send + 'static,
        f: impl FnOnce() -> R + Send + 'static,
        silent: impl FnOnce() -> Result<KVec<u8>>,
    ) -> Result<R> {
        match askers.ask(kept, f, |elapsed| self.has_waited(elapsed))? {
            Some(reply) => Ok(reply),
            None => Err(self.silent(&silent()?)),
        }
    }

    /// Whether the root of `branch` is opaque.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the time is over, `EINTR`, and what the branch gives.
    pub(super) fn ask_root(&self, info: &SbInfo, branch: &Branch) -> Result<bool> {
        let is_over = |elapsed| self.has_waited(elapsed);
        match info.askers.ask_root(&info.cred, branch, is_over)? {
            Some(is_opaque) => Ok(is_opaque),
            None => Err(self.silent(&branch.shown.to_bytes()?)),
        }
    }

    /// Whether a branch had its time to answer that was asked for `elapsed`: one that was asked at
    /// the very end is not to blame.
    fn has_waited(&self, elapsed: Delta) -> bool {
        self.is_over() && elapsed >= ANSWERING
    }

    /// `EBUSY`, as the branch `shown` does not answer.
    fn silent(&self, shown: &[u8]) -> Error {
        mount_error!(
            self.context,
            EBUSY,
            "busy: branch {} does not answer",
            text(shown)
        )
    }

    /// Lets nobody else change the branch with the root `root`, called `shown`, until the value is
    /// dropped.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody changes it and does not end, `EINTR`, `ENOMEM`.
    pub(super) fn change(
        &self,
        askers: &Arc<Askers>,
        root: &Arc<PrivatePath>,
        shown: &[u8],
    ) -> Result<Changing> {
        let changing = askers.change(root, |elapsed| self.has_waited(elapsed))?;
        changing.ok_or_else(|| self.silent(shown))
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

    /// Closes the gate, if `drained` when nothing is left to be done on branches.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody is in the way for too long, `EINTR`, `ENOMEM`.
    pub(super) fn close<'a>(
        &mut self,
        alone: &Alone<'a, Union>,
        drained: bool,
    ) -> Result<Closed<'a, Union>> {
        let info = alone.sb().data();
        loop {
            if drained {
                self.drain(info)?;
            }
            let who = match alone.close(self.closed())? {
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

    /// An object is in use on a branch that may not be used so any more.
    ///
    /// # Errors
    ///
    /// `EBUSY`, unless it may pass and has time left.
    pub(super) fn in_use(&mut self, hindrance: Hindrance) -> Result {
        let number = hindrance.number();
        let mut passing = match self.passing.take() {
            Some(passing) if passing.number == number => passing,
            _ => Passing {
                number,
                begin: Instant::now(),
                tries: 0,
            },
        };
        passing.tries = passing.tries.saturating_add(1);
        let is_stuck = passing.begin.elapsed() >= PASSING && passing.tries >= PASSING_TRIES;
        if !hindrance.may_pass() || is_stuck || self.is_over() {
            return Err(hindrance.error(self.context));
        }
        self.passing = Some(passing);
        // Else it is one more user of the object.
        drop(hindrance);
        self.rest()
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
