// SPDX-License-Identifier: GPL-2.0

//! Inode numbers of the union, computed instead of stored.
//!
//! In a *number space* each number means one object. A file system is one, with few exceptions:
//! btrfs has one for each subvolume. So spaces below [`FURTHER`] number the distinct file systems
//! (not branches) of a mount, the others what further ones there are on these. Space [`HOME`] shows
//! its own numbers. Others have a *window* each, in which their numbers fit into 32 bits:
//!
//! ```text
//! 0000 0000 .. 7fff ffff   the numbers of the home space
//! 8000 0000 .. efff ffff   six windows: two each of 2^29, 2^28 and 2^27 numbers
//! f000 0000 .. feff ffff   240 windows of 2^20 numbers
//! ff00 0000 .. ff00 000f   home's 0, 1 and 2
//! ff00 0010 .. ffff fffe   exceptions: a counter
//!
//! 63 62           48 47                                  0
//! +-+---------------+-------------------------------------+
//! |0| 0             | home's number of 2^32 or more       |
//! |0| space         | a number that is not in the window  |   0 < space < 0x7ffe
//! |0| 0x7ffe        | home's number in another's window   |
//! |0| 0x7fff        | the counter went on                 |   exception
//! +-+---------------+-------------------------------------+
//! ```
//!
//! A window belongs to its space from the moment that there is one; until then the home space shows
//! its own numbers there, too, and takes it for good when it first does. Windows are dealt out
//! in pairs of one size: to a file system, and to a further space of any.
//!
//! The top bit is clear, since programs read inode numbers as signed. Nothing is 0 or
//! `0xffff_ffff`, which some take for none, or 1, which stands for bad blocks.
//!
//! # Invariants
//!
//! A number belongs to one object; that of the root is [`ROOT`], no other is below 3.

#![forbid(unsafe_code)]

/// The number of the union's root directory: the one that tools for aufs know.
pub const ROOT: u64 = 2;

/// The space whose numbers are shown as they are.
pub const HOME: u16 = 0;
/// The first of the spaces that are not the first one of a file system.
pub const FURTHER: u16 = 0x4000;

/// Where the windows begin.
const WINDOWS_BEGIN: u64 = 1 << 31;
/// Where the windows of [`SMALL_BITS`] begin, and where they end.
const SMALL_BEGIN: u64 = 0xf000_0000;
const SMALL_END: u64 = 0xff00_0000;
/// The windows that are larger: where they begin, and their sizes as powers of two.
const LARGE: [(u64, u32); 6] = [
    (WINDOWS_BEGIN, 29),
    (0xa000_0000, 29),
    (0xc000_0000, 28),
    (0xd000_0000, 28),
    (0xe000_0000, 27),
    (0xe800_0000, 27),
];
/// The size of a small window, as a power of two.
const SMALL_BITS: u32 = 20;
/// How many windows there are.
// CAST: 246.
pub const WINDOWS: u16 = (LARGE.len() as u64 + ((SMALL_END - SMALL_BEGIN) >> SMALL_BITS)) as u16;

/// Where numbers of the home space are shown that are [`ROOT`] or less.
const RESERVED: u64 = SMALL_END;
/// The exceptions of 32 bits, and how many there are.
const EXCEPTIONS: u64 = RESERVED + 16;
const FEW: u64 = u32::MAX as u64 - EXCEPTIONS;

/// Where the space begins in a wide number.
const SPACE_SHIFT: u32 = 48;
/// The bits below the space.
const LOW_MASK: u64 = (1 << SPACE_SHIFT) - 1;
/// What stands for the home space where a wide number tells it from others.
const HOME_DISPLACED: u16 = 0x7ffe;
/// What stands for the exceptions in a wide number.
const WIDE_EXCEPTION: u16 = 0x7fff;

/// The window of a space, from 0. `None` if there is none for it.
#[inline]
pub fn window(space: u16) -> Option<u16> {
    let window = if space < FURTHER {
        space.wrapping_sub(1).wrapping_mul(2)
    } else {
        space.wrapping_sub(FURTHER).saturating_mul(2) | 1
    };
    (window < WINDOWS).then_some(window)
}

/// Where `window` begins, and its size as a power of two.
#[inline]
fn bounds(window: u16) -> (u64, u32) {
    match LARGE.get(usize::from(window)) {
        Some(&bounds) => bounds,
        None => {
            let at = u64::from(window).wrapping_sub(LARGE.len() as u64);
            (SMALL_BEGIN | (at << SMALL_BITS), SMALL_BITS)
        }
    }
}

/// The window that `number` is in.
fn window_of(number: u64) -> Option<u16> {
    (0..WINDOWS).find(|&window| {
        let (begin, bits) = bounds(window);
        number >> bits == begin >> bits
    })
}

/// A number with its space in it.
#[inline]
fn wide(space: u16, number: u64) -> Option<u64> {
    (number <= LOW_MASK).then_some((u64::from(space) << SPACE_SHIFT) | number)
}

/// Returns the number of the object which has the number `lower` in the space `space`.
///
/// `is_free` is asked of a window in which the home space would show a number of its own: whether
/// the window belongs to no other space, and will not. A space that has a window has claimed it.
///
/// `None` if `lower` or `space` needs more bits than there are: such an object takes a number from
/// [`exception`], which this function never returns.
#[inline]
pub fn pack(space: u16, lower: u64, is_free: impl FnOnce(u16) -> bool) -> Option<u64> {
    const FIRST: u64 = ROOT + 1;
    if space == HOME && lower.wrapping_sub(FIRST) < WINDOWS_BEGIN - FIRST {
        return Some(lower);
    }
    pack_far(space, lower, is_free)
}

/// The same for all but the small numbers of the home space.
#[inline(never)]
fn pack_far(space: u16, lower: u64, is_free: impl FnOnce(u16) -> bool) -> Option<u64> {
    if space == HOME {
        return pack_displaced(lower, is_free);
    }
    if let Some(window) = window(space) {
        let (begin, bits) = bounds(window);
        if lower >> bits == 0 {
            return Some(begin | lower);
        }
    }
    if space >= HOME_DISPLACED {
        return None;
    }
    wide(space, lower)
}

/// The same for numbers of the home space that may mean something else.
#[cold]
fn pack_displaced(lower: u64, is_free: impl FnOnce(u16) -> bool) -> Option<u64> {
    match lower {
        ..=ROOT => Some(RESERVED | lower),
        _ if lower >> 32 != 0 => wide(HOME, lower),
        _ if window_of(lower).is_some_and(is_free) => Some(lower),
        _ => wide(HOME_DISPLACED, lower),
    }
}

/// Returns the `n`-th number of the exceptions.
///
/// There are 2^48, then they repeat.
pub fn exception(n: u64) -> u64 {
    let n = n & LOW_MASK;
    match n {
        ..FEW => EXCEPTIONS.wrapping_add(n),
        _ => (u64::from(WIDE_EXCEPTION) << SPACE_SHIFT) | n,
    }
}

/// Whether `ino` is one of the exceptions.
pub fn is_exception(ino: u64) -> bool {
    (EXCEPTIONS..u64::from(u32::MAX)).contains(&ino)
        || ino >> SPACE_SHIFT == u64::from(WIDE_EXCEPTION)
}
