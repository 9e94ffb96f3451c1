// SPDX-License-Identifier: GPL-2.0

//! Which branch's key new handles are sealed with, and how the key gets onto the branch.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        BranchTable, //
    },
    seal::{
        BranchKey,
        XATTR, //
    }, //
};
use crate::fs::{
    access::xattr,
    base::once::load_acquire, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Full,
        Arc, //
    }, //
};

impl BranchKey {
    /// Writes it to `branch`, once. Without it handles are good as long as the union is mounted.
    /// The mounter's credentials are in force.
    pub(crate) fn store(&self, branch: &Branch) {
        if load_acquire(&self.stored) {
            return;
        }
        // Who resolves a handle does not wait for a thaw: it is written with a later one.
        let Ok(Some(write)) = branch.try_write() else {
            return;
        };
        if self.stored.xchg(true, Full) {
            return;
        }
        let mut value = [0; 16];
        let halves = [self.key.0.to_le_bytes(), self.key.1.to_le_bytes()];
        for (to, from) in value.iter_mut().zip(halves.iter().flatten()) {
            *to = *from;
        }
        let root = branch.root.here();
        let stored = write
            .to(root)
            .and_then(|root| xattr::set(root, XATTR, &value, 0));
        if let Err(error) = stored {
            pr_debug!("a branch keeps no key of file handles: {:?}\n", error);
        }
    }
}

/// The topmost writable branch of `table` with its key: new handles are sealed with it.
pub(crate) fn current(table: &BranchTable) -> Option<(&Arc<Branch>, &Arc<BranchKey>)> {
    table.order.iter().find_map(|branch| {
        let key = branch.key.as_ref()?;
        branch.access.may_write().then_some((branch, key))
    })
}
