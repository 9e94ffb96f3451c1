// SPDX-License-Identifier: GPL-2.0

//! What a file handle says of one instance.

#![forbid(unsafe_code)]

use super::{
    moves::{
        Move,
        Moves,
        Room, //
    },
    sb::SbInfo, //
};
use crate::fs::access::export;
use crate::logic::{
    handle::{
        Object,
        Part,
        Target,
        MAX_WORDS, //
    },
    hash::Key, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            BranchTable,
            Slot, //
        },
        sealing, //
    },
    types::{
        Inode,
        LowerInode,
        Section, //
    }, //
};
use kernel::prelude::*;

impl Moves {
    /// `inode` was copied up, or moved down, to `slot`.
    pub(crate) fn copied(&self, section: Section<'_>, room: Room, inode: &Inode, slot: &Slot) {
        let Room {
            node,
            origin,
            mut now,
        } = room;
        let written = slot.inode().and_then(|lower| {
            let info = inode.sb().data();
            write(
                section,
                info,
                slot,
                lower,
                &mut [0; 2 * MAX_WORDS],
                &mut now,
            )
        });
        if let Err(error) = written {
            pr_debug!(
                "inode {} has no handle any more: {:?}\n",
                inode.ino(),
                error
            );
            now.truncate(0);
        }
        let node = node
            .into_reservation()
            .into_node(inode.ino(), Move::Copied(origin, now.into()));
        let old = self.moves.lock().insert(node);
        drop(old);
    }
}

/// What tells `branch` from others also after the next mount.
pub(crate) fn tag(branch: &Branch) -> Result<u32> {
    let identity = export::identity(branch.root_inode()?);
    Ok(Key(0, 0).hash(&identity))
}

/// Whether `branch` is the topmost one and written by the union alone: nothing hides what is there,
/// and what is removed is gone.
pub(crate) fn is_plain_top(table: &BranchTable, branch: &Branch) -> bool {
    let top = table.order.first();
    branch.access.may_write() && top.is_some_and(|top| top.id == branch.id)
}

/// Appends the handle of `lower`, the instance `slot`, to `out`. `words` is for use on the way.
pub(crate) fn write(
    section: Section<'_>,
    info: &SbInfo,
    slot: &Slot,
    lower: &LowerInode,
    words: &mut [u32],
    out: &mut KVec<u32>,
) -> Result {
    let branch = slot.branch();
    let (kind, len) = export::encode(lower, words)?;
    let (object, rest) = words.split_at_mut_checked(len).ok_or(EOVERFLOW)?;
    let mut object = Object {
        branch: branch.id.number(),
        tag: tag(branch)?,
        object: Part {
            kind,
            words: object,
        },
        dir: None,
        seal: None,
    };
    if !lower.is_dir() {
        let one_name = lower.nlink() == 1;
        if branch.access.may_write() || !one_name {
            let key = sealing::current(section.table()).map(|(_, key)| key.key());
            object.seal = Some(object.seal_by(key.unwrap_or(info.moves.key)));
        }
        if one_name && !is_plain_top(section.table(), branch) {
            let parent = slot.dentry().parent();
            let (kind, len) = export::encode(parent.positive()?, rest)?;
            object.dir = Some(Part {
                kind,
                words: rest.get(..len).ok_or(EOVERFLOW)?,
            });
        }
    }
    Target::Object(object).write(out)
}
