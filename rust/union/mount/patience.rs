// SPDX-License-Identifier: GPL-2.0

//! How a mount and a remount wait: never for long with the gate closed, never for ever, and
//! not once they were killed.

#![forbid(unsafe_code)]

use super::busy::Hindrance;
use crate::fs::{
    base::{
        seats::{
            Doing,
            Occupant, //
        },
        task::{
            self,
            Label, //
        }, //
    },
    objects::{
        cred::Cred,
        path::PrivatePath,
        section::{
            Alone,
            Attempt,
            Closed, //
        }, //
    },
    operations::context::Context, //
};
use crate::mount_error;
use crate::union::{
    branches::{
        askers::{
            Askers,
            NoAnswer,
            Turn,
            ANSWERING,
            MOST, //
        },
        branch::Branch,
        errand::{
            self,
            Errand, //
        }, //
    },
    names::ask::Apart,
    state::sb::SbInfo,
    types::{
        text,
        Dentry,
        Union, //
    }, //
};
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

/// Gives what a branch is called.
type Shown<'a> = &'a dyn Fn() -> Result<KVec<u8>>;

/// How much may be asked while the gate is closed.
pub(crate) struct Allowance {
    names: u32,
    until: Delta,
    begin: Instant<Monotonic>,
}

impl Allowance {
    /// Takes one name of it, if any is left.
    pub(crate) fn take(&mut self) -> bool {
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

/// How a remount asks branches that may not answer: each by another task, which holds nothing of
/// the others. Those that do answer it asks itself.
pub(crate) struct Patiently<'p, 'c> {
    pub(crate) patience: &'p Patience<'c>,
    pub(crate) info: &'p SbInfo,
}

impl Apart for Patiently<'_, '_> {
    fn done(&self, branch: &Branch, errand: KBox<dyn Errand>) -> Result<KBox<dyn Errand>> {
        let shown = || branch.shown.to_bytes();
        let (askers, cred) = (&self.info.askers, &self.info.cred);
        self.patience
            .done(askers, cred, (&branch.root, &shown), errand)
    }
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
    pub(crate) fn go_on(&self) -> Result {
        if task::killed() {
            return Err(EINTR);
        }
        Ok(())
    }

    /// For how long the gate may be closed in vain this time.
    pub(crate) fn closed(&self) -> Delta {
        let more = i64::from(self.tries).saturating_mul(CLOSED / 2);
        Delta::from_millis(CLOSED.saturating_add(more).min(CLOSED_AT_MOST))
    }

    /// What may be asked while it is.
    pub(crate) fn allowance(&self) -> Allowance {
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
    pub(crate) fn again(&mut self, failed: Option<Error>) -> Result {
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

    /// Has another task do `f`, which asks the branch with the root `root`, called `shown`, and may
    /// not be answered, with the credentials `cred`. Waits for it, and gives up when the time is
    /// over.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the time is over, `EINTR`, `ENOMEM`.
    pub(crate) fn apart<R: Send + 'static>(
        &self,
        askers: &Arc<Askers>,
        cred: &Arc<Cred>,
        asked: (&Arc<PrivatePath>, Shown<'_>),
        f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
    ) -> Result<R> {
        errand::result_of(self.done(askers, cred, asked, errand::calling(f)?)?)
    }

    /// As [`Patience::apart`], for an errand, which comes back.
    fn done(
        &self,
        askers: &Arc<Askers>,
        cred: &Arc<Cred>,
        (root, shown): (&Arc<PrivatePath>, Shown<'_>),
        errand: KBox<dyn Errand>,
    ) -> Result<KBox<dyn Errand>> {
        let is_over = |elapsed| self.has_waited(elapsed);
        let answer = askers.ask(cred, root, errand, &is_over);
        answer.map_err(|why| self.unanswered(why, shown))
    }

    /// As [`Patience::apart`], for who has the `turn` to change the branch.
    pub(crate) fn apart_in_turn<R: Send + 'static>(
        &self,
        askers: &Arc<Askers>,
        turn: Turn,
        cred: &Arc<Cred>,
        (root, shown): (&Arc<PrivatePath>, Shown<'_>),
        f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
    ) -> Result<R> {
        let is_over = |elapsed| self.has_waited(elapsed);
        let answer = askers.ask_in_turn(turn, cred, root, errand::calling(f)?, &is_over);
        errand::result_of(answer.map_err(|why| self.unanswered(why, shown))?)
    }

    /// Whether the root of `branch` is opaque.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the time is over, `EINTR`, and what the branch gives.
    pub(crate) fn ask_root(
        &self,
        askers: &Arc<Askers>,
        cred: &Arc<Cred>,
        branch: &Branch,
    ) -> Result<bool> {
        let answer = askers.ask_root(cred, branch, &|elapsed| self.has_waited(elapsed));
        answer.map_err(|why| self.unanswered(why, &|| branch.shown.to_bytes()))
    }

    /// The error if there is no answer from the branch that is called `shown`.
    #[cold]
    fn unanswered(&self, why: NoAnswer, shown: Shown<'_>) -> Error {
        match why {
            NoAnswer::Silent => shown().map_or_else(|error| error, |shown| self.silent(&shown)),
            NoAnswer::Full => mount_error!(
                self.context,
                EBUSY,
                "busy: {} questions to branches have no answer, the limit for all unions",
                MOST
            ),
            NoAnswer::Error(error) => error,
        }
    }

    /// Whether a branch had its time to answer that was asked for `elapsed`: one that was asked at
    /// the very end is not to blame.
    fn has_waited(&self, elapsed: Delta) -> bool {
        self.is_over() && elapsed >= ANSWERING
    }

    /// `EBUSY`, as the branch `shown` does not answer.
    #[cold]
    fn silent(&self, shown: &[u8]) -> Error {
        mount_error!(
            self.context,
            EBUSY,
            "busy: branch {} does not answer",
            text(shown)
        )
    }

    /// Waits for the turn to change the branch with the root `root`, called `shown`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody changes it and does not end, `EINTR`, `ENOMEM`.
    pub(crate) fn change(
        &self,
        askers: &Arc<Askers>,
        root: &Arc<PrivatePath>,
        shown: &[u8],
    ) -> Result<Turn> {
        let turn = askers.change(root, &|elapsed| self.has_waited(elapsed))?;
        turn.ok_or_else(|| self.silent(shown))
    }

    /// Waits until the directories that were removed before are empty.
    pub(crate) fn drain(&self, info: &SbInfo) -> Result {
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
    pub(crate) fn close<'a>(
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
    pub(crate) fn in_use(&mut self, hindrance: Hindrance) -> Result {
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
    pub(crate) fn copying(&mut self, task: i32, name: &Dentry) -> Result {
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
