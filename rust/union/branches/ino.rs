// SPDX-License-Identifier: GPL-2.0

//! Inode numbers of the union.
//!
//! A number is computed from the number space of the object and the number
//! there ([`crate::logic::ino`]). The table holds the exceptions only: objects
//! that were copied up and keep the number they had, and numbers of branches
//! that need more bits. A union in use has some soon, so a table of bits says which objects
//! are none: to ask for the number of one takes no lock.
//!
//! A file system is one number space. But where `st_dev` differs between objects of one file
//! system ([`HAS_SPACES`]), equal numbers with another `st_dev` are other objects, and each
//! `st_dev` is a space.
//!
//! The home space, whose numbers are shown as they are, is that of the file system on which the
//! bottom branch was when the union was mounted: the tree that was there before has it, and was
//! seen outside the union.
//!
//! # Invariants
//!
//! (space, lower number) -> number is stable while the union is mounted
//! and the lower object lives.

#![forbid(unsafe_code)]

use super::branch::{
    Branch,
    BranchTable, //
};
use crate::compat::errno::ESTALE;
use crate::fs::{
    access::attr,
    base::once::{
        load,
        load_acquire,
        store_release, //
    }, //
};
use crate::logic::ino;
use crate::union::types::LowerDentry;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::Atomic,
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

/// The bits of [`InoTable::marked`], a power of two, and the words that they are in.
const BITS: usize = 1 << 16;
const WORDS: usize = BITS / u64::BITS as usize;

/// The word and the bit in it that `lower` shares with few others: file systems number their
/// objects one after the other.
#[inline]
fn bit_of(lower: Lower) -> (usize, u64) {
    let spread = u64::from(lower.space).wrapping_mul(0x9e37);
    // CAST: Any bits will do.
    let at = lower.number.wrapping_add(spread) as usize % BITS;
    (at / u64::BITS as usize, 1 << (at % u64::BITS as usize))
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

/// A set of windows ([`crate::logic::ino`]). It grows under the lock of the spaces.
struct Windows([Atomic<u64>; (ino::WINDOWS as usize).div_ceil(u64::BITS as usize)]);

impl Windows {
    fn new() -> Self {
        Windows([const { Atomic::new(0) }; _])
    }

    fn word(&self, window: u16) -> Option<(&Atomic<u64>, u64)> {
        let word = self.0.get(usize::from(window) / u64::BITS as usize)?;
        Some((word, 1 << (u32::from(window) % u64::BITS)))
    }

    fn has(&self, window: u16) -> bool {
        self.word(window)
            .is_some_and(|(word, bit)| load_acquire(word) & bit != 0)
    }

    fn add(&self, window: u16, _spaces: &mut Spaces) {
        if let Some((word, bit)) = self.word(window) {
            store_release(word, load(word) | bit);
        }
    }
}

/// The exceptions.
#[pin_data]
pub(crate) struct InoTable {
    #[pin]
    exceptions: Mutex<Exceptions>,
    /// One bit for each [`bit_of`]: whether an object with that one may be an exception. Set
    /// under the lock of the exceptions, before one is made.
    marked: KVec<Atomic<u64>>,
    #[pin]
    spaces: Mutex<Spaces>,
    /// The windows of other spaces than the home space. A window is in one of the two at most, and
    /// stays there.
    claimed: Windows,
    /// Those in which numbers of the home space were shown.
    used_at_home: Windows,
}

impl InoTable {
    /// An empty table.
    pub(crate) fn new() -> Result<impl PinInit<Self>> {
        let mut marked = KVec::with_capacity(WORDS, GFP_KERNEL)?;
        for _ in 0..WORDS {
            marked.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(pin_init!(InoTable {
            marked,
            exceptions <- new_mutex!(
                Exceptions {
                    numbers: RBTree::new(),
                    next: 0
                },
                "ruaufs_ino"
            ),
            spaces <- new_mutex!(
                Spaces {
                    known: KVec::new(),
                    next: ino::FURTHER
                },
                "ruaufs_spaces"
            ),
            claimed: Windows::new(),
            used_at_home: Windows::new(),
        }))
    }

    /// Claims the window of `space`. Whether it may have numbers there: not if the home space was
    /// first.
    pub(crate) fn claim(&self, space: u16) -> bool {
        self.claim_for(space, &mut self.spaces.lock())
    }

    fn claim_for(&self, space: u16, spaces: &mut Spaces) -> bool {
        let Some(window) = ino::window(space) else {
            return true;
        };
        if self.used_at_home.has(window) {
            return false;
        }
        self.claimed.add(window, spaces);
        true
    }

    /// Whether the home space may have numbers in `window`.
    fn is_free(&self, window: u16) -> bool {
        if self.used_at_home.has(window) {
            return true;
        }
        if self.claimed.has(window) {
            return false;
        }
        let mut spaces = self.spaces.lock();
        if self.claimed.has(window) {
            return false;
        }
        self.used_at_home.add(window, &mut spaces);
        true
    }

    /// The number that `lower` has unless it is an exception, see [`ino::pack`].
    #[inline]
    pub(crate) fn packed(&self, lower: Lower) -> Option<u64> {
        ino::pack(lower.space, lower.number, |window| self.is_free(window))
    }

    /// Whether `lower` may be an exception.
    #[inline]
    fn is_marked(&self, lower: Lower) -> bool {
        let (word, bit) = bit_of(lower);
        self.marked
            .get(word)
            .is_none_or(|word| load_acquire(word) & bit != 0)
    }

    /// Says that `lower` may be an exception from now on.
    fn mark(&self, lower: Lower, _exceptions: &mut Exceptions) {
        let (word, bit) = bit_of(lower);
        if let Some(word) = self.marked.get(word) {
            store_release(word, load(word) | bit);
        }
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
        let device = attr::device(branch.at(lower)?)?;
        let mut spaces = self.spaces.lock();
        let found = Iterator::find(&mut spaces.known.iter(), |known| {
            known.fs == fs && known.device == device
        });
        if let Some(found) = found {
            return Ok(found.space);
        }
        spaces.known.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let space = if spaces.known.iter().any(|known| known.fs == fs) {
            self.next_further(&mut spaces)?
        } else {
            fs
        };
        spaces
            .known
            .push(Space { fs, device, space }, GFP_KERNEL_ACCOUNT)?;
        Ok(space)
    }

    /// The union's number of an object of `branch`, as [`InoTable::known_number`] gives it: what is
    /// asked for may be no object of the union.
    pub(crate) fn known(&self, branch: &Branch, lower: &LowerDentry) -> Result<Option<u64>> {
        let space = if branch.has_spaces {
            let device = attr::device(branch.at(lower)?)?;
            let spaces = self.spaces.lock();
            let seen = |space: &&Space| space.fs == branch.fs && space.device == device;
            match spaces.known.iter().find(seen) {
                Some(found) => found.space,
                None => return Ok(None),
            }
        } else {
            branch.fs
        };
        Ok(self.known_number(Lower {
            space,
            number: lower.inode().ok_or(ESTALE)?.ino(),
        }))
    }

    /// The union's number of a branch's object, if it has one or needs neither memory nor a window
    /// for it.
    pub(crate) fn known_number(&self, lower: Lower) -> Option<u64> {
        if self.is_marked(lower) {
            if let Some(&number) = self.exceptions.lock().numbers.get(&lower) {
                return Some(number);
            }
        }
        // A number that somebody made up takes no window either.
        let mut undecided = false;
        let packed = ino::pack(lower.space, lower.number, |window| {
            let used = self.used_at_home.has(window);
            undecided = !used && !self.claimed.has(window);
            used
        });
        packed.filter(|_| !undecided)
    }

    /// A space that there was not before.
    fn next_further(&self, spaces: &mut Spaces) -> Result<u16> {
        loop {
            let space = spaces.next;
            spaces.next = space.checked_add(1).ok_or(EOVERFLOW)?;
            if self.claim_for(space, spaces) {
                return Ok(space);
            }
        }
    }

    /// Numbers the spaces of the branches of a union that is about to be mounted: those that are
    /// theirs depend on the branches alone, and so do the numbers in them.
    pub(crate) fn begin(&self, table: &BranchTable) -> Result {
        for branch in table.order.iter().rev() {
            self.claim(branch.fs);
            self.space(branch, branch.root.dentry())?;
        }
        Ok(())
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

    /// The same, if it is sure that the object is no exception: it takes few instructions, and no
    /// other call.
    #[inline]
    pub(crate) fn computed(&self, lower: Lower) -> Option<u64> {
        if self.is_marked(lower) {
            return None;
        }
        self.packed(lower)
    }

    /// The same where there may be an exception.
    #[cold]
    fn exception(&self, lower: Lower) -> Result<u64> {
        if self.is_marked(lower) {
            if let Some(&number) = self.exceptions.lock().numbers.get(&lower) {
                return Ok(number);
            }
        }
        if let Some(number) = self.packed(lower) {
            return Ok(number);
        }
        let node = RBTreeNode::new(lower, 0, GFP_KERNEL_ACCOUNT)?;
        let mut exceptions = self.exceptions.lock();
        if let Some(&number) = exceptions.numbers.get(&lower) {
            return Ok(number);
        }
        self.mark(lower, &mut exceptions);
        let number = exceptions.fresh();
        exceptions.numbers.insert(node);
        if let Some(slot) = exceptions.numbers.get_mut(&lower) {
            *slot = number;
        }
        Ok(number)
    }

    /// Makes room for a later [`InoTable::keep`], which then cannot fail.
    #[inline(never)]
    pub(crate) fn reserve() -> Result<Reserved> {
        let nothing = Lower {
            space: 0,
            number: 0,
        };
        RBTreeNode::new(nothing, 0, GFP_KERNEL_ACCOUNT)
    }

    /// A branch's object takes over the number that its original had.
    pub(crate) fn keep(&self, node: Reserved, lower: Lower, number: u64) {
        let node = node.into_reservation().into_node(lower, number);
        let mut exceptions = self.exceptions.lock();
        self.mark(lower, &mut exceptions);
        // What was there belonged to a lower object that is gone, or is the same.
        let old = exceptions.numbers.insert(node);
        drop(exceptions);
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
        let mut exceptions = self.exceptions.lock();
        self.mark(lower, &mut exceptions);
        let number = exceptions.fresh();
        let node = node.into_reservation().into_node(lower, number);
        let old = exceptions.numbers.insert(node);
        drop(exceptions);
        drop(old);
    }

    /// As [`InoTable::retire`], for an object that is there; nothing if it has a number of its own.
    pub(crate) fn part(&self, node: Reserved, lower: Lower) {
        let mut exceptions = self.exceptions.lock();
        if exceptions.numbers.get(&lower).is_some() {
            return;
        }
        self.mark(lower, &mut exceptions);
        let number = exceptions.fresh();
        let node = node.into_reservation().into_node(lower, number);
        let old = exceptions.numbers.insert(node);
        drop(exceptions);
        drop(old);
    }

    /// The branch's object is gone; its number there may come again for another one.
    pub(crate) fn forget(&self, lower: Lower) {
        if !self.is_marked(lower) {
            return;
        }
        let mut exceptions = self.exceptions.lock();
        let fresh = exceptions.fresh();
        let old = match exceptions.numbers.get_mut(&lower) {
            // The computed number is in use: see `retire`.
            Some(number) if ino::is_exception(*number) && self.packed(lower).is_some() => {
                *number = fresh;
                None
            }
            _ => exceptions.numbers.remove_node(&lower),
        };
        drop(exceptions);
        drop(old);
    }
}
