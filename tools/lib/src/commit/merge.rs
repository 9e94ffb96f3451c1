// SPDX-License-Identifier: GPL-2.0

//! Step 1 of a commit: LOWER gets what UPPER shows. Looking (for a survey or a dry run) and doing
//! are the same walk; looking has no directory of LOWER where none is made yet.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
    rc::Rc,
    vec,
};

use anyhow::{Context, Result};
use rustix::io::Errno;

use super::{Action, Stopped, Survey, Watch};
use crate::{
    diff::Entries,
    dir::{self, walk, Cursor, Dir, Id, Meta, Object},
    layers::{Found, Layers, Level},
    names::{self, Meaning, Show},
    object::{self, Workshop, WORKSHOP},
};

/// More names that `ruaufs check` knows as temporary.
const TEMPORARY: &str = ".wh..wh.commit.0001";
const COPIES: &str = ".wh..wh.commit.0002";

/// So many are told one by one.
const MOST_PROBLEMS: usize = 20;

/// Whether to look or to do.
pub(super) enum How<'a> {
    Look(&'a mut Survey),
    Do,
}

/// How to do it.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Make marks in LOWER for all marks of UPPER.
    pub(super) all_marks: bool,
    /// LOWER may get hard links of UPPER's files.
    pub(super) links: bool,
    /// All was merged before.
    pub(super) resumed: bool,
}

/// The walk.
pub(super) struct Merge<'a> {
    upper: Cursor,
    lower: Cursor,
    lower_root: Rc<Dir>,
    lower_honours: bool,
    /// The attributes for LOWER's root.
    root_meta: Meta,
    below: Layers,
    manner: Manner,
    copies: Copies,
    workshop: Option<Workshop>,
    frames: Vec<Frame>,
    /// The directory that it is at, relative to the branch.
    path: PathBuf,
    how: How<'a>,
    watch: &'a mut dyn Watch,
}

/// A directory of the walk.
struct Frame {
    /// The objects that are left.
    todo: vec::IntoIter<OsString>,
    /// Names that have a whiteout, sorted.
    whiteouts: Vec<OsString>,
    /// What is merged with it under LOWER.
    level: Rc<[usize]>,
    /// A mark of UPPER, here or above, hides all that is below it.
    mark: bool,
    /// LOWER has the directory.
    lower: bool,
    /// The attributes that UPPER's had.
    meta: Meta,
}

/// A directory in hand.
struct At {
    upper: Rc<Dir>,
    /// `None` in a dry run: it would have been made.
    lower: Option<Rc<Dir>>,
    /// What shows under LOWER.
    below: Rc<[usize]>,
    mark: bool,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        (upper, lower): (Dir, Dir),
        lower_honours: bool,
        root_meta: Meta,
        below: Layers,
        manner: Manner,
        how: How<'a>,
        watch: &'a mut dyn Watch,
    ) -> Self {
        let lower = Cursor::new(lower, 2);
        Merge {
            upper: Cursor::new(upper, 2),
            lower_root: lower.dir(),
            lower,
            lower_honours,
            root_meta,
            below,
            manner,
            copies: Copies::default(),
            workshop: None,
            frames: Vec::new(),
            path: PathBuf::new(),
            how,
            watch,
        }
    }

    /// Goes through all.
    pub(super) fn run(&mut self) -> Result<()> {
        self.tidy(&[TEMPORARY, COPIES])?;
        let root = self.lower.dir();
        let level = match self.lower_honours && root.has_mark(names::OPAQUE.as_ref())? {
            true => Level::new(),
            // The roots of all branches are merged, down to the first opaque one.
            false => self.below.visible()?,
        };
        self.check_fixed(&root.clone(), None)?;
        self.begin(level, false, true)?;
        loop {
            self.check_stop()?;
            let Some(frame) = self.frames.last_mut() else {
                return Ok(());
            };
            match frame.todo.next() {
                Some(name) => {
                    let hides = frame.whiteouts.binary_search(&name).is_ok();
                    self.entry(&name, hides)?;
                }
                None => self.end()?,
            }
        }
    }

    /// Removes what only the walk needs, also after it has failed.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(workshop) = self.workshop.take() {
            workshop.close(&self.lower.dir())?;
        }
        self.copies.finish(&self.lower_root)
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
            How::Do => anyhow::bail!(text),
        }
    }

    fn check_stop(&self) -> Result<()> {
        match self.watch.stop() {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }

    fn tell(&mut self, action: Action, name: &OsStr) {
        self.path.push(name);
        self.watch.action(action, &self.path);
        self.path.pop();
    }

    /// Removes what an earlier run has left in the directory of LOWER.
    fn tidy(&self, names: &[&str]) -> Result<()> {
        let lower = self.lower.dir();
        for name in names {
            if !self.looks() && lower.has(name.as_ref())? {
                lower.remove(name.as_ref())?;
            }
        }
        Ok(())
    }

    /// The directory that the cursors are at.
    fn at(&self, level: &Rc<[usize]>, mark: bool, lower: bool) -> At {
        At {
            upper: self.upper.dir(),
            lower: lower.then(|| self.lower.dir()),
            // Below a mark everything comes from UPPER.
            below: match mark {
                true => Rc::new([]),
                false => level.clone(),
            },
            mark,
        }
    }

    fn here(&self) -> Result<At> {
        let frame = self.frames.last().context("there is no directory")?;
        Ok(self.at(&frame.level, frame.mark, frame.lower))
    }

    /// Begins with the directory that the cursors are at. `cut`: a mark of UPPER above hides what
    /// LOWER has here.
    fn begin(&mut self, level: Level, cut: bool, lower: bool) -> Result<()> {
        let upper = self.upper.dir();
        let mut entries = Entries::of(&upper)?;
        if let Some(name) = entries.former_names.first() {
            let path = upper.path_of(name);
            self.problem(format!(
                "{}: the directory was renamed with the option dirren, and its contents on lower \
                 branches cannot be found without it; copy the directory through the union first",
                path.shown()
            ))?;
        }
        if lower {
            self.tidy(&[WORKSHOP, TEMPORARY])?;
        }
        let level: Rc<[usize]> = level.into();
        let mark = cut || entries.opaque;
        let at = self.at(&level, mark, lower);
        if mark {
            if !level.is_empty() || self.manner.all_marks && entries.opaque {
                self.mark(at.lower.as_deref(), names::OPAQUE.as_ref())?;
            }
            self.clear(&at, &entries)?;
        } else {
            for name in &entries.whiteouts {
                if entries.plain.binary_search(name).is_err() {
                    self.whiteout(&at, name)?;
                }
            }
        }
        self.frames.push(Frame {
            todo: std::mem::take(&mut entries.plain).into_iter(),
            whiteouts: entries.whiteouts,
            level,
            mark,
            lower,
            meta: match self.frames.is_empty() {
                true => self.root_meta,
                false => *upper.meta(),
            },
        });
        Ok(())
    }

    /// Ends with it: the attributes come last, since all that was put into it changed its times.
    fn end(&mut self) -> Result<()> {
        let (upper, lower) = (self.upper.dir(), self.lower.dir());
        if let Some(workshop) = self.workshop.take() {
            workshop.close(&lower)?;
        }
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        if self.frames.is_empty() {
            self.copies.finish(&self.lower_root)?;
        }
        if frame.lower && !self.looks() {
            let left_out = dir::xattrs(upper.fd()).and_then(|xattrs| {
                object::set_attributes(&lower.fd(), &frame.meta, &xattrs, lower.free_bytes()?)
            });
            let left_out = left_out.with_context(|| lower.path().shown())?;
            self.warn_of(|| lower.path(), left_out);
        }
        if !self.frames.is_empty() {
            self.path.pop();
            self.upper.leave()?;
            if frame.lower {
                self.lower.leave()?;
            }
            self.below.leave(&frame.level)?;
        }
        Ok(())
    }

    fn warn_of(&mut self, path: impl FnOnce() -> PathBuf, left_out: Vec<String>) {
        if !left_out.is_empty() {
            self.watch.warn(format!(
                "{}: extended attributes that its file system cannot hold are left out: {}",
                path().shown(),
                left_out.join(", ")
            ));
        }
    }

    /// Removes from LOWER what UPPER hides by a mark of the whole directory.
    fn clear(&mut self, at: &At, entries: &Entries) -> Result<()> {
        let Some(lower) = &at.lower else {
            return Ok(());
        };
        for name in lower.names()? {
            let stays = match names::meaning(&name) {
                Meaning::Plain => entries.plain.binary_search(&name).is_ok(),
                Meaning::Opaque | Meaning::Bookkeeping => true,
                _ => false,
            };
            if !stays {
                self.remove(lower, &name)?;
            }
        }
        Ok(())
    }

    /// A whiteout in UPPER with no object beside it.
    fn whiteout(&mut self, at: &At, name: &OsStr) -> Result<()> {
        if let Some(lower) = &at.lower {
            if self.get(lower, name)?.is_some() {
                self.remove(lower, name)?;
            }
        }
        let shows = !matches!(self.below.look_up(&at.below, name)?, Found::Absent);
        if shows || self.manner.all_marks {
            self.mark(at.lower.as_deref(), &names::whiteout(name))?;
        }
        Ok(())
    }

    /// An entry of LOWER. For a survey a mount on it is a problem, not an error.
    fn get(&mut self, lower: &Dir, name: &OsStr) -> Result<Option<Object>> {
        match lower.get(name) {
            Err(e) if dir::is_mount(&e) => {
                self.problem(e.to_string())?;
                Ok(None)
            }
            other => other,
        }
    }

    fn remove(&mut self, lower: &Dir, name: &OsStr) -> Result<()> {
        self.tell(Action::Remove, name);
        match self.looks() {
            true => self.check_removal(lower, name),
            false => lower.remove(name),
        }
    }

    /// Makes a whiteout or an opaque mark in a directory of LOWER.
    fn mark(&mut self, lower: Option<&Dir>, name: &OsStr) -> Result<()> {
        if !self.lower_honours {
            let path = self.path.join(name);
            return self.problem(format!(
                "{} must be in {} to hide what lies in the branches under it, but marks do not \
                 count there; give that branch the attribute wh (ro+wh), or make it rw",
                path.shown(),
                self.lower_root.path().shown()
            ));
        }
        if let Some(lower) = lower {
            if lower.has_mark(name)? {
                return Ok(());
            }
        }
        self.tell(Action::Mark, name);
        match lower {
            Some(lower) if !self.looks() => object::make_mark(&self.lower_root, lower, name),
            _ => Ok(()),
        }
    }

    /// An object of UPPER. `hides`: its whiteout is beside it.
    fn entry(&mut self, name: &OsStr, hides: bool) -> Result<()> {
        let at = self.here()?;
        let object = match at.upper.expect(name) {
            Err(e) if dir::is_mount(&e) => return self.problem(e.to_string()),
            other => other?,
        };
        if self.looks() {
            self.check_fixed(&at.upper, Some(&object))?;
        }
        self.watch.object();
        if let How::Look(survey) = &mut self.how {
            survey.objects += 1;
            if object.meta().is_file() {
                survey.bytes = survey.bytes.saturating_add(object.meta().size);
            }
        }
        match object.meta().is_dir() {
            true => self.sub_directory(at, name, object, hides),
            false => {
                self.other(&at, name, &object)?;
                self.drop_whiteout(at.lower.as_deref(), name)
            }
        }
    }

    /// Removes LOWER's whiteout of a name which is there now.
    fn drop_whiteout(&mut self, lower: Option<&Dir>, name: &OsStr) -> Result<()> {
        let whiteout = names::whiteout(name);
        match lower {
            Some(lower) if self.lower_honours && !self.looks() && lower.has(&whiteout)? => {
                lower.unlink(&whiteout)
            }
            _ => Ok(()),
        }
    }

    fn sub_directory(&mut self, at: At, name: &OsStr, upper: Object, hides: bool) -> Result<()> {
        let parent = at.lower.as_deref();
        let mut lower = None;
        let mut hidden = false;
        if let Some(parent) = parent {
            hidden = self.lower_honours && parent.has_mark(&names::whiteout(name))?;
            match self.get(parent, name)? {
                Some(object) if object.meta().is_dir() => {
                    if self.looks() {
                        self.check_fixed(parent, Some(&object))?;
                    }
                    lower = Some(object.open_dir()?);
                }
                Some(_) => self.remove(parent, name)?,
                None => {}
            }
        }
        let mut merged = self.below.below_dir(&at.below, name)?;
        match &lower {
            Some(dir) if self.lower_honours && dir.has_mark(names::OPAQUE.as_ref())? => {
                merged.clear();
            }
            Some(_) => {}
            None => {
                self.tell(Action::MakeDir, name);
                if let Some(parent) = parent.filter(|_| !self.looks()) {
                    lower = Some(parent.make_private(name)?);
                }
            }
        }
        self.path.push(name);
        if hidden && !merged.is_empty() {
            // LOWER's whiteout has hidden these; the directory that takes its place must.
            self.mark(lower.as_ref(), names::OPAQUE.as_ref())?;
            merged.clear();
        }
        self.drop_whiteout(parent, name)?;
        if let (Some(parent), Some(workshop)) = (parent, self.workshop.take()) {
            workshop.close(parent)?;
        }
        self.upper.enter(upper.open_dir()?);
        let has_lower = lower.is_some();
        if let Some(lower) = lower {
            self.lower.enter(lower);
        }
        let level = self.below.enter(merged);
        self.begin(level, at.mark || hides, has_lower)
    }

    /// An object that is no directory.
    fn other(&mut self, at: &At, name: &OsStr, object: &Object) -> Result<()> {
        let size = match object.meta().is_file() {
            true => object.meta().size,
            false => 0,
        };
        let there = match &at.lower {
            Some(lower) => self.get(lower, name)?,
            None => None,
        };
        if let Some(there) = &there {
            if there.id() == object.id() || !self.looks() && self.is_done(name, there, object)? {
                self.watch.bytes(size);
                return Ok(());
            }
        }
        match (&at.lower, there) {
            (Some(lower), Some(there)) if there.meta().is_dir() => {
                self.remove(lower, name)?;
                self.tell(Action::Add, name);
            }
            (lower, Some(there)) => {
                self.tell(Action::Replace, name);
                if let Some(lower) = lower.as_ref().filter(|_| self.looks()) {
                    self.check_fixed(lower, Some(&there))?;
                }
            }
            (_, None) => self.tell(Action::Add, name),
        }
        match &at.lower {
            Some(lower) if !self.looks() => self.put(lower, name, object, size),
            _ => Ok(()),
        }
    }

    /// Whether LOWER has the copy of an object already.
    fn is_done(&mut self, name: &OsStr, there: &Object, object: &Object) -> Result<bool> {
        // Which names are one file must come out right, too. Of a file with several names that is
        // known only if all was merged before.
        let alone = there.meta().nlink == 1 && object.meta().nlink == 1;
        if !(alone || self.manner.resumed) || there.meta().is_dir() {
            return Ok(false);
        }
        let watch = &mut *self.watch;
        let mut report = |_| match watch.stop() {
            true => Err(Stopped.into()),
            false => Ok(()),
        };
        if !object::is_copy(there, object, &mut report)? {
            return Ok(false);
        }
        dir::set_times(there.fd(), object.meta()).with_context(|| there.path().shown())?;
        if object.meta().nlink > 1 {
            let at = self.path.join(name);
            self.copies.add(&self.lower_root, object.id(), there, at)?;
        }
        Ok(true)
    }

    /// Puts an object into LOWER, over what is there.
    fn put(&mut self, lower: &Rc<Dir>, name: &OsStr, object: &Object, size: u64) -> Result<()> {
        if self.manner.links && link(object, lower, name)? {
            self.watch.bytes(size);
            return Ok(());
        }
        let workshop = match self.workshop.take() {
            Some(workshop) => workshop,
            None => Workshop::open(lower)?,
        };
        let workshop = self.workshop.insert(workshop);
        if self.copies.link(&self.lower_root, object.id(), workshop)? {
            self.watch.bytes(size);
            return workshop.deliver(lower, name);
        }
        let watch = &mut *self.watch;
        let mut report = |bytes| {
            watch.bytes(bytes);
            match watch.stop() {
                true => Err(Stopped.into()),
                false => Ok(()),
            }
        };
        let copied = workshop.copy(object, &mut report).with_context(|| {
            let (old, new) = (object.path(), lower.path());
            format!("copying {} to {}", old.shown(), new.shown())
        });
        let (copy, left_out) = match copied {
            Ok(copied) => copied,
            Err(e) => {
                // What matters is the first error.
                let _ = workshop.discard();
                return Err(e);
            }
        };
        workshop.deliver(lower, name)?;
        if object.meta().nlink > 1 {
            let at = self.path.join(name);
            self.copies.add(&self.lower_root, object.id(), &copy, at)?;
        }
        self.warn_of(|| lower.path_of(name), left_out);
        Ok(())
    }

    /// Finds what could not be removed, replaced or changed: an object, or the directory itself.
    fn check_fixed(&mut self, dir: &Dir, object: Option<&Object>) -> Result<()> {
        let meta = object.map_or(dir.meta(), Object::meta);
        match self.looks() && meta.fixed {
            true => self.problem(fixed(&object.map_or_else(|| dir.path(), Object::path))),
            false => Ok(()),
        }
    }

    /// Finds what could not be removed of an entry and all that is in it.
    fn check_removal(&mut self, lower: &Dir, name: &OsStr) -> Result<()> {
        let mut problems = Vec::new();
        let mut visit = |dir: &Dir, name: &OsStr| match dir.get(name) {
            Err(e) if dir::is_mount(&e) => {
                problems.push(e.to_string());
                Ok(None)
            }
            other => Ok(match other? {
                Some(object) => {
                    if object.meta().fixed {
                        problems.push(fixed(&object.path()));
                    }
                    object
                        .meta()
                        .is_dir()
                        .then(|| object.open_dir())
                        .transpose()?
                }
                None => None,
            }),
        };
        if let Some(dir) = visit(lower, name)? {
            walk(dir, &mut visit, &mut |_, _| Ok(()))?;
        }
        problems.into_iter().try_for_each(|text| self.problem(text))
    }
}

fn fixed(path: &std::path::Path) -> String {
    let path = path.shown();
    format!("{path} is immutable or append-only; clear that with: chattr -ia")
}

/// Gives an object of UPPER a name in LOWER, over what is there; `false` if that is not possible.
fn link(object: &Object, lower: &Dir, name: &OsStr) -> Result<bool> {
    let temporary: &OsStr = TEMPORARY.as_ref();
    match object.link_to(lower, name) {
        Ok(()) => return Ok(true),
        Err(Errno::EXIST) => {}
        Err(_) => return Ok(false),
    }
    if object.link_to(lower, temporary).is_err() {
        return Ok(false);
    }
    lower.rename(temporary, lower, name)?;
    // rename(2) does nothing if both are links of one file.
    lower.unlink(temporary)?;
    Ok(true)
}

/// Copies of files with several names. Each has one more name in a directory of root's, where it is
/// found however deep the others are.
#[derive(Default)]
struct Copies {
    dir: Option<Dir>,
    /// By UPPER's object: the copy, and where it is if it could not be given that name.
    all: HashMap<Id, (Id, Option<PathBuf>)>,
}

impl Copies {
    fn name(of: Id) -> OsString {
        format!("{:x}-{:x}", of.dev, of.ino).into()
    }

    /// Remembers the copy of an object, which has a name in LOWER.
    fn add(&mut self, root: &Dir, of: Id, copy: &Object, at: PathBuf) -> Result<()> {
        if self.all.contains_key(&of) {
            return Ok(());
        }
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => root.make_private(COPIES.as_ref())?,
        };
        let elsewhere = match copy.link_to(self.dir.insert(dir), &Self::name(of)) {
            Ok(()) => None,
            // It has as many names as it can have, or can have one only.
            Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Some(at),
            // Without a name there it could become another file of that number.
            Err(e) => {
                return Err(e).with_context(|| format!("linking {}", copy.path().shown()));
            }
        };
        self.all.insert(of, (copy.id(), elsewhere));
        Ok(())
    }

    /// Makes a further name of the copy of an object in the workshop; `false` if there is none yet.
    fn link(&self, root: &Dir, of: Id, workshop: &Workshop) -> Result<bool> {
        let Some((id, elsewhere)) = self.all.get(&of) else {
            return Ok(false);
        };
        let name = Self::name(of);
        let copy = match (&self.dir, elsewhere) {
            (Some(dir), None) => dir.find(name.as_ref(), *id)?,
            (_, Some(path)) => root.find(path, *id)?,
            (None, None) => return Ok(false),
        };
        match (workshop.link(&copy), &self.dir) {
            // It has as many names as it can have, of which one is ours.
            (Err(Errno::MLINK), Some(dir)) => workshop.adopt(dir, &name)?,
            (linked, _) => linked.with_context(|| format!("linking {}", copy.path().shown()))?,
        }
        Ok(true)
    }

    /// Removes the names again.
    fn finish(&mut self, root: &Dir) -> Result<()> {
        match self.dir.take() {
            Some(dir) => {
                dir.clear()?;
                root.rmdir(COPIES.as_ref())
            }
            None => Ok(()),
        }
    }
}
