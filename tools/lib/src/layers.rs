// SPDX-License-Identifier: GPL-2.0

//! Look-up of names in a stack of branch directories, by the union's rules.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::Path,
};

use anyhow::Result;

use crate::{
    dir::{self, Dir},
    names::{self, Meaning},
};

/// One instance of a directory.
#[derive(Debug)]
pub struct Layer {
    /// The directory.
    pub dir: Dir,
    /// Whether marks in it count.
    pub honours: bool,
}

/// What a name is in a stack.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Not a directory.
    Other,
    /// A directory, with these instances.
    Dir(Vec<Layer>),
}

impl Layer {
    /// Opens the root of a branch.
    pub fn root(path: &Path, honours: bool) -> Result<Self> {
        Ok(Layer {
            dir: Dir::open(path)?,
            honours,
        })
    }

    /// Whether the directory is marked as opaque.
    pub fn is_opaque(&self) -> Result<bool> {
        Ok(self.honours && self.dir.has_mark(names::OPAQUE.as_ref())?)
    }
}

/// Cuts a list of instances after the first opaque one.
pub fn visible(layers: Vec<Layer>) -> Result<Vec<Layer>> {
    let mut seen = Vec::new();
    for layer in layers {
        let last = layer.is_opaque()?;
        seen.push(layer);
        if last {
            break;
        }
    }
    Ok(seen)
}

/// Looks a name up in the instances of a directory, topmost first.
///
/// A name counts before its whiteout on the same branch. Below a directory other types are stepped
/// over, and directories are merged.
pub fn look_up(layers: &[Layer], name: &OsStr) -> Result<Found> {
    find(layers, name, Vec::new())
}

/// The instances of a directory that lie below one that was found elsewhere.
pub fn below_dir(layers: &[Layer], name: &OsStr) -> Result<Vec<Layer>> {
    let mut instances = Vec::new();
    for layer in layers {
        if collect(layer, name, &mut instances)? == Step::Stop {
            break;
        }
    }
    Ok(instances)
}

#[derive(PartialEq, Eq)]
enum Step {
    Next,
    Stop,
}

fn find(layers: &[Layer], name: &OsStr, mut instances: Vec<Layer>) -> Result<Found> {
    for layer in layers {
        let stat = layer.dir.stat_of(name)?;
        if instances.is_empty() && stat.is_some_and(|stat| !dir::is_dir(&stat)) {
            return Ok(Found::Other);
        }
        if collect(layer, name, &mut instances)? == Step::Stop {
            break;
        }
    }
    Ok(match instances.is_empty() {
        true => Found::Absent,
        false => Found::Dir(instances),
    })
}

/// Takes a directory of this name, and tells whether what lies below this branch counts.
fn collect(layer: &Layer, name: &OsStr, instances: &mut Vec<Layer>) -> Result<Step> {
    if let Some(dir) = layer.dir.sub_if_there(name)? {
        let instance = Layer {
            dir,
            honours: layer.honours,
        };
        let opaque = instance.is_opaque()?;
        instances.push(instance);
        if opaque {
            return Ok(Step::Stop);
        }
    }
    let hidden = layer.honours && layer.dir.has_mark(&names::whiteout(name))?;
    Ok(match hidden {
        true => Step::Stop,
        false => Step::Next,
    })
}

/// All names that the merged directory shows.
pub fn list(layers: &[Layer]) -> Result<BTreeSet<OsString>> {
    let mut shown = BTreeSet::new();
    let mut hidden = BTreeSet::new();
    for layer in layers {
        let mut whiteouts = Vec::new();
        for name in layer.dir.names()? {
            match names::meaning(&name) {
                Meaning::Plain if !hidden.contains(&name) => {
                    shown.insert(name);
                }
                Meaning::Whiteout(of) if layer.honours => whiteouts.push(of),
                _ => {}
            }
        }
        hidden.extend(whiteouts);
    }
    Ok(shown)
}
