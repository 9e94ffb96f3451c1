// SPDX-License-Identifier: GPL-2.0

//! Who gives objects their places in the tree at this moment.
//!
//! # Terms
//!
//! - *publication*: a copy gets its name on a branch;
//! - *move*: an object gets another place, and may take that of another object: rename, `MVDOWN`.
//!
//! # Who waits for whom
//!
//! A publication goes by the name and the directories that the object has. A move changes these, so
//! the two wait for each other if
//!
//! - both are about one object, or
//! - the directories of one lie in a directory that the other is about.
//!
//! So do two moves. Everything else goes on, although a branch may keep one of them waiting for any
//! time: it may be frozen, or on a file system that asks user space or a network. Who waits can be
//! killed.
//!
//! # Locking
//!
//! `Places::all` is a leaf; references are dropped after it. A place is taken after the object's
//! lock and before write access to a branch; one at a time.

#![forbid(unsafe_code)]

use crate::fs::base::turns::Turns;
use crate::union::types::{
    Dentry,
    Inode, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    }, //
};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// A publication.
    Publish,
    /// A move.
    Move,
}

/// A publication or a move that is under way, or waits for those before it.
struct Taking {
    number: u64,
    act: Act,
    objects: [Option<ARef<Dentry>>; 2],
    parents: [Option<ARef<Dentry>>; 2],
}

/// Those of a union.
#[pin_data]
pub(crate) struct Places {
    #[pin]
    all: Mutex<All>,
    /// How many have ended.
    ended: Turns,
}

struct All {
    /// The number of the next.
    next: u64,
    taking: KVVec<Taking>,
}

/// The names of objects, and the directories that they are in, or come to.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) objects: [Option<&'a Dentry>; 2],
    pub(crate) parents: [Option<&'a Dentry>; 2],
}

impl Wanted<'_> {
    /// Whether `self` and `other` must not be at the same time, if one of them is a move.
    fn meets(&self, other: &Taking) -> bool {
        let (ours, theirs) = (self.objects(), || other.objects.iter().flatten());
        for object in ours.clone() {
            if theirs().any(|known| same_object(known, object)) {
                return true;
            }
            let mut parents = other.parents.iter().flatten();
            if is_dir(object) && parents.any(|parent| parent.is_below(object)) {
                return true;
            }
        }
        let mut dirs = theirs().filter(|object| is_dir(object));
        dirs.any(|dir| {
            let mut parents = self.parents.iter().flatten();
            parents.any(|parent| parent.is_below(&**dir))
        })
    }

    fn objects(&self) -> impl Iterator<Item = &Dentry> + Clone {
        self.objects.iter().flatten().copied()
    }
}

fn is_dir(name: &Dentry) -> bool {
    name.inode().is_some_and(Inode::is_dir)
}

fn same_object(a: &Dentry, b: &Dentry) -> bool {
    match (a.inode(), b.inode()) {
        (Some(a), Some(b)) => core::ptr::eq(a, b),
        _ => false,
    }
}

impl Places {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Places {
            all <- new_mutex!(
                All {
                    next: 0,
                    taking: KVVec::new(),
                },
                "ruaufs_places"
            ),
            ended: Turns::new(),
        })
    }

    /// Notes that the current task is about to do what it says, until the value that this gives is
    /// dropped. Waits for whatever must not be at the same time and came before: so a stream of
    /// publications does not keep the move of a directory above them waiting for ever.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed, `ENOMEM`.
    pub(crate) fn take(&self, act: Act, wanted: Wanted<'_>) -> Result<Taken<'_>> {
        let mut all = self.all.lock();
        let number = all.next;
        let kept = |name: Option<&Dentry>| name.map(ARef::from);
        let taking = Taking {
            number,
            act,
            objects: wanted.objects.map(kept),
            parents: wanted.parents.map(kept),
        };
        all.taking.push(taking, GFP_KERNEL)?;
        all.next = number.wrapping_add(1);
        let taken = Taken {
            places: self,
            number,
        };
        loop {
            let ended = self.ended.seen();
            // They are in the order in which they came.
            let mut before = all.taking.iter().take_while(|other| other.number != number);
            let meets = |other: &Taking| {
                (act == Act::Move || other.act == Act::Move) && wanted.meets(other)
            };
            let waits = before.any(meets);
            drop(all);
            if !waits {
                return Ok(taken);
            }
            self.ended.wait(ended)?;
            all = self.all.lock();
        }
    }
}

/// Objects whose places are taken.
#[must_use]
pub(crate) struct Taken<'a> {
    places: &'a Places,
    number: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut all = self.places.all.lock();
        let mut taking = all.taking.iter();
        let at = taking.position(|taking| taking.number == self.number);
        let gone = at.and_then(|at| all.taking.remove(at).ok());
        drop(all);
        self.places.ended.next();
        drop(gone);
    }
}
