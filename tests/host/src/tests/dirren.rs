// SPDX-License-Identifier: GPL-2.0

//! What is stored of renamed directories.

use proptest::prelude::*;

use logic::dirren::{list, numbers, record_name, Record, RECORD_MAX};

fn name_of(fsid: u64, device: (u32, u32), root: u64) -> String {
    String::from_utf8(record_name(fsid, device, root).unwrap().to_vec()).unwrap()
}

#[test]
fn names() {
    assert_eq!(
        name_of(0x1234_5678_0000_9abc, (8, 1), 2),
        ".wh..wh..dr.2_12345678-00009abc_2"
    );
    assert_eq!(
        name_of(1, (0, 0), u64::MAX),
        ".wh..wh..dr.2_00000000-00000001_18446744073709551615"
    );
    assert_eq!(name_of(0, (8, 1), 2), ".wh..wh..dr.3_0801_2");
    assert_eq!(name_of(0, (0xff, 0xff), 256), ".wh..wh..dr.3_ffff_256");
    assert_eq!(name_of(0, (8, 0x100), 2), ".wh..wh..dr.3_008:00100_2");
    assert_eq!(name_of(0, (0x100, 1), 2), ".wh..wh..dr.3_100:00001_2");
}

#[test]
fn layout() {
    let record = Record {
        ino: 0x0102,
        name: b"old",
    };
    let mut wanted = vec![0x61, 0x64, 0x72, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    wanted.extend([0; 7]);
    wanted.extend(b"old");
    assert_eq!(record.encode().unwrap().to_vec(), wanted);
    assert_eq!(
        list([1, 258].into_iter()).unwrap().to_vec(),
        [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2]
    );
}

#[test]
fn not_a_record() {
    let good = Record {
        ino: 7,
        name: b"name",
    }
    .encode()
    .unwrap()
    .to_vec();
    assert!(Record::decode(&good).is_some());
    for len in 0..good.len() {
        assert_eq!(Record::decode(&good[..len]), None, "cut at {len}");
    }
    for bad in ["", ".", "..", "a/b", "a\0", "/", ".wh.a", ".wh..wh.plnk"] {
        let mut bytes = good[..24].to_vec();
        bytes[16] = bad.len() as u8;
        bytes.extend(bad.as_bytes());
        assert_eq!(Record::decode(&bytes), None, "{bad:?}");
    }
    assert!(Record { ino: 7, name: b"" }.encode().is_err());
    assert!(Record {
        ino: 7,
        name: &[b'x'; 256]
    }
    .encode()
    .is_err());
}

proptest! {
    #[test]
    fn comes_back(ino: u64, name in "[^/\0]{1,60}") {
        prop_assume!(name != "." && name != ".." && !name.starts_with(".wh."));
        let record = Record { ino, name: name.as_bytes() };
        let bytes = record.encode().unwrap();
        prop_assert!(bytes.len() <= RECORD_MAX);
        prop_assert_eq!(Record::decode(&bytes), Some(record));
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[0x61, 0x64, 0x72, 1]);
        }
        if let Some(record) = Record::decode(&bytes) {
            prop_assert!(!record.name.is_empty() && record.name.len() <= 255);
            prop_assert!(!record.name.contains(&b'/'));
        }
    }

    #[test]
    fn lists(all in proptest::collection::vec(any::<u64>(), 0..20), tail in 0..8usize) {
        let mut bytes = list(all.iter().copied()).unwrap().to_vec();
        bytes.extend(std::iter::repeat_n(1, tail));
        prop_assert_eq!(numbers(&bytes).collect::<Vec<_>>(), all);
    }

    #[test]
    fn branches_have_names_of_their_own(a: (u64, u8, u8, u64), b: (u64, u8, u8, u64)) {
        let name = |(fsid, major, minor, root): (u64, u8, u8, u64)| {
            name_of(fsid, (u32::from(major), u32::from(minor)), root)
        };
        let same = (a.0, a.3) == (b.0, b.3) && (a.0 != 0 || (a.1, a.2) == (b.1, b.2));
        prop_assert_eq!(name(a) == name(b), same);
    }
}
