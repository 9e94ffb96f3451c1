// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on files and directories of ours.
//!
//! What is known to the VFS (`FS_IOC_GETFLAGS`, `FICLONE`, `FIEMAP`...) does not come
//! here.

use super::{
    file::File,
    io::KernelFile,
    FileSystem,
    Mountable, //
};
use crate::bindings;
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

/// What a command needs while it is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// What it looks at stays.
    Reading,
    /// The inode is its own (`i_rwsem` is held), and instances may change.
    Changing,
}

/// Callbacks of ioctl(2).
pub(crate) trait Operations: FileSystem {
    /// What `command` needs.
    fn needs(command: u32) -> Needs;

    /// Carries a command out. `ENOTTY` if there is no such command for this file.
    fn ioctl(file: &File<Self>, request: Request) -> Result<isize>;
}

/// Calls `T`.
fn call<T: Mountable>(file: &File<T>, command: u32, arg: usize) -> isize {
    let (inode, request) = (file.inode(), Request { command, arg });
    let result = match T::needs(command) {
        Needs::Reading => {
            let _reading = inode.sb().read();
            T::ioctl(file, request)
        }
        Needs::Changing => {
            // In this order: who holds `i_rwsem` may be waiting for the gate.
            let _locked = inode.lock();
            let _reading = inode.sb().enter();
            T::ioctl(file, request)
        }
    };
    match result {
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
pub(super) unsafe extern "C" fn unlocked<T: Mountable>(
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
pub(super) unsafe extern "C" fn compat<T: Mountable>(
    file: *mut bindings::file,
    command: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: Always callable.
    let arg = unsafe { bindings::ruaufs_helper_compat_ptr(arg) };
    // SAFETY: Valid by the contract of the callback.
    call::<T>(unsafe { File::from_raw(file) }, command, arg)
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
