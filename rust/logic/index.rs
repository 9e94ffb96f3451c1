// SPDX-License-Identifier: GPL-2.0

//! In which of a directory's branches a name is: what spares a look-up the probes.
//!
//! [`Builder`] takes the entries of the branches, topmost branch first; [`Index`] answers, for a
//! name, in which of them it is, or is whiteouted, in the same order. What was not pushed is
//! absent.
//!
//! # Invariants
//!
//! An index never changes. The entries of one name are chained in the order of the branches.

#![forbid(unsafe_code)]

use super::{
    env::{
        KVVec,
        Result,
        EOVERFLOW,
        GFP_KERNEL_ACCOUNT, //
    },
    hash::{
        Key,
        Table, //
    },
    marks::Role, //
};

/// The most entries of an index: some megabytes of memory.
const MAX_ENTRIES: usize = 1 << 16;
/// The most bytes of names.
const MAX_BYTES: usize = 1 << 22;
/// Ends a chain.
const NONE: u32 = u32::MAX;

/// What a branch has of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An entry.
    Entry,
    /// Its whiteout.
    Whiteout,
}

/// What the names of one branch are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its entries are.
    pub entries: bool,
    /// Its whiteouts are.
    pub whiteouts: bool,
}

/// One entry of a branch.
#[derive(Clone, Copy)]
struct Stored {
    /// Where the name begins.
    at: u32,
    /// The next entry of the same name, in the same branch or a lower one.
    next: u32,
    /// The branch.
    branch: u16,
    /// The length of the name.
    len: u8,
    /// What it is.
    what: What,
}

/// An index in the making.
pub struct Builder {
    bytes: KVVec<u8>,
    entries: KVVec<Stored>,
}

impl Builder {
    /// Nothing yet.
    pub fn new() -> Self {
        Builder {
            bytes: KVVec::new(),
            entries: KVVec::new(),
        }
    }

    /// Takes in what `branch` calls `name` and what is, for the union, in `role`, if it is wanted.
    /// Branches come topmost first.
    ///
    /// # Errors
    ///
    /// - `EOVERFLOW`: there are too many, or a name is longer than 255 bytes.
    /// - `ENOMEM`.
    pub fn push(&mut self, branch: u16, name: &[u8], role: Role<'_>, wanted: Wanted) -> Result {
        let (name, what) = match role {
            Role::Object => (name, What::Entry),
            Role::Whiteout(hidden) => (hidden, What::Whiteout),
            Role::Opaque | Role::Own => return Ok(()),
        };
        let is_wanted = match what {
            What::Entry => wanted.entries,
            What::Whiteout => wanted.whiteouts,
        };
        if !is_wanted {
            return Ok(());
        }
        let len = u8::try_from(name.len()).map_err(|_| EOVERFLOW)?;
        if self.entries.len() >= MAX_ENTRIES || self.bytes.len() >= MAX_BYTES {
            return Err(EOVERFLOW);
        }
        // CAST: `MAX_BYTES` fits into 32 bits.
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        self.entries.push(
            Stored {
                at,
                next: NONE,
                branch,
                len,
                what,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(())
    }

    /// Makes the index of what was taken in.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`.
    pub fn finish(mut self) -> Result<Index> {
        let mut table = Table::new(self.entries.len())?;
        // Where the kernel put the memory is not known to users.
        let key = Key(
            self.entries.as_slice().as_ptr().addr() as u64,
            table.secret(),
        );
        // From the bottom, so that the topmost comes first in its chain.
        for n in (0..self.entries.len()).rev() {
            let Some(name) = self.entries.get(n).map(|stored| slice(&self.bytes, stored)) else {
                continue;
            };
            let same = |other: u32| {
                // CAST: `usize` has at least 32 bits.
                let other = self.entries.get(other as usize);
                other.is_some_and(|other| slice(&self.bytes, other) == name)
            };
            let (place, next) = match table.find_place(key.hash(name), same) {
                (place, Some(first)) => (place, first),
                (place, None) => (place, NONE),
            };
            // CAST: There are at most `MAX_ENTRIES`.
            table.set(place, n as u32);
            if let Some(stored) = self.entries.get_mut(n) {
                stored.next = next;
            }
        }
        Ok(Index {
            bytes: self.bytes,
            entries: self.entries,
            table,
            key,
        })
    }
}

/// In which branches which names are.
pub struct Index {
    /// The names, one after the other.
    bytes: KVVec<u8>,
    entries: KVVec<Stored>,
    /// The first entry of each name.
    table: Table,
    /// The key of the hash.
    key: Key,
}

impl Index {
    /// Where `name` is.
    pub fn find(&self, name: &[u8]) -> Sightings<'_> {
        let same = |n: u32| {
            // CAST: `usize` has at least 32 bits.
            let stored = self.entries.get(n as usize);
            stored.is_some_and(|stored| slice(&self.bytes, stored) == name)
        };
        let (_, first) = self.table.find_place(self.key.hash(name), same);
        Sightings {
            index: self,
            next: first.unwrap_or(NONE),
        }
    }
}

/// The sightings of one name, topmost branch first.
#[derive(Clone)]
pub struct Sightings<'a> {
    index: &'a Index,
    next: u32,
}

impl Sightings<'_> {
    /// The next branch, `from` or below it, that has `what`. One value is asked for one kind of
    /// thing, and in ascending order.
    pub fn next(&mut self, from: u16, what: What) -> Option<u16> {
        // CAST: `usize` has at least 32 bits. `NONE` is not found.
        while let Some(stored) = self.index.entries.get(self.next as usize) {
            if stored.branch >= from && stored.what == what {
                return Some(stored.branch);
            }
            self.next = stored.next;
        }
        None
    }
}

/// Returns the name of `stored`.
fn slice<'a>(bytes: &'a [u8], stored: &Stored) -> &'a [u8] {
    // CAST: `usize` has at least 32 bits.
    bytes
        .get(stored.at as usize..)
        .and_then(|rest| rest.get(..usize::from(stored.len)))
        .unwrap_or(&[])
}
