// SPDX-License-Identifier: GPL-2.0

//! Handing entries of directories to user space.
//!
//! # Locking
//!
//! `iterate_dir()` takes the directory's `i_rwsem` shared; the callback runs
//! under it, so it must not touch the directory, nor user memory of ours.

use super::io::{
    self,
    KernelFile, //
};
use crate::bindings;
use crate::fs::base::ret::to_result;
use core::marker::PhantomData;
use kernel::prelude::*;

/// Towards user space: takes entries until it is full.
pub(crate) struct Emitter<'a> {
    pub(in crate::fs) file: *mut bindings::file,
    pub(in crate::fs) ctx: *mut bindings::dir_context,
    pub(in crate::fs) _p: PhantomData<&'a mut ()>,
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
            match (filter.plain)(io::name_of(name, len), ino) {
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
            match (filter.map)(io::name_of(name, len), ino) {
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
