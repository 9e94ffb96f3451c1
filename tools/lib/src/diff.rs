// SPDX-License-Identifier: GPL-2.0

//! What a branch changes of those below it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    vec,
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    dir::{Cursor, Dir},
    layers::{Found, Layers, Level},
    names::{self, Meaning},
};

/// How a name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It was there, and is another now: contents, attributes, type, or something below it.
    Changed,
    /// It is gone, with all that was below it.
    Deleted,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Added => "A",
            Kind::Changed => "C",
            Kind::Deleted => "D",
        })
    }
}

/// Tells `each` about all differences that a branch makes to the stack below it: a directory before
/// what is in it, names in order. Paths begin with `/`, the root of the union.
///
/// A directory on the branch counts as changed: it was copied there since something in it, or its
/// attributes, changed. `honours`: marks on the branch count.
pub fn diff(
    branch: Dir,
    honours: bool,
    below: Layers,
    each: &mut dyn FnMut(Kind, &Path) -> Result<()>,
) -> Result<()> {
    let level = below.visible()?;
    let mut walk = Walk {
        honours,
        branch: Cursor::new(branch, 1),
        below,
        path: PathBuf::from("/"),
        each,
    };
    let mut frames = vec![walk.begin(level, false)?];
    while let Some(frame) = frames.last_mut() {
        let next = frame.todo.next();
        match next {
            Some((name, Kind::Deleted)) => walk.tell(Kind::Deleted, &name)?,
            Some((name, _)) => {
                let entered = walk.entry(frame, &name)?;
                frames.extend(entered);
            }
            None => {
                let level = std::mem::take(&mut frame.level);
                frames.pop();
                if !frames.is_empty() {
                    walk.path.pop();
                    walk.branch.leave()?;
                    walk.below.leave(&level)?;
                }
            }
        }
    }
    Ok(())
}

struct Walk<'a> {
    /// Whether marks on the branch count.
    honours: bool,
    branch: Cursor,
    below: Layers,
    path: PathBuf,
    each: &'a mut dyn FnMut(Kind, &Path) -> Result<()>,
}

/// A directory of the walk.
struct Frame {
    /// The names that are left, and whether they are gone.
    todo: vec::IntoIter<(OsString, Kind)>,
    /// Names that have a whiteout, sorted.
    whiteouts: Vec<OsString>,
    level: Level,
    /// A mark here or above hides all instances below.
    cut: bool,
}

impl Walk<'_> {
    /// Begins with the directory that the branch is at. `cut`: an opaque mark or a whiteout above
    /// hides all its instances below.
    fn begin(&self, level: Level, cut: bool) -> Result<Frame> {
        let mut entries = Entries::of(&self.branch.dir())?;
        if !self.honours {
            entries.opaque = false;
            entries.whiteouts.clear();
        }
        let cut = cut || entries.opaque;
        let mut gone = Vec::new();
        if cut {
            gone.extend(self.below.list(&level)?);
        } else {
            for name in &entries.whiteouts {
                if !matches!(self.below.look_up(&level, name)?, Found::Absent) {
                    gone.push(name.clone());
                }
            }
        }
        gone.retain(|name| entries.plain.binary_search(name).is_err());
        let mut todo: Vec<_> = gone.into_iter().map(|name| (name, Kind::Deleted)).collect();
        todo.extend(entries.plain.into_iter().map(|name| (name, Kind::Changed)));
        todo.sort();
        Ok(Frame {
            todo: todo.into_iter(),
            whiteouts: entries.whiteouts,
            level,
            cut,
        })
    }

    fn tell(&mut self, kind: Kind, name: &OsStr) -> Result<()> {
        self.path.push(name);
        let told = (self.each)(kind, &self.path);
        self.path.pop();
        told
    }

    /// A name that is on the branch; if it is a directory, that is to be gone on with.
    fn entry(&mut self, at: &Frame, name: &OsStr) -> Result<Option<Frame>> {
        let found = self.below.look_up(&at.level, name)?;
        let kind = match found {
            Found::Absent => Kind::Added,
            Found::Other | Found::Dir(_) => Kind::Changed,
        };
        self.tell(kind, name)?;
        let Some(sub) = self.branch.dir().sub(name)? else {
            return Ok(None);
        };
        let instances = match found {
            Found::Dir(instances) => instances,
            Found::Absent | Found::Other => Vec::new(),
        };
        let cut = at.cut
            || at
                .whiteouts
                .binary_search_by(|w| w.as_os_str().cmp(name))
                .is_ok();
        self.path.push(name);
        self.branch.enter(sub);
        let level = self.below.enter(instances);
        self.begin(level, cut).map(Some)
    }
}

/// The names in a branch's directory by what they mean.
pub(crate) struct Entries {
    /// Objects, sorted.
    pub(crate) plain: Vec<OsString>,
    /// Names that have a whiteout, sorted.
    pub(crate) whiteouts: Vec<OsString>,
    /// Whether the opaque mark is there.
    pub(crate) opaque: bool,
    /// Former names of a renamed directory (`dirren`).
    pub(crate) former_names: Vec<OsString>,
}

impl Entries {
    /// Reads a directory on a branch whose marks count.
    pub(crate) fn of(dir: &Dir) -> Result<Self> {
        let mut entries = Entries {
            plain: Vec::new(),
            whiteouts: Vec::new(),
            opaque: dir.has_mark(names::OPAQUE.as_ref())?,
            former_names: Vec::new(),
        };
        for name in dir.names()? {
            match names::meaning(&name) {
                Meaning::Plain => entries.plain.push(name),
                Meaning::Whiteout(of) => {
                    dir.has_mark(&name)?;
                    entries.whiteouts.push(OsStr::from_bytes(of).to_owned());
                }
                Meaning::FormerName => entries.former_names.push(name),
                Meaning::Opaque | Meaning::Bookkeeping | Meaning::Temporary | Meaning::Unknown => {}
            }
        }
        Ok(entries)
    }
}

/// Counts of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// New names.
    pub added: u64,
    /// Changed ones.
    pub changed: u64,
    /// Those that are gone.
    pub deleted: u64,
}

impl Counts {
    /// Counts one more.
    pub fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Added => self.added += 1,
            Kind::Changed => self.changed += 1,
            Kind::Deleted => self.deleted += 1,
        }
    }
}
