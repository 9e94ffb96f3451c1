// SPDX-License-Identifier: GPL-2.0

//! Where a new entry is created.

#![forbid(unsafe_code)]

/// What is known about one branch, seen from the directory in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Whether the union may change it now.
    pub(crate) writable: bool,
    /// Whether the directory exists there and is part of the union's directory.
    pub(crate) has_parent: bool,
}

/// Finds the writable branch which is nearest above `below`, itself not included.
pub(super) fn nearest_writable_above(branches: &[Branch], below: usize) -> Option<usize> {
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
pub(crate) fn tdp(branches: &[Branch], whiteout: Option<usize>) -> Option<usize> {
    let parent = branches.iter().position(|branch| branch.has_parent)?;
    let start = whiteout.map_or(parent, |at| at.min(parent));
    if branches.get(start)?.writable {
        return Some(start);
    }
    nearest_writable_above(branches, start)
}
