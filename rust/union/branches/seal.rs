// SPDX-License-Identifier: GPL-2.0

//! The keys that file handles are sealed with.
//!
//! A sealed handle is one that the union gave: nobody can make one for another
//! object. Clients of NFS keep handles longer than a mount, so the key of a
//! writable branch is kept at its root, in an attribute that only the
//! administrator can read, and that the union does not show. It is written when a
//! handle is resolved for the first time: mounts whose handles nobody asks for,
//! such as those of containers, leave their branches as they are. A branch that was
//! writable once has its key still.

#![forbid(unsafe_code)]

use crate::compat::errno::ENODATA;
use crate::fs::{
    access::xattr,
    objects::{
        path::Path,
        sb::random_id, //
    }, //
};
use crate::logic::{
    branch_spec::Access,
    hash::Key, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    }, //
};

/// The attribute of a branch's root that holds its key.
pub(super) const XATTR: &CStr = c"trusted.ruaufs.key";

/// A key that nobody knows.
pub(crate) fn random() -> Key {
    Key(random_id(), random_id())
}

/// The key of a branch.
pub(crate) struct BranchKey {
    pub(super) key: Key,
    /// It is on the branch, or that was tried.
    pub(super) stored: Atomic<bool>,
}

impl BranchKey {
    /// The key of the branch at `root`; `None` if it has none and is not written. The mounter's
    /// credentials are in force.
    pub(crate) fn load(root: &Path, access: &Access) -> Result<Option<Arc<Self>>> {
        let mut value = [0; 16];
        let (key, stored) = match xattr::get(root.here(), XATTR, &mut value) {
            Ok(16) => {
                let [low, high] = [0, 8].map(|at| {
                    let half = value.get(at..).and_then(|rest| rest.first_chunk());
                    half.copied().map_or(0, u64::from_le_bytes)
                });
                (Key(low, high), true)
            }
            _ if !access.may_write() => return Ok(None),
            // None, or something else.
            Ok(_) => (random(), false),
            Err(error) if error == ENODATA || error == ERANGE => (random(), false),
            // It may be there: it is not overwritten.
            Err(_) => (random(), true),
        };
        let this = BranchKey {
            key,
            stored: Atomic::new(stored),
        };
        Ok(Some(Arc::new(this, GFP_KERNEL)?))
    }

    /// The key.
    pub(crate) fn key(&self) -> Key {
        self.key
    }
}
