// SPDX-License-Identifier: GPL-2.0

//! Random branches and operations. Few names and shallow paths, so that things meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use proptest::prelude::*;

use crate::harness::tree::{whiteout_name, Tree};

/// A relative path of one to three names.
pub(crate) type Path = String;

/// Branches and what is done to their union.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) layers: Vec<Layer>,
    /// Whether files have several names.
    pub(crate) links: bool,
    pub(crate) ops: Vec<Op>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            writeln!(f, "branch {}:", layer.perm.name())?;
            for (path, item) in &layer.items {
                writeln!(f, "    {path}: {item:?}")?;
            }
            writeln!(
                f,
                "    whiteouts {:?}, opaque {:?}",
                layer.whiteouts, layer.opaque
            )?;
            if layer.pair {
                writeln!(f, "    h and k: two names of one file")?;
            }
        }
        for (i, op) in self.ops.iter().enumerate() {
            writeln!(f, "step {i}: {op:?}")?;
        }
        Ok(())
    }
}

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
    File { fill: u8, len: usize, meta: Meta },
    Symlink(&'static str),
    Fifo,
}

/// Attributes of an object.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    mode: u32,
    uid: u32,
    mtime: i64,
    xattr: bool,
}

impl Item {
    /// Adds the object to a tree.
    pub(crate) fn add(&self, tree: Tree, path: &str) -> Tree {
        let (tree, meta) = match self {
            Item::Dir(meta) => (tree.dir(path), meta),
            Item::File { fill, len, meta } => (tree.file(path, vec![*fill; *len]), meta),
            Item::Symlink(target) => return tree.symlink(path, target),
            Item::Fifo => return tree.fifo(path),
        };
        let tree = tree.owner(meta.uid, meta.uid + 1).mode(meta.mode);
        let tree = tree.mtime(meta.mtime, 777_000_001);
        match meta.xattr {
            true => tree.xattr("user.born", path),
            false => tree,
        }
    }
}

/// One branch.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) perm: Perm,
    pub(crate) items: BTreeMap<Path, Item>,
    pub(crate) whiteouts: BTreeSet<Path>,
    pub(crate) opaque: BTreeSet<Path>,
    /// Two names of one file, `h` and `k`, which no other layer has.
    pub(crate) pair: bool,
}

impl Layer {
    /// Makes a consistent branch of arbitrary parts: what does not fit is left out.
    fn new(perm: Perm, parts: Vec<(Path, Item)>, whiteouts: Vec<Path>, opaque: Vec<Path>) -> Self {
        let mut layer = Self {
            perm,
            items: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            pair: false,
        };
        for (path, item) in parts {
            if layer.parents(&path) {
                layer.items.entry(path).or_insert(item);
            }
        }
        for path in whiteouts {
            if layer.parents(&path) {
                layer.whiteouts.insert(path);
            }
        }
        for path in opaque {
            if matches!(layer.items.get(&path), Some(Item::Dir(_))) {
                layer.opaque.insert(path);
            }
        }
        layer
    }

    /// Makes the directories above a path; says whether that is possible.
    fn parents(&mut self, path: &str) -> bool {
        let ancestors = path.match_indices('/').map(|(end, _)| &path[..end]);
        for dir in ancestors {
            let made = Item::Dir(Meta {
                mode: 0o755,
                uid: 0,
                mtime: 1_450_000_000,
                xattr: false,
            });
            let there = self.items.entry(dir.to_owned()).or_insert(made);
            if !matches!(there, Item::Dir(_)) {
                return false;
            }
        }
        true
    }

    /// The branch as it is on disk.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for (path, item) in &self.items {
            tree = item.add(tree, path);
        }
        for path in &self.whiteouts {
            tree = tree.file(&whiteout_name(path), "");
        }
        for path in &self.opaque {
            tree = tree.opaque(path);
        }
        match self.pair {
            true => tree.file("h", "pair").hardlink("k", "h"),
            false => tree,
        }
    }
}

/// How a descriptor is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    Reading,
    Writing,
    /// An unnamed file in the directory.
    Unnamed,
}

/// An operation. `usize` first is a slot for a held descriptor.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Path, u32),
    Write(Path, u64, usize, u8),
    Append(Path, u8),
    Replace(Path, u8),
    Truncate(Path, u64),
    Read(Path),
    Stat(Path),
    List(Path),
    Unlink(Path),
    Mkdir(Path, u32),
    Rmdir(Path),
    Rename(Path, Path),
    RenameNoReplace(Path, Path),
    Exchange(Path, Path),
    Link(Path, Path),
    Symlink(&'static str, Path),
    Fifo(Path),
    Chmod(Path, u32),
    Chown(Path, u32),
    Utimens(Path, i64),
    SetXattr(Path, &'static str, u8),
    RemoveXattr(Path, &'static str),
    PunchHole(Path, u64),
    Hold(usize, Path, Hold),
    HeldWrite(usize, u64, usize, u8),
    HeldRead(usize),
    HeldTruncate(usize, u64),
    HeldChmod(usize, u32),
    HeldLink(usize, Path),
    Release(usize),
    DropCaches,
}

impl Op {
    /// Source and destination of a rename.
    pub(crate) fn renames(&self) -> Option<(&str, &str)> {
        match self {
            Op::Rename(a, b) | Op::RenameNoReplace(a, b) | Op::Exchange(a, b) => Some((a, b)),
            _ => None,
        }
    }

    /// The operation for a scenario whose files have one name each.
    fn without_links(self) -> Self {
        match self {
            Op::Link(path, _) | Op::HeldLink(_, path) => Op::Stat(path),
            op => op,
        }
    }
}

/// Descriptors that can be held at a time.
pub(crate) const SLOTS: usize = 3;

fn path() -> impl Strategy<Value = Path> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        4 => prop::collection::vec(name.clone(), 1..=2),
        2 => prop::collection::vec(name, 3..=3),
        1 => prop::sample::select(vec!["h", "k"]).prop_map(|n| vec![n]),
    ]
    .prop_map(|names| names.join("/"))
}

/// Targets stay inside the tree.
fn target() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "a/b", "c/d", "nowhere", "."])
}

fn mode() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0o644, 0o600, 0o755, 0o4755, 0o2750, 0o1777, 0o000])
}

fn meta() -> impl Strategy<Value = Meta> {
    let parts = (
        mode(),
        0u32..4,
        1_400_000_000i64..1_500_000_000,
        any::<bool>(),
    );
    parts.prop_map(|(mode, uid, mtime, xattr)| Meta {
        mode,
        uid,
        mtime,
        xattr,
    })
}

fn item() -> impl Strategy<Value = Item> {
    let size = prop_oneof![Just(0usize), 1usize..200, 4000usize..20_000];
    prop_oneof![
        3 => meta().prop_map(Item::Dir),
        4 => (1u8.., size, meta()).prop_map(|(fill, len, meta)| Item::File { fill, len, meta }),
        1 => target().prop_map(Item::Symlink),
        1 => Just(Item::Fifo),
    ]
}

fn layer(perm: impl Strategy<Value = Perm>) -> impl Strategy<Value = Layer> {
    let own = prop::sample::select(vec!["a", "b", "c", "d"]);
    let own = prop::collection::vec(own, 1..=3).prop_map(|names| names.join("/"));
    let part = (own.clone(), item());
    let parts = prop::collection::vec(part, 0..8);
    let whiteouts = prop::collection::vec(own.clone(), 0..3);
    let opaque = prop::collection::vec(own, 0..2);
    (perm, parts, whiteouts, opaque)
        .prop_map(|(perm, parts, whiteouts, opaque)| Layer::new(perm, parts, whiteouts, opaque))
}

fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    let offset = || prop_oneof![Just(0u64), 1u64..300, 4000u64..9000];
    let xattr = || prop::sample::select(vec!["user.born", "user.a"]);
    let hold = prop_oneof![
        2 => Just(Hold::Reading),
        2 => Just(Hold::Writing),
        1 => Just(Hold::Unnamed),
    ];
    prop_oneof![
        3 => (path(), mode()).prop_map(|(p, m)| Op::Create(p, m)),
        4 => (path(), offset(), 1usize..5000, any::<u8>())
            .prop_map(|(p, o, l, f)| Op::Write(p, o, l, f)),
        2 => (path(), any::<u8>()).prop_map(|(p, f)| Op::Append(p, f)),
        2 => (path(), any::<u8>()).prop_map(|(p, f)| Op::Replace(p, f)),
        2 => (path(), offset()).prop_map(|(p, l)| Op::Truncate(p, l)),
        1 => path().prop_map(Op::Read),
        1 => path().prop_map(Op::Stat),
        2 => path().prop_map(Op::List),
        5 => path().prop_map(Op::Unlink),
        4 => (path(), mode()).prop_map(|(p, m)| Op::Mkdir(p, m)),
        4 => path().prop_map(Op::Rmdir),
        6 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Op::RenameNoReplace(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Op::Exchange(a, b)),
        3 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => (target(), path()).prop_map(|(t, p)| Op::Symlink(t, p)),
        1 => path().prop_map(Op::Fifo),
        2 => (path(), mode()).prop_map(|(p, m)| Op::Chmod(p, m)),
        2 => (path(), 0u32..5).prop_map(|(p, u)| Op::Chown(p, u)),
        2 => (path(), 1_300_000_000i64..1_400_000_000).prop_map(|(p, t)| Op::Utimens(p, t)),
        2 => (path(), xattr(), any::<u8>()).prop_map(|(p, n, v)| Op::SetXattr(p, n, v)),
        1 => (path(), xattr()).prop_map(|(p, n)| Op::RemoveXattr(p, n)),
        1 => (path(), offset()).prop_map(|(p, o)| Op::PunchHole(p, o)),
        4 => (slot(), path(), hold).prop_map(|(s, p, h)| Op::Hold(s, p, h)),
        3 => (slot(), offset(), 1usize..5000, any::<u8>())
            .prop_map(|(s, o, l, f)| Op::HeldWrite(s, o, l, f)),
        2 => slot().prop_map(Op::HeldRead),
        1 => (slot(), offset()).prop_map(|(s, l)| Op::HeldTruncate(s, l)),
        1 => (slot(), mode()).prop_map(|(s, m)| Op::HeldChmod(s, m)),
        1 => (slot(), path()).prop_map(|(s, p)| Op::HeldLink(s, p)),
        1 => slot().prop_map(Op::Release),
        1 => Just(Op::DropCaches),
    ]
}

/// Scenarios of at most `length` steps.
pub(crate) fn scenarios(length: usize) -> impl Strategy<Value = Scenario> {
    let lower = prop_oneof![2 => Just(Perm::Ro), 2 => Just(Perm::RoWh), 1 => Just(Perm::Rw)];
    let lowers = prop::collection::vec(layer(lower), 1..=3);
    let ops = prop::collection::vec(op(), 0..=length);
    let all = (layer(Just(Perm::Rw)), lowers, prop::bool::ANY, ops);
    all.prop_map(|(top, mut lowers, links, mut ops)| {
        if let (true, Some(lowest)) = (links, lowers.last_mut()) {
            lowest.pair = true;
        }
        if !links {
            ops = ops.into_iter().map(Op::without_links).collect();
        }
        let mut layers = vec![top];
        layers.append(&mut lowers);
        Scenario { layers, links, ops }
    })
}
