// SPDX-License-Identifier: GPL-2.0

//! The marks of aufs: entries with reserved names.
//!
//! | name | where | meaning |
//! |---|---|---|
//! | `.wh.NAME` | any directory | NAME does not exist below this branch |
//! | `.wh..wh..opq` | any directory | nothing of this directory exists below this branch |
//! | `.wh..wh.aufs` | branch root | the file to which whiteouts are hard links |
//! | `.wh..wh.plnk` | branch root | the directory of [pseudo-links](super::super::plink) |
//! | `.wh..wh.orph` | branch root | place for copies of removed but open files |
//! | `.wh..wh.hino` | branch root | the list of renamed directories ([`dirren`]) |
//! | `.wh..wh..dr.BRID` | a renamed directory | one of its [records](dirren) |
//! | `.wh..wh.commit` | branch root | state of an unfinished `ruaufs commit` |
//! | `.wh..wh.NAME.XXXX` | beside NAME | a temporary name |
//!
//! [`dirren`]: super::super::dirren
//!
//! No other file of the module knows any of these names: `scripts/check-layers.sh` looks for them.
//!
//! # Invariants
//!
//! None of these names enters or leaves through the mount, unless whiteouts are shown: then
//! whiteouts and opaque marks leave, but nothing enters.

#![forbid(unsafe_code)]

use super::{
    super::{
        env::{
            name_too_long,
            Result,
            EPERM, //
        },
        name::Name, //
    },
    Dir,
    Format,
    Role,
    UserName, //
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
/// The list, in a branch's root, of the inode numbers of renamed directories.
pub const RENAMED: &[u8] = b".wh..wh.hino";
/// With these bytes begins the name of a record in a renamed directory.
pub const RECORD_PREFIX: &[u8] = b".wh..wh..dr.";
/// Stands in messages for the names of what is in a branch's root.
pub const BOOKKEEPING: &str = ".wh..wh.*";
/// The directory in a branch's root of an unfinished `ruaufs commit`.
#[cfg(not(CONFIG_RUST))]
pub const COMMIT: &[u8] = b".wh..wh.commit";

/// The longest name a user of the union can use.
///
/// What is left of 255 bytes for NAME in `.wh..wh.NAME.XXXX`.
pub const NAME_MAX: usize = 242;

/// Tells whether `name` is one of the union's own.
#[inline]
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// Returns `name` if it is not reserved.
#[inline]
pub fn user(name: &[u8]) -> Option<UserName<'_>> {
    (!is_reserved(name)).then_some(UserName(name))
}

/// Checks a name that comes from a user of the union.
///
/// # Errors
///
/// - `ENAMETOOLONG`: it is longer than [`NAME_MAX`].
/// - `EPERM`: it is reserved.
#[inline]
pub fn check(name: &[u8]) -> Result<UserName<'_>> {
    if name.len() > NAME_MAX {
        return Err(name_too_long());
    }
    user(name).ok_or(EPERM)
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

/// Tells what an entry of a branch's directory is, by its name.
#[inline]
pub fn role(entry: &[u8]) -> Role<'_> {
    match is_reserved(entry) {
        true => role_of_reserved(entry),
        false => Role::Object,
    }
}

/// As [`role`], for a reserved name. Few entries have one.
#[inline(never)]
fn role_of_reserved(entry: &[u8]) -> Role<'_> {
    match whiteouted(entry) {
        Some(hidden) => Role::Whiteout(hidden),
        None if entry == OPAQUE => Role::Opaque,
        None => Role::Own,
    }
}

/// Tells whether `name`, which may also be `.` or `..`, is that of an object, as far as its first
/// byte tells.
#[inline]
pub fn is_plain(name: &[u8]) -> bool {
    name.first() != PREFIX.first()
}

/// Tells whether `name` is a whiteout's or the opaque mark's: what is seen with `shwh`.
pub fn is_mark(name: &[u8]) -> bool {
    matches!(role_of_reserved(name), Role::Whiteout(_) | Role::Opaque)
}

/// The format of aufs.
pub struct Aufs;

impl<D: Dir + ?Sized> Format<D> for Aufs {
    #[inline]
    fn user(name: &[u8]) -> Option<UserName<'_>> {
        user(name)
    }

    #[inline]
    fn role<'a>(_dir: &D, name: &'a [u8], _dtype: u8) -> Result<Role<'a>> {
        Ok(role(name))
    }

    #[inline]
    fn is_mark(_entry: &D::Entry) -> bool {
        // It has a name of its own.
        false
    }

    #[inline]
    fn hides(dir: &D, name: UserName<'_>) -> Result<bool> {
        dir.has(&whiteout(&name)?)
    }

    #[inline]
    fn is_opaque(dir: &D) -> Result<bool> {
        dir.has(OPAQUE)
    }
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
    if !is_reserved(name) {
        return Meaning::Plain;
    }
    if let Some(hidden) = whiteouted(name) {
        return Meaning::Whiteout(hidden);
    }
    match name {
        OPAQUE => Meaning::Opaque,
        BASE | PLINK_DIR | ORPHAN_DIR | RENAMED | COMMIT => Meaning::Bookkeeping,
        _ if name.starts_with(RECORD_PREFIX) => Meaning::FormerName,
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
