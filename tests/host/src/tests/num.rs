// SPDX-License-Identifier: GPL-2.0

//! Numbers as text.

use proptest::prelude::*;

use logic::num::{decimal, parse_canonical, parse_hex, parse_signed, parse_unsigned};

#[test]
fn decimal_has_no_leading_zero() {
    let text = |n| decimal(n, &mut [0; 20]).to_vec();
    assert_eq!(text(0), b"0");
    assert_eq!(text(9), b"9");
    assert_eq!(text(10), b"10");
    assert_eq!(text(u64::MAX), b"18446744073709551615");
}

#[test]
fn canonical_form_only() {
    assert_eq!(parse_canonical(b"0"), Some(0));
    assert_eq!(parse_canonical(b"18446744073709551615"), Some(u64::MAX));
    for bad in [
        "",
        "00",
        "01",
        "+1",
        "-1",
        "0x1",
        "1 ",
        "a",
        "18446744073709551616",
    ] {
        assert_eq!(parse_canonical(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn option_numbers_are_those_of_kstrtoll() {
    for (text, n) in [
        ("0", 0),
        ("-0", 0),
        ("+0", 0),
        ("12", 12),
        ("+12", 12),
        ("-12", -12),
        ("010", 8),
        ("-010", -8),
        ("0x1f", 31),
        ("0X1F", 31),
        ("-0x1f", -31),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(parse_signed(text.as_bytes()), Some(n), "{text}");
    }
    for bad in [
        "",
        "+",
        "-",
        "--1",
        "+-1",
        "-+1",
        "0x",
        "08",
        "1k",
        " 1",
        "1\n",
        "def",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
    ] {
        assert_eq!(parse_signed(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(parse_unsigned(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(parse_unsigned(b"-1"), None);
}

proptest! {
    #[test]
    fn decimal_round_trip(n: u64) {
        let mut buf = [0; 20];
        let text = decimal(n, &mut buf);
        prop_assert_eq!(text.to_vec(), n.to_string().into_bytes());
        prop_assert_eq!(parse_canonical(text), Some(n));
        prop_assert_eq!(parse_unsigned(text), Some(n));
    }

    #[test]
    fn signed_round_trip(n: i64) {
        prop_assert_eq!(parse_signed(n.to_string().as_bytes()), Some(n));
    }

    #[test]
    fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..30)) {
        let _ = (parse_canonical(&text), parse_signed(&text), parse_unsigned(&text));
    }

    #[test]
    fn any_digits(text in "[-+]?(0x)?[0-9a-f]{0,24}") {
        if let Some(n) = parse_canonical(text.as_bytes()) {
            prop_assert_eq!(n.to_string(), text.clone());
        }
        let _ = parse_signed(text.as_bytes());
    }
}

#[test]
fn hexadecimal_digits_alone() {
    assert_eq!(parse_hex(b"0"), Some(0));
    assert_eq!(parse_hex(b"00fF"), Some(255));
    assert_eq!(parse_hex(b"ffffffffffffffff"), Some(u64::MAX));
    for bad in ["", "0x1", "-1", "+1", "g", "1 ", "10000000000000000"] {
        assert_eq!(parse_hex(bad.as_bytes()), None, "{bad}");
    }
}
