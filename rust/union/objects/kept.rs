// SPDX-License-Identifier: GPL-2.0

//! Inodes that are kept for their pseudo-links, where no note can be.

#![forbid(unsafe_code)]

use crate::union::types::Inode;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        atomic::Atomic,
        Mutex, //
    }, //
};

/// Pseudo-links of a mount.
#[pin_data]
pub(crate) struct Plinks {
    /// Inodes that are kept in memory, by their address.
    #[pin]
    pub(crate) kept: Mutex<RBTree<usize, ARef<Inode>>>,
    /// Whether any branch has notes: most look-ups ask no further.
    pub(crate) noted: Atomic<bool>,
}

impl Plinks {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Plinks {
            kept <- new_mutex!(RBTree::new(), "ruaufs_kept"),
            noted: Atomic::new(false),
        })
    }

    /// How many there are in memory only.
    pub(crate) fn count(&self) -> usize {
        let kept = self.kept.lock();
        kept.values().filter(|inode| inode.is_plinked()).count()
    }

    /// Drops all inodes that are kept, at unmount.
    pub(crate) fn release(&self) {
        let kept = core::mem::replace(&mut *self.kept.lock(), RBTree::new());
        drop(kept);
    }

    /// Forgets which names belong together: all are links by now. What is kept for a name that is
    /// only hidden stays.
    pub(crate) fn clean(&self) {
        loop {
            let next = {
                let kept = self.kept.lock();
                let mut plinked = kept.values().filter(|inode| inode.is_plinked());
                plinked.next().cloned()
            };
            let Some(inode) = next else {
                return;
            };
            inode.set_plinked(false);
            if !inode.has_other_count() {
                self.let_go(&inode);
            }
        }
    }

    /// Keeps `inode` until unmount, or until its last name is gone.
    pub(crate) fn keep(&self, inode: &Inode) -> Result {
        let node = RBTreeNode::new(address(inode), ARef::from(inode), GFP_KERNEL_ACCOUNT)?;
        let old = self.kept.lock().insert(node);
        inode.set_held(true);
        drop(old);
        Ok(())
    }

    /// Keeps `inode` no longer.
    pub(crate) fn let_go(&self, inode: &Inode) {
        let old = self.kept.lock().remove_node(&address(inode));
        inode.set_held(false);
        drop(old);
    }
}

fn address(inode: &Inode) -> usize {
    core::ptr::from_ref(inode).addr()
}
