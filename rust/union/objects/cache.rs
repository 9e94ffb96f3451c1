// SPDX-License-Identifier: GPL-2.0

//! What a directory keeps of its instances: the merged listing, and the index of names.

#![forbid(unsafe_code)]

use crate::fs::objects::time::Stamp;
use crate::logic::{
    branch_spec::Perm,
    index::{
        Builder,
        Index,
        Wanted, //
    },
    merge::Snapshot, //
};
use crate::union::branches::{
    branch::{
        Slot,
        Stack, //
    },
    whiteout, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// What a directory keeps in memory.
pub(crate) struct DirCache {
    /// The merged listing, while it holds.
    pub(crate) listing: Option<Arc<Listing>>,
    /// The index, while it holds.
    pub(crate) index: Option<Arc<DirIndex>>,
    /// What look-ups without an index have cost since the last attempt to make one.
    pub(crate) spent: u32,
}

impl DirCache {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        DirCache {
            listing: None,
            index: None,
            spent: 0,
        }
    }
}

/// What is known of an instance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    /// Nothing.
    Nothing,
    /// Its whiteouts.
    Whiteouts,
    /// Its names, and its whiteouts if they count.
    All,
}

/// One instance when it was listed.
pub(crate) struct Instance {
    pub(crate) cover: Cover,
    /// The index holds only while the change stamp does.
    checked: bool,
    stamp: Option<Stamp>,
}

impl Instance {
    /// Whether what is covered of `slot`, which it is, is as it was.
    #[inline]
    fn holds(&self, slot: &Slot) -> bool {
        !self.checked || self.unchanged(slot)
    }

    /// Whether the change stamp is what it was.
    #[inline]
    pub(crate) fn unchanged(&self, slot: &Slot) -> bool {
        match (&self.stamp, slot.inode()) {
            (Some(stamp), Ok(inode)) => inode.has_stamp(stamp),
            _ => false,
        }
    }
}

/// Where names are in the instances of a directory, which are those of one stack.
pub(crate) struct DirIndex {
    /// The stack ([`Stack::serial`]): with other instances, or another access to one of them, the
    /// directory has another.
    stack: u32,
    /// Change stamps are compared.
    check: bool,
    pub(crate) instances: KVec<Instance>,
    /// The instances that are asked for names: all but those covered.
    pub(crate) open: KVec<u16>,
    pub(crate) names: Index,
    /// We made a whiteout since.
    pub(crate) hidden: Atomic<bool>,
}

impl DirIndex {
    /// Whether it may be used for `stack`.
    pub(crate) fn holds(&self, stack: &Stack, check: bool) -> bool {
        let Some((top, rest)) = self.instances.split_first() else {
            return false;
        };
        // With many layers this loop is most of what a change of a name costs.
        self.stack == stack.serial()
            && self.check == check
            && top.holds(stack.top())
            && Iterator::zip(rest.iter(), stack.rest()).all(|(known, slot)| known.holds(slot))
    }

    /// Lists the instances of `stack`, those that can be covered.
    pub(crate) fn make(stack: &Stack, check: bool) -> Result<Self> {
        let mut instances = KVec::with_capacity(stack.len(), GFP_KERNEL_ACCOUNT)?;
        let mut open = KVec::new();
        let mut names = Builder::new();
        for (i, slot) in (0u16..).zip(stack.iter()) {
            let access = &slot.branch().access;
            let inode = slot.inode()?;
            // From before it is listed: a change meanwhile shows.
            let stamp = inode.lasting_stamp();
            let lasts = stamp.is_some() || access.perm == Perm::Rr || !check;
            let dentry = slot.dentry();
            let cover = if dentry.is_remote() || dentry.folds_case() || dentry.is_locked() || !lasts
            {
                Cover::Nothing
            } else if access.may_write() {
                Cover::Whiteouts
            } else {
                Cover::All
            };
            if cover != Cover::Nothing {
                let wanted = Wanted {
                    entries: cover == Cover::All,
                    whiteouts: access.honours_whiteouts(),
                };
                whiteout::each_entry(slot.path()?, |name, role, _, _| {
                    names.push(i, name, role, wanted)
                })?;
            }
            if cover != Cover::All {
                open.push(i, GFP_KERNEL)?;
            }
            let checked = check && cover == Cover::All && access.perm != Perm::Rr;
            instances.push(
                Instance {
                    cover,
                    checked,
                    stamp,
                },
                GFP_KERNEL_ACCOUNT,
            )?;
        }
        Ok(DirIndex {
            stack: stack.serial(),
            check,
            instances,
            open,
            names: names.finish()?,
            hidden: Atomic::new(false),
        })
    }
}

/// A merged listing and what it was made from.
pub(crate) struct Listing {
    pub(crate) names: Snapshot,
    /// The change stamps of the instances, topmost first.
    pub(crate) stamps: KVec<Stamp>,
    /// [`Inode::changes`](crate::union::types::Inode::changes).
    pub(crate) changes: u64,
    /// Whiteouts are among them (`shwh`).
    pub(crate) shwh: bool,
    /// When it was read.
    pub(crate) read: Instant<Monotonic>,
}
