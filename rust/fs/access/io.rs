// SPDX-License-Identifier: GPL-2.0

//! Foreign files and directories that the kernel opens for itself: copy-up, listings.

use crate::bindings;
use crate::compat::errno::EOPNOTSUPP;
use crate::fs::{
    base::ret::{
        from_err_ptr,
        to_result, //
    },
    objects::{
        dentry::Dentry,
        path::{
            PathRef,
            Writable, //
        },
        sb, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// A foreign file opened by the kernel for itself, with the credentials in force.
///
/// # Invariants
///
/// The value owns a reference to the file, and no other task uses the position of the file: a
/// method that moves the position borrows the value exclusively.
pub(crate) struct KernelFile(NonNull<bindings::file>);

// SAFETY: `struct file` is shared between threads by design.
unsafe impl Send for KernelFile {}

// SAFETY: As above. Of the position, which is no atomic, a shared reference offers a read at most.
unsafe impl Sync for KernelFile {}

/// What a copy of file data did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Data from here up to, not including, there.
    Data(i64, i64),
    /// Nothing but a hole follows.
    End,
}

impl KernelFile {
    /// A file that was just opened, or an error pointer.
    pub(in crate::fs) fn new(file: *mut bindings::file) -> Result<Self> {
        let file = from_err_ptr(file)?;
        // INVARIANT: The caller passes what an open call returned, never null.
        // SAFETY: As above.
        Ok(KernelFile(unsafe { NonNull::new_unchecked(file) }))
    }

    /// Opens the regular file at `path` for reading, without a change of its access time.
    pub(crate) fn read(path: PathRef<'_>) -> Result<Self> {
        Self::open(
            path,
            bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_NOATIME,
        )
    }

    /// Opens the regular file at `path` for writing.
    pub(crate) fn write(path: PathRef<'_>) -> Result<Self> {
        Self::open(path, bindings::O_WRONLY | bindings::O_LARGEFILE)
    }

    /// Opens the directory at `path`, with or without a change of its access time.
    pub(crate) fn dir(path: PathRef<'_>, keep_atime: bool) -> Result<Self> {
        let atime = if keep_atime { bindings::O_NOATIME } else { 0 };
        Self::open(
            path,
            bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_DIRECTORY | atime,
        )
    }

    /// Opens the directory at `path` for the caller to keep, with `flags` of open(2).
    ///
    /// # Errors
    ///
    /// `EACCES` if the caller may not read it, `EPERM` for `O_NOATIME` on what is not the caller's.
    pub(crate) fn dir_for_user(path: PathRef<'_>, flags: u32) -> Result<Self> {
        let inode = path.dentry().positive()?;
        let idmap = path.mount().idmap();
        // SAFETY: All are valid.
        unsafe {
            to_result(bindings::inode_permission(
                idmap.as_ptr(),
                inode.as_ptr(),
                (bindings::MAY_OPEN | bindings::MAY_READ) as c_int,
            ))?;
            if flags & bindings::O_NOATIME != 0
                && !bindings::inode_owner_or_capable(idmap.as_ptr(), inode.as_ptr())
            {
                return Err(EPERM);
            }
        }
        Self::open(path, flags & !bindings::O_CLOEXEC | bindings::O_DIRECTORY)
    }

    /// Hands the file over to user space, where it is shared like any other.
    pub(crate) fn into_shared(self) -> ARef<kernel::fs::File> {
        let file = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: By the type invariant the reference is ours, and it is given up. No thread can
        // be in `fdget_pos()` on a file that was in no descriptor table.
        unsafe { ARef::from_raw(file.cast()) }
    }

    /// The position up to which the last listing went.
    pub(crate) fn position(&self) -> i64 {
        // SAFETY: The file is open, its position is ours.
        unsafe { (*self.as_ptr()).f_pos }
    }

    fn open(path: PathRef<'_>, flags: u32) -> Result<Self> {
        let raw = path.raw();
        // SAFETY: The path is valid; the current credentials are alive during the call.
        Self::new(unsafe {
            bindings::dentry_open(
                &raw,
                flags as c_int,
                (*kernel::task::Task::current_raw()).cred,
            )
        })
    }

    /// Makes an unnamed regular file in the directory `dir`, open for writing, that can be linked
    /// into it.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the file system has no unnamed files.
    pub(crate) fn unnamed(dir: Writable<'_>, mode: u16) -> Result<Self> {
        let raw = dir.raw();
        // SAFETY: The path is valid; the current credentials are alive during the call.
        Self::new(unsafe {
            bindings::kernel_tmpfile_open(
                dir.idmap(),
                &raw,
                mode | bindings::S_IFREG as u16,
                (bindings::O_LARGEFILE | bindings::O_WRONLY) as c_int,
                (*kernel::task::Task::current_raw()).cred,
            )
        })
    }

    /// The C object.
    pub(in crate::fs) fn as_ptr(&self) -> *mut bindings::file {
        self.0.as_ptr()
    }

    /// The dentry it was opened through.
    pub(crate) fn dentry(&self) -> ARef<Dentry> {
        // SAFETY: An open file holds its dentry.
        unsafe { Dentry::from_raw((*self.as_ptr()).__bindgen_anon_1.f_path.dentry) }.into()
    }

    /// Makes the first `len` bytes of `to` share those of `self`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, `EXDEV` or `EINVAL` if the file systems cannot do that.
    pub(crate) fn clone_to(&self, to: &KernelFile, len: i64) -> Result {
        // SAFETY: Both files are open.
        let done =
            unsafe { bindings::vfs_clone_file_range(self.as_ptr(), 0, to.as_ptr(), 0, len, 0) };
        if done < 0 {
            return Err(Error::from_errno(done as c_int));
        }
        if done == len {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// The next stretch of data at or after `from` and below `end`. File systems that cannot tell
    /// hold data everywhere.
    pub(crate) fn next_data(&mut self, from: i64, end: i64) -> Result<Extent> {
        // SAFETY: The file is open; the call may move its position, which is ours alone.
        let start =
            unsafe { bindings::vfs_llseek(self.as_ptr(), from, bindings::SEEK_DATA as c_int) };
        if start == i64::from(ENXIO.to_errno()) {
            return Ok(Extent::End);
        }
        if start == i64::from(EINVAL.to_errno()) || start == i64::from(EOPNOTSUPP.to_errno()) {
            return Ok(Extent::Data(from, end));
        }
        if start < 0 {
            return Err(Error::from_errno(start as c_int));
        }
        if start >= end {
            return Ok(Extent::End);
        }
        // SAFETY: As above.
        let stop =
            unsafe { bindings::vfs_llseek(self.as_ptr(), start, bindings::SEEK_HOLE as c_int) };
        if stop < 0 {
            return Err(Error::from_errno(stop as c_int));
        }
        Ok(Extent::Data(start, stop.min(end)))
    }

    /// Copies up to `len` bytes at `pos` to the same place in `to`, through the page cache, and
    /// gives how many it copied; 0 at the end of the file.
    pub(crate) fn copy_to(&self, to: &KernelFile, pos: i64, len: usize) -> Result<usize> {
        let (mut from_pos, mut to_pos) = (pos, pos);
        // SAFETY: Both files are open; positions are our own.
        let done = unsafe {
            bindings::do_splice_direct(
                self.as_ptr(),
                &mut from_pos,
                to.as_ptr(),
                &mut to_pos,
                len,
                0,
            )
        };
        usize::try_from(done).map_err(|_| Error::from_errno(done as c_int))
    }

    /// Reads the beginning of the file into `bytes`, and gives how many it has of them.
    pub(crate) fn read_start(&self, bytes: &mut [u8]) -> Result<usize> {
        let mut pos = 0;
        // SAFETY: The file is open for reading; the buffer has the given length.
        let done = unsafe {
            bindings::kernel_read(
                self.as_ptr(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                &mut pos,
            )
        };
        usize::try_from(done).map_err(|_| Error::from_errno(done as c_int))
    }

    /// Writes `bytes` at `pos`, all of them. The caller holds no write access to the mount.
    pub(crate) fn write_at(&self, bytes: &[u8], pos: i64) -> Result {
        let mut pos = pos;
        // SAFETY: The file is open for writing; the buffer has the given length.
        let done = unsafe {
            bindings::kernel_write(self.as_ptr(), bytes.as_ptr().cast(), bytes.len(), &mut pos)
        };
        match usize::try_from(done) {
            Ok(len) if len == bytes.len() => Ok(()),
            Ok(_) => Err(ENOSPC),
            Err(_) => Err(Error::from_errno(done as c_int)),
        }
    }

    /// Seeks in a directory from `pos`, and gives the new position.
    pub(crate) fn seek(&mut self, pos: i64, offset: i64, whence: Whence) -> Result<i64> {
        let whence = match whence {
            Whence::Start => bindings::SEEK_SET,
            Whence::Current => bindings::SEEK_CUR,
            Whence::End => bindings::SEEK_END,
        };
        // SAFETY: The file is open; its position is ours alone.
        let pos = unsafe {
            (*self.as_ptr()).f_pos = pos;
            bindings::vfs_llseek(self.as_ptr(), offset, whence as c_int)
        };
        if pos < 0 {
            return Err(Error::from_errno(pos as c_int));
        }
        Ok(pos)
    }

    /// Brings the file to disk.
    pub(crate) fn sync(&self) -> Result {
        // SAFETY: The file is open.
        to_result(unsafe { bindings::vfs_fsync(self.as_ptr(), 0) })
    }

    /// Calls `f` with name, inode number and `DT_*` type of each entry, `.` and `..` included,
    /// until it gives an error, which is passed on.
    #[inline(never)]
    pub(crate) fn each_entry(&mut self, f: &mut dyn FnMut(&[u8], u64, u8) -> Result) -> Result {
        collect(self, f)
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours. Kernel threads hold no lock under
        // which they open a file.
        unsafe { bindings::ruaufs_helper_put_file(self.as_ptr()) };
    }
}

/// Whether an entry of the type `kind`, one of `DT_*`, may be a directory: some file systems do not
/// tell.
pub(crate) fn may_be_dir(kind: u8) -> bool {
    const DT_UNKNOWN: u8 = 0;
    const DT_DIR: u8 = 4;
    [DT_DIR, DT_UNKNOWN].contains(&kind)
}

/// Whether the current task may not make a file of `size` bytes (`RLIMIT_FSIZE`).
pub(crate) fn over_size_limit(size: i64) -> bool {
    // SAFETY: `current` is always valid.
    unsafe { bindings::ruaufs_helper_over_fsize_limit(size) }
}

/// Runs `f` in a kernel thread, to which the resource limits of the current task do not apply, with
/// the thread's credentials, and waits for it. Memory and I/O are charged to the cgroups of the
/// current task.
pub(crate) fn on_worker<R: Send>(f: impl FnOnce() -> R + Send) -> Option<R> {
    struct Call<F, R> {
        f: Option<F>,
        result: Option<R>,
    }

    /// # Safety
    ///
    /// `arg` must be a `Call<F, R>` that nobody else uses.
    unsafe extern "C" fn run<F: FnOnce() -> R, R>(arg: *mut c_void) {
        // SAFETY: By the contract.
        let call = unsafe { &mut *arg.cast::<Call<F, R>>() };
        call.result = call.f.take().map(|f| f());
    }

    fn start<F: FnOnce() -> R + Send, R: Send>(call: &mut Call<F, R>) {
        let arg: *mut Call<F, R> = call;
        // SAFETY: `run` fits the argument, which lives until the call has ended, and which is
        // ours alone meanwhile.
        unsafe { bindings::ruaufs_helper_call_on_worker(Some(run::<F, R>), arg.cast()) };
    }

    let mut call = Call {
        f: Some(f),
        result: None,
    };
    start(&mut call);
    call.result
}

/// Brings the file system that the mount of `path` belongs to to disk.
pub(crate) fn sync_fs(path: PathRef<'_>) -> Result {
    // SAFETY: The mount is valid; ours is the only `s_umount` that a caller may hold, and super
    // blocks of a union rank above those of its branches.
    unsafe { sb::sync_foreign(path.mount().sb_ptr()) }
}

/// The name that a file system hands to an actor.
///
/// # Safety
///
/// `name` has `len` bytes, which stay as they are for `'a`.
#[inline]
pub(super) unsafe fn name_of<'a>(name: *const c_char, len: c_int) -> &'a [u8] {
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
