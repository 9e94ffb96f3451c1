// SPDX-License-Identifier: GPL-2.0

//! Inode numbers of the union.
//!
//! A number is computed from the number space of the object and the number
//! there ([`crate::logic::ino`]). The table holds the exceptions only: objects
//! that were copied up and keep the number they had, and numbers of branches
//! that need more bits.
//!
//! A file system is one number space. But where `st_dev` differs between objects of one file
//! system ([`HAS_SPACES`]), equal numbers with another `st_dev` are other objects, and each
//! `st_dev` is a space.
//!
//! # Invariants
//!
//! (space, lower number) -> number is stable while the union is mounted
//! and the lower object lives.

#![forbid(unsafe_code)]

use super::{
    branch::Branch,
    LowerDentry, //
};
use crate::fs::{
    attr,
    once::load_acquire, //
};
use crate::logic::ino;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::{
            Atomic,
            Release, //
        },
        Mutex, //
    }, //
};

/// Types of file systems with several number spaces: btrfs has one for each subvolume, overlayfs
/// for each file system that it shows.
pub(crate) const HAS_SPACES: [&[u8]; 2] = [b"btrfs", b"overlay"];

/// What the union's number of an object is computed from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lower {
    /// The number space.
    pub(crate) space: u16,
    /// The number of the branch's object.
    pub(crate) number: u64,
}

/// Memory for an exception, see [`InoTable::reserve`].
pub(crate) type Reserved = RBTreeNode<Lower, u64>;

struct Exceptions {
    numbers: RBTree<Lower, u64>,
    next: u64,
}

impl Exceptions {
    /// A number that no object has.
    fn fresh(&mut self) -> u64 {
        let number = ino::exception(self.next);
        self.next = self.next.wrapping_add(1);
        number
    }

    /// Drops all that is in the number space `space`.
    fn forget(&mut self, space: u16) {
        let first = Lower { space, number: 0 };
        while let Some((&key, _)) = self
            .numbers
            .cursor_lower_bound(&first)
            .as_ref()
            .map(|cursor| cursor.current())
            .filter(|(found, _)| found.space == space)
        {
            let old = self.numbers.remove_node(&key);
            drop(old);
        }
    }
}

/// A number space that was seen on a file system which has several.
struct Space {
    fs: u16,
    device: u32,
    space: u16,
}

/// The number spaces that were seen on such file systems.
struct Spaces {
    known: KVec<Space>,
    next: u16,
}

/// The exceptions.
#[pin_data]
pub(crate) struct InoTable {
    #[pin]
    exceptions: Mutex<Exceptions>,
    /// Whether there are any: most look-ups need no lock.
    used: Atomic<bool>,
    #[pin]
    spaces: Mutex<Spaces>,
}

impl InoTable {
    /// An empty table.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(InoTable {
            exceptions <- new_mutex!(
                Exceptions {
                    numbers: RBTree::new(),
                    next: 0
                },
                "ruaufs_ino"
            ),
            used: Atomic::new(false),
            spaces <- new_mutex!(
                Spaces {
                    known: KVec::new(),
                    next: ino::FURTHER
                },
                "ruaufs_spaces"
            ),
        })
    }

    /// The number space of an object of `branch`, and of all that a directory holds there, but for
    /// the roots of subvolumes.
    #[inline]
    pub(crate) fn space(&self, branch: &Branch, lower: &LowerDentry) -> Result<u16> {
        if !branch.has_spaces {
            return Ok(branch.fs);
        }
        self.further_space(branch, lower)
    }

    /// The same on a file system that has several. The first one that is seen is that of the file
    /// system.
    #[cold]
    fn further_space(&self, branch: &Branch, lower: &LowerDentry) -> Result<u16> {
        let fs = branch.fs;
        let device = attr::device(branch.at(lower))?;
        let mut spaces = self.spaces.lock();
        let Spaces { known, next } = &mut *spaces;
        if let Some(found) = known
            .iter()
            .find(|known| known.fs == fs && known.device == device)
        {
            return Ok(found.space);
        }
        known.reserve(1, GFP_KERNEL)?;
        let space = if known.iter().any(|known| known.fs == fs) {
            let space = *next;
            *next = space.checked_add(1).ok_or(EOVERFLOW)?;
            space
        } else {
            fs
        };
        known.push(Space { fs, device, space }, GFP_KERNEL)?;
        Ok(space)
    }

    /// What the union's number of an object of `branch` is computed from.
    #[inline]
    pub(crate) fn lower(&self, branch: &Branch, lower: &LowerDentry) -> Result<Lower> {
        Ok(Lower {
            space: self.space(branch, lower)?,
            number: lower.inode().ok_or(ESTALE)?.ino(),
        })
    }

    /// The union's number of an object of `branch`.
    #[inline]
    pub(crate) fn number_of(&self, branch: &Branch, lower: &LowerDentry) -> Result<u64> {
        self.number(self.lower(branch, lower)?)
    }

    /// The union's number of a branch's object.
    #[inline]
    pub(crate) fn number(&self, lower: Lower) -> Result<u64> {
        match self.computed(lower) {
            Some(number) => Ok(number),
            None => self.exception(lower),
        }
    }

    /// The same, if there are no exceptions, which is so most of the time: it takes few
    /// instructions, and no other call.
    #[inline]
    pub(crate) fn computed(&self, lower: Lower) -> Option<u64> {
        if load_acquire(&self.used) {
            return None;
        }
        ino::pack(lower.space, lower.number)
    }

    /// The same where there may be an exception.
    #[cold]
    fn exception(&self, lower: Lower) -> Result<u64> {
        if load_acquire(&self.used) {
            if let Some(&number) = self.exceptions.lock().numbers.get(&lower) {
                return Ok(number);
            }
        }
        if let Some(number) = ino::pack(lower.space, lower.number) {
            return Ok(number);
        }
        let node = RBTreeNode::new(lower, 0, GFP_KERNEL)?;
        self.used.store(true, Release);
        let mut exceptions = self.exceptions.lock();
        if let Some(&number) = exceptions.numbers.get(&lower) {
            return Ok(number);
        }
        let number = exceptions.fresh();
        exceptions.numbers.insert(node);
        if let Some(slot) = exceptions.numbers.get_mut(&lower) {
            *slot = number;
        }
        Ok(number)
    }

    /// Makes room for a later [`InoTable::keep`], which then cannot fail.
    pub(crate) fn reserve() -> Result<Reserved> {
        let nothing = Lower {
            space: 0,
            number: 0,
        };
        RBTreeNode::new(nothing, 0, GFP_KERNEL)
    }

    /// A branch's object takes over the number that its original had.
    pub(crate) fn keep(&self, node: Reserved, lower: Lower, number: u64) {
        self.used.store(true, Release);
        let node = node.into_reservation().into_node(lower, number);
        // What was there belonged to a lower object that is gone, or is the same.
        let old = self.exceptions.lock().numbers.insert(node);
        drop(old);
    }

    /// No branch is on the file system `fs` any more.
    pub(crate) fn forget_fs(&self, fs: u16) {
        self.exceptions.lock().forget(fs);
        while let Some(further) = self.forget_space(fs) {
            self.exceptions.lock().forget(further);
        }
    }

    /// Forgets one of the number spaces that were seen on the file system `fs`.
    fn forget_space(&self, fs: u16) -> Option<u16> {
        let mut spaces = self.spaces.lock();
        let at = spaces.known.iter().position(|known| known.fs == fs)?;
        spaces.known.remove(at).ok().map(|known| known.space)
    }

    /// The branch's object is gone, but its copy goes on with the number it had: when `lower`
    /// comes again on the branch, it is for another object, which gets another number.
    pub(crate) fn retire(&self, node: Reserved, lower: Lower) {
        self.used.store(true, Release);
        let mut exceptions = self.exceptions.lock();
        let number = exceptions.fresh();
        let node = node.into_reservation().into_node(lower, number);
        let old = exceptions.numbers.insert(node);
        drop(exceptions);
        drop(old);
    }

    /// The branch's object is gone; its number there may come again for another one.
    pub(crate) fn forget(&self, lower: Lower) {
        if !load_acquire(&self.used) {
            return;
        }
        let mut exceptions = self.exceptions.lock();
        let fresh = exceptions.fresh();
        let old = match exceptions.numbers.get_mut(&lower) {
            // The computed number is in use: see `retire`.
            Some(number)
                if ino::unpack(*number).is_none()
                    && ino::pack(lower.space, lower.number).is_some() =>
            {
                *number = fresh;
                None
            }
            _ => exceptions.numbers.remove_node(&lower),
        };
        drop(exceptions);
        drop(old);
    }
}
