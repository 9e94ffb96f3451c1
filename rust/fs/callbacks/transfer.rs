// SPDX-License-Identifier: GPL-2.0

//! Moving data from one open file of ours to another.

use super::file_table::Table;
use crate::bindings;
use crate::compat::errno::EOPNOTSUPP;
use crate::fs::{
    objects::file::File,
    operations::mountable::Mountable, //
};
use kernel::prelude::*;

/// Which way data goes from file to file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Copy,
    Clone,
    Dedupe,
}

impl<T: Mountable> Table<T> {
    /// Moves data between the backing files of two files of ours.
    ///
    /// # Safety
    ///
    /// Both must be open files of `T`.
    unsafe fn transfer(
        (from, from_pos): (*mut bindings::file, i64),
        (to, to_pos): (*mut bindings::file, i64),
        len: i64,
        flags: c_uint,
        how: Transfer,
    ) -> i64 {
        let result = || -> Result<i64> {
            // SAFETY: By the caller's contract.
            unsafe {
                let target = File::<T>::from_raw(to);
                let locked = target.inode().lock();
                let (to, _writing) = match how {
                    // What is not written is not rearranged either, nor copied for it.
                    Transfer::Dedupe => {
                        Self::real_to_change(to, &locked, |section, file, data| {
                            T::real_if_written(section, file, data)?.ok_or(EROFS)
                        })?
                    }
                    Transfer::Copy | Transfer::Clone => Self::real_for_write(to, &locked)?,
                };
                // After it: if both are one file it may have a copy now.
                let real_from = Self::real(from)?.as_ptr();
                if how == Transfer::Dedupe && !to.shares_data() {
                    return Err(EOPNOTSUPP.into());
                }
                let (real_to, before) = (to.as_ptr(), to.stamp());
                let ret = T::cred(target.inode().sb()).scope(|| match how {
                    Transfer::Copy => {
                        let len = usize::try_from(len).unwrap_or(usize::MAX);
                        let done = bindings::vfs_copy_file_range(
                            real_from, from_pos, real_to, to_pos, len, flags,
                        );
                        // A file system of its own would go through the page cache when its
                        // parts cannot talk to each other.
                        if done == EXDEV.to_errno() as isize
                            || done == EOPNOTSUPP.to_errno() as isize
                        {
                            let (mut from_pos, mut to_pos) = (from_pos, to_pos);
                            bindings::do_splice_direct(
                                real_from,
                                &mut from_pos,
                                real_to,
                                &mut to_pos,
                                len.min(1 << 30),
                                0,
                            ) as i64
                        } else {
                            done as i64
                        }
                    }
                    Transfer::Clone => bindings::vfs_clone_file_range(
                        real_from, from_pos, real_to, to_pos, len, flags,
                    ),
                    Transfer::Dedupe => bindings::vfs_dedupe_file_range_one(
                        real_from, from_pos, real_to, to_pos, len, flags,
                    ),
                });
                let changed = ret > 0 || to.stamp() != before;
                let privileges = Self::remove_privs(target, how != Transfer::Dedupe && changed);
                // The data has changed all the same.
                Self::modified(target);
                privileges?;
                Ok(ret)
            }
        };
        result().unwrap_or_else(|error| i64::from(error.to_errno()))
    }

    /// # Safety
    ///
    /// Called by the VFS with two open files whose operations are these.
    pub(in crate::fs) unsafe extern "C" fn copy_file_range(
        from: *mut bindings::file,
        from_pos: bindings::loff_t,
        to: *mut bindings::file,
        to_pos: bindings::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            Self::transfer((from, from_pos), (to, to_pos), len, flags, Transfer::Copy) as isize
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with two open files of one super block of ours.
    pub(in crate::fs) unsafe extern "C" fn remap_file_range(
        from: *mut bindings::file,
        from_pos: bindings::loff_t,
        to: *mut bindings::file,
        to_pos: bindings::loff_t,
        len: bindings::loff_t,
        flags: c_uint,
    ) -> bindings::loff_t {
        let known = bindings::RUAUFS_REMAP_FILE_DEDUP | bindings::RUAUFS_REMAP_FILE_ADVISORY;
        if flags & !known != 0 {
            return i64::from(EINVAL.to_errno());
        }
        let how = if flags & bindings::RUAUFS_REMAP_FILE_DEDUP != 0 {
            Transfer::Dedupe
        } else {
            Transfer::Clone
        };
        // SAFETY: Valid by the contract of the callback.
        unsafe { Self::transfer((from, from_pos), (to, to_pos), len, flags, how) }
    }
}
