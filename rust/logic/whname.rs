// SPDX-License-Identifier: GPL-2.0

//! Names beginning with `.wh.`, which carry the union's own marks in a branch.
//!
//! | name | where | meaning |
//! |---|---|---|
//! | `.wh.NAME` | any directory | NAME does not exist below this branch |
//! | `.wh..wh..opq` | any directory | nothing of this directory exists below this branch |
//! | `.wh..wh.aufs` | branch root | the file to which whiteouts are hard links |
//! | `.wh..wh.plnk/INO.HINO` | branch root | a copied-up file that has more names |
//! | `.wh..wh.orph` | branch root | place for copies of removed but open files |
//! | `.wh..wh.NAME.XXXX` | beside NAME | a temporary name |
//!
//! Further names are those of [`dirren`](super::dirren) and of the tools ([`COMMIT`]).
//!
//! # Invariants
//!
//! None of these names enters or leaves through the mount, unless whiteouts are shown: then
//! whiteouts and opaque marks leave, but nothing enters.

#![forbid(unsafe_code)]

use core::ops::Deref;

use super::{
    env::{
        name_too_long,
        KVec,
        Result,
        EPERM,
        GFP_KERNEL, //
    },
    num, //
};

/// With these bytes begins each reserved name.
pub const PREFIX: &[u8] = b".wh.";
/// With these bytes begins each reserved name that is not a whiteout.
const OWN_PREFIX: &[u8] = b".wh..wh.";
/// The file in a branch's root to which whiteouts are linked.
pub const BASE: &[u8] = b".wh..wh.aufs";
/// The directory of pseudo-links in a branch's root.
pub const PLINK_DIR: &[u8] = b".wh..wh.plnk";
/// The directory for removed but open files in a branch's root.
pub const ORPHAN_DIR: &[u8] = b".wh..wh.orph";
/// The mark of an opaque directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// The directory in a branch's root of an unfinished `ruaufs commit`.
#[cfg(not(CONFIG_RUST))]
pub const COMMIT: &[u8] = b".wh..wh.commit";

/// The longest name a user of the union can use.
///
/// What is left of 255 bytes for NAME in `.wh..wh.NAME.XXXX`.
pub const NAME_MAX: usize = 242;

/// The longest name a branch can store.
const BRANCH_NAME_MAX: usize = 255;

/// Tells whether `name` is one of the union's own.
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// Checks a name that comes from a user of the union.
///
/// # Errors
///
/// - `ENAMETOOLONG`: it is longer than [`NAME_MAX`].
/// - `EPERM`: it is reserved.
pub fn check(name: &[u8]) -> Result {
    if name.len() > NAME_MAX {
        return Err(name_too_long());
    }
    if is_reserved(name) {
        return Err(EPERM);
    }
    Ok(())
}

/// Makes the name of the whiteout of `name`.
///
/// # Errors
///
/// - `ENAMETOOLONG`: no branch can store it, so there is none.
/// - `ENOMEM`.
pub fn whiteout(name: &[u8]) -> Result<Name> {
    Name::concat(&[PREFIX, name])
}

/// Returns the name that the directory entry `entry` hides, if it is a whiteout.
///
/// ```text
/// .wh.foo       -> foo
/// .wh.          -> none, there is no empty name
/// .wh..wh..opq  -> none, this is a mark of another kind
/// foo           -> none
/// ```
pub fn whiteouted(entry: &[u8]) -> Option<&[u8]> {
    let name = entry.strip_prefix(PREFIX)?;
    if is_reserved(name) || matches!(name, b"" | b"." | b"..") {
        return None;
    }
    Some(name)
}

/// Tells whether `name` is a whiteout's or the opaque mark's: what is seen with `shwh`.
pub fn is_mark(name: &[u8]) -> bool {
    name == OPAQUE || whiteouted(name).is_some()
}

/// Makes the `n`-th temporary name for `name`: `.wh..wh.NAME.XXXX`.
///
/// NAME is cut, at a UTF-8 boundary if it has one, when the result would be too long.
///
/// # Errors
///
/// - `ENOMEM`.
pub fn temp(name: &[u8], n: u16) -> Result<Name> {
    let mut digits = [0u8; 4];
    let mut rest = n;
    for slot in digits.iter_mut().rev() {
        // CAST: The remainder is below 16.
        let digit = (rest % 16) as u8;
        *slot = match digit {
            0..=9 => b'0' + digit,
            _ => b'a' + (digit - 10),
        };
        rest /= 16;
    }
    Name::concat(&[OWN_PREFIX, cut(name, NAME_MAX), b".", &digits])
}

/// Tells whether `name` is one that [`temp`] makes.
pub fn is_temp(name: &[u8]) -> bool {
    let Some((rest, digits)) = name
        .strip_prefix(OWN_PREFIX)
        .and_then(|own| own.split_last_chunk::<4>())
    else {
        return false;
    };
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    rest.last() == Some(&b'.') && digits.iter().all(is_hex)
}

/// What a name on a branch means.
#[cfg(not(CONFIG_RUST))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// An object of the user's.
    Plain,
    /// The whiteout of this name.
    Whiteout(&'a [u8]),
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
#[cfg(not(CONFIG_RUST))]
pub fn meaning(name: &[u8]) -> Meaning<'_> {
    use super::dirren;

    if !is_reserved(name) {
        return Meaning::Plain;
    }
    if let Some(hidden) = whiteouted(name) {
        return Meaning::Whiteout(hidden);
    }
    match name {
        OPAQUE => Meaning::Opaque,
        BASE | PLINK_DIR | ORPHAN_DIR | dirren::LIST | COMMIT => Meaning::Bookkeeping,
        _ if name.starts_with(dirren::RECORD_PREFIX) => Meaning::FormerName,
        _ if is_temp(name) => Meaning::Temporary,
        _ => Meaning::Unknown,
    }
}

/// Returns the longest beginning of `name` of at most `max` bytes that does not end within a
/// UTF-8 character.
fn cut(name: &[u8], max: usize) -> &[u8] {
    let Some(head) = name.get(..max) else {
        return name;
    };
    let continues = |at: usize| name.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has at most three continuation bytes.
    (0..4)
        .filter_map(|back| max.checked_sub(back))
        .find(|&end| !continues(end))
        .and_then(|end| name.get(..end))
        .unwrap_or(head)
}

/// Makes the name of a pseudo-link: the union's inode number, a dot, the branch's.
///
/// # Errors
///
/// - `ENOMEM`.
#[inline(never)]
pub fn plink(ino: u64, lower_ino: u64) -> Result<Name> {
    let (mut buf, mut lower_buf) = ([0; 20], [0; 20]);
    Name::concat(&[
        num::decimal(ino, &mut buf),
        b".",
        num::decimal(lower_ino, &mut lower_buf),
    ])
}

/// Reads the name of a pseudo-link: (the union's inode number, the branch's).
pub fn parse_plink(entry: &[u8]) -> Option<(u64, u64)> {
    let dot = entry.iter().position(|&byte| byte == b'.')?;
    let (ino, lower) = entry.split_at_checked(dot)?;
    Some((
        num::parse_canonical(ino)?,
        num::parse_canonical(lower.strip_prefix(b".")?)?,
    ))
}

/// Bytes of a [`Name`] that need no allocation; makes it 64 bytes in all.
const INLINE: usize = 62;

/// A name of at most 255 bytes.
///
/// Short names, which nearly all are, live in the value itself; longer ones in an allocation, so
/// that a few names at once do no harm to the kernel's stack.
#[derive(Debug)]
pub struct Name(Repr);

/// Where the bytes of a [`Name`] are.
#[derive(Debug)]
enum Repr {
    /// The first `len` bytes of `bytes`.
    Inline {
        /// The number of bytes used.
        len: u8,
        /// The name, then zeros.
        bytes: [u8; INLINE],
    },
    /// All of the vector.
    Heap(KVec<u8>),
}

impl Name {
    /// Joins `parts`.
    ///
    /// # Errors
    ///
    /// - `ENAMETOOLONG`: the result would have more than 255 bytes.
    /// - `ENOMEM`.
    fn concat(parts: &[&[u8]]) -> Result<Self> {
        let len = parts
            .iter()
            .fold(0usize, |len, part| len.saturating_add(part.len()));
        if len > BRANCH_NAME_MAX {
            return Err(name_too_long());
        }
        if len > INLINE {
            let mut bytes = KVec::with_capacity(len, GFP_KERNEL)?;
            for part in parts {
                bytes.extend_from_slice(part, GFP_KERNEL)?;
            }
            return Ok(Name(Repr::Heap(bytes)));
        }
        let mut bytes = [0; INLINE];
        let mut rest = bytes.as_mut_slice();
        for part in parts {
            // There is room for all: `len` is at most `INLINE`.
            let Some((to, left)) = rest.split_at_mut_checked(part.len()) else {
                return Err(name_too_long());
            };
            to.copy_from_slice(part);
            rest = left;
        }
        // CAST: `len` is at most `INLINE`.
        let len = len as u8;
        Ok(Name(Repr::Inline { len, bytes }))
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Repr::Heap(bytes) => bytes,
        }
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}
