// SPDX-License-Identifier: GPL-2.0

//! Diff against the model: what is told is what differs.

#![allow(clippy::disallowed_methods)]

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use model::{Op, Shown};
use proptest::prelude::*;
use ruaufs_user::{
    diff::{diff, Kind},
    dir::Dir,
    layers::{Layers, Mounts},
};

fn told(upper: &Path, lower: &Path) -> Vec<(Kind, String)> {
    let mut all = Vec::new();
    let upper = Dir::open(upper).unwrap();
    let lower = Layers::open([(lower, true)], 1, Mounts::Shown).unwrap();
    let mut each = |kind, path: &Path| {
        all.push((kind, path.to_str().unwrap().to_owned()));
        Ok(())
    };
    diff(upper, true, lower, &mut each).unwrap();
    all
}

fn of(all: &[(Kind, String)], wanted: Kind) -> BTreeSet<String> {
    let paths = all.iter().filter(|(kind, _)| *kind == wanted);
    paths.map(|(_, path)| path.clone()).collect()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn check(upper_ops: &[Op], lower_ops: &[Op]) -> Result<(), TestCaseError> {
    let (_one, _two, [upper, lower, _]) = model::directories(false);
    model::build(&upper, upper_ops, 1);
    model::build(&lower, lower_ops, 2);
    let before = model::shown(&[(&lower, true)]);
    let after = model::shown(&[(&upper, true), (&lower, true)]);
    let told = told(&upper, &lower);

    let is_dir = |tree: &BTreeMap<String, Shown>, path: &str| {
        tree.get(path).is_some_and(|n| n.kind == "dir")
    };
    let added: BTreeSet<_> = after
        .keys()
        .filter(|p| !before.contains_key(*p))
        .cloned()
        .collect();
    let gone = |p: &&String| {
        !after.contains_key(*p) && is_dir(&before, parent(p)) && is_dir(&after, parent(p))
    };
    let deleted: BTreeSet<_> = before.keys().filter(gone).cloned().collect();
    let changed = of(&told, Kind::Changed);
    prop_assert_eq!(of(&told, Kind::Added), added);
    prop_assert_eq!(of(&told, Kind::Deleted), deleted);
    for (path, node) in &after {
        let Some(old) = before.get(path).filter(|_| !path.is_empty()) else {
            continue;
        };
        // Which names are one file is not what a diff is about.
        let same = Shown {
            first: old.first.clone(),
            ..node.clone()
        } == *old;
        prop_assert!(same || changed.contains(path), "{path} changed");
    }
    for path in &changed {
        prop_assert!(
            before.contains_key(path) && after.contains_key(path),
            "{path}"
        );
    }
    let mut sorted = told.clone();
    sorted.sort_by(|(_, a), (_, b)| a.split('/').cmp(b.split('/')));
    prop_assert_eq!(told, sorted, "in order");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_is_what_differs(upper in model::branch(), lower in model::branch()) {
        check(&upper, &lower)?;
    }
}

#[test]
fn as_docker_shows_it() {
    let (_one, _two, [upper, lower, _]) = model::directories(false);
    let write = |root: &Path, path: &str| {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), "").unwrap();
    };
    for path in ["etc/passwd", "e/a", "e/b", "op/x/y", "op/z"] {
        write(&lower, path);
    }
    for path in [
        "etc/passwd",
        "e/.wh.b",
        "w",
        "op/.wh..wh..opq",
        "op/z",
        ".wh..wh.aufs",
        ".wh.never",
    ] {
        write(&upper, path);
    }
    let told: Vec<_> = told(&upper, &lower)
        .iter()
        .map(|(k, p)| format!("{k} {p}"))
        .collect();
    assert_eq!(
        told,
        [
            "C /e",
            "D /e/b",
            "C /etc",
            "C /etc/passwd",
            "C /op",
            "D /op/x",
            "C /op/z",
            "A /w"
        ]
    );
}
