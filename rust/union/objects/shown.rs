// SPDX-License-Identifier: GPL-2.0

//! What an inode shows that differs from what its top instance says.
//!
//! # Change times
//!
//! A native file system changes the change time of an object when the object is changed, and of a
//! file when one of its names goes. A copy-up is no change for the user, but the copy, and the
//! directory that it gets into, have new times, and nobody can set a change time. The reverse is
//! a file on a branch that is not written: it does not learn that a whiteout hides one of its
//! names. So an inode knows one change time of its instance in place of which another is shown. The
//! next real change ends that. It is forgotten when the inode is.
//!
//! # Link counts of directories
//!
//! The sub-directories that the instances of a directory count are too many by the *surplus*: those
//! that are hidden, and those that have several instances. It is known from a listing, and from
//! what the union does: a copy-up of a sub-directory adds one, so does one that is hidden. It holds
//! as long as the instances count what they did and were not modified but by us ([`Print`]): what
//! others do on branches can only make the count that is shown too large. Who changes a directory
//! looks at that before ([`Inode::notice_others`]), and takes the surplus over to what it looks
//! like then.

#![forbid(unsafe_code)]

use crate::compat::barrier::smp_mb;
use crate::fs::{
    base::once::{
        load_acquire,
        store_release, //
    },
    objects::time::ChangeTime, //
};
use crate::union::{
    branches::{
        branch::{
            BranchId,
            Stack, //
        },
        stack::link_count, //
    },
    types::{
        Inode,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    }, //
};

/// A change time in place of which another one is shown.
pub(crate) struct Veil {
    /// That of the instance; 0 if there is none.
    real: Atomic<u64>,
    shown: Atomic<u64>,
}

impl Veil {
    /// None.
    pub(crate) fn new() -> Self {
        Veil {
            real: Atomic::new(0),
            shown: Atomic::new(0),
        }
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        load_acquire(&self.real) != 0
    }

    /// What is shown in place of `real`.
    pub(crate) fn over(&self, real: ChangeTime) -> ChangeTime {
        let before = load_acquire(&self.real);
        if before == 0 || real.word() != Some(before) {
            return real;
        }
        let shown = load_acquire(&self.shown);
        // If somebody set it meanwhile, either is as true.
        if load_acquire(&self.real) != before {
            return real;
        }
        ChangeTime::of_word(shown)
    }

    /// Shows `shown` in place of `real`, unless one of the two is too far from now to be noted.
    fn set(&self, real: ChangeTime, shown: ChangeTime) {
        self.clear();
        if let Some((real, shown)) = real.word().zip(shown.word()) {
            store_release(&self.shown, shown);
            store_release(&self.real, real);
        }
    }

    /// The instance's time is shown.
    fn clear(&self) {
        if self.is_set() {
            store_release(&self.real, 0);
        }
    }
}

/// What the instances of a directory count, and when their names were changed last, for comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Print {
    /// A sum of the link counts, of [`Print::BITS`] bits.
    links: u32,
    /// A hash of the modification times, as long.
    times: u32,
}

/// Shows that what others did to a directory before a change by us was noticed.
#[must_use]
pub(crate) struct Noticed(());

impl Print {
    /// A prime: what one instance counts more makes another difference than what others do.
    const BASE: u32 = 0x9e37_79b1;
    /// The same for times.
    const TIMES: u64 = 0x9e37_79b9_7f4a_7c15;
    const BITS: u32 = 24;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// Of the instances `stack`.
    pub(crate) fn of(stack: &Stack) -> Result<Self> {
        let (mut links, mut times) = (0u32, 0u64);
        let mut weight = 1u32;
        for slot in stack.iter() {
            let inode = slot.inode()?;
            weight = weight.wrapping_mul(Self::BASE);
            links = links.wrapping_add(inode.nlink().wrapping_mul(weight));
            let (seconds, nanoseconds) = inode.mtime();
            // CAST: The bits matter, not the value.
            let time = (seconds as u64).rotate_left(30) ^ u64::from(nanoseconds);
            times = (times ^ time).wrapping_mul(Self::TIMES);
        }
        Ok(Print {
            links: links & Self::MASK,
            // CAST: So many bits are left.
            times: (times >> (u64::BITS - Self::BITS)) as u32,
        })
    }

    /// The same, if each change of names from now on is sure to make another one.
    pub(crate) fn lasting(stack: &Stack) -> Result<Option<Self>> {
        for slot in stack.iter() {
            let fixed = slot.branch().root.mount().sb_is_read_only();
            if !slot.inode()?.watch() && !fixed {
                return Ok(None);
            }
        }
        Self::of(stack).map(Some)
    }

    /// Whether it was `before` until the instance on `branch` counted one more, or one less, or
    /// just as many.
    fn follows(self, before: Self, stack: &Stack, branch: BranchId) -> bool {
        let mut weight = 1u32;
        for slot in stack.iter() {
            weight = weight.wrapping_mul(Self::BASE);
            if slot.branch().id == branch {
                break;
            }
        }
        let changed = self.links.wrapping_sub(before.links);
        [0, weight, weight.wrapping_neg()]
            .iter()
            .any(|step| (changed ^ step) & Self::MASK == 0)
    }
}

/// How many sub-directories too many the instances of a directory count, and the [`Print`] of the
/// instances, in one word.
pub(crate) struct Surplus(Atomic<u64>);

/// What is known of a surplus.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known(u64);

impl Known {
    const NOTHING: Self = Known(0);

    /// More than can be noted is not.
    fn new(print: Print, surplus: u32) -> Self {
        match u16::try_from(surplus) {
            Ok(0) | Err(_) => Self::NOTHING,
            Ok(surplus) => {
                let print = (u64::from(print.times) << Print::BITS) | u64::from(print.links);
                Known((print << u16::BITS) | u64::from(surplus))
            }
        }
    }

    /// It, and for which instances; `None` if it is nothing.
    fn get(self) -> Option<(Print, u32)> {
        let print = self.0 >> u16::BITS;
        // CAST: The parts.
        (self != Self::NOTHING).then_some((
            Print {
                links: print as u32 & Print::MASK,
                times: (print >> Print::BITS) as u32,
            },
            u32::from(self.0 as u16),
        ))
    }
}

impl Surplus {
    /// None that is known.
    pub(crate) fn new() -> Self {
        Surplus(Atomic::new(0))
    }

    #[inline]
    fn known(&self) -> Known {
        Known(load_acquire(&self.0))
    }

    /// Notes `new`, unless something else than `known` was noted meanwhile: that is given then.
    fn replace(&self, known: Known, new: Known) -> Result<(), Known> {
        if known == new {
            return Ok(());
        }
        self.0
            .cmpxchg(known.0, new.0, Full)
            .map(drop)
            .map_err(Known)
    }

    /// Notes what `f` makes of what is known.
    fn update(&self, f: impl Fn(Known) -> Known) {
        let mut known = self.known();
        while let Err(other) = self.replace(known, f(known)) {
            known = other;
        }
    }
}

/// The change time of the top instance of `stack`, if the next change is sure to have another one.
pub(crate) fn watched_time(stack: &Stack) -> Option<ChangeTime> {
    let top = stack.top_inode();
    top.watch().then(|| top.change_time())
}

impl Inode {
    /// The change time that stat(2) shows.
    pub(crate) fn shown_change_time(&self, section: Section<'_>) -> Result<ChangeTime> {
        let real = self.stack(section)?.top_inode().change_time();
        Ok(self.data().veil.over(real))
    }

    /// What was done to the top instance is no change for the user: `time` goes on being shown. If
    /// the next change might not show, its own time is shown.
    pub(crate) fn keep_change_time(&self, section: Section<'_>, time: ChangeTime) {
        let Ok(stack) = self.stack(section) else {
            return;
        };
        if let Some(real) = watched_time(stack) {
            self.show_in_place_of(real, time);
        }
    }

    /// The same where users may have changed the directory meanwhile: not if the count of their
    /// changes is not `changes` any more.
    pub(crate) fn keep_change_time_of(&self, section: Section<'_>, changes: u64, time: ChangeTime) {
        self.keep_change_time(section, time);
        // The change is counted before it ends this: one of the two sees the other.
        smp_mb();
        if self.changes() != changes {
            self.unveil();
        }
    }

    /// Shows `time` in place of `real`, a [`watched_time`].
    pub(crate) fn show_in_place_of(&self, real: ChangeTime, time: ChangeTime) {
        if real != time {
            self.data().veil.set(real, time);
        }
    }

    /// The user changed the object: the time of that is shown.
    pub(crate) fn unveil(&self) {
        self.data().veil.clear();
    }

    /// A name of the object is hidden, and its instance does not know. The object's lock is held.
    pub(crate) fn show_change(&self, section: Section<'_>) {
        let (Ok(stack), Ok(shown)) = (self.stack(section), self.shown_change_time(section)) else {
            return;
        };
        let top = stack.top_inode();
        // Where that is not sure, the next change shows at least as a file system's own would.
        top.watch();
        self.data()
            .veil
            .set(top.change_time(), self.now().after(shown));
    }

    /// The link count that stat(2) shows, of the instances `stack`.
    pub(crate) fn shown_links(&self, stack: &Stack) -> Result<u32> {
        let count = link_count(stack)?;
        // 1: nobody counts.
        match self.data().surplus.known().get() {
            Some((print, surplus)) if count > 2 && stack.top_inode().is_dir() => {
                match Print::of(stack)? == print {
                    true => Ok(count.saturating_sub(surplus).max(2)),
                    false => Ok(count),
                }
            }
            _ => Ok(count),
        }
    }

    /// What is known of the surplus.
    pub(crate) fn known_surplus(&self) -> Known {
        self.data().surplus.known()
    }

    /// The directory is about to be changed by us. What others changed before must not be taken for
    /// that: then nothing is known any more. The directory is locked.
    pub(crate) fn notice_others(&self, section: Section<'_>) -> Result<Noticed> {
        let known = self.known_surplus();
        if !self.is_surplus_of(section, known)? {
            let _ = self.data().surplus.replace(known, Known::NOTHING);
        }
        Ok(Noticed(()))
    }

    /// The link count is about to be shown: it must not be too small for what others changed. What
    /// is known stays, as it may be a change by us that is under way.
    #[inline]
    pub(crate) fn show_links(&self, section: Section<'_>) -> Result {
        match self.known_surplus() {
            Known::NOTHING => Ok(()),
            _ => self.update_links(section),
        }
    }

    #[cold]
    fn update_links(&self, section: Section<'_>) -> Result {
        self.update_nlink(self.shown_links(self.stack(section)?)?);
        Ok(())
    }

    /// Whether the instances are still those of which `known` is known.
    fn is_surplus_of(&self, section: Section<'_>, known: Known) -> Result<bool> {
        match known.get() {
            Some((print, _)) => Ok(Print::of(self.stack(section)?)? == print),
            None => Ok(true),
        }
    }

    /// A sub-directory was hidden, which an instance counts. The directory is locked, and
    /// [`Inode::counts_anew`] comes next.
    pub(crate) fn hides_one(&self, section: Section<'_>) -> Result {
        let now = Print::of(self.stack(section)?)?;
        self.data().surplus.update(|known| match known.get() {
            Some((print, surplus)) => Known::new(print, surplus.saturating_add(1)),
            None => Known::new(now, 1),
        });
        Ok(())
    }

    /// A sub-directory got another instance, on `branch`, and the directory its times back; before
    /// that `known` was known. A listing may have seen both meanwhile.
    pub(crate) fn counts_twice(
        &self,
        section: Section<'_>,
        branch: BranchId,
        known: Known,
    ) -> Result {
        let stack = self.stack(section)?;
        let new = match (Print::lasting(stack)?, known.get()) {
            (None, _) => Known::NOTHING,
            (Some(now), None) => Known::new(now, 1),
            (Some(now), Some((print, surplus)))
                if now.times == print.times && now.follows(print, stack, branch) =>
            {
                Known::new(now, surplus.saturating_add(1))
            }
            _ => Known::NOTHING,
        };
        let _ = self.data().surplus.replace(known, new);
        self.update_nlink(self.shown_links(stack)?);
        Ok(())
    }

    /// What we did just now changed the directory on `branch`; what others did before was noticed.
    pub(crate) fn counts_anew(&self, section: Section<'_>, branch: BranchId, _: Noticed) -> Result {
        if self.known_surplus() == Known::NOTHING {
            return Ok(());
        }
        let stack = self.stack(section)?;
        let now = Print::lasting(stack)?;
        self.data()
            .surplus
            .update(|known| match (known.get(), now) {
                (Some((print, surplus)), Some(now)) if now.follows(print, stack, branch) => {
                    Known::new(now, surplus)
                }
                _ => Known::NOTHING,
            });
        Ok(())
    }

    /// A listing shows `subdirs` sub-directories, where the instances `stack` count `count` and
    /// have this `print`.
    pub(crate) fn counted(&self, stack: &Stack, count: u32, print: Print, subdirs: u32) -> Result {
        let surplus = count.saturating_sub(subdirs.saturating_add(2));
        self.data().surplus.update(|_| Known::new(print, surplus));
        self.update_nlink(self.shown_links(stack)?);
        Ok(())
    }

    /// The directory is about to have the instances `stack`: those that it has, and an empty one.
    pub(crate) fn counts_beside(&self, section: Section<'_>, stack: &Stack) -> Result {
        if self.data().surplus.known().get().is_none() {
            return Ok(());
        }
        let (now, then) = (Print::of(self.stack(section)?)?, Print::of(stack)?);
        self.data().surplus.update(|known| match known.get() {
            Some((print, surplus)) if print == now => Known::new(then, surplus),
            _ => Known::NOTHING,
        });
        Ok(())
    }

    /// The directory has other instances: nothing is known of them.
    pub(crate) fn forget_surplus(&self) {
        self.data().surplus.update(|_| Known::NOTHING);
    }
}
