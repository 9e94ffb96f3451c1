// SPDX-License-Identifier: GPL-2.0

//! Descriptors for user space, and write access to the mount that a file was opened through.

use super::io::KernelFile;
use crate::bindings;
use crate::fs::{
    base::ret::to_result,
    objects::{
        file::File,
        path::Mount, //
    },
    types::FileSystem, //
};
use kernel::{
    fs::file::FileDescriptorReservation,
    prelude::*, //
};

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
