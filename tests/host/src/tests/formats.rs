// SPDX-License-Identifier: GPL-2.0

//! What is decided from marks does not depend on how they are stored.
//!
//! Branches are written down in the format of aufs and in another one, [`Devices`]. Listing, look-up
//! and index must show the same tree of both: the one that the rules say.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    bool::weighted,
    collection::{btree_map, btree_set, vec},
    prelude::*,
};

use logic::{
    env::{Result, EINVAL},
    index::{Builder, Index, Wanted, What},
    lookup::{Found, Scan, Step},
    marks::{
        aufs::{self, Aufs},
        Dir, Format, Role, UserName,
    },
    merge::{merge, Layer, Listing},
};

/// A directory of a branch, apart from any format.
#[derive(Clone, Debug, Default)]
struct Branch {
    objects: BTreeMap<String, Node>,
    /// The names that it hides; none of those that it has.
    hidden: BTreeSet<String>,
    opaque: bool,
}

/// What has a name.
#[derive(Clone, Debug)]
enum Node {
    File,
    Device,
    Dir(Branch),
}

/// What is on the disk: a directory in some format.
#[derive(Default)]
struct Stored {
    entries: BTreeMap<Vec<u8>, Object>,
    attributes: BTreeSet<&'static str>,
}

/// What a stored directory has under a name.
enum Object {
    File,
    Device(u32, u32),
    Dir(Stored),
}

impl Object {
    /// The type as in `struct dirent`.
    fn dtype(&self) -> u8 {
        match self {
            Object::File => 8,
            Object::Device(..) => 2,
            Object::Dir(_) => 4,
        }
    }
}

impl Dir for Stored {
    type Entry = Object;

    fn has(&self, name: &[u8]) -> Result<bool> {
        match self.entries.get(name) {
            None => Ok(false),
            Some(Object::File) => Ok(true),
            Some(_) => Err(EINVAL),
        }
    }
}

/// A format in which branches can be written down.
trait Store: Format<Stored> {
    fn hide(dir: &mut Stored, name: &str);
    fn make_opaque(dir: &mut Stored);
    fn keep_books(root: &mut Stored);
}

impl Store for Aufs {
    fn hide(dir: &mut Stored, name: &str) {
        let name = aufs::whiteout(name.as_bytes()).unwrap();
        dir.entries.insert(name.to_vec(), Object::File);
    }

    fn make_opaque(dir: &mut Stored) {
        dir.entries.insert(aufs::OPAQUE.to_vec(), Object::File);
    }

    fn keep_books(root: &mut Stored) {
        root.entries.insert(aufs::BASE.to_vec(), Object::File);
        for dir in [aufs::PLINK_DIR, aufs::ORPHAN_DIR] {
            let dir = (dir.to_vec(), Object::Dir(Stored::default()));
            root.entries.extend([dir]);
        }
    }
}

/// A whiteout is a device 0:0 with the name that it hides; an attribute makes a directory opaque.
struct Devices;

impl Devices {
    const OPAQUE: &'static str = "trusted.devices.opaque";
}

impl Format<Stored> for Devices {
    fn user(name: &[u8]) -> Option<UserName<'_>> {
        Some(UserName::vouched_for(name))
    }

    fn role<'a>(dir: &Stored, name: &'a [u8], dtype: u8) -> Result<Role<'a>> {
        // The type alone does not tell.
        let is_mark = dtype == 2 && dir.entries.get(name).is_some_and(Self::is_mark);
        Ok(match is_mark {
            true => Role::Whiteout(name),
            false => Role::Object,
        })
    }

    fn is_mark(entry: &Object) -> bool {
        matches!(entry, Object::Device(0, 0))
    }

    fn hides(dir: &Stored, name: UserName<'_>) -> Result<bool> {
        Ok(dir.entries.get(name.bytes()).is_some_and(Self::is_mark))
    }

    fn is_opaque(dir: &Stored) -> Result<bool> {
        Ok(dir.attributes.contains(Self::OPAQUE))
    }
}

impl Store for Devices {
    fn hide(dir: &mut Stored, name: &str) {
        dir.entries
            .insert(name.as_bytes().to_vec(), Object::Device(0, 0));
    }

    fn make_opaque(dir: &mut Stored) {
        dir.attributes.insert(Self::OPAQUE);
    }

    fn keep_books(_root: &mut Stored) {}
}

/// Writes a branch down.
fn store<F: Store>(branch: &Branch) -> Stored {
    let mut stored = Stored::default();
    for (name, node) in &branch.objects {
        let object = match node {
            Node::File => Object::File,
            Node::Device => Object::Device(5, 1),
            Node::Dir(branch) => Object::Dir(store::<F>(branch)),
        };
        stored.entries.insert(name.as_bytes().to_vec(), object);
    }
    for name in &branch.hidden {
        F::hide(&mut stored, name);
    }
    if branch.opaque {
        F::make_opaque(&mut stored);
    }
    stored
}

/// An instance of a directory: what is on the branch, and whether that is one whose marks count.
type Instance<'a> = (&'a Stored, bool);

/// What the union shows under each name: the first instance, and what is inside if it is a
/// directory.
type Shown = BTreeMap<String, (usize, Option<Inside>)>;

/// What a directory shows.
#[derive(Debug, PartialEq, Eq)]
struct Inside(Shown);

/// Lists the directory with these instances: for each name, the instance it comes from.
fn list<F: Format<Stored>>(dirs: &[Instance<'_>]) -> BTreeMap<String, usize> {
    let layers: Vec<Layer> = (0u16..)
        .zip(dirs)
        .map(|(space, (dir, honours_whiteouts))| {
            let mut listing = Listing::new();
            for (name, object) in &dir.entries {
                let role = F::role(dir, name, object.dtype()).unwrap();
                listing.push(name, role, 1, object.dtype()).unwrap();
            }
            Layer {
                listing,
                space,
                honours_whiteouts: *honours_whiteouts,
            }
        })
        .collect();
    let merged = merge(&layers, false).unwrap();
    (0..merged.len())
        .map(|i| merged.get(i).unwrap())
        .map(|entry| {
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            (name, usize::from(entry.space))
        })
        .collect()
}

/// Looks a name up in these instances: those that make it up.
fn look_up<F: Format<Stored>>(dirs: &[Instance<'_>], name: UserName<'_>) -> Vec<usize> {
    let mut taken = Vec::new();
    let mut scan = Scan::new(dirs.len());
    let mut step = scan.step();
    loop {
        step = match step {
            Step::Name(i) => scan.name(match dirs[i].0.entries.get(name.bytes()) {
                Some(object) if F::is_mark(object) => Found::Absent,
                Some(Object::Dir(_)) => Found::Dir,
                Some(_) => Found::Other,
                None => Found::Absent,
            }),
            Step::Marks(i) => {
                let (dir, counts) = dirs[i];
                let opaque = || match &dir.entries[name.bytes()] {
                    Object::Dir(inside) => F::is_opaque(inside).unwrap(),
                    _ => false,
                };
                let hidden =
                    counts && (F::hides(dir, name).unwrap() || (taken.contains(&i) && opaque()));
                scan.marks(hidden.into())
            }
            Step::Take(i) => {
                taken.push(i);
                scan.taken()
            }
            Step::Done => return taken,
        };
    }
}

/// Lists the instances into an index.
fn index<F: Format<Stored>>(dirs: &[Instance<'_>]) -> Index {
    let mut builder = Builder::new();
    for (i, (dir, whiteouts)) in (0u16..).zip(dirs) {
        let wanted = Wanted {
            entries: true,
            whiteouts: *whiteouts,
        };
        for (name, object) in &dir.entries {
            let role = F::role(dir, name, object.dtype()).unwrap();
            builder.push(i, name, role, wanted).unwrap();
        }
    }
    builder.finish().unwrap()
}

/// Whether the index and the instances say the same of `name`.
fn agrees<F: Format<Stored>>(index: &Index, dirs: &[Instance<'_>], name: UserName<'_>) -> bool {
    let mut entries = index.find(name.bytes());
    let mut whiteouts = entries.clone();
    (0u16..).zip(dirs).all(|(i, (dir, counts))| {
        let object = dir.entries.get(name.bytes());
        let has = object.is_some_and(|object| !F::is_mark(object));
        let hides = *counts && F::hides(dir, name).unwrap();
        (entries.next(i, What::Entry) == Some(i)) == has
            && (whiteouts.next(i, What::Whiteout) == Some(i)) == hides
    })
}

/// All names of the tests.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The tree that listings and look-ups show of these instances.
fn shown<F: Format<Stored>>(dirs: &[Instance<'_>]) -> Shown {
    let listed = list::<F>(dirs);
    let index = index::<F>(dirs);
    let mut shown = Shown::new();
    for text in NAMES {
        let name = F::user(text.as_bytes()).unwrap();
        assert!(agrees::<F>(&index, dirs, name), "{text}");
        let taken = look_up::<F>(dirs, name);
        assert_eq!(listed.get(text), taken.first(), "{text}");
        let Some(&first) = taken.first() else {
            continue;
        };
        let inside: Vec<Instance<'_>> = taken
            .iter()
            .filter_map(|&i| match &dirs[i].0.entries[text.as_bytes()] {
                Object::Dir(dir) => Some((dir, dirs[i].1)),
                _ => None,
            })
            .collect();
        let inside = (!inside.is_empty()).then(|| Inside(self::shown::<F>(&inside)));
        shown.insert(text.to_owned(), (first, inside));
    }
    assert_eq!(listed.len(), shown.len(), "{listed:?}");
    shown
}

/// The tree that the union shows of branches that are stored in one format.
fn union<F: Store>(branches: &[(Branch, bool)]) -> Shown {
    let stored: Vec<(Stored, bool)> = branches
        .iter()
        .map(|(branch, counts)| {
            let mut root = store::<F>(branch);
            F::keep_books(&mut root);
            (root, *counts)
        })
        .collect();
    let opaque = |(root, counts): &(Stored, bool)| *counts && F::is_opaque(root).unwrap();
    let depth = stored
        .iter()
        .position(opaque)
        .map_or(stored.len(), |at| at + 1);
    let roots: Vec<Instance<'_>> = stored[..depth].iter().map(|(a, b)| (a, *b)).collect();
    shown::<F>(&roots)
}

/// The tree that the rules say, from the branches themselves.
fn model(dirs: &[(&Branch, bool)]) -> Shown {
    let mut shown = Shown::new();
    for name in NAMES {
        let mut taken: Vec<(usize, &Node, bool)> = Vec::new();
        for (at, (dir, counts)) in dirs.iter().enumerate() {
            let node = dir.objects.get(name);
            match (node, taken.first()) {
                (Some(node), None) => taken.push((at, node, *counts)),
                (Some(node @ Node::Dir(_)), Some((_, Node::Dir(_), _))) => {
                    taken.push((at, node, *counts));
                }
                _ => {}
            }
            let is_last = match node {
                _ if matches!(taken.first(), Some((_, Node::File | Node::Device, _))) => true,
                Some(Node::Dir(inside)) if *counts => inside.opaque,
                _ => *counts && dir.hidden.contains(name),
            };
            if is_last {
                break;
            }
        }
        let Some((first, ..)) = taken.first() else {
            continue;
        };
        let inside: Vec<(&Branch, bool)> = taken
            .iter()
            .filter_map(|(_, node, counts)| match node {
                Node::Dir(branch) => Some((branch, *counts)),
                _ => None,
            })
            .collect();
        let inside = (!inside.is_empty()).then(|| Inside(model(&inside)));
        shown.insert(name.to_owned(), (*first, inside));
    }
    shown
}

/// Any directory, this deep.
fn branch(depth: u32) -> BoxedStrategy<Branch> {
    let leaf = prop_oneof![Just(Node::File), Just(Node::Device)];
    let node = match depth.checked_sub(1) {
        None => leaf.boxed(),
        Some(depth) => prop_oneof![leaf, branch(depth).prop_map(Node::Dir)].boxed(),
    };
    let parts = (
        btree_map("[a-d]", node, 0..4),
        btree_set("[a-e]", 0..3),
        weighted(0.2),
    );
    parts
        .prop_map(|(objects, mut hidden, opaque)| {
            hidden.retain(|name| !objects.contains_key(name));
            Branch {
                objects,
                hidden,
                opaque,
            }
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn show_the_same_tree(branches in vec((branch(2), weighted(0.8)), 1..5)) {
        let opaque = branches.iter().position(|(branch, counts)| *counts && branch.opaque);
        let depth = opaque.map_or(branches.len(), |at| at + 1);
        let roots: Vec<(&Branch, bool)> = branches[..depth]
            .iter()
            .map(|(branch, counts)| (branch, *counts))
            .collect();
        let model = model(&roots);
        prop_assert_eq!(&union::<Aufs>(&branches), &model, "aufs");
        prop_assert_eq!(&union::<Devices>(&branches), &model, "devices");
    }
}

/// What is a mark in one format is an object in the other.
#[test]
fn know_only_their_own_marks() {
    let hides = |hide: fn(&mut Stored, &str)| {
        let (mut upper, mut lower) = (Stored::default(), Stored::default());
        hide(&mut upper, "a");
        lower.entries.insert(b"a".to_vec(), Object::File);
        let dirs = [(&upper, true), (&lower, true)];
        let names = |listed: BTreeMap<String, usize>| listed.into_keys().collect::<Vec<_>>();
        (names(list::<Aufs>(&dirs)), names(list::<Devices>(&dirs)))
    };
    assert_eq!(
        hides(Aufs::hide),
        (vec![], vec![".wh.a".into(), "a".into()])
    );
    assert_eq!(hides(Devices::hide), (vec!["a".into()], vec![]));
    // The device of the upper branch is an object of that name.
    let mut upper = Stored::default();
    Devices::hide(&mut upper, "a");
    assert_eq!(list::<Aufs>(&[(&upper, true)])["a"], 0);
}
