// SPDX-License-Identifier: GPL-2.0

//! Descriptors that news is read from: a file of no file system.
//!
//! The file keeps the feed alive, and the module loaded, also after what the news is
//! about has gone.
//!
//! C header: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

use super::io::KernelFile;
use crate::bindings;
use crate::compat::module::this_module;
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    sync::{
        poll::PollTable,
        Arc, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// A descriptor does not wait for news.
pub(crate) const O_NONBLOCK: u32 = bindings::O_NONBLOCK;

/// What news comes from.
pub(crate) trait Feed: Send + Sync + 'static {
    /// Gives news of at most `room` bytes to `put`, whose error it returns and which then gets it
    /// again; without any waits for it. How many bytes there were; 0 is the end.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if it is not to wait, `ERESTARTSYS` if a signal came first.
    fn read(&self, room: usize, wait: bool, put: &mut dyn FnMut(&[u8]) -> Result) -> Result<usize>;

    /// Registers who waits, and says whether there is news or the end.
    fn poll(&self, file: &kernel::fs::File, table: PollTable<'_>) -> bool;

    /// The descriptor is closed.
    fn closed(&self);
}

/// Opens a descriptor of `feed`, which is shown as `name`. Of `flags` only [`O_NONBLOCK`] counts.
pub(crate) fn open<T: Feed>(name: &CStr, feed: Arc<T>, flags: u32) -> Result<KernelFile> {
    let data = Arc::into_raw(feed);
    // SAFETY: The table is static, the name a string, which is copied. The file owns the
    // reference if it is made.
    let file = KernelFile::new(unsafe {
        bindings::anon_inode_getfile(
            name.as_char_ptr(),
            &Table::<T>::OPERATIONS,
            data.cast_mut().cast(),
            // CAST: A flag.
            (bindings::O_RDONLY | flags & O_NONBLOCK) as c_int,
        )
    });
    if file.is_err() {
        // SAFETY: No file was made, so the reference is still ours.
        drop(unsafe { Arc::from_raw(data) });
    }
    file
}

/// The `file_operations` of such a file.
struct Table<T>(PhantomData<T>);

impl<T: Feed> Table<T> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module(),
        read: Some(Self::read),
        poll: Some(Self::poll),
        llseek: Some(bindings::noop_llseek),
        release: Some(Self::release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must be one that [`open`] made, and stay open for `'a`.
    unsafe fn feed<'a>(file: *mut bindings::file) -> &'a T {
        // SAFETY: `private_data` is a value in an `Arc` of which the file owns a reference.
        unsafe { &*(*file).private_data.cast::<T>() }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file and memory of the caller.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        to: *mut c_char,
        len: usize,
        _pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: By the contract of the callback.
        let (feed, flags) = unsafe { (Self::feed(file), (*file).f_flags) };
        let mut put = |news: &[u8]| {
            if news.len() > len {
                return Err(EINVAL);
            }
            UserSlice::new(UserPtr::from_ptr(to.cast()), news.len())
                .writer()
                .write_slice(news)
        };
        match feed.read(len, flags & O_NONBLOCK == 0, &mut put) {
            // The VFS believes it.
            Ok(read) if read > len => EIO.to_errno() as isize,
            // CAST: At most `len`, which the VFS limits; an errno fits, too.
            Ok(read) => read as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file and a table, which may be null.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: By the contract of the callback. No `fdget_pos()` is under way on a file that is
        // polled, and its position means nothing.
        let (feed, file, table) = unsafe {
            (
                Self::feed(file),
                kernel::fs::File::from_raw_file(file),
                PollTable::from_raw(table),
            )
        };
        if feed.poll(file, table) {
            bindings::POLLIN | bindings::POLLRDNORM
        } else {
            0
        }
    }

    /// # Safety
    ///
    /// Called by the VFS once, at the last close.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The reference that the file owns is given up; nobody uses it any more.
        let feed = unsafe { Arc::from_raw((*file).private_data.cast::<T>().cast_const()) };
        feed.closed();
        0
    }
}
