// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: `/sys/kernel/tracing/events/ruaufs`.
//!
//! One that is off costs an instruction that does nothing; whoever has one asks
//! [`Tracepoint::is_on`] before anything is collected for it.
//!
//! C headers: `helpers/trace.h`,
//! [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h).

use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// What an event shows. What is not set is 0.
pub(crate) struct Event<'a> {
    raw: bindings::ruaufs_event,
    _name: PhantomData<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// Of the file system `id`, on objects of the device `device`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(id: u64, device: u64) -> Self {
        let mut raw: bindings::ruaufs_event = pin_init::zeroed();
        raw.si = id;
        // CAST: A `dev_t`, which has 32 bits.
        raw.dev = device as u32;
        Event {
            raw,
            _name: PhantomData,
        }
    }

    /// The object, by its inode number and its type.
    pub(crate) fn object(&mut self, ino: u64, mode: u16) {
        self.raw.ino = ino;
        self.raw.kind = u32::from(mode) & bindings::S_IFMT;
    }

    /// A name, and the directory that it is in.
    pub(crate) fn name(&mut self, dir: u64, name: &'a [u8]) {
        self.raw.dir = dir;
        self.raw.name = name.as_ptr().cast();
        self.raw.name_len = name.len();
    }

    /// The directory to which a name goes.
    pub(crate) fn moved_to(&mut self, dir: u64) {
        self.raw.to_dir = dir;
    }

    /// Where something comes from, and where it goes.
    pub(crate) fn way(&mut self, from: u32, to: u32) {
        self.raw.from = from;
        self.raw.to = to;
    }

    /// How something is done.
    pub(crate) fn flags(&mut self, flags: u32) {
        self.raw.flags = flags;
    }

    /// How much data was copied.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        self.raw.bytes = bytes;
    }

    /// How it ended, and after how many nanoseconds.
    pub(crate) fn ended(&mut self, result: Result, nanoseconds: u64) {
        self.raw.error = result.map_or_else(Error::to_errno, |()| 0);
        self.raw.ns = nanoseconds;
    }
}

/// What is done with a mark, as [`Event::flags`].
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// A whiteout is made.
    Make = bindings::ruaufs_mark_RUAUFS_MARK_MAKE as isize,
    /// A whiteout is removed.
    Remove = bindings::ruaufs_mark_RUAUFS_MARK_REMOVE as isize,
    /// A directory is made opaque.
    Opaque = bindings::ruaufs_mark_RUAUFS_MARK_OPAQUE as isize,
}

/// Something that happens and can be watched.
pub(crate) trait Tracepoint {
    /// Whether somebody watches.
    fn is_on() -> bool;

    /// Shows `event` to those who watch.
    fn show(event: &Event<'_>);
}

macro_rules! tracepoints {
    ($($(#[$doc:meta])* $name:ident: $point:ident, $show:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        #[cfg(CONFIG_TRACEPOINTS)]
        impl Tracepoint for $name {
            #[inline(always)]
            fn is_on() -> bool {
                // SAFETY: The key that C defines with the tracepoint.
                unsafe {
                    kernel::jump_label::static_branch_unlikely!(
                        bindings::$point,
                        bindings::tracepoint,
                        key
                    )
                }
            }

            #[inline]
            fn show(event: &Event<'_>) {
                // SAFETY: The event is valid during the call, its name is as long as it says;
                // what is shown is copied.
                unsafe { bindings::$show(&event.raw) };
            }
        }

        #[cfg(not(CONFIG_TRACEPOINTS))]
        impl Tracepoint for $name {
            #[inline(always)]
            fn is_on() -> bool {
                false
            }

            fn show(_: &Event<'_>) {}
        }
    )*};
}

tracepoints! {
    /// An object was copied up, or was not.
    CopyUp: __tracepoint_copy_up, rust_do_trace_copy_up;
    /// A file was moved to a lower branch, or was not.
    MoveDown: __tracepoint_move_down, rust_do_trace_move_down;
    /// A whiteout or an opaque mark was made or removed.
    Whiteout: __tracepoint_whiteout, rust_do_trace_whiteout;
    /// An object was renamed, or was not.
    Rename: __tracepoint_rename, rust_do_trace_rename;
    /// A remount has ended.
    Remount: __tracepoint_remount, rust_do_trace_remount;
    /// A cached name does not hold any more.
    Stale: __tracepoint_stale, rust_do_trace_stale;
}
