// SPDX-License-Identifier: GPL-2.0

//! The table of regular files, and which backing file a call goes to.

use super::writing::Writing;
use crate::bindings;
use crate::fs::{
    access::backing::{
        BackingFile,
        OpenFile, //
    },
    base::{
        gate::anew,
        seats::Doing, //
    },
    objects::{
        cred::Cred,
        file::File,
        inode::Locked,
        section::Section, //
    },
    operations::mountable::Mountable, //
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// `file_operations` of regular files of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    /// The backing file of `file` that carries reading now, with the user's flags.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `T`, no directory.
    #[inline(always)] // Nearly always it is the one that is open.
    pub(in crate::fs) unsafe fn real<'a>(file: *mut bindings::file) -> Result<&'a BackingFile> {
        // SAFETY: By the caller's contract.
        let real = unsafe {
            match Self::opened(File::from_raw(file)) {
                Some(real) => real,
                None => Self::reopened(File::from_raw(file))?,
            }
        };
        real.follow_flags(file)?;
        Ok(real)
    }

    /// The same, without the flags, where another instance is on top than at the last use.
    ///
    /// # Safety
    ///
    /// As for [`Self::real`].
    #[cold]
    unsafe fn reopened(file: &File<T>) -> Result<&BackingFile> {
        let reading = file.inode().sb().read();
        // SAFETY: By the caller's contract.
        T::real(reading.section(), file, unsafe { file.data() })
    }

    /// The same, if it is open already: that takes no read section, as nothing is looked at which
    /// the file does not hold.
    ///
    /// # Safety
    ///
    /// As for [`Self::real`].
    #[inline]
    unsafe fn opened(file: &File<T>) -> Option<&BackingFile> {
        // SAFETY: By the caller's contract.
        unsafe { file.data() }.of(file.inode().top_address())
    }

    /// As [`Self::real`], for a request that must not wait: `EAGAIN` if it had to.
    ///
    /// # Safety
    ///
    /// As for [`Self::real`].
    pub(super) unsafe fn real_at_once<'a>(file: *mut bindings::file) -> Result<&'a BackingFile> {
        // SAFETY: By the caller's contract.
        let real = unsafe {
            let file: &'a File<T> = File::from_raw(file);
            Self::opened(file)
        };
        let real = real.filter(|real| real.may_not_wait()).ok_or(EAGAIN)?;
        real.follow_flags(file)?;
        Ok(real)
    }

    /// As [`Self::real`], for changes of the data, which are under way from now on.
    ///
    /// # Safety
    ///
    /// As for [`Self::real`]; `locked` must be its inode.
    #[inline]
    pub(in crate::fs) unsafe fn real_for_write<'a, 'b>(
        file: *mut bindings::file,
        locked: &'b Locked<'_, T>,
    ) -> Result<(&'a BackingFile, Writing<'b>)> {
        // SAFETY: By the caller's contract.
        let (this, data): (&'a File<T>, &'a OpenFile) = unsafe {
            let this: &'a File<T> = File::from_raw(file);
            (this, this.data())
        };
        let passing = this.inode().sb().pass();
        if let Some(real) = T::real_at_hand(passing.section(), this, data) {
            let writing = Writing::pass(locked, &passing);
            drop(passing);
            real.follow_flags(file)?;
            return Ok((real, writing));
        }
        drop(passing);
        // SAFETY: By the caller's contract.
        unsafe { Self::real_to_come(file, locked) }
    }

    /// The same with the backing file that `find` finds.
    ///
    /// # Safety
    ///
    /// As for [`Self::real_for_write`].
    #[inline(always)] // `find` is known where it is called.
    pub(in crate::fs) unsafe fn real_to_change<'a, 'b>(
        file: *mut bindings::file,
        locked: &'b Locked<'_, T>,
        find: for<'r> fn(Section<'r, T>, &File<T>, &'a OpenFile) -> Result<&'a BackingFile>,
    ) -> Result<(&'a BackingFile, Writing<'b>)> {
        // SAFETY: By the caller's contract.
        let (this, data): (&'a File<T>, &'a OpenFile) = unsafe {
            let this: &'a File<T> = File::from_raw(file);
            (this, this.data())
        };
        let (real, writing) = anew(|| {
            let entered = this.inode().sb().enter(Doing::Write);
            Ok((
                find(entered.section(), this, data)?,
                Writing::new(locked, &entered),
            ))
        })?;
        real.follow_flags(file)?;
        Ok((real, writing))
    }

    /// The credentials for I/O on the backing file.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `T`.
    pub(super) unsafe fn cred<'a>(file: *mut bindings::file) -> &'a Cred {
        // SAFETY: By the caller's contract; an open file holds its super block.
        T::cred(unsafe { File::<T>::from_raw(file) }.inode().sb())
    }

    /// What `fs/backing-file.c` wants to know.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `T`.
    pub(in crate::fs) unsafe fn ctx(file: *mut bindings::file) -> bindings::backing_file_ctx {
        bindings::backing_file_ctx {
            // SAFETY: By the caller's contract.
            cred: unsafe { Self::cred(file) }.as_ptr(),
            // The branch file itself keeps the access time.
            accessed: None,
            end_write: Some(Self::end_write),
        }
    }
}
