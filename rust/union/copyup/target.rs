// SPDX-License-Identifier: GPL-2.0

//! Which branch a change goes to.
//!
//! Facts are gathered here, [`crate::logic::create`] and [`crate::logic::copyup`]
//! choose. Most of the time the topmost instance of the directory, or of the
//! object, is on a writable branch, and nothing needs to be asked.

#![forbid(unsafe_code)]

use crate::compat::errno::ESTALE;
use crate::fs::access::dirop;
use crate::logic::{
    copyup,
    create,
    options::{
        CopyUpPolicy,
        CreatePolicy, //
    }, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        whiteout::{
            self,
            UserName, //
        }, //
    },
    types::{
        Dentry,
        Inode,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// What is to be made.
#[derive(Clone, Copy)]
pub(crate) struct NewEntry<'a> {
    /// Its name, unless it gets none yet.
    pub(crate) name: Option<UserName<'a>>,
    /// Whether it is a directory.
    pub(crate) is_dir: bool,
}

/// The branch on which `entry` is made in the directory `dir`.
///
/// # Errors
///
/// `EROFS` if there is none.
pub(crate) fn for_new_entry(
    section: Section<'_>,
    dir: &Dentry,
    entry: NewEntry<'_>,
) -> Result<Arc<Branch>> {
    let inode = dir.object()?;
    let info = dir.sb().data();
    let policy = section.settings().create;
    let top = inode.stack(section)?.top().branch();
    if policy == CreatePolicy::Tdp && top.writable() {
        return Ok(top.clone());
    }
    let mut facts = facts(section, inode)?;
    info.cred.scope(|| {
        if policy == CreatePolicy::Tdp {
            // The whiteout of a name is never above the topmost instance of its directory.
            return pick(section, dir, facts, |facts| create::tdp(facts, None));
        }
        if let Some(seconds) = policy.believes() {
            info.space.tell(section.table(), &mut facts, seconds)?;
        }
        let bounds = bounds(section, dir, entry.name, &facts)?;
        pick(section, dir, facts, |facts| {
            let turn = &mut || info.space.turn(entry.is_dir);
            create::choose(policy, facts, bounds, turn)
        })
    })
}

/// What would hide a new entry `name` of the directory `dir` on lower branches. The mounter's
/// credentials are in force.
fn bounds(
    section: Section<'_>,
    dir: &Dentry,
    name: Option<UserName<'_>>,
    facts: &[create::Branch],
) -> Result<create::Bounds> {
    let inode = dir.object()?;
    let whiteout = match name {
        Some(name) => topmost(section, inode, |slot| whiteout::exists(slot.dentry(), name))?,
        None => None,
    };
    let opaque =
        |inode: &Inode| topmost(section, inode, |slot| whiteout::is_opaque(&**slot.dentry()));
    let mut bounds = create::Bounds {
        own: upper(whiteout, opaque(inode)?),
        inherited: None,
    };
    // On branches that have the directory, its parents hide nothing.
    let lowest = facts.iter().rposition(|fact| fact.has_parent);
    let below = lowest.map_or(0, |at| at.saturating_add(1));
    if !facts.iter().skip(below).any(|fact| fact.writable) {
        return Ok(bounds);
    }
    let mut child: ARef<Dentry> = dir.into();
    while !child.is_root() {
        let parent = child.parent();
        let inode = parent.object()?;
        let name = child.name()?;
        let name = whiteout::check(&name)?;
        let whiteout = topmost(section, inode, |slot| whiteout::exists(slot.dentry(), name))?;
        bounds.inherited = upper(bounds.inherited, upper(whiteout, opaque(inode)?));
        child = parent;
    }
    Ok(bounds)
}

/// The topmost branch whose marks count and whose instance of `dir` is one for which `has` holds.
fn topmost(
    section: Section<'_>,
    dir: &Inode,
    has: impl Fn(&Slot) -> Result<bool>,
) -> Result<Option<usize>> {
    for slot in dir.stack(section)?.iter() {
        if slot.branch().access.honours_whiteouts() && has(slot)? {
            return Ok(section.table().index_of(slot.branch().id));
        }
    }
    Ok(None)
}

/// The upper one of two branches, of which each may not be there.
fn upper(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The branch on which an entry of `dir`, whose top instance is `top`, is changed.
///
/// # Errors
///
/// `EROFS` if there is none.
pub(crate) fn above(section: Section<'_>, dir: &Dentry, top: &Slot) -> Result<Arc<Branch>> {
    if top.branch().writable() {
        return Ok(top.branch().clone());
    }
    let info = dir.sb().data();
    let table = section.table();
    let inode = dir.object()?;
    let cpup = section.settings().cpup;
    let first = inode.stack(section)?.top().branch();
    let is_above = table.is_above(first.id, top.branch().id);
    if cpup == CopyUpPolicy::Tdp && first.writable() && is_above {
        return Ok(first.clone());
    }
    let at = table.index_of(top.branch().id).ok_or(ESTALE)?;
    let facts = facts(section, inode)?;
    info.cred
        .scope(|| pick(section, dir, facts, |facts| copyup::choose(cpup, facts, at)))
}

/// The nearest writable branch above `top`, the top instance of an entry of `dir`.
///
/// # Errors
///
/// `EROFS` if there is none.
pub(crate) fn nearest_above(section: Section<'_>, dir: &Dentry, top: &Slot) -> Result<Arc<Branch>> {
    let info = dir.sb().data();
    let at = section.table().index_of(top.branch().id).ok_or(ESTALE)?;
    let facts = facts(section, dir.object()?)?;
    info.cred.scope(|| {
        pick(section, dir, facts, |facts| {
            create::nearest_writable_above(facts, at)
        })
    })
}

/// The branch that `choose` chooses of those on which the directory `dir` can be. The mounter's
/// credentials are in force.
///
/// # Errors
///
/// `EROFS` if there is none.
fn pick(
    section: Section<'_>,
    dir: &Dentry,
    mut facts: KVec<create::Branch>,
    mut choose: impl FnMut(&[create::Branch]) -> Option<usize>,
) -> Result<Arc<Branch>> {
    loop {
        let at = choose(&facts).ok_or(EROFS)?;
        let branch = section.table().order.get(at).ok_or(EROFS)?;
        if fits(section, dir, branch)? {
            return Ok(branch.clone());
        }
        // Another one, then.
        facts.get_mut(at).ok_or(EROFS)?.writable = false;
    }
}

/// A name that an object gets, beside another one or in its place.
pub(crate) struct NewName<'a> {
    /// The directory that it is given in.
    pub(crate) dir: &'a Dentry,
    pub(crate) name: UserName<'a>,
    /// What it leads to now.
    pub(crate) victim: Option<&'a Inode>,
    /// The directory of the other name, if there is one.
    pub(crate) from: Option<&'a Dentry>,
    /// Whether that is not needed on the branch of the object.
    pub(crate) stays: bool,
}

impl NewName<'_> {
    /// Whether the directories can be on `branch`.
    fn fits(&self, section: Section<'_>, branch: &Branch, own: &Branch) -> Result<bool> {
        if !has_room(section, self.dir, branch)? {
            return Ok(false);
        }
        match self.from {
            Some(from) if !self.stays || branch.id != own.id => has_room(section, from, branch),
            _ => Ok(true),
        }
    }
}

/// The branch on which an object of `own`, the branch it can be changed on, gets the name `new`:
/// one that is not hidden by what the name is now, the victim or a whiteout, and on which both
/// directories can be.
///
/// # Errors
///
/// `EROFS` if there is none.
pub(crate) fn for_new_name(
    section: Section<'_>,
    new: &NewName<'_>,
    own: &Branch,
) -> Result<Arc<Branch>> {
    let table = section.table();
    let mut at = limit(section, new, own)?;
    loop {
        let branch = table.order.get(at).ok_or(EROFS)?;
        if branch.writable() && new.fits(section, branch, own)? {
            return Ok(branch.clone());
        }
        at = at.checked_sub(1).ok_or(EROFS)?;
    }
}

/// The lowest branch on which the name `new` of an object of `own` is not hidden.
fn limit(section: Section<'_>, new: &NewName<'_>, own: &Branch) -> Result<usize> {
    let dir = new.dir.object()?;
    let info = dir.sb().data();
    let table = section.table();
    let position = |branch: &Branch| table.index_of(branch.id).ok_or(ESTALE);
    let stack = dir.stack(section)?;
    // The directory exists from its top instance downwards, not on each branch.
    let mut limit = position(own)?;
    if stack.on(own.id).is_none() {
        limit = limit.min(position(stack.top().branch())?);
    }
    if let Some(victim) = new.victim {
        limit = limit.min(position(victim.stack(section)?.top().branch())?);
    }
    for slot in stack.iter() {
        let at = position(slot.branch())?;
        if at >= limit {
            break;
        }
        let hidden = info.cred.scope(|| {
            let branch = slot.branch();
            Ok::<bool, Error>(
                branch.access.honours_whiteouts() && whiteout::exists(slot.dentry(), new.name)?,
            )
        })?;
        if hidden {
            limit = at;
        }
    }
    Ok(limit)
}

/// What policies want to know of the branches, seen from the directory `dir`.
fn facts(section: Section<'_>, dir: &Inode) -> Result<KVec<create::Branch>> {
    let order = &section.table().order;
    let mut facts = KVec::with_capacity(order.len(), GFP_KERNEL)?;
    for branch in order.iter() {
        facts.push(
            create::Branch {
                writable: branch.writable(),
                has_parent: false,
                free: 0,
            },
            GFP_KERNEL,
        )?;
    }
    // Instances are in the order of the table.
    let mut from: usize = 0;
    for slot in dir.stack(section)?.iter() {
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

/// As [`fits`], with any credentials in force.
#[inline]
pub(crate) fn has_room(section: Section<'_>, dir: &Dentry, branch: &Branch) -> Result<bool> {
    let inode = dir.object()?;
    if inode.slot_on(section, branch.id)?.is_some() {
        return Ok(true);
    }
    let info = inode.sb().data();
    info.cred.scope(|| fits(section, dir, branch))
}

/// Whether the directory `dir` has an instance on `branch`, or can get one: no object of another
/// type bears its name, or that of a parent, there. The mounter's credentials are in force.
///
/// Between the instances of a directory such objects are stepped over by look-ups.
fn fits(section: Section<'_>, dir: &Dentry, branch: &Branch) -> Result<bool> {
    let mut missing: ARef<Dentry> = dir.into();
    if missing.object()?.slot_on(section, branch.id)?.is_some() {
        return Ok(true);
    }
    loop {
        let parent = missing.parent();
        if missing.is_root() {
            return Ok(false);
        }
        if let Some(slot) = parent.object()?.slot_on(section, branch.id)? {
            let found = dirop::lookup_positive(slot.dentry().dir()?, &missing.name()?)?;
            // A directory is its own instance, which somebody promotes at this very moment.
            return Ok(found.is_none_or(|found| found.is_dir()));
        }
        missing = parent;
    }
}
