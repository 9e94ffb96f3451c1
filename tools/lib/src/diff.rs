// SPDX-License-Identifier: GPL-2.0

//! What a branch changes of those below it.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    dir::Dir,
    layers::{self, Found, Layer},
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
/// attributes, changed.
pub fn diff(
    branch: &Layer,
    below: &[Layer],
    each: &mut dyn FnMut(Kind, PathBuf) -> Result<()>,
) -> Result<()> {
    let honours = branch.honours;
    Walk { honours, each }.dir(&branch.dir, below, false, Path::new("/"))
}

struct Walk<'a> {
    /// Whether marks on the branch count.
    honours: bool,
    each: &'a mut dyn FnMut(Kind, PathBuf) -> Result<()>,
}

impl Walk<'_> {
    /// `cut`: an opaque mark or a whiteout above hides all instances in `below`.
    fn dir(&mut self, upper: &Dir, below: &[Layer], cut: bool, at: &Path) -> Result<()> {
        let mut entries = Entries::of(upper)?;
        if !self.honours {
            entries.opaque = false;
            entries.whiteouts.clear();
        }
        let mut gone = Vec::new();
        if cut || entries.opaque {
            gone.extend(layers::list(below)?);
        } else {
            for name in &entries.whiteouts {
                if !matches!(layers::look_up(below, name)?, Found::Absent) {
                    gone.push(name.clone());
                }
            }
        }
        gone.retain(|name| entries.plain.binary_search(name).is_err());
        let mut all: Vec<(&OsString, bool)> = gone.iter().map(|name| (name, true)).collect();
        all.extend(entries.plain.iter().map(|name| (name, false)));
        all.sort();
        for (name, deleted) in all {
            let path = at.join(name);
            match deleted {
                true => (self.each)(Kind::Deleted, path)?,
                false => {
                    let cut = cut || entries.opaque || entries.whiteouts.contains(name);
                    self.entry(upper, name, below, cut, path)?;
                }
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        upper: &Dir,
        name: &OsString,
        below: &[Layer],
        cut: bool,
        path: PathBuf,
    ) -> Result<()> {
        let found = layers::look_up(below, name)?;
        let kind = match found {
            Found::Absent => Kind::Added,
            Found::Other | Found::Dir(_) => Kind::Changed,
        };
        (self.each)(kind, path.clone())?;
        let Some(sub) = upper.sub_if_there(name)? else {
            return Ok(());
        };
        match found {
            Found::Dir(instances) => self.dir(&sub, &instances, cut, &path),
            Found::Absent | Found::Other => self.dir(&sub, &[], cut, &path),
        }
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
                    entries.whiteouts.push(of);
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
