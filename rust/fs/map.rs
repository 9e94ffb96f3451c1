// SPDX-License-Identifier: GPL-2.0

//! Memory mappings of open files of ours.
//!
//! A shared mapping of a file that is open for writing may store to it, now or
//! after mprotect(2), and nobody is asked then. So it gets that right only while its
//! instance is one that is written, and who makes a branch read-only sees it:
//!
//! 1. `mmap_region()` counts it as a writable mapping of our inode;
//! 2. in a read section of the gate, which must be open, the instance is found;
//! 3. the core counts the mapping at the instance's inode, then takes it away from
//!    ours.
//!
//! Who has closed the gate, or said that the instance is replaced by a copy
//! ([`Writes::copying`](super::file::Writes::copying)), looks at our inode, then at the
//! instance's. A mapping that is not seen there has yet to find its instance, and waits.
//!
//! # Locking
//!
//! `mmap_lock` is held, under which nothing waits: neither for the gate nor for a copy.
//! What must wait does so on the task's way out of the kernel, with no lock held; then
//! the system call begins anew ([`Later`]).

use super::{
    backing::BackingFile,
    file::{
        File,
        Table, //
    },
    gate::{
        anew,
        Doing, //
    },
    Mountable, //
};
use crate::bindings;
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// What a mapping is to wait for before the system call begins anew.
#[derive(Clone, Copy)]
enum Later {
    /// That the gate is open.
    Gate,
    /// An instance that may be written, and is not being copied.
    Copy,
}

impl Later {
    /// Sees to it; gives what the callback returns.
    fn of<T: Mountable>(self, file: &File<T>) -> Error {
        let wait = match self {
            Self::Gate => wait_for_gate::<T>,
            Self::Copy => make_writable::<T>,
        };
        // SAFETY: The file is open, and the callback gets it back as long as it is.
        let ret = unsafe { bindings::ruaufs_helper_call_before_user(file.as_ptr(), Some(wait)) };
        to_result(ret).err().unwrap_or(EIO)
    }
}

/// # Safety
///
/// `file` must be an open file of `T`; no lock is held.
unsafe extern "C" fn wait_for_gate<T: Mountable>(file: *mut bindings::file) -> c_int {
    // SAFETY: By the contract.
    let file = unsafe { File::<T>::from_raw(file) };
    drop(file.inode().sb().enter(Doing::Open));
    0
}

/// # Safety
///
/// As for [`wait_for_gate`].
unsafe extern "C" fn make_writable<T: Mountable>(file: *mut bindings::file) -> c_int {
    from_result(|| {
        // SAFETY: By the contract.
        let file = unsafe { File::<T>::from_raw(file) };
        let _locked = file.inode().lock_killable()?;
        anew(|| {
            let _entered = file.inode().sb().enter(Doing::Write);
            T::make_writable(file)
        })?;
        Ok(0)
    })
}

/// The backing file to map for `vma`, which may store to it; or the right to do so is taken from
/// `vma`.
///
/// # Safety
///
/// `file` must be open, and `vma` as [`mmap`] gets it.
unsafe fn to_store<T: Mountable>(
    file: &File<T>,
    vma: *mut bindings::vm_area_struct,
) -> Result<Option<&BackingFile>> {
    let Some(_reading) = file.inode().sb().try_enter() else {
        return Err(Later::Gate.of(file));
    };
    if T::writes(file.inode()).are_copied() {
        return Err(Later::Copy.of(file));
    }
    // SAFETY: By the caller's contract.
    let data = unsafe { file.data() };
    // SAFETY: By the caller's contract.
    let stores = unsafe { bindings::ruaufs_helper_vma_stores(vma) };
    match T::real_if_written(file, data)? {
        Some(real) => Ok(Some(real)),
        None if stores => Err(Later::Copy.of(file)),
        None => {
            // SAFETY: By the caller's contract.
            unsafe { bindings::ruaufs_helper_vma_never_stores(vma) };
            Ok(None)
        }
    }
}

/// `file_operations::mmap`.
///
/// # Safety
///
/// Called by the VFS with an open file of ours that is no directory, and `mmap_lock` held.
pub(super) unsafe extern "C" fn mmap<T: Mountable>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    from_result(|| {
        // Opening a file, if it comes to that, takes no lock under which memory of users is
        // touched.
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            let this = File::<T>::from_raw(file);
            let storing = match bindings::ruaufs_helper_vma_may_store(vma) {
                true => to_store(this, vma)?,
                false => None,
            };
            let real = match storing {
                Some(real) => real,
                None => Table::<T>::real(file)?,
            };
            to_result(bindings::backing_file_mmap(
                real.as_ptr(),
                vma,
                &mut Table::<T>::ctx(file),
            ))?;
            let mapped = (*(*vma).vm_file).f_inode;
            if storing.is_some() && mapped != real.inode().as_ptr() {
                T::writes(this.inode()).mapped_beyond();
            }
        }
        Ok(0)
    })
}
