// SPDX-License-Identifier: GPL-2.0

//! What a branch's directory of pseudo-links holds, in memory.
//!
//! It is read once, when the branch is added, and follows what we do; so a look-up asks no
//! branch unless there is something to find.
//!
//! # Locking
//!
//! The trees are under a leaf lock.
//!
//! # Invariants
//!
//! `copies` has the file of each entry in `origins` that is a copy, and nothing else.

#![forbid(unsafe_code)]

use super::super::LowerDentry;
use crate::fs::once::load_acquire;
use crate::logic::plink::{
    FsId,
    Names,
    Note,
    Origin,
    What, //
};
use core::pin::Pin;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Release, //
        },
        Mutex, //
    }, //
};

/// A file in the directory of pseudo-links: `NUMBER.FILE`.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The union's inode number, by which the file is called.
    pub(super) number: u64,
    /// The branch's inode number.
    pub(super) file: u64,
    /// What is noted on it.
    pub(super) note: Note,
}

/// An origin: its file system, its number there.
type Key = (FsId, u64);

fn key(origin: &Origin) -> Key {
    (origin.fs, origin.ino)
}

struct Trees {
    origins: RBTree<Key, Entry>,
    copies: RBTree<u64, Key>,
}

/// The pseudo-links of a branch that have a note.
pub(crate) struct Index {
    /// The directory.
    pub(super) dir: Option<ARef<LowerDentry>>,
    /// Whether there are any.
    used: Atomic<bool>,
    /// Whether [`super::adopt`] has seen it.
    pub(super) adopted: Atomic<bool>,
    trees: Pin<KBox<Mutex<Trees>>>,
}

/// Memory for an entry.
pub(super) struct Room {
    origin: RBTreeNodeReservation<Key, Entry>,
    copy: RBTreeNodeReservation<u64, Key>,
}

impl Room {
    /// Takes the memory.
    pub(super) fn new() -> Result<Self> {
        Ok(Room {
            origin: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
            copy: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
        })
    }
}

impl Index {
    /// An empty index of the directory `dir`.
    pub(super) fn new(dir: Option<ARef<LowerDentry>>) -> Result<Self> {
        let trees = Trees {
            origins: RBTree::new(),
            copies: RBTree::new(),
        };
        Ok(Index {
            dir,
            used: Atomic::new(false),
            adopted: Atomic::new(false),
            trees: KBox::pin_init(new_mutex!(trees, "ruaufs_plinks"), GFP_KERNEL)?,
        })
    }

    /// Whether it ever had an entry.
    pub(super) fn is_used(&self) -> bool {
        load_acquire(&self.used)
    }

    /// The entry for `origin`, if what is noted of it is still true.
    pub(super) fn by_origin(&self, origin: &Origin) -> Option<Entry> {
        let found = self.trees.lock().origins.get(&key(origin)).copied();
        found.filter(|entry| entry.note.is_of(origin))
    }

    /// The entry whose file, a copy, has the number `file`.
    pub(super) fn by_copy(&self, file: u64) -> Option<Entry> {
        if !self.is_used() {
            return None;
        }
        let trees = self.trees.lock();
        let key = trees.copies.get(&file)?;
        trees.origins.get(key).copied()
    }

    /// Puts `entry` in, and gives the one that it replaces.
    pub(super) fn insert(&self, room: Room, entry: Entry) -> Option<Entry> {
        let key = key(&entry.note.origin);
        let mut trees = self.trees.lock();
        let old = trees.origins.insert(room.origin.into_node(key, entry));
        let old = old.map(|node| node.to_key_value().1);
        if let Some(old) = &old {
            trees.copies.remove(&old.file);
        }
        if entry.note.what == What::Copy {
            trees.copies.insert(room.copy.into_node(entry.file, key));
        }
        drop(trees);
        self.used.store(true, Release);
        old
    }

    /// Changes the count of an entry that is there.
    pub(super) fn set_names(&self, origin: &Origin, names: Names) {
        if let Some(entry) = self.trees.lock().origins.get_mut(&key(origin)) {
            entry.note.names = names;
        }
    }

    /// Takes `entry` out.
    pub(super) fn remove(&self, entry: &Entry) {
        let mut trees = self.trees.lock();
        let key = key(&entry.note.origin);
        if trees
            .origins
            .get(&key)
            .is_some_and(|found| found.file == entry.file)
        {
            trees.origins.remove(&key);
            trees.copies.remove(&entry.file);
        }
    }

    /// Calls `f` with the entry of each copy; it does not sleep.
    pub(super) fn each_copy(&self, f: &mut dyn FnMut(&Entry)) {
        if self.is_used() {
            let trees = self.trees.lock();
            let copies = trees.origins.values();
            copies
                .filter(|entry| entry.note.what == What::Copy)
                .for_each(f);
        }
    }

    /// How many copies there are.
    pub(crate) fn count(&self) -> usize {
        let mut count: usize = 0;
        self.each_copy(&mut |_| count = count.saturating_add(1));
        count
    }

    /// All copies: their numbers on the branch, and their origins.
    pub(super) fn copies(&self) -> Result<KVVec<(u64, Origin)>> {
        let mut all = KVVec::new();
        if self.is_used() {
            for entry in self.trees.lock().origins.values() {
                if entry.note.what == What::Copy {
                    all.push((entry.file, entry.note.origin), GFP_KERNEL)?;
                }
            }
        }
        Ok(all)
    }
}
