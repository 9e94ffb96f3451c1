// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on files and directories of ours.
//!
//! What is known to the VFS (`FS_IOC_GETFLAGS`, `FICLONE`, `FIEMAP`...) does not come
//! here.
//!
//! A command acts for the program that calls it, on what the program opened. The VFS
//! has checked neither what the mount allows that the file was opened through, nor
//! how much of the file system that shows: a command that changes something has
//! [`WritableFile`], and one that gives away more than the file asks
//! [`File::shows_all`] and [`File::allows_all_of`].

use super::file_ops::File;
use crate::bindings;
use crate::fs::{
    access::io::KernelFile,
    base::ret::to_result,
    objects::path::Mount,
    FileSystem,
    Mountable, //
};
use kernel::{
    fs::file::FileDescriptorReservation,
    prelude::*, //
};

/// A call of ioctl(2).
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// The command.
    pub(crate) command: u32,
    /// The argument; a pointer of a 32-bit program is one of this machine already.
    pub(crate) arg: usize,
}

/// Callbacks of ioctl(2).
pub(crate) trait Operations: FileSystem {
    /// Carries a command out. Runs outside the gate, since it reads and writes memory of the
    /// caller: what it looks at, it looks at in sections of its own.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if there is no such command for this file.
    fn ioctl(file: &File<Self>, request: Request) -> Result<isize>;
}

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

/// A promise that the mount a file was opened through, and our super block, stay writable.
///
/// # Invariants
///
/// `mnt_want_write_file()` succeeded and was not undone.
pub(crate) struct WritableFile<'a, T: FileSystem>(&'a File<T>);

impl<'a, T: FileSystem> WritableFile<'a, T> {
    /// # Errors
    ///
    /// `EROFS` if one of them is read-only.
    pub(crate) fn new(file: &'a File<T>) -> Result<Self> {
        // SAFETY: The file is open.
        to_result(unsafe { bindings::mnt_want_write_file(file.as_ptr()) })?;
        // INVARIANT: Just taken.
        Ok(WritableFile(file))
    }
}

impl<T: FileSystem> Drop for WritableFile<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::mnt_drop_write_file(self.0.as_ptr()) };
    }
}

impl<T: FileSystem> File<T> {
    /// Whether the mount that it was opened through shows all of the file system, with its own
    /// owners, and lies below the root directory of the caller: no bind mount of a part, no
    /// directory that the caller was shut up in, no mount of another world.
    pub(crate) fn shows_all(&self) -> bool {
        // SAFETY: The file is open.
        unsafe { bindings::ruaufs_helper_shows_all(self.as_ptr()) }
    }

    /// Whether the mount that it was opened through allows all that `mount` allows of set-id
    /// bits, devices and programs.
    pub(crate) fn allows_all_of(&self, mount: &Mount) -> bool {
        // SAFETY: An open file holds its mount; both are valid.
        let (ours, other) = unsafe {
            let ours = (*self.as_ptr()).__bindgen_anon_1.f_path.mnt;
            (
                bindings::ruaufs_helper_forbidden(ours),
                bindings::ruaufs_helper_forbidden(mount.as_ptr()),
            )
        };
        ours & !other == 0
    }
}

/// Whether the caller is an administrator of the machine.
pub(crate) fn is_admin() -> bool {
    // SAFETY: Always callable by a task.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}

/// Closes a descriptor at exec.
pub(crate) const O_CLOEXEC: u32 = bindings::O_CLOEXEC;
/// What a directory may be opened with for reading.
pub(crate) const DIR_FLAGS: u32 = bindings::O_NONBLOCK
    | bindings::O_LARGEFILE
    | bindings::O_DIRECTORY
    | bindings::O_NOATIME
    | bindings::O_CLOEXEC;

/// Gives the caller a descriptor of `file`. Of `flags` only [`O_CLOEXEC`] counts.
pub(crate) fn give(flags: u32, file: impl FnOnce() -> Result<KernelFile>) -> Result<isize> {
    let fd = FileDescriptorReservation::get_unused_fd_flags(flags & O_CLOEXEC)?;
    let file = file()?;
    let number = fd.reserved_fd();
    fd.fd_install(file.into_shared());
    isize::try_from(number).map_err(|_| EMFILE)
}
