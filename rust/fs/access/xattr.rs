// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: of foreign objects, and the handler table of ours.

use crate::bindings;
use crate::fs::{
    base::{
        gate::{
            anew,
            Doing, //
        },
        ret::to_result, //
    },
    objects::{
        dentry::Dentry,
        path::{
            PathRef,
            Writable, //
        }, //
    },
    Mountable, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*, //
};

/// Turns what C counts, or its error, into a `Result`.
fn count(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| Error::from_errno(ret as c_int))
}

/// The buffer as C wants it: null asks for the size.
fn buffer(bytes: &mut [u8]) -> *mut u8 {
    if bytes.is_empty() {
        core::ptr::null_mut()
    } else {
        bytes.as_mut_ptr()
    }
}

/// Reads an attribute of a foreign object into `value`; with an empty buffer gives its size.
///
/// # Errors
///
/// `ENODATA` if it is absent, `ERANGE` if the buffer is too small, `EOPNOTSUPP`, ...
pub(crate) fn get(path: PathRef<'_>, name: &CStr, value: &mut [u8]) -> Result<usize> {
    // SAFETY: All are valid; the buffer has the given length or is null.
    count(unsafe {
        bindings::vfs_getxattr(
            path.mount().idmap().as_ptr(),
            path.dentry().as_ptr(),
            name.as_char_ptr(),
            buffer(value).cast(),
            value.len(),
        )
    })
}

/// Sets an attribute of a foreign object.
///
/// `flags` are `XATTR_CREATE`, `XATTR_REPLACE` or 0.
pub(crate) fn set(path: Writable<'_>, name: &CStr, value: &[u8], flags: i32) -> Result {
    // SAFETY: All are valid; the call takes and drops the inode lock.
    to_result(unsafe {
        bindings::vfs_setxattr(
            path.idmap(),
            path.dentry().as_ptr(),
            name.as_char_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    })
}

/// Removes an attribute of a foreign object.
pub(crate) fn remove(path: Writable<'_>, name: &CStr) -> Result {
    // SAFETY: All are valid; the call takes and drops the inode lock.
    to_result(unsafe {
        bindings::vfs_removexattr(path.idmap(), path.dentry().as_ptr(), name.as_char_ptr())
    })
}

/// Lists the names of a foreign object's attributes, each ended by NUL; with an empty buffer
/// gives the size that is needed.
pub(crate) fn list(dentry: &Dentry, names: &mut [u8]) -> Result<usize> {
    dentry.positive()?;
    // SAFETY: All are valid, the dentry is positive; the buffer has the given length.
    count(unsafe { bindings::vfs_listxattr(dentry.as_ptr(), buffer(names).cast(), names.len()) })
}

/// What is to happen with an attribute at copy-up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyUp {
    /// It is copied.
    Copy,
    /// The LSM makes its own for the copy.
    Discard,
}

/// Asks the LSM what is to happen with the attribute `name` of `source` at copy-up.
pub(crate) fn copy_up_verdict(source: &Dentry, name: &CStr) -> Result<CopyUp> {
    source.positive()?;
    // SAFETY: All are valid, the dentry is positive.
    let ret =
        unsafe { bindings::security_inode_copy_up_xattr(source.as_ptr(), name.as_char_ptr()) };
    match ret {
        0 => Ok(CopyUp::Copy),
        ret if ret == ECANCELED.to_errno() => Ok(CopyUp::Discard),
        // Not an attribute of the LSM's.
        ret if ret == EOPNOTSUPP.to_errno() => Ok(CopyUp::Copy),
        ret => Err(Error::from_errno(ret)),
    }
}

/// Whether the caller may see `trusted.*` names.
pub(crate) fn sees_trusted() -> bool {
    // SAFETY: Always callable.
    unsafe { bindings::ruaufs_helper_cap_for_trusted() != 0 }
}

/// A change of an attribute.
pub(crate) enum Setting<'a> {
    /// To this value, with `XATTR_CREATE`, `XATTR_REPLACE` or 0.
    Value(&'a [u8], i32),
    /// It goes.
    Remove,
}

impl Setting<'_> {
    /// Whether it changes an object that has `present` as the value of the attribute.
    ///
    /// # Errors
    ///
    /// `EEXIST` or `ENODATA` if the attribute must be absent, or present, and is not.
    pub(crate) fn changes(&self, present: Option<&[u8]>) -> Result<bool> {
        match (self, present) {
            (Setting::Value(_, flags), Some(_)) if *flags & XATTR_CREATE != 0 => Err(EEXIST),
            (Setting::Value(_, flags), None) if *flags & XATTR_REPLACE != 0 => Err(ENODATA),
            (Setting::Remove, None) => Err(ENODATA),
            (Setting::Value(value, _), Some(present)) => Ok(*value != present),
            _ => Ok(true),
        }
    }
}

// CAST: They are small.
const XATTR_CREATE: i32 = bindings::XATTR_CREATE as i32;
const XATTR_REPLACE: i32 = bindings::XATTR_REPLACE as i32;

/// A null-terminated list of handlers.
#[repr(transparent)]
pub(in crate::fs) struct Handlers([*const bindings::xattr_handler; 2]);

// SAFETY: The handlers are constants.
unsafe impl Sync for Handlers {}

impl Handlers {
    pub(in crate::fs) const fn as_ptr(&self) -> *const *const bindings::xattr_handler {
        (&raw const self.0).cast()
    }
}

/// The one handler of `T`, for all names but those of ACLs.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    const HANDLER: bindings::xattr_handler = bindings::xattr_handler {
        // An empty prefix catches all names.
        prefix: kernel::str::as_char_ptr_in_const_context(c""),
        get: Some(Self::get),
        set: Some(Self::set),
        ..pin_init::zeroed()
    };
    pub(in crate::fs) const HANDLERS: &'static Handlers =
        &Handlers([&Self::HANDLER, core::ptr::null()]);

    /// # Safety
    ///
    /// Called by the VFS with a dentry of ours, a name and a buffer of `size` bytes.
    unsafe extern "C" fn get(
        _handler: *const bindings::xattr_handler,
        dentry: *mut bindings::dentry,
        _inode: *mut bindings::inode,
        name: *const c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback; the buffer may be null for size 0.
            let (dentry, name, buffer) = unsafe {
                let buffer: &mut [u8] = if size == 0 {
                    &mut []
                } else {
                    core::slice::from_raw_parts_mut(buffer.cast(), size)
                };
                (
                    Dentry::<T>::from_raw(dentry),
                    CStr::from_char_ptr(name),
                    buffer,
                )
            };
            dentry.attribute_is_read(name);
            let _sitting = dentry.sb().sit(Doing::Look);
            let reading = dentry.sb().read();
            let len = T::get_xattr(reading.section(), dentry, name, buffer)?;
            // The VFS copies as much out of the buffer.
            if size != 0 && len > size {
                return Err(ERANGE);
            }
            Ok(c_int::try_from(len)?)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with a dentry of ours whose inode is locked, a name and a value of
    /// `size` bytes, or null to remove.
    unsafe extern "C" fn set(
        _handler: *const bindings::xattr_handler,
        _idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        _inode: *mut bindings::inode,
        name: *const c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        let change = || {
            // SAFETY: Valid by the contract of the callback.
            let (dentry, name, setting) = unsafe {
                let setting = if value.is_null() {
                    Setting::Remove
                } else {
                    Setting::Value(core::slice::from_raw_parts(value.cast(), size), flags)
                };
                (
                    Dentry::<T>::from_raw(dentry),
                    CStr::from_char_ptr(name),
                    setting,
                )
            };
            let entered = dentry.sb().enter(Doing::Attributes);
            T::set_xattr(entered.section(), dentry, name, setting)
        };
        from_result(|| anew(change).map(|()| 0))
    }
}
