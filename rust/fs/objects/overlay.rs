// SPDX-License-Identifier: GPL-2.0

//! An overlayfs whose upper directory is on a file system of ours.
//!
//! It takes no upper directory, nor a file below it, whose dentry has a `d_real()`. Directories of
//! ours have none. A file has one, for uprobes, unless it is below a directory that an overlayfs
//! writes to, which the inode of that directory says (`I_OVL_INUSE`).
//!
//! No callback says that an overlayfs begins to write. But before it looks a name up in a directory
//! of its upper layer, it reads an attribute of its own of that directory. Then files of the
//! directory that are cached lose their `d_real()`, once
//! ([`Reals`](crate::fs::base::reals::Reals)). Those that are looked up, made or moved later are
//! judged by the directories above them, if there ever was an overlayfs.

use super::{
    dentry::Dentry,
    sb::SuperBlock, //
};
use crate::bindings;
use crate::compat::barrier::smp_mb;
use crate::fs::types::{
    FileSystem,
    Private, //
};
use kernel::prelude::*;

/// With these bytes begin the attributes of an overlayfs.
const ATTRIBUTES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

impl<T: FileSystem> SuperBlock<T> {
    /// Whether files are shown with what is behind them, all of them: no overlayfs ever wrote here.
    #[inline]
    pub(in crate::fs) fn shows_real(&self) -> bool {
        // SAFETY: The super block is valid.
        unsafe { bindings::ruaufs_helper_sb_has_real(self.as_ptr()) }
    }
}

impl<T: FileSystem> Dentry<T> {
    /// Whether it is, or is below, a directory that an overlayfs writes to.
    fn is_below_overlay(&self) -> bool {
        // SAFETY: The dentry is valid; parents are read under RCU.
        unsafe { bindings::ruaufs_helper_is_below_overlay(self.as_ptr()) }
    }

    /// Sees that the dentry, which leads to a file or is about to, has a `d_real()` or none. For a
    /// super block that does not show all ([`SuperBlock::shows_real`]).
    #[cold]
    pub(in crate::fs) fn settle_file(&self) {
        if self.is_below_overlay() {
            return self.hide_real();
        }
        let parent = self.parent();
        let Some(dir) = parent.inode() else {
            return;
        };
        // Under its lock the helper forgets first, and then looks for the mark of an overlayfs. Who
        // set the mark, and then found `NONE`, did that before it was forgotten: the mark is seen.
        // Who found something else hides this dentry, too: before the lock was taken, so the mark
        // is seen, or afterwards. And what began before it was forgotten does not end in `NONE`.
        // SAFETY: The dentry is valid, and in the list of its parent's children; the word is one of
        // an atomic.
        unsafe { bindings::ruaufs_helper_settle_real(self.as_ptr(), dir.data().reals().as_ptr()) };
    }

    /// An attribute of the dentry is about to be read.
    #[inline]
    pub(in crate::fs) fn attribute_is_read(&self, name: &CStr) {
        let is_of_overlay = |name: &[u8]| ATTRIBUTES.iter().any(|begin| name.starts_with(begin));
        if self.inode().is_some_and(|inode| inode.is_dir()) && is_of_overlay(name.to_bytes()) {
            self.overlay_looks();
        }
    }

    /// If an overlayfs writes to the directory, or above it, its cached files have no `d_real()`
    /// from now on.
    #[cold]
    fn overlay_looks(&self) {
        let Some(dir) = self.inode().filter(|_| self.is_below_overlay()) else {
            return;
        };
        let reals = dir.data().reals();
        // The overlayfs has marked its directory before. Who still misses the mark has forgotten
        // `NONE` here, or does it before it looks for the mark under the lock of a file.
        smp_mb();
        if reals.is_none() {
            return;
        }
        let going = reals.going();
        // SAFETY: Both are valid, and nothing is locked here.
        let all = unsafe {
            if self.sb().shows_real() {
                bindings::ruaufs_helper_sb_clear_real(self.sb().as_ptr());
            }
            bindings::ruaufs_helper_hide_reals(self.as_ptr())
        };
        if all {
            going.gone();
        }
    }
}
