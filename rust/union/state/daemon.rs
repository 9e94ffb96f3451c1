// SPDX-License-Identifier: GPL-2.0

//! Tells the daemon that a branch may have become fuller ([`super::fhsm`]).

#![forbid(unsafe_code)]

use super::fhsm::Event;
use crate::logic::branch_spec::Attrs;
use crate::union::{
    branches::branch::Branch,
    types::{
        Inode,
        Section, //
    }, //
};

/// Something happened on `branch`, of the union `info`.
#[inline]
pub(crate) fn tell(section: Section<'_>, branch: &Branch, event: Event) {
    let info = section.data();
    if let Some(fhsm) = info.fhsm.get() {
        if branch.access.attrs.contains(Attrs::FHSM) {
            fhsm.tell(branch, event, section.settings().fhsm_sec);
        }
    }
}

/// The file `inode` was written.
#[inline]
pub(crate) fn written(section: Section<'_>, inode: &Inode) {
    let info = inode.sb().data();
    if info.fhsm.get().is_some() {
        if let Ok(stack) = inode.stack(section) {
            tell(section, stack.top().branch(), Event::Written);
        }
    }
}
