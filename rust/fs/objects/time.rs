// SPDX-License-Identifier: GPL-2.0

//! Change times and stamps of inodes.

/// Those of a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// A time of the last change of an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeTime {
    pub(in crate::fs) seconds: i64,
    pub(in crate::fs) nanoseconds: u32,
}

impl ChangeTime {
    /// In one word, which is not 0. `None` if it is some centuries away.
    pub(crate) fn word(self) -> Option<u64> {
        let nanoseconds = i64::from(self.nanoseconds);
        let all = self
            .seconds
            .checked_mul(NANOSECONDS)?
            .checked_add(nanoseconds)?;
        // CAST: Turned so that the least, which is far in the past, is 0.
        Some(all as u64 ^ (1 << 63)).filter(|&word| word != 0)
    }

    /// Reverses [`ChangeTime::word`].
    pub(crate) fn of_word(word: u64) -> Self {
        // CAST: As there; a remainder is small.
        let all = (word ^ (1 << 63)) as i64;
        ChangeTime {
            seconds: all.div_euclid(NANOSECONDS),
            nanoseconds: all.rem_euclid(NANOSECONDS) as u32,
        }
    }

    /// This one, or the next one after `other` if that is not earlier.
    pub(crate) fn after(self, other: Self) -> Self {
        if self > other {
            return self;
        }
        other
            .word()
            .and_then(|word| word.checked_add(1))
            .map_or(other, Self::of_word)
    }
}

/// What tells whether a directory or file was changed since a look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Moves whenever the modification time does.
    pub(super) ctime: ChangeTime,
    pub(super) version: i64,
}

impl Stamp {
    /// The time in it, as one word.
    pub(crate) fn time(&self) -> u64 {
        // CAST: Only compared.
        (self.ctime.seconds as u64)
            .wrapping_mul(NANOSECONDS as u64)
            .wrapping_add(u64::from(self.ctime.nanoseconds))
    }

    /// The version in it, without the note of the VFS's that an inode read anew has.
    pub(crate) fn version(&self) -> u64 {
        // CAST: Only compared.
        (self.version as u64) >> 1
    }
}
