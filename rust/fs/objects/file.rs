// SPDX-License-Identifier: GPL-2.0

//! Open files of ours that are no directories.

use super::{
    dentry::Dentry,
    inode::Inode, //
};
use crate::bindings;
use crate::fs::types::FileSystem;
use core::marker::PhantomData;
use kernel::types::Opaque;

/// `struct file` of a file system of ours.
///
/// # Invariants
///
/// Unless it is just being opened, `private_data` is an
/// [`OpenFile`](crate::fs::access::backing::OpenFile) or, for a directory, a `KBox` of `T::Dir`.
#[repr(transparent)]
pub(crate) struct File<T: FileSystem>(Opaque<bindings::file>, PhantomData<T>);

impl<T: FileSystem> File<T> {
    /// # Safety
    ///
    /// `ptr` must be a file of `T`, valid for `'a`.
    pub(in crate::fs) unsafe fn from_raw<'a>(ptr: *mut bindings::file) -> &'a Self {
        // SAFETY: `repr(transparent)`; valid by the caller's contract.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::file {
        self.0.get()
    }

    /// The flags of open(2), as F_SETFL may have changed them.
    pub(crate) fn flags(&self) -> u32 {
        // SAFETY: A racy read of one word, as the VFS does it.
        unsafe { (&raw const (*self.as_ptr()).f_flags).read_volatile() }
    }

    /// The flags for opening the backing file.
    pub(crate) fn open_flags(&self) -> u32 {
        self.flags() & !OPEN_ONLY
    }

    /// The position.
    pub(crate) fn pos(&self) -> i64 {
        // SAFETY: A racy read of one word, as the VFS does it.
        unsafe { (&raw const (*self.as_ptr()).f_pos).read_volatile() }
    }

    /// Whether it was opened for writing.
    pub(crate) fn writable(&self) -> bool {
        self.flags() & bindings::O_ACCMODE != bindings::O_RDONLY
    }

    /// Whether the mount it was opened through, or its file system, is read-only now.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: An open file holds its mount.
        unsafe { bindings::__mnt_is_readonly((*self.as_ptr()).__bindgen_anon_1.f_path.mnt) }
    }

    /// The name it was opened through.
    pub(crate) fn dentry(&self) -> &Dentry<T> {
        // SAFETY: An open file holds its dentry, which is of the same file system.
        unsafe { Dentry::from_raw((*self.as_ptr()).__bindgen_anon_1.f_path.dentry) }
    }

    /// The inode.
    pub(crate) fn inode(&self) -> &Inode<T> {
        // SAFETY: An open file holds its inode, which is of the same file system.
        unsafe { Inode::from_raw((*self.as_ptr()).f_inode) }
    }
}

/// Do not change the access time.
pub(crate) const O_NOATIME: u32 = bindings::O_NOATIME;
/// Which of reading and writing it is opened for.
pub(crate) const O_ACCMODE: u32 = bindings::O_ACCMODE;
/// Past the page cache.
pub(crate) const O_DIRECT: u32 = bindings::O_DIRECT;
/// Cut the file to nothing.
pub(crate) const O_TRUNC: u32 = bindings::O_TRUNC;

/// Flags that end with open(2).
pub(in crate::fs) const OPEN_ONLY: u32 =
    bindings::O_CREAT | bindings::O_EXCL | bindings::O_NOCTTY | bindings::O_TRUNC;
