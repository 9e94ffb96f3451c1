// SPDX-License-Identifier: GPL-2.0

//! The tree that a union of branches must show: the rules of look-up, in the plainest form.

use std::collections::BTreeSet;

use super::scenario::{Item, Layer, Perm};
use crate::harness::tree::Tree;

/// The visible tree of a stack of branches, top first.
pub(crate) fn merge(layers: &[Layer]) -> Tree {
    let all: Vec<_> = layers.iter().collect();
    let mut tree = Tree::new();
    tree = merge_dir(&all, "", tree);
    match layers.iter().any(|l| l.pair) {
        true => tree.file("h", "pair").hardlink("k", "h"),
        false => tree,
    }
}

/// Adds the content of the directory `dir`, which is merged from these branches.
fn merge_dir(layers: &[&Layer], dir: &str, mut tree: Tree) -> Tree {
    let names: BTreeSet<_> = layers.iter().flat_map(|l| l.children(dir)).collect();
    for path in names {
        let (top, parts) = resolve(layers, path);
        let Some(top) = top else { continue };
        tree = top.add(tree, path);
        if matches!(top, Item::Dir(_)) {
            tree = merge_dir(&parts, path, tree);
        }
    }
    tree
}

/// The object that a path means and, if it is a directory, the branches it is merged from.
fn resolve<'l>(layers: &[&'l Layer], path: &str) -> (Option<&'l Item>, Vec<&'l Layer>) {
    let mut top: Option<&Item> = None;
    let mut parts = Vec::new();
    for layer in layers {
        let believed = layer.perm != Perm::Ro;
        match (layer.items.get(path), top) {
            (Some(dir @ Item::Dir(_)), None | Some(Item::Dir(_))) => {
                top = top.or(Some(dir));
                parts.push(*layer);
                if believed && layer.opaque.contains(path) {
                    break;
                }
            }
            (Some(other), None) => return (Some(other), parts),
            // Of another kind than the directory above it: stepped over.
            _ => {}
        }
        // A whiteout hides what is below its branch, not what is beside it.
        if believed && layer.whiteouts.contains(path) {
            break;
        }
    }
    (top, parts)
}

impl Layer {
    /// Paths of what is in a directory of this branch.
    fn children<'l>(&'l self, dir: &'l str) -> impl Iterator<Item = &'l str> {
        self.items.keys().map(String::as_str).filter(move |path| {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            parent == dir
        })
    }
}
