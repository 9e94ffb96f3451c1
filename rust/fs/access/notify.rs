// SPDX-License-Identifier: GPL-2.0

//! Watching foreign directories: who makes, removes or renames a name in one.
//!
//! An event only counts: a [`Pulse`] beats once for each. What it means is found
//! out by whoever looks next, so nothing of ours is locked or looked at while the
//! foreign directory is.
//!
//! # Locking
//!
//! Marks are made and destroyed in process context; the group's own mutex is
//! taken, under which the VFS allocates without entering file systems
//! (`fsnotify_group_lock()`). Events arrive with the foreign directory locked.

use crate::bindings;
use crate::fs::{
    base::{
        once::load_acquire,
        ret::{
            from_err_ptr,
            to_result, //
        }, //
    },
    objects::inode::Inode, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc, //
    }, //
};

/// Counts events. Read without a lock.
pub(crate) struct Pulse(Atomic<u64>);

impl Pulse {
    /// One that has not beaten.
    pub(crate) fn new() -> Self {
        Pulse(Atomic::new(0))
    }

    /// How often it has beaten.
    pub(crate) fn count(&self) -> u64 {
        load_acquire(&self.0)
    }

    /// Beats once.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Full);
    }
}

/// Those that watch for one super block.
///
/// # Invariants
///
/// It owns a reference to the group.
pub(crate) struct Group(NonNull<bindings::fsnotify_group>);

// SAFETY: Groups are used by all CPUs.
unsafe impl Send for Group {}

// SAFETY: As above.
unsafe impl Sync for Group {}

/// What is to be told: names that come and go.
const EVENTS: u32 =
    bindings::FS_CREATE | bindings::FS_DELETE | bindings::FS_MOVED_FROM | bindings::FS_MOVED_TO;

impl Group {
    const OPERATIONS: bindings::fsnotify_ops = bindings::fsnotify_ops {
        handle_inode_event: Some(Self::handle_inode_event),
        free_mark: Some(Self::free_mark),
        ..pin_init::zeroed()
    };

    /// A group without watches.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The operations are static.
        let group = from_err_ptr(unsafe {
            bindings::fsnotify_alloc_group(
                &Self::OPERATIONS,
                bindings::FSNOTIFY_GROUP_DUPS as c_int,
            )
        })?;
        // INVARIANT: The reference of the call is ours.
        Ok(Group(NonNull::new(group).ok_or(ENOMEM)?))
    }

    /// # Safety
    ///
    /// Called by the VFS with a mark that [`Watch::new`] made, which is alive during the call.
    unsafe extern "C" fn handle_inode_event(
        mark: *mut bindings::fsnotify_mark,
        _mask: u32,
        _inode: *mut bindings::inode,
        _dir: *mut bindings::inode,
        _name: *const bindings::qstr,
        _cookie: u32,
    ) -> c_int {
        // SAFETY: By the contract of the callback it is the first field of a `Mark`.
        let mark = unsafe { &*mark.cast::<Mark>() };
        mark.pulse.beat();
        0
    }

    /// # Safety
    ///
    /// Called by the VFS once, when nobody uses the mark any more.
    unsafe extern "C" fn free_mark(mark: *mut bindings::fsnotify_mark) {
        // SAFETY: As above; it came from `KBox::into_raw` in `Watch::new`.
        drop(unsafe { KBox::from_raw(mark.cast::<Mark>()) });
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Marks that wait for their grace period hold references of
        // their own, and their operations must not go before them.
        unsafe {
            bindings::fsnotify_put_group(self.0.as_ptr());
            bindings::fsnotify_wait_marks_destroyed();
        }
    }
}

#[repr(C)]
struct Mark {
    mark: bindings::fsnotify_mark,
    pulse: Arc<Pulse>,
}

/// A watch of a foreign directory. It ends when this is dropped.
///
/// # Invariants
///
/// It owns a reference to a mark that was added to `group`.
pub(crate) struct Watch {
    mark: NonNull<bindings::fsnotify_mark>,
    group: NonNull<bindings::fsnotify_group>,
    inode: *mut bindings::inode,
}

// SAFETY: Marks are used by all CPUs; `inode` is only compared.
unsafe impl Send for Watch {}

// SAFETY: As above.
unsafe impl Sync for Watch {}

impl Watch {
    /// Lets `pulse` beat for each name that comes to or goes from `dir`.
    pub(crate) fn new(group: &Group, dir: &Inode, pulse: Arc<Pulse>) -> Result<Self> {
        let mark = KBox::new(
            Mark {
                mark: pin_init::zeroed(),
                pulse,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let mark: *mut bindings::fsnotify_mark = KBox::into_raw(mark).cast();
        // SAFETY: The mark is ours and zeroed; the group lives, and each mark counts for it. The
        // mark holds a reference to the inode until it is destroyed.
        unsafe {
            bindings::fsnotify_init_mark(mark, group.0.as_ptr());
            (*mark).mask = EVENTS;
            let ret = bindings::ruaufs_helper_add_inode_mark(mark, dir.as_ptr());
            if let Err(error) = to_result(ret) {
                bindings::fsnotify_put_mark(mark);
                return Err(error);
            }
        }
        // INVARIANT: Added; the reference of `fsnotify_init_mark()` is ours.
        Ok(Watch {
            mark: NonNull::new(mark).ok_or(EIO)?,
            group: group.0,
            inode: dir.as_ptr(),
        })
    }

    /// Whether it watches `dir`.
    pub(crate) fn is_of(&self, dir: &Inode) -> bool {
        core::ptr::eq(self.inode, dir.as_ptr())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the mark counts for the group.
        unsafe {
            bindings::fsnotify_destroy_mark(self.mark.as_ptr(), self.group.as_ptr());
            bindings::fsnotify_put_mark(self.mark.as_ptr());
        }
    }
}
