// SPDX-License-Identifier: GPL-2.0

//! What the VFS asks of open files of ours that are no directories.
//!
//! All of them stack: a file system only says which backing file carries the
//! I/O ([`Operations::real`](crate::fs::operations::file::Operations::real)); the rest is the same
//! for all and lives here.
//!
//! # Locking
//!
//! Reads take no lock of ours. What changes data holds the `i_rwsem` of our
//! inode, as `file_remove_privs()` demands, around the foreign one. It decides in a
//! read section of the [`gate`](crate::fs::base::gate) which backing file is written, and
//! writes after it, as memory of users is touched: until the write has ended,
//! [`Writes`](crate::fs::objects::writes::Writes) says so to who closes the gate.
//!
//! An instance that is not to be written is copied with `i_rwsem` held, too, by
//! open(2) as by all others: so no write is under way on the original.
//!
//! [`map`](super::map) has the mappings, [`transfer`](super::transfer) what moves data from file to
//! file.

use super::{
    file_table::Table,
    ioctl,
    map,
    writing::Writing, //
};
use crate::bindings;
use crate::fs::{
    access::backing::{
        BackingFile,
        OpenFile, //
    },
    base::{
        gate::anew,
        ret::to_result,
        seats::Doing, //
    },
    objects::{
        file::{
            File,
            OPEN_ONLY, //
        },
        inode::Locked, //
    },
    operations::mountable::Mountable, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// Has an object prepared that is about to be opened. No lock of it is held.
pub(in crate::fs) fn prepare<T: Mountable>(file: &File<T>) -> Result {
    let inode = file.inode();
    if !T::prepares(inode.sb()) {
        return Ok(());
    }
    let reading = inode.sb().read();
    let wanted = T::to_prepare(reading.section(), file)?;
    drop(reading);
    if !wanted {
        // Who writes to the file, or lists the directory, may hold the lock for long.
        return Ok(());
    }
    // It ranks before the gate.
    let _locked = inode.lock_killable()?;
    anew(|| {
        let entered = inode.sb().enter(Doing::Open);
        T::prepare(entered.section(), file)
    })
}

/// Gives a file just made by `->tmpfile()` its data.
///
/// # Safety
///
/// `file` must be in the making, of `T`, without data.
pub(in crate::fs) unsafe fn attach<T: Mountable>(file: *mut bindings::file, data: OpenFile) {
    let may_not_wait = data.newest().may_not_wait();
    // SAFETY: By the caller's contract.
    unsafe {
        (&raw mut (*file).private_data)
            .cast::<OpenFile>()
            .write(data);
        (*file).f_flags &= !OPEN_ONLY;
        if may_not_wait {
            (*file).f_mode |= bindings::RUAUFS_FMODE_NOWAIT;
        }
    }
}

/// Takes the data of a file away.
///
/// # Safety
///
/// `file` must have been given some by [`attach`], and nobody else may use it any more.
pub(in crate::fs) unsafe fn detach(file: *mut bindings::file) -> OpenFile {
    // SAFETY: By the caller's contract.
    unsafe {
        let data = (&raw const (*file).private_data).cast::<OpenFile>().read();
        (*file).private_data = core::ptr::null_mut();
        data
    }
}

impl<T: Mountable> Table<T> {
    pub(in crate::fs) const OPERATIONS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        splice_read: Some(Self::splice_read),
        splice_write: Some(Self::splice_write),
        mmap: Some(map::mmap::<T>),
        get_unmapped_area: Some(map::get_unmapped_area::<T>),
        fsync: Some(Self::fsync),
        unlocked_ioctl: Some(ioctl::unlocked::<T>),
        compat_ioctl: Some(ioctl::compat::<T>),
        flush: Some(Self::flush),
        fallocate: Some(Self::fallocate),
        fadvise: Some(Self::fadvise),
        copy_file_range: Some(Self::copy_file_range),
        remap_file_range: Some(Self::remap_file_range),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// The mapping operations of our inodes: they have no pages of their own, but
    /// `do_dentry_open()` asks here whether O_DIRECT is possible, which the backing file decides.
    pub(in crate::fs) const ADDRESS_SPACE: bindings::address_space_operations =
        bindings::address_space_operations {
            direct_IO: Some(bindings::noop_direct_IO),
            ..pin_init::zeroed()
        };

    /// As [`Self::real_for_write`], where something may have to be copied.
    ///
    /// # Safety
    ///
    /// As for [`Self::real_for_write`].
    #[cold]
    pub(super) unsafe fn real_to_come<'a, 'b>(
        file: *mut bindings::file,
        locked: &'b Locked<'_, T>,
    ) -> Result<(&'a BackingFile, Writing<'b>)> {
        // SAFETY: By the caller's contract.
        unsafe { Self::real_to_change(file, locked, T::real_for_write) }
    }

    /// The data of `file` was changed.
    pub(in crate::fs) fn modified(file: &File<T>) {
        let reading = file.inode().sb().read();
        T::modified(reading.section(), file.inode());
    }

    /// A write of `file` through `real` has ended with `ret`. Many in a row change neither size
    /// nor times.
    #[inline]
    fn written(file: &File<T>, real: &BackingFile, ret: isize) {
        let inode = file.inode();
        let shown =
            real.inode().address() == inode.top_address() && !inode.differs_by_write(real.inode());
        if !shown || ret < 0 || T::counts_writes(inode.sb()) {
            Self::ended(file, ret);
        }
    }

    /// As [`Self::written`], whatever it changed.
    fn ended(file: &File<T>, ret: isize) {
        Self::modified(file);
        if ret == ENOSPC.to_errno() as isize {
            T::full(file.inode());
        }
    }

    /// Takes away set-id bits and capabilities from the locked inode of `file` if its data was
    /// `changed`. A request that the file system refuses, as it does not know it, must leave them;
    /// so this comes after the request. In between nobody executes the file: it is open for
    /// writing.
    pub(in crate::fs) fn remove_privs(file: &File<T>, changed: bool) -> Result {
        if changed {
            // SAFETY: The file is open, and its inode is locked.
            to_result(unsafe { bindings::file_remove_privs(file.as_ptr()) })?;
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called by `fs/backing-file.c` when a write is done, with the user's request.
    pub(super) unsafe extern "C" fn end_write(iocb: *mut bindings::kiocb, ret: isize) {
        // SAFETY: The request holds the user's file.
        let file = unsafe { File::<T>::from_raw((*iocb).ki_filp) };
        Self::ended(file, ret);
        // SAFETY: The request is valid until this returns; its private word is ours.
        unsafe {
            if (*iocb).ki_complete.is_some() {
                T::writes(file.inode()).unqueue();
                (*iocb).private = iocb.cast();
            }
        }
    }

    /// A write that `fs/backing-file.c` carries out.
    ///
    /// # Safety
    ///
    /// As for `write_iter`; `real` must be a backing file of the request's file.
    unsafe fn write_by_request(
        real: &BackingFile,
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: By the caller's contract. The private word of a request belongs to the file
        // system of its file; a request that was queued may be gone when the call returns.
        unsafe {
            let file = (*iocb).ki_filp;
            let writes = T::writes(File::<T>::from_raw(file).inode());
            let may_queue = (*iocb).ki_complete.is_some();
            if may_queue {
                writes.queue();
                (*iocb).private = core::ptr::null_mut();
            }
            let ret = bindings::backing_file_write_iter(
                real.as_ptr(),
                iter,
                iocb,
                (*iocb).ki_flags,
                &mut Self::ctx(file),
            );
            // Refused before it began: `end_write()` was not called.
            if may_queue
                && ret != -(bindings::RUAUFS_EIOCBQUEUED as isize)
                && (*iocb).private.is_null()
            {
                writes.unqueue();
            }
            ret
        }
    }

    /// open(2) of what must be copied first.
    #[cold]
    fn open_copied(file: &File<T>) -> Result<OpenFile> {
        let inode = file.inode();
        let _locked = inode.lock_killable()?;
        let data = anew(|| {
            let entered = inode.sb().enter(Doing::Open);
            T::open(entered.section(), file, true)
        })?;
        data.ok_or(EIO)
    }

    /// # Safety
    ///
    /// Called by the VFS with a regular file of ours in the making.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let this = File::<T>::from_raw(file);
                prepare(this)?;
                let data = anew(|| {
                    let entered = this.inode().sb().enter(Doing::Open);
                    T::open(entered.section(), this, false)
                })?;
                let data = match data {
                    Some(data) => data,
                    // The lock ranks before the gate.
                    None => Self::open_copied(this)?,
                };
                attach::<T>(file, data);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS once, at the last close.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: It was opened; nobody uses it any more.
        unsafe { detach(file) }.close();
        0
    }

    /// # Safety
    ///
    /// Called by the VFS with the position locked.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // SAFETY: Valid by the contract of the callback.
        let result = unsafe {
            // The position is ours; where the end, the data and the holes are, and how large a
            // position may be, is known to the branch.
            Self::real(file).map(|real| {
                let real = real.as_ptr();
                (*real).f_pos = (*file).f_pos;
                let cred = T::cred(File::<T>::from_raw(file).inode().sb());
                let pos = cred.scope(|| bindings::vfs_llseek(real, offset, whence));
                if pos >= 0 {
                    (*file).f_pos = pos;
                }
                pos
            })
        };
        result.unwrap_or_else(|error| i64::from(error.to_errno()))
    }

    /// # Safety
    ///
    /// Called by the VFS with a request on an open file of ours.
    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            let file = (*iocb).ki_filp;
            let real = if (*iocb).ki_flags & bindings::RUAUFS_IOCB_NOWAIT == 0 {
                Self::real(file)
            } else {
                Self::real_at_once(file)
            };
            match real {
                Ok(real) if real.is_plain(&*iocb) && real.reads() => bindings::ruaufs_helper_read(
                    real.as_ptr(),
                    iocb,
                    iter,
                    Self::cred(file).as_ptr(),
                ),
                Ok(real) => bindings::backing_file_read_iter(
                    real.as_ptr(),
                    iter,
                    iocb,
                    (*iocb).ki_flags,
                    &mut Self::ctx(file),
                ),
                Err(error) => error.to_errno() as isize,
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with a request on an open file of ours.
    unsafe extern "C" fn write_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            let file = (*iocb).ki_filp;
            if bindings::ruaufs_helper_iov_iter_count(iter) == 0 {
                return 0;
            }
            if (*iocb).ki_flags & bindings::RUAUFS_IOCB_NOWAIT != 0 {
                // There are locks of two file systems to wait for.
                return EAGAIN.to_errno() as isize;
            }
            let locked = File::<T>::from_raw(file).inode().lock();
            let (real, _writing) = match Self::real_for_write(file, &locked) {
                Ok(found) => found,
                Err(error) => return error.to_errno() as isize,
            };
            if !(real.is_plain(&*iocb) && real.writes()) {
                return Self::write_by_request(real, iocb, iter);
            }
            let cred = Self::cred(file).as_ptr();
            let ret = bindings::ruaufs_helper_write(real.as_ptr(), iocb, iter, cred);
            Self::written(File::from_raw(file), real, ret);
            ret
        }
    }

    /// Calls `f` with a request of `file` at `pos`, which moves on with it.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `T`, no directory; `pos` must be valid.
    unsafe fn at_position(
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        f: impl FnOnce(*mut bindings::kiocb) -> isize,
    ) -> isize {
        // SAFETY: By the caller's contract; the helper fills the whole request.
        unsafe {
            let mut iocb = core::mem::MaybeUninit::<bindings::kiocb>::zeroed();
            bindings::ruaufs_helper_init_sync_kiocb(iocb.as_mut_ptr(), file);
            let iocb = iocb.assume_init_mut();
            iocb.ki_pos = *pos;
            let ret = f(iocb);
            *pos = iocb.ki_pos;
            ret
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of ours, a position and a pipe.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            let real = match Self::real(file) {
                Ok(real) => real.as_ptr(),
                Err(error) => return error.to_errno() as isize,
            };
            Self::at_position(file, pos, |iocb| {
                let mut ctx = Self::ctx(file);
                bindings::backing_file_splice_read(real, iocb, pipe, len, flags, &mut ctx)
            })
        }
    }

    /// Writes what is in a pipe, and waits for nothing to come: `EAGAIN` if it is empty, 0 if
    /// nobody will fill it either.
    ///
    /// # Safety
    ///
    /// As for `splice_write`.
    unsafe fn splice_what_is_there(
        pipe: *mut bindings::pipe_inode_info,
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: By the caller's contract.
        unsafe {
            let locked = File::<T>::from_raw(file).inode().lock();
            let (real, _writing) = match Self::real_for_write(file, &locked) {
                Ok((real, writing)) => (real.as_ptr(), writing),
                Err(error) => return error.to_errno() as isize,
            };
            Self::at_position(file, pos, |iocb| {
                let mut ctx = Self::ctx(file);
                let flags = flags | bindings::RUAUFS_SPLICE_F_NONBLOCK;
                bindings::backing_file_splice_write(pipe, real, iocb, len, flags, &mut ctx)
            })
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of ours, a position and a pipe. The pipe is locked
    /// below, by the branch: taking our `write_iter()` on the way would turn the lock order round.
    /// An empty pipe is waited for without our lock.
    unsafe extern "C" fn splice_write(
        pipe: *mut bindings::pipe_inode_info,
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        let waits = flags & bindings::RUAUFS_SPLICE_F_NONBLOCK == 0;
        loop {
            if waits {
                // SAFETY: The caller holds the pipe; none of our locks is held.
                let ret = unsafe { bindings::ruaufs_helper_wait_for_pipe(pipe) };
                if ret != 0 {
                    return ret as isize;
                }
            }
            // SAFETY: Valid by the contract of the callback.
            let ret = unsafe { Self::splice_what_is_there(pipe, file, pos, len, flags) };
            // Else somebody was faster to empty it.
            if !waits || ret != EAGAIN.to_errno() as isize {
                return ret;
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of ours.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        start: bindings::loff_t,
        end: bindings::loff_t,
        datasync: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let this = File::<T>::from_raw(file);
                let reading = this.inode().sb().read();
                let real = T::real_for_sync(reading.section(), this, this.data())?;
                drop(reading);
                if let Some(real) = real {
                    T::cred(this.inode().sb()).scope(|| {
                        to_result(bindings::vfs_fsync_range(
                            real.as_ptr(),
                            start,
                            end,
                            datasync,
                        ))
                    })?;
                }
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of ours at each close(2).
    unsafe extern "C" fn flush(file: *mut bindings::file, id: bindings::fl_owner_t) -> c_int {
        // SAFETY: Valid by the contract of the callback. It is the file that was written last
        // that must be flushed; nothing is opened for it.
        unsafe {
            let this = File::<T>::from_raw(file);
            let real = this.data().newest();
            if !real.flushes() {
                return 0;
            }
            T::cred(this.inode().sb())
                .scope(|| bindings::ruaufs_helper_real_flush(real.as_ptr(), id))
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of ours.
    unsafe extern "C" fn fallocate(
        file: *mut bindings::file,
        mode: c_int,
        offset: bindings::loff_t,
        len: bindings::loff_t,
    ) -> c_long {
        let result = || -> Result {
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let this = File::<T>::from_raw(file);
                let locked = this.inode().lock();
                let (real, _writing) = Self::real_for_write(file, &locked)?;
                let (before, shows) = (real.stamp(), real.watch());
                let ret = T::cred(this.inode().sb())
                    .scope(|| bindings::vfs_fallocate(real.as_ptr(), mode, offset, len));
                // Where there is a hole already nothing may have changed.
                let changed = real.stamp() != before || (ret == 0 && !shows);
                let privileges = Self::remove_privs(this, changed);
                // The data has changed all the same.
                Self::modified(this);
                privileges?;
                to_result(ret)
            }
        };
        match result() {
            Ok(()) => 0,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of ours.
    unsafe extern "C" fn fadvise(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        len: bindings::loff_t,
        advice: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let real = Self::real(file)?;
                let cred = T::cred(File::<T>::from_raw(file).inode().sb());
                to_result(
                    cred.scope(|| bindings::vfs_fadvise(real.as_ptr(), offset, len, advice)),
                )?;
            }
            Ok(0)
        })
    }
}
