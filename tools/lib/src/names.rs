// SPDX-License-Identifier: GPL-2.0

//! Names beginning with `.wh.`: whiteouts, opaque marks, bookkeeping.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

/// What whiteouts begin with.
pub const PREFIX: &str = ".wh.";
/// What all other reserved names begin with.
pub const OWN_PREFIX: &str = ".wh..wh.";
/// In a directory: nothing from lower branches shows.
pub const OPAQUE: &str = ".wh..wh..opq";
/// At a branch's root: the file that whiteouts are hard links of.
pub const BASE: &str = ".wh..wh.aufs";
/// At a branch's root: the directory of pseudo-links.
pub const PLINKS: &str = ".wh..wh.plnk";
/// At a branch's root: the directory of temporary objects.
pub const ORPHANS: &str = ".wh..wh.orph";
/// At a branch's root: numbers of renamed directories (`dirren`).
pub const RENAMED: &str = ".wh..wh.hino";
/// In a renamed directory (`dirren`), followed by a branch: its former name there.
pub const FORMER_PREFIX: &str = ".wh..wh..dr.";
/// At a branch's root: state of an unfinished `ruaufs commit`.
pub const COMMIT: &str = ".wh..wh.commit";
/// Longest name that a union can show.
pub const NAME_MAX: usize = 242;

/// What a name on a branch means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An object of the user's.
    Plain,
    /// The whiteout of this name.
    Whiteout(OsString),
    /// The opaque mark.
    Opaque,
    /// One of the bookkeeping objects that belong at a branch's root.
    Bookkeeping,
    /// The former name of a renamed directory.
    FormerName,
    /// A temporary object: `.wh..wh.NAME.XXXX`.
    Temporary,
    /// Reserved, and made by nobody that is known here.
    Unknown,
}

/// Tells what a name on a branch means.
pub fn meaning(name: &OsStr) -> Meaning {
    let bytes = name.as_bytes();
    let Some(rest) = bytes.strip_prefix(PREFIX.as_bytes()) else {
        return Meaning::Plain;
    };
    let Some(own) = bytes.strip_prefix(OWN_PREFIX.as_bytes()) else {
        return match rest {
            b"" => Meaning::Unknown,
            _ => Meaning::Whiteout(OsString::from_vec(rest.to_vec())),
        };
    };
    match name.to_str() {
        Some(OPAQUE) => Meaning::Opaque,
        Some(BASE | PLINKS | ORPHANS | RENAMED | COMMIT) => Meaning::Bookkeeping,
        _ if bytes.starts_with(FORMER_PREFIX.as_bytes()) => Meaning::FormerName,
        _ if is_temporary(own) => Meaning::Temporary,
        _ => Meaning::Unknown,
    }
}

/// Whether this, after the prefix, is `NAME.XXXX` with four lower-case hexadecimal digits.
fn is_temporary(own: &[u8]) -> bool {
    let Some(at) = own.len().checked_sub(5).filter(|at| *at > 0) else {
        return false;
    };
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    own[at] == b'.' && own[at + 1..].iter().all(hex)
}

/// The name of the whiteout of `name`.
pub fn whiteout(name: &OsStr) -> OsString {
    let mut all = OsString::from(PREFIX);
    all.push(name);
    all
}

/// Reads the name of a pseudo-link: the union's inode number, the branch's.
pub fn parse_plink(name: &OsStr) -> Option<(u64, u64)> {
    let (ino, lower) = name.to_str()?.split_once('.')?;
    Some((ino.parse().ok()?, lower.parse().ok()?))
}

/// Replaces `\ooo` by the byte it stands for, as the mount table and sysfs write paths.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..]) =
            (first, tail)
        {
            out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = left;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// Writes control characters, blanks, backslashes and bytes above 0x7e as `\ooo`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | 0..=0x20 | 0x7f.. => out.push_str(&format!("\\{byte:03o}")),
            _ => out.push(char::from(*byte)),
        }
    }
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
    fn meanings() {
        let of = |name: &str| meaning(OsStr::new(name));
        assert_eq!(of("wh.a"), Meaning::Plain);
        assert_eq!(of(".wh"), Meaning::Plain);
        assert_eq!(of(".wh.a"), Meaning::Whiteout("a".into()));
        assert_eq!(of(".wh..b"), Meaning::Whiteout(".b".into()));
        assert_eq!(of(".wh..wh"), Meaning::Whiteout(".wh".into()));
        assert_eq!(of(".wh..wh..opq"), Meaning::Opaque);
        for name in [BASE, PLINKS, ORPHANS, RENAMED, COMMIT] {
            assert_eq!(of(name), Meaning::Bookkeeping, "{name}");
        }
        assert_eq!(of(".wh..wh..dr.2_1-2_3"), Meaning::FormerName);
        assert_eq!(of(".wh..wh.a.00ff"), Meaning::Temporary);
        assert_eq!(of(".wh..wh..a.00ff"), Meaning::Temporary);
        for name in [
            ".wh.",
            ".wh..wh.",
            ".wh..wh.a",
            ".wh..wh..00ff",
            ".wh..wh.a.00FF",
            ".wh..wh.a.0ff",
        ] {
            assert_eq!(of(name), Meaning::Unknown, "{name}");
        }
    }

    #[test]
    fn plink_names() {
        let of = |name: &str| parse_plink(OsStr::new(name));
        assert_eq!(of("11.131215"), Some((11, 131215)));
        for name in ["", "11", "11.", ".1", "a.1", "1.2.3", "-1.2"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

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

        #[test]
        fn escapes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = escape(&bytes);
            prop_assert!(text.bytes().all(|b| (0x21..0x7f).contains(&b)));
            prop_assert_eq!(unescape(text.as_bytes()), bytes);
        }

        #[test]
        fn whiteouts_come_back(name in "[a-z.][a-z.]{0,8}") {
            prop_assume!(!name.starts_with(PREFIX));
            let got = meaning(&whiteout(OsStr::new(&name)));
            prop_assert_eq!(got, Meaning::Whiteout(name.into()));
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in ["\\", "\\04", "\\0", "\\400x", "a\\9", "\\08 "] {
            assert_eq!(unescape(text.as_bytes()), text.as_bytes(), "{text}");
        }
        assert_eq!(unescape(b"a\\040b\\134\\054"), b"a b\\,");
    }
}
