// SPDX-License-Identifier: GPL-2.0

//! Paths as aufs shows them.

use crate::rust::logic::escape;

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
    let mut back = Vec::new();
    let mut rest = &text[..];
    while let Some((&byte, more)) = rest.split_first() {
        rest = more;
        match byte {
            b'\\' => {
                let digits = std::str::from_utf8(&rest[..3]).unwrap();
                back.push(u8::from_str_radix(digits, 8).unwrap());
                rest = &rest[3..];
            }
            _ => back.push(byte),
        }
    }
    assert_eq!(back, all);
}
