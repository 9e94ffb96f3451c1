// SPDX-License-Identifier: GPL-2.0

//! What is known of the cached files of a directory: whether they show what is behind them.

use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};

/// What is known of the cached files of a directory.
///
/// It leaves `NONE` before, and again after, a file of the directory gets a `d_real()`
/// ([`Dentry::settle_file`](crate::fs::objects::dentry::Dentry::settle_file)). So `NONE` is true
/// whenever the directory is below one that an overlayfs writes to.
pub(crate) struct Reals(pub(in crate::fs) Atomic<u32>);

/// Some may have a `d_real()`.
pub(in crate::fs) const SOME: u32 = 0;
/// They are about to lose it.
pub(in crate::fs) const GOING: u32 = 1;
/// None has one.
pub(in crate::fs) const NONE: u32 = 2;

impl Reals {
    /// Of a directory that was not looked at.
    pub(crate) const fn unknown() -> Self {
        Reals(Atomic::new(SOME))
    }

    /// A file is about to get a `d_real()`, or just got one.
    pub(in crate::fs) fn forget(&self) {
        if self.0.load(Relaxed) != SOME {
            self.0.xchg(SOME, Full);
        }
    }
}
