// SPDX-License-Identifier: GPL-2.0

//! File handles of the union: what is in one.
//!
//! ```text
//! word 0   version (8 bits), words of the handle on the branch (8), branch (16)
//! word 1   tag of the branch
//! word 2   sealed (1), words of all this (15), type of the hint (8), type of the handle on the
//!          branch (8)
//! word 3.. the handle on the branch, then the hint, then the seal (2 words)
//! ```
//!
//! The *handle on the branch* is the one that the branch's file system gives the object, the
//! *hint* the one it gives the directory that the object is in. The *seal* shows that the union
//! gave this handle: it cannot be made without a key. A handle that says its directory, too
//! (`AT_HANDLE_CONNECTABLE`), is two of these, one behind the other.
//!
//! A branch is known by its identity and a tag that is computed from its file system: the first
//! holds while the union is mounted, the second longer, but it may not be the only one of its kind.
//!
//! Whoever has a handle can change it: nothing in it is believed but a seal that is right.

#![forbid(unsafe_code)]

use super::{
    env::*,
    hash::Key, //
};

/// Changes when the layout does.
const VERSION: u32 = 1;
/// Words before the handle on the branch.
const HEAD: usize = 3;
/// The most words that the kernel hands out (`MAX_HANDLE_SZ`).
pub const MAX_WORDS: usize = 32;
/// Words of a seal.
const SEAL: usize = 2;
/// The bit of word 2 that says there is one.
const SEALED: u32 = 1 << 31;
/// The most words of a handle of NFS version 3 that are left to a file system, for an export that
/// is known by a number. A handle that has a hint does without a seal rather than being longer.
const NFS3_WORDS: usize = 14;
/// The type that stands for the root of the union, which is on all branches.
const ROOT: u8 = 0xff;

/// A handle that a file system gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    /// Its type.
    pub kind: u8,
    /// Its contents.
    pub words: &'a [u32],
}

/// What a handle of the union says of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object<'a> {
    /// The number of the branch's identity.
    pub branch: u16,
    /// The tag of the branch.
    pub tag: u32,
    /// The handle on the branch.
    pub object: Part<'a>,
    /// The hint, if there is one.
    pub dir: Option<Part<'a>>,
    /// The seal, if there is one.
    pub seal: Option<u64>,
}

impl Object<'_> {
    /// The seal that it has under `key`: of the branch's tag and the handle there. It says
    /// nothing about the hint.
    pub fn seal_by(&self, key: Key) -> u64 {
        let mut bytes = [0; 4 * (MAX_WORDS + 2)];
        let words = [self.tag, u32::from(self.object.kind)];
        let words = words.iter().chain(self.object.words);
        let mut len: usize = 0;
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
            len = len.saturating_add(4);
        }
        key.authenticate(bytes.get(..len).unwrap_or(&bytes))
    }

    /// Tells whether its seal is one under `key`.
    pub fn is_sealed_by(&self, key: Key) -> bool {
        self.seal == Some(self.seal_by(key))
    }
}

/// What a handle leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// The root of the union.
    Root,
    /// An object on a branch.
    Object(Object<'a>),
}

impl Target<'_> {
    /// Appends the handle to `out`. `EOVERFLOW` if it would be longer than a handle may be.
    pub fn write(&self, out: &mut KVec<u32>) -> Result {
        let Target::Object(this) = self else {
            return head(out, 0, 0, 0, u32::from(ROOT), HEAD);
        };
        let dir = this.dir.map_or(&[][..], |dir| dir.words);
        let object = this.object.words;
        let mut total = HEAD.saturating_add(object.len()).saturating_add(dir.len());
        let sealed = total.saturating_add(SEAL);
        let seal = this.seal.filter(|_| dir.is_empty() || sealed <= NFS3_WORDS);
        if seal.is_some() {
            total = sealed;
        }
        if total > MAX_WORDS {
            return Err(EOVERFLOW);
        }
        let kinds = (u32::from(this.dir.map_or(0, |dir| dir.kind)) << 8)
            | u32::from(this.object.kind)
            | seal.map_or(0, |_| SEALED);
        head(out, object.len(), this.branch, this.tag, kinds, total)?;
        out.extend_from_slice(object, GFP_KERNEL)?;
        out.extend_from_slice(dir, GFP_KERNEL)?;
        if let Some(seal) = seal {
            // CAST: One half after the other.
            out.extend_from_slice(&[seal as u32, (seal >> 32) as u32], GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// Appends the first words.
fn head(
    out: &mut KVec<u32>,
    len: usize,
    branch: u16,
    tag: u32,
    kinds: u32,
    total: usize,
) -> Result {
    // CAST: Both are at most `MAX_WORDS`.
    let (len, total) = (len as u32, total as u32);
    let first = (VERSION << 24) | (len << 16) | u32::from(branch);
    Ok(out.extend_from_slice(&[first, tag, (total << 16) | kinds], GFP_KERNEL)?)
}

/// Reads a handle: what it leads to, and the words behind it. `None` if it is none of ours.
pub fn parse(words: &[u32]) -> Option<(Target<'_>, &[u32])> {
    let (&[first, tag, third], _) = words.split_first_chunk::<HEAD>()?;
    // CAST: Each takes the bits that it wants.
    let (version, len, branch) = (first >> 24, (first >> 16) as u8, first as u16);
    let total = (third & !SEALED) >> 16;
    let (total, dir_kind, kind) = (total as usize, (third >> 8) as u8, third as u8);
    if version != VERSION || total < HEAD {
        return None;
    }
    let (this, rest) = words.split_at_checked(total)?;
    let (object, dir) = this.get(HEAD..)?.split_at_checked(usize::from(len))?;
    if kind == ROOT {
        return Some((Target::Root, rest));
    }
    let (dir, seal) = if third & SEALED == 0 {
        (dir, None)
    } else {
        let (dir, &[low, high]) = dir.split_last_chunk::<SEAL>()?;
        (dir, Some((u64::from(high) << 32) | u64::from(low)))
    };
    let target = Object {
        branch,
        tag,
        seal,
        object: Part {
            kind,
            words: object,
        },
        dir: (!dir.is_empty()).then_some(Part {
            kind: dir_kind,
            words: dir,
        }),
    };
    Some((Target::Object(target), rest))
}
