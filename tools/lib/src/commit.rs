// SPDX-License-Identifier: GPL-2.0

//! Merging a branch down into the one below it, as a snapshot is merged into its origin.
//!
//! Terms: UPPER is merged into LOWER; BELOW are the branches under LOWER, which stay as they are.
//!
//! # What holds at every moment
//!
//! The union of UPPER, LOWER and BELOW shows the same before, during and after. Therefore a commit
//! can be interrupted anywhere and be run again, and the state on disk is all the state there is:
//!
//! 1. *Merge*: LOWER gets everything that UPPER shows. UPPER stays whole, and so whatever is half
//!    done in LOWER is hidden by it. Whiteouts and opaque marks of UPPER become removals in LOWER; a
//!    mark is made in LOWER where something of BELOW would show through.
//! 2. *Empty*: each name at the root of UPPER is moved, by one rename, into `.wh..wh.commit`, which
//!    the union does not show; what it hid in LOWER is the same. Then that directory is removed.
//!
//! On one file system contents are not copied: LOWER gets a hard link of UPPER's file, and step 2
//! removes the other one. Else a file is copied under a temporary name and renamed, and a journal
//! remembers what was copied, so that a second run skips it (see `journal.rs`). With
//! [`Options::keep`] step 2 is left out and nothing is linked.
//!
//! One thing may be seen if the machine fails within step 2 after copying: of a file with names in
//! several directories at the root, some names show the original and some the copy, which are the
//! same in all else. The next run ends that. Signals wait until it is over.

mod journal;
mod merge;

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use rustix::fs::{self, AtFlags, FlockOperation};

use crate::{
    dir::Dir,
    layers::Layer,
    mounts,
    names::{self, Meaning},
    object, plink,
    union::{self, Union},
};
use journal::Journal;

/// The branches.
#[derive(Clone, Debug)]
pub struct Branches {
    /// The branch that is merged.
    pub upper: PathBuf,
    /// The branch that it is merged into.
    pub lower: PathBuf,
    /// Whether whiteouts and opaque marks in LOWER count.
    pub lower_honours: bool,
    /// The branches under it, topmost first, and whether their marks count.
    pub below: Vec<(PathBuf, bool)>,
}

impl Branches {
    /// The `index`-th branch of a union, the one under it, and the rest.
    pub fn of(union: &Union, index: usize) -> Result<Self> {
        let [upper, lower, below @ ..] = union.branches.get(index..).unwrap_or_default() else {
            anyhow::bail!(
                "{}: there is no branch under branch {index} to merge it into",
                union.mount.target.display()
            );
        };
        Ok(Branches {
            upper: upper.path.clone(),
            lower: lower.path.clone(),
            lower_honours: lower.access.honours_marks(),
            below: below
                .iter()
                .map(|b| (b.path.clone(), b.access.honours_marks()))
                .collect(),
        })
    }
}

/// How to do it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Leave UPPER as it is.
    pub keep: bool,
    /// Make marks in LOWER for all marks of UPPER, not only where BELOW shows through.
    pub all_marks: bool,
    /// Only look: a union that is in use is no obstacle, and what is found may have changed since.
    pub look: bool,
    /// Pseudo-links of UPPER are made hard links before it is done.
    pub flushed: bool,
}

/// One step, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A directory is made in LOWER.
    MakeDir,
    /// An object is put in LOWER in place of what was there.
    Replace,
    /// An object is put in LOWER.
    Add,
    /// An object, with all that is in it, is removed from LOWER.
    Remove,
    /// A whiteout or opaque mark is made in LOWER.
    Mark,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Action::MakeDir => "mkdir",
            Action::Replace => "replace",
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Mark => "mark",
        })
    }
}

/// Watches a commit.
pub trait Watch {
    /// A step was done, or would be done in a dry run. The path is relative to the branch.
    fn action(&mut self, action: Action, path: &Path);
    /// An object of UPPER is dealt with.
    fn object(&mut self);
    /// So many bytes are dealt with.
    fn bytes(&mut self, bytes: u64);
    /// Whether to stop here.
    fn stop(&self) -> bool;
}

/// What a commit was stopped with by [`Watch::stop`].
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; nothing is lost: run the same command again to go on")
    }
}

impl std::error::Error for Stopped {}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Objects on UPPER.
    pub objects: u64,
    /// Bytes in files on UPPER.
    pub bytes: u64,
    /// What stands against it; a commit is not begun then.
    pub problems: Vec<String>,
    /// How many more there are.
    pub more_problems: u64,
    /// Whether contents need not be copied.
    pub links: bool,
}

/// A commit that may begin.
pub struct Commit {
    branches: Branches,
    options: Options,
    upper: Dir,
    lower: Dir,
}

impl Commit {
    /// Opens the branches and sees that nobody else uses them.
    pub fn new(branches: Branches, options: Options) -> Result<Self> {
        let upper = Dir::open(&branches.upper)?;
        let lower = Dir::open(&branches.lower)?;
        for (outer, inner) in [(&upper, &lower), (&lower, &upper)] {
            ensure!(
                !contains(outer, inner)?,
                "{} and {} lie one in the other",
                branches.upper.display(),
                branches.lower.display()
            );
        }
        if !options.look {
            check_unused(&branches)?;
        }
        let commit = Commit {
            branches,
            options,
            upper,
            lower,
        };
        for dir in [&commit.upper, &commit.lower] {
            fs::flock(dir.fd(), FlockOperation::NonBlockingLockExclusive).with_context(|| {
                format!(
                    "{}: another commit works on this branch",
                    dir.path().display()
                )
            })?;
        }
        Ok(commit)
    }

    /// Looks at all without a change; tells `watch` what would be done.
    pub fn survey(&self, watch: &mut dyn Watch) -> Result<Survey> {
        let mut survey = Survey {
            links: self.same_file_system()? && !self.options.keep,
            ..Survey::default()
        };
        let writable = fs::fstatvfs(self.lower.fd())?;
        if writable.f_flag.contains(fs::StatVfsMountFlags::RDONLY) {
            survey.problems.push(format!(
                "{} is on a read-only file system",
                self.branches.lower.display()
            ));
        }
        let lasting = plink::lasting(&self.upper)?.len();
        if lasting > 0 && !(self.options.look && self.options.flushed) {
            survey.problems.push(format!(
                "{} has {lasting} pseudo-links: names in lower branches that lead to files in it, and \
                 would lead to what they were; mount the union and make hard links of them: auplink \
                 DIRECTORY flush",
                self.branches.upper.display()
            ));
        }
        let below = self.branches.below.iter().map(|(path, _)| path);
        for path in [&self.branches.upper, &self.branches.lower]
            .into_iter()
            .chain(below)
        {
            if Dir::open(path)?.has(names::RENAMED.as_ref())? {
                survey.problems.push(format!(
                    "{} has directories that were renamed with the option dirren, which a commit \
                     does not know how to follow",
                    path.display()
                ));
            }
        }
        let mut merge = self.merge(watch, merge::How::Look(&mut survey))?;
        merge.root()?;
        drop(merge);
        Ok(survey)
    }

    /// Does it. See the module's description for what an error or interruption leaves: a state from
    /// which the same call goes on.
    pub fn run(self, watch: &mut dyn Watch) -> Result<()> {
        let journal = Journal::open(&self.upper, &self.lower)?;
        let keep = self.options.keep;
        let root_stat = journal.root_stat;
        let mut merge = self.merge(watch, merge::How::Do(Box::new(journal)))?;
        let merged = merge.root();
        // What was copied up to an interruption need not be copied again.
        let kept = merge.finish();
        drop(merge);
        merged?;
        kept?;
        object::copy_root_attributes(&self.upper, &root_stat, &self.lower)?;
        fs::syncfs(self.lower.fd()).context("writing LOWER to disk")?;
        match keep {
            true => object::remove(&self.upper, names::COMMIT.as_ref())?,
            false => self.empty(watch)?,
        }
        // Making and removing the journal changed it.
        object::set_times(&self.upper, &root_stat)?;
        Ok(())
    }

    fn merge<'a>(
        &'a self,
        watch: &'a mut dyn Watch,
        how: merge::How<'a>,
    ) -> Result<merge::Merge<'a>> {
        let below: Result<Vec<_>> = self
            .branches
            .below
            .iter()
            .map(|(path, honours)| Layer::root(path, *honours))
            .collect();
        Ok(merge::Merge {
            upper: &self.upper,
            lower: &self.lower,
            lower_honours: self.branches.lower_honours || self.branches.below.is_empty(),
            below: below?,
            options: self.options,
            links: self.same_file_system()? && !self.options.keep,
            mounts: (self.upper.mount_id()?, self.lower.mount_id()?),
            hard_links: HashMap::new(),
            how,
            watch,
        })
    }

    /// Whether a hard link from one to the other may work; if it does not after all, it is copied.
    fn same_file_system(&self) -> Result<bool> {
        Ok(self.upper.stat()?.st_dev == self.lower.stat()?.st_dev
            && self.upper.mount_id()? == self.lower.mount_id()?)
    }

    /// Step 2.
    fn empty(&self, watch: &mut dyn Watch) -> Result<()> {
        let state = self.upper.sub(names::COMMIT.as_ref())?;
        // Each run has a trash of its own, so that names do not meet.
        let number = (0u32..).map(|n| format!("trash{n}"));
        let mut trash = None;
        for name in number {
            if !state.has(name.as_ref())? {
                trash = Some(state.make_sub(name.as_ref())?);
                break;
            }
        }
        let trash = trash.context("there is no name for a directory")?;
        // Copies are other files: the names of one file go together. These renames take no time.
        let links = self.same_file_system()?;
        // An opaque root hides LOWER, so the mark goes before what it protects.
        let opaque: &OsStr = names::OPAQUE.as_ref();
        if self.upper.has_mark(opaque)? {
            self.upper.unlink(opaque)?;
        }
        for name in self.upper.names()? {
            // What is not known is left to who knows it.
            if !matches!(
                names::meaning(&name),
                Meaning::Bookkeeping | Meaning::Unknown
            ) {
                self.upper.rename(&name, &trash, &name)?;
            }
            if links && watch.stop() {
                return Err(Stopped.into());
            }
        }
        // Those are links of files which are in LOWER now, or garbage of an earlier mount.
        if let Some(plinks) = self.upper.sub_if_there(names::PLINKS.as_ref())? {
            for name in plinks.names()? {
                plinks.unlink(&name)?;
            }
        }
        drop((trash, state));
        object::remove(&self.upper, names::COMMIT.as_ref())
    }
}

/// Whether a directory is another one or lies below it.
fn contains(outer: &Dir, inner: &Dir) -> Result<bool> {
    let outer = outer.stat()?;
    let mut path = inner.path().canonicalize()?;
    loop {
        let (dev, ino) = union::identity(&path)?;
        if (dev, ino) == (outer.st_dev, outer.st_ino) {
            return Ok(true);
        }
        if !path.pop() {
            return Ok(false);
        }
    }
}

/// Fails if a mounted union could change one of the branches, or would be surprised.
fn check_unused(branches: &Branches) -> Result<()> {
    let upper = union::identity(&branches.upper)?;
    let lower = union::identity(&branches.lower)?;
    for union in Union::all()? {
        let target = union.mount.target.display();
        let at = |wanted| {
            let same = |b: &union::Branch| union::identity(&b.path).is_ok_and(|i| i == wanted);
            union.branches.iter().position(same)
        };
        let (upper_at, lower_at) = (at(upper), at(lower));
        if upper_at.is_none() && lower_at.is_none() {
            continue;
        }
        ensure!(
            union.is_read_only(),
            "the union on {target} is mounted and may be written; unmount it, or make it read-only \
             with: mount -o remount,ro {target}"
        );
        let Some(upper_at) = upper_at else {
            anyhow::bail!(
                "{} is a branch of the union on {target}, too, which would change; unmount it first",
                branches.lower.display()
            );
        };
        ensure!(
            lower_at == Some(upper_at + 1),
            "in the union on {target}, {} is not directly above {}",
            branches.upper.display(),
            branches.lower.display()
        );
        ensure!(
            crate::plink::pending(&union)?.is_empty(),
            "{target} has pseudo-links; make hard links of them with: \
             mount -o remount,rw {target}; auplink {target} flush; mount -o remount,ro {target}"
        );
    }
    Ok(())
}

/// Paths that are mounted on, for the message.
pub(crate) fn mounted_below(dir: &Dir) -> String {
    let id = dir.mount_id().ok();
    let table = mounts::table().unwrap_or_default();
    let mount = table.iter().find(|m| Some(m.id) == id);
    mount.map_or("a file system".to_owned(), |m| m.fstype.clone())
}

/// The flags of `linkat` that are used here: symbolic links are linked themselves.
pub(crate) const LINK: AtFlags = AtFlags::empty();
