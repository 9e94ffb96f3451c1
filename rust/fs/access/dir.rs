// SPDX-License-Identifier: GPL-2.0

//! Reading directories: foreign ones in the kernel, ours for user space.
//!
//! # Locking
//!
//! `iterate_dir()` takes the directory's `i_rwsem` shared; the callback runs
//! under it, so it must not touch the directory, nor user memory of ours.

use super::io::KernelFile;
use crate::bindings;
use crate::fs::{
    base::{
        gate::Doing,
        ret::to_result, //
    },
    callbacks::{
        file_ops::File,
        ioctl, //
    },
    objects::section::Section,
    Mountable, //
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

/// The name that a file system hands to an actor.
///
/// # Safety
///
/// `name` has `len` bytes, which stay as they are for `'a`.
#[inline]
unsafe fn name_of<'a>(name: *const c_char, len: c_int) -> &'a [u8] {
    // SAFETY: By the contract.
    unsafe { core::slice::from_raw_parts(name.cast::<u8>(), len.max(0) as usize) }
}

/// A `dir_context` with what our actor needs.
#[repr(C)]
struct Collector<'a> {
    ctx: bindings::dir_context,
    f: &'a mut dyn FnMut(&[u8], u64, u8) -> Result,
    result: Result,
    seen: bool,
}

/// See [`KernelFile::each_entry`].
pub(in crate::fs) fn collect(
    file: &mut KernelFile,
    f: &mut dyn FnMut(&[u8], u64, u8) -> Result,
) -> Result {
    /// # Safety
    ///
    /// Called by a file system's `iterate_shared()` with the context given to `iterate_dir()`.
    unsafe extern "C" fn actor(
        ctx: *mut bindings::dir_context,
        name: *const c_char,
        len: c_int,
        _pos: bindings::loff_t,
        ino: bindings::u64_,
        dtype: c_uint,
    ) -> bool {
        // SAFETY: `ctx` is the first field of the `Collector` (`repr(C)`); `name` has `len` bytes.
        let (collector, name) = unsafe { (&mut *ctx.cast::<Collector<'_>>(), name_of(name, len)) };
        collector.seen = true;
        // The bits above the type are flags for the actor.
        collector.result = (collector.f)(name, ino, (dtype & 0xff) as u8);
        collector.result.is_ok()
    }

    let mut collector = Collector {
        ctx: bindings::dir_context {
            actor: Some(actor),
            count: c_int::MAX,
            ..pin_init::zeroed()
        },
        f,
        result: Ok(()),
        seen: true,
    };
    // A call may end before the directory does; it has ended when a call gives nothing.
    while core::mem::replace(&mut collector.seen, false) {
        // SAFETY: The file is open; its position is ours alone, as `file` is borrowed exclusively.
        to_result(unsafe {
            bindings::ruaufs_helper_iterate(file.as_ptr(), (&raw mut collector).cast())
        })?;
        core::mem::replace(&mut collector.result, Ok(()))?;
    }
    Ok(())
}

/// Towards user space: takes entries until it is full.
pub(crate) struct Emitter<'a> {
    file: *mut bindings::file,
    ctx: *mut bindings::dir_context,
    _p: PhantomData<&'a mut ()>,
}

impl Emitter<'_> {
    /// The position of the next entry.
    pub(crate) fn pos(&self) -> i64 {
        // SAFETY: The context is valid for the lifetime of the value.
        unsafe { (*self.ctx).pos }
    }

    /// Sets the position of the next entry.
    pub(crate) fn set_pos(&mut self, pos: i64) {
        // SAFETY: As above.
        unsafe { (*self.ctx).pos = pos };
    }

    /// Emits `.` and `..` if the position says so. Whether there is room for more.
    pub(crate) fn dots(&mut self) -> bool {
        // SAFETY: File and context are valid.
        unsafe { bindings::ruaufs_helper_dir_emit_dots(self.file, self.ctx) }
    }

    /// Emits an entry at the current position. Whether it was taken.
    #[inline]
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, dtype: u8) -> bool {
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        // SAFETY: The context is valid, and the VFS set its actor; the name has `len` bytes.
        unsafe {
            let Some(actor) = (*self.ctx).actor else {
                return false;
            };
            let dtype = c_uint::from(dtype);
            actor(
                self.ctx,
                name.as_ptr().cast(),
                len,
                (*self.ctx).pos,
                ino,
                dtype,
            )
        }
    }
}

/// A `dir_context` that changes entries on their way to another one.
#[repr(C)]
struct Filter<P, M> {
    ctx: bindings::dir_context,
    inner: *mut bindings::dir_context,
    plain: P,
    map: M,
}

/// Passes the entries of `real` on to `out`, at the positions that `real` gives them. `map` says
/// which number an entry gets, or `None` to hide it.
///
/// `plain` is asked first: it knows the numbers of nearly all entries, and calls nothing, so that
/// the way to user space is a jump. That saves half of what an entry costs here.
pub(crate) fn pass_through<P, M>(
    real: &mut KernelFile,
    out: &mut Emitter<'_>,
    plain: P,
    map: M,
) -> Result
where
    P: Fn(&[u8], u64) -> Option<u64>,
    M: FnMut(&[u8], u64) -> Option<u64>,
{
    /// # Safety
    ///
    /// Called by a file system's `iterate_shared()` with the context given to `iterate_dir()`.
    unsafe extern "C" fn actor<P, M>(
        ctx: *mut bindings::dir_context,
        name: *const c_char,
        len: c_int,
        pos: bindings::loff_t,
        ino: bindings::u64_,
        dtype: c_uint,
    ) -> bool
    where
        P: Fn(&[u8], u64) -> Option<u64>,
        M: FnMut(&[u8], u64) -> Option<u64>,
    {
        // SAFETY: `ctx` is the first field of the `Filter` (`repr(C)`); `name` has `len` bytes.
        unsafe {
            let filter = &*ctx.cast::<Filter<P, M>>();
            match (filter.plain)(name_of(name, len), ino) {
                Some(ino) => pass::<P, M>(ctx, name, len, pos, ino, dtype),
                None => actor_of_others::<P, M>(ctx, name, len, pos, ino, dtype),
            }
        }
    }

    /// # Safety
    ///
    /// As for `actor`.
    #[cold]
    unsafe extern "C" fn actor_of_others<P, M>(
        ctx: *mut bindings::dir_context,
        name: *const c_char,
        len: c_int,
        pos: bindings::loff_t,
        ino: bindings::u64_,
        dtype: c_uint,
    ) -> bool
    where
        M: FnMut(&[u8], u64) -> Option<u64>,
    {
        // SAFETY: As in `actor`; nobody else has the filter.
        unsafe {
            let filter = &mut *ctx.cast::<Filter<P, M>>();
            match (filter.map)(name_of(name, len), ino) {
                Some(ino) => pass::<P, M>(ctx, name, len, pos, ino, dtype),
                None => true,
            }
        }
    }

    /// # Safety
    ///
    /// As for `actor`.
    #[inline(always)]
    unsafe fn pass<P, M>(
        ctx: *mut bindings::dir_context,
        name: *const c_char,
        len: c_int,
        pos: bindings::loff_t,
        ino: u64,
        dtype: c_uint,
    ) -> bool {
        // SAFETY: As in `actor`; the inner context is that of the emitter, with an actor set by
        // the VFS.
        unsafe {
            let inner = (*ctx.cast::<Filter<P, M>>()).inner;
            (*inner).pos = (*ctx).pos;
            match (*inner).actor {
                Some(actor) => actor(inner, name, len, pos, ino, dtype),
                None => false,
            }
        }
    }

    // SAFETY: The emitter's context is valid; the position of `real`, which is borrowed
    // exclusively, is ours alone.
    unsafe {
        if (*real.as_ptr()).f_pos != out.pos() {
            let pos = bindings::vfs_llseek(real.as_ptr(), out.pos(), bindings::SEEK_SET as c_int);
            if pos < 0 {
                return Err(Error::from_errno(pos as c_int));
            }
        }
        let mut filter = Filter {
            ctx: bindings::dir_context {
                actor: Some(actor::<P, M>),
                pos: out.pos(),
                count: (*out.ctx).count,
                dt_flags_mask: (*out.ctx).dt_flags_mask,
            },
            inner: out.ctx,
            plain,
            map,
        };
        let ret = bindings::ruaufs_helper_iterate(real.as_ptr(), (&raw mut filter).cast());
        (*out.ctx).pos = filter.ctx.pos;
        to_result(ret)
    }
}

/// Callbacks on open directories.
pub(crate) trait Operations: crate::fs::callbacks::file_ops::Operations {
    /// What entries are read from.
    type Listing;

    /// open(2).
    fn open_dir(file: &File<Self>) -> Result<Pin<KBox<Self::Dir>>>;

    /// getdents(2): what the entries from the position `pos` on are read from. The directory is
    /// locked shared.
    fn listing(
        section: Section<'_, Self>,
        file: &File<Self>,
        dir: &Self::Dir,
        pos: i64,
    ) -> Result<Self::Listing>;

    /// getdents(2): emits entries from the emitter's position on. The directory is locked shared.
    /// Runs outside the gate, since it writes to memory of users.
    fn emit(file: &File<Self>, listing: &Self::Listing, out: &mut Emitter<'_>) -> Result;

    /// lseek(2): the new position for one that the VFS found valid, or an error. Runs outside the
    /// gate.
    fn seek_dir(file: &File<Self>, dir: &Self::Dir, offset: i64, whence: Whence) -> Result<i64>;

    /// fsync(2): calls `f` with each foreign directory that is to be brought to disk.
    fn to_sync(
        section: Section<'_, Self>,
        file: &File<Self>,
        f: &mut dyn FnMut(KernelFile) -> Result,
    ) -> Result;
}

/// From where lseek(2) counts in a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whence {
    /// From the beginning.
    Start,
    /// From the current position.
    Current,
    /// From the end.
    End,
}

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
            crate::fs::callbacks::file_ops::prepare(this)?;
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
