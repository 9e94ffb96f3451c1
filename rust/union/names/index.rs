// SPDX-License-Identifier: GPL-2.0

//! What is known of a directory's instances, so that they need not be asked.
//!
//! Without it a look-up asks each instance for the name, and those above what it
//! finds for a whiteout: with many layers, many times the work of one look-up. A
//! directory in which names are looked up again and again is listed once, and
//! from then on its [`DirIndex`] says where a name is, and where it is not.
//!
//! # What it covers
//!
//! - instances that are not written by us: names and whiteouts, as long as their
//!   change stamps hold (`udba=none` and `rr` branches: in any case);
//! - instances on writable branches: whiteouts only. Our own changes move their
//!   stamps. After that an instance is asked again for a whiteout that could hide
//!   something; but where nothing lies below, that we made none since is enough.
//! - nothing of an instance whose file system wants to be asked itself, treats
//!   different names as the same, or has just changed it and keeps coarse times.
//!
//! # Locking
//!
//! An index is built without a lock and published under
//! [`crate::union::objects::object::InodeInfo::dir`]; who loses a race drops its own. It holds no
//! reference to anything of a branch, and dies with its inode. It is made in
//! look-ups, which hold `i_rwsem` of the directory shared, and whiteouts are made
//! with it held exclusively: so [`hides`] reaches each index that misses one.

#![forbid(unsafe_code)]

use super::ask::Ask;
use crate::fs::{
    base::once::{
        load,
        store, //
    },
    objects::cred::Cred, //
};
use crate::logic::{
    index::{
        Sightings,
        What, //
    },
    options::Udba,
    stats::Counter, //
};
use crate::union::{
    branches::{
        branch::Stack,
        marks::Marks,
        whiteout::{
            self,
            Sought,
            UserName, //
        }, //
    },
    objects::cache::{
        Cover,
        DirIndex, //
    },
    state::sb::{
        SbInfo,
        Shape, //
    },
    types::{
        Inode,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What a probe costs, in the unit in which listings are priced: some thousand instructions.
const PROBE: usize = 4;
/// What it costs to open and list a directory of at most [`SMALL`] bytes.
const LIST: usize = 8;
/// Nearly all directories are smaller.
const SMALL: usize = 4096;
/// How many bytes of a larger one are listed for the price of 1.
const BYTES: usize = 64;

/// What it costs to list the instances of `stack`.
fn price(stack: &Stack) -> usize {
    stack
        .iter()
        .filter_map(|slot| slot.inode().ok())
        .fold(0, |sum, inode| {
            let size = usize::try_from(inode.size()).unwrap_or(usize::MAX);
            sum.saturating_add(LIST)
                .saturating_add(size.saturating_sub(SMALL) / BYTES)
        })
}

/// The instances of a directory with what is known of them now.
pub(crate) struct View<'a> {
    stack: &'a Stack,
    shape: &'a Shape,
    marks: &'a Marks,
    cred: &'a Cred,
    index: Option<Arc<DirIndex>>,
    ask: Ask<'a>,
}

impl<'a> View<'a> {
    /// Of instances of which nothing is known.
    pub(crate) fn plain(info: &'a SbInfo, shape: &'a Shape, stack: &'a Stack) -> Self {
        View {
            ask: Ask::AtOnce,
            stack,
            shape,
            marks: &info.marks,
            cred: &info.cred,
            index: None,
        }
    }

    /// Of `dir`, as it is known already. One serves a whole operation: our own changes are kept out
    /// by `i_rwsem` of `dir`, which the VFS holds; one that somebody else makes in a branch
    /// meanwhile may as well come after it, and what is changed is looked up once more under the
    /// branch's lock.
    pub(crate) fn of(section: Section<'a>, dir: &'a Inode) -> Result<Self> {
        let info = dir.sb().data();
        let stack = dir.stack(section)?;
        let index = if stack.len() > 1 {
            let index = dir.data().dir.lock().index.clone();
            index.filter(|index| index.holds(stack, must_check(section)))
        } else {
            None
        };
        Ok(View {
            index,
            ..Self::plain(info, section.shape(), stack)
        })
    }

    /// Of `dir`, for a look-up: an index is made if it is likely to pay.
    pub(crate) fn for_lookup(section: Section<'a>, dir: &'a Inode) -> Result<Self> {
        let view = Self::of(section, dir)?;
        let stack = view.stack;
        let stats = dir.sb().data().stats();
        if view.index.is_some() {
            stats.count(Counter::IndexHits);
            return Ok(view);
        }
        if stack.len() < 2 {
            // One that can be neither of the others.
            stats.count(Counter::Lookups);
            return Ok(view);
        }
        stats.count(Counter::IndexMisses);
        if !is_due(dir, stack) {
            return Ok(view);
        }
        let check = must_check(section);
        let made = dir
            .sb()
            .data()
            .cred
            .scope(|| DirIndex::make(stack, check))
            .and_then(|made| Ok(Arc::new(made, GFP_KERNEL_ACCOUNT)?));
        // Without one the instances are asked, as before.
        let Ok(index) = made else {
            return Ok(view);
        };
        stats.count(Counter::IndexBuilds);
        let old = dir.data().dir.lock().index.replace(index.clone());
        drop(old);
        Ok(View {
            index: Some(index),
            ..view
        })
    }

    /// What is known of marks in directories of branches.
    pub(crate) fn marks(&self) -> &'a Marks {
        self.marks
    }

    /// The same, if the instances are to be asked by `ask`.
    pub(crate) fn by(self, ask: Ask<'a>) -> Self {
        View { ask, ..self }
    }

    /// How the instances are asked.
    pub(crate) fn ask(&self) -> Ask<'a> {
        self.ask
    }

    /// The branches and options that count.
    pub(crate) fn shape(&self) -> &'a Shape {
        self.shape
    }

    /// The instances.
    pub(crate) fn stack(&self) -> &'a Stack {
        self.stack
    }

    /// What is known of `name`.
    pub(crate) fn known(&self, name: Sought<'_>) -> Known<'_> {
        // Marks are not in it under names of their own.
        let index = self.index.as_deref().zip(name.object());
        let (index, sightings) = index.map_or((None, None), |(index, name)| {
            (Some(index), Some(index.names.find(&name)))
        });
        Known {
            index,
            stack: self.stack,
            entries: sightings.clone(),
            whiteouts: sightings,
        }
    }

    /// Whether the instance `at`, on a writable branch, has a whiteout of `name` that must go when
    /// the name is made.
    pub(crate) fn whiteouted(&self, at: usize, name: UserName<'_>) -> Result<bool> {
        let Some(slot) = self.stack.get(at) else {
            return Ok(false);
        };
        // Where nothing lies below, a whiteout hides nothing, and beside an entry it has no effect.
        if self.stack.len() < 2 || !slot.branch().access.honours_whiteouts() {
            return Ok(false);
        }
        let mut known = self.known(name.into());
        let next = known.next_whiteout(at);
        if next > at {
            return Ok(false);
        }
        let ours_alone = self.index.as_ref().is_some_and(|index| {
            !load(&index.hidden)
                && known.covers_whiteouts(at)
                && !known.saw_whiteout(at)
                && known.next_name(at.saturating_add(1)) >= self.stack.len()
        });
        if ours_alone {
            return Ok(false);
        }
        self.cred.scope(|| whiteout::exists(slot.dentry(), name))
    }
}

/// Whether change stamps must be compared.
fn must_check(section: Section<'_>) -> bool {
    section.settings().udba != Udba::None
}

/// Counts a look-up without an index. Whether those since the last attempt cost as much as one.
fn is_due(dir: &Inode, stack: &Stack) -> bool {
    let price = price(stack);
    let probes = stack
        .iter()
        .filter(|slot| !slot.branch().access.may_write())
        .count();
    let cost = u32::try_from(probes.saturating_mul(PROBE)).unwrap_or(u32::MAX);
    let mut cache = dir.data().dir.lock();
    cache.spent = cache.spent.saturating_add(cost);
    let due = probes > 0 && cache.spent as usize >= price;
    if due {
        cache.spent = 0;
    }
    due
}

/// A whiteout is about to be made in an instance of `dir`.
pub(crate) fn hides(dir: &Inode) {
    if let Some(index) = &dir.data().dir.lock().index {
        store(&index.hidden, true);
    }
}

/// What is known of one name. Instances are asked for in ascending order.
pub(crate) struct Known<'a> {
    index: Option<&'a DirIndex>,
    stack: &'a Stack,
    entries: Option<Sightings<'a>>,
    whiteouts: Option<Sightings<'a>>,
}

impl Known<'_> {
    /// The next instance, `from` or below it, that may have the name; the number of instances if
    /// there is none.
    pub(crate) fn next_name(&mut self, from: usize) -> usize {
        let (Some(index), Some(entries)) = (self.index, &mut self.entries) else {
            return from;
        };
        let Ok(from) = u16::try_from(from) else {
            return from;
        };
        let seen = entries.next(from, What::Entry);
        let open = index.open.iter().copied().find(|open| *open >= from);
        self.first(seen, open)
    }

    /// The next instance, `from` or below it, that may have a whiteout of the name; the number of
    /// instances if there is none.
    pub(crate) fn next_whiteout(&mut self, from: usize) -> usize {
        let (Some(index), Some(whiteouts)) = (self.index, &mut self.whiteouts) else {
            return from;
        };
        let Ok(from) = u16::try_from(from) else {
            return from;
        };
        let seen = whiteouts.next(from, What::Whiteout);
        let open =
            index.open.iter().copied().find(|open| {
                *open >= from && !self.still_covers_whiteouts(index, usize::from(*open))
            });
        self.first(seen, open)
    }

    fn first(&self, seen: Option<u16>, open: Option<u16>) -> usize {
        let first = match (seen, open) {
            (Some(seen), Some(open)) => Some(seen.min(open)),
            (seen, open) => seen.or(open),
        };
        first.map_or(self.stack.len(), usize::from)
    }

    /// Whether the whiteouts of the instance `at`, on a writable branch, are what they were.
    fn still_covers_whiteouts(&self, index: &DirIndex, at: usize) -> bool {
        index
            .instances
            .get(at)
            .zip(self.stack.get(at))
            .is_some_and(|(known, slot)| known.cover == Cover::Whiteouts && known.unchanged(slot))
    }

    /// Whether the whiteouts of the instance `at` were listed.
    fn covers_whiteouts(&self, at: usize) -> bool {
        self.index
            .and_then(|index| index.instances.get(at))
            .is_some_and(|known| known.cover != Cover::Nothing)
    }

    /// Whether a whiteout was there when the instance `at` was listed.
    fn saw_whiteout(&mut self, at: usize) -> bool {
        let Ok(at) = u16::try_from(at) else {
            return true;
        };
        self.whiteouts
            .as_mut()
            .is_some_and(|whiteouts| whiteouts.next(at, What::Whiteout) == Some(at))
    }
}
