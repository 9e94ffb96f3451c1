// SPDX-License-Identifier: GPL-2.0

//! Dentries: whether a cached name still holds, asked inside a walk in RCU mode.

use crate::fs::{
    objects::walk::{
        Held,
        Walk, //
    },
    types::FileSystem, //
};
use kernel::prelude::*;

impl<T: Operations> Walk<'_, T> {
    /// Gives what `d_revalidate()` gives for a name that does not hold.
    #[cold]
    #[inline(never)]
    pub(in crate::fs) fn is_stale(&self) -> c_int {
        if let Some(held) = self.held() {
            T::found_stale(&held, self.name());
        }
        0
    }
}

/// How [`Operations::revalidate`] answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// What is cached still holds.
    Valid,
    /// The name must be looked up again.
    Stale,
    /// Ask again outside RCU walk.
    NeedRef,
}

/// Callbacks on our dentries.
pub(crate) trait Operations: FileSystem {
    /// Whether a cached name still holds; may run inside RCU walk.
    fn revalidate(walk: &Walk<'_, Self>) -> Validity;

    /// A cached name does not hold, and is about to go. Not in RCU walk.
    fn found_stale(held: &Held<'_, Self>, name: &[u8]);
}
