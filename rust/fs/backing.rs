// SPDX-License-Identifier: GPL-2.0

//! Backing files: files of a foreign file system that carry the I/O of ours.
//!
//! All I/O goes through `fs/backing-file.c`, which acts with given credentials,
//! keeps notifications quiet, and lets `/proc/PID/maps` show our path.

use super::{
    cred::Cred,
    file::File,
    inode::{
        Inode,
        Stamp, //
    },
    path::PathRef,
    FileSystem,
    Foreign, //
};
use crate::bindings;
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};

/// Flags of open(2) that F_SETFL can change, and that a backing file has as the user's file has
/// them.
const CHANGEABLE: u32 = bindings::O_NONBLOCK | bindings::O_DIRECT;

/// An open file of a foreign file system.
///
/// # Invariants
///
/// It owns a reference to the file.
pub(crate) struct BackingFile(NonNull<bindings::file>);

// SAFETY: `struct file` is shared between threads by design; its position is not used.
unsafe impl Send for BackingFile {}
// SAFETY: As above.
unsafe impl Sync for BackingFile {}

impl BackingFile {
    /// Opens the object at `path` for the user's file, with `flags` of open(2).
    ///
    /// # Errors
    ///
    /// `EACCES` if `cred` may not, `EPERM` for immutable and append-only objects, and what the
    /// file system's open gives.
    pub(crate) fn open<T: FileSystem>(
        user: &File<T>,
        flags: u32,
        path: PathRef<'_>,
        cred: &Cred,
    ) -> Result<Self> {
        let raw = path.raw();
        let inode = path.dentry.positive()?;
        let file = cred.scope(|| {
            // SAFETY: All are valid.
            unsafe {
                to_result(bindings::inode_permission(
                    path.mount.idmap().as_ptr(),
                    inode.as_ptr(),
                    access_mode(flags),
                ))?;
                from_err_ptr(bindings::backing_file_open(
                    user.as_ptr(),
                    flags as c_int,
                    &raw,
                    cred.as_ptr(),
                ))
            }
        })?;
        // INVARIANT: The call gave a reference, never null.
        // SAFETY: As above.
        Ok(BackingFile(unsafe { NonNull::new_unchecked(file) }))
    }

    /// Makes an unnamed file in the directory `dir` for the user's file. The credentials in force
    /// decide about its owner.
    pub(crate) fn tmpfile<T: FileSystem>(
        user: &File<T>,
        flags: u32,
        dir: PathRef<'_>,
        mode: u16,
    ) -> Result<Self> {
        let raw = dir.raw();
        // SAFETY: All are valid; the current credentials are alive during the call.
        let file = from_err_ptr(unsafe {
            bindings::backing_tmpfile_open(
                user.as_ptr(),
                flags as c_int,
                &raw,
                mode,
                (*kernel::task::Task::current_raw()).cred,
            )
        })?;
        // INVARIANT: The call gave a reference, never null.
        // SAFETY: As above.
        Ok(BackingFile(unsafe { NonNull::new_unchecked(file) }))
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::file {
        self.0.as_ptr()
    }

    /// The dentry it was opened through.
    pub(crate) fn dentry(&self) -> &super::dentry::Dentry {
        // SAFETY: An open file holds its dentry.
        unsafe { super::dentry::Dentry::from_raw((*self.as_ptr()).__bindgen_anon_1.f_path.dentry) }
    }

    /// Whether it is a file of `inode`.
    pub(crate) fn is_of(&self, inode: &Inode) -> bool {
        // SAFETY: `f_inode` never changes.
        ptr::eq(unsafe { (*self.as_ptr()).f_inode }, inode.as_ptr())
    }

    /// Whether it takes requests that must not wait (RWF_NOWAIT).
    pub(super) fn may_not_wait(&self) -> bool {
        // SAFETY: The file is open; this bit of its mode does not change.
        unsafe { (*self.as_ptr()).f_mode & bindings::RUAUFS_FMODE_NOWAIT != 0 }
    }

    /// Whether data can be shared between it and others.
    pub(super) fn shares_data(&self) -> bool {
        // SAFETY: An open file has operations.
        unsafe { (*(*self.as_ptr()).f_op).remap_file_range.is_some() }
    }

    /// Change time and version of its inode, for comparison.
    pub(super) fn stamp(&self) -> Stamp {
        // SAFETY: An open file holds its inode; `f_inode` never changes.
        unsafe { Inode::<Foreign>::from_raw((*self.as_ptr()).f_inode) }.stamp()
    }

    /// Takes over flags that the user changed by F_SETFL since the file was opened. Appending is
    /// left to requests, which can do without it (RWF_NOAPPEND), unless the object is append-only.
    pub(super) fn follow_flags(&self, user: *mut bindings::file) -> Result {
        // SAFETY: Both files are open; flags are single words, read racily as the VFS does.
        let (ours, theirs) = unsafe { ((*user).f_flags, (*self.as_ptr()).f_flags) };
        if (ours ^ theirs) & CHANGEABLE == 0 && theirs & bindings::O_APPEND == 0 {
            return Ok(());
        }
        // SAFETY: The file is open; the helper locks it.
        to_result(unsafe { bindings::ruaufs_helper_change_flags(self.as_ptr(), ours) })
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::fput(self.as_ptr()) };
    }
}

/// `MAY_*` for open(2) flags.
fn access_mode(flags: u32) -> c_int {
    let mut mask = bindings::MAY_OPEN;
    match flags & bindings::O_ACCMODE {
        bindings::O_RDONLY => mask |= bindings::MAY_READ,
        bindings::O_WRONLY => mask |= bindings::MAY_WRITE,
        _ => mask |= bindings::MAY_READ | bindings::MAY_WRITE,
    }
    if flags & bindings::O_APPEND != 0 {
        mask |= bindings::MAY_APPEND;
    }
    mask as c_int
}
