// SPDX-License-Identifier: GPL-2.0

//! Work on branches that may not answer, or only when somebody thaws them: another task does it,
//! and whoever needs it waits for a limited time.
//!
//! # Terms
//!
//! - *question*: a piece of such work on one branch, whether it looks or changes something.
//! - *given up*: of a question, that nobody waits for it any more. It goes on by itself, ends when
//!   the branch answers, and takes back what it made.
//! - *turn*: the right to change the bookkeeping objects at the root of a branch.
//!
//! # What a question holds
//!
//! The private mount of the one branch that it is for, and what of it is asked for. One that only
//! looks holds no claim, and nothing of another branch: the union may be unmounted meanwhile, and
//! the branch removed from it and used elsewhere. One that changes something holds the claim of
//! that branch, too, which is in use until then.
//!
//! # Bounds
//!
//! A branch with a question that was given up is not asked anew before that has its answer, a
//! change is begun in its turn only, and there are [`MOST`] questions at most: so neither many
//! attempts nor many unions leave others without a thread that asks for them. What tidies up after
//! a use of a branch ([`Askers::tidy`]) counts, but is never refused.
//!
//! # Turns
//!
//! Turns to change a branch are given in the order in which they were asked for. So work that was
//! left to a thread never meets a later use of the branch, and what comes later finds its result.
//!
//! # Locking
//!
//! [`Askers::all`] and the mutex of a [`Reply`] are leaves. Nothing is dropped under them.

#![forbid(unsafe_code)]

use super::branch::Branch;
use crate::fs::{
    access::dirop,
    base::{
        task,
        worker::Worker, //
    },
    objects::{
        cred::Cred,
        path::{
            Path,
            PrivatePath, //
        }, //
    }, //
};
use crate::logic::whname;
use core::mem;
use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        CondVar,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long a branch has to answer, at least.
pub(crate) const ANSWERING: Delta = Delta::from_secs(2);

/// How many questions there are at a time.
pub(crate) const MOST: usize = 512;

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The branch gives none.
    Silent,
    /// There are [`MOST`] questions without one already.
    Full,
    /// It could not be asked, or not be waited for.
    Error(Error),
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        NoAnswer::Error(error)
    }
}

impl From<kernel::alloc::AllocError> for NoAnswer {
    fn from(error: kernel::alloc::AllocError) -> Self {
        NoAnswer::Error(error.into())
    }
}

/// What a question is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It looks.
    Look,
    /// It changes something. Who asks has the turn, so that there is one at a time.
    Change,
    /// It waits for its turn by itself, and must be asked.
    Tidy,
}

/// A question that has no answer yet.
struct Asked {
    number: u64,
    root: Arc<PrivatePath>,
    given_up: bool,
}

/// Who wants to change a branch.
struct Waiting {
    number: u64,
    root: Arc<PrivatePath>,
}

/// All that is under way. There is little of it.
struct Table {
    asked: KVec<Asked>,
    /// Turns, in their order.
    turns: KVec<Waiting>,
    /// The number of the next question or turn.
    next: u64,
}

impl Table {
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// Why no further question of `kind` may be asked of the branch with the root `root`.
    fn hindrance(&self, kind: Kind, root: &Path) -> Option<NoAnswer> {
        let mut asked = self.asked.iter();
        let is_silent = |other: &Asked| other.given_up && other.root.dentry().is(root.dentry());
        match kind {
            Kind::Look if asked.any(is_silent) => Some(NoAnswer::Silent),
            Kind::Look | Kind::Change if self.asked.len() >= MOST => Some(NoAnswer::Full),
            _ => None,
        }
    }

    /// Whether it is the turn `number` to change the branch with the root `root`.
    fn is_turn(&self, number: u64, root: &Path) -> bool {
        let mut turns = self.turns.iter();
        let first = turns.find(|other| other.root.dentry().is(root.dentry()));
        first.is_some_and(|first| first.number == number)
    }
}

/// Asks branches that may not answer.
#[pin_data]
pub(crate) struct Askers {
    worker: Worker,
    #[pin]
    all: Mutex<Table>,
    /// A turn ended.
    #[pin]
    ended: CondVar,
}

/// What became of a question.
enum Reply<R> {
    /// It has no answer yet.
    Awaited,
    /// It has this one.
    Given(R),
    /// Nobody wants it any more, or has it.
    GivenUp,
}

// The answer itself is never pinned.
impl<R> Unpin for Reply<R> {}

impl Askers {
    /// Nothing is asked yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let table = Table {
            asked: KVec::new(),
            turns: KVec::new(),
            next: 0,
        };
        Arc::pin_init(
            try_pin_init!(Askers {
                // All that are there are at work: none waits for another one.
                worker: Worker::new(2 * MOST as c_int)?,
                all <- new_mutex!(table, "ruaufs_askers"),
                ended <- new_condvar!("ruaufs_turns"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Has another task do `f`, with the credentials `cred`, on the branch with the root `root`,
    /// and waits until that is done or `is_over`, which is told how long it takes already. What `f`
    /// gives when nobody waits any more is dropped by that task: it may wait there.
    pub(crate) fn ask<R: Send + 'static>(
        self: &Arc<Self>,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<R, NoAnswer> {
        let question = self.open_in_time(Kind::Look, root, &is_over)?;
        self.put(question, (), cred, root, f, is_over)
    }

    /// As [`Askers::ask`], for who has the turn to change the branch. That ends when `f` is done,
    /// and what it gave is dropped or handed over.
    pub(crate) fn ask_in_turn<R: Send + 'static>(
        self: &Arc<Self>,
        turn: Turn,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<R, NoAnswer> {
        let question = self.open_in_time(Kind::Change, root, &is_over)?;
        self.put(question, turn, cred, root, f, is_over)
    }

    /// Opens a question as soon as it may be asked, unless that `is_over`.
    fn open_in_time(
        self: &Arc<Self>,
        kind: Kind,
        root: &Arc<PrivatePath>,
        is_over: &impl Fn(Delta) -> bool,
    ) -> Result<Question, NoAnswer> {
        let mut hindrance = NoAnswer::Silent;
        let question = wait(is_over, || match self.open(kind, root)? {
            Ok(question) => Ok(Some(question)),
            Err(why) => {
                hindrance = why;
                Ok(None)
            }
        })?;
        question.ok_or(hindrance)
    }

    /// Opens a question for the branch with the root `root`, if that may be asked.
    fn open(
        self: &Arc<Self>,
        kind: Kind,
        root: &Arc<PrivatePath>,
    ) -> Result<Result<Question, NoAnswer>> {
        let mut all = self.all.lock();
        if let Some(why) = all.hindrance(kind, root) {
            return Ok(Err(why));
        }
        let number = all.number();
        let asked = Asked {
            number,
            root: root.clone(),
            given_up: false,
        };
        all.asked.push(asked, GFP_KERNEL)?;
        Ok(Ok(Question {
            askers: self.clone(),
            number,
        }))
    }

    /// Puts `question`, as [`Askers::ask`] does. `kept` goes when `f` is done, after what that gave
    /// if nobody wants it.
    fn put<R: Send + 'static>(
        &self,
        question: Question,
        kept: impl Send + 'static,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<R, NoAnswer> {
        let number = question.number;
        let reply = Arc::pin_init(new_mutex!(Reply::Awaited, "ruaufs_reply"), GFP_KERNEL)?;
        let (cred, root) = (cred.clone(), root.clone());
        let mut work = Some((f, reply.clone(), kept, question));
        let work = move || {
            if let Some((f, to, kept, question)) = work.take() {
                let unwanted = give(&to, cred.scope(|| f(&root)));
                // Before the mount that it is of.
                drop(unwanted);
                drop((to, kept, question));
            }
        };
        self.begin(KBox::new(work, GFP_KERNEL)?)?;
        let answer = wait(&is_over, || Ok(take(&reply, Reply::Awaited)));
        // One that comes at the last moment is taken, too.
        match (answer, take(&reply, Reply::GivenUp)) {
            (Ok(Some(answer)), _) | (_, Some(answer)) => Ok(answer),
            (answer, None) => {
                self.give_up(number);
                Err(answer.err().map_or(NoAnswer::Silent, NoAnswer::Error))
            }
        }
    }

    /// Nobody waits for the question `number` any more.
    fn give_up(&self, number: u64) {
        let mut all = self.all.lock();
        let mut asked = all.asked.iter_mut();
        if let Some(asked) = asked.find(|asked| asked.number == number) {
            asked.given_up = true;
        }
    }

    /// Asks whether the root of `branch` is opaque, with the credentials `cred`; waits until
    /// `is_over` if the branch may not answer.
    pub(crate) fn ask_root(
        self: &Arc<Self>,
        cred: &Arc<Cred>,
        branch: &Branch,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<bool, NoAnswer> {
        if !branch.access.honours_whiteouts() {
            return Ok(false);
        }
        let ask = |root: &PrivatePath| -> Result<bool> {
            Ok(dirop::lookup_positive(root.dentry().dir()?, whname::OPAQUE)?.is_some())
        };
        if branch.root.dentry().is_remote() {
            Ok(self.ask(cred, &branch.root, ask, is_over)??)
        } else {
            Ok(cred.scope(|| ask(&branch.root))?)
        }
    }

    /// The one place where work is begun: its type has no long name.
    fn begin(&self, mut work: KBox<dyn FnMut() + Send>) -> Result {
        #[expect(clippy::redundant_closure, reason = "a `KBox` is no function")]
        self.worker.run_apart(move || work())
    }

    /// Waits for the turn to change the branch with the root `root`, until `is_over`; `None` if it
    /// does not come.
    pub(crate) fn change(
        self: &Arc<Self>,
        root: &Arc<PrivatePath>,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<Option<Turn>> {
        let turn = self.line_up(root)?;
        let come = wait(&is_over, || Ok(turn.has_come().then_some(())))?;
        Ok(come.map(|()| turn))
    }

    /// Gets into the line of those that want to change the branch with the root `root`.
    fn line_up(self: &Arc<Self>, root: &Arc<PrivatePath>) -> Result<Turn> {
        let mut all = self.all.lock();
        let number = all.number();
        let root = root.clone();
        all.turns.push(Waiting { number, root }, GFP_KERNEL)?;
        Ok(Turn {
            askers: self.clone(),
            number,
        })
    }

    /// Whether somebody changes the branch with the root `root`, or wants to: maybe somebody whom
    /// nobody waits for any more.
    pub(crate) fn is_changed(&self, root: &Path) -> bool {
        let all = self.all.lock();
        let mut turns = all.turns.iter();
        turns.any(|other| other.root.dentry().is(root.dentry()))
    }

    /// Has another task do `f`, which tidies the branch with the root `root` up, with the
    /// credentials `cred`, when nobody else changes the branch. It goes on after this call if the
    /// branch does not answer or is frozen.
    ///
    /// # Errors
    ///
    /// Why `f` was dropped instead.
    pub(crate) fn tidy(
        self: &Arc<Self>,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        f: impl FnOnce(&PrivatePath) + Send + 'static,
    ) -> Result {
        let turn = self.line_up(root)?;
        let Ok(question) = self.open(Kind::Tidy, root)? else {
            return Err(EIO);
        };
        let tidy = move |root: &PrivatePath| {
            turn.wait();
            f(root);
            drop(turn);
        };
        let is_over = |elapsed| elapsed >= ANSWERING && may_be_silent(root);
        match self.put(question, (), cred, root, tidy, is_over) {
            // It goes on. Who is killed does not wait.
            Ok(()) | Err(NoAnswer::Silent | NoAnswer::Full) => Ok(()),
            Err(NoAnswer::Error(error)) if error == EINTR => Ok(()),
            Err(NoAnswer::Error(error)) => Err(error),
        }
    }
}

/// Whether a change of the branch with the root `root` may have to wait for somebody now.
fn may_be_silent(root: &Path) -> bool {
    root.dentry().is_remote() || matches!(root.mount().try_write(), Ok(None))
}

/// Gives `answer`; it comes back if nobody wants it.
fn give<R>(reply: &Mutex<Reply<R>>, answer: R) -> Option<R> {
    let mut reply = reply.lock();
    match *reply {
        Reply::Awaited => {
            *reply = Reply::Given(answer);
            None
        }
        _ => Some(answer),
    }
}

/// Takes the answer, if it is there; leaves `rest` if it is not.
fn take<R>(reply: &Mutex<Reply<R>>, rest: Reply<R>) -> Option<R> {
    let mut reply = reply.lock();
    match mem::replace(&mut *reply, Reply::GivenUp) {
        Reply::Given(answer) => Some(answer),
        _ => {
            *reply = rest;
            None
        }
    }
}

/// Waits until `f` gives something, or until `is_over`, which is told how long it takes already.
///
/// # Errors
///
/// `EINTR` if the task was killed, those of `f`.
fn wait<R>(
    is_over: &impl Fn(Delta) -> bool,
    mut f: impl FnMut() -> Result<Option<R>>,
) -> Result<Option<R>> {
    let begin = Instant::<Monotonic>::now();
    let mut pause = Delta::from_micros(20);
    loop {
        if let Some(found) = f()? {
            return Ok(Some(found));
        }
        if task::killed() {
            return Err(EINTR);
        }
        if is_over(begin.elapsed()) {
            return Ok(None);
        }
        fsleep(pause);
        let longer = Delta::from_nanos(pause.as_nanos().saturating_mul(2));
        pause = longer.min(Delta::from_millis(2));
    }
}

/// A question that is open.
struct Question {
    askers: Arc<Askers>,
    number: u64,
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut all = self.askers.all.lock();
        let number = self.number;
        let at = all.asked.iter().position(|other| other.number == number);
        let own = at.map(|at| all.asked.remove(at));
        drop(all);
        drop(own);
    }
}

/// A turn to change a branch, or a place in the line for one.
pub(crate) struct Turn {
    askers: Arc<Askers>,
    number: u64,
}

impl Turn {
    /// Whether it has come.
    fn has_come(&self) -> bool {
        let all = self.askers.all.lock();
        let mut turns = all.turns.iter();
        let own = turns.find(|other| other.number == self.number);
        own.is_some_and(|own| all.is_turn(own.number, &own.root))
    }

    /// Waits for it, in a kernel thread, which gets no signals.
    fn wait(&self) {
        let mut all = self.askers.all.lock();
        loop {
            let mut turns = all.turns.iter();
            let own = turns.find(|other| other.number == self.number);
            if own.is_none_or(|own| all.is_turn(own.number, &own.root)) {
                return;
            }
            let _ = self.askers.ended.wait_interruptible(&mut all);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.askers.all.lock();
        let number = self.number;
        let at = all.turns.iter().position(|other| other.number == number);
        let own = at.map(|at| all.turns.remove(at));
        drop(all);
        self.askers.ended.notify_all();
        drop(own);
    }
}
