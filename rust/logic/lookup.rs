// SPDX-License-Identifier: GPL-2.0

//! Which branches make up a name: the fold of probes into a verdict.
//!
//! The caller walks down the instances of the parent directory, one per branch in which that
//! directory exists, and does what [`Scan`] says:
//!
//! ```text
//! let mut scan = Scan::new(dirs.len());
//! for dir in dirs {
//!     let answer = scan.real(probe(dir, name), dir.marks());
//!     if answer.take == Take::Yes { slots.push(..) }
//!     let mut step = answer.step;
//!     loop {
//!         step = match step {
//!             Step::Next => break,
//!             Step::Stop => return scan.verdict(),
//!             Step::AskWhiteout => scan.mark(probe(dir, whiteout of name)),
//!             Step::AskOpaque => scan.mark(probe(what was found, OPAQUE)),
//!         };
//!     }
//! }
//! ```
//!
//! # Rules
//!
//! - NAME is probed before its whiteout, so a whiteout hides the name on *lower* branches only,
//!   and an entry beside its own whiteout stays visible. This is the rule of OCI image layers;
//!   aufs answers EIO there.
//! - A non-directory found first is the answer.
//! - A directory found first collects the directories below it; other types are stepped over.
//! - Marks are only asked for where they are honoured and where something is left to hide: never
//!   on the last branch.

#![forbid(unsafe_code)]

/// The result of probing NAME in one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no such entry.
    Absent,
    /// There is a directory.
    Dir,
    /// There is something else.
    Other,
}

/// Whether a branch's whiteouts and opaque marks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// They do: `rw`, `ro+wh`, `rr+wh`.
    Honoured,
    /// They do not: plain `ro` and `rr`.
    Ignored,
}

/// The result of probing a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is there.
    Present,
    /// It is not there, or known not to be without a probe.
    Absent,
}

/// Whether the instance just probed belongs to the union's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Probe NAME in the next branch.
    Next,
    /// Probe `.wh.NAME` in this branch and tell [`Scan::mark`].
    AskWhiteout,
    /// Probe `.wh..wh..opq` inside the directory just found and tell [`Scan::mark`].
    AskOpaque,
    /// The verdict is final.
    Stop,
}

/// The answer to a probe of NAME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether what was found belongs to the object.
    pub(crate) take: Take,
    /// What to do next.
    pub(crate) step: Step,
}

/// What a name is. The numbers count the branches as they were probed, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No branch has it. The last branch was not asked for a whiteout; who creates the name there
    /// looks for one.
    Absent,
    /// No branch has it down to a whiteout on branch `at`.
    Whiteouted {
        /// The branch of the whiteout.
        at: usize,
    },
    /// It is not a directory.
    Other {
        /// The branch that has it.
        at: usize,
    },
    /// It is a directory, merged from all instances that were taken.
    Dir {
        /// The topmost branch that has it.
        top: usize,
        /// What ended the merge.
        end: End,
    },
}

/// What ends the list of instances of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last branch.
    Bottom,
    /// The name's whiteout on this branch.
    Whiteout(usize),
    /// The opaque mark in the instance on this branch.
    Opaque(usize),
}

/// What the scan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A probe of NAME.
    Name,
    /// A probe of the whiteout; the opaque mark is asked for afterwards if there is one to expect.
    Whiteout {
        /// A directory was found on this branch.
        then_opaque: bool,
    },
    /// A probe of the opaque mark.
    Opaque,
    /// Nothing.
    Done,
}

/// The state of one look-up.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// Branches that are still to be probed, the present one not included.
    left: usize,
    /// The number of the branch that is probed now.
    at: usize,
    /// What is known so far.
    verdict: Verdict,
    /// What comes next.
    state: State,
}

impl Scan {
    /// Begins a scan of `branches` branches.
    pub(crate) fn new(branches: usize) -> Self {
        Scan {
            left: branches.saturating_sub(1),
            at: 0,
            verdict: Verdict::Absent,
            state: if branches == 0 {
                State::Done
            } else {
                State::Name
            },
        }
    }

    /// Takes the result of probing NAME in the next branch.
    pub(crate) fn real(&mut self, found: Found, marks: Marks) -> Answer {
        if self.state != State::Name {
            // A caller who goes on after `Stop` learns nothing more.
            return Answer {
                take: Take::No,
                step: self.stop(),
            };
        }
        let take = match (found, self.verdict) {
            (Found::Absent, _) => Take::No,
            (Found::Other, Verdict::Dir { .. }) => Take::No,
            (Found::Other, _) => {
                self.verdict = Verdict::Other { at: self.at };
                return Answer {
                    take: Take::Yes,
                    step: self.stop(),
                };
            }
            (Found::Dir, Verdict::Dir { .. }) => Take::Yes,
            (Found::Dir, _) => {
                self.verdict = Verdict::Dir {
                    top: self.at,
                    end: End::Bottom,
                };
                Take::Yes
            }
        };
        let step = if self.left == 0 || marks == Marks::Ignored {
            self.advance()
        } else {
            self.state = State::Whiteout {
                then_opaque: take == Take::Yes,
            };
            Step::AskWhiteout
        };
        Answer { take, step }
    }

    /// Takes the result of probing the mark which was asked for.
    pub(crate) fn mark(&mut self, mark: Mark) -> Step {
        let at = self.at;
        match (self.state, mark) {
            (State::Whiteout { .. }, Mark::Present) => match &mut self.verdict {
                Verdict::Dir { end, .. } => {
                    *end = End::Whiteout(at);
                    self.stop()
                }
                verdict => {
                    *verdict = Verdict::Whiteouted { at };
                    self.stop()
                }
            },
            (State::Whiteout { then_opaque: true }, Mark::Absent) => {
                self.state = State::Opaque;
                Step::AskOpaque
            }
            (State::Opaque, Mark::Present) => {
                if let Verdict::Dir { end, .. } = &mut self.verdict {
                    *end = End::Opaque(at);
                }
                self.stop()
            }
            (State::Whiteout { then_opaque: false } | State::Opaque, Mark::Absent) => {
                self.advance()
            }
            // Nothing was asked for.
            (State::Name, _) => Step::Next,
            (State::Done, _) => Step::Stop,
        }
    }

    /// Returns what is known; final after [`Step::Stop`].
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Goes on to the next branch, if there is one.
    fn advance(&mut self) -> Step {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                self.at = self.at.saturating_add(1);
                self.state = State::Name;
                Step::Next
            }
            None => self.stop(),
        }
    }

    /// Ends the scan.
    fn stop(&mut self) -> Step {
        self.state = State::Done;
        Step::Stop
    }
}
