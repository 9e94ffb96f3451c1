// SPDX-License-Identifier: GPL-2.0

//! Directories and text files in debugfs, for root alone.
//!
//! Those of the `kernel` crate do not name the module as owner of an open file. debugfs reads the
//! table of functions when a file is closed, which may be after the union, and the module, are
//! gone.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h). Its functions take what
//! they gave for an error, as a directory in which nothing is made, too.

use crate::bindings;
use crate::compat::module::this_module;
use core::marker::PhantomData;
use kernel::{
    debugfs::Writer,
    fmt,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::Arc, //
};

/// A directory. Dropping it removes it.
///
/// # Invariants
///
/// `entry` is what `debugfs_create_dir()` gave. The directory outlives its files and directories,
/// which hold a reference to it.
pub(crate) struct Dir {
    #[cfg(CONFIG_DEBUG_FS)]
    entry: *mut bindings::dentry,
    _parent: Option<Arc<Dir>>,
}

// SAFETY: debugfs serialises access to its entries.
unsafe impl Send for Dir {}

// SAFETY: As above.
unsafe impl Sync for Dir {}

impl Dir {
    /// Makes the directory `name` in `parent`, or at the top.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. If debugfs refuses the directory, nothing is shown in it.
    pub(crate) fn new(parent: Option<&Arc<Dir>>, name: &CStr) -> Result<Arc<Self>> {
        #[cfg(not(CONFIG_DEBUG_FS))]
        let _ = name;
        #[cfg(CONFIG_DEBUG_FS)]
        let entry = {
            let above = parent.map_or(core::ptr::null_mut(), |parent| parent.entry);
            // SAFETY: The name is a string, and the directory above, if any, is there.
            unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), above) }
        };
        // INVARIANT: Just made.
        let dir = Dir {
            #[cfg(CONFIG_DEBUG_FS)]
            entry,
            _parent: parent.cloned(),
        };
        Ok(Arc::new(dir, GFP_KERNEL)?)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is empty.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            bindings::debugfs_remove(self.entry)
        };
    }
}

/// A file that shows `target`. Dropping it removes it.
///
/// # Invariants
///
/// `entry` is what `debugfs_create_file_full()` gave, with the address of `target`.
pub(crate) struct File<T> {
    #[cfg(CONFIG_DEBUG_FS)]
    entry: *mut bindings::dentry,
    _target: Arc<T>,
    _dir: Arc<Dir>,
}

// SAFETY: debugfs serialises access to its entries.
unsafe impl<T: Send + Sync> Send for File<T> {}

// SAFETY: As above; a shared reference leads nowhere.
unsafe impl<T: Send + Sync> Sync for File<T> {}

impl<T: Writer + Send + Sync + 'static> File<T> {
    /// Makes the file `name` in `dir`. If debugfs refuses it, nothing is shown.
    pub(crate) fn new(dir: &Arc<Dir>, name: &'static CStr, target: Arc<T>) -> Self {
        #[cfg(not(CONFIG_DEBUG_FS))]
        let _ = name;
        // SAFETY: The name is a string, the directory is there, and the table is static. The
        // target lives as long as the entry, as `drop()` removes the entry first.
        #[cfg(CONFIG_DEBUG_FS)]
        let entry = unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                0o400,
                dir.entry,
                (&raw const *target).cast_mut().cast(),
                core::ptr::null(),
                &Table::<T>::OPERATIONS,
            )
        };
        // INVARIANT: Just made.
        File {
            #[cfg(CONFIG_DEBUG_FS)]
            entry,
            _target: target,
            _dir: dir.clone(),
        }
    }
}

impl<T> Drop for File<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. It waits for calls that are under way, and none comes
        // after it but `release()`.
        #[cfg(CONFIG_DEBUG_FS)]
        unsafe {
            bindings::debugfs_remove(self.entry)
        };
    }
}

/// The `file_operations` of a file.
struct Table<T>(PhantomData<T>);

impl<T: Writer + Send + Sync + 'static> Table<T> {
    const OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: this_module(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by debugfs, which keeps the entry meanwhile, with a file in the making.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The data of the entry is the target's address. What comes of it is only used by
        // `seq_read()`, while the entry is there.
        unsafe { bindings::single_open(file, Some(Self::show), (*inode).i_private) }
    }

    /// # Safety
    ///
    /// Called by `seq_read()` with a file that `open` opened, whose entry is there.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: Set by `open`; the target is there as long as its entry.
        let target: &T = unsafe { &*(*seq).private.cast() };
        // SAFETY: Valid during the call.
        let out = unsafe { SeqFile::from_raw(seq) };
        seq_print!(out, "{}", Text(target));
        0
    }
}

/// Shows what a [`Writer`] writes.
struct Text<'a, T>(&'a T);

impl<T: Writer> fmt::Display for Text<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(out)
    }
}
