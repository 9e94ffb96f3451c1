// SPDX-License-Identifier: GPL-2.0

//! Files in `/proc` that take commands.
//!
//! C header: [`include/linux/proc_fs.h`](srctree/include/linux/proc_fs.h).

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::from_result,
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// What such a file does.
pub(crate) trait Commands: 'static {
    /// What it is about.
    type Target: Send + Sync;
    /// An open file; dropped when it is closed.
    type Open: Send + Sync;

    /// Whether read(2) gives [`answer`](Self::answer); otherwise the file is only written.
    const ANSWERS: bool;

    /// open(2).
    fn open(target: &Arc<Self::Target>) -> Result<KBox<Self::Open>>;

    /// write(2) of one command.
    fn command(open: &Self::Open, opener: Opener<'_>, text: &[u8]) -> Result;

    /// read(2): fills `room` with what comes next, and returns how much that is.
    fn answer(_open: &Self::Open, _room: &mut [u8]) -> usize {
        0
    }
}

/// Who opened a file.
#[derive(Clone, Copy)]
pub(crate) struct Opener<'a>(NonNull<bindings::file>, PhantomData<&'a bindings::file>);

impl Opener<'_> {
    /// Whether that was an administrator of the machine, by the credentials at open(2).
    pub(crate) fn is_admin(self) -> bool {
        // SAFETY: The file is open for the lifetime of the value; `init_user_ns` is static.
        unsafe {
            bindings::file_ns_capable(
                self.0.as_ptr(),
                &raw mut bindings::init_user_ns,
                bindings::CAP_SYS_ADMIN as c_int,
            )
        }
    }
}

/// The longest command.
const COMMAND_MAX: usize = 64;
/// The most that one read(2) gives.
const ANSWER_MAX: usize = 256;

/// A directory below `/proc` of our own. Dropping it removes it.
///
/// # Invariants
///
/// It is the directory's entry. It outlives the files in it, which hold a reference.
pub(crate) struct ControlDir(NonNull<bindings::proc_dir_entry>);

// SAFETY: procfs serialises access to its entries.
unsafe impl Send for ControlDir {}

// SAFETY: As above; a shared reference leads nowhere.
unsafe impl Sync for ControlDir {}

impl ControlDir {
    /// Makes the directory `path`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if the directory exists.
    pub(crate) fn new(path: &'static CStr) -> Result<Arc<Self>> {
        // SAFETY: The path is a string.
        let dir = unsafe { bindings::proc_mkdir(path.as_char_ptr(), core::ptr::null_mut()) };
        // INVARIANT: Just made.
        let dir = ControlDir(NonNull::new(dir).ok_or(ENOMEM)?);
        Ok(Arc::new(dir, GFP_KERNEL)?)
    }
}

impl Drop for ControlDir {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is empty.
        unsafe { bindings::proc_remove(self.0.as_ptr()) };
    }
}

/// A file in such a directory. Dropping it removes it.
///
/// # Invariants
///
/// `entry` is the file's, in `_dir`; the file's data is `_target`.
pub(crate) struct ControlFile<C: Commands> {
    entry: NonNull<bindings::proc_dir_entry>,
    _dir: Arc<ControlDir>,
    _target: Arc<C::Target>,
}

// SAFETY: procfs serialises access to its entries.
unsafe impl<C: Commands> Send for ControlFile<C> {}

// SAFETY: As above; a shared reference leads nowhere.
unsafe impl<C: Commands> Sync for ControlFile<C> {}

impl<C: Commands> ControlFile<C> {
    /// Makes the file, for root alone.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if it exists.
    pub(crate) fn new(
        dir: &Arc<ControlDir>,
        name: &'static CStr,
        target: Arc<C::Target>,
    ) -> Result<Self> {
        // SAFETY: The name is a string; the table is static, and the data lives as long as the
        // entry, as `drop()` removes the entry first.
        let entry = unsafe {
            bindings::proc_create_data(
                name.as_char_ptr(),
                if C::ANSWERS { 0o600 } else { 0o200 },
                dir.0.as_ptr(),
                &Table::<C>::OPERATIONS,
                (&raw const *target).cast_mut().cast(),
            )
        };
        // INVARIANT: Just made.
        Ok(ControlFile {
            entry: NonNull::new(entry).ok_or(ENOMEM)?,
            _dir: dir.clone(),
            _target: target,
        })
    }
}

impl<C: Commands> Drop for ControlFile<C> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. It waits for calls that are under way and closes the
        // files that are open (`proc_entry_rundown()`).
        unsafe { bindings::proc_remove(self.entry.as_ptr()) };
    }
}

/// The `proc_ops` of a file.
struct Table<C>(PhantomData<C>);

impl<C: Commands> Table<C> {
    const OPERATIONS: bindings::proc_ops = bindings::proc_ops {
        proc_open: Some(Self::open),
        proc_read: if C::ANSWERS { Some(Self::read) } else { None },
        proc_write: Some(Self::write),
        proc_lseek: Some(bindings::noop_llseek),
        proc_release: Some(Self::release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by procfs with a file in the making.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: The data of the entry (`pde_data()`) is what `ControlFile::new()` gave, a
            // value in an `Arc` which the `ControlFile` holds as long as the entry is there.
            let target = unsafe {
                let data: *const C::Target = (*inode).i_private.cast_const().cast();
                core::mem::ManuallyDrop::new(Arc::from_raw(data))
            };
            let open = C::open(&target)?;
            // SAFETY: The file is ours to fill.
            unsafe { (*file).private_data = KBox::into_raw(open).cast() };
            Ok(0)
        })
    }

    /// The state of an open file.
    ///
    /// # Safety
    ///
    /// `file` must have been opened by `open`, and stay so for `'a`.
    unsafe fn state<'a>(file: *mut bindings::file) -> &'a C::Open {
        // SAFETY: Set by `open`, and freed by `release` alone.
        unsafe { &*(*file).private_data.cast() }
    }

    /// # Safety
    ///
    /// Called by procfs with an open file and memory of the caller.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        text: *const c_char,
        len: usize,
        _pos: *mut bindings::loff_t,
    ) -> isize {
        let command = || -> Result<usize> {
            if len > COMMAND_MAX {
                return Err(EINVAL);
            }
            let mut buffer = [0; COMMAND_MAX];
            let text_buffer = buffer.get_mut(..len).ok_or(EINVAL)?;
            UserSlice::new(UserPtr::from_ptr(text.cast_mut().cast()), len)
                .reader()
                .read_slice(text_buffer)?;
            let opener = Opener(NonNull::new(file).ok_or(EINVAL)?, PhantomData);
            // SAFETY: The file is open.
            C::command(unsafe { Self::state(file) }, opener, text_buffer)?;
            Ok(len)
        };
        Self::result(command())
    }

    /// # Safety
    ///
    /// Called by procfs with an open file and memory of the caller.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        text: *mut c_char,
        len: usize,
        _pos: *mut bindings::loff_t,
    ) -> isize {
        let answer = || -> Result<usize> {
            let mut buffer = [0; ANSWER_MAX];
            let room = buffer.get_mut(..len.min(ANSWER_MAX)).ok_or(EINVAL)?;
            // SAFETY: The file is open.
            let given = C::answer(unsafe { Self::state(file) }, room);
            UserSlice::new(UserPtr::from_ptr(text.cast()), len)
                .writer()
                .write_slice(room.get(..given).ok_or(EINVAL)?)?;
            Ok(given)
        };
        Self::result(answer())
    }

    /// What a call returns.
    fn result(result: Result<usize>) -> isize {
        match result {
            // CAST: At most `COMMAND_MAX` or `ANSWER_MAX`; an errno fits, too.
            Ok(len) => len as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by procfs once, at the last close or when the entry is removed.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Set by `open`; nobody uses it any more.
        drop(unsafe { KBox::<C::Open>::from_raw((*file).private_data.cast()) });
        0
    }
}
