// SPDX-License-Identifier: GPL-2.0

//! Backing files: files of a foreign file system that carry the I/O of ours.
//!
//! I/O goes through `fs/backing-file.c`, which acts with given credentials and
//! lets `/proc/PID/maps` show our path. Plain reads and writes, which are hot, do
//! what it does with fewer calls ([`BackingFile::is_plain`]).

use crate::bindings;
use crate::fs::{
    base::{
        once::load_acquire,
        ret::{
            from_err_ptr,
            to_result, //
        }, //
    },
    objects::{
        cred::Cred,
        file::File,
        inode::{
            Address,
            Inode, //
        },
        path::{
            PathRef,
            Writable, //
        },
        time::Stamp, //
    },
    types::FileSystem, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Atomic,
            Full, //
        }, //
    },
    types::Opaque, //
};

/// Flags of open(2) that F_SETFL can change, and that a backing file has as the user's file has
/// them.
const CHANGEABLE: u32 = bindings::O_NONBLOCK | bindings::O_DIRECT;

/// An open file of a foreign file system.
///
/// # Invariants
///
/// Instances are refcounted by `get_file()`/`fput()`.
#[repr(transparent)]
pub(crate) struct BackingFile(Opaque<bindings::file>);

// SAFETY: `struct file` is shared between threads by design. Its position is written by lseek(2) on
// the one file of ours that it belongs to, with the position of that locked, and read by nobody
// else.
unsafe impl Send for BackingFile {}

// SAFETY: As above.
unsafe impl Sync for BackingFile {}

// SAFETY: `get_file()`/`fput()` count references.
unsafe impl AlwaysRefCounted for BackingFile {
    fn inc_ref(&self) {
        // SAFETY: `&self` shows that there is a reference.
        unsafe { bindings::get_file(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference of its own.
        unsafe { bindings::fput(obj.as_ptr().cast()) };
    }
}

impl BackingFile {
    /// Opens the object at `path` for the user's file, with `flags` of open(2).
    ///
    /// # Errors
    ///
    /// `EACCES` if `cred` may not, `EPERM` for immutable and append-only objects, and what the
    /// file system's open gives.
    pub(crate) fn open<T: FileSystem>(
        user: &File<T>,
        flags: u32,
        path: PathRef<'_>,
        cred: &Cred,
    ) -> Result<ARef<Self>> {
        let raw = path.raw();
        let inode = path.dentry().positive()?;
        refuse_overwriting(inode, flags)?;
        let file = cred.scope(|| {
            // SAFETY: All are valid.
            unsafe {
                to_result(bindings::inode_permission(
                    path.mount().idmap().as_ptr(),
                    inode.as_ptr(),
                    access_mode(flags),
                ))?;
                from_err_ptr(bindings::backing_file_open(
                    user.as_ptr(),
                    flags as c_int,
                    &raw,
                    cred.as_ptr(),
                ))
            }
        })?;
        // SAFETY: The call gave a reference, never null.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file).cast()) })
    }

    /// Makes an unnamed file in the directory `dir` for the user's file. The credentials in force
    /// decide about its owner.
    pub(crate) fn tmpfile<T: FileSystem>(
        user: &File<T>,
        flags: u32,
        dir: Writable<'_>,
        mode: u16,
    ) -> Result<ARef<Self>> {
        let raw = dir.raw();
        // SAFETY: All are valid; the current credentials are alive during the call.
        let file = from_err_ptr(unsafe {
            bindings::backing_tmpfile_open(
                user.as_ptr(),
                flags as c_int,
                &raw,
                mode,
                (*kernel::task::Task::current_raw()).cred,
            )
        })?;
        // SAFETY: The call gave a reference, never null.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file).cast()) })
    }

    /// The C object.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::file {
        self.0.get()
    }

    /// The dentry it was opened through.
    pub(crate) fn dentry(&self) -> &crate::fs::objects::dentry::Dentry {
        // SAFETY: An open file holds its dentry.
        unsafe {
            crate::fs::objects::dentry::Dentry::from_raw(
                (*self.as_ptr()).__bindgen_anon_1.f_path.dentry,
            )
        }
    }

    /// Its inode.
    #[inline]
    pub(in crate::fs) fn inode(&self) -> &Inode {
        // SAFETY: An open file holds its inode; `f_inode` never changes.
        unsafe { Inode::from_raw((*self.as_ptr()).f_inode) }
    }

    /// Whether it can carry out `request`, for a file of ours, by a plain call of its operations.
    /// The rest is left to `fs/backing-file.c`: what completes later, and what may be refused.
    #[inline]
    pub(in crate::fs) fn is_plain(&self, request: &bindings::kiocb) -> bool {
        let unusual = bindings::RUAUFS_IOCB_DIRECT | bindings::RUAUFS_IOCB_NOWAIT;
        let unusual_here = bindings::RUAUFS_IOCB_DIRECT | bindings::RUAUFS_IOCB_APPEND;
        // SAFETY: The file is open; its flags are a single word, read racily as the VFS does.
        let flags = unsafe { (*self.as_ptr()).f_iocb_flags };
        request.ki_complete.is_none()
            && request.ki_flags & unusual == 0
            && flags as c_int & unusual_here == 0
    }

    /// Whether its file system reads by requests.
    #[inline]
    pub(in crate::fs) fn reads(&self) -> bool {
        // SAFETY: An open file has operations.
        unsafe { (*(*self.as_ptr()).f_op).read_iter.is_some() }
    }

    /// Whether its file system writes by requests.
    #[inline]
    pub(in crate::fs) fn writes(&self) -> bool {
        // SAFETY: An open file has operations.
        unsafe { (*(*self.as_ptr()).f_op).write_iter.is_some() }
    }

    /// Whether it may be written.
    #[inline]
    pub(crate) fn writable(&self) -> bool {
        // SAFETY: The file is open; this bit of its mode does not change.
        unsafe { (*self.as_ptr()).f_mode & bindings::RUAUFS_FMODE_WRITE != 0 }
    }

    /// Whether it takes requests that must not wait (RWF_NOWAIT).
    pub(in crate::fs) fn may_not_wait(&self) -> bool {
        // SAFETY: The file is open; this bit of its mode does not change.
        unsafe { (*self.as_ptr()).f_mode & bindings::RUAUFS_FMODE_NOWAIT != 0 }
    }

    /// Whether data can be shared between it and others.
    pub(in crate::fs) fn shares_data(&self) -> bool {
        // SAFETY: An open file has operations.
        unsafe { (*(*self.as_ptr()).f_op).remap_file_range.is_some() }
    }

    /// Whether its file system wants to know of each close(2).
    #[inline]
    pub(in crate::fs) fn flushes(&self) -> bool {
        // SAFETY: An open file has operations.
        unsafe { (*(*self.as_ptr()).f_op).flush.is_some() }
    }

    /// Change time and version of its inode, for comparison.
    pub(in crate::fs) fn stamp(&self) -> Stamp {
        self.inode().stamp()
    }

    /// Makes sure that its stamp shows the next change, if that is possible, and says whether it
    /// is.
    pub(in crate::fs) fn watch(&self) -> bool {
        self.inode().watch()
    }

    /// Takes over flags that the user changed by F_SETFL since the file was opened. Appending is
    /// left to requests, which can do without it (RWF_NOAPPEND), unless the object is append-only.
    #[inline]
    pub(in crate::fs) fn follow_flags(&self, user: *mut bindings::file) -> Result {
        // SAFETY: Both files are open; flags are single words, read racily as the VFS does.
        let (ours, theirs) = unsafe { ((*user).f_flags, (*self.as_ptr()).f_flags) };
        if (ours ^ theirs) & CHANGEABLE == 0 && theirs & bindings::O_APPEND == 0 {
            return Ok(());
        }
        // SAFETY: The file is open; the helper locks it.
        to_result(unsafe { bindings::ruaufs_helper_change_flags(self.as_ptr(), ours) })
    }
}

/// The backing files of an open file of ours: the newest, and those before it, which others may be
/// using still.
///
/// As nearly all have one, this is the word that `private_data` is: to open a file takes no memory
/// of ours.
///
/// # Invariants
///
/// The word is a file whose reference it owns or, with the lowest bit set, a `KBox<Newer>`.
#[repr(transparent)]
pub(crate) struct OpenFile(Atomic<*mut c_void>);

/// A backing file that came after another.
struct Newer {
    real: ARef<BackingFile>,
    /// The word before.
    before: *mut c_void,
}

/// A word of [`OpenFile`].
enum Word {
    First(NonNull<BackingFile>),
    Newer(NonNull<Newer>),
}

impl Word {
    const NEWER: usize = 1;

    /// # Safety
    ///
    /// `word` must come from an [`OpenFile`].
    #[inline]
    unsafe fn of(word: *mut c_void) -> Self {
        let pointer = word.map_addr(|address| address & !Self::NEWER);
        // SAFETY: By the type invariant it is no null pointer.
        unsafe {
            if word.addr() & Self::NEWER == 0 {
                Word::First(NonNull::new_unchecked(pointer).cast())
            } else {
                Word::Newer(NonNull::new_unchecked(pointer).cast())
            }
        }
    }
}

// SAFETY: What is shared are files.
unsafe impl Send for OpenFile {}

// SAFETY: As above; the word is replaced atomically, and what it led to stays.
unsafe impl Sync for OpenFile {}

impl OpenFile {
    /// A file that was opened as `real`.
    pub(crate) fn new(real: ARef<BackingFile>) -> Self {
        const { assert!(align_of::<bindings::file>() > Word::NEWER) };
        // INVARIANT: The reference is the word's; files are aligned to more than the bit.
        OpenFile(Atomic::new(ARef::into_raw(real).as_ptr().cast()))
    }

    /// The files, newest first.
    #[inline]
    fn iter(&self) -> impl Iterator<Item = &BackingFile> {
        let mut next = load_acquire(&self.0);
        core::iter::from_fn(move || {
            if next.is_null() {
                return None;
            }
            // SAFETY: By the type invariant. What a word led to lives as long as `self`.
            unsafe {
                match Word::of(next) {
                    Word::First(file) => {
                        next = ptr::null_mut();
                        Some(file.as_ref())
                    }
                    Word::Newer(newer) => {
                        let newer: &Newer = newer.as_ref();
                        next = newer.before;
                        Some(&*newer.real)
                    }
                }
            }
        })
    }

    /// The file that was opened last.
    #[inline]
    pub(crate) fn newest(&self) -> &BackingFile {
        // SAFETY: By the type invariant; what a word led to lives as long as `self`.
        unsafe {
            match Word::of(load_acquire(&self.0)) {
                Word::First(file) => file.as_ref(),
                Word::Newer(newer) => &newer.as_ref().real,
            }
        }
    }

    /// The file whose inode lies there.
    #[inline]
    pub(crate) fn of(&self, inode: Address) -> Option<&BackingFile> {
        self.iter().find(|file| file.inode().address() == inode)
    }

    /// Goes on with `real` after `known`. If somebody else did so before, `real` is closed again.
    pub(crate) fn go_on(&self, known: &BackingFile, real: ARef<BackingFile>) -> Result {
        let before = load_acquire(&self.0);
        if !ptr::eq(self.newest(), known) {
            return Ok(());
        }
        let newer = KBox::into_raw(KBox::new(Newer { real, before }, GFP_KERNEL_ACCOUNT)?);
        let word = newer.cast::<c_void>();
        let word = word.map_addr(|address| address | Word::NEWER);
        if self.0.cmpxchg(before, word, Full).is_err() {
            // SAFETY: Nobody else has seen it.
            drop(unsafe { KBox::from_raw(newer) });
        }
        Ok(())
    }

    /// Closes the files: at once where there is but one, else on the task's way out of the kernel.
    /// Not under a lock.
    pub(in crate::fs) fn close(self) {
        let word = load_acquire(&self.0);
        // SAFETY: By the type invariant; nobody uses it any more.
        match unsafe { Word::of(word) } {
            Word::First(file) => {
                core::mem::forget(self);
                // SAFETY: The reference was the word's. The last one goes through `release()` of
                // our own file, which runs with no lock held, as `__fput_sync()` demands.
                unsafe { bindings::__fput_sync(file.as_ptr().cast()) };
            }
            Word::Newer(_) => drop(self),
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut next = load_acquire(&self.0);
        while !next.is_null() {
            // SAFETY: By the type invariant; nobody uses it any more.
            unsafe {
                match Word::of(next) {
                    Word::First(file) => {
                        next = ptr::null_mut();
                        drop(ARef::from_raw(file));
                    }
                    Word::Newer(newer) => {
                        let newer = KBox::from_raw(newer.as_ptr());
                        next = newer.before;
                        drop(newer);
                    }
                }
            }
        }
    }
}

/// `EPERM` if the object may only be appended to, and `flags` of open(2) ask for more. Not all
/// kernels look at that of a backing file.
#[inline]
fn refuse_overwriting(inode: &Inode, flags: u32) -> Result {
    if flags & bindings::O_ACCMODE == bindings::O_RDONLY || flags & bindings::O_APPEND != 0 {
        return Ok(());
    }
    // SAFETY: The inode is valid; a racy read of one word.
    let attributes = unsafe { (&raw const (*inode.as_ptr()).i_flags).read_volatile() };
    if attributes & bindings::RUAUFS_S_APPEND != 0 {
        return Err(EPERM);
    }
    Ok(())
}

/// `MAY_*` for open(2) flags.
fn access_mode(flags: u32) -> c_int {
    let mut mask = bindings::MAY_OPEN;
    match flags & bindings::O_ACCMODE {
        bindings::O_RDONLY => mask |= bindings::MAY_READ,
        bindings::O_WRONLY => mask |= bindings::MAY_WRITE,
        _ => mask |= bindings::MAY_READ | bindings::MAY_WRITE,
    }
    if flags & bindings::O_APPEND != 0 {
        mask |= bindings::MAY_APPEND;
    }
    mask as c_int
}

impl<T: FileSystem> File<T> {
    /// # Safety
    ///
    /// The file must be open and no directory.
    #[inline]
    pub(in crate::fs) unsafe fn data(&self) -> &OpenFile {
        // SAFETY: By the type invariant.
        unsafe { &*(&raw const (*self.as_ptr()).private_data).cast() }
    }
}
