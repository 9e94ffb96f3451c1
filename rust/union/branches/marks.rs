// SPDX-License-Identifier: GPL-2.0

//! Which directories of branches hold no marks (whiteouts, opaque marks).
//!
//! Nearly all hold none. But a look-up that finds a directory in many branches
//! would ask each for two: a whiteout of the name, and the opaque mark. What one
//! listing of a small directory told is remembered here beyond the life of its
//! inode: a tag of its number and its change stamp. If it is changed, it has
//! another tag.
//!
//! # Locking
//!
//! None: the table has a fixed number of places, some of which are open to a tag; if all of them
//! are taken, who comes later overwrites one.

#![forbid(unsafe_code)]

use super::{
    branch::Slot,
    whiteout::{
        self,
        Role, //
    }, //
};
use crate::fs::{
    base::once::{
        load,
        store, //
    },
    objects::{
        sb::random_id,
        time::Stamp, //
    }, //
};
use crate::logic::hash::Key;
use kernel::{
    prelude::*,
    sync::atomic::Atomic, //
};

/// The number of places, a power of two.
const PLACES: usize = 1 << 14;
/// The number of places for one tag, a power of two. With one, two of some hundred directories
/// often met in it, and each took it from the other in each walk.
const WAYS: usize = 4;
/// Only directories up to this size are listed, in bytes: the smallest there are on a disk.
const SMALL: i64 = 4096;

/// It was asked for a mark once: the next time it is listed.
const ASKED: u64 = 1;
/// It holds none.
const CLEAN: u64 = 2;
/// It holds some.
const MARKED: u64 = 3;
/// The bits of a place that say which of these.
const STATE: u64 = 3;

/// What is remembered.
pub(crate) struct Marks {
    places: KVVec<Atomic<u64>>,
    key: Key,
}

impl Marks {
    /// Nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let mut places = KVVec::with_capacity(PLACES, GFP_KERNEL)?;
        for _ in 0..PLACES {
            places.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Marks {
            places,
            key: Key(random_id(), random_id()),
        })
    }

    /// Whether the directory `slot` may hold marks. The mounter's credentials are in force.
    pub(crate) fn may_hold(&self, slot: &Slot) -> Result<bool> {
        let inode = slot.inode()?;
        if inode.size() > SMALL {
            return Ok(true);
        }
        let tag = self.tag(slot.branch().fs, inode.ino(), inode.stamp());
        let Some(place) = self.place(tag) else {
            return Ok(true);
        };
        let known = load(place);
        let state = if known & !STATE == tag {
            known & STATE
        } else {
            0
        };
        match state {
            CLEAN => return Ok(false),
            MARKED => return Ok(true),
            ASKED if inode.is_settled() => {}
            _ => {
                store(place, tag | ASKED);
                return Ok(true);
            }
        }
        // Changes of a file system that wants to be asked itself may not show, one name may have
        // several spellings, and a key that comes later changes all names.
        if slot.dentry().is_remote() || slot.dentry().folds_case() || slot.dentry().is_locked() {
            return Ok(true);
        }
        let mut marked = false;
        whiteout::each_entry(slot.path()?, |_, role, _, _| {
            marked |= role != Role::Object;
            Ok(())
        })?;
        // With the stamp from before: a change meanwhile has given it another one.
        store(place, tag | if marked { MARKED } else { CLEAN });
        Ok(marked)
    }

    /// The tag of a directory.
    fn tag(&self, fs: u16, ino: u64, stamp: Stamp) -> u64 {
        let mut bytes = [0; 32];
        let words = [u64::from(fs), ino, stamp.time(), stamp.version()];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.key.hash64(&bytes) & !STATE
    }

    /// The place of `tag`; if it has none, one that is free, or is to be.
    fn place(&self, tag: u64) -> Option<&Atomic<u64>> {
        // CAST: Any bits will do.
        let (first, last) = ((tag >> 2) as usize % PLACES, (tag >> 32) as usize % WAYS);
        let places = self.places.get(first & !(WAYS - 1)..)?.get(..WAYS)?;
        let find = |wanted: u64| {
            let is = |place: &&Atomic<u64>| load(place) & !STATE == wanted;
            places.iter().find(is)
        };
        find(tag).or_else(|| find(0)).or(places.get(last))
    }
}
