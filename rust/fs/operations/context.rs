// SPDX-License-Identifier: GPL-2.0

//! Mounting and changing a mount: options one by one, messages, the result.

use crate::bindings;
use crate::fs::{
    base::log,
    objects::{
        sb::{
            Limits,
            State, //
        },
        section::Alone, //
    },
    types::FileSystem, //
};
use core::pin::Pin;
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

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
    pub(in crate::fs) unsafe fn from_raw(fc: *mut bindings::fs_context) -> Self {
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

/// What a super block is to look like, and its state.
pub(crate) struct Mounted<T: FileSystem> {
    /// State, see [`SuperBlock::data`](crate::fs::objects::sb::SuperBlock::data).
    pub(crate) state: Pin<KBox<State<T>>>,
    /// Number of stacked file systems, this one included.
    pub(crate) stack_depth: i32,
    /// What it says about its files.
    pub(crate) limits: Limits,
    /// Whether cached names are revalidated.
    pub(crate) revalidate: bool,
}
