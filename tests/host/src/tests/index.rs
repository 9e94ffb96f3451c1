// SPDX-License-Identifier: GPL-2.0

//! The index of a directory, against the listings it is made from.

use logic::env::{failing::fail_after, ENOMEM, EOVERFLOW};
use proptest::prelude::*;

use logic::{
    index::{Builder, Index, Wanted, What},
    marks::{aufs, Role},
};

const ALL: Wanted = Wanted {
    entries: true,
    whiteouts: true,
};

fn build(branches: &[Vec<&str>], wanted: impl Fn(usize) -> Wanted) -> logic::env::Result<Index> {
    let mut builder = Builder::new();
    for (i, names) in branches.iter().enumerate() {
        for name in names {
            let name = name.as_bytes();
            builder.push(i as u16, name, aufs::role(name), wanted(i))?;
        }
    }
    builder.finish()
}

/// The branches in which `index` has seen `what` of `name`.
fn seen(index: &Index, name: &str, what: What, branches: usize) -> Vec<usize> {
    let mut sightings = index.find(name.as_bytes());
    (0..branches)
        .filter(|&i| sightings.next(i as u16, what) == Some(i as u16))
        .collect()
}

#[test]
fn entries_and_whiteouts() {
    let branches = vec![
        vec!["a", ".wh.b", ".wh..wh..opq", ".wh..wh.aufs", ".wh."],
        vec![],
        vec!["b", "a", ".wh.a"],
        vec!["a"],
    ];
    let index = build(&branches, |_| ALL).unwrap();
    assert_eq!(seen(&index, "a", What::Entry, 4), [0, 2, 3]);
    assert_eq!(seen(&index, "a", What::Whiteout, 4), [2]);
    assert_eq!(seen(&index, "b", What::Entry, 4), [2]);
    assert_eq!(seen(&index, "b", What::Whiteout, 4), [0]);
    for absent in ["c", "", ".wh.b", ".wh..opq", ".wh.aufs"] {
        assert_eq!(seen(&index, absent, What::Entry, 4), [0; 0], "{absent}");
        assert_eq!(seen(&index, absent, What::Whiteout, 4), [0; 0], "{absent}");
    }
}

#[test]
fn branches_may_be_skipped() {
    let index = build(&[vec!["a"], vec!["a"], vec!["a"]], |_| ALL).unwrap();
    let mut sightings = index.find(b"a");
    assert_eq!(sightings.next(0, What::Entry), Some(0));
    assert_eq!(sightings.next(0, What::Entry), Some(0));
    assert_eq!(sightings.next(2, What::Entry), Some(2));
    assert_eq!(sightings.next(3, What::Entry), None);
}

#[test]
fn only_what_is_wanted() {
    let branches = vec![vec!["a", ".wh.b"]; 2];
    let wanted = |i: usize| Wanted {
        entries: i == 0,
        whiteouts: i == 1,
    };
    let index = build(&branches, wanted).unwrap();
    assert_eq!(seen(&index, "a", What::Entry, 2), [0]);
    assert_eq!(seen(&index, "b", What::Whiteout, 2), [1]);
}

#[test]
fn limits() {
    let mut builder = Builder::new();
    builder.push(0, &[b'x'; 255], Role::Object, ALL).unwrap();
    let too_long = builder.push(0, &[b'x'; 256], Role::Object, ALL);
    assert_eq!(too_long, Err(EOVERFLOW));
    let mut many = Builder::new();
    for i in 0..1 << 16 {
        let name = format!("{i}");
        many.push(0, name.as_bytes(), Role::Object, ALL).unwrap();
    }
    let one_more = many.push(0, b"one more", Role::Object, ALL);
    assert_eq!(one_more, Err(EOVERFLOW));
    let index = many.finish().unwrap();
    assert_eq!(seen(&index, "65535", What::Entry, 1), [0]);
    assert_eq!(seen(&index, "65536", What::Entry, 1), [0; 0]);
}

#[test]
fn each_allocation_fails_once() {
    let branches = vec![vec!["a", "b"], vec!["a", ".wh.c"]];
    for n in 0.. {
        match fail_after(n, || build(&branches, |_| ALL)) {
            (Ok(_), false) => break,
            (Err(error), true) => assert_eq!(error, ENOMEM),
            _ => panic!("failure {n}"),
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_listings(
        branches in prop::collection::vec(
            prop::collection::btree_set("(\\.wh\\.)?[a-d]", 0..6), 1..6),
    ) {
        let names: Vec<Vec<&str>> = branches
            .iter()
            .map(|names| names.iter().map(String::as_str).collect())
            .collect();
        let index = build(&names, |_| ALL).unwrap();
        for name in ["a", "b", "c", "d", "e"] {
            let whiteout = format!(".wh.{name}");
            for (what, stored) in [(What::Entry, name), (What::Whiteout, whiteout.as_str())] {
                let model: Vec<usize> = (0..branches.len())
                    .filter(|&i| branches[i].contains(stored))
                    .collect();
                prop_assert_eq!(seen(&index, name, what, branches.len()), model);
            }
        }
    }
}
