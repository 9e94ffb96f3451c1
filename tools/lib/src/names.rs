// SPDX-License-Identifier: GPL-2.0

//! Reserved names of branches: whiteouts, opaque marks, bookkeeping.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

pub use logic::marks::aufs::{Meaning, NAME_MAX};
use logic::{
    escape,
    marks::{aufs, Role},
    plink,
};

/// In a directory: nothing from lower branches shows.
pub const OPAQUE: &str = text(aufs::OPAQUE);
/// At a branch's root: the file that whiteouts are hard links of.
pub const BASE: &str = text(aufs::BASE);
/// At a branch's root: the directory of pseudo-links.
pub const PLINKS: &str = text(aufs::PLINK_DIR);
/// At a branch's root: the directory of temporary objects.
pub const ORPHANS: &str = text(aufs::ORPHAN_DIR);
/// At a branch's root: numbers of renamed directories (`dirren`).
pub const RENAMED: &str = text(aufs::RENAMED);
/// At a branch's root: state of an unfinished `ruaufs commit`.
pub const COMMIT: &str = text(aufs::COMMIT);

/// The text of a name or word that is ASCII.
pub(crate) const fn text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!(),
    }
}

/// Tells what a name on a branch means.
pub fn meaning(name: &OsStr) -> Meaning<'_> {
    aufs::meaning(name.as_bytes())
}

/// Tells what an entry of a branch's directory is for the union.
pub(crate) fn role(name: &OsStr) -> Role<'_> {
    aufs::role(name.as_bytes())
}

/// The name of the whiteout of `name`.
pub fn whiteout(name: &OsStr) -> OsString {
    OsString::from_vec([aufs::PREFIX, name.as_bytes()].concat())
}

/// Reads the name of a pseudo-link: the union's inode number, the branch's.
pub fn parse_plink(name: &OsStr) -> Option<(u64, u64)> {
    plink::parse_name(name.as_bytes())
}

/// Replaces `\ooo` by the byte it stands for, as the mount table and sysfs write paths.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    escape::read(text, &mut |byte| out.push(byte));
    out
}

/// Text for people, whatever it contains: one line that a terminal shows as it is, and that says
/// exactly which bytes it stands for.
pub trait Show {
    /// With `\ooo` for bytes of what is no text, controls the terminal or cannot be seen, and for
    /// the backslash.
    fn shown(&self) -> String;
}

impl Show for OsStr {
    fn shown(&self) -> String {
        let mut out = String::with_capacity(self.len());
        for chunk in self.as_bytes().utf8_chunks() {
            for char in chunk.valid().chars() {
                match is_visible(char) && char != '\\' {
                    true => out.push(char),
                    false => push_escaped(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            push_escaped(&mut out, chunk.invalid());
        }
        out
    }
}

impl Show for Path {
    fn shown(&self) -> String {
        self.as_os_str().shown()
    }
}

fn push_escaped(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str(&format!("\\{byte:03o}"));
    }
}

/// Whether a character shows as itself and does nothing else: no control character, none that
/// changes the direction of writing, joins, or takes no room.
pub fn is_visible(char: char) -> bool {
    !char.is_control()
        && !matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
}

/// A message of several lines as a terminal may have it: what the kernel or another program said may
/// contain anything.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match is_visible(char) || matches!(char, '\n' | '\t') {
            true => out.push(char),
            false => push_escaped(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_see() {
        let of = |bytes: &[u8]| OsStr::from_bytes(bytes).shown();
        assert_eq!(of("a b/ä–字".as_bytes()), "a b/ä–字");
        assert_eq!(of(b"\x1b]0;x\x07\n"), "\\033]0;x\\007\\012");
        assert_eq!(
            of("\u{202e}gpj\u{9b}".as_bytes()),
            "\\342\\200\\256gpj\\302\\233"
        );
        // A name with a backslash and one with that byte are not shown alike.
        assert_eq!(
            (of(b"\xff"), of(b"\\377")),
            ("\\377".into(), "\\134377".into())
        );
        assert_eq!(harmless("a\n\tb\\\x1b[2J\r"), "a\n\tb\\\\033[2J\\015");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_exact(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unescape(OsStr::from_bytes(&bytes).shown().as_bytes()), bytes);
        }
    }
}
