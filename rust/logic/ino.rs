// SPDX-License-Identifier: GPL-2.0

//! Inode numbers of the union, computed instead of stored.
//!
//! ```text
//! 63 62           48 47                                  0
//! +-+---------------+-------------------------------------+
//! |0| space         | the branch's number + 16            |   ordinary, space < 0x7fff
//! |0| 0x7fff        | a counter                           |   exception
//! +-+---------------+-------------------------------------+
//! ```
//!
//! In a *number space* each number means one object. A file system is one, with few exceptions:
//! btrfs has one for each subvolume. So spaces below [`FURTHER`] number the distinct file systems
//! (not branches) of a mount, the others what further ones there are on these. Numbers of space 0
//! stay small. The top bit is clear, since programs read inode numbers as signed.
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
/// Where the space begins.
const SPACE_SHIFT: u32 = 48;
/// The bits below the space.
const LOW_MASK: u64 = (1 << SPACE_SHIFT) - 1;
/// The space that stands for the exceptions.
const EXCEPTIONS: u16 = 0x7fff;
/// The first of the spaces that are not the first one of a file system.
pub(crate) const FURTHER: u16 = 0x4000;

/// Returns the number of the object which has the number `lower` in the space `space`.
///
/// `None` if `lower` or `space` needs more bits than there are: such an object takes a number from
/// [`exception`], which this function never returns.
#[inline]
pub(crate) fn pack(space: u16, lower: u64) -> Option<u64> {
    if space >= EXCEPTIONS {
        return None;
    }
    let low = lower.checked_add(OFFSET).filter(|&low| low <= LOW_MASK)?;
    Some((u64::from(space) << SPACE_SHIFT) | low)
}

/// Reverses [`pack`]: (space, the branch's number).
pub(crate) fn unpack(ino: u64) -> Option<(u16, u64)> {
    let space = u16::try_from(ino >> SPACE_SHIFT).ok()?;
    if space >= EXCEPTIONS {
        return None;
    }
    Some((space, (ino & LOW_MASK).checked_sub(OFFSET)?))
}

/// Returns the `n`-th number of the exception range.
///
/// The range has 2^48 numbers, then it repeats.
pub(crate) fn exception(n: u64) -> u64 {
    (u64::from(EXCEPTIONS) << SPACE_SHIFT) | (n & LOW_MASK)
}
