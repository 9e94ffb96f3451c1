// SPDX-License-Identifier: GPL-2.0

//! Promotion: giving an object an instance on a writable branch.
//!
//! # Terms
//!
//! - *target*: the branch that gets the instance.
//! - *staged*: the instance is complete, among the orphans of the target, under a
//!   temporary name or none; nobody sees it.
//! - *published*: it has its name, by one link or rename, and is the top slot.
//!
//! | module | what it does |
//! |---|---|
//! | [`target`] | which branch gets the instance |
//! | [`promote`] | who wants one: ancestors first, then the object |
//! | [`copy`], [`publish`] | one copy: staged, then published |
//! | [`data`] | the contents: shared, or copied with their holes |
//! | [`meta`] | owner, mode, times, extended attributes, ACLs |
//! | [`on_open`] | objects that are copied when they are opened |
//!
//! May use [`names`](super::names), [`plink`](super::plink) and what is below. The way back, to a
//! lower branch, is in [`mvdown`](super::user::mvdown); who copies what, for a remount, in
//! [`running`](super::state::running).
//! | [`seen`] | what is counted and traced of it |
//!
//! # Locking
//!
//! The object's lock is held from staging to publication: the winner does the
//! work, the others wait and find it done. [`crate::union::state::sb::SbInfo::replace`] is held
//! for the publication. No directory of a branch is locked while data is copied.
//!
//! Data is copied, and brought to disk, outside the section of the gate that the callback is
//! in, so that a remount does not wait for it
//! ([`CopyUp::outside`](crate::union::copyup::copy::CopyUp::outside)). After it the copy must still
//! be what is wanted: of the top instance, to a branch that is above it and may be written. If the
//! shape has changed, the callback begins anew in any case
//! ([`OVERTAKEN`](crate::fs::base::gate::OVERTAKEN)), as its caller may have looked at the old one.
//! Who wants a copy of the same file waits outside, too.
//!
//! # Invariants
//!
//! Ancestors are promoted first, from the top down, one at a time. A failed or
//! killed promotion leaves nothing behind but, at worst, an orphan that the next
//! mount removes.

#![forbid(unsafe_code)]

pub(crate) mod copy;
pub(crate) mod data;
pub(crate) mod meta;
pub(crate) mod on_open;
pub(crate) mod promote;
pub(crate) mod publish;
pub(crate) mod seen;
pub(crate) mod target;
