// SPDX-License-Identifier: GPL-2.0

//! What tells a lower file from all others, now and at the next mount.

#![forbid(unsafe_code)]

use super::branch::{
    Branch,
    BranchTable,
    Slot, //
};
use crate::fs::{
    access::statfs::Statfs,
    objects::path::Path, //
};
use crate::logic::{
    hash,
    plink::{
        FsId,
        Origin, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Types of file systems that nobody writes to, and that have no identity of their own.
const IMAGES: [&[u8]; 4] = [b"squashfs", b"iso9660", b"cramfs", b"romfs"];

/// What tells the file system of `root` from others, also at the next mount; `None` if nothing
/// does.
pub(crate) fn identity(root: &Path) -> Result<Option<FsId>> {
    let fs_type = root.mount().type_name().to_bytes();
    let mut id = root.mount().uuid();
    if IMAGES.contains(&fs_type) {
        // Another image has another size, or other files, or at least another root.
        let statfs = Statfs::of(root.here())?;
        let inode = root.dentry().positive()?;
        let mut all: KVec<u8> = KVec::new();
        for number in [
            statfs.magic as u64,
            statfs.block_size,
            statfs.blocks,
            statfs.files,
            inode.ino(),
            // CAST: The bits matter, not the value.
            inode.mtime().0 as u64,
        ] {
            all.extend_from_slice(&number.to_be_bytes(), GFP_KERNEL)?;
        }
        let halves = [hash::Key(1, 2).hash64(&all), hash::Key(3, 4).hash64(&all)];
        for (to, from) in id
            .iter_mut()
            .zip(halves.iter().flat_map(|half| half.to_be_bytes()))
        {
            *to = from;
        }
        return Ok(Some(id));
    }
    if id == [0; 16] || fs_type == b"bcachefs" {
        return Ok(None);
    }
    if fs_type == b"btrfs" {
        // Each subvolume numbers its files by itself.
        let fsid = Statfs::of(root.here())?.fsid.to_be_bytes();
        for (to, from) in id.iter_mut().zip(fsid) {
            *to ^= from;
        }
    }
    Ok(Some(id))
}

/// Whether another file system of the union looks the same as that of `branch`.
pub(crate) fn has_twin(table: &BranchTable, branch: &Branch) -> bool {
    let twin = |other: &Arc<Branch>| other.fs != branch.fs && other.identity == branch.identity;
    table.order.iter().any(twin)
}

/// What is noted of the instance `slot`, if it can be recognised later.
#[inline(never)]
pub(crate) fn of(table: &BranchTable, slot: &Slot) -> Result<Option<Origin>> {
    let branch = slot.branch();
    let Some(fs) = branch.identity else {
        return Ok(None);
    };
    if has_twin(table, branch) {
        return Ok(None);
    }
    let inode = slot.inode()?;
    Ok(Some(Origin {
        fs,
        ino: inode.ino(),
        generation: inode.generation(),
        // CAST: Four bits are left.
        kind: (inode.mode() >> 12) as u8,
        mtime: inode.mtime(),
        // CAST: A size is not negative.
        size: inode.size() as u64,
    }))
}
