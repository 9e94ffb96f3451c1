// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of foreign objects.

use crate::bindings;
use crate::compat::errno::{
    ECANCELED,
    ENODATA,
    EOPNOTSUPP, //
};
use crate::fs::{
    base::ret::to_result,
    objects::{
        dentry::Dentry,
        path::{
            PathRef,
            Writable, //
        }, //
    }, //
};
use kernel::prelude::*;

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
            (Setting::Value(_, flags), None) if *flags & XATTR_REPLACE != 0 => Err(ENODATA.into()),
            (Setting::Remove, None) => Err(ENODATA.into()),
            (Setting::Value(value, _), Some(present)) => Ok(*value != present),
            _ => Ok(true),
        }
    }
}

// CAST: They are small.
const XATTR_CREATE: i32 = bindings::XATTR_CREATE as i32;
const XATTR_REPLACE: i32 = bindings::XATTR_REPLACE as i32;
