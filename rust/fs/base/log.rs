// SPDX-License-Identifier: GPL-2.0

//! The kernel's log, which has so much room for us only: what users can cause at will must not
//! drown what others say.

use crate::bindings;

/// What a line is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// A mount, or a change of one.
    Mounts,
    /// What else happens, which users may cause.
    Use,
}

/// Whether one more line may go there now. The kernel says how many were left out.
pub(crate) fn has_room(about: About) -> bool {
    // SAFETY: Always callable.
    unsafe { bindings::ruaufs_helper_may_log(about == About::Mounts) }
}

/// As `pr_warn!`, as far as there is room.
#[macro_export]
macro_rules! warn_limited {
    ($($text:tt)*) => {
        if $crate::fs::base::log::has_room($crate::fs::base::log::About::Use) {
            kernel::prelude::pr_warn!($($text)*);
        }
    };
}

/// As `pr_info!`, as far as there is room.
#[macro_export]
macro_rules! inform_limited {
    ($($text:tt)*) => {
        if $crate::fs::base::log::has_room($crate::fs::base::log::About::Use) {
            kernel::prelude::pr_info!($($text)*);
        }
    };
}
