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

use super::ioctl;
use crate::bindings;
use crate::fs::{
    base::log,
    objects::{
        sb::{
            self,
            Mounted,
            SuperBlock, //
        },
        section::Alone, //
    },
    FileSystem,
    Mountable, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// `-ENOPARAM`: "not mine", which makes the VFS try generic options and then say
/// "unknown parameter". It is no errno that user space sees.
const ENOPARAM: c_int = 519;

/// What became of an option.
pub(crate) enum Param {
    /// It was taken.
    Taken,
    /// The file system does not know it.
    Unknown,
}

/// A mount, or change of a mount, in the making.
pub(crate) struct Context<'a>(&'a core::cell::UnsafeCell<bindings::fs_context>);

impl Context<'_> {
    /// # Safety
    ///
    /// `fc` must be valid for the lifetime of the value.
    unsafe fn from_raw(fc: *mut bindings::fs_context) -> Self {
        // SAFETY: Valid by the caller's contract; `UnsafeCell` has the layout of what it wraps.
        Context(unsafe { &*fc.cast() })
    }

    /// Whether a read-only super block is asked for.
    pub(crate) fn read_only(&self) -> bool {
        // SAFETY: The VFS serialises calls on a context.
        let flags = unsafe { (*self.0.get()).sb_flags };
        flags as usize & bindings::RUAUFS_SB_RDONLY != 0
    }

    /// The name of the file system type that is being mounted.
    pub(crate) fn type_name(&self) -> &CStr {
        // SAFETY: `fs_type` is set when the context is made, its name is static.
        unsafe { CStr::from_char_ptr((*(*self.0.get()).fs_type).name) }
    }

    /// Says what is wrong.
    pub(crate) fn error(&self, message: kernel::fmt::Arguments<'_>) {
        self.say(b'e', message);
    }

    /// Says what may not be meant.
    pub(crate) fn warn(&self, message: kernel::fmt::Arguments<'_>) {
        self.say(b'w', message);
    }

    /// Says what is good to know.
    pub(crate) fn inform(&self, message: kernel::fmt::Arguments<'_>) {
        self.say(b'i', message);
    }

    /// Says something in the log of the context, which its owner reads, and in the kernel's log,
    /// which has so much room for us only.
    fn say(&self, level: u8, message: kernel::fmt::Arguments<'_>) {
        if log::has_room(log::About::Mounts) {
            match level {
                b'e' => pr_err!("{}\n", message),
                b'w' => pr_warn!("{}\n", message),
                _ => pr_info!("{}\n", message),
            }
        }
        // Without memory for the text the kernel log has to do.
        if let Ok(text) = CString::try_from_fmt(message) {
            // SAFETY: The context is valid, `text` is a string.
            unsafe {
                bindings::ruaufs_helper_fc_log(self.0.get(), level as c_char, text.as_char_ptr())
            };
        }
    }
}

/// Says what is wrong with a mount and gives the error.
#[macro_export]
macro_rules! mount_error {
    ($context:expr, $errno:expr, $($text:tt)*) => {{
        $context.error(kernel::prelude::fmt!($($text)*));
        $errno
    }};
}

/// Callbacks of the mount API.
pub(crate) trait Operations: FileSystem {
    /// Options gathered so far.
    type Options: Send;

    /// No options yet.
    fn options(context: &Context<'_>) -> Result<KBox<Self::Options>>;

    /// Takes one option. `value` is absent for a flag.
    fn parse(
        context: &Context<'_>,
        options: &mut Self::Options,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Param>;

    /// Makes the state of a new super block from all options.
    fn mount(
        context: &Context<'_>,
        global: &Arc<Self::Global>,
        options: &mut Self::Options,
    ) -> Result<Mounted<Self>>;

    /// Changes a mounted super block. On error nothing has changed.
    fn reconfigure(
        context: &Context<'_>,
        options: &mut Self::Options,
        alone: &mut Alone<'_, Self>,
    ) -> Result;
}

/// `EPERM` for who could not mount the file system (`mount_capable()` of the VFS).
fn check_privilege() -> Result {
    if ioctl::is_admin() {
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
        match sb::Table::<T>::fill(&context, sb, options) {
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
