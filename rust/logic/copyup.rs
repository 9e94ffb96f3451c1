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
pub fn choose(policy: CopyUpPolicy, branches: &[Branch], top: usize) -> Option<usize> {
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

/// Tags of the entries of a POSIX ACL, as in `system.posix_acl_access`.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Returns the mode of an object that has `mode` and an ACL with the entries `acl` (tag, which of
/// `rwx`), when the ACL is taken away: nobody may do more then than before.
///
/// Who had less by name than the class that he falls into takes that from the whole class: a user
/// may be in the owning group, or be one of the others; a group by name counted together with the
/// owning group, so it takes something from the others only.
pub fn mode_without_acl(mode: u16, acl: impl Iterator<Item = (u16, u16)> + Clone) -> u16 {
    let with = |wanted: u16| acl.clone().filter(move |&(tag, _)| tag == wanted);
    let may = |wanted: u16| with(wanted).next().map(|(_, perm)| perm & 7);
    let mask = may(MASK).unwrap_or(7);
    let by_name = |wanted: u16| with(wanted).fold(7, |all, (_, perm)| all & perm & mask);
    let (Some(owner), Some(group), Some(others)) = (may(USER_OBJ), may(GROUP_OBJ), may(OTHER))
    else {
        // It is no ACL.
        return mode & !0o77;
    };
    let group = group & mask & by_name(USER);
    let others = others & by_name(USER) & by_name(GROUP);
    (mode & !0o777) | (owner << 6) | (group << 3) | others
}
