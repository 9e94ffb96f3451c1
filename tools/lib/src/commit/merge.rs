// SPDX-License-Identifier: GPL-2.0

//! Step 1 of a commit: LOWER gets what UPPER shows. Looking (for a survey or a dry run) and doing
//! are the same walk; looking stands for LOWER's directories that are not made yet by `None`.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, FileType, Stat, StatxAttributes, StatxFlags};

use super::{journal::Journal, Action, Options, Stopped, Survey, Watch};
use crate::{
    diff::Entries,
    dir::{self, Dir},
    layers::{self, Found, Layer},
    names::{self, Meaning},
    object,
};

/// A name which `ruaufs check` knows as temporary, in case it is left behind.
const TEMPORARY: &str = ".wh..wh.commit.0000";

/// So many are told one by one.
const MOST_PROBLEMS: usize = 20;

/// Whether to look or to do.
pub(super) enum How<'a> {
    Look(&'a mut Survey),
    Do(Box<Journal>),
}

/// The walk.
pub(super) struct Merge<'a> {
    pub(super) upper: &'a Dir,
    pub(super) lower: &'a Dir,
    pub(super) lower_honours: bool,
    pub(super) below: Vec<Layer>,
    pub(super) options: Options,
    /// Whether LOWER may get hard links of UPPER's files.
    pub(super) links: bool,
    /// The mounts of UPPER and LOWER.
    pub(super) mounts: (u64, u64),
    /// UPPER's inode number to a path in LOWER, of files with several names.
    pub(super) hard_links: HashMap<u64, PathBuf>,
    pub(super) how: How<'a>,
    pub(super) watch: &'a mut dyn Watch,
}

/// A directory of the walk.
struct At<'d> {
    upper: &'d Dir,
    /// `None` in a dry run: it would have been made.
    lower: Option<&'d Dir>,
    /// What is merged with it under LOWER.
    below: &'d [Layer],
    /// A mark of UPPER, here or above, hides what LOWER has here.
    cut: bool,
    /// Relative to the branch.
    path: &'d Path,
}

impl Merge<'_> {
    pub(super) fn root(&mut self) -> Result<()> {
        let layer = Layer {
            dir: Dir::open(self.lower.path())?,
            honours: self.lower_honours,
        };
        let below = match layer.is_opaque()? {
            true => Vec::new(),
            // The roots of all branches are merged, down to the first opaque one.
            false => layers::visible(std::mem::take(&mut self.below))?,
        };
        let (upper, lower) = (self.upper, self.lower);
        self.directory(&At {
            upper,
            lower: Some(lower),
            below: &below,
            cut: false,
            path: Path::new(""),
        })
    }

    /// Writes what is to be remembered.
    pub(super) fn finish(&mut self) -> Result<()> {
        match &mut self.how {
            How::Look(_) => Ok(()),
            How::Do(journal) => journal.flush(self.lower),
        }
    }

    fn looks(&self) -> bool {
        matches!(self.how, How::Look(_))
    }

    fn problem(&mut self, text: String) -> Result<()> {
        match &mut self.how {
            How::Look(survey) => {
                match survey.problems.len() {
                    n if n < MOST_PROBLEMS => survey.problems.push(text),
                    _ => survey.more_problems += 1,
                }
                Ok(())
            }
            How::Do(_) => anyhow::bail!(text),
        }
    }

    fn check_stop(&self) -> Result<()> {
        match self.watch.stop() {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }

    fn directory(&mut self, at: &At<'_>) -> Result<()> {
        self.check_stop()?;
        if at.upper.mount_id()? != self.mounts.0 {
            let what = super::mounted_below(at.upper);
            let path = at.upper.path().display();
            return self.problem(format!("{path}: {what} is mounted there; unmount it first"));
        }
        let entries = Entries::of(at.upper)?;
        if let Some(name) = entries.former_names.first() {
            let path = at.upper.path_of(name);
            self.problem(format!(
                "{}: the directory was renamed with the option dirren, and its contents on lower \
                 branches cannot be found without it; copy the directory through the union first",
                path.display()
            ))?;
        }
        let mark = at.cut || entries.opaque;
        // Below a mark everything comes from UPPER.
        let nothing: &[Layer] = &[];
        let below = match mark {
            true => nothing,
            false => at.below,
        };
        if mark {
            if !at.below.is_empty() || self.options.all_marks && entries.opaque {
                self.mark(at, names::OPAQUE.as_ref())?;
            }
            self.clear(at, &entries)?;
        } else {
            for name in &entries.whiteouts {
                if entries.plain.binary_search(name).is_err() {
                    self.whiteout(at, name)?;
                }
            }
        }
        for name in &entries.plain {
            self.check_stop()?;
            let inner = At {
                below,
                cut: mark,
                ..*at
            };
            let hides = entries.whiteouts.binary_search(name).is_ok();
            self.entry(&inner, name, hides)?;
        }
        Ok(())
    }

    /// Removes from LOWER what UPPER hides by a mark of the whole directory.
    fn clear(&mut self, at: &At<'_>, entries: &Entries) -> Result<()> {
        let Some(lower) = at.lower else {
            return Ok(());
        };
        for name in lower.names()? {
            let stays = match names::meaning(&name) {
                Meaning::Plain => entries.plain.binary_search(&name).is_ok(),
                Meaning::Opaque | Meaning::Bookkeeping => true,
                _ => false,
            };
            if !stays {
                self.remove(at, &name)?;
            }
        }
        Ok(())
    }

    /// A whiteout in UPPER with no object beside it.
    fn whiteout(&mut self, at: &At<'_>, name: &OsStr) -> Result<()> {
        if let Some(lower) = at.lower {
            if lower.has(name)? {
                self.remove(at, name)?;
            }
        }
        let shows = !matches!(layers::look_up(at.below, name)?, Found::Absent);
        if shows || self.options.all_marks {
            self.mark(at, &names::whiteout(name))?;
        }
        Ok(())
    }

    fn remove(&mut self, at: &At<'_>, name: &OsStr) -> Result<()> {
        self.watch.action(Action::Remove, &at.path.join(name));
        match at.lower {
            Some(lower) if self.looks() => self.check_flags(lower, name),
            Some(lower) => object::remove(lower, name),
            None => Ok(()),
        }
    }

    /// Makes a whiteout or an opaque mark in LOWER.
    fn mark(&mut self, at: &At<'_>, name: &OsStr) -> Result<()> {
        if !self.lower_honours {
            let path = at.path.join(name);
            let lower = self.lower.path().display();
            return self.problem(format!(
                "{} must be in {lower} to hide what lies in the branches under it, but marks do not \
                 count there; give that branch the attribute wh (ro+wh), or make it rw",
                path.display()
            ));
        }
        if let Some(lower) = at.lower {
            if lower.has_mark(name)? {
                return Ok(());
            }
        }
        self.watch.action(Action::Mark, &at.path.join(name));
        match at.lower {
            Some(lower) if !self.looks() => object::make_mark(self.lower, lower, name),
            _ => Ok(()),
        }
    }

    /// An object of UPPER. `hides`: its whiteout is beside it.
    fn entry(&mut self, at: &At<'_>, name: &OsStr, hides: bool) -> Result<()> {
        let Some(stat) = at.upper.stat_of(name)? else {
            anyhow::bail!(
                "{} is gone: somebody else changes the branch",
                at.upper.path_of(name).display()
            );
        };
        if self.looks() {
            self.check_flags(at.upper, name)?;
        }
        self.watch.object();
        if let How::Look(survey) = &mut self.how {
            survey.objects += 1;
            if dir::kind(&stat) == FileType::RegularFile {
                survey.bytes += u64::try_from(stat.st_size).unwrap_or_default();
            }
        }
        match dir::is_dir(&stat) {
            true => self.sub_directory(at, name, &stat, hides)?,
            false => {
                self.other(at, name, &stat)?;
                self.drop_whiteout(at, name)?;
            }
        }
        Ok(())
    }

    /// Removes LOWER's whiteout of a name which is there now.
    fn drop_whiteout(&mut self, at: &At<'_>, name: &OsStr) -> Result<()> {
        let whiteout = names::whiteout(name);
        match at.lower {
            Some(lower) if self.lower_honours && !self.looks() && lower.has(&whiteout)? => {
                lower.unlink(&whiteout)
            }
            _ => Ok(()),
        }
    }

    fn sub_directory(&mut self, at: &At<'_>, name: &OsStr, stat: &Stat, hides: bool) -> Result<()> {
        let path = at.path.join(name);
        let upper = at.upper.sub(name)?;
        let mut lower = None;
        let mut hidden = false;
        if let Some(parent) = at.lower {
            hidden = self.lower_honours && parent.has_mark(&names::whiteout(name))?;
            match parent.stat_of(name)? {
                Some(stat) if !dir::is_dir(&stat) => self.remove(at, name)?,
                Some(_) => lower = Some(parent.sub(name)?),
                None => {}
            }
        }
        let instances = layers::below_dir(at.below, name)?;
        let mut merged = instances;
        match &lower {
            Some(dir) => {
                if dir.mount_id()? != self.mounts.1 {
                    let what = super::mounted_below(dir);
                    let path = dir.path().display();
                    return self
                        .problem(format!("{path}: {what} is mounted there; unmount it first"));
                }
                if self.lower_honours && dir.has_mark(names::OPAQUE.as_ref())? {
                    merged.clear();
                }
            }
            None => {
                self.watch.action(Action::MakeDir, &path);
                if let Some(parent) = at.lower.filter(|_| !self.looks()) {
                    lower = Some(parent.make_sub(name)?);
                }
            }
        }
        let inner = At {
            upper: &upper,
            lower: lower.as_ref(),
            below: &merged,
            cut: at.cut || hides,
            path: &path,
        };
        if hidden && !merged.is_empty() {
            // LOWER's whiteout has hidden these; the directory that takes its place must.
            self.mark(&inner, names::OPAQUE.as_ref())?;
            merged = Vec::new();
        }
        let inner = At {
            upper: &upper,
            lower: lower.as_ref(),
            below: &merged,
            cut: at.cut || hides,
            path: &path,
        };
        self.drop_whiteout(at, name)?;
        self.directory(&inner)?;
        match at.lower {
            // Last, since all that was put into it changed its times.
            Some(parent) if !self.looks() => {
                object::copy_attributes(at.upper, name, stat, parent, name)
                    .with_context(|| format!("{}", parent.path_of(name).display()))
            }
            _ => Ok(()),
        }
    }

    /// An object that is no directory.
    fn other(&mut self, at: &At<'_>, name: &OsStr, stat: &Stat) -> Result<()> {
        let path = at.path.join(name);
        let size = match dir::kind(stat) {
            FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or_default(),
            _ => 0,
        };
        let there = match at.lower {
            Some(lower) => lower.stat_of(name)?,
            None => None,
        };
        let same = there.is_some_and(|t| (t.st_dev, t.st_ino) == (stat.st_dev, stat.st_ino));
        let done = match &self.how {
            How::Do(journal) => journal.is_done(&path, stat, there.as_ref()),
            How::Look(_) => false,
        };
        if done && stat.st_nlink > 1 {
            self.hard_links.insert(stat.st_ino, path.clone());
        }
        if done || same {
            self.watch.bytes(size);
            return Ok(());
        }
        match there {
            Some(there) if dir::is_dir(&there) => {
                self.remove(at, name)?;
                self.watch.action(Action::Add, &path);
            }
            Some(_) => {
                self.watch.action(Action::Replace, &path);
                if let Some(lower) = at.lower.filter(|_| self.looks()) {
                    self.check_flags(lower, name)?;
                }
            }
            None => self.watch.action(Action::Add, &path),
        }
        match at.lower {
            Some(lower) if !self.looks() => self.put(at.upper, lower, name, stat, size, path),
            _ => Ok(()),
        }
    }

    /// Puts an object into LOWER, over what is there.
    fn put(
        &mut self,
        upper: &Dir,
        lower: &Dir,
        name: &OsStr,
        stat: &Stat,
        size: u64,
        path: PathBuf,
    ) -> Result<()> {
        let temporary: &OsStr = TEMPORARY.as_ref();
        if lower.has(temporary)? {
            object::remove(lower, temporary)?;
        }
        if self.links && fs::linkat(upper.fd(), name, lower.fd(), temporary, super::LINK).is_ok() {
            lower.rename(temporary, lower, name)?;
            self.watch.bytes(size);
            return Ok(());
        }
        if let Some(first) = self.hard_links.get(&stat.st_ino) {
            let first_name = lower_path(self.lower, first);
            fs::linkat(fs::CWD, &first_name, lower.fd(), temporary, super::LINK)
                .with_context(|| format!("linking {}", first.display()))?;
            self.watch.bytes(size);
        } else {
            let watch = &mut *self.watch;
            let mut report = |bytes| {
                watch.bytes(bytes);
                match watch.stop() {
                    true => Err(Stopped.into()),
                    false => Ok(()),
                }
            };
            object::copy(upper, name, stat, lower, temporary, &mut report)?;
            if stat.st_nlink > 1 {
                self.hard_links.insert(stat.st_ino, path.clone());
            }
        }
        lower.rename(temporary, lower, name)?;
        if stat.st_nlink > 1 && lower.has(temporary)? {
            // rename(2) does nothing if both are links of one file.
            lower.unlink(temporary)?;
        }
        if let (How::Do(journal), FileType::RegularFile) = (&mut self.how, dir::kind(stat)) {
            let copy = lower.stat_of(name)?.with_context(|| {
                format!(
                    "{} is gone: somebody else changes the branch",
                    lower.path_of(name).display()
                )
            })?;
            journal.add(&path, stat, &copy, self.lower)?;
        }
        Ok(())
    }

    /// Finds what could not be removed or replaced.
    fn check_flags(&mut self, dir: &Dir, name: &OsStr) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let got = fs::statx(dir.fd(), name, flags, StatxFlags::TYPE);
        let path = dir.path_of(name);
        let got = got.with_context(|| format!("{}", path.display()))?;
        let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        match got.stx_attributes.intersects(fixed) {
            true => self.problem(format!(
                "{} is immutable or append-only; clear that with: chattr -ia",
                path.display()
            )),
            false => Ok(()),
        }
    }
}

/// A path in LOWER by its open root.
fn lower_path(lower: &Dir, path: &Path) -> PathBuf {
    lower.magic_path(path.as_os_str())
}
