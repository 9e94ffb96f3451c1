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
    base::once::load_acquire,
    objects::section::Entered, //
};
use crate::union::types::Union;
use kernel::{
    prelude::*,
    sync::{
        atomic::Full,
        Arc, //
    }, //
};

/// Writes the key that new handles are sealed with to its branch, once. Without it handles are
/// good as long as the union is mounted. The mounter's credentials are in force.
///
/// No remount takes the branch away, or makes it read-only, before `entered` ends.
pub(crate) fn keep(entered: &Entered<'_, Union>) {
    if let Some((branch, key)) = current(entered.section().table()) {
        key.store(branch);
    }
}

impl BranchKey {
    /// Whether it is on its branch, or that was tried.
    pub(crate) fn is_stored(&self) -> bool {
        load_acquire(&self.stored)
    }

    /// Writes it to `branch`, which is written as long as the caller's section lasts.
    fn store(&self, branch: &Branch) {
        if self.is_stored() {
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
