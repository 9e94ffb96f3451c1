// SPDX-License-Identifier: GPL-2.0

//! Names that the union makes for branches.

#![forbid(unsafe_code)]

use core::ops::Deref;

use super::env::{
    name_too_long,
    KVec,
    Result,
    GFP_KERNEL, //
};

/// The longest name that a branch can store.
const BRANCH_NAME_MAX: usize = 255;

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
    pub fn concat(parts: &[&[u8]]) -> Result<Self> {
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
