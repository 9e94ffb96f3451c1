// SPDX-License-Identifier: GPL-2.0

//! What is on the branches before a union is made of them. Few names and shallow paths, so that
//! things meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use proptest::prelude::*;

use super::merge::{self, Object};
use crate::harness::{
    acl::{self, Entry},
    tree::{whiteout_name, Tree},
};

/// A relative path of one to three names.
pub(crate) type Path = String;

/// How a branch is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Perm {
    Rw,
    Ro,
    RoWh,
}

impl Perm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Perm::Rw => "rw",
            Perm::Ro => "ro",
            Perm::RoWh => "ro+wh",
        }
    }
}

/// An object on a branch.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Dir(Meta),
    File {
        fill: u8,
        len: usize,
        meta: Meta,
    },
    /// Data of 5000 bytes, a hole up to `len`, data of 300 bytes.
    Sparse {
        fill: u8,
        len: u64,
        meta: Meta,
    },
    Symlink(&'static str),
    Fifo,
    /// Another name, in the same directory, of a file of this branch.
    Link(Path),
}

impl Object for Item {
    fn is_dir(&self) -> bool {
        matches!(self, Item::Dir(_))
    }
}

/// Attributes of an object.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    mode: u32,
    uid: u32,
    mtime: i64,
    xattr: bool,
    acl: Option<usize>,
}

impl Meta {
    const fn plain(mode: u32) -> Self {
        Meta {
            mode,
            uid: 0,
            mtime: 1_450_000_000,
            xattr: false,
            acl: None,
        }
    }
}

impl Item {
    /// Adds the object to a tree.
    pub(crate) fn add(&self, tree: Tree, path: &str) -> Tree {
        let (tree, meta) = match self {
            Item::Dir(meta) => (tree.dir(path), meta),
            Item::File { fill, len, meta } => (tree.file(path, vec![*fill; *len]), meta),
            Item::Sparse { fill, len, meta } => {
                let (head, tail) = (vec![*fill; 5000], vec![!*fill; 300]);
                let pieces = [(0, &head[..]), (*len, &tail[..])];
                (tree.sparse(path, len + 300, &pieces), meta)
            }
            Item::Symlink(target) => return tree.symlink(path, target),
            Item::Fifo => return tree.fifo(path),
            Item::Link(other) => return tree.hardlink(path, other),
        };
        let tree = tree.owner(meta.uid, meta.uid + 1).mode(meta.mode);
        let mut tree = tree.mtime(meta.mtime, 777_000_001);
        if meta.xattr {
            tree = tree.xattr("user.born", path);
        }
        match meta.acl {
            Some(which) => tree.xattr(ACL_ACCESS, acl(which)),
            None => tree,
        }
    }
}

/// One branch.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) perm: Perm,
    pub(crate) content: merge::Layer<Item>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "branch {}:", self.perm.name())?;
        for (path, item) in &self.content.items {
            writeln!(f, "    {path}: {item:?}")?;
        }
        let content = &self.content;
        let (whiteouts, opaque) = (&content.whiteouts, &content.opaque);
        writeln!(f, "    whiteouts {whiteouts:?}, opaque {opaque:?}")
    }
}

impl Layer {
    /// Makes a consistent branch of arbitrary parts: what does not fit is left out.
    fn new(perm: Perm, parts: Vec<(Path, Item)>, whiteouts: Vec<Path>, opaque: Vec<Path>) -> Self {
        let mut layer = Self {
            perm,
            content: merge::Layer {
                believed: perm != Perm::Ro,
                items: BTreeMap::new(),
                whiteouts: BTreeSet::new(),
                opaque: BTreeSet::new(),
            },
        };
        for (path, item) in parts {
            if layer.parents(&path) {
                layer.content.items.entry(path).or_insert(item);
            }
        }
        for path in whiteouts {
            if layer.parents(&path) {
                layer.content.whiteouts.insert(path);
            }
        }
        for path in opaque {
            if matches!(layer.content.items.get(&path), Some(Item::Dir(_))) {
                layer.content.opaque.insert(path);
            }
        }
        layer
    }

    /// Makes the directories above a path; says whether that is possible.
    fn parents(&mut self, path: &str) -> bool {
        let ancestors = path.match_indices('/').map(|(end, _)| &path[..end]);
        for dir in ancestors {
            let made = Item::Dir(Meta::plain(0o755));
            let there = self.content.items.entry(dir.to_owned()).or_insert(made);
            if !there.is_dir() {
                return false;
            }
        }
        true
    }

    /// Adds names of one file. No other branch may have these names: of a file with a name that is
    /// hidden already, a union cannot know how many names it shows.
    pub(crate) fn add_links(&mut self, names: &[&str]) {
        let Some((first, others)) = names.split_first() else {
            return;
        };
        if !self.parents(first) {
            return;
        }
        let meta = Meta::plain(0o666);
        let file = Item::File {
            fill: 77,
            len: 4500,
            meta,
        };
        self.content.items.insert((*first).to_owned(), file);
        for name in others {
            let link = Item::Link((*first).to_owned());
            self.content.items.insert((*name).to_owned(), link);
        }
    }

    /// Adds a directory with many names.
    pub(crate) fn add_many(&mut self, first: usize, step: usize) {
        self.parents(&many(0));
        for i in (first..MANY).step_by(step) {
            self.content.items.entry(many(i)).or_insert(Item::Fifo);
        }
    }

    /// How many things are on the branch.
    pub(crate) fn pieces(&self) -> usize {
        let content = &self.content;
        content.items.len() + content.whiteouts.len() + content.opaque.len()
    }

    /// The branch with only those things that are kept, as far as they can be without the others.
    pub(crate) fn only(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut layer = self.clone();
        let content = &mut layer.content;
        let mut gone: Vec<Path> = Vec::new();
        content.items.retain(|path, _| {
            let keep = keep();
            if !keep {
                gone.push(path.clone());
            }
            keep
        });
        content.whiteouts.retain(|_| keep());
        content.opaque.retain(|_| keep());
        for path in gone {
            let stays = |other: &Path| {
                let below = other.strip_prefix(path.as_str());
                !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            content.items.retain(|other, item| match item {
                Item::Link(source) => stays(other) && stays(source),
                _ => stays(other),
            });
            content
                .whiteouts
                .retain(|other| match other.rsplit_once('/') {
                    Some((dir, _)) => stays(&dir.to_owned()),
                    None => true,
                });
            content.opaque.retain(stays);
        }
        layer
    }

    /// Leaves no whiteout beside the object that it hides; nor one in a directory of which nothing
    /// may lie below, since there a new object does not remove it.
    pub(crate) fn tidy(&mut self) {
        let content = &mut self.content;
        content
            .whiteouts
            .retain(|path| !content.items.contains_key(path) && !path.contains('/'));
    }

    /// This branch with all below the directory `top`.
    pub(crate) fn below(&self, top: &str) -> merge::Layer<Item> {
        let down = |path: &Path| format!("{top}/{path}");
        let content = &self.content;
        let moved = |(path, item): (&Path, &Item)| match item {
            Item::Link(other) => (down(path), Item::Link(down(other))),
            item => (down(path), item.clone()),
        };
        let mut items: BTreeMap<_, _> = content.items.iter().map(moved).collect();
        items.insert(top.to_owned(), Item::Dir(Meta::plain(0o777)));
        merge::Layer {
            believed: content.believed,
            items,
            whiteouts: content.whiteouts.iter().map(down).collect(),
            opaque: content.opaque.iter().map(down).collect(),
        }
    }
}

/// The branch as it is on disk.
pub(crate) fn on_disk(content: &merge::Layer<Item>) -> Tree {
    let mut tree = build(content.items.iter());
    for path in &content.whiteouts {
        tree = tree.file(&whiteout_name(path), "");
    }
    for path in &content.opaque {
        tree = tree.opaque(path);
    }
    tree
}

/// The tree that a union of these must show.
pub(crate) fn merged(layers: &[&merge::Layer<Item>]) -> Tree {
    let merged = merge::merge(layers);
    build(merged.iter().map(|(path, item)| (path, *item)))
}

/// Everybody may write to the root.
fn build<'i>(items: impl Iterator<Item = (&'i Path, &'i Item)>) -> Tree {
    items.fold(Tree::new().mode(0o777), |tree, (path, item)| {
        item.add(tree, path)
    })
}

pub(crate) const ACL_ACCESS: &str = "system.posix_acl_access";
pub(crate) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// Kinds of access control lists, see [`acl`].
pub(crate) const ACLS: usize = 4;

/// An access control list in its binary form.
pub(crate) fn acl(which: usize) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    let entries: &[Entry] = match which % ACLS {
        // Nothing beyond what a mode says.
        0 => &[(1, 6, NONE), (4, 4, NONE), (0x20, 0, NONE)],
        // User 2 may all, the owner's group nothing.
        1 => &[
            (1, 7, NONE),
            (2, 7, 2),
            (4, 0, NONE),
            (0x10, 7, NONE),
            (0x20, 5, NONE),
        ],
        // Group 3 may write, but the mask lets it read only.
        2 => &[
            (1, 6, NONE),
            (4, 6, NONE),
            (8, 7, 3),
            (0x10, 5, NONE),
            (0x20, 7, NONE),
        ],
        // User 1 is shut out.
        _ => &[
            (1, 7, NONE),
            (2, 0, 1),
            (4, 7, NONE),
            (0x10, 7, NONE),
            (0x20, 7, NONE),
        ],
    };
    acl::acl(entries)
}

/// Names in the directory with many names.
pub(crate) const MANY: usize = 60;

/// One of the many names.
pub(crate) fn many(index: usize) -> Path {
    format!("w/a-name-that-fills-buffers-{index}")
}

/// Targets stay inside the tree.
pub(crate) fn target() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "a/b", "c/d", "nowhere", "."])
}

pub(crate) fn mode() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![
        0o644, 0o600, 0o755, 0o777, 0o666, 0o4755, 0o2755, 0o2777, 0o1777, 0o000,
    ])
}

fn meta() -> impl Strategy<Value = Meta> {
    let parts = (
        mode(),
        0u32..4,
        1_400_000_000i64..1_500_000_000,
        any::<bool>(),
        prop_oneof![4 => Just(None), 1 => (0..ACLS).prop_map(Some)],
    );
    parts.prop_map(|(mode, uid, mtime, xattr, acl)| Meta {
        mode,
        uid,
        mtime,
        xattr,
        acl,
    })
}

fn item() -> impl Strategy<Value = Item> {
    let size = prop_oneof![Just(0usize), 1usize..200, 4000usize..20_000];
    prop_oneof![
        6 => meta().prop_map(Item::Dir),
        7 => (1u8.., size, meta()).prop_map(|(fill, len, meta)| Item::File { fill, len, meta }),
        1 => (1u8..255, 9000u64..60_000, meta())
            .prop_map(|(fill, len, meta)| Item::Sparse { fill, len, meta }),
        2 => target().prop_map(Item::Symlink),
        1 => Just(Item::Fifo),
    ]
}

/// Branches with arbitrary contents.
pub(crate) fn layer(perm: impl Strategy<Value = Perm>) -> impl Strategy<Value = Layer> {
    let own = prop::sample::select(vec!["a", "b", "c", "d"]);
    let own = prop::collection::vec(own, 1..=3).prop_map(|names| names.join("/"));
    let part = (own.clone(), item());
    let parts = prop::collection::vec(part, 0..10);
    let whiteouts = prop::collection::vec(own.clone(), 0..3);
    let opaque = prop::collection::vec(own, 0..2);
    (perm, parts, whiteouts, opaque)
        .prop_map(|(perm, parts, whiteouts, opaque)| Layer::new(perm, parts, whiteouts, opaque))
}
