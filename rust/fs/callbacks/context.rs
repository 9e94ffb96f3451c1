// SPDX-License-Identifier: GPL-2.0

//! The mount API: `struct fs_context`.
//!
//! Both roads lead here: fsopen(2)/fsconfig(2) give one option at a time; the
//! data string of mount(2) is split by the VFS in the same way, at commas and at
//! the first `=` of each item.
//!
//! # Who may
//!
//! Only an administrator of the machine can mount the file system (it has no
//! `FS_USERNS_MOUNT`). The VFS asks for that when all options are there; we ask when the
//! context is made, and for each option, as a context can be handed on. So nobody else
//! makes us look a path up, keep anything or say anything.

use super::super_ops;
use crate::bindings;
use crate::fs::{
    base::task,
    objects::{
        sb::SuperBlock,
        section::Alone, //
    },
    operations::{
        context::{
            Context,
            Param, //
        },
        mountable::Mountable, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*, //
};

/// `-ENOPARAM`: "not mine", which makes the VFS try generic options and then say
/// "unknown parameter". It is no errno that user space sees.
const ENOPARAM: c_int = 519;

/// `EPERM` for who could not mount the file system (`mount_capable()` of the VFS).
fn check_privilege() -> Result {
    if task::is_admin() {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// `fs_context_operations` of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    const OPERATIONS: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the VFS with a fresh context. The kernel crate declares the type opaque; it is
    /// the one of our bindings.
    pub(in crate::fs) unsafe extern "C" fn init_fs_context(
        fc: *mut kernel::bindings::fs_context,
    ) -> c_int {
        let fc: *mut bindings::fs_context = fc.cast();
        from_result(|| {
            check_privilege()?;
            // SAFETY: Valid by the contract of the callback.
            let options = T::options(&unsafe { Context::from_raw(fc) })?;
            // SAFETY: As above; `free` takes the options back.
            unsafe {
                (*fc).fs_private = KBox::into_raw(options).cast();
                (*fc).ops = &Self::OPERATIONS;
            }
            Ok(0)
        })
    }

    /// The options of `fc`.
    ///
    /// # Safety
    ///
    /// `fc` must have been initialised by `init_fs_context`, and the VFS serialises its use.
    unsafe fn options<'a>(fc: *mut bindings::fs_context) -> &'a mut T::Options {
        // SAFETY: By the caller's contract.
        unsafe { &mut *(*fc).fs_private.cast() }
    }

    /// # Safety
    ///
    /// Called once by the VFS, at the end.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: Set by `init_fs_context`.
        drop(unsafe { KBox::<T::Options>::from_raw((*fc).fs_private.cast()) });
    }

    /// # Safety
    ///
    /// Called by the VFS with one option.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> c_int {
        from_result(|| {
            check_privilege()?;
            // SAFETY: Valid by the contract of the callback; a string value has `size` bytes.
            let (key, value) = unsafe {
                let key = CStr::from_char_ptr((*param).key).to_bytes();
                let value = match (*param).type_() {
                    bindings::fs_value_type_fs_value_is_flag => None,
                    bindings::fs_value_type_fs_value_is_string => {
                        let string = (*param).__bindgen_anon_1.string;
                        Some(core::slice::from_raw_parts(
                            string.cast_const().cast::<u8>(),
                            (*param).size,
                        ))
                    }
                    _ => return Ok(-ENOPARAM),
                };
                (key, value)
            };
            // SAFETY: As above.
            let (context, options) = unsafe { (Context::from_raw(fc), Self::options(fc)) };
            Ok(match T::parse(&context, options, key, value)? {
                Param::Taken => 0,
                Param::Unknown => -ENOPARAM,
            })
        })
    }

    /// # Safety
    ///
    /// Called by the VFS to make a super block.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: `fc` is valid by the contract of the callback.
        unsafe { bindings::get_tree_nodev(fc, Some(Self::fill_super)) }
    }

    /// # Safety
    ///
    /// Called by `get_tree_nodev()` with a fresh super block.
    unsafe extern "C" fn fill_super(
        sb: *mut bindings::super_block,
        fc: *mut bindings::fs_context,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let (context, options) = unsafe { (Context::from_raw(fc), Self::options(fc)) };
        match super_ops::Table::<T>::fill(&context, sb, options) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with `s_umount` held.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: `root` is set in a context for reconfiguration, and is of a super block of ours.
        // `s_umount` is held exclusively.
        let result = unsafe {
            let mut alone = Alone::new(SuperBlock::from_raw((*(*fc).root).d_sb));
            T::reconfigure(&Context::from_raw(fc), Self::options(fc), &mut alone)
        };
        match result {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }
}
