// SPDX-License-Identifier: GPL-2.0

//! Inode numbers.

use proptest::prelude::*;

use crate::rust::logic::ino::{exception, pack, unpack, ROOT};

#[test]
fn edges() {
    assert_eq!(ROOT, 2);
    assert_eq!(pack(0, 0), Some(16));
    assert_eq!(pack(0, 2), Some(18));
    assert_eq!(pack(1, 0), Some((1 << 48) + 16));
    let most = (1u64 << 48) - 1 - 16;
    assert_eq!(pack(0, most), Some((1 << 48) - 1));
    assert_eq!(pack(0, most + 1), None);
    assert_eq!(pack(0, u64::MAX), None);
    assert_eq!(pack(0x7ffe, most), Some((0x7fff << 48) - 1));
    assert_eq!(pack(0x7fff, 0), None);
    assert_eq!(pack(u16::MAX, 0), None);
    assert_eq!(exception(0), 0x7fff << 48);
    assert_eq!(exception((1 << 48) - 1), u64::MAX >> 1);
    assert_eq!(exception(1 << 48), exception(0));
    assert_eq!(exception(u64::MAX), u64::MAX >> 1);
}

#[test]
fn unpack_knows_only_packed_numbers() {
    for other in [
        0,
        ROOT,
        11,
        15,
        (5 << 48) + 15,
        exception(7),
        1 << 63,
        u64::MAX,
    ] {
        assert_eq!(unpack(other), None, "{other:#x}");
    }
}

proptest! {
    #[test]
    fn packed_numbers_are_distinct_and_apart(
        a in (any::<u16>(), 0u64..1 << 50),
        b in (0u16..4, 0u64..100),
        n: u64,
    ) {
        for (fs, lower) in [a, b] {
            let Some(ino) = pack(fs, lower) else {
                prop_assert!(fs >= 0x7fff || lower > (1 << 48) - 17);
                continue;
            };
            prop_assert!(ino >= 11 && ino != ROOT && ino >> 63 == 0);
            prop_assert_eq!(unpack(ino), Some((fs, lower)), "so pack() is injective");
            prop_assert_ne!(ino, exception(n));
            prop_assert!(ino < exception(0), "ranges are disjoint");
        }
        prop_assert!(exception(n) >> 63 == 0 && exception(n) >= exception(0));
    }

    #[test]
    fn exceptions_are_distinct(a in 0u64..1 << 48, b in 0u64..1 << 48) {
        prop_assert_eq!(exception(a) == exception(b), a == b);
    }

    #[test]
    fn unpack_is_the_reverse_of_pack(ino: u64) {
        if let Some((fs, lower)) = unpack(ino) {
            prop_assert_eq!(pack(fs, lower), Some(ino));
        }
    }
}
