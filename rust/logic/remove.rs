// SPDX-License-Identifier: GPL-2.0

//! Plan for unlink and rmdir.

#![forbid(unsafe_code)]

use super::env::{
    Result,
    EROFS, //
};

/// What is known about the name to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The topmost branch which has it.
    pub top: usize,
    /// The branch on which the change can be made: `top` if that is writable, else what
    /// [`copyup::choose`](super::copyup::choose) says.
    pub target: Option<usize>,
    /// Whether the name would be seen on a branch below `top` once it is gone from there.
    pub visible_below: bool,
}

/// What to do on one branch, whiteout first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The branch that is changed.
    pub on: usize,
    /// Whether the name gets a whiteout there.
    pub whiteout: bool,
    /// Whether the entry itself is removed there.
    pub remove: bool,
}

/// Decides how to make a name disappear.
///
/// # Errors
///
/// - `EROFS`: there is no branch to write to, or only one from which the entry cannot be hidden.
pub fn plan(facts: &Facts) -> Result<Plan> {
    let on = facts.target.filter(|&on| on <= facts.top).ok_or(EROFS)?;
    let remove = on == facts.top;
    Ok(Plan {
        on,
        whiteout: !remove || facts.visible_below,
        remove,
    })
}
