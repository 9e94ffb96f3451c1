// SPDX-License-Identifier: GPL-2.0

//! Paths as aufs shows them.

use proptest::{collection::vec, prelude::*};

use logic::escape;

use super::written;

fn escaped(path: &[u8]) -> String {
    written(|out| escape::write(path, out))
}

#[test]
fn blanks_controls_and_backslashes_are_octal() {
    assert_eq!(escaped(b"/plain/path=1:2,3"), "/plain/path=1:2,3");
    assert_eq!(escaped(b"/a b"), "/a\\040b");
    assert_eq!(
        escaped(b"\\\t\n\x7f\x01x"),
        "\\134\\011\\012\\177\\001x",
        "each byte by itself"
    );
    assert_eq!(escaped("/\u{e9}".as_bytes()), "/\u{e9}");
    assert_eq!(escaped(b""), "");
}

#[test]
fn every_byte_but_nul_comes_back() {
    let all: Vec<u8> = (1..=255).collect();
    let mut text = Vec::new();
    escape::write(&all, &mut |part: &[u8]| text.extend_from_slice(part));
    assert!(text.iter().all(|&byte| byte > 0x20 && byte != 0x7f));
    assert_eq!(read(&text), all);
}

/// What `read` makes of a text.
fn read(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    escape::read(text, &mut |byte| bytes.push(byte));
    bytes
}

#[test]
fn what_is_no_escape_stays() {
    for text in ["\\", "\\04", "\\0", "\\400x", "a\\9", "\\08 "] {
        assert_eq!(read(text.as_bytes()), text.as_bytes(), "{text}");
    }
    assert_eq!(read(b"a\\040b\\134\\054"), b"a b\\,");
}

proptest! {
    #[test]
    fn escapes_come_back(bytes in vec(any::<u8>(), 0..40)) {
        let mut text = Vec::new();
        escape::write(&bytes, &mut |part: &[u8]| text.extend_from_slice(part));
        prop_assert_eq!(read(&text), bytes);
    }
}
