// SPDX-License-Identifier: GPL-2.0

//! Branch strings.

use proptest::{collection::vec, prelude::*, sample::select};

use logic::env::{KVec, EINVAL, GFP_KERNEL};

use super::written;
use logic::branch_spec::{
    default_access, parse, Access, Attrs, BranchSpec, Perm, Warning, Warnings,
};

/// Parses what must parse.
fn ok(text: &str) -> BranchSpec {
    parse(text.as_bytes()).unwrap()
}

/// Returns the access as text and the warnings as text.
fn read(text: &str) -> (String, Vec<String>) {
    let spec = ok(&format!("/b={text}"));
    let access = spec.access.unwrap();
    let notes = spec.notes.iter();
    (
        written(|out| access.write_to(out)),
        notes
            .map(|note| written(|out| note.write_to(out)))
            .collect(),
    )
}

/// Copies into a kernel vector.
fn kvec(text: &[u8]) -> KVec<u8> {
    let mut v = KVec::new();
    v.extend_from_slice(text, GFP_KERNEL).unwrap();
    v
}

#[test]
fn path_and_access() {
    let spec = ok("/a/b c");
    assert_eq!(&*spec.path, b"/a/b c");
    assert_eq!(spec.access, None);
    let spec = ok("rel/a=ro+wh");
    assert_eq!(&*spec.path, b"rel/a");
    let (perm, attrs) = (Perm::Ro, Attrs::WH);
    assert_eq!(spec.access, Some(Access { perm, attrs }));
    assert!(spec.notes.is_empty());
    assert_eq!(written(|out| spec.write_to(out)), "rel/a=ro+wh");
    assert_eq!(written(|out| ok("/x").write_to(out)), "/x");
}

#[test]
fn bad_paths() {
    for bad in ["", "=", "=rw", "/a\0b=rw", "\0"] {
        assert_eq!(parse(bad.as_bytes()), Err(EINVAL), "{bad:?}");
    }
}

#[test]
fn first_equals_sign_cuts() {
    let spec = ok("/a=b=rw");
    assert_eq!(&*spec.path, b"/a");
    assert_eq!(&*spec.notes, &[Warning::UnknownPerm(kvec(b"b=rw"))]);
}

#[test]
fn good_access_without_warning() {
    for (text, shown) in [
        ("rw", "rw"),
        ("ro", "ro"),
        ("rr", "rr"),
        ("", "ro"),
        ("ro+wh", "ro+wh"),
        ("rr+wh", "rr+wh"),
        ("rw+nolwh", "rw+nolwh"),
        ("rw+moo", "rw+moo"),
        ("rw+moo+coo_all+coo_reg", "rw+coo_reg"),
        ("rw+coo_reg+moo", "rw+moo"),
        ("ro+coo_all", "ro+coo_all"),
        ("rw+nolwh+fhsm+coo_reg", "rw+coo_reg+fhsm+nolwh"),
        ("ro+icex", "ro+icex"),
        ("ro+wh+icexoth+icexsec", "ro+icexsec+icexoth+wh"),
        ("ro+icexsec+icexsys+icextr+icexusr+icexoth", "ro+icex"),
        ("ro+icexsec+icex", "ro+icex"),
        ("ro+wh+wh", "ro+wh"),
    ] {
        assert_eq!(read(text), (shown.into(), vec![]), "{text}");
    }
}

#[test]
fn leniency() {
    let perm =
        |text: &str| format!("unknown branch permission \"{text}\" (rw, ro or rr), ro is taken");
    let attr = |text: &str| format!("unknown branch attribute, ignored from here on: \"{text}\"");
    let misfit = |text: &str, perm: &str| {
        format!("branch attribute \"{text}\" does not fit permission {perm}, ignored")
    };
    let unpin = || "obsolete branch attribute \"unpin\", ignored".to_owned();
    for (text, shown, notes) in [
        ("rx", "ro", vec![perm("rx")]),
        ("RW", "ro", vec![perm("RW")]),
        ("rx+wh", "ro", vec![perm("rx+wh")]),
        ("+wh", "ro", vec![perm("+wh")]),
        ("wh", "ro", vec![perm("wh")]),
        ("ro+", "ro", vec![attr("")]),
        ("ro+wh+", "ro+wh", vec![attr("")]),
        ("ro+wh+foo+icex", "ro+wh", vec![attr("foo+icex")]),
        ("ro+foo+wh", "ro", vec![attr("foo+wh")]),
        ("rw+wh", "rw", vec![misfit("wh", "rw")]),
        ("ro+nolwh+wh", "ro+wh", vec![misfit("nolwh", "ro")]),
        ("rr+moo+nolwh", "rr", vec![misfit("moo+nolwh", "rr")]),
        // The last of these counts, also where it does not fit.
        ("ro+coo_reg+moo", "ro", vec![misfit("moo", "ro")]),
        ("rw+unpin", "rw", vec![unpin()]),
        (
            "rw+unpin+wh+x",
            "rw",
            vec![attr("x"), unpin(), misfit("wh", "rw")],
        ),
    ] {
        assert_eq!(read(text), (shown.into(), notes), "{text}");
    }
}

#[test]
fn bits_are_those_of_aufs() {
    for (attr, bits) in [
        (Attrs::COO_REG, 0x8),
        (Attrs::COO_ALL, 0x10),
        (Attrs::FHSM, 0x20),
        (Attrs::UNPIN, 0x40),
        (Attrs::ICEX_SEC, 0x80),
        (Attrs::ICEX_SYS, 0x100),
        (Attrs::ICEX_TR, 0x200),
        (Attrs::ICEX_USR, 0x400),
        (Attrs::ICEX_OTH, 0x800),
        (Attrs::ICEX, 0xf80),
        (Attrs::WH, 0x1000),
        (Attrs::NOLWH, 0x2000),
        (Attrs::MOO, 0x4000),
    ] {
        assert_eq!(attr.bits(), bits);
    }
}

#[test]
fn set_algebra() {
    let both = Attrs::WH.with(Attrs::FHSM);
    assert!(both.contains(Attrs::WH) && both.contains(Attrs::FHSM));
    assert!(!both.contains(Attrs::MOO) && !Attrs::WH.contains(both));
    assert!(both.contains(Attrs::default()));
    assert_eq!(both.without(Attrs::WH), Attrs::FHSM);
    assert_eq!(both.common(Attrs::WH), Attrs::WH);
    assert!(Attrs::default().is_empty() && !both.is_empty());
    assert_eq!(written(|out| Attrs::UNPIN.write_to(out)), "+unpin");
}

#[test]
fn what_an_access_allows() {
    for (text, write, honours, links) in [
        ("rw", true, true, true),
        ("rw+nolwh", true, true, false),
        ("ro", false, false, false),
        ("rr", false, false, false),
        ("ro+wh", false, true, false),
        ("rr+wh", false, true, false),
    ] {
        let access = Access::parse(text.as_bytes(), &mut Warnings::new()).unwrap();
        assert_eq!(access.may_write(), write, "{text}");
        assert_eq!(access.honours_whiteouts(), honours, "{text}");
        assert_eq!(access.makes_linked_whiteouts(), links, "{text}");
    }
}

#[test]
fn defaults() {
    for (first, union_ro, fs_ro, perm) in [
        (true, false, false, Perm::Rw),
        (true, true, false, Perm::Ro),
        (false, false, false, Perm::Ro),
        (false, true, false, Perm::Ro),
        (true, false, true, Perm::Rr),
        (true, true, true, Perm::Rr),
        (false, false, true, Perm::Rr),
    ] {
        let access = default_access(first, union_ro, fs_ro);
        assert_eq!(access, Access::new(perm));
    }
}

/// Any access that the parser can produce.
fn access() -> impl Strategy<Value = Access> {
    let words = [
        "coo_reg", "coo_all", "fhsm", "icex", "icexsec", "icexsys", "icextr", "icexusr", "icexoth",
        "wh", "moo", "nolwh", "unpin",
    ];
    (
        select(vec!["rw", "ro", "rr"]),
        vec(select(words.to_vec()), 0..8),
    )
        .prop_map(|(perm, words)| {
            let text = [vec![perm], words].concat().join("+");
            Access::parse(text.as_bytes(), &mut Warnings::new()).unwrap()
        })
}

proptest! {
    #[test]
    fn round_trip(path in "[^=\0]{1,40}", access in proptest::option::of(access())) {
        let spec = BranchSpec { path: kvec(path.as_bytes()), access, notes: Warnings::new() };
        let text = written(|out| spec.write_to(out));
        prop_assert_eq!(ok(&text), spec);
    }

    #[test]
    fn any_bytes(text in vec(any::<u8>(), 0..300)) {
        if let Ok(spec) = parse(&text) {
            prop_assert!(text.starts_with(&spec.path));
            prop_assert!(!spec.path.is_empty() && spec.notes.len() <= 3);
        }
    }

    #[test]
    fn any_words(text in "/b=(r[wor]|r|\\+){0,2}(\\+(wh|moo|unpin|coo_reg|nolwh|icex|x|))*") {
        let spec = ok(&text);
        prop_assert!(spec.notes.len() <= 3);
        let access = spec.access.unwrap();
        // What is left fits, so it round-trips without warning.
        let mut notes = Warnings::new();
        let again = written(|out| access.write_to(out));
        prop_assert_eq!(Access::parse(again.as_bytes(), &mut notes).unwrap(), access);
        prop_assert!(notes.is_empty());
        for note in &spec.notes {
            prop_assert!(!written(|out| note.write_to(out)).is_empty());
        }
    }
}
