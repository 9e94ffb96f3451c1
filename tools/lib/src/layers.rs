// SPDX-License-Identifier: GPL-2.0

//! Look-up of names in a stack of branch directories, by the union's rules.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
    rc::Rc,
};

use anyhow::Result;
use logic::{
    env::{KVec, GFP_KERNEL},
    lookup::{self, Marks, Scan, Step},
    merge::{self, Listing},
};

use crate::{
    dir::{self, Cursor, Dir},
    names,
};

/// A branch of a stack, at one of its directories.
#[derive(Debug)]
pub struct Layer {
    cursor: Cursor,
    honours: bool,
}

/// Branches, topmost first, each at one of its directories.
#[derive(Debug)]
pub struct Layers {
    all: Vec<Layer>,
    mounts: Mounts,
}

/// What is made of a name on which something is mounted: a union shows what is under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// An error.
    Refused,
    /// Not a directory.
    Shown,
}

/// Those branches of a stack that count in a directory.
pub type Level = Vec<usize>;

/// What a name is in a stack.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Not a directory.
    Other,
    /// A directory, with these instances.
    Dir(Vec<Instance>),
}

/// An instance of a directory, in this branch.
pub type Instance = (usize, Dir);

impl Layers {
    /// Opens the roots of branches; each with whether marks in it count. `trees` are walked
    /// together with these.
    pub fn open<'p>(
        branches: impl IntoIterator<Item = (&'p Path, bool)>,
        trees: usize,
        mounts: Mounts,
    ) -> Result<Self> {
        let roots: Result<Vec<_>> = branches
            .into_iter()
            .map(|(path, honours)| Ok((Dir::open(path)?, honours)))
            .collect();
        let roots = roots?;
        let all = roots.len() + trees;
        let layer = |(root, honours)| Layer {
            cursor: Cursor::new(root, all),
            honours,
        };
        Ok(Layers {
            all: roots.into_iter().map(layer).collect(),
            mounts,
        })
    }

    /// Those whose roots count: all down to the first opaque one.
    pub fn visible(&self) -> Result<Level> {
        let mut seen = Vec::new();
        for (index, layer) in self.all.iter().enumerate() {
            seen.push(index);
            if layer.honours && is_opaque(&layer.cursor.dir())? {
                break;
            }
        }
        Ok(seen)
    }

    fn at(&self, index: usize) -> (Rc<Dir>, bool) {
        let layer = &self.all[index];
        (layer.cursor.dir(), layer.honours)
    }

    /// Looks a name up in the instances of a directory, topmost first.
    pub fn look_up(&self, level: &[usize], name: &OsStr) -> Result<Found> {
        self.find(level, name, Scan::new(level.len()))
    }

    /// The instances of a directory that lie below one that was found elsewhere.
    pub fn below_dir(&self, level: &[usize], name: &OsStr) -> Result<Vec<Instance>> {
        match self.find(level, name, Scan::below_dir(level.len()))? {
            Found::Dir(instances) => Ok(instances),
            Found::Absent | Found::Other => Ok(Vec::new()),
        }
    }

    fn find(&self, level: &[usize], name: &OsStr, mut scan: Scan) -> Result<Found> {
        let mut instances: Vec<Instance> = Vec::new();
        let mut last = None;
        let mut step = scan.step();
        loop {
            step = match step {
                Step::Name(at) => {
                    let (dir, _) = self.at(level[at]);
                    last = match dir.get(name) {
                        Err(e) if dir::is_mount(&e) && self.mounts == Mounts::Shown => {
                            return Ok(Found::Other);
                        }
                        other => other?,
                    };
                    scan.name(match &last {
                        None => lookup::Found::Absent,
                        Some(object) if object.meta().is_dir() => lookup::Found::Dir,
                        Some(_) => lookup::Found::Other,
                    })
                }
                Step::Marks(at) => {
                    scan.marks(match self.hides_below(level[at], name, &instances)? {
                        true => Marks::Present,
                        false => Marks::Absent,
                    })
                }
                Step::Take(at) => {
                    match last.take() {
                        Some(object) if object.meta().is_dir() => {
                            instances.push((level[at], object.open_dir()?));
                        }
                        _ => return Ok(Found::Other),
                    }
                    scan.taken()
                }
                Step::Done => break,
            };
        }
        Ok(match instances.is_empty() {
            true => Found::Absent,
            false => Found::Dir(instances),
        })
    }

    /// Whether a branch hides a name on those below it; these instances of the name were found.
    fn hides_below(&self, index: usize, name: &OsStr, instances: &[Instance]) -> Result<bool> {
        let (dir, honours) = self.at(index);
        if !honours {
            return Ok(false);
        }
        if let Some((_, instance)) = instances.iter().find(|(of, _)| *of == index) {
            if is_opaque(instance)? {
                return Ok(true);
            }
        }
        dir.has_mark(&names::whiteout(name))
    }

    /// Goes to these instances.
    pub fn enter(&mut self, instances: Vec<Instance>) -> Level {
        let mut level = Vec::new();
        for (index, dir) in instances {
            self.all[index].cursor.enter(dir);
            level.push(index);
        }
        level
    }

    /// Leaves the instances that were entered.
    pub fn leave(&mut self, level: &[usize]) -> Result<()> {
        level
            .iter()
            .try_for_each(|index| self.all[*index].cursor.leave())
    }

    /// All names that the merged directory shows.
    pub fn list(&self, level: &[usize]) -> Result<BTreeSet<OsString>> {
        let mut layers = KVec::new();
        for &index in level {
            let (dir, honours) = self.at(index);
            let mut listing = Listing::new();
            for name in dir.names()? {
                listing.push(name.as_bytes(), names::role(&name), 0, 0)?;
            }
            let layer = merge::Layer {
                listing,
                space: 0,
                honours_whiteouts: honours,
            };
            layers.push(layer, GFP_KERNEL)?;
        }
        let merged = merge::merge(&layers, false)?;
        let entries = (0..merged.len()).filter_map(|i| merged.get(i));
        Ok(entries
            .map(|entry| OsStr::from_bytes(entry.name).to_owned())
            .collect())
    }
}

/// Whether a directory on a branch whose marks count is marked as opaque.
fn is_opaque(dir: &Dir) -> Result<bool> {
    dir.has_mark(names::OPAQUE.as_ref())
}
