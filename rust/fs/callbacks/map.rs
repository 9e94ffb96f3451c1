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
//! ([`Writes::copying`](crate::fs::objects::writes::Writes::copying)), looks at our inode, then at
//! the instance's. A mapping that is not seen there has yet to find its instance, and waits.
//!
//! # Mappings in place of others
//!
//! With `MAP_FIXED` the kernel unmaps what was there before it calls `->mmap()`: a call that begins
//! anew would leave nothing there meanwhile. So what there is to wait for is waited for earlier, in
//! `->get_unmapped_area()`, and the mapping is *reserved*: it counts as a writable mapping of our
//! inode until the system call has ended. Then the gate is looked at, and whether there is a copy
//! under way. Who closes the gate or begins to copy later finds the count. So as long as a mapping
//! of the inode is reserved there is nothing for `->mmap()` to wait for, whosever it is: who closed
//! the gate after that mapping had gone finds ours, which was counted before it went.
//!
//! `->get_unmapped_area()` is not told whether the mapping is to store at once, so that an
//! instance must be made for it. It is an argument of the system call; where that has another form
//! (`mmap` of 32-bit x86, the old one) the call begins anew as without `MAP_FIXED`.
//!
//! # Locking
//!
//! `mmap_lock` is held, under which nothing waits: neither for the gate nor for a copy.
//! What must wait does so on the task's way out of the kernel, with no lock held; then
//! the system call begins anew ([`Later`]).

use super::file_table::Table;
use crate::bindings;
use crate::fs::{
    access::backing::BackingFile,
    base::{
        gate::anew,
        ret::to_result,
        seats::Doing, //
    },
    objects::file::File,
    operations::mountable::Mountable, //
};
use kernel::{
    error::from_result,
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
            let entered = file.inode().sb().enter(Doing::Write);
            T::make_writable(entered.section(), file)
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
    let writes = T::writes(file.inode());
    let reading = if writes.has_reserved_mapping() {
        file.inode().sb().read()
    } else {
        let Some(reading) = file.inode().sb().try_enter() else {
            return Err(Later::Gate.of(file));
        };
        if writes.are_copied() {
            return Err(Later::Copy.of(file));
        }
        reading
    };
    // SAFETY: By the caller's contract.
    let data = unsafe { file.data() };
    // SAFETY: By the caller's contract.
    let stores = unsafe { bindings::ruaufs_helper_vma_stores(vma) };
    match T::real_if_written(reading.section(), file, data)? {
        Some(real) => Ok(Some(real)),
        None if stores => Err(Later::Copy.of(file)),
        None => {
            // SAFETY: By the caller's contract.
            unsafe { bindings::ruaufs_helper_vma_never_stores(vma) };
            Ok(None)
        }
    }
}

/// A mapping that counts as a writable one of the inode of a file.
struct Counted<'a, T: Mountable>(&'a File<T>);

impl<'a, T: Mountable> Counted<'a, T> {
    fn new(file: &'a File<T>) -> Result<Self> {
        // SAFETY: The inode is valid.
        to_result(unsafe { bindings::ruaufs_helper_map_writable(file.inode().as_ptr()) })?;
        Ok(Counted(file))
    }
}

impl<T: Mountable> Drop for Counted<'_, T> {
    fn drop(&mut self) {
        // SAFETY: Counted by `new()`.
        unsafe { bindings::ruaufs_helper_unmap_writable(self.0.inode().as_ptr()) };
    }
}

/// # Safety
///
/// `file` must be an open file of `T` with a reserved mapping, which it has no more then.
unsafe extern "C" fn unreserve<T: Mountable>(file: *mut bindings::file) {
    // SAFETY: By the contract.
    let counted = Counted(unsafe { File::<T>::from_raw(file) });
    T::writes(counted.0.inode()).unreserve_mapping();
    drop(counted);
}

/// Reserves a mapping that may store. `stores` says that it does so at once.
///
/// # Errors
///
/// What makes the system call begin anew when there is nothing to wait for any more; `ENOMEM`; what
/// opening a copy gives.
///
/// # Safety
///
/// `file` must be an open file of `T`, no directory.
unsafe fn reserve<T: Mountable>(file: &File<T>, stores: bool) -> Result {
    let inode = file.inode();
    let writes = T::writes(inode);
    // First: see the module documentation.
    let counted = Counted::new(file)?;
    {
        let Some(reading) = inode.sb().try_enter() else {
            return Err(Later::Gate.of(file));
        };
        // SAFETY: By the caller's contract.
        let data = unsafe { file.data() };
        let written = || T::real_if_written(reading.section(), file, data);
        if writes.are_copied() || (stores && written()?.is_none()) {
            return Err(Later::Copy.of(file));
        }
    }
    writes.reserve_mapping();
    // SAFETY: The file is open, and the callback gets it back as long as it is.
    let ret = unsafe { bindings::ruaufs_helper_call_at_end(file.as_ptr(), Some(unreserve::<T>)) };
    if ret != 0 {
        writes.unreserve_mapping();
        return to_result(ret);
    }
    // `unreserve()` takes it back.
    core::mem::forget(counted);
    Ok(())
}

/// `file_operations::get_unmapped_area`: nothing was unmapped yet.
///
/// # Safety
///
/// Called by the VFS with an open file of ours that is no directory, and `mmap_lock` held.
pub(in crate::fs) unsafe extern "C" fn get_unmapped_area<T: Mountable>(
    file: *mut bindings::file,
    addr: c_ulong,
    len: c_ulong,
    pgoff: c_ulong,
    flags: c_ulong,
) -> c_ulong {
    let kind = flags & bindings::RUAUFS_MAP_TYPE;
    let shared =
        kind == bindings::RUAUFS_MAP_SHARED || kind == bindings::RUAUFS_MAP_SHARED_VALIDATE;
    // SAFETY: Valid by the contract of the callback.
    unsafe {
        if shared && flags & bindings::RUAUFS_MAP_FIXED != 0 {
            let this = File::<T>::from_raw(file);
            let stores = bindings::ruaufs_helper_mmap_stores(addr, len);
            let reserved = match this.writable() {
                true => reserve(this, stores),
                false => Ok(()),
            };
            if let Err(error) = reserved {
                // CAST: An address that is an error, as the kernel has it.
                return error.to_errno() as c_ulong;
            }
        }
        bindings::mm_get_unmapped_area(file, addr, len, pgoff, flags)
    }
}

/// `file_operations::mmap`.
///
/// # Safety
///
/// Called by the VFS with an open file of ours that is no directory, and `mmap_lock` held.
pub(in crate::fs) unsafe extern "C" fn mmap<T: Mountable>(
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
