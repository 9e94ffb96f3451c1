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
//! attempts nor many unions leave others without a thread that asks for them.
//!
//! What tidies up after a use of a branch ([`Askers::tidy`]) is never refused, so there may be any
//! number of it, all waiting for one file system to be thawed or to answer. It is done in *lines*,
//! one for each file system, and a line has one thread. These threads are none of those that ask,
//! and those of local file systems, which only their owner can freeze, are none of the others,
//! which any user may have.
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

use super::{
    branch::Branch,
    errand::{
        self,
        Errand, //
    },
    whiteout, //
};
use crate::fs::{
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
use crate::logic::reply::Reply;
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

/// How many lines have a thread at a time: as many as a work queue allows.
const LINES: c_int = 2048;

/// Tells whether to wait no longer, from how long it takes already.
type IsOver<'a> = &'a dyn Fn(Delta) -> bool;

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
    kind: Kind,
    root: Arc<PrivatePath>,
    given_up: bool,
}

/// Who wants to change a branch.
struct Waiting {
    number: u64,
    root: Arc<PrivatePath>,
}

/// What is to be done for a question.
struct Job {
    errand: KBox<dyn Errand>,
    to: Arc<Mutex<Reply<KBox<dyn Errand>>>>,
    question: Question,
    turn: Option<Turn>,
    cred: Arc<Cred>,
    root: Arc<PrivatePath>,
}

impl Job {
    /// Does it. The turn ends afterwards, after what was made if nobody wants that.
    fn run(self) {
        let Job {
            mut errand,
            to,
            question,
            turn,
            cred,
            root,
        } = self;
        cred.scope(|| errand.run(&root));
        let unwanted = to.lock().give(errand);
        // Before the mount that it is of.
        drop(unwanted);
        drop((turn, question));
    }

    /// As [`Job::run`], in its turn, which ends before anybody is told.
    fn run_in_turn(mut self) {
        let turn = self.turn.take();
        if let Some(turn) = &turn {
            turn.wait();
        }
        let root = self.root.clone();
        self.cred.scope(|| self.errand.run(&root));
        drop(turn);
        let unwanted = self.to.lock().give(self.errand);
        drop(unwanted);
    }
}

/// What is to be tidied up on one file system, one branch after the other.
struct Line {
    number: u64,
    /// The device of the file system.
    device: (u32, u32),
    waiting: KVec<Job>,
}

/// All that is under way. There is little of it.
struct Table {
    asked: KVec<Asked>,
    /// Turns, in their order.
    turns: KVec<Waiting>,
    lines: KVec<Line>,
    /// The number of the next question, turn or line.
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
        let counts = |other: &&Asked| other.kind != Kind::Tidy;
        match kind {
            Kind::Look if asked.any(is_silent) => Some(NoAnswer::Silent),
            Kind::Look | Kind::Change if self.asked.iter().filter(counts).count() >= MOST => {
                Some(NoAnswer::Full)
            }
            _ => None,
        }
    }

    /// Opens a question of `askers` for the branch with the root `root`.
    fn open(
        &mut self,
        askers: &Arc<Askers>,
        kind: Kind,
        root: &Arc<PrivatePath>,
    ) -> Result<Question> {
        let number = self.number();
        let asked = Asked {
            number,
            kind,
            root: root.clone(),
            given_up: false,
        };
        self.asked.push(asked, GFP_KERNEL)?;
        Ok(Question {
            askers: askers.clone(),
            number,
        })
    }

    /// Gets into the line of those that want to change the branch with the root `root`.
    fn line_up(&mut self, askers: &Arc<Askers>, root: &Arc<PrivatePath>) -> Result<Turn> {
        let number = self.number();
        let root = root.clone();
        self.turns.push(Waiting { number, root }, GFP_KERNEL)?;
        Ok(Turn {
            askers: askers.clone(),
            number,
        })
    }

    /// Whether it is the turn `number` to change the branch with the root `root`.
    fn is_turn(&self, number: u64, root: &Path) -> bool {
        let mut turns = self.turns.iter();
        let first = turns.find(|other| other.root.dentry().is(root.dentry()));
        first.is_some_and(|first| first.number == number)
    }

    /// Returns the line for the file system of the branch with the root `root`, which has room for
    /// one more. A new one has a thread, which looks at it after `Askers::all` was unlocked.
    fn line(&mut self, askers: &Arc<Askers>, root: &Arc<PrivatePath>) -> Result<&mut Line> {
        let device = root.mount().device();
        let mut lines = self.lines.iter();
        let at = match lines.position(|line| line.device == device) {
            Some(at) => at,
            None => self.new_line(askers, device, root.dentry().is_remote())?,
        };
        let line = self.lines.get_mut(at).ok_or(EIO)?;
        line.waiting.reserve(1, GFP_KERNEL)?;
        Ok(line)
    }

    fn new_line(
        &mut self,
        askers: &Arc<Askers>,
        device: (u32, u32),
        remote: bool,
    ) -> Result<usize> {
        let line = Line {
            number: self.number(),
            device,
            waiting: KVec::with_capacity(1, GFP_KERNEL)?,
        };
        self.lines.reserve(1, GFP_KERNEL)?;
        let worker = match remote {
            true => &askers.remote,
            false => &askers.local,
        };
        let (own, number) = (askers.clone(), line.number);
        worker.run_apart(move || own.work_off(number))?;
        let at = self.lines.len();
        self.lines.push(line, GFP_KERNEL)?;
        Ok(at)
    }
}

/// Asks branches that may not answer.
#[pin_data]
pub(crate) struct Askers {
    worker: Worker,
    /// The threads of lines for local file systems.
    local: Worker,
    /// Those of the other lines.
    remote: Worker,
    #[pin]
    all: Mutex<Table>,
    /// A turn ended.
    #[pin]
    ended: CondVar,
}

impl Askers {
    /// Nothing is asked yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let table = Table {
            asked: KVec::new(),
            turns: KVec::new(),
            lines: KVec::new(),
            next: 0,
        };
        Arc::pin_init(
            try_pin_init!(Askers {
                // All that are there are at work: none waits for another one.
                worker: Worker::new(MOST as c_int)?,
                local: Worker::new(LINES)?,
                remote: Worker::new(LINES)?,
                all <- new_mutex!(table, "ruaufs_askers"),
                ended <- new_condvar!("ruaufs_turns"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Has another task do `errand`, with the credentials `cred`, on the branch with the root
    /// `root`, and waits until that is done or `is_over`. What it gives when nobody waits any more
    /// is dropped by that task: it may wait there.
    pub(crate) fn ask(
        self: &Arc<Self>,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        errand: KBox<dyn Errand>,
        is_over: IsOver<'_>,
    ) -> Result<KBox<dyn Errand>, NoAnswer> {
        let question = self.open_in_time(Kind::Look, root, is_over)?;
        self.put(question, None, cred, root, errand, is_over)
    }

    /// As [`Askers::ask`], for who has the turn to change the branch. That ends when the errand is
    /// done, and what it gave is dropped or handed over.
    pub(crate) fn ask_in_turn(
        self: &Arc<Self>,
        turn: Turn,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        errand: KBox<dyn Errand>,
        is_over: IsOver<'_>,
    ) -> Result<KBox<dyn Errand>, NoAnswer> {
        let question = self.open_in_time(Kind::Change, root, is_over)?;
        self.put(question, Some(turn), cred, root, errand, is_over)
    }

    /// Opens a question as soon as it may be asked, unless that `is_over`.
    fn open_in_time(
        self: &Arc<Self>,
        kind: Kind,
        root: &Arc<PrivatePath>,
        is_over: IsOver<'_>,
    ) -> Result<Question, NoAnswer> {
        let mut question = Err(NoAnswer::Silent);
        wait(is_over, &mut || {
            let mut all = self.all.lock();
            question = match all.hindrance(kind, root) {
                Some(why) => Err(why),
                None => Ok(all.open(self, kind, root)?),
            };
            Ok(question.is_ok())
        })?;
        question
    }

    /// Puts `question`, as [`Askers::ask`] does.
    fn put(
        &self,
        question: Question,
        turn: Option<Turn>,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        errand: KBox<dyn Errand>,
        is_over: IsOver<'_>,
    ) -> Result<KBox<dyn Errand>, NoAnswer> {
        let number = question.number;
        let reply = Arc::pin_init(new_mutex!(Reply::Awaited, "ruaufs_reply"), GFP_KERNEL)?;
        let job = Job {
            errand,
            to: reply.clone(),
            question,
            turn,
            cred: cred.clone(),
            root: root.clone(),
        };
        self.worker.run_apart(move || job.run())?;
        self.answer(number, &reply, is_over)
    }

    /// Waits for the answer to the question `number` until `is_over`. One that comes at the last
    /// moment is taken, too.
    fn answer(
        &self,
        number: u64,
        reply: &Mutex<Reply<KBox<dyn Errand>>>,
        is_over: IsOver<'_>,
    ) -> Result<KBox<dyn Errand>, NoAnswer> {
        let mut answer = None;
        let waited = wait(is_over, &mut || {
            answer = reply.lock().take();
            Ok(answer.is_some())
        });
        if let Some(answer) = answer.or_else(|| reply.lock().give_up()) {
            return Ok(answer);
        }
        self.give_up(number);
        Err(waited.err().map_or(NoAnswer::Silent, NoAnswer::Error))
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
        is_over: IsOver<'_>,
    ) -> Result<bool, NoAnswer> {
        if !branch.access.honours_whiteouts() {
            return Ok(false);
        }
        let ask = |root: &PrivatePath| -> Result<bool> { whiteout::is_opaque(&**root.dentry()) };
        if branch.root.dentry().is_remote() {
            let done = self.ask(cred, &branch.root, errand::calling(ask)?, is_over)?;
            Ok(errand::result_of::<Result<bool>>(done)??)
        } else {
            Ok(cred.scope(|| ask(&branch.root))?)
        }
    }

    /// Waits for the turn to change the branch with the root `root`, until `is_over`; `None` if it
    /// does not come.
    pub(crate) fn change(
        self: &Arc<Self>,
        root: &Arc<PrivatePath>,
        is_over: IsOver<'_>,
    ) -> Result<Option<Turn>> {
        let turn = self.all.lock().line_up(self, root)?;
        let come = wait(is_over, &mut || Ok(turn.has_come()))?;
        Ok(come.then_some(turn))
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
        self.tidy_by(cred, root, errand::calling(f)?)
    }

    /// As [`Askers::tidy`], by `errand`.
    fn tidy_by(
        self: &Arc<Self>,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        errand: KBox<dyn Errand>,
    ) -> Result {
        let reply = Arc::pin_init(new_mutex!(Reply::Awaited, "ruaufs_reply"), GFP_KERNEL)?;
        let number = self.join_line(cred, root, errand, &reply)?;
        let is_over = |elapsed| elapsed >= ANSWERING && may_be_silent(root);
        match self.answer(number, &reply, &is_over) {
            // It goes on. Who is killed does not wait.
            Ok(_) | Err(NoAnswer::Silent | NoAnswer::Full) => Ok(()),
            Err(NoAnswer::Error(error)) if error == EINTR => Ok(()),
            Err(NoAnswer::Error(error)) => Err(error),
        }
    }

    /// Puts `errand`, which tidies the branch with the root `root` up, at the end of the line for
    /// its file system. Returns the number of the question.
    fn join_line(
        self: &Arc<Self>,
        cred: &Arc<Cred>,
        root: &Arc<PrivatePath>,
        errand: KBox<dyn Errand>,
        reply: &Arc<Mutex<Reply<KBox<dyn Errand>>>>,
    ) -> Result<u64> {
        // Dropped after the lock if something fails.
        let (question, turn, unplaced);
        // Turns are in the order of the line: nobody waits in it for who comes later.
        let mut all = self.all.lock();
        turn = all.line_up(self, root)?;
        question = all.open(self, Kind::Tidy, root)?;
        let number = question.number;
        let line = all.line(self, root)?;
        let job = Job {
            errand,
            to: reply.clone(),
            question,
            turn: Some(turn),
            cred: cred.clone(),
            root: root.clone(),
        };
        unplaced = line.waiting.push_within_capacity(job);
        drop(all);
        unplaced.map_err(|_| ENOMEM)?;
        Ok(number)
    }

    /// Does what waits in the line `number`, in a kernel thread.
    fn work_off(&self, number: u64) {
        while let Some(job) = self.next_job(number) {
            job.run_in_turn();
        }
    }

    /// Takes the next job out of the line `number`; ends the line if there is none.
    fn next_job(&self, number: u64) -> Option<Job> {
        // Dropped after the lock.
        let _ended;
        let mut all = self.all.lock();
        let at = all.lines.iter().position(|line| line.number == number)?;
        let line = all.lines.get_mut(at)?;
        let job = line.waiting.remove(0).ok();
        if job.is_none() {
            _ended = all.lines.remove(at);
        }
        drop(all);
        job
    }
}

/// Whether a change of the branch with the root `root` may have to wait for somebody now.
fn may_be_silent(root: &Path) -> bool {
    root.dentry().is_remote() || matches!(root.mount().try_write(), Ok(None))
}

/// Waits until `f` gives true, or until `is_over`; tells which.
///
/// # Errors
///
/// `EINTR` if the task was killed, those of `f`.
fn wait(is_over: IsOver<'_>, f: &mut dyn FnMut() -> Result<bool>) -> Result<bool> {
    let begin = Instant::<Monotonic>::now();
    let mut pause = Delta::from_micros(20);
    loop {
        if f()? {
            return Ok(true);
        }
        if task::killed() {
            return Err(EINTR);
        }
        if is_over(begin.elapsed()) {
            return Ok(false);
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
