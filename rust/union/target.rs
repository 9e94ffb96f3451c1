// SPDX-License-Identifier: GPL-2.0

//! Which branch a change goes to.
//!
//! Facts are gathered here, [`crate::logic::create`] and [`crate::logic::copyup`]
//! choose. Most of the time the topmost instance of the directory, or of the
//! object, is on a writable branch, and nothing needs to be asked.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        Slot, //
    },
    whiteout,
    Dentry,
    Inode, //
};
use crate::fs::dirop;
use crate::logic::{
    copyup,
    create, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// The branch on which a new entry of the directory `dir` is made.
///
/// # Errors
///
/// `EROFS` if there is none.
pub(crate) fn for_new_entry(dir: &Inode) -> Result<Arc<Branch>> {
    let top = dir.stack()?.top().branch();
    if top.writable() {
        return Ok(top.clone());
    }
    create::tdp(&facts(dir)?, None)
        .and_then(|at| dir.sb().data().table().order.get(at))
        .cloned()
        .ok_or(EROFS)
}

/// The branch on which an entry of `dir`, whose top instance is `top`, is changed.
///
/// # Errors
///
/// `EROFS` if there is none.
pub(crate) fn above(dir: &Dentry, top: &Slot) -> Result<Arc<Branch>> {
    if top.branch().writable() {
        return Ok(top.branch().clone());
    }
    let info = dir.sb().data();
    let table = info.table();
    let at = table.index_of(top.branch().id).ok_or(ESTALE)?;
    let mut facts = facts(dir.object()?)?;
    loop {
        let chosen = copyup::choose(info.settings().cpup, &facts, at).ok_or(EROFS)?;
        let branch = table.order.get(chosen).ok_or(EROFS)?;
        if info.cred.scope(|| fits(dir, branch))? {
            return Ok(branch.clone());
        }
        // Another one, then.
        facts.get_mut(chosen).ok_or(EROFS)?.writable = false;
    }
}

/// The branch on which `name` is given to an object of `own`, the branch it can be changed on: one
/// that is not hidden by what the name is now in `dir`, `victim` or a whiteout.
pub(crate) fn not_hidden(
    dir: &Inode,
    name: &[u8],
    victim: Option<&Inode>,
    own: &Branch,
) -> Result<Arc<Branch>> {
    let info = dir.sb().data();
    let table = info.table();
    let position = |branch: &Branch| table.index_of(branch.id).ok_or(ESTALE);
    let mut best = position(own)?;
    let stack = dir.stack()?;
    // The directory exists from its top instance downwards, not on each branch.
    let mut limit = best;
    if stack.on(own.id).is_none() {
        limit = limit.min(position(stack.top().branch())?);
    }
    if let Some(victim) = victim {
        limit = limit.min(position(victim.stack()?.top().branch())?);
    }
    for slot in stack.iter() {
        let at = position(slot.branch())?;
        if at >= limit {
            break;
        }
        let hidden = info.cred.scope(|| {
            let branch = slot.branch();
            Ok::<bool, Error>(
                branch.access.honours_whiteouts() && whiteout::exists(slot.dentry(), name)?,
            )
        })?;
        if hidden {
            limit = at;
        }
    }
    if limit < best {
        best = limit;
        while !table
            .order
            .get(best)
            .is_some_and(|branch| branch.writable())
        {
            best = best.checked_sub(1).ok_or(EROFS)?;
        }
    }
    table.order.get(best).cloned().ok_or(EROFS)
}

/// What policies want to know of the branches, seen from the directory `dir`.
fn facts(dir: &Inode) -> Result<KVec<create::Branch>> {
    let order = &dir.sb().data().table().order;
    let mut facts = KVec::with_capacity(order.len(), GFP_KERNEL)?;
    for branch in order.iter() {
        facts.push(
            create::Branch {
                writable: branch.writable(),
                has_parent: false,
            },
            GFP_KERNEL,
        )?;
    }
    // Instances are in the order of the table.
    let mut from: usize = 0;
    for slot in dir.stack()?.iter() {
        let id = slot.branch().id;
        let Some(at) = order.iter().skip(from).position(|branch| branch.id == id) else {
            continue;
        };
        from = from.saturating_add(at);
        if let Some(fact) = facts.get_mut(from) {
            fact.has_parent = true;
        }
        from = from.saturating_add(1);
    }
    Ok(facts)
}

/// Whether the directory `dir` has an instance on `branch`, or can get one: no object of another
/// type bears its name, or that of a parent, there. The mounter's credentials are in force.
///
/// Between the instances of a directory such objects are stepped over by look-ups.
fn fits(dir: &Dentry, branch: &Branch) -> Result<bool> {
    let mut missing: ARef<Dentry> = dir.into();
    if missing.object()?.slot_on(branch.id)?.is_some() {
        return Ok(true);
    }
    loop {
        let parent = missing.parent();
        if missing.is_root() {
            return Ok(false);
        }
        if let Some(slot) = parent.object()?.slot_on(branch.id)? {
            return Ok(dirop::lookup_positive(slot.dentry(), &missing.name()?)?.is_none());
        }
        missing = parent;
    }
}
