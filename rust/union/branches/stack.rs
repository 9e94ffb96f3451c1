// SPDX-License-Identifier: GPL-2.0

//! Stacks of slots: room for one, the order of its slots, the link count that it adds up to.

#![forbid(unsafe_code)]

use super::branch::{
    Branch,
    BranchTable,
    Slot,
    Slots,
    Stack, //
};
use crate::compat::errno::ESTALE;
use crate::fs::objects::stack::StackSpace;
use kernel::prelude::*;

/// The link count that stat(2) shows. For a directory it counts the sub-directories of each
/// instance, so it is never too small for programs that trust it. 1 tells them that nobody counted,
/// as btrfs does.
#[inline(never)]
pub(crate) fn link_count(stack: &Stack) -> Result<u32> {
    let mut count = stack.top_inode().nlink();
    if !stack.top_inode().is_dir() {
        return Ok(count);
    }
    for slot in stack.rest() {
        let nlink = slot.inode()?.nlink();
        if count == 1 || nlink == 1 {
            return Ok(1);
        }
        count = count.saturating_add(nlink.saturating_sub(2));
    }
    if stack.top().is_root() && count > 2 {
        // The directories of bookkeeping do not show.
        let works = stack.iter().filter(|slot| slot.branch().work.is_some());
        count = works.fold(count, |count, _| count.saturating_sub(2)).max(2);
    }
    Ok(count)
}

/// A stack of these slots, which are not empty.
pub(crate) fn stack_of(slots: Slots) -> Result<KBox<Stack>> {
    let (top, rest) = slots.split().ok_or(EIO)?;
    StackSpace::new()?.fill(top, rest)
}

/// Memory for a new stack, taken before a change that must not fail after it.
pub(crate) struct Room {
    space: StackSpace<Branch>,
    rest: KVec<Slot>,
}

impl Room {
    /// For one slot.
    pub(crate) fn alone() -> Result<Self> {
        Ok(Room {
            space: StackSpace::new()?,
            rest: KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?,
        })
    }

    /// For one more slot than `stack` has.
    pub(crate) fn beside(stack: &Stack) -> Result<Self> {
        let mut rest = KVec::with_capacity(stack.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
        for slot in stack.iter() {
            rest.push(slot.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Room {
            space: StackSpace::new()?,
            rest,
        })
    }

    /// The stack, with `slot` at its place in the order of `table`. Allocates nothing.
    pub(crate) fn fill(self, table: &BranchTable, slot: Slot) -> Result<KBox<Stack>> {
        let Room { space, mut rest } = self;
        let place = table.index_of(slot.branch().id).ok_or(ESTALE)?;
        let at = rest
            .iter()
            .position(|other| table.index_of(other.branch().id).is_none_or(|i| i > place))
            .unwrap_or(rest.len());
        rest.insert_within_capacity(at, slot).map_err(|_| EIO)?;
        let top = rest.remove(0).map_err(|_| EIO)?;
        space.fill(top, rest)
    }
}
