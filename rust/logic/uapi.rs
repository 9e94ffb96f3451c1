// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls: numbers, and the layout of what they exchange with user space.
//!
//! Numbers are in the machine's byte order. 32-bit programs use the same layouts: pointers take
//! eight bytes in each. What is not a field is written as zero.

#![forbid(unsafe_code)]

use super::env::{
    KVec,
    Result,
    EINVAL,
    GFP_KERNEL, //
};

/// Lists all branches' entries of a directory.
pub const RDU: u32 = 0xc040_4100;
/// Turns inode numbers of such entries into those of the union.
pub const RDU_INO: u32 = 0xc040_4101;
/// Opens the root of a writable branch.
pub const WBR_FD: u32 = 0x4008_4102;
/// Tells whether an object keeps a branch busy.
pub const IBUSY: u32 = 0xc018_4103;
/// Moves a file to a lower branch.
pub const MVDOWN: u32 = 0xc060_4104;
/// Tells the branches.
pub const BRINFO: u32 = 0x5000_4105;
/// Opens a file that tells how full branches are.
pub const FHSM_FD: u32 = 0x4004_4106;

/// Declares a structure by its size and the place of each field.
macro_rules! layout {
    (
        $(#[$doc:meta])*
        $name:ident: $size:literal bytes {
            $($(#[$field_doc:meta])* $at:literal: $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        // The kernel reads some and writes others.
        #[cfg_attr(CONFIG_RUST, allow(dead_code))]
        impl $name {
            /// Its size in bytes.
            pub const SIZE: usize = $size;

            /// Each field is inside and aligned.
            const FITS: () = {
                $(
                    assert!($at % size_of::<$type>() == 0);
                    assert!($at + size_of::<$type>() <= $size);
                )*
            };

            /// Reads it.
            pub fn decode(bytes: &[u8; $size]) -> Self {
                const { Self::FITS };
                $name {
                    $($field: {
                        let mut field = [0; size_of::<$type>()];
                        // PANIC: `FITS`.
                        field.copy_from_slice(&bytes[$at..$at + size_of::<$type>()]);
                        <$type>::from_ne_bytes(field)
                    },)*
                }
            }

            /// Writes it.
            pub fn encode(&self) -> [u8; $size] {
                const { Self::FITS };
                let mut bytes = [0; $size];
                // PANIC: `FITS`.
                $(bytes[$at..$at + size_of::<$type>()]
                    .copy_from_slice(&self.$field.to_ne_bytes());)*
                bytes
            }
        }
    };
}

layout! {
    /// `struct aufs_rdu`: a listing under way.
    Rdu: 64 bytes {
        /// Bytes of the buffer; for [`RDU_INO`] the number of entries in it.
        0: amount: u64,
        /// Where the buffer is.
        8: entries: u64,
        /// Must be the size of the structure.
        16: verify: u16,
        /// The unit in which to allocate buffers.
        20: block: u32,
        /// Where the entries that were stored end.
        24: tail: u64,
        /// How many were stored.
        32: stored: u64,
        /// The buffer ended before the directory.
        40: full: u8,
        /// The union shows whiteouts.
        41: show_whiteouts: u8,
        /// The cookie: the position in the directory of the branch `index`.
        48: position: u64,
        /// The cookie: the branch.
        56: index: i16,
        /// The cookie: the branches that the listing began with; 0 at the beginning.
        60: generation: u32,
    }
}

layout! {
    /// `struct au_rdu_ent` without the name, which follows at [`RduEntry::NAME`].
    RduEntry: 16 bytes {
        /// The inode number.
        0: ino: u64,
        /// The branch.
        8: index: i16,
        /// `DT_*`.
        10: kind: u8,
        /// Bytes of the name.
        11: name_len: u8,
        /// For user space: it is a whiteout.
        12: whiteout: u8,
        /// The first byte of the name.
        13: first: u8,
        /// The second byte of the name, or 0.
        14: second: u8,
    }
}

impl RduEntry {
    /// Where the name begins.
    pub const NAME: usize = 13;

    /// The size of an entry with a name of `name_len` bytes: with the end of the name, rounded up.
    pub const fn record_len(name_len: u8) -> usize {
        // NO-OVERFLOW: At most 272.
        (Self::SIZE + name_len as usize + 1).next_multiple_of(8)
    }

    /// Tells whether it is `.`.
    pub fn is_dot(&self) -> bool {
        self.name_len == 1 && self.first == b'.'
    }

    /// Tells whether it is `..`.
    pub fn is_dot_dot(&self) -> bool {
        self.name_len == 2 && self.first == b'.' && self.second == b'.'
    }

    /// Appends the entry with its name, if that makes `records` no longer than `limit`; tells
    /// whether it does.
    pub fn append(&self, name: &[u8], records: &mut KVec<u8>, limit: usize) -> Result<bool> {
        let Ok(name_len) = u8::try_from(name.len()) else {
            // No file system has such names, as a directory entry of the VFS could not hold them.
            return Ok(true);
        };
        let len = Self::record_len(name_len);
        if records.len().saturating_add(len) > limit {
            return Ok(false);
        }
        let head = RduEntry { name_len, ..*self }.encode();
        let (head, _) = head.split_at(Self::NAME);
        // The rest of the header, the end of the name, and what rounds it up.
        let rest = len.saturating_sub(Self::NAME).saturating_sub(name.len());
        let rest = [0; 16].get(..rest).ok_or(EINVAL)?;
        records.reserve(len, GFP_KERNEL)?;
        records.extend_from_slice(head, GFP_KERNEL)?;
        records.extend_from_slice(name, GFP_KERNEL)?;
        records.extend_from_slice(rest, GFP_KERNEL)?;
        Ok(true)
    }
}

layout! {
    /// `struct aufs_wbr_fd`.
    WbrFd: 8 bytes {
        /// Flags of open(2).
        0: flags: u32,
        /// The identity of the branch; negative: the topmost one.
        4: id: i16,
    }
}

layout! {
    /// `struct aufs_ibusy`.
    Ibusy: 24 bytes {
        /// An inode of the union.
        0: ino: u64,
        /// Its inode on the branch, if that keeps the branch busy, else 0.
        8: lower_ino: u64,
        /// The branch.
        16: index: i16,
    }
}

layout! {
    /// `struct aufs_brinfo` without the path, which follows at once.
    BrInfo: 8 bytes {
        /// The identity of the branch.
        0: id: i16,
        /// Bits of permission and attributes.
        4: access: u32,
    }
}

layout! {
    /// `struct aufs_stbr`: how full a branch is.
    Stbr: 40 bytes {
        /// The identity of the branch.
        0: id: i16,
        /// Its position.
        2: index: i16,
        /// `struct aufs_stfs` of its file system: all blocks.
        8: blocks: u64,
        /// Blocks that everybody may use.
        16: available: u64,
        /// All inodes.
        24: files: u64,
        /// Free inodes.
        32: free_files: u64,
    }
}

layout! {
    /// `struct aufs_mvdown`: a file on its way down.
    Mvdown: 96 bytes {
        /// What is wanted, and what became of it.
        0: flags: u32,
        /// The branch it comes from: its identity.
        8: upper_id: i16,
        /// Its position.
        10: upper_index: i16,
        /// `struct aufs_stfs` of its file system, here and below.
        16: upper_blocks: u64,
        /// As [`Stbr::available`].
        24: upper_available: u64,
        /// All inodes.
        32: upper_files: u64,
        /// Free inodes.
        40: upper_free_files: u64,
        /// The branch it goes to.
        48: lower_id: i16,
        /// Its position.
        50: lower_index: i16,
        /// All blocks of its file system.
        56: lower_blocks: u64,
        /// As [`Stbr::available`].
        64: lower_available: u64,
        /// All inodes.
        72: lower_files: u64,
        /// Free inodes.
        80: lower_free_files: u64,
        /// A [`MvdownReason`].
        88: reason: i8,
    }
}

impl Mvdown {
    /// Failures are told in the log.
    pub const DMSG: u32 = 0x1;
    /// A file below is replaced.
    pub const OWLOWER: u32 = 0x2;
    /// The original stays.
    pub const KUPPER: u32 = 0x4;
    /// A branch to move to may be one without `rw`, if its file system is writable. aufs only.
    #[cfg(not(CONFIG_RUST))]
    pub const ROLOWER: u32 = 0x8;
    /// The same for a branch to move from.
    #[cfg(not(CONFIG_RUST))]
    pub const ROUPPER: u32 = 0x20;
    /// `upper_id` is given.
    pub const BRID_UPPER: u32 = 0x80;
    /// `lower_id` is given.
    pub const BRID_LOWER: u32 = 0x100;
    /// To the next branch with the attribute `fhsm`.
    pub const FHSM_LOWER: u32 = 0x200;
    /// Statistics of both file systems are wanted.
    pub const STFS: u32 = 0x400;
    /// They cannot be had.
    pub const STFS_FAILED: u32 = 0x800;
    /// There is no writable branch below the one it went to.
    pub const BOTTOM: u32 = 0x1000;
    /// A branch without `rw` was written. It never is.
    const READ_ONLY_WRITTEN: u32 = 0x10 | 0x40;
    /// Flags of the answer.
    pub const ANSWERS: u32 = Self::READ_ONLY_WRITTEN | Self::STFS_FAILED | Self::BOTTOM;

    /// Returns the reason of a failure, if the kernel said it.
    #[cfg(not(CONFIG_RUST))]
    pub fn reason(&self) -> Option<MvdownReason> {
        use MvdownReason::*;
        let all = [Opaque, Whiteout, Upper, Bottom, NoUpper, NoLower];
        all.into_iter().find(|&reason| reason as i8 == self.reason)
    }

    /// Tells whether a flag is there.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// Why a file cannot be moved down: `enum aufs_mvdown`'s `au_errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MvdownReason {
    /// The errno says it.
    Other = 0,
    /// A directory above the target is opaque.
    Opaque = 1,
    /// A whiteout above the target hides it.
    Whiteout = 2,
    /// There is another one between.
    Upper = 3,
    /// There is no writable branch below.
    Bottom = 4,
    /// The file is not on the upper branch that was given.
    NoUpper = 5,
    /// The lower branch that was given is none, or not below.
    NoLower = 6,
}

impl MvdownReason {
    /// Returns the reason in words.
    pub const fn text(self) -> &'static str {
        match self {
            MvdownReason::Other => "see the error",
            MvdownReason::Opaque => "a directory above the target is opaque",
            MvdownReason::Whiteout => "a whiteout above the target hides it",
            MvdownReason::Upper => "there is another one between",
            MvdownReason::Bottom => "there is no writable branch below",
            MvdownReason::NoUpper => "it is not on the upper branch that was given",
            MvdownReason::NoLower => "the lower branch that was given is not below it",
        }
    }
}

/// The size of a branch in the answer to [`BRINFO`], with its path.
pub const BRINFO_SIZE: usize = 4096;
