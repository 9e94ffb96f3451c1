// SPDX-License-Identifier: GPL-2.0

//! File system statistics as values.

use crate::bindings;
use crate::fs::{
    base::ret::to_result,
    objects::path::PathRef, //
};
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// What statfs(2) reports.
#[derive(Clone)]
pub(crate) struct Statfs {
    /// The magic number of the type.
    pub(crate) magic: usize,
    /// Bytes in a block.
    pub(crate) block_size: u64,
    /// All blocks.
    pub(crate) blocks: u64,
    /// Free blocks.
    pub(crate) blocks_free: u64,
    /// Free blocks for unprivileged users.
    pub(crate) blocks_available: u64,
    /// All inodes.
    pub(crate) files: u64,
    /// Free inodes.
    pub(crate) files_free: u64,
    /// The longest name of a directory entry, in bytes.
    pub(crate) name_max: u64,
    /// The identity of the file system, as far as it has one.
    pub(crate) fsid: u64,
    /// Bytes in a fragment, 0 for "as a block".
    pub(crate) fragment_size: u64,
    /// The identity of the file system.
    pub(crate) id: u64,
}

impl Statfs {
    /// Those of the file system at `path`.
    #[inline(never)]
    pub(crate) fn of(path: PathRef<'_>) -> Result<Statfs> {
        let mut buf = MaybeUninit::<bindings::kstatfs>::zeroed();
        // SAFETY: The path is valid, the buffer is valid for writes.
        to_result(unsafe { bindings::vfs_statfs(&path.raw(), buf.as_mut_ptr().cast()) })?;
        // SAFETY: Zeroed and filled.
        let buf = unsafe { buf.assume_init() };
        Ok(Statfs {
            magic: buf.f_type as usize,
            block_size: buf.f_bsize as u64,
            blocks: buf.f_blocks,
            blocks_free: buf.f_bfree,
            blocks_available: buf.f_bavail,
            files: buf.f_files,
            files_free: buf.f_ffree,
            name_max: buf.f_namelen as u64,
            fsid: {
                // CAST: The bits matter, not the value.
                let [high, low] = buf.f_fsid.val.map(|word| word as u32);
                (u64::from(high) << 32) | u64::from(low)
            },
            fragment_size: buf.f_frsize as u64,
            id: 0,
        })
    }

    /// Adds the blocks and inodes of another file system, in blocks of the smaller size.
    pub(crate) fn add(&mut self, other: &Statfs) {
        let size = self.block_size.min(other.block_size).max(1);
        let (ours, theirs) = (self.block_size / size, other.block_size / size);
        let sum = |a: u64, b: u64| {
            a.saturating_mul(ours)
                .saturating_add(b.saturating_mul(theirs))
        };
        self.blocks = sum(self.blocks, other.blocks);
        self.blocks_free = sum(self.blocks_free, other.blocks_free);
        self.blocks_available = sum(self.blocks_available, other.blocks_available);
        self.files = self.files.saturating_add(other.files);
        self.files_free = self.files_free.saturating_add(other.files_free);
        self.block_size = size;
        self.fragment_size = 0;
    }

    /// The C form.
    pub(in crate::fs) fn into_raw(self) -> bindings::kstatfs {
        bindings::kstatfs {
            f_type: self.magic as c_long,
            f_bsize: self.block_size as c_long,
            f_blocks: self.blocks,
            f_bfree: self.blocks_free,
            f_bavail: self.blocks_available,
            f_files: self.files,
            f_ffree: self.files_free,
            f_namelen: self.name_max as c_long,
            f_frsize: self.fragment_size as c_long,
            // CAST: Two halves.
            f_fsid: bindings::__kernel_fsid_t {
                val: [self.id as c_int, (self.id >> 32) as c_int],
            },
            ..pin_init::zeroed()
        }
    }
}
