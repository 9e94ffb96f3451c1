// SPDX-License-Identifier: GPL-2.0

//! What is stored of renamed directories (`dirren`), as aufs has it.
//!
//! | name | where | what |
//! |---|---|---|
//! | [`LIST`] | branch root | the inode numbers of renamed directories of the branch |
//! | [`RECORD_PREFIX`]`BRID` | a renamed directory | what its instance on the branch BRID is called |
//!
//! BRID identifies a branch below: `2_FSID_ROOT` or, for a file system without an identity,
//! `3_DEVICE_ROOT`, where ROOT is the inode number of the branch's root directory.
//!
//! A record, [`Record`], is
//!
//! ```text
//!  0  magic, 0x61647201     4  zeros     8  inode number of the instance
//! 16  length of the name   17  zeros    24  the name
//! ```
//!
//! Numbers are big-endian.

#![forbid(unsafe_code)]

use super::{
    env::{
        KVVec,
        KVec,
        Result,
        EINVAL,
        GFP_KERNEL, //
    },
    marks::aufs,
    num, //
};

/// The list of inode numbers at the root of a branch.
pub const LIST: &[u8] = aufs::RENAMED;

/// With these bytes begins the name of a record.
pub const RECORD_PREFIX: &[u8] = aufs::RECORD_PREFIX;

/// The first four bytes of a record.
const MAGIC: [u8; 4] = 0x6164_7201_u32.to_be_bytes();

/// Bytes before the name.
const HEADER: usize = 24;

/// The length of the longest record.
pub const RECORD_MAX: usize = HEADER + 255;

/// The bytes of one number in the list.
pub const NUMBER: usize = 8;

/// What a renamed directory is on a branch below.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The inode number there.
    pub ino: u64,
    /// The name there, 1 to 255 bytes.
    pub name: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record as it is stored.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the name has no length that a name can have.
    pub fn encode(&self) -> Result<KVec<u8>> {
        let len = u8::try_from(self.name.len()).map_err(|_| EINVAL)?;
        if len == 0 {
            return Err(EINVAL);
        }
        let mut bytes = KVec::with_capacity(HEADER.saturating_add(self.name.len()), GFP_KERNEL)?;
        for part in [
            MAGIC.as_slice(),
            &[0; 4],
            &self.ino.to_be_bytes(),
            &[len, 0, 0, 0, 0, 0, 0, 0],
            self.name,
        ] {
            bytes.extend_from_slice(part, GFP_KERNEL)?;
        }
        Ok(bytes)
    }

    /// Reads a stored record; `None` if it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (ino, rest) = rest.split_first_chunk::<8>()?;
        let ([len, ..], rest) = rest.split_first_chunk::<8>()?;
        let name = rest.get(..usize::from(*len))?;
        // Nothing of the bookkeeping is shown.
        let usable = !matches!(name, b"" | b"." | b"..") && aufs::user(name).is_some();
        if *magic != MAGIC || !usable || name.iter().any(|&byte| byte == b'/' || byte == 0) {
            return None;
        }
        Some(Record {
            ino: u64::from_be_bytes(*ino),
            name,
        })
    }
}

/// Reads the list of inode numbers. Bytes at its end that make no number are left out.
pub fn numbers(list: &[u8]) -> impl Iterator<Item = u64> + '_ {
    list.chunks_exact(NUMBER)
        .filter_map(|chunk| chunk.try_into().ok())
        .map(u64::from_be_bytes)
}

/// The list of `numbers`.
pub fn list(numbers: impl Iterator<Item = u64>) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::new();
    for number in numbers {
        bytes.extend_from_slice(&number.to_be_bytes(), GFP_KERNEL)?;
    }
    Ok(bytes)
}

/// Adds `n` in lower-case hexadecimal, with at least `width` digits.
fn hex(to: &mut KVec<u8>, n: u32, width: u32) -> Result {
    let digits = (32 - n.leading_zeros()).div_ceil(4).max(width).max(1);
    for at in (0..digits).rev() {
        // CAST: The digit is below 16.
        let digit = (n >> (4 * at)) as u8 & 0xf;
        let digit = match digit {
            0..=9 => b'0' + digit,
            _ => b'a' + (digit - 10),
        };
        to.push(digit, GFP_KERNEL)?;
    }
    Ok(())
}

/// The name of the record for a branch: `fsid` is the identity of its file system, 0 if it has
/// none, `device` the number of the device that it is on (major, minor), `root` the inode number
/// of its root.
pub fn record_name(fsid: u64, device: (u32, u32), root: u64) -> Result<KVec<u8>> {
    let mut name = KVec::new();
    name.extend_from_slice(RECORD_PREFIX, GFP_KERNEL)?;
    if fsid != 0 {
        name.extend_from_slice(b"2_", GFP_KERNEL)?;
        // CAST: The halves are what is wanted.
        hex(&mut name, (fsid >> 32) as u32, 8)?;
        name.push(b'-', GFP_KERNEL)?;
        hex(&mut name, fsid as u32, 8)?;
    } else {
        name.extend_from_slice(b"3_", GFP_KERNEL)?;
        let (major, minor) = device;
        if major <= 0xff && minor <= 0xff {
            hex(&mut name, major, 2)?;
            hex(&mut name, minor, 2)?;
        } else {
            hex(&mut name, major, 3)?;
            name.push(b':', GFP_KERNEL)?;
            hex(&mut name, minor, 5)?;
        }
    }
    name.push(b'_', GFP_KERNEL)?;
    name.extend_from_slice(num::decimal(root, &mut [0; 20]), GFP_KERNEL)?;
    Ok(name)
}
