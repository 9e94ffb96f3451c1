// SPDX-License-Identifier: GPL-2.0

//! Whether a cached name still holds: changes made behind our back (`udba=`).
//!
//! All of it runs inside RCU walk and compares pointers: is the top instance
//! still there under its name, is the name still absent on the writable branch
//! above it ([`super::lookup::Answer::guard`]). The answer is sealed
//! ([`crate::fs::objects::dentry`]), but for names that others have a say in: with hard
//! links, on remote file systems, with `udba=notify`. What lies below the top instance
//! of a directory is not asked: a read-only branch that changes is noticed when
//! its own names are. With `udba=notify` all of it is ([`super::watch`]).

#![forbid(unsafe_code)]

use super::{
    look_again,
    watch, //
};
use crate::fs::{
    objects::walk::{
        Held,
        Seal,
        Walk, //
    },
    operations::dentry::{
        Operations,
        Validity, //
    }, //
};
use crate::union::{
    branches::whiteout,
    state::events,
    types::{
        Inode,
        Union, //
    }, //
};

impl Operations for Union {
    fn revalidate(walk: &Walk<'_, Union>) -> Validity {
        let holds = |holds: bool| {
            if holds {
                Validity::Valid
            } else {
                Validity::Stale
            }
        };
        if watch::has_moved(walk) {
            let Some(held) = walk.held() else {
                return Validity::NeedRef;
            };
            if look_again::look_again(held.section, held.dir, held.dentry, walk.name())
                == Validity::Stale
            {
                return Validity::Stale;
            }
        }
        let by_itself = !watch::is_on(walk.shape());
        let Some(inode) = walk.inode() else {
            let absent = walk.guard_holds(None);
            if absent && by_itself {
                walk.leave(Seal::ABSENT);
            }
            return holds(absent);
        };
        let Some(stack) = walk.stack() else {
            return Validity::NeedRef;
        };
        if inode.data().is_moving() {
            return Validity::Valid;
        }
        let top = stack.top_inode();
        // With several names, the top instance may have been found under another one.
        let alone = top.is_dir() || (top.nlink() <= 1 && !inode.data().is_plinked());
        if (!alone || stack.top().is_unhashed()) && whiteout::is_walked(walk) {
            // A whiteout that `shwh` shows: one of many names of the same file, which comes and
            // goes with what it hides.
            return Validity::Stale;
        }
        let Some(dirs) = walk.dir_stack() else {
            return Validity::NeedRef;
        };
        // From before all checks: what changes meanwhile breaks it.
        let seal = walk.seal(&stack, &dirs);
        if !walk.guard_holds(Some(top)) || !walk.still_named(&stack, &dirs, alone) {
            return Validity::Stale;
        }
        if inode.attr_moved(top) && !inode.confirm_attr(top) {
            let Some(held) = walk.held() else {
                return Validity::NeedRef;
            };
            // Without a stack there is nothing to refresh from; the next use says so.
            let refresh = |inode: &Inode| inode.refresh_all(held.section);
            if held.inode.is_none_or(|inode| refresh(inode).is_err()) {
                return Validity::Stale;
            }
        }
        if alone && by_itself && !stack.is_remote() {
            walk.leave(seal);
        }
        Validity::Valid
    }

    fn found_stale(held: &Held<'_, Union>, name: &[u8]) {
        events::stale(held, name);
    }
}
