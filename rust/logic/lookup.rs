// SPDX-License-Identifier: GPL-2.0

//! Which branches make up a name: the fold of probes into a verdict.
//!
//! The caller walks down the instances of the parent directory, one per branch in which that
//! directory exists, and does what [`Scan`] says:
//!
//! ```text
//! let mut scan = Scan::new(dirs.len());
//! let mut step = scan.step();
//! loop {
//!     step = match step {
//!         Step::Name(i) => scan.name(probe(dirs[i], name)),
//!         Step::Marks(i) => scan.marks(whiteout of name in dirs[i], opaque mark if i was taken),
//!         Step::Take(i) => { slots.push(what was found in dirs[i]); scan.taken() }
//!         Step::Done => break,
//!     };
//! }
//! ```
//!
//! # Rules
//!
//! - A whiteout hides the name on *lower* branches only, and an entry beside its own whiteout
//!   stays visible. This is the rule of OCI image layers; aufs answers EIO there.
//! - A non-directory found first is the answer.
//! - A directory found first collects the directories below it; other types are stepped over.
//! - Marks are only asked for when something was found that they could hide. A name that is
//!   absent costs no look for marks, and the last branch with the name is never asked.

#![forbid(unsafe_code)]

/// The result of probing NAME in one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no such entry.
    Absent,
    /// There is a directory.
    Dir,
    /// There is something else.
    Other,
}

/// Whether a branch hides the name on the branches below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// There is a whiteout of the name, or an opaque mark in the instance that was taken.
    Present,
    /// There is neither, or the branch is one whose marks do not count.
    Absent,
}

impl From<bool> for Marks {
    #[inline]
    fn from(present: bool) -> Self {
        match present {
            true => Marks::Present,
            false => Marks::Absent,
        }
    }
}

/// What to do next. The numbers count the branches from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Probe NAME in this branch and tell [`Scan::name`].
    Name(usize),
    /// Look for marks in this branch and tell [`Scan::marks`].
    Marks(usize),
    /// What the last probe found, in this branch, belongs to the object: take it and tell
    /// [`Scan::taken`].
    Take(usize),
    /// What was taken is all.
    Done,
}

/// The state of one look-up.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The number of branches.
    count: usize,
    /// What comes next.
    step: Step,
    /// The branch that was probed last, and what is there.
    at: usize,
    found: Found,
    /// The branches before this one hide nothing.
    clear: usize,
    /// A directory was taken.
    dir: bool,
}

impl Scan {
    /// Begins a scan of `count` branches.
    pub fn new(count: usize) -> Self {
        Scan {
            count,
            step: if count == 0 {
                Step::Done
            } else {
                Step::Name(0)
            },
            at: 0,
            found: Found::Absent,
            clear: 0,
            dir: false,
        }
    }

    /// Begins a scan of `count` branches below a directory that was found elsewhere.
    #[cfg(not(CONFIG_RUST))]
    pub fn below_dir(count: usize) -> Self {
        Scan {
            dir: true,
            ..Scan::new(count)
        }
    }

    /// What comes next.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Takes the answer to [`Step::Name`].
    #[inline]
    pub fn name(&mut self, found: Found) -> Step {
        let Step::Name(at) = self.step else {
            return self.step;
        };
        self.at = at;
        self.found = found;
        match found {
            Found::Absent => self.next(),
            // Something else below a directory is hidden by it.
            Found::Other if self.dir => self.next(),
            Found::Dir | Found::Other => self.clear(),
        }
    }

    /// Takes a longer answer to [`Step::Name`]: there is no such entry in any branch before the
    /// `end`-th.
    pub fn absent_until(&mut self, end: usize) -> Step {
        let Step::Name(at) = self.step else {
            return self.step;
        };
        if end > at {
            self.found = Found::Absent;
            self.at = end.saturating_sub(1);
            return self.next();
        }
        self.step
    }

    /// Takes the answer to [`Step::Marks`].
    pub fn marks(&mut self, marks: Marks) -> Step {
        let Step::Marks(at) = self.step else {
            return self.step;
        };
        match marks {
            Marks::Present => self.go(Step::Done),
            Marks::Absent => {
                self.clear = at.saturating_add(1);
                self.clear()
            }
        }
    }

    /// Takes a longer answer to [`Step::Marks`]: there are none in any branch before the `end`-th.
    ///
    /// It says nothing of what was found last, and of what lies below that: the opaque mark of a
    /// directory is asked for once it was taken.
    pub fn clear_until(&mut self, end: usize) -> Step {
        if let Step::Marks(_) = self.step {
            self.clear = self.clear.max(end.min(self.at));
            return self.clear();
        }
        self.step
    }

    /// What was found was taken.
    pub fn taken(&mut self) -> Step {
        match (self.step, self.found) {
            (Step::Take(_), Found::Dir) => {
                self.dir = true;
                self.next()
            }
            (Step::Take(_), _) => self.go(Step::Done),
            (other, _) => other,
        }
    }

    /// Goes on to the next branch, if there is one.
    fn next(&mut self) -> Step {
        let next = self.at.saturating_add(1);
        if next < self.count {
            self.go(Step::Name(next))
        } else {
            self.go(Step::Done)
        }
    }

    /// Something was found: does any branch above hide it?
    fn clear(&mut self) -> Step {
        if self.clear < self.at {
            self.go(Step::Marks(self.clear))
        } else {
            self.go(Step::Take(self.at))
        }
    }

    fn go(&mut self, step: Step) -> Step {
        self.step = step;
        step
    }
}
