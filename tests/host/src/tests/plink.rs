// SPDX-License-Identifier: GPL-2.0

//! Notes on pseudo-links.

use proptest::prelude::*;

use logic::plink::{Names, Note, Origin, What, LEN};

/// The types of objects that can have several names.
const LINKABLE: [u8; 6] = [1, 2, 6, 8, 10, 12];

fn note() -> impl Strategy<Value = Note> {
    let names = prop_oneof![
        any::<u32>().prop_map(Names::All),
        any::<i32>().prop_map(Names::Beside)
    ];
    let origin = (
        any::<[u8; 16]>(),
        any::<[u64; 2]>(),
        any::<[u32; 2]>(),
        any::<i64>(),
        proptest::sample::select(&LINKABLE[..]),
    );
    (any::<bool>(), names, origin).prop_map(
        |(copy, names, (fs, [ino, size], [gen, ns], s, kind))| Note {
            what: if copy { What::Copy } else { What::Hidden },
            origin: Origin {
                fs,
                ino,
                generation: gen,
                kind,
                mtime: (s, ns),
                size,
            },
            names,
        },
    )
}

proptest! {
    #[test]
    fn comes_back(note in note()) {
        prop_assert_eq!(Note::decode(&note.encode()), Some(note));
    }

    #[test]
    fn only_its_own_bytes_are_one(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        // The version and three small fields are all that can be wrong.
        match Note::decode(&bytes) {
            Some(note) => prop_assert_eq!(&note.encode()[..], &bytes[..]),
            None => prop_assert!(
                bytes.len() != LEN
                    || bytes[0] != 1
                    || bytes[1] > 1
                    || bytes[2] > 1
                    || !LINKABLE.contains(&bytes[3])
            ),
        }
    }

    #[test]
    fn a_change_of_any_bit_shows(note in note(), byte in 0..LEN, bit in 0..8) {
        let mut bytes = note.encode();
        bytes[byte] ^= 1u8 << bit;
        prop_assert_ne!(Note::decode(&bytes), Some(note));
    }

    #[test]
    fn the_count_follows_the_links(count in 0..100u32, links in 0..100u32, more in -50..50i32) {
        prop_assert_eq!(Names::beside(count, links).count(links), count);
        let moved = links.saturating_add_signed(more);
        let expected = (i64::from(count) + i64::from(moved) - i64::from(links)).max(0);
        prop_assert_eq!(i64::from(Names::beside(count, links).count(moved)), expected);
        prop_assert_eq!(Names::All(count).count(moved), count);
    }
}

#[test]
fn layout() {
    let note = Note {
        what: What::Hidden,
        origin: Origin {
            fs: *b"0123456789abcdef",
            ino: 0x0102,
            generation: 0x0304,
            kind: 8,
            mtime: (-1, 5),
            size: 6,
        },
        names: Names::Beside(-2),
    };
    let mut wanted = vec![1, 1, 1, 8, 0xff, 0xff, 0xff, 0xfe, 0, 0, 3, 4, 0, 0, 0, 5];
    wanted.extend(b"0123456789abcdef");
    wanted.extend([0, 0, 0, 0, 0, 0, 1, 2]);
    wanted.extend([0xff; 8]);
    wanted.extend([0, 0, 0, 0, 0, 0, 0, 6]);
    assert_eq!(note.encode().to_vec(), wanted);
    assert_eq!(Names::beside(u32::MAX, 0), Names::All(u32::MAX));
}

/// A copied origin is never written to; another one is, on its own branch.
#[test]
fn which_file_is_meant() {
    let origin = Origin {
        fs: [1; 16],
        ino: 2,
        generation: 3,
        kind: 8,
        mtime: (4, 5),
        size: 6,
    };
    let note = |what, origin| Note {
        what,
        origin,
        names: Names::All(1),
    };
    let written = Origin {
        mtime: (7, 0),
        size: 8,
        ..origin
    };
    assert!(note(What::Copy, origin).is_of(&origin));
    assert!(!note(What::Copy, origin).is_of(&written));
    assert!(note(What::Hidden, origin).is_of(&written));
    let others = [
        Origin { ino: 9, ..written },
        Origin {
            generation: 9,
            ..written
        },
        Origin { kind: 9, ..written },
        Origin {
            fs: [9; 16],
            ..written
        },
    ];
    for other in others {
        assert!(!note(What::Hidden, origin).is_of(&other), "{other:?}");
    }
    // Without a generation any file may have the number.
    let (origin, written) = (
        Origin {
            generation: 0,
            ..origin
        },
        Origin {
            generation: 0,
            ..written
        },
    );
    assert!(note(What::Hidden, origin).is_of(&origin));
    assert!(!note(What::Hidden, origin).is_of(&written));
}

/// What is noted of one type is not believed of another.
#[test]
fn which_file_may_have_it() {
    let note = |what, kind, names| Note {
        what,
        origin: Origin {
            fs: [1; 16],
            ino: 2,
            generation: 3,
            kind,
            mtime: (4, 5),
            size: 6,
        },
        names,
    };
    for kind in LINKABLE {
        let copy = note(What::Copy, kind, Names::All(2));
        for other in 0..16 {
            assert_eq!(copy.fits(other, 2, true), other == kind, "{kind} {other}");
        }
        let count = note(What::Hidden, kind, Names::All(2));
        assert!(count.fits(8, 1, true));
        assert!(!count.fits(8, 2, true) && !count.fits(8, 1, false) && !count.fits(4, 1, true));
    }
    for names in [Names::All(0), Names::All(u32::MAX), Names::Beside(-2)] {
        assert!(!note(What::Copy, 8, names).fits(8, 2, false), "{names:?}");
    }
    let dir = note(What::Copy, 4, Names::All(2));
    assert_eq!(Note::decode(&dir.encode()), None);
}
