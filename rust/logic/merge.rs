// SPDX-License-Identifier: GPL-2.0

//! Which names make up a directory: merging branch listings for readdir.
//!
//! A [`Listing`] holds the names of one branch's directory, a [`Snapshot`] the names of the
//! union's. `.` and `..` are in neither; the caller emits them first.
//!
//! # Rules
//!
//! - Of equal names the topmost counts, whatever the types.
//! - A whiteout hides its name on all branches below, if its branch honours whiteouts. An entry
//!   beside its own whiteout stays visible (the rule of OCI image layers, and of
//!   [`lookup`](super::lookup)).
//! - What is no object of the user's ([`Role`]) is left out on all branches, honoured or not. With
//!   [`Reserved::Shown`], whiteouts and opaque marks of branches which honour them are listed too.
//! - Opaque marks are not looked at: the caller passes only layers above them.
//!
//! # Order and cookies
//!
//! Names come in the order in which they are met from the *bottom* branch upwards, with the
//! attributes of the topmost instance. Lower branches rarely change, so most names keep their
//! place when the directory is read again: a new file comes after them, and a copied-up one stays
//! where it was. Each name met counts, also a hidden one, so a removed name leaves a gap in the
//! numbers: an NFS client that goes on with an old cookie in a new snapshot, while it deletes what
//! it read, misses nothing.
//!
//! [`Entry::cookie`] is that number, [`Snapshot::seek`] finds the place for a number.
//!
//! # Invariants
//!
//! A snapshot never changes.

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

/// The most names in a listing or a snapshot: keeps each allocation, also when it doubles, below
/// the 2 GiB that the kernel allows.
const MAX_NAMES: usize = 1 << 24;
/// The most bytes of names, for the same reason.
const MAX_BYTES: usize = 1 << 29;

/// The names for which a listing makes room at first.
const FIRST_NAMES: usize = 32;
/// The bytes for which a listing makes room at first.
const FIRST_BYTES: usize = 512;

/// One entry of a [`Listing`].
#[derive(Clone, Copy)]
struct Raw {
    /// The branch's inode number.
    ino: u64,
    /// Where the name begins.
    at: u32,
    /// The length of the name.
    len: u16,
    /// The type as in `struct dirent`.
    dtype: u8,
    /// What it is.
    what: What,
}

/// What a [`Listing`] stores of a [`Role`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// An object of the user's.
    Object,
    /// A whiteout. The name that it hides begins at [`Listing::lead`] of its own.
    Whiteout,
    /// An opaque mark.
    Opaque,
    /// Another object of the union's own.
    Own,
}

/// The names of one branch's directory.
pub struct Listing {
    /// The names, one after the other.
    bytes: KVVec<u8>,
    /// The entries, in the order of the branch.
    entries: KVVec<Raw>,
    /// Whether a whiteout is among them.
    whiteouts: bool,
    /// By how many bytes the names of whiteouts are longer than those that they hide: a branch has
    /// one format.
    lead: u16,
}

impl Listing {
    /// Makes an empty listing.
    pub fn new() -> Self {
        Listing {
            bytes: KVVec::new(),
            entries: KVVec::new(),
            whiteouts: false,
            lead: 0,
        }
    }

    /// Adds an entry, whatever its role; but neither `.` nor `..`.
    ///
    /// # Errors
    ///
    /// - `EOVERFLOW`: the directory is too big, or the name longer than 65535 bytes.
    /// - `ENOMEM`.
    pub fn push(&mut self, name: &[u8], role: Role<'_>, ino: u64, dtype: u8) -> Result {
        let len = u16::try_from(name.len()).map_err(|_| EOVERFLOW)?;
        let at = self.bytes.len();
        // NO-OVERFLOW: `MAX_BYTES` is more than any `u16`.
        if self.entries.len() >= MAX_NAMES || at > MAX_BYTES - usize::from(len) {
            return Err(EOVERFLOW);
        }
        if self.entries.is_empty() {
            // Enough for most directories, so that they take one allocation each.
            self.bytes.reserve(FIRST_BYTES, GFP_KERNEL_ACCOUNT)?;
            self.entries.reserve(FIRST_NAMES, GFP_KERNEL_ACCOUNT)?;
        }
        self.bytes.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        let what = match role {
            Role::Object => What::Object,
            Role::Whiteout(_) => What::Whiteout,
            Role::Opaque => What::Opaque,
            Role::Own => What::Own,
        };
        // CAST: `MAX_BYTES` fits into 32 bits.
        let at = at as u32;
        let raw = Raw {
            ino,
            at,
            len,
            dtype,
            what,
        };
        self.entries.push(raw, GFP_KERNEL_ACCOUNT)?;
        if let Role::Whiteout(hidden) = role {
            self.whiteouts = true;
            // CAST: The length fits, so does the length of a part.
            self.lead = name.len().saturating_sub(hidden.len()) as u16;
        }
        Ok(())
    }

    /// Returns the number of entries, reserved ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is a whiteout of some name.
    pub fn has_whiteouts(&self) -> bool {
        self.whiteouts
    }

    /// Returns the name of an entry of this listing.
    fn name(&self, raw: &Raw) -> &[u8] {
        slice(&self.bytes, raw.at, raw.len)
    }

    /// Returns the name that a whiteout of this listing hides.
    fn hidden(&self, raw: &Raw) -> &[u8] {
        self.name(raw).get(usize::from(self.lead)..).unwrap_or(&[])
    }
}

/// Returns `len` bytes from `at`.
fn slice(bytes: &[u8], at: u32, len: u16) -> &[u8] {
    // CAST: `usize` has at least 32 bits.
    bytes
        .get(at as usize..)
        .and_then(|rest| rest.get(..usize::from(len)))
        .unwrap_or(&[])
}

/// One branch's share of a directory.
pub struct Layer {
    /// Its names.
    pub listing: Listing,
    /// The number space of the directory on the branch, copied to the entries.
    pub space: u16,
    /// Whether its whiteouts count.
    pub honours_whiteouts: bool,
}

/// Whether marks are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// They are not.
    Hidden,
    /// They are, where they are honoured (option `shwh`).
    Shown,
}

/// An entry of a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number on the branch.
    pub ino: u64,
    /// Its number space.
    pub space: u16,
    /// The type as in `struct dirent`.
    pub dtype: u8,
    /// The place in the directory, growing from entry to entry, with gaps.
    pub cookie: u64,
}

/// What a [`Snapshot`] stores of an [`Entry`].
#[derive(Clone, Copy)]
struct Stored {
    /// The inode number on the branch.
    ino: u64,
    /// Where the name begins.
    at: u32,
    /// The place in the directory.
    cookie: u32,
    /// The length of the name.
    len: u16,
    /// Its number space.
    space: u16,
    /// The type.
    dtype: u8,
}

/// The names of a union's directory.
pub struct Snapshot {
    /// The names, one after the other.
    bytes: KVVec<u8>,
    /// The entries, by cookie.
    entries: KVVec<Stored>,
    /// Positions in `entries`, by the hash of the name.
    index: Table,
    /// The key of the hash.
    key: Key,
}

impl Snapshot {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of entries that are directories; `None` if the types are not known.
    pub fn subdirs(&self) -> Option<u32> {
        const DT_UNKNOWN: u8 = 0;
        const DT_DIR: u8 = 4;
        let mut count = 0u32;
        for stored in self.entries.iter() {
            match stored.dtype {
                DT_UNKNOWN => return None,
                DT_DIR => count = count.saturating_add(1),
                _ => {}
            }
        }
        Some(count)
    }

    /// Returns the `i`-th entry.
    #[inline]
    pub fn get(&self, i: usize) -> Option<Entry<'_>> {
        self.entries.get(i).map(|stored| Entry {
            name: self.name(stored),
            ino: stored.ino,
            space: stored.space,
            dtype: stored.dtype,
            cookie: u64::from(stored.cookie),
        })
    }

    /// Returns the number of the first entry at `cookie` or after it; [`Self::len`] if there is
    /// none.
    pub fn seek(&self, cookie: u64) -> usize {
        self.entries
            .partition_point(|stored| u64::from(stored.cookie) < cookie)
    }

    /// Finds the number of the entry `name`.
    pub fn contains(&self, name: &[u8]) -> Option<usize> {
        let is_it = |i: u32| {
            let stored = self.entries.get(i as usize);
            stored.is_some_and(|stored| self.name(stored) == name)
        };
        // CAST: `usize` has at least 32 bits.
        Some(self.index.find(self.key.hash(name), is_it).ok()? as usize)
    }

    /// Returns the name of an entry of this snapshot.
    fn name(&self, stored: &Stored) -> &[u8] {
        slice(&self.bytes, stored.at, stored.len)
    }
}

/// What is known about a name during a merge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is an entry.
    Shown,
    /// It is an entry and has its place.
    Placed,
    /// It was whiteouted before it was met.
    Hidden,
    /// The same, and it has its gap.
    HiddenPlaced,
}

/// A name during a merge: the topmost entry or whiteout which has it.
#[derive(Clone, Copy)]
struct Name {
    /// The hash of the name.
    hash: u32,
    /// The entry in the layer's listing.
    raw: u32,
    /// The layer.
    layer: u16,
    /// What it is.
    kind: Kind,
}

impl Name {
    /// Returns the entry or whiteout.
    fn resolve<'a>(&self, layers: &'a [Layer]) -> Option<(&'a Layer, &'a Raw)> {
        let layer = layers.get(usize::from(self.layer))?;
        // CAST: `usize` has at least 32 bits.
        Some((layer, layer.listing.entries.get(self.raw as usize)?))
    }

    /// Tells whether this is `name`.
    fn is(&self, layers: &[Layer], name: &[u8]) -> bool {
        let Some((layer, raw)) = self.resolve(layers) else {
            return false;
        };
        match self.kind {
            Kind::Shown | Kind::Placed => layer.listing.name(raw) == name,
            Kind::Hidden | Kind::HiddenPlaced => layer.listing.hidden(raw) == name,
        }
    }
}

/// Stands for an entry which has no part in the merge.
const NO_NAME: u32 = u32::MAX;

/// A merge under way.
struct Merge<'a> {
    /// What is merged, top first.
    layers: &'a [Layer],
    /// The key of the hash.
    key: Key,
    /// All names met so far.
    names: KVVec<Name>,
    /// Numbers in `names`, by the hash of the name.
    table: Table,
    /// For each entry of each layer, top first, its number in `names` or [`NO_NAME`].
    numbers: KVVec<u32>,
    /// How many of `names` are to be listed.
    shown: usize,
    /// How many bytes their names have.
    shown_bytes: usize,
}

impl<'a> Merge<'a> {
    /// Prepares the merge of listings which have `entries` entries in all.
    fn new(layers: &'a [Layer], entries: usize, reserved: Reserved) -> Result<Self> {
        let most = match reserved {
            Reserved::Hidden => entries,
            // A whiteout may stand for two names, its own and the hidden one.
            Reserved::Shown => entries.saturating_mul(2),
        };
        let names: KVVec<Name> = KVVec::with_capacity(most, GFP_KERNEL_ACCOUNT)?;
        let table = Table::new(most)?;
        // Where the kernel put the memory is not known to users.
        let key = Key(names.as_slice().as_ptr().addr() as u64, table.secret());
        Ok(Merge {
            layers,
            key,
            names,
            table,
            numbers: KVVec::with_capacity(entries, GFP_KERNEL_ACCOUNT)?,
            shown: 0,
            shown_bytes: 0,
        })
    }

    /// Notes that `layer` has `name` at `raw`, unless a higher branch had it; returns its number.
    fn meet(&mut self, name: &[u8], layer: u16, raw: u32, kind: Kind) -> Result<u32> {
        let hash = self.key.hash(name);
        let known = |n: u32| {
            // CAST: `usize` has at least 32 bits.
            let other = self.names.get(n as usize);
            other.is_some_and(|other| other.hash == hash && other.is(self.layers, name))
        };
        let place = match self.table.find(hash, known) {
            Ok(n) => return Ok(n),
            Err(place) => place,
        };
        // CAST: There are at most 2 * `MAX_NAMES`.
        let n = self.names.len() as u32;
        self.names.push(
            Name {
                hash,
                raw,
                layer,
                kind,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        self.table.set(place, n);
        if kind == Kind::Shown {
            self.shown = self.shown.saturating_add(1);
            self.shown_bytes = self.shown_bytes.saturating_add(name.len());
        }
        Ok(n)
    }

    /// Takes in the entries of one layer, then its whiteouts.
    fn add(&mut self, number: u16, layer: &Layer, reserved: Reserved) -> Result {
        let show = reserved == Reserved::Shown && layer.honours_whiteouts;
        // CAST: There are at most `MAX_NAMES`.
        let entries = || (0u32..).zip(layer.listing.entries.iter());
        for (i, raw) in entries() {
            let shown = match raw.what {
                What::Object => true,
                What::Whiteout | What::Opaque => show,
                What::Own => false,
            };
            let n = match shown {
                true => self.meet(layer.listing.name(raw), number, i, Kind::Shown)?,
                false => NO_NAME,
            };
            self.numbers.push(n, GFP_KERNEL_ACCOUNT)?;
        }
        let last = self.layers.len() <= usize::from(number).saturating_add(1);
        if layer.honours_whiteouts && layer.listing.has_whiteouts() && !last {
            for (i, raw) in entries() {
                if raw.what == What::Whiteout {
                    self.meet(layer.listing.hidden(raw), number, i, Kind::Hidden)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the names in order.
    fn finish(mut self) -> Result<Snapshot> {
        if self.shown_bytes > MAX_BYTES {
            return Err(EOVERFLOW);
        }
        let mut bytes = KVVec::with_capacity(self.shown_bytes, GFP_KERNEL_ACCOUNT)?;
        let mut entries = KVVec::with_capacity(self.shown, GFP_KERNEL_ACCOUNT)?;
        let mut index = Table::new(self.shown)?;
        let mut cookie = 0u32;
        let mut end = self.numbers.len();
        for layer in self.layers.iter().rev() {
            let start = end.saturating_sub(layer.listing.len());
            for &n in self.numbers.get(start..end).unwrap_or(&[]) {
                // CAST: `usize` has at least 32 bits. `NO_NAME` is not found.
                let Some(name) = self.names.get_mut(n as usize) else {
                    continue;
                };
                match name.kind {
                    Kind::Placed | Kind::HiddenPlaced => continue,
                    Kind::Hidden => name.kind = Kind::HiddenPlaced,
                    Kind::Shown => {
                        name.kind = Kind::Placed;
                        if let Some((layer, raw)) = name.resolve(self.layers) {
                            if let Err(place) = index.find(name.hash, |_| false) {
                                // CAST: There are at most `MAX_NAMES`.
                                index.set(place, entries.len() as u32);
                            }
                            let stored = Stored {
                                ino: raw.ino,
                                // CAST: `MAX_BYTES` fits into 32 bits.
                                at: bytes.len() as u32,
                                cookie,
                                len: raw.len,
                                space: layer.space,
                                dtype: raw.dtype,
                            };
                            bytes.extend_from_slice(layer.listing.name(raw), GFP_KERNEL_ACCOUNT)?;
                            entries.push(stored, GFP_KERNEL_ACCOUNT)?;
                        }
                    }
                }
                cookie = cookie.saturating_add(1);
            }
            end = start;
        }
        Ok(Snapshot {
            bytes,
            entries,
            index,
            key: self.key,
        })
    }
}

/// Merges the listings of one directory, top branch first.
///
/// Takes time in proportion to the number of entries.
///
/// # Errors
///
/// - `EOVERFLOW`: there are too many names or layers.
/// - `ENOMEM`.
pub fn merge(layers_top_first: &[Layer], show_whiteouts: bool) -> Result<Snapshot> {
    let reserved = if show_whiteouts {
        Reserved::Shown
    } else {
        Reserved::Hidden
    };
    let entries = layers_top_first
        .iter()
        .try_fold(0usize, |sum, layer| sum.checked_add(layer.listing.len()))
        .filter(|&sum| sum <= MAX_NAMES)
        .ok_or(EOVERFLOW)?;
    let mut merge = Merge::new(layers_top_first, entries, reserved)?;
    for (i, layer) in layers_top_first.iter().enumerate() {
        let number = u16::try_from(i).map_err(|_| EOVERFLOW)?;
        merge.add(number, layer, reserved)?;
    }
    merge.finish()
}
