// SPDX-License-Identifier: GPL-2.0

//! `file_operations` of directories.

use super::ioctl;
use crate::bindings;
use crate::fs::{
    access::{
        dir::Emitter,
        io::{
            KernelFile,
            Whence, //
        }, //
    },
    base::seats::Doing,
    objects::file::File,
    operations::mountable::Mountable, //
};
use core::{
    marker::PhantomData,
    pin::Pin, //
};
use kernel::{
    error::from_result,
    prelude::*,
    types::ForeignOwnable, //
};

/// `file_operations` of directories of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    pub(in crate::fs) const OPERATIONS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        iterate_shared: Some(Self::iterate_shared),
        read: Some(bindings::generic_read_dir),
        llseek: Some(Self::llseek),
        fsync: Some(Self::fsync),
        unlocked_ioctl: Some(ioctl::unlocked::<T>),
        compat_ioctl: Some(ioctl::compat::<T>),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must be an open directory of `T`.
    unsafe fn dir<'a>(file: *mut bindings::file) -> &'a T::Dir {
        // SAFETY: Set by `open`, taken back by `release` only.
        unsafe { &*(*file).private_data.cast() }
    }

    /// # Safety
    ///
    /// Called by the VFS with a directory of ours and a file in the making.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            let this = unsafe { File::from_raw(file) };
            super::file_ops::prepare(this)?;
            let dir = T::open_dir(this)?;
            // SAFETY: As above.
            unsafe { (*file).private_data = dir.into_foreign().cast() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS once, at the last close.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Set by `open`; nobody uses it any more.
        drop(unsafe { Pin::<KBox<T::Dir>>::from_foreign((*file).private_data.cast()) });
        0
    }

    /// # Safety
    ///
    /// Called by the VFS with the directory locked shared.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        from_result(|| {
            let mut out = Emitter {
                file,
                ctx,
                _p: PhantomData,
            };
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let this = File::<T>::from_raw(file);
                let listing = {
                    let entered = this.inode().sb().enter(Doing::List);
                    T::listing(entered.section(), this, Self::dir(file), out.pos())?
                };
                T::emit(this, &listing, &mut out)?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the position locked.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        let whence = match whence as u32 {
            bindings::SEEK_SET => Whence::Start,
            bindings::SEEK_CUR => Whence::Current,
            bindings::SEEK_END => Whence::End,
            _ => return i64::from(EINVAL.to_errno()),
        };
        // SAFETY: Valid by the contract of the callback. Listings and seeks on one file exclude
        // each other by the inode lock, as in `iterate_dir()`.
        unsafe {
            let this = File::<T>::from_raw(file);
            bindings::ruaufs_helper_inode_lock((*file).f_inode);
            let result = T::seek_dir(this, Self::dir(file), offset, whence);
            if let Ok(pos) = result {
                (*file).f_pos = pos;
            }
            bindings::ruaufs_helper_inode_unlock((*file).f_inode);
            result.unwrap_or_else(|error| i64::from(error.to_errno()))
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open directory of ours.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: bindings::loff_t,
        _end: bindings::loff_t,
        _datasync: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            let file = unsafe { File::<T>::from_raw(file) };
            let sb = file.inode().sb();
            let mut dirs: KVec<KernelFile> = KVec::new();
            {
                let _sitting = sb.sit(Doing::Look);
                let reading = sb.read();
                T::to_sync(reading.section(), file, &mut |dir| {
                    Ok(dirs.push(dir, GFP_KERNEL)?)
                })?;
            }
            T::cred(sb).scope(|| dirs.iter().try_for_each(KernelFile::sync))?;
            Ok(0)
        })
    }
}
