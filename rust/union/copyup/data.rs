// SPDX-License-Identifier: GPL-2.0

//! Copy-up of a file's contents.
//!
//! Blocks are shared where both instances are on one file system that can do
//! it. Else the data is copied, stretch by stretch, and holes stay holes. A kill
//! ends the copy.

#![forbid(unsafe_code)]

use super::{
    super::{
        branch::{
            Branch,
            Slot, //
        },
        LowerDentry, //
    },
    Data, //
};
use crate::fs::{
    attr::Change,
    cred::Cred,
    io::{
        self,
        Extent,
        KernelFile, //
    }, //
};
use kernel::prelude::*;

/// Bytes that are copied between two looks for a kill.
const CHUNK: i64 = 1 << 20;

/// Copies the contents of `source` to `to`, which is empty, with the mounter's credentials `cred`.
///
/// The user did not ask for a copy, so the limit of file sizes that a user may have does not
/// count.
pub(super) fn copy(
    cred: &Cred,
    source: &Slot,
    target: &Branch,
    to: &KernelFile,
    to_dentry: &LowerDentry,
    wanted: Data,
) -> Result {
    let size = source.inode()?.size();
    if io::over_size_limit(size) {
        let copied =
            io::on_worker(|| cred.scope(|| copy_here(source, target, to, to_dentry, wanted)));
        return copied.unwrap_or(Err(EIO));
    }
    copy_here(source, target, to, to_dentry, wanted)
}

/// As [`copy`], in this task.
fn copy_here(
    source: &Slot,
    target: &Branch,
    to: &KernelFile,
    to_dentry: &LowerDentry,
    wanted: Data,
) -> Result {
    let size = source.inode()?.size();
    let size = match wanted {
        Data::All => size,
        Data::Before(end) => size.min(end),
    };
    if size == 0 {
        return Ok(());
    }
    let from = KernelFile::read(source.path())?;
    let whole = wanted == Data::All;
    if whole && source.branch().fs == target.fs && from.clone_to(to, size).is_ok() {
        return Ok(());
    }
    let mut pos = 0;
    while pos < size {
        let (start, end) = match from.next_data(pos, size)? {
            Extent::End => break,
            Extent::Data(start, end) => (start, end),
        };
        pos = start;
        while pos < end {
            if io::killed() {
                return Err(EINTR);
            }
            let len = usize::try_from((end - pos).min(CHUNK))?;
            let done = i64::try_from(from.copy_to(to, pos, len)?)?;
            if done == 0 {
                // Somebody cut the original short behind our back.
                return Err(EIO);
            }
            pos = pos.checked_add(done).ok_or(EFBIG)?;
        }
    }
    // A hole at the end.
    if to_dentry.inode().ok_or(EIO)?.size() < size {
        let write = target.want_write()?;
        Change::new()
            .size(size)
            .apply(&target.root.mount, to_dentry)?;
        drop(write);
    }
    Ok(())
}
