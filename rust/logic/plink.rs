// SPDX-License-Identifier: GPL-2.0

//! The note on a pseudo-link: what makes it last beyond the mount.
//!
//! A file in the branch's directory of pseudo-links is called `INO.HINO`, as aufs has it. aufs
//! takes all of them for garbage once the union is unmounted, since nothing in the name says
//! whether INO still means the same file. The note says it: it identifies the lower file (the
//! *origin*) that was copied, and counts the names that the union shows of it. It is the extended
//! attribute [`XATTR`] of the linked file.
//!
//! ```text
//!  0  version, 1
//!  1  what: 0 a copy of the origin, 1 none, only the count of an origin of which names are hidden
//!  2  how the names are counted: 0 all, 1 beside the links that the file has on its branch
//!  3  type of the origin, the upper four bits of its mode
//!  4  the count, signed           8  generation          12  nanoseconds of the origin's mtime
//! 16  identity of the file system, 16 bytes              32  inode number there
//! 40  seconds of the mtime, signed                       48  size
//! ```
//!
//! Numbers are big-endian.
//!
//! # Invariants
//!
//! A note is believed only if what it says of the origin is true of the file that was found:
//! [`Note::is_of`].

#![forbid(unsafe_code)]

use super::{
    env::Result,
    name::Name,
    num, //
};

/// With these bytes begin the names of attributes that are the union's own.
pub const OWN_XATTRS: &[u8] = b"trusted.ruaufs.";

/// The attribute that holds a note.
pub const XATTR: &core::ffi::CStr = c"trusted.ruaufs.plink";

/// The length of a note.
pub const LEN: usize = 56;

/// The version that this is.
const VERSION: u8 = 1;

/// The identity of a file system, the same at each mount of it.
pub type FsId = [u8; 16];

/// What identifies a lower file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its file system.
    pub fs: FsId,
    /// Its inode number there.
    pub ino: u64,
    /// The generation of that number.
    pub generation: u32,
    /// The upper four bits of its mode.
    pub kind: u8,
    /// When its contents were changed last.
    pub mtime: (i64, u32),
    /// Its size.
    pub size: u64,
}

impl Origin {
    /// Whether it is of a type that can have several names: no directory, and one that there is.
    fn is_linkable(&self) -> bool {
        // Named pipe, device nodes, regular file, symbolic link, socket.
        matches!(self.kind, 1 | 2 | 6 | 8 | 10 | 12)
    }
}

/// The largest number of names that is believed.
const NAMES_MAX: u32 = i32::MAX as u32;

/// The type of a regular file, as in [`Origin::kind`].
pub const REGULAR: u8 = 8;

/// What a pseudo-link stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The linked file is a copy of the origin.
    Copy,
    /// The linked file is empty: the origin was not copied, but not all of its names show.
    Hidden,
}

/// How many names of the object the union shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// So many.
    All(u32),
    /// So many more than the file has links on its branch, the pseudo-link of a copy included. The
    /// file is the copy, or the origin that was not copied.
    ///
    /// This stays true while a name comes or goes on the branch, so it is written before; and a
    /// crash makes no difference.
    Beside(i32),
}

impl Names {
    /// The number of names, for a file with `links` links on its branch.
    pub fn count(self, links: u32) -> u32 {
        match self {
            Names::All(count) => count,
            Names::Beside(more) => links.saturating_add_signed(more),
        }
    }

    /// `count` names, counted beside `links` links.
    pub fn beside(count: u32, links: u32) -> Self {
        let more = i64::from(count).saturating_sub(i64::from(links));
        match i32::try_from(more) {
            Ok(more) => Names::Beside(more),
            Err(_) => Names::All(count),
        }
    }
}

/// A note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// What the linked file is.
    pub what: What,
    /// The lower file.
    pub origin: Origin,
    /// The names that show.
    pub names: Names,
}

impl Note {
    /// Whether `found` is the origin. Of one that was not copied the union itself may change the
    /// contents, where it may write to the branch; a generation tells it from a later file of the
    /// same number.
    pub fn is_of(&self, found: &Origin) -> bool {
        let noted = self.origin;
        let same = match self.what {
            What::Hidden if noted.generation != 0 => Origin {
                mtime: found.mtime,
                size: found.size,
                ..noted
            },
            _ => noted,
        };
        same == *found
    }

    /// Whether a file may have this note that is of the type `kind` (as in [`Origin::kind`]), has
    /// `links` links, and is empty or not. What was copied is still of its type; what only counts
    /// is an empty file of one name.
    ///
    /// The links say how many names a copy has; one without is a left-over.
    pub fn fits(&self, kind: u8, links: u32, empty: bool) -> bool {
        match self.what {
            What::Copy => {
                let count = self.names.count(links);
                kind == self.origin.kind && (1..=NAMES_MAX).contains(&count)
            }
            What::Hidden => kind == REGULAR && links == 1 && empty,
        }
    }

    /// The note as it is stored.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let (how, count) = match self.names {
            Names::All(count) => (0, count.to_be_bytes()),
            Names::Beside(more) => (1, more.to_be_bytes()),
        };
        let origin = &self.origin;
        let what = match self.what {
            What::Copy => 0,
            What::Hidden => 1,
        };
        let parts: [&[u8]; 8] = [
            &[VERSION, what, how, origin.kind],
            &count,
            &origin.generation.to_be_bytes(),
            &origin.mtime.1.to_be_bytes(),
            &origin.fs,
            &origin.ino.to_be_bytes(),
            &origin.mtime.0.to_be_bytes(),
            &origin.size.to_be_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Reads a stored note; `None` if it is none, one of a later version, or of what has no several
    /// names.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let (&[version, what, how, kind], rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (nanoseconds, rest) = rest.split_first_chunk()?;
        let (&fs, rest) = rest.split_first_chunk()?;
        let (ino, rest) = rest.split_first_chunk()?;
        let (seconds, rest) = rest.split_first_chunk()?;
        let (size, _) = rest.split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        let note = Note {
            what: match what {
                0 => What::Copy,
                1 => What::Hidden,
                _ => return None,
            },
            origin: Origin {
                fs,
                ino: u64::from_be_bytes(*ino),
                generation: u32::from_be_bytes(*generation),
                kind,
                mtime: (
                    i64::from_be_bytes(*seconds),
                    u32::from_be_bytes(*nanoseconds),
                ),
                size: u64::from_be_bytes(*size),
            },
            names: match how {
                0 => Names::All(u32::from_be_bytes(*count)),
                1 => Names::Beside(i32::from_be_bytes(*count)),
                _ => return None,
            },
        };
        note.origin.is_linkable().then_some(note)
    }
}

/// Makes the name of a pseudo-link: the union's inode number, a dot, the branch's.
///
/// # Errors
///
/// - `ENOMEM`.
#[inline(never)]
pub fn name(ino: u64, lower_ino: u64) -> Result<Name> {
    let (mut buf, mut lower_buf) = ([0; 20], [0; 20]);
    Name::concat(&[
        num::decimal(ino, &mut buf),
        b".",
        num::decimal(lower_ino, &mut lower_buf),
    ])
}

/// Reads the name of a pseudo-link: (the union's inode number, the branch's).
pub fn parse_name(entry: &[u8]) -> Option<(u64, u64)> {
    let dot = entry.iter().position(|&byte| byte == b'.')?;
    let (ino, lower) = entry.split_at_checked(dot)?;
    Some((
        num::parse_canonical(ino)?,
        num::parse_canonical(lower.strip_prefix(b".")?)?,
    ))
}
