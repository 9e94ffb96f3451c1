// SPDX-License-Identifier: GPL-2.0

//! Merging a branch down into the one below it, as a snapshot is merged into its origin.
//!
//! Terms: UPPER is merged into LOWER; BELOW are the branches under LOWER, which stay as they are.
//!
//! # What holds at every moment
//!
//! The union of UPPER, LOWER and BELOW shows the same before, during and after. Therefore a commit
//! can be interrupted anywhere and be run again, and the state on disk is all the state there is:
//! nothing is written down, so nothing can be forged, and nothing needs room on UPPER.
//!
//! 1. *Merge*: LOWER gets everything that UPPER shows. UPPER stays whole, and so whatever is half
//!    done in LOWER is hidden by it. Whiteouts and opaque marks of UPPER become removals in LOWER; a
//!    mark is made in LOWER where something of BELOW would show through.
//! 2. All of LOWER is written to disk.
//! 3. *Empty*: each name at the root of UPPER is moved, by one rename, into `.wh..wh.commit`, which
//!    the union does not show; what it hid in LOWER is the same. Then that directory is removed.
//!
//! On one file system contents are not copied: LOWER gets a hard link of UPPER's file, and step 3
//! removes the other one. Else a file is copied in a directory of root's and moved to its name. If
//! LOWER has an object that looks like the copy, the contents are compared, and it stays if they
//! are the same; so a second run writes only what is missing. With [`Options::keep`] step 3 is left
//! out and nothing is linked.
//!
//! One thing may be seen if the machine fails within step 3 after copying: of a file with names in
//! several directories at the root, some names show the original and some the copy, which are the
//! same in all else. The next run ends that. Signals wait until it is over.

mod merge;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure, Context, Result};
use rustix::io::Errno;

use crate::{
    claim::{self, Claim, User},
    dir::{self, Dir, Meta},
    layers::{Layers, Mounts},
    names::{self, Meaning, Show},
    plink,
    union::Union,
};

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
                union.mount.target.shown()
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
    /// Something that whoever asked for the commit should know.
    fn warn(&mut self, text: String);
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
    /// An earlier run had merged all and was emptying UPPER.
    resumed: bool,
    /// Nobody else uses the branches while it lives.
    _claim: Option<Claim>,
}

impl Commit {
    /// Opens the branches and sees that nobody else uses them.
    pub fn new(branches: Branches, options: Options) -> Result<Self> {
        let upper = Dir::open(&branches.upper)?;
        let lower = Dir::open(&branches.lower)?;
        claim::apart(&upper, &lower)?;
        let claim = match options.look {
            true => None,
            false => Some(alone(&upper, &lower)?),
        };
        let resumed = trash(&upper)?.is_some();
        Ok(Commit {
            branches,
            options,
            upper,
            lower,
            resumed,
            _claim: claim,
        })
    }

    /// Looks at all without a change; tells `watch` what would be done.
    pub fn survey(&self, watch: &mut dyn Watch) -> Result<Survey> {
        let mut survey = Survey {
            links: self.same_file_system() && !self.options.keep,
            ..Survey::default()
        };
        for (dir, changes) in [(&self.lower, true), (&self.upper, !self.options.keep)] {
            if changes && dir.is_read_only()? {
                let path = dir.path();
                survey
                    .problems
                    .push(format!("{} is on a read-only file system", path.shown()));
            }
        }
        let lasting = plink::lasting(&self.upper)?.len();
        if lasting > 0 && !(self.options.look && self.options.flushed) {
            survey.problems.push(format!(
                "{} has {lasting} pseudo-links: names in lower branches that lead to files in it, and \
                 would lead to what they were; mount the union and make hard links of them: auplink \
                 DIRECTORY flush",
                self.branches.upper.shown()
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
                    path.shown()
                ));
            }
        }
        self.merge(watch, merge::How::Look(&mut survey))?.run()?;
        Ok(survey)
    }

    /// Does it. See the module's description for what an error or interruption leaves: a state from
    /// which the same call goes on.
    pub fn run(self, watch: &mut dyn Watch) -> Result<()> {
        // Of what comes to UPPER meanwhile nothing is removed.
        let merged = self.upper.names()?;
        let mut merge = self.merge(watch, merge::How::Do)?;
        let done = merge.run();
        let tidied = merge.finish();
        drop(merge);
        done?;
        tidied?;
        self.lower.sync_file_system()?;
        if self.options.keep {
            return Ok(());
        }
        let emptied = self.empty(&merged, watch);
        // That changed it.
        dir::set_times(self.upper.fd(), &self.root_meta())
            .with_context(|| self.branches.upper.shown())?;
        emptied
    }

    /// UPPER's root as it was before it was changed by a commit: if an earlier run did that, LOWER's
    /// has its times already.
    fn root_meta(&self) -> Meta {
        let mut meta = *self.upper.meta();
        if self.resumed {
            (meta.atime, meta.mtime) = (self.lower.meta().atime, self.lower.meta().mtime);
        }
        meta
    }

    fn merge<'a>(
        &'a self,
        watch: &'a mut dyn Watch,
        how: merge::How<'a>,
    ) -> Result<merge::Merge<'a>> {
        let below = &self.branches.below;
        let below = below
            .iter()
            .map(|(path, honours)| (path.as_path(), *honours));
        let below = Layers::open(below, 2, Mounts::Refused)?;
        let branches = (
            Dir::open(&self.branches.upper)?,
            Dir::open(&self.branches.lower)?,
        );
        ensure!(
            (branches.0.id(), branches.1.id()) == (self.upper.id(), self.lower.id()),
            "the branches were moved while they were opened"
        );
        Ok(merge::Merge::new(
            branches,
            self.branches.lower_honours || self.branches.below.is_empty(),
            self.root_meta(),
            below,
            merge::Manner {
                all_marks: self.options.all_marks,
                links: self.same_file_system() && !self.options.keep,
                resumed: self.resumed,
            },
            how,
            watch,
        ))
    }

    /// Whether a hard link from one to the other may work; if it does not after all, it is copied.
    fn same_file_system(&self) -> bool {
        let (upper, lower) = (self.upper.meta(), self.lower.meta());
        upper.id.dev == lower.id.dev && upper.mount == lower.mount
    }

    /// Step 3.
    fn empty(&self, merged: &[OsString], watch: &mut dyn Watch) -> Result<()> {
        // Copies are other files: the names of one file go together. These renames take no time.
        let links = self.same_file_system();
        // An opaque root hides LOWER, so the mark goes before what it protects.
        self.upper.unlink(names::OPAQUE.as_ref())?;
        let mut bin = self.bin()?;
        for name in merged {
            // What is not known is left to who knows it.
            if matches!(
                names::meaning(name),
                Meaning::Bookkeeping | Meaning::Unknown | Meaning::Opaque
            ) {
                continue;
            }
            if bin.is_none() {
                // The first removals make room for it.
                bin = self.bin()?;
            }
            match &bin {
                Some(bin) if self.upper.has(name)? => self.upper.rename(name, bin, name)?,
                Some(_) => {}
                None => self.upper.remove(name)?,
            }
            if links && watch.stop() {
                return Err(Stopped.into());
            }
        }
        // Those are links of files which are in LOWER now, or garbage of an earlier mount.
        if let Some(plinks) = self.upper.sub(names::PLINKS.as_ref())? {
            plinks.clear()?;
        }
        drop(bin);
        if let Some(trash) = trash(&self.upper)? {
            trash.clear()?;
            self.upper.rmdir(names::COMMIT.as_ref())?;
        }
        Ok(())
    }

    /// A directory to move names into; none if UPPER is full. Each run has one of its own, so that
    /// names do not meet.
    fn bin(&self) -> Result<Option<Dir>> {
        let made = (|| {
            let trash = match trash(&self.upper)? {
                Some(trash) => trash,
                None => self.upper.make_private(names::COMMIT.as_ref())?,
            };
            for number in 0u32.. {
                let name = format!("{BIN}{number}");
                if !trash.has(name.as_ref())? {
                    return trash.make_private(name.as_ref());
                }
            }
            bail!("there is no name for a directory")
        })();
        match made {
            Err(e) if matches!(crate::errno_of(&e), Some(Errno::NOSPC | Errno::DQUOT)) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// What the directories in `.wh..wh.commit` are called.
const BIN: &str = "trash";
/// What earlier versions put there.
const FORMER: &[&str] = &["journal", "journal.new"];

/// The directory of what is to be removed, if an earlier run has left one. It is emptied in the end,
/// so it must be one that only root can have made and that has nothing else in it.
fn trash(upper: &Dir) -> Result<Option<Dir>> {
    let Some(object) = upper.get(names::COMMIT.as_ref())? else {
        return Ok(None);
    };
    let path = object.path();
    let foreign = |why: String| {
        let path = path.shown();
        format!("{path} was not left by a commit: {why}; look at it and move it away")
    };
    ensure!(
        object.meta().is_private(),
        foreign(format!(
            "it is {} of user {} with mode {:o}",
            dir::kind_word(object.meta().kind()),
            object.meta().uid,
            object.meta().mode & 0o7777
        ))
    );
    let trash = object.open_dir()?;
    for name in trash.names()? {
        let entry = trash.expect(&name)?;
        let text = name.to_str().unwrap_or_default();
        let number = text.strip_prefix(BIN).map(str::parse::<u32>);
        let known = match number {
            Some(Ok(_)) => entry.meta().is_private(),
            _ => FORMER.contains(&text) && entry.meta().is_file(),
        };
        ensure!(known, foreign(format!("{} is in it", name.shown())));
    }
    Ok(Some(trash))
}

/// Fails if a mounted union could change one of the branches, or would be surprised.
fn alone(upper: &Dir, lower: &Dir) -> Result<Claim> {
    let both = [upper, lower];
    let users = claim::users(&both)?;
    for User { union, path, is } in &users {
        let shown = union.shown();
        let Some(mounted) = &union.mounted else {
            bail!(
                "{} is in use by the union {shown}, which is mounted in another mount name space, or \
                 was unmounted while files were open in it",
                path.shown()
            );
        };
        ensure!(
            is.is_some(),
            "{}, a branch of the union on {shown}, and a branch of this commit lie one in the other",
            path.shown()
        );
        ensure!(
            mounted.is_read_only(),
            "the union on {shown} is mounted and may be written; unmount it, make it read-only with: \
             mount -o remount,ro {shown}, or say ruaufs commit --remount {shown}"
        );
        let at = |wanted: &Dir| -> Option<usize> {
            let same =
                |b: &crate::union::Branch| Dir::open(&b.path).is_ok_and(|d| d.id() == wanted.id());
            mounted.branches.iter().position(same)
        };
        let Some(upper_at) = at(upper) else {
            bail!(
                "{} is a branch of the union on {shown}, too, which would change; unmount it first",
                lower.path().shown()
            );
        };
        ensure!(
            at(lower) == Some(upper_at + 1),
            "in the union on {shown}, {} is not directly above {}",
            upper.path().shown(),
            lower.path().shown()
        );
        ensure!(
            plink::pending(mounted)?.is_empty(),
            "{shown} has pseudo-links; make hard links of them with: \
             mount -o remount,rw {shown}; auplink {shown} flush; mount -o remount,ro {shown}"
        );
    }
    match users.first() {
        Some(user) => Claim::beside(&user.union.si, &both),
        None => Claim::new(&both),
    }
}
