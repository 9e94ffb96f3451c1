// SPDX-License-Identifier: GPL-2.0

//! What is known of the cached files of a directory: whether they show what is behind them.

use crate::bindings;
use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};

/// What is known of the cached files of a directory.
///
/// It becomes [`SOME`] before a file of the directory gets a `d_real()`, under the lock of the
/// file's dentry ([`Dentry::settle_file`](crate::fs::objects::dentry::Dentry::settle_file)). Who
/// takes that from all of them makes it a number of its own before ([`Going`]), and [`NONE`]
/// afterwards, if it is that number still. So `NONE` is true whenever the directory is below one
/// that an overlayfs writes to.
pub(crate) struct Reals(Atomic<u32>);

/// Some may have a `d_real()`.
const SOME: u32 = bindings::RUAUFS_REALS_SOME;
/// None has one.
const NONE: u32 = 1;

/// The files of a directory are about to lose their `d_real()`.
pub(in crate::fs) struct Going<'a>(&'a Reals, u32);

impl Reals {
    /// Of a directory that was not looked at.
    pub(crate) const fn unknown() -> Self {
        Reals(Atomic::new(SOME))
    }

    /// For the helper that lets a file have one.
    pub(in crate::fs) fn as_ptr(&self) -> *mut u32 {
        self.0.as_ptr()
    }

    /// Whether no file has one.
    pub(in crate::fs) fn is_none(&self) -> bool {
        self.0.load(Relaxed) == NONE
    }

    /// They are about to lose it. If somebody else is at that already, what comes of this one will
    /// not be noted.
    pub(in crate::fs) fn going(&self) -> Going<'_> {
        // Even, so never `NONE`.
        static NEXT: Atomic<u32> = Atomic::new(2);
        let number = NEXT.fetch_add(2, Relaxed).max(2);
        let _ = self.0.cmpxchg(SOME, number, Full);
        Going(self, number)
    }
}

impl Going<'_> {
    /// All have lost it, unless one got it meanwhile.
    pub(in crate::fs) fn gone(self) {
        let Going(reals, number) = self;
        let _ = reals.0.cmpxchg(number, NONE, Full);
    }
}
