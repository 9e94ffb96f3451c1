// SPDX-License-Identifier: GPL-2.0

//! Changes of a union's branches that its user must not see.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::harness::{
    context::Ctx,
    scratch::Kind,
    snapshot::{Scope, Snapshot},
    sys::Errno,
    tree::Tree,
    union::{Change, Union},
};

/// Branches that a union has at most.
const MOST: usize = 40;
/// How often a thread makes all kinds of remounts.
const ROUNDS: usize = 4;
/// Between two remounts of a thread.
const PAUSE: Duration = Duration::from_millis(30);

/// A remount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reshape {
    /// The top branch becomes a read-only one below a new, empty one.
    Snapshot,
    /// An empty read-only branch comes, so many places below the top.
    Add(usize),
    /// One of those goes.
    Remove(usize),
}

/// The branches of a union that come and go.
pub(super) struct Shape {
    kind: Kind,
    /// Empty branches.
    added: Vec<PathBuf>,
    done: usize,
    refused: usize,
}

/// A [`Reshape`] whose directory is made: any thread can do it.
pub(super) struct Prepared(Change);

/// What became of a remount.
pub(super) enum Outcome {
    /// Something was in the way, and nothing has changed.
    Refused,
    Done,
    /// The top branch became a layer, and this is what it held then.
    Frozen(PathBuf, Snapshot),
}

impl Prepared {
    /// Remounts.
    pub(super) fn run(&self, u: &mut Union) -> Result<Outcome> {
        let top = u.br(0, "");
        match u.change(&self.0) {
            Err(refused) if refused.errno == Errno::BUSY => Ok(Outcome::Refused),
            Err(refused) => Err(anyhow::anyhow!("{:?}: {refused}", self.0)),
            Ok(()) if matches!(self.0, Change::Snapshot(_)) => {
                let now = Snapshot::of(&top, Scope::Everything)?;
                Ok(Outcome::Frozen(top, now))
            }
            Ok(()) => Ok(Outcome::Done),
        }
    }

    /// Tries until it is done, or `ended`.
    fn insist(&self, u: &mut Union, ended: &AtomicBool) -> Result<Outcome> {
        loop {
            let outcome = self.run(u)?;
            if !matches!(outcome, Outcome::Refused) || ended.load(Ordering::Acquire) {
                return Ok(outcome);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Remounts for a thread of their own.
pub(super) fn sequence(cx: &Ctx, kind: Kind) -> Result<Vec<Prepared>> {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let (first, second) = (top(cx, kind)?, top(cx, kind)?);
        let layer = cx.branch(kind, "ro", &Tree::new())?;
        all.push(Prepared(Change::Snapshot(first)));
        all.push(Prepared(Change::Add(2, layer.clone())));
        all.push(Prepared(Change::Snapshot(second)));
        all.push(Prepared(Change::Remove(layer)));
    }
    Ok(all)
}

/// Makes these remounts, one after the other, until the others have `ended`.
pub(super) fn each(all: &[Prepared], u: &mut Union, ended: &AtomicBool) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for remount in all {
        if ended.load(Ordering::Acquire) {
            break;
        }
        outcomes.push(remount.insist(u, ended)?);
        thread::sleep(PAUSE);
    }
    Ok(outcomes)
}

/// A new top branch. A scenario may put a whiteout beside the real object.
fn top(cx: &Ctx, kind: Kind) -> Result<PathBuf> {
    let new = cx.branch(kind, "rw", &Tree::new())?;
    cx.messy(&new);
    Ok(new)
}

impl Shape {
    /// Of a union with its branches on `kind`.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            added: Vec::new(),
            done: 0,
            refused: 0,
        }
    }

    /// Makes what the remount needs; `None` if there is nothing to be done.
    pub(super) fn prepare(
        &self,
        cx: &Ctx,
        u: &Union,
        reshape: Reshape,
    ) -> Result<Option<Prepared>> {
        let count = u.count();
        let full = count >= MOST && !matches!(reshape, Reshape::Remove(_));
        Ok(match reshape {
            _ if full => None,
            Reshape::Snapshot => Some(Prepared(Change::Snapshot(top(cx, self.kind)?))),
            Reshape::Add(place) => {
                let new = cx.branch(self.kind, "ro", &Tree::new())?;
                Some(Prepared(Change::Add(1 + place % count, new)))
            }
            Reshape::Remove(which) => {
                let old = self.added.get(which % self.added.len().max(1));
                old.map(|old| Prepared(Change::Remove(old.clone())))
            }
        })
    }

    /// The remount is over: a branch that became a layer must stay as it is from here on.
    pub(super) fn settle(&mut self, cx: &Ctx, remount: Prepared, outcome: Outcome) {
        match outcome {
            Outcome::Refused => {
                self.refused += 1;
                return;
            }
            Outcome::Frozen(old, now) => cx.stays(&old, now),
            Outcome::Done => {}
        }
        self.done += 1;
        match remount.0 {
            Change::Snapshot(_) => {}
            Change::Add(_, new) => self.added.push(new),
            Change::Remove(old) => self.added.retain(|added| *added != old),
        }
    }

    /// How many remounts were made, and how many were refused.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.done, self.refused)
    }
}
