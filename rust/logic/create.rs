// SPDX-License-Identifier: GPL-2.0

//! Where a new entry is created.
//!
//! The caller says what it knows of each branch ([`Branch`]) and what would hide a new entry on
//! the lower ones ([`Bounds`]); [`choose`] applies the policy. Branches are named by their index,
//! 0 is the topmost one.

#![forbid(unsafe_code)]

use super::options::CreatePolicy;

/// What is known about one branch, seen from the directory in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Whether the union may change it now.
    pub writable: bool,
    /// Whether the directory exists there and is part of the union's directory.
    pub has_parent: bool,
    /// The bytes that are free for everybody; only policies that look at space want it.
    pub free: u64,
}

/// What would hide a new entry on the branches below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The topmost branch on which the new name has a whiteout or the directory is opaque.
    pub own: Option<usize>,
    /// The topmost branch on which a parent of the directory is opaque, or on which the
    /// directory or a parent of it has a whiteout.
    pub inherited: Option<usize>,
}

impl Bounds {
    /// The lowest branch on which a new entry is seen, if there is a limit.
    fn limit(&self) -> Option<usize> {
        match (self.own, self.inherited) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// How often policy `rr` has chosen a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// For a file it goes on: this is the number of files that had a turn before.
    File(u64),
    /// A directory goes with the last file: this is the number of files so far.
    Dir(u64),
}

/// Chooses the branch for a new entry; `None` means `EROFS`.
///
/// `turn` is asked at most once, when `rr` has the word.
pub fn choose(
    policy: CreatePolicy,
    branches: &[Branch],
    bounds: Bounds,
    turn: &mut dyn FnMut() -> Turn,
) -> Option<usize> {
    if policy == CreatePolicy::Tdp {
        return tdp(branches, bounds.own);
    }
    let limit = bounds.limit();
    if let (Some(_), Some(at)) = (bounds.own, limit) {
        // Next to what hides it, whatever the policy.
        if branches.get(at)?.writable {
            return Some(at);
        }
    }
    let enough = |at: &usize, low: u64| branches.get(*at).is_some_and(|branch| branch.free >= low);
    let at = match policy {
        CreatePolicy::Tdp => None,
        CreatePolicy::Rr => rr(branches, turn()),
        CreatePolicy::Mfs { .. } => mfs(branches),
        CreatePolicy::MfsRr { low, .. } => mfs(branches)
            .filter(|at| enough(at, low))
            .or_else(|| rr(branches, turn())),
        CreatePolicy::TdMfs { low, .. } => tdmfs(branches, limit, low),
        CreatePolicy::Pmfs { .. } => pmfs(branches, bounds),
        CreatePolicy::PmfsRr { low, .. } => pmfs(branches, bounds)
            .filter(|at| enough(at, low))
            .or_else(|| mfs(branches).filter(|at| enough(at, low)))
            .or_else(|| rr(branches, turn())),
    }?;
    let at = limit.map_or(at, |limit| at.min(limit));
    if branches.get(at)?.writable {
        return Some(at);
    }
    nearest_writable_above(branches, at)
}

/// Finds the writable branch which is nearest above `below`, itself not included.
pub fn nearest_writable_above(branches: &[Branch], below: usize) -> Option<usize> {
    branches
        .get(..below)?
        .iter()
        .rposition(|branch| branch.writable)
}

/// Policy `tdp`, top-down-parent: the topmost branch which has the parent directory, or else the
/// nearest writable one above it, on which the parent is then made.
///
/// `whiteout` is the branch on which the new name has a whiteout; what is created must not be
/// hidden by it. `None` means `EROFS`: this policy never looks downwards.
pub fn tdp(branches: &[Branch], whiteout: Option<usize>) -> Option<usize> {
    let parent = branches.iter().position(|branch| branch.has_parent)?;
    let start = whiteout.map_or(parent, |at| at.min(parent));
    if branches.get(start)?.writable {
        return Some(start);
    }
    nearest_writable_above(branches, start)
}

/// Policy `rr`, round-robin: the writable branches by turns, from the lowest one upwards.
/// Directories made before the first file are on the topmost one.
fn rr(branches: &[Branch], turn: Turn) -> Option<usize> {
    let writable = || (0..branches.len()).filter(|&at| is_writable(branches, at));
    let turn = match turn {
        Turn::File(files) => files,
        Turn::Dir(files) => match files.checked_sub(1) {
            Some(last) => last,
            None => return writable().next(),
        },
    };
    let count = u64::try_from(writable().count()).ok()?;
    let skip = usize::try_from(turn.checked_rem(count)?).ok()?;
    writable().rev().nth(skip)
}

/// Policy `mfs`, most-free-space; of equals the lower one.
fn mfs(branches: &[Branch]) -> Option<usize> {
    (0..branches.len())
        .filter(|&at| is_writable(branches, at))
        .max_by_key(|&at| branches.get(at).map(|branch| branch.free))
}

/// Policy `tdmfs`: the topmost one with more than `low` bytes, down to the lowest that has the
/// parent, or else `mfs`.
fn tdmfs(branches: &[Branch], limit: Option<usize>, low: u64) -> Option<usize> {
    let lowest = branches.iter().rposition(|branch| branch.has_parent)?;
    let end = limit.map_or(lowest, |limit| limit.min(lowest));
    branches
        .get(..=end)?
        .iter()
        .position(|branch| branch.writable && branch.free > low)
        .or_else(|| mfs(branches))
}

/// Policy `pmfs`: of the writable ones that have the parent the one with most free space, of
/// equals the upper one; `tdp` if there is none.
fn pmfs(branches: &[Branch], bounds: Bounds) -> Option<usize> {
    let end = bounds.limit().unwrap_or(usize::MAX);
    (0..branches.len())
        .filter(|&at| at <= end && is_writable(branches, at))
        .filter(|&at| branches.get(at).is_some_and(|branch| branch.has_parent))
        .rev()
        .max_by_key(|&at| branches.get(at).map(|branch| branch.free))
        .or_else(|| tdp(branches, bounds.own))
}

/// Whether the branch with this index can be written.
fn is_writable(branches: &[Branch], at: usize) -> bool {
    branches.get(at).is_some_and(|branch| branch.writable)
}
