// SPDX-License-Identifier: GPL-2.0

//! The tree that a union of branches must show: the rules of look-up, in the plainest form.

use std::collections::{BTreeMap, BTreeSet};

/// An object on a branch, whatever else is known of it.
pub(crate) trait Object {
    fn is_dir(&self) -> bool;
}

/// What is on a branch.
#[derive(Clone, Debug)]
pub(crate) struct Layer<T> {
    /// Whether whiteouts and opaque marks count.
    pub(crate) believed: bool,
    pub(crate) items: BTreeMap<String, T>,
    pub(crate) whiteouts: BTreeSet<String>,
    pub(crate) opaque: BTreeSet<String>,
}

/// The visible tree of a stack of branches, top first.
pub(crate) fn merge<'l, T: Object>(layers: &[&'l Layer<T>]) -> BTreeMap<String, &'l T> {
    let mut tree = BTreeMap::new();
    merge_dir(layers, "", &mut tree);
    tree
}

/// Adds the content of the directory `dir`, which is merged from these branches.
fn merge_dir<'l, T: Object>(
    layers: &[&'l Layer<T>],
    dir: &str,
    tree: &mut BTreeMap<String, &'l T>,
) {
    let names: BTreeSet<_> = layers.iter().flat_map(|l| l.children(dir)).collect();
    for path in names {
        let (top, parts) = resolve(layers, path);
        let Some(top) = top else { continue };
        tree.insert(path.to_owned(), top);
        if top.is_dir() {
            merge_dir(&parts, path, tree);
        }
    }
}

/// The object that a path means and, if it is a directory, the branches it is merged from.
fn resolve<'l, T: Object>(
    layers: &[&'l Layer<T>],
    path: &str,
) -> (Option<&'l T>, Vec<&'l Layer<T>>) {
    let mut top: Option<&T> = None;
    let mut parts = Vec::new();
    for layer in layers {
        match layer.items.get(path) {
            Some(dir) if dir.is_dir() => {
                top = top.or(Some(dir));
                parts.push(*layer);
                if layer.believed && layer.opaque.contains(path) {
                    break;
                }
            }
            Some(other) if top.is_none() => return (Some(other), parts),
            // Of another kind than the directory above it: stepped over.
            _ => {}
        }
        // A whiteout hides what is below its branch, not what is beside it.
        if layer.believed && layer.whiteouts.contains(path) {
            break;
        }
    }
    (top, parts)
}

impl<T> Layer<T> {
    /// Paths of what is in a directory of this branch.
    fn children<'l>(&'l self, dir: &'l str) -> impl Iterator<Item = &'l str> {
        self.items.keys().map(String::as_str).filter(move |path| {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            !path.is_empty() && parent == dir
        })
    }
}
