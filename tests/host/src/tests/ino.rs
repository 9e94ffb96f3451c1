// SPDX-License-Identifier: GPL-2.0

//! Inode numbers.

use proptest::prelude::*;

use logic::ino::{exception, is_exception, pack, window, FURTHER, HOME, ROOT, WINDOWS};

/// With all windows claimed, or none.
fn claimed(space: u16, lower: u64) -> Option<u64> {
    pack(space, lower, |_| false)
}
fn free(space: u16, lower: u64) -> Option<u64> {
    pack(space, lower, |_| true)
}

#[test]
fn home() {
    assert_eq!(ROOT, 2);
    for lower in [3, 10, 11, 256, (1 << 31) - 1, 1 << 32, (1 << 48) - 1] {
        assert_eq!(claimed(HOME, lower), Some(lower));
    }
    // Those that mean something else.
    assert_eq!(claimed(HOME, 0), Some(0xff00_0000));
    assert_eq!(claimed(HOME, 1), Some(0xff00_0001));
    assert_eq!(claimed(HOME, ROOT), Some(0xff00_0002));
    // In a window, and where no window is.
    for lower in [1 << 31, 0xf000_0000, 0xfeff_ffff] {
        assert_eq!(free(HOME, lower), Some(lower));
        assert_eq!(claimed(HOME, lower), Some((0x7ffe << 48) | lower));
    }
    for lower in [0xff00_0000, 0xff00_0010, 0xffff_ffff] {
        assert_eq!(free(HOME, lower), Some((0x7ffe << 48) | lower));
    }
    assert_eq!(claimed(HOME, 1 << 48), None);
    assert_eq!(claimed(HOME, u64::MAX), None);
}

#[test]
fn others() {
    assert_eq!(claimed(1, 0), Some(0x8000_0000));
    assert_eq!(claimed(1, 11), Some(0x8000_000b));
    assert_eq!(claimed(1, (1 << 29) - 1), Some(0x9fff_ffff));
    assert_eq!(claimed(1, 1 << 29), Some((1 << 48) | (1 << 29)));
    assert_eq!(claimed(FURTHER, 256), Some(0xa000_0100));
    assert_eq!(claimed(2, 0), Some(0xc000_0000));
    assert_eq!(claimed(FURTHER + 1, 0), Some(0xd000_0000));
    assert_eq!(claimed(3, 0), Some(0xe000_0000));
    assert_eq!(claimed(FURTHER + 2, 0), Some(0xe800_0000));
    assert_eq!(claimed(4, 0), Some(0xf000_0000));
    assert_eq!(claimed(FURTHER + 3, 0), Some(0xf010_0000));
    assert_eq!(claimed(123, 5), Some(0xfee0_0005));
    assert_eq!(claimed(FURTHER + 122, 5), Some(0xfef0_0005));
    assert_eq!(claimed(124, 5), Some((124 << 48) | 5));
    assert_eq!(claimed(0x7ffd, 5), Some((0x7ffd << 48) | 5));
    for space in [0x7ffe, 0x7fff, 0xc000, u16::MAX] {
        assert_eq!(claimed(space, 5), None);
    }
    assert_eq!(claimed(1, 1 << 48), None);
}

#[test]
fn exceptions() {
    assert_eq!(exception(0), 0xff00_0010);
    assert_eq!(exception(0xff_ffee), 0xffff_fffe);
    assert_eq!(exception(0xff_ffef), (0x7fff << 48) | 0xff_ffef);
    assert_eq!(exception((1 << 48) - 1), u64::MAX >> 1);
    assert_eq!(exception(1 << 48), exception(0));
    assert_eq!(exception(u64::MAX), u64::MAX >> 1);
    for other in [
        0,
        ROOT,
        0xff00_0000,
        0xff00_000f,
        u64::from(u32::MAX),
        1 << 63,
    ] {
        assert!(!is_exception(other), "{other:#x}");
    }
}

#[test]
fn each_window_belongs_to_one_space() {
    assert_eq!(window(HOME), None);
    let spaces = (0..u16::MAX).filter(|&space| window(space).is_some());
    let mut windows: Vec<_> = spaces.filter_map(window).collect();
    windows.sort_unstable();
    assert_eq!(windows, (0..WINDOWS).collect::<Vec<_>>());
}

/// Numbers near those at which something changes.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..300,
        (20u32..50, 0u64..40).prop_map(|(bits, n)| ((1 << bits) + n).saturating_sub(20)),
        (1u64 << 31)..(1 << 32),
        any::<u64>(),
    ]
}

fn space() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..8, FURTHER..FURTHER + 8, 110u16..130, any::<u16>()]
}

proptest! {
    #[test]
    fn packed_numbers_are_distinct_and_apart(
        a in (space(), number()),
        b in (space(), number()),
        taken in proptest::collection::vec(any::<bool>(), usize::from(WINDOWS)),
        n in number(),
    ) {
        // A space that has a window has claimed it.
        let owned = |space| window(space).is_none_or(|w| taken[usize::from(w)]);
        let shown = |(space, lower)| pack(space, lower, |w| !taken[usize::from(w)]);
        for one in [a, b].into_iter().filter(|&(space, _)| owned(space)) {
            let Some(ino) = shown(one) else {
                prop_assert!(one.0 >= 0x7ffe || one.1 >> 48 != 0);
                continue;
            };
            prop_assert!(ino > ROOT && ino >> 63 == 0);
            prop_assert_ne!(ino, u64::from(u32::MAX));
            prop_assert!(!is_exception(ino));
            prop_assert_ne!(ino, exception(n));
        }
        if a != b && owned(a.0) && owned(b.0) {
            if let (Some(a), Some(b)) = (shown(a), shown(b)) {
                prop_assert_ne!(a, b);
            }
        }
        prop_assert!(exception(n) >> 63 == 0 && is_exception(exception(n)));
    }

    #[test]
    fn exceptions_are_distinct(a in number(), b in number()) {
        let low = (1 << 48) - 1;
        prop_assert_eq!(exception(a) == exception(b), a & low == b & low);
    }

    #[test]
    fn low_bits_stay_at_home(lower in 0u64..1 << 48, is_free: bool) {
        let ino = pack(HOME, lower, |_| is_free).unwrap();
        if lower > ROOT {
            prop_assert_eq!(ino as u32, lower as u32);
        }
    }
}
