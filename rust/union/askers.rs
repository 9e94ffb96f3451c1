// SPDX-License-Identifier: GPL-2.0

//! Work on branches that may not answer, or only when somebody thaws them: another task does it,
//! and whoever needs it waits for a limited time.
//!
//! What is given up goes on by itself, and ends when the branch answers. It holds all that it works
//! with. Work that changes a branch is begun when other such work on it has ended, and undoes by
//! itself what nobody takes from it: so it never meets a later use of the branch.

#![forbid(unsafe_code)]

use super::branch::Branch;
use crate::fs::{
    cred::Cred,
    dirop,
    io,
    path::{
        Path,
        PrivatePath, //
    },
    worker::Worker, //
};
use crate::logic::whname;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long a branch has to answer, at least.
pub(super) const ANSWERING: Delta = Delta::from_secs(2);

/// Asks branches that may not answer.
#[pin_data]
pub(crate) struct Askers {
    worker: Worker,
    /// The branches that are being changed. Their number is small.
    #[pin]
    changing: Mutex<KVec<Arc<PrivatePath>>>,
}

impl Askers {
    /// Nothing is asked yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Askers {
                worker: Worker::new(Worker::MANY)?,
                changing <- new_mutex!(KVec::new(), "ruaufs_changing"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Has another task do `f`, and waits until that is done or `is_over`, which is told how long
    /// it takes already. `kept` goes when all that `f` gave is gone that nobody took.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task was killed, `ENOMEM`.
    pub(crate) fn ask<R: Clone + Send + Sync + 'static>(
        &self,
        kept: impl Send + 'static,
        f: impl FnOnce() -> R + Send + 'static,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<Option<R>> {
        let reply: Arc<SetOnce<R>> = Arc::new(SetOnce::new(), GFP_KERNEL)?;
        let mut work = Some((f, reply.clone(), kept));
        let work = move || {
            if let Some((f, to, kept)) = work.take() {
                to.populate(f());
                drop(to);
                drop(kept);
            }
        };
        self.begin(KBox::new(work, GFP_KERNEL)?)?;
        let begin = Instant::<Monotonic>::now();
        let mut pause = Delta::from_micros(20);
        loop {
            if let Some(reply) = reply.as_ref().as_ref() {
                return Ok(Some(reply.clone()));
            }
            if io::killed() {
                return Err(EINTR);
            }
            if is_over(begin.elapsed()) {
                return Ok(None);
            }
            pause = rest(pause);
        }
    }

    /// Asks whether the root of `branch` is opaque, with the credentials `cred`; waits until
    /// `is_over` if the branch may not answer. What is given up keeps no more of the branch than its
    /// mount.
    pub(crate) fn ask_root(
        &self,
        cred: &Arc<Cred>,
        branch: &Branch,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<Option<bool>> {
        if !branch.access.honours_whiteouts() {
            return Ok(Some(false));
        }
        let (asker, root) = (cred.clone(), branch.root.clone());
        let ask = move || -> Result<bool> {
            let mark = || dirop::lookup_positive(root.dentry().dir()?, whname::OPAQUE);
            Ok(asker.scope(mark)?.is_some())
        };
        if may_be_silent(&branch.root, false) {
            self.ask((), ask, is_over)?.transpose()
        } else {
            ask().map(Some)
        }
    }

    /// The one place where work is begun: its type has no long name.
    fn begin(&self, mut work: KBox<dyn FnMut() + Send>) -> Result {
        #[expect(clippy::redundant_closure, reason = "a `KBox` is no function")]
        self.worker.run_apart(move || work())
    }

    /// Lets nobody else change the branch with the root `root` until the value is dropped. Waits
    /// for who does, until `is_over`.
    pub(crate) fn change(
        self: &Arc<Self>,
        root: &Arc<PrivatePath>,
        is_over: impl Fn(Delta) -> bool,
    ) -> Result<Option<Changing>> {
        let begin = Instant::<Monotonic>::now();
        let mut pause = Delta::from_micros(20);
        loop {
            let mut all = self.changing.lock();
            if !all.iter().any(|other| other.dentry().is(root.dentry())) {
                all.push(root.clone(), GFP_KERNEL)?;
                return Ok(Some(Changing {
                    askers: self.clone(),
                    root: root.clone(),
                }));
            }
            drop(all);
            if io::killed() {
                return Err(EINTR);
            }
            if is_over(begin.elapsed()) {
                return Ok(None);
            }
            pause = rest(pause);
        }
    }

    /// Does `f`, which tidies the branch with the root `root` up. If that does not answer, another
    /// task goes on with it.
    pub(crate) fn tidy(
        self: &Arc<Self>,
        root: &Arc<PrivatePath>,
        f: impl FnOnce() + Send + 'static,
    ) {
        if !may_be_silent(root, true) {
            return f();
        }
        let is_over = |elapsed| elapsed >= ANSWERING;
        let done = match self.change(root, is_over) {
            Ok(Some(changing)) => self.ask(changing, f, is_over).map(drop),
            // Who changes the branch has not ended. It stays as it is.
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            pr_debug!("a branch is not waited for: {:?}\n", error);
        }
    }
}

/// Sleeps for `pause`, and gives a longer one for the next time.
fn rest(pause: Delta) -> Delta {
    fsleep(pause);
    let longer = Delta::from_nanos(pause.as_nanos().saturating_mul(2));
    longer.min(Delta::from_millis(2))
}

/// Whether the branch with the root `root` may leave a question without an answer; with `write`,
/// whether a change of it may have to wait, too.
pub(crate) fn may_be_silent(root: &Path, write: bool) -> bool {
    root.dentry().is_remote() || (write && matches!(root.mount().try_write(), Ok(None)))
}

/// A branch is being changed.
pub(crate) struct Changing {
    askers: Arc<Askers>,
    root: Arc<PrivatePath>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut all = self.askers.changing.lock();
        let at = all.iter().position(|other| Arc::ptr_eq(other, &self.root));
        let own = at.map(|at| all.remove(at));
        drop(all);
        drop(own);
    }
}
