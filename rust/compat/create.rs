// SPDX-License-Identifier: GPL-2.0

//! `->create()` of `struct inode_operations`: in Linux 7.2 it gets `excl`, too. We need not know
//! it: the name is always absent.

use crate::bindings;
use kernel::prelude::*;

/// `->create()` with the arguments that it has in all kernels.
pub(crate) trait Create {
    /// Makes the regular file `dentry` in the directory `dir`.
    ///
    /// # Safety
    ///
    /// Called by the VFS with the parent locked and a negative dentry.
    unsafe fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int;
}

/// The callback for the table.
///
/// # Safety
///
/// As of [`Create::create`].
pub(crate) unsafe extern "C" fn create<T: Create>(
    idmap: *mut bindings::mnt_idmap,
    dir: *mut bindings::inode,
    dentry: *mut bindings::dentry,
    mode: bindings::umode_t,
    #[cfg(ruaufs_create_excl)] _excl: bool,
) -> c_int {
    // SAFETY: By the caller's contract.
    unsafe { T::create(idmap, dir, dentry, mode) }
}
