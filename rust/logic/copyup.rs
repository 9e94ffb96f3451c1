// SPDX-License-Identifier: GPL-2.0

//! Where an entry is copied to when it has to be changed.

#![forbid(unsafe_code)]

use super::{
    create::{
        nearest_writable_above,
        Branch, //
    },
    options::CopyUpPolicy, //
};

/// Chooses the branch on which the entry, whose topmost instance is on branch `top`, is changed.
///
/// `branches` describes all branches, and where the entry's parent directory exists. The answer
/// `top` means that no copy is needed; `None` means `EROFS`. The answer is never below `top`.
pub(crate) fn choose(policy: CopyUpPolicy, branches: &[Branch], top: usize) -> Option<usize> {
    if branches.get(top)?.writable {
        return Some(top);
    }
    let above = branches.get(..top)?;
    let usable = |branch: &Branch| branch.writable && branch.has_parent;
    let with_parent = match policy {
        CopyUpPolicy::Tdp => above.iter().position(usable),
        CopyUpPolicy::Bup => above.iter().rposition(usable),
        CopyUpPolicy::Bu => None,
    };
    with_parent.or_else(|| nearest_writable_above(branches, top))
}
