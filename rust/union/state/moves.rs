// SPDX-License-Identifier: GPL-2.0

//! What became of objects that have file handles ([`crate::union::files::handle`]).

#![forbid(unsafe_code)]

use crate::compat::errno::{
    EOPNOTSUPP,
    ESTALE, //
};
use crate::fs::{
    base::once::load_acquire,
    operations::export::Operations, //
};
use crate::logic::{
    handle::MAX_WORDS,
    hash::Key, //
};
use crate::union::{
    branches::seal,
    types::{
        Inode,
        Section,
        Union, //
    }, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::Atomic,
        Arc,
        Mutex,
        UniqueArc, //
    }, //
};

/// What became of an object since its number was given.
pub(super) enum Move {
    /// It was copied up: the handle of its origin, and the one of its instance now.
    Copied(Arc<KVec<u32>>, Arc<KVec<u32>>),
    /// Its last name is hidden, though the branch still has the object.
    Hidden,
}

/// What became of objects, by their number.
#[pin_data]
pub(crate) struct Moves {
    #[pin]
    pub(super) moves: Mutex<RBTree<u64, Move>>,
    /// Whether a handle was ever made or resolved: before that nobody can ask.
    pub(crate) used: Atomic<bool>,
    /// What handles are sealed with if no branch has a key: it ends with the mount.
    pub(crate) key: Key,
}

/// Room for a [`Move`], taken before a change that must not fail after it.
pub(crate) struct Room {
    pub(super) node: RBTreeNode<u64, Move>,
    pub(super) origin: Arc<KVec<u32>>,
    pub(super) now: UniqueArc<KVec<u32>>,
}

impl Moves {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Moves {
            moves <- new_mutex!(RBTree::new(), "ruaufs_moves"),
            used: Atomic::new(false),
            key: seal::random(),
        })
    }

    /// Takes room for the copy-up of `inode`; `None` if nobody needs to know of it.
    pub(crate) fn reserve(&self, section: Section<'_>, inode: &Inode) -> Result<Option<Room>> {
        if !load_acquire(&self.used) {
            return Ok(None);
        }
        let mut origin = KVec::new();
        match Union::encode(section, inode, &mut origin) {
            // What cannot have a handle needs no note.
            Err(error) if error == EOPNOTSUPP || error == EOVERFLOW => return Ok(None),
            other => other?,
        }
        Ok(Some(Room {
            node: RBTreeNode::new(0, Move::Hidden, GFP_KERNEL_ACCOUNT)?,
            origin: Arc::new(origin, GFP_KERNEL_ACCOUNT)?,
            now: UniqueArc::new(
                KVec::with_capacity(MAX_WORDS, GFP_KERNEL_ACCOUNT)?,
                GFP_KERNEL_ACCOUNT,
            )?,
        }))
    }

    /// Takes room for a move of `inode` to a lower branch. `None` if it was never copied up: then
    /// its handle names the instance that goes, and is stale; the next one names the new instance.
    pub(crate) fn reserve_again(
        &self,
        section: Section<'_>,
        inode: &Inode,
    ) -> Result<Option<Room>> {
        let noted = matches!(self.moves.lock().get(&inode.ino()), Some(Move::Copied(..)));
        if noted {
            self.reserve(section, inode)
        } else {
            Ok(None)
        }
    }

    /// The last name of `inode` is gone. If its instance is still there, under a whiteout, it must
    /// not be found any more.
    pub(crate) fn removed(&self, section: Section<'_>, inode: &Inode) {
        if !load_acquire(&self.used) {
            return;
        }
        let remains = inode.stack(section).is_ok_and(|stack| {
            !stack.writable() && !inode.is_dir() && stack.top_inode().nlink() > 1
        });
        if remains {
            // Without memory for the note the object can be found until the mount ends.
            let node = RBTreeNode::new(inode.ino(), Move::Hidden, GFP_KERNEL_ACCOUNT);
            let old = node.ok().and_then(|node| self.moves.lock().insert(node));
            drop(old);
        }
    }

    /// `inode`, which has no name, leaves the memory: nobody can ask for it any more.
    pub(crate) fn forget(&self, number: u64) {
        if !load_acquire(&self.used) {
            return;
        }
        let mut moves = self.moves.lock();
        let old = match moves.get(&number) {
            Some(Move::Copied(..)) => moves.remove_node(&number),
            _ => None,
        };
        drop(moves);
        drop(old);
    }

    /// The origin of the object `number`, appended to `out`. Whether there is a note of it.
    pub(crate) fn origin(&self, number: u64, out: &mut KVec<u32>) -> Result<bool> {
        if !load_acquire(&self.used) {
            return Ok(false);
        }
        let origin = match self.moves.lock().get(&number) {
            Some(Move::Copied(origin, _)) => origin.clone(),
            _ => return Ok(false),
        };
        out.extend_from_slice(&origin, GFP_KERNEL)?;
        Ok(true)
    }

    /// The handle of the instance that the object `number` has now, if it is another one than in
    /// the beginning.
    pub(crate) fn now(&self, number: u64) -> Result<Option<Arc<KVec<u32>>>> {
        match self.moves.lock().get(&number) {
            None => Ok(None),
            Some(Move::Hidden) => Err(ESTALE.into()),
            Some(Move::Copied(_, now)) if now.is_empty() => Err(ESTALE.into()),
            Some(Move::Copied(_, now)) => Ok(Some(now.clone())),
        }
    }
}
