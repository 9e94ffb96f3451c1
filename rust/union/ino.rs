// SPDX-License-Identifier: GPL-2.0

//! Inode numbers of the union.
//!
//! A number is computed from the file system of the branch and the number
//! there ([`crate::logic::ino`]). The table holds the exceptions only: objects
//! that were copied up and keep the number they had, and numbers of branches
//! that need more bits.
//!
//! # Invariants
//!
//! (file system, lower number) -> number is stable while the union is mounted
//! and the lower object lives.

#![forbid(unsafe_code)]

use crate::fs::once::load_acquire;
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

/// An object of a branch: (file system slot, number there).
type Lower = (u16, u64);

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
}

/// The exceptions.
#[pin_data]
pub(crate) struct InoTable {
    #[pin]
    exceptions: Mutex<Exceptions>,
    /// Whether there are any: most look-ups need no lock.
    used: Atomic<bool>,
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
        })
    }

    /// The union's number of a branch's object.
    #[inline]
    pub(crate) fn number(&self, fs: u16, lower: u64) -> Result<u64> {
        // Most of the time there are no exceptions.
        if !load_acquire(&self.used) {
            if let Some(number) = ino::pack(fs, lower) {
                return Ok(number);
            }
        }
        self.exception(fs, lower)
    }

    /// The same where there may be an exception.
    fn exception(&self, fs: u16, lower: u64) -> Result<u64> {
        if load_acquire(&self.used) {
            if let Some(&number) = self.exceptions.lock().numbers.get(&(fs, lower)) {
                return Ok(number);
            }
        }
        if let Some(number) = ino::pack(fs, lower) {
            return Ok(number);
        }
        let node = RBTreeNode::new((fs, lower), 0, GFP_KERNEL)?;
        self.used.store(true, Release);
        let mut exceptions = self.exceptions.lock();
        if let Some(&number) = exceptions.numbers.get(&(fs, lower)) {
            return Ok(number);
        }
        let number = exceptions.fresh();
        exceptions.numbers.insert(node);
        if let Some(slot) = exceptions.numbers.get_mut(&(fs, lower)) {
            *slot = number;
        }
        Ok(number)
    }

    /// Makes room for a later [`InoTable::keep`], which then cannot fail.
    pub(crate) fn reserve() -> Result<RBTreeNode<Lower, u64>> {
        RBTreeNode::new((0, 0), 0, GFP_KERNEL)
    }

    /// A branch's object takes over the number that its original had.
    pub(crate) fn keep(&self, node: RBTreeNode<Lower, u64>, fs: u16, lower: u64, number: u64) {
        self.used.store(true, Release);
        let node = node.into_reservation().into_node((fs, lower), number);
        // What was there belonged to a lower object that is gone, or is the same.
        let old = self.exceptions.lock().numbers.insert(node);
        drop(old);
    }

    /// No branch is on the file system in slot `fs` any more.
    pub(crate) fn forget_fs(&self, fs: u16) {
        if !load_acquire(&self.used) {
            return;
        }
        let mut exceptions = self.exceptions.lock();
        while let Some((&key, _)) = exceptions
            .numbers
            .cursor_lower_bound(&(fs, 0))
            .as_ref()
            .map(|cursor| cursor.current())
            .filter(|((found, _), _)| *found == fs)
        {
            let old = exceptions.numbers.remove_node(&key);
            drop(old);
        }
    }

    /// The branch's object is gone, but its copy goes on with the number it had: when `lower`
    /// comes again on the branch, it is for another object, which gets another number.
    pub(crate) fn retire(&self, node: RBTreeNode<Lower, u64>, fs: u16, lower: u64) {
        self.used.store(true, Release);
        let mut exceptions = self.exceptions.lock();
        let number = exceptions.fresh();
        let node = node.into_reservation().into_node((fs, lower), number);
        let old = exceptions.numbers.insert(node);
        drop(exceptions);
        drop(old);
    }

    /// The branch's object is gone; its number there may come again for another one.
    pub(crate) fn forget(&self, fs: u16, lower: u64) {
        if !load_acquire(&self.used) {
            return;
        }
        let mut exceptions = self.exceptions.lock();
        let fresh = exceptions.fresh();
        let old = match exceptions.numbers.get_mut(&(fs, lower)) {
            // The computed number is in use: see `retire`.
            Some(number) if ino::unpack(*number).is_none() && ino::pack(fs, lower).is_some() => {
                *number = fresh;
                None
            }
            _ => exceptions.numbers.remove_node(&(fs, lower)),
        };
        drop(exceptions);
        drop(old);
    }
}
