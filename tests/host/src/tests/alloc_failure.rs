// SPDX-License-Identifier: GPL-2.0

//! Each allocation of each function fails once.

use logic::env::{failing::fail_after, ENOMEM};

use logic::{
    branch_spec,
    marks::{aufs, Role},
    merge::{merge, Layer, Listing},
    name::Name,
    options::{self, Bad},
    plink,
};

/// Runs `f` with its first, second, ... allocation failing until it has none left to fail.
///
/// Returns the number of allocations.
fn each<T, E>(what: &str, f: impl Fn() -> Result<T, E>, is_nomem: impl Fn(&E) -> bool) -> u64 {
    for n in 0.. {
        match fail_after(n, &f) {
            (Ok(_), false) => return n,
            (Err(error), true) => assert!(is_nomem(&error), "{what}: another error"),
            (Ok(_), true) => panic!("{what}: failure {n} was ignored"),
            (Err(_), false) => panic!("{what}: failed without cause"),
        }
    }
    unreachable!()
}

#[test]
fn names() {
    let count =
        |what, f: &dyn Fn() -> logic::env::Result<Name>| each(what, f, |&error| error == ENOMEM);
    assert_eq!(count("short", &|| aufs::whiteout(b"foo")), 0);
    assert_eq!(count("58", &|| aufs::whiteout(&[b'x'; 58])), 0);
    assert_eq!(count("59", &|| aufs::whiteout(&[b'x'; 59])), 1);
    assert_eq!(count("temp", &|| aufs::temp(&[b'x'; 242], 3)), 1);
    assert_eq!(count("plink", &|| plink::name(u64::MAX, u64::MAX)), 0);
}

#[test]
fn branches() {
    let text = b"/a=rw+wh+unpin+nolwh+foo";
    let count = each(
        "branch",
        || branch_spec::parse(text),
        |&error| error == ENOMEM,
    );
    assert!(count >= 3);
    let text = b"/a=rx";
    let count = each(
        "branch",
        || branch_spec::parse(text),
        |&error| error == ENOMEM,
    );
    assert!(count >= 3);
}

#[test]
fn options_() {
    for (key, value, least) in [
        ("br:/a", Some("rw:/b=ro+nolwh:/c:/d:/e:/f=rx"), 8),
        ("br", Some("/a:/b"), 3),
        ("add:1:/a", Some("ro"), 2),
        ("append", Some("/a"), 1),
        ("prepend:/a", None, 2),
        ("mod:/a", Some("rw"), 2),
        ("del:/a", None, 2),
        ("xino", Some("/a"), 1),
        ("trunc_xino", Some("/a"), 1),
        ("udba", Some("none"), 0),
        ("create", Some("mfsrr:1:2"), 0),
        ("plink", None, 0),
    ] {
        let count = each(
            key,
            || options::parse(key.as_bytes(), value.map(str::as_bytes)),
            |&bad| bad == Bad::NoMemory,
        );
        assert!(count >= least, "{key}: {count}");
    }
}

/// Fills a listing.
fn listing() -> logic::env::Result<Listing> {
    let mut listing = Listing::new();
    for i in 0..100u8 {
        listing.push(&[b'a', i], Role::Object, u64::from(i), 8)?;
        let whiteout = [b'.', b'w', b'h', b'.', b'b', i];
        listing.push(&whiteout, aufs::role(&whiteout), 1, 8)?;
    }
    Ok(listing)
}

#[test]
fn merging() {
    assert!(each("listing", listing, |&error| error == ENOMEM) >= 4);
    let layers: Vec<Layer> = (0..3)
        .map(|fs| Layer {
            listing: listing().unwrap(),
            space: fs,
            honours_whiteouts: true,
        })
        .collect();
    for show in [false, true] {
        let count = each("merge", || merge(&layers, show), |&error| error == ENOMEM);
        // One for each array: names, their table, numbers; bytes, entries, their table.
        assert_eq!(count, 6);
    }
}

/// A failed push leaves a listing that can be used further.
#[test]
fn listing_survives_a_failed_push() {
    let mut listing = Listing::new();
    let mut pushed = Vec::new();
    for i in 0..2000u32 {
        let name = format!("name{i}").into_bytes();
        let (result, failed) =
            fail_after(u64::from(i % 2), || listing.push(&name, Role::Object, 0, 0));
        assert_eq!(result.is_err(), failed);
        if result.is_ok() {
            pushed.push(name);
        }
    }
    assert_eq!(listing.len(), pushed.len());
    let layer = Layer {
        listing,
        space: 0,
        honours_whiteouts: true,
    };
    let merged = merge(&[layer], false).unwrap();
    let names: Vec<_> = (0..merged.len())
        .filter_map(|i| merged.get(i))
        .map(|entry| entry.name.to_vec())
        .collect();
    assert_eq!(names, pushed);
}
