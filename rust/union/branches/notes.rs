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

use crate::fs::base::once::load_acquire;
use crate::logic::plink::{
    FsId,
    Names,
    Note,
    Origin,
    What, //
};
use crate::union::types::{
    LowerDentry,
    LowerInode, //
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

/// What tells a file of a branch from all others there, also from one that gets its number later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct File {
    /// Its inode number.
    pub(crate) ino: u64,
    generation: u32,
    /// The upper four bits of its mode.
    kind: u8,
}

impl File {
    /// That of `inode`.
    pub(crate) fn of(inode: &LowerInode) -> Self {
        File {
            ino: inode.ino(),
            generation: inode.generation(),
            // CAST: Four bits are left.
            kind: (inode.mode() >> 12) as u8,
        }
    }
}

/// A file in the directory of pseudo-links: `NUMBER.FILE`.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The union's inode number, by which the file is called.
    pub(crate) number: u64,
    /// The file on the branch.
    pub(crate) file: File,
    /// What is noted on it.
    pub(crate) note: Note,
    /// Whether that is on the branch, or only here.
    pub(crate) stored: bool,
}

impl Entry {
    /// The file `file`, called by `number`, which has the note `note`.
    pub(crate) fn new(number: u64, file: File, note: Note) -> Self {
        Entry {
            number,
            file,
            note,
            stored: true,
        }
    }

    /// The same of the file `inode`, as it was found; `None` if no such file has that note.
    pub(crate) fn found(number: u64, inode: &LowerInode, note: Note) -> Option<Self> {
        let file = File::of(inode);
        let fits = note.fits(file.kind, inode.nlink(), inode.size() == 0);
        fits.then(|| Entry::new(number, file, note))
    }

    /// Whether `inode` is its file.
    pub(crate) fn is(&self, inode: &LowerInode) -> bool {
        self.file == File::of(inode)
    }

    /// Whether the file of `other` is called the same.
    pub(crate) fn has_name_of(&self, other: &Entry) -> bool {
        (self.number, self.file.ino) == (other.number, other.file.ino)
    }
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
    pub(crate) dir: Option<ARef<LowerDentry>>,
    /// Whether there are any.
    used: Atomic<bool>,
    /// Whether there may be some that are not stored.
    unstored: Atomic<bool>,
    /// Whether [`crate::union::plink::originals::adopt`] has seen it.
    pub(crate) adopted: Atomic<bool>,
    trees: Pin<KBox<Mutex<Trees>>>,
}

/// Memory for an entry.
pub(crate) struct Room {
    origin: RBTreeNodeReservation<Key, Entry>,
    copy: RBTreeNodeReservation<u64, Key>,
}

impl Room {
    /// Takes the memory.
    pub(crate) fn new() -> Result<Self> {
        Ok(Room {
            origin: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
            copy: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
        })
    }
}

impl Index {
    /// An empty index of the directory `dir`.
    pub(crate) fn new(dir: Option<ARef<LowerDentry>>) -> Result<Self> {
        let trees = Trees {
            origins: RBTree::new(),
            copies: RBTree::new(),
        };
        Ok(Index {
            dir,
            used: Atomic::new(false),
            unstored: Atomic::new(false),
            adopted: Atomic::new(false),
            trees: KBox::pin_init(new_mutex!(trees, "ruaufs_plinks"), GFP_KERNEL)?,
        })
    }

    /// Whether it has a copy of the file that `origin` speaks of, whatever became of that.
    pub(crate) fn has_copy_of(&self, origin: &Origin) -> bool {
        self.is_used()
            && self
                .trees
                .lock()
                .origins
                .get(&key(origin))
                .is_some_and(|entry| entry.note.what == What::Copy)
    }

    /// Whether it has a copy of what has the number of `origin`, but is another object.
    pub(crate) fn has_copy_of_other(&self, origin: &Origin) -> bool {
        let trees = self.trees.lock();
        let entry = trees.origins.get(&key(origin));
        entry.is_some_and(|entry| entry.note.what == What::Copy && !entry.note.is_of(origin))
    }

    /// Whether it ever had an entry.
    pub(crate) fn is_used(&self) -> bool {
        load_acquire(&self.used)
    }

    /// The entry for `origin`, if what is noted of it is still true.
    pub(crate) fn by_origin(&self, origin: &Origin) -> Option<Entry> {
        let found = self.trees.lock().origins.get(&key(origin)).copied();
        found.filter(|entry| entry.note.is_of(origin))
    }

    /// The entry whose file, a copy, is `inode`.
    pub(crate) fn by_copy(&self, inode: &LowerInode) -> Option<Entry> {
        self.by_number(inode.ino()).filter(|entry| entry.is(inode))
    }

    /// The entry whose file, a copy, has the number `file`.
    pub(crate) fn by_number(&self, file: u64) -> Option<Entry> {
        if !self.is_used() {
            return None;
        }
        let trees = self.trees.lock();
        let key = trees.copies.get(&file)?;
        trees.origins.get(key).copied()
    }

    /// Puts `entry` in, and gives the one that it replaces.
    pub(crate) fn insert(&self, room: Room, entry: Entry) -> Option<Entry> {
        let key = key(&entry.note.origin);
        let mut trees = self.trees.lock();
        let old = trees.origins.insert(room.origin.into_node(key, entry));
        let old = old.map(|node| node.to_key_value().1);
        if let Some(old) = &old {
            trees.copies.remove(&old.file.ino);
        }
        if entry.note.what == What::Copy {
            trees
                .copies
                .insert(room.copy.into_node(entry.file.ino, key));
        }
        drop(trees);
        self.used.store(true, Release);
        old
    }

    /// Changes the count of an entry that is there; it is `stored` on the branch, or will be.
    pub(crate) fn set_names(&self, origin: &Origin, names: Names, stored: bool) {
        let mut trees = self.trees.lock();
        if let Some(entry) = trees.origins.get_mut(&key(origin)) {
            entry.note.names = names;
            entry.stored = stored;
            if !stored {
                self.unstored.store(true, Release);
            }
        }
    }

    /// Whether there may be entries that are not stored.
    pub(crate) fn has_unstored(&self) -> bool {
        load_acquire(&self.unstored)
    }

    /// An entry that is not stored.
    pub(crate) fn next_unstored(&self) -> Option<Entry> {
        let trees = self.trees.lock();
        let next = trees.origins.values().find(|entry| !entry.stored).copied();
        if next.is_none() {
            self.unstored.store(false, Release);
        }
        next
    }

    /// Takes `entry` out.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut trees = self.trees.lock();
        let key = key(&entry.note.origin);
        if trees
            .origins
            .get(&key)
            .is_some_and(|found| found.file == entry.file)
        {
            trees.origins.remove(&key);
            trees.copies.remove(&entry.file.ino);
        }
    }

    /// Calls `f` with the entry of each copy; it does not sleep.
    pub(crate) fn each_copy(&self, f: &mut dyn FnMut(&Entry)) {
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
    pub(crate) fn copies(&self) -> Result<KVVec<(u64, Origin)>> {
        let mut all = KVVec::new();
        if self.is_used() {
            for entry in self.trees.lock().origins.values() {
                if entry.note.what == What::Copy {
                    all.push((entry.file.ino, entry.note.origin), GFP_KERNEL)?;
                }
            }
        }
        Ok(all)
    }
}
