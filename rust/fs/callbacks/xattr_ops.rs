// SPDX-License-Identifier: GPL-2.0

//! The handlers of extended attributes.

use crate::bindings;
use crate::fs::{
    access::xattr::Setting,
    base::{
        gate::anew,
        seats::Doing, //
    },
    objects::{
        dentry::Dentry,
        path::IdMap, //
    },
    operations::mountable::Mountable, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*, //
};

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
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        _inode: *mut bindings::inode,
        name: *const c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        let change = || {
            // SAFETY: Valid by the contract of the callback.
            let (dentry, name, setting, idmap) = unsafe {
                let setting = if value.is_null() {
                    Setting::Remove
                } else {
                    Setting::Value(core::slice::from_raw_parts(value.cast(), size), flags)
                };
                (
                    Dentry::<T>::from_raw(dentry),
                    CStr::from_char_ptr(name),
                    setting,
                    IdMap::from_raw(idmap),
                )
            };
            let entered = dentry.sb().enter(Doing::Attributes);
            T::set_xattr(entered.section(), dentry, name, setting, idmap)
        };
        from_result(|| anew(change).map(|()| 0))
    }
}
