// SPDX-License-Identifier: GPL-2.0

//! What the module was loaded with.

use crate::bindings;

/// The parameters of the module; none changes while it is loaded.
pub(crate) struct Parameters {
    /// The type `aufs` is registered, too.
    pub(crate) aufs_alias: bool,
    /// Branches are shown in sysfs, and not in `/proc/mounts`.
    pub(crate) brs: bool,
}

impl Parameters {
    /// Returns what the module was loaded with.
    pub(crate) fn given() -> Self {
        Self {
            // SAFETY: It has no requirement.
            aufs_alias: unsafe { bindings::ruaufs_helper_aufs_alias() },
            // SAFETY: It has no requirement.
            brs: unsafe { bindings::ruaufs_helper_brs() },
        }
    }
}
