// SPDX-License-Identifier: GPL-2.0

//! Inode numbers of the union, computed instead of stored.
//!
//! ```text
//! 63 62           48 47                                  0
//! +-+---------------+-------------------------------------+
//! |0| slot          | the branch's number + 16            |   ordinary, slot < 0x7fff
//! |0| 0x7fff        | a counter                           |   exception
//! +-+---------------+-------------------------------------+
//! ```
//!
//! A *slot* numbers the distinct file systems (not branches) of a mount. Numbers of slot 0 stay
//! small. The top bit is clear, since programs read inode numbers as signed.
//!
//! # Invariants
//!
//! I10: a number belongs to one object; the root is [`ROOT`], no other is below 11. (As for
//! aufs, whose tools take 2 for the root and 11 for the first free number.)

#![forbid(unsafe_code)]

/// The number of the union's root directory.
pub(crate) const ROOT: u64 = 2;

/// Added to each number of a branch, which keeps 0 to 15 free.
const OFFSET: u64 = 16;
/// Where the slot begins.
const SLOT_SHIFT: u32 = 48;
/// The bits below the slot.
const LOW_MASK: u64 = (1 << SLOT_SHIFT) - 1;
/// The slot that stands for the exceptions.
const EXCEPTIONS: u16 = 0x7fff;

/// Returns the number of the object which has the number `lower` on the file system in slot `fs`.
///
/// `None` if `lower` or `fs` needs more bits than there are: such an object takes a number from
/// [`exception`], which this function never returns.
#[inline]
pub(crate) fn pack(fs: u16, lower: u64) -> Option<u64> {
    if fs >= EXCEPTIONS {
        return None;
    }
    let low = lower.checked_add(OFFSET).filter(|&low| low <= LOW_MASK)?;
    Some((u64::from(fs) << SLOT_SHIFT) | low)
}

/// Reverses [`pack`]: (slot, the branch's number).
pub(crate) fn unpack(ino: u64) -> Option<(u16, u64)> {
    let fs = u16::try_from(ino >> SLOT_SHIFT).ok()?;
    if fs >= EXCEPTIONS {
        return None;
    }
    Some((fs, (ino & LOW_MASK).checked_sub(OFFSET)?))
}

/// Returns the `n`-th number of the exception range.
///
/// The range has 2^48 numbers, then it repeats.
pub(crate) fn exception(n: u64) -> u64 {
    (u64::from(EXCEPTIONS) << SLOT_SHIFT) | (n & LOW_MASK)
}
