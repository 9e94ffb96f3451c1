// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on files and directories of ours.
//!
//! What is known to the VFS (`FS_IOC_GETFLAGS`, `FICLONE`, `FIEMAP`...) does not come
//! here.
//!
//! A command acts for the program that calls it, on what the program opened. The VFS
//! has checked neither what the mount allows that the file was opened through, nor
//! how much of the file system that shows: a command that changes something has
//! [`WritableFile`](crate::fs::access::descriptor::WritableFile), and one that gives away more than
//! the file asks [`File::shows_all`] and [`File::allows_all_of`].

use crate::bindings;
use crate::fs::{
    objects::file::File,
    operations::{
        ioctl::Request,
        mountable::Mountable, //
    }, //
};
use kernel::prelude::*;

/// Calls `T`.
fn call<T: Mountable>(file: &File<T>, command: u32, arg: usize) -> isize {
    match T::ioctl(file, Request { command, arg }) {
        Ok(value) => value,
        // CAST: An errno fits.
        Err(error) => error.to_errno() as isize,
    }
}

/// `file_operations::unlocked_ioctl`.
///
/// # Safety
///
/// Called by the VFS with an open file or directory of ours.
pub(in crate::fs) unsafe extern "C" fn unlocked<T: Mountable>(
    file: *mut bindings::file,
    command: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: Valid by the contract of the callback.
    call::<T>(unsafe { File::from_raw(file) }, command, arg)
}

/// `file_operations::compat_ioctl`.
///
/// # Safety
///
/// Called by the VFS with an open file or directory of ours.
pub(in crate::fs) unsafe extern "C" fn compat<T: Mountable>(
    file: *mut bindings::file,
    command: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: Always callable.
    let arg = unsafe { bindings::ruaufs_helper_compat_ptr(arg) };
    // SAFETY: Valid by the contract of the callback.
    call::<T>(unsafe { File::from_raw(file) }, command, arg)
}
