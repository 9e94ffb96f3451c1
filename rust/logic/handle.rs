// SPDX-License-Identifier: GPL-2.0

//! File handles of the union: what is in one.
//!
//! ```text
//! word 0   version (8 bits), words of the handle on the branch (8), branch (16)
//! word 1   tag of the branch
//! word 2   words of all this (16), type of the hint (8), type of the handle on the branch (8)
//! word 3.. the handle on the branch, then the hint
//! ```
//!
//! The *handle on the branch* is the one that the branch's file system gives the object, the
//! *hint* the one it gives the directory that the object is in. A handle that says its
//! directory, too (`AT_HANDLE_CONNECTABLE`), is two of these, one behind the other.
//!
//! A branch is known by its identity and a tag that is computed from its file system: the first
//! holds while the union is mounted, the second longer, but it may not be the only one of its kind.

#![forbid(unsafe_code)]

use super::env::*;

/// Changes when the layout does.
const VERSION: u32 = 1;
/// Words before the handle on the branch.
const HEAD: usize = 3;
/// The most words that the kernel hands out (`MAX_HANDLE_SZ`).
pub(crate) const MAX_WORDS: usize = 32;
/// The type that stands for the root of the union, which is on all branches.
const ROOT: u8 = 0xff;

/// A handle that a file system gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part<'a> {
    /// Its type.
    pub(crate) kind: u8,
    /// Its contents.
    pub(crate) words: &'a [u32],
}

/// What a handle of the union says of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Object<'a> {
    /// The number of the branch's identity.
    pub(crate) branch: u16,
    /// The tag of the branch.
    pub(crate) tag: u32,
    /// The handle on the branch.
    pub(crate) object: Part<'a>,
    /// The hint, if there is one.
    pub(crate) dir: Option<Part<'a>>,
}

/// What a handle leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target<'a> {
    /// The root of the union.
    Root,
    /// An object on a branch.
    Object(Object<'a>),
}

impl Target<'_> {
    /// Appends the handle to `out`. `EOVERFLOW` if it would be longer than a handle may be.
    pub(crate) fn write(&self, out: &mut KVec<u32>) -> Result {
        let Target::Object(this) = self else {
            return head(out, 0, 0, 0, u32::from(ROOT), HEAD);
        };
        let dir = this.dir.map_or(&[][..], |dir| dir.words);
        let object = this.object.words;
        let total = HEAD.saturating_add(object.len()).saturating_add(dir.len());
        if total > MAX_WORDS {
            return Err(EOVERFLOW);
        }
        let kinds =
            (u32::from(this.dir.map_or(0, |dir| dir.kind)) << 8) | u32::from(this.object.kind);
        head(out, object.len(), this.branch, this.tag, kinds, total)?;
        out.extend_from_slice(object, GFP_KERNEL)?;
        Ok(out.extend_from_slice(dir, GFP_KERNEL)?)
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
pub(crate) fn parse(words: &[u32]) -> Option<(Target<'_>, &[u32])> {
    let (&[first, tag, third], _) = words.split_first_chunk::<HEAD>()?;
    // CAST: Each takes the bits that it wants.
    let (version, len, branch) = (first >> 24, (first >> 16) as u8, first as u16);
    let (total, dir_kind, kind) = ((third >> 16) as usize, (third >> 8) as u8, third as u8);
    if version != VERSION || total < HEAD {
        return None;
    }
    let (this, rest) = words.split_at_checked(total)?;
    let (object, dir) = this.get(HEAD..)?.split_at_checked(usize::from(len))?;
    if kind == ROOT {
        return Some((Target::Root, rest));
    }
    let target = Object {
        branch,
        tag,
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
