// SPDX-License-Identifier: GPL-2.0

//! Merging, against a naive model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use logic::env::EOVERFLOW;

use logic::{
    lookup::{Found, Marks, Scan, Step},
    marks::{aufs, Role},
    merge::{merge, Layer, Listing, Snapshot},
};

/// One branch: its names, and whether its whiteouts count.
type Names = (Vec<String>, bool);

/// The type which the tests give to a name on a branch.
fn dtype(name: &str, layer: usize) -> u8 {
    (name.len() + 3 * layer) as u8
}

/// The inode number which the tests give to a name on a branch.
fn ino(i: usize, layer: usize) -> u64 {
    (1000 * layer + i) as u64
}

/// Makes layers, top first.
fn layers(names: &[Names]) -> Vec<Layer> {
    let layer = |(l, (names, honours)): (usize, &Names)| {
        let mut listing = Listing::new();
        for (i, name) in names.iter().enumerate() {
            listing
                .push(
                    name.as_bytes(),
                    aufs::role(name.as_bytes()),
                    ino(i, l),
                    dtype(name, l),
                )
                .unwrap();
        }
        assert_eq!(listing.len(), names.len());
        Layer {
            listing,
            space: l as u16 + 100,
            honours_whiteouts: *honours,
        }
    };
    names.iter().enumerate().map(layer).collect()
}

/// Makes branches from words: names apart by blanks, `-` first for a branch that does not honour.
fn names(words: &[&str]) -> Vec<Names> {
    words
        .iter()
        .map(|words| {
            let honours = !words.starts_with('-');
            let names = words.trim_start_matches('-').split_whitespace();
            (names.map(str::to_owned).collect(), honours)
        })
        .collect()
}

/// The names of a snapshot, in its order, each with the layer it comes from.
fn listed(snapshot: &Snapshot) -> Vec<(String, usize)> {
    (0..snapshot.len())
        .map(|i| {
            let entry = snapshot.get(i).unwrap();
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            (name, usize::from(entry.space) - 100)
        })
        .collect()
}

/// Merges words; the result as words, `name@layer`.
fn merged(words: &[&str], show: bool) -> String {
    let snapshot = merge(&layers(&names(words)), show).unwrap();
    let entries = listed(&snapshot).into_iter();
    entries
        .map(|(name, layer)| format!("{name}@{layer}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// For each visible name, the layer it comes from.
fn model(names: &[Names], show: bool) -> BTreeMap<String, usize> {
    let mut visible = BTreeMap::new();
    let mut hidden: BTreeSet<&str> = BTreeSet::new();
    for (l, (names, honours)) in names.iter().enumerate() {
        for name in names {
            let reserved = name.starts_with(".wh.");
            let mark = name == ".wh..wh..opq"
                || name.strip_prefix(".wh.").is_some_and(|hidden| {
                    !matches!(hidden, "" | "." | "..") && !hidden.starts_with(".wh.")
                });
            let eligible = !reserved || (show && *honours && mark);
            if eligible && (reserved || !hidden.contains(name.as_str())) {
                visible.entry(name.clone()).or_insert(l);
            }
        }
        if *honours {
            hidden.extend(names.iter().filter_map(|name| {
                name.strip_prefix(".wh.")
                    .filter(|name| !name.starts_with(".wh.") && !name.is_empty())
            }));
        }
    }
    visible
}

#[test]
fn rules() {
    for (words, result) in [
        (&["a b", "b c"][..], "b@0 c@1 a@0"),
        // A whiteout hides what is below, and only that.
        (&[".wh.a", "a b"], "b@1"),
        (&["a", ".wh.a", "a b"], "a@0 b@2"),
        (&[".wh.a", "b", "a"], "b@1"),
        // Beside its entry it hides only what is below.
        (&["a .wh.a", "a"], "a@0"),
        (&[".wh.a a", "a"], "a@0"),
        (&["b", "a .wh.a", "a c"], "a@1 c@2 b@0"),
        // It counts only where it is honoured.
        (&["- .wh.a", "a"], "a@1"),
        (&["- .wh.a", ".wh.a", "a"], ""),
        // The reserved names are never listed.
        (
            &[
                ".wh. .wh..wh..opq .wh..wh.aufs .wh.x",
                "- .wh.y .wh..wh.plnk a",
            ],
            "a@1",
        ),
        // An opaque mark is the caller's business.
        (&[".wh..wh..opq", "a"], "a@1"),
        // Names that only look like reserved ones.
        (&["wh.a .wha .wh", "a .wh"], "a@1 .wh@0 wh.a@0 .wha@0"),
        (&[".wh..wh", "- .wh a"], "a@1"),
        // Nothing at all.
        (&["", ""], ""),
        (&[], ""),
        // A broken branch which lists a name twice.
        (&["a a b"], "a@0 b@0"),
    ] {
        assert_eq!(merged(words, false), result, "{words:?}");
    }
}

#[test]
fn whiteouts_are_shown_on_demand() {
    for (words, result) in [
        (&[".wh.a b", "a c"][..], "c@1 .wh.a@0 b@0"),
        (&[".wh. .wh..wh..opq", "c"], "c@1 .wh..wh..opq@0"),
        (&[".wh..wh.aufs .wh..wh.plnk .wh..", "c"], "c@1"),
        (&["- .wh.a", "a"], "a@1"),
        (&[".wh.a", ".wh.a", "a"], ".wh.a@0"),
    ] {
        assert_eq!(merged(words, true), result, "{words:?}");
    }
}

#[test]
fn shown_whiteouts_count_twice() {
    let whiteouts: Vec<String> = (0..1000).map(|i| format!(".wh.{i}")).collect();
    let names = [(whiteouts, true), (vec![], true)];
    let snapshot = merge(&layers(&names), true).unwrap();
    assert_eq!(snapshot.len(), 1000);
    assert_eq!(snapshot.contains(b".wh.999"), Some(999));
    assert_eq!(snapshot.contains(b"999"), None);
}

#[test]
fn entries_carry_what_the_top_instance_has() {
    let names = names(&["a", "b a"]);
    let snapshot = merge(&layers(&names), false).unwrap();
    let a = snapshot.get(snapshot.contains(b"a").unwrap()).unwrap();
    assert_eq!(
        (a.name, a.ino, a.space, a.dtype),
        (&b"a"[..], 0, 100, dtype("a", 0))
    );
    let b = snapshot.get(0).unwrap();
    assert_eq!(
        (b.name, b.ino, b.space, b.dtype),
        (&b"b"[..], 1000, 101, dtype("b", 1))
    );
    assert_eq!(snapshot.get(2), None);
    assert!(!snapshot.is_empty() && merge(&[], false).unwrap().is_empty());
}

#[test]
fn listing_knows_its_whiteouts() {
    let has_whiteouts = |words| layers(&names(&[words]))[0].listing.has_whiteouts();
    assert!(!has_whiteouts(""));
    assert!(!has_whiteouts("a .wh. .wh..wh.aufs .wh..wh.plnk"));
    assert!(has_whiteouts("a .wh.b c"));
    assert!(!has_whiteouts(".wh..wh..opq"));
}

#[test]
fn names_of_any_length() {
    let mut listing = Listing::new();
    assert_eq!(
        listing.push(&[b'x'; 65536], Role::Object, 1, 0),
        Err(EOVERFLOW)
    );
    for len in [0, 1, 255, 65535] {
        listing
            .push(&vec![b'y'; len], Role::Object, len as u64, 0)
            .unwrap();
    }
    let layer = Layer {
        listing,
        space: 0,
        honours_whiteouts: true,
    };
    let snapshot = merge(&[layer], false).unwrap();
    assert_eq!(snapshot.contains(&vec![b'y'; 65535]), Some(3));
    assert_eq!(snapshot.contains(&vec![b'y'; 65534]), None);
}

#[test]
fn bounds() {
    let mut listing = Listing::new();
    for i in 0..1u64 << 24 {
        listing.push(b"", Role::Object, i, 0).unwrap();
    }
    assert_eq!(listing.push(b"", Role::Object, 0, 0), Err(EOVERFLOW));
    let mut other = Listing::new();
    other.push(b"a", Role::Object, 0, 0).unwrap();
    let layer = |listing| Layer {
        listing,
        space: 0,
        honours_whiteouts: true,
    };
    let two = [layer(listing), layer(other)];
    assert_eq!(merge(&two, false).err(), Some(EOVERFLOW));
    drop(two);
    // Too many bytes of names.
    let (mut listing, name) = (Listing::new(), vec![b'x'; 1 << 15]);
    for i in 0..1u64 << 14 {
        listing.push(&name, Role::Object, i, 0).unwrap();
    }
    assert_eq!(listing.push(b"x", Role::Object, 0, 0), Err(EOVERFLOW));
    assert_eq!(listing.push(b"", Role::Object, 0, 0), Ok(()));
    drop(listing);
    // Listings that are not too big, but together are.
    let names = |first: u8| {
        let mut listing = Listing::new();
        let mut name = vec![first; 1 << 15];
        for i in 0..(1u32 << 13) + 1 {
            name[..4].copy_from_slice(&i.to_le_bytes());
            listing.push(&name, Role::Object, 0, 0).unwrap();
        }
        layer(listing)
    };
    let two = [names(b'x'), names(b'y')];
    assert_eq!(merge(&two, false).err(), Some(EOVERFLOW));
    assert_eq!(merge(&two[1..], false).unwrap().len(), (1 << 13) + 1);
    drop(two);
    // Too many layers.
    let many: Vec<Layer> = (0..65537).map(|_| layer(Listing::new())).collect();
    assert_eq!(merge(&many, false).err(), Some(EOVERFLOW));
    assert!(merge(&many[1..], false).unwrap().is_empty());
}

/// Names from a set so small that all cases meet.
fn name() -> impl Strategy<Value = String> {
    "(\\.wh\\.){0,2}(a|b|c|d|e|f|wh|\\.opq|)"
}

/// Any branches, which do not list a name twice (as no file system does).
fn branches() -> impl Strategy<Value = Vec<Names>> {
    let listing = vec(name(), 0..12).prop_map(|names| {
        let mut seen = BTreeSet::new();
        let mut names = names;
        names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
        names
    });
    vec((listing, any::<bool>()), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn as_the_model(names in branches(), show: bool) {
        let snapshot = merge(&layers(&names), show).unwrap();
        let listed = listed(&snapshot);
        let sorted: BTreeMap<_, _> = listed.iter().cloned().collect();
        prop_assert_eq!(listed.len(), sorted.len(), "no name twice");
        prop_assert_eq!(&sorted, &model(&names, show));
        for (i, (name, layer)) in listed.iter().enumerate() {
            let entry = snapshot.get(i).unwrap();
            prop_assert_eq!(snapshot.contains(name.as_bytes()), Some(i));
            let at = names[*layer].0.iter().position(|other| other == name).unwrap();
            prop_assert_eq!(entry.ino, ino(at, *layer));
            prop_assert_eq!(entry.dtype, dtype(name, *layer));
            prop_assert_eq!(snapshot.seek(entry.cookie), i);
            prop_assert_eq!(snapshot.seek(entry.cookie + 1), i + 1);
        }
        prop_assert_eq!(snapshot.seek(0), 0);
        prop_assert_eq!(snapshot.seek(u64::MAX), snapshot.len());
        for (name, _) in names.iter().flat_map(|(names, _)| names).map(|name| (name, ())) {
            prop_assert_eq!(
                snapshot.contains(name.as_bytes()).is_some(),
                sorted.contains_key(name)
            );
        }
    }

    /// A look-up finds exactly the listed names, on the same branch.
    #[test]
    fn as_look_up(names in branches()) {
        let snapshot = merge(&layers(&names), false).unwrap();
        for name in ["a", "b", "c", "d", "e", "f", ".wh", ".opq"] {
            let has = |at: usize, name: &[u8]| {
                names[at].0.iter().any(|other| other.as_bytes() == name)
            };
            let mut scan = Scan::new(names.len());
            let mut top = None;
            let mut step = scan.step();
            loop {
                step = match step {
                    Step::Name(at) if has(at, name.as_bytes()) => scan.name(Found::Other),
                    Step::Name(_) => scan.name(Found::Absent),
                    Step::Marks(at) => {
                        let whiteout = aufs::whiteout(name.as_bytes()).unwrap();
                        scan.marks(match names[at].1 && has(at, &whiteout) {
                            true => Marks::Present,
                            false => Marks::Absent,
                        })
                    }
                    Step::Take(at) => {
                        top = Some(at);
                        scan.taken()
                    }
                    Step::Done => break,
                };
            }
            let listed = snapshot.contains(name.as_bytes());
            let listed = listed.map(|i| usize::from(snapshot.get(i).unwrap().space) - 100);
            prop_assert_eq!(listed, top, "{}", name);
        }
    }

    /// What changes on the top branch moves no name of the branches below.
    #[test]
    fn cookies_of_lower_names_stay(names in branches(), top in branches(), other in branches()) {
        let with = |top: Vec<Names>| {
            let first = top.into_iter().next().unwrap_or_default();
            let all = [vec![(first.0, true)], names.clone()].concat();
            let snapshot = merge(&layers(&all), false).unwrap();
            (0..snapshot.len())
                .map(|i| snapshot.get(i).unwrap())
                .map(|entry| (entry.name.to_vec(), entry.cookie))
                .collect::<BTreeMap<_, _>>()
        };
        let (before, after) = (with(top), with(other));
        for (lower, _) in &names {
            for name in lower {
                if let (Some(a), Some(b)) =
                    (before.get(name.as_bytes()), after.get(name.as_bytes()))
                {
                    prop_assert_eq!(a, b, "{}", name);
                }
            }
        }
    }

    #[test]
    fn any_names(
        names in vec((vec(vec(any::<u8>(), 0..20), 0..60), any::<bool>()), 0..4),
        show: bool,
        absent in vec(any::<u8>(), 21..30),
    ) {
        let layers: Vec<Layer> = names
            .iter()
            .map(|(names, honours_whiteouts)| {
                let mut listing = Listing::new();
                for name in names {
                    listing.push(name, aufs::role(name), 1, 2).unwrap();
                }
                Layer { listing, space: 0, honours_whiteouts: *honours_whiteouts }
            })
            .collect();
        let snapshot = merge(&layers, show).unwrap();
        prop_assert_eq!(snapshot.contains(&absent), None);
        for i in 0..snapshot.len() {
            let entry = snapshot.get(i).unwrap();
            prop_assert_eq!(snapshot.contains(entry.name), Some(i));
        }
    }
}

/// Time grows with the number of names, not with its square.
#[test]
fn large_directories() {
    let listing = |from: u32, to: u32| {
        let mut listing = Listing::new();
        for i in from..to {
            listing
                .push(
                    format!("some_file_{i}.c").as_bytes(),
                    Role::Object,
                    u64::from(i),
                    8,
                )
                .unwrap();
        }
        listing
    };
    let layer = |listing| Layer {
        listing,
        space: 0,
        honours_whiteouts: true,
    };
    let layers = [layer(listing(50_000, 200_000)), layer(listing(0, 150_000))];
    let start = std::time::Instant::now();
    let snapshot = merge(&layers, false).unwrap();
    let time = start.elapsed();
    assert_eq!(snapshot.len(), 200_000);
    assert_eq!(snapshot.get(0).unwrap().name, b"some_file_0.c");
    assert_eq!(snapshot.contains(b"some_file_60000.c"), Some(60_000));
    assert!(time.as_secs() < 5, "{time:?} for 300,000 names");
}
