// SPDX-License-Identifier: GPL-2.0

//! The names of aufs's marks, and those that go with them.

use proptest::{collection::vec, prelude::*};

use logic::env::{ENAMETOOLONG, EPERM};

use logic::{
    marks::{
        aufs::{self, NAME_MAX},
        Role,
    },
    name::Name,
    plink,
};

/// The longest name of a branch.
const BRANCH_MAX: usize = 255;

#[test]
fn constants_fit_together() {
    for own in [aufs::BASE, aufs::PLINK_DIR, aufs::ORPHAN_DIR, aufs::OPAQUE] {
        assert!(aufs::is_reserved(own));
        assert_eq!(aufs::whiteouted(own), None);
    }
    assert_eq!(NAME_MAX, BRANCH_MAX - b".wh..wh.".len() - b".XXXX".len());
    assert!(size_of::<Name>() <= 64);
}

#[test]
fn check() {
    let check = |name: &[u8]| {
        aufs::check(name)
            .map(|user| assert_eq!((user.bytes(), aufs::user(name)), (name, Some(user))))
    };
    assert_eq!(check(b"a"), Ok(()));
    assert_eq!(check(b".wh"), Ok(()));
    assert_eq!(check(b".wha"), Ok(()));
    assert_eq!(check(b"a.wh."), Ok(()));
    assert_eq!(check(b".wh."), Err(EPERM));
    assert_eq!(check(b".wh.a"), Err(EPERM));
    assert_eq!(check(&[b'x'; 242]), Ok(()));
    assert_eq!(check(&[b'x'; 243]), Err(ENAMETOOLONG));
    let long = [b".wh.".as_slice(), &[b'x'; 300]].concat();
    assert_eq!(check(&long), Err(ENAMETOOLONG));
}

#[test]
fn whiteout() {
    assert_eq!(&*aufs::whiteout(b"foo").unwrap(), b".wh.foo");
    assert_eq!(aufs::whiteout(&[b'x'; 251]).unwrap().len(), 255);
    assert_eq!(
        aufs::whiteout(&[b'x'; 252]).err(),
        Some(ENAMETOOLONG),
        "a branch cannot hold it"
    );
}

#[test]
fn whiteouted() {
    for (entry, name) in [
        (".wh.foo", Some("foo")),
        (".wh.x", Some("x")),
        (".wh..x", Some(".x")),
        (".wh..wh", Some(".wh")),
        (".wh....", Some("...")),
        (".wh.", None),
        (".wh..", None),
        (".wh...", None),
        (".wh..wh.", None),
        (".wh..wh..opq", None),
        (".wh..wh.aufs", None),
        (".wh..wh.foo.0001", None),
        ("foo", None),
        (".wh", None),
        ("", None),
    ] {
        assert_eq!(
            aufs::whiteouted(entry.as_bytes()),
            name.map(str::as_bytes),
            "{entry}"
        );
    }
}

#[test]
fn temp() {
    let temp = |name: &[u8], n| aufs::temp(name, n).unwrap().to_vec();
    assert_eq!(temp(b"foo", 0), b".wh..wh.foo.0000");
    assert_eq!(temp(b"foo", 0x9a0f), b".wh..wh.foo.9a0f");
    assert_eq!(temp(b"foo", 0xffff), b".wh..wh.foo.ffff");
    assert_eq!(temp(&[b'x'; 242], 1).len(), 255);
    assert_eq!(temp(&[b'x'; 243], 1).len(), 255);
    assert_eq!(temp(&[b'x'; 255], 1), temp(&[b'x'; 242], 1));
    for name in [&b"foo"[..], b"", &[b'x'; 255], b".wh.x", b"a.0001"] {
        assert!(aufs::is_temp(&temp(name, 0xa5)), "{name:?}");
    }
    for name in [
        ".wh..wh.foo",
        ".wh.foo.0001",
        ".wh..wh.0001",
        ".wh..wh.foo.00G1",
        "foo.0001",
    ] {
        assert!(!aufs::is_temp(name.as_bytes()), "{name:?}");
    }
}

#[test]
fn temp_cuts_between_characters() {
    for (letter, fits) in [("é", 121), ("€", 80), ("𝄞", 60)] {
        let name = letter.repeat(100 + fits);
        let temp = aufs::temp(name.as_bytes(), 7).unwrap();
        let text = std::str::from_utf8(&temp).unwrap();
        assert_eq!(text, format!(".wh..wh.{}.0007", letter.repeat(fits)));
    }
    // Not UTF-8: nothing to respect.
    assert_eq!(aufs::temp(&[0x80; 255], 7).unwrap().len(), 255);
}

#[test]
fn plink() {
    assert_eq!(&*plink::name(18, 2).unwrap(), b"18.2");
    assert_eq!(
        &*plink::name(u64::MAX, u64::MAX).unwrap(),
        b"18446744073709551615.18446744073709551615"
    );
    for bad in [
        "",
        ".",
        "1",
        "1.",
        ".1",
        "1.2.3",
        "01.2",
        "1.02",
        "-1.2",
        "1.x",
        "1..2",
        "1,2",
        "18446744073709551616.1",
        "1.18446744073709551616",
    ] {
        assert_eq!(plink::parse_name(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(plink::parse_name(b"0.0"), Some((0, 0)));
}

proptest! {
    #[test]
    fn whiteout_round_trip(name in vec(any::<u8>(), 1..260)) {
        match aufs::whiteout(&name) {
            Ok(entry) => {
                prop_assert!(entry.len() <= BRANCH_MAX && aufs::is_reserved(&entry));
                prop_assert_eq!(entry.as_bytes(), [b".wh.", name.as_slice()].concat());
                let back = aufs::whiteouted(&entry);
                let usual = !aufs::is_reserved(&name) && name != b"." && name != b"..";
                prop_assert_eq!(back, usual.then_some(name.as_slice()));
            }
            Err(error) => {
                prop_assert_eq!(error, ENAMETOOLONG);
                prop_assert!(name.len() > NAME_MAX);
            }
        }
    }

    #[test]
    fn temp_is_hidden_and_fits(name in vec(any::<u8>(), 0..300), n: u16) {
        let temp = aufs::temp(&name, n).unwrap();
        prop_assert!(temp.len() <= BRANCH_MAX && aufs::is_reserved(&temp));
        prop_assert_eq!(aufs::whiteouted(&temp), None);
        let tail = format!(".{n:04x}");
        prop_assert!(temp.ends_with(tail.as_bytes()));
        let middle = &temp[8..temp.len() - 5];
        prop_assert!(name.starts_with(middle));
        prop_assert!(middle == name.as_slice() || middle.len() > NAME_MAX - 4);
    }

    #[test]
    fn temp_of_text_is_text(name in "\\PC{0,255}", n: u16) {
        let temp = aufs::temp(name.as_bytes(), n).unwrap();
        prop_assert!(std::str::from_utf8(&temp).is_ok());
    }

    #[test]
    fn plink_round_trip(ino: u64, lower: u64) {
        let name = plink::name(ino, lower).unwrap();
        prop_assert_eq!(plink::parse_name(&name), Some((ino, lower)));
        prop_assert_eq!(name.to_vec(), format!("{ino}.{lower}").into_bytes());
    }

    #[test]
    fn any_bytes(name in vec(any::<u8>(), 0..300)) {
        if let Some((ino, lower)) = plink::parse_name(&name) {
            prop_assert_eq!(&*plink::name(ino, lower).unwrap(), name.as_slice());
        }
        let reserved = aufs::is_reserved(&name);
        prop_assert_eq!(aufs::check(&name).is_ok(), name.len() <= NAME_MAX && !reserved);
        if aufs::whiteouted(&name).is_some() {
            prop_assert!(reserved);
        }
    }
}

#[test]
fn meanings() {
    use aufs::Meaning::*;
    for (name, means) in [
        ("wh.a", Plain),
        (".wh", Plain),
        ("", Plain),
        (".wh.a", Whiteout(b"a")),
        (".wh..b", Whiteout(b".b")),
        (".wh..wh", Whiteout(b".wh")),
        (".wh..wh..opq", Opaque),
        (".wh..wh.aufs", Bookkeeping),
        (".wh..wh.plnk", Bookkeeping),
        (".wh..wh.orph", Bookkeeping),
        (".wh..wh.hino", Bookkeeping),
        (".wh..wh.commit", Bookkeeping),
        (".wh..wh..dr.2_1-2_3", FormerName),
        (".wh..wh.a.00ff", Temporary),
        (".wh..wh..a.00ff", Temporary),
        (".wh..wh..00ff", Temporary),
        (".wh.", Unknown),
        (".wh..", Unknown),
        (".wh...", Unknown),
        (".wh..wh.", Unknown),
        (".wh..wh.a", Unknown),
        (".wh..wh.a.00FF", Unknown),
        (".wh..wh.a.0ff", Unknown),
    ] {
        let name = name.as_bytes();
        assert_eq!(aufs::meaning(name), means, "{name:?}");
        let role = match means {
            Plain => Role::Object,
            Whiteout(hidden) => Role::Whiteout(hidden),
            Opaque => Role::Opaque,
            _ => Role::Own,
        };
        assert_eq!(aufs::role(name), role, "{name:?}");
        assert_eq!(aufs::user(name).is_some(), role == Role::Object, "{name:?}");
        let is_mark = matches!(role, Role::Whiteout(_) | Role::Opaque);
        assert_eq!(aufs::is_mark(name), is_mark, "{name:?}");
        assert!(!aufs::is_plain(name) || role == Role::Object, "{name:?}");
    }
}
