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
pub(crate) trait Commands: Send + Sync + 'static {
    /// An open file; dropped when it is closed.
    type Open: Send + Sync;

    /// open(2).
    fn open(this: &Arc<Self>) -> Result<KBox<Self::Open>>;

    /// write(2) of one command.
    fn command(open: &Self::Open, text: &[u8]) -> Result;
}

/// The longest command.
const COMMAND_MAX: usize = 64;

/// The file `/proc/fs/DIR/NAME` in a directory of its own. Dropping it removes both.
///
/// # Invariants
///
/// `dir` is the directory, in which the file is; the file's data is `target`.
pub(crate) struct ControlFile<T: Commands> {
    dir: NonNull<bindings::proc_dir_entry>,
    _target: Arc<T>,
}

// SAFETY: procfs serialises access to its entries.
unsafe impl<T: Commands> Send for ControlFile<T> {}
// SAFETY: As above; a shared reference leads nowhere.
unsafe impl<T: Commands> Sync for ControlFile<T> {}

impl<T: Commands> ControlFile<T> {
    /// Makes the file, for root alone. `dir` is a path below `/proc`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if the directory exists.
    pub(crate) fn new(dir: &'static CStr, name: &'static CStr, target: Arc<T>) -> Result<Self> {
        // SAFETY: Both names are strings; the table is static, and the data lives as long as the
        // entry, as `drop()` removes the entry first.
        unsafe {
            let dir = bindings::proc_mkdir(dir.as_char_ptr(), core::ptr::null_mut());
            let dir = NonNull::new(dir).ok_or(ENOMEM)?;
            let file = bindings::proc_create_data(
                name.as_char_ptr(),
                0o200,
                dir.as_ptr(),
                &Table::<T>::OPERATIONS,
                (&raw const *target).cast_mut().cast(),
            );
            if file.is_null() {
                bindings::proc_remove(dir.as_ptr());
                return Err(ENOMEM);
            }
            Ok(ControlFile {
                dir,
                _target: target,
            })
        }
    }
}

impl<T: Commands> Drop for ControlFile<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. It removes what is in the directory, too, waits for
        // calls that are under way and closes the files that are open (`proc_entry_rundown()`).
        unsafe { bindings::proc_remove(self.dir.as_ptr()) };
    }
}

/// The `proc_ops` of a file.
struct Table<T>(PhantomData<T>);

impl<T: Commands> Table<T> {
    const OPERATIONS: bindings::proc_ops = bindings::proc_ops {
        proc_open: Some(Self::open),
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
                let data: *const T = (*inode).i_private.cast_const().cast();
                core::mem::ManuallyDrop::new(Arc::from_raw(data))
            };
            let open = T::open(&target)?;
            // SAFETY: The file is ours to fill.
            unsafe { (*file).private_data = KBox::into_raw(open).cast() };
            Ok(0)
        })
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
            // SAFETY: Set by `open`.
            let open = unsafe { &*(*file).private_data.cast::<T::Open>() };
            T::command(open, text_buffer)?;
            Ok(len)
        };
        match command() {
            // CAST: At most `COMMAND_MAX`; an errno fits, too.
            Ok(len) => len as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by procfs once, at the last close or when the entry is removed.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Set by `open`; nobody uses it any more.
        drop(unsafe { KBox::<T::Open>::from_raw((*file).private_data.cast()) });
        0
    }
}
