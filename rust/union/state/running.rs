// SPDX-License-Identifier: GPL-2.0

//! Copies that take long, outside sections of the gate.
//!
//! A remount passes them by, unless it takes away what one of them writes to.
//!
//! # Locking
//!
//! A leaf; references are dropped after it.

#![forbid(unsafe_code)]

use crate::fs::base::task;
use crate::union::{
    branches::branch::{
        Branch,
        BranchId, //
    },
    types::Dentry, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    }, //
};

/// One of them.
struct Copying {
    number: u64,
    task: i32,
    dentry: ARef<Dentry>,
    target: BranchId,
}

/// Those of a union.
#[pin_data]
pub(crate) struct Running {
    #[pin]
    all: Mutex<All>,
}

struct All {
    /// The number of the next.
    next: u64,
    copies: KVVec<Copying>,
}

impl Running {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Running {
            all <- new_mutex!(
                All {
                    next: 0,
                    copies: KVVec::new(),
                },
                "ruaufs_running"
            ),
        })
    }

    /// Notes that the current task copies the object of `dentry` to `target`, until the value that
    /// it gives is dropped.
    pub(crate) fn begin<'a>(&'a self, dentry: &Dentry, target: &Branch) -> Result<Noted<'a>> {
        let mut all = self.all.lock();
        let number = all.next;
        all.next = number.wrapping_add(1);
        all.copies.push(
            Copying {
                number,
                task: task::current_number(),
                dentry: dentry.into(),
                target: target.id,
            },
            GFP_KERNEL,
        )?;
        Ok(Noted {
            running: self,
            number,
        })
    }

    /// A copy to a branch for which `of` holds: the task that makes it, and the name.
    pub(crate) fn find(&self, of: impl Fn(BranchId) -> bool) -> Option<(i32, ARef<Dentry>)> {
        let all = self.all.lock();
        let found = all.copies.iter().find(|copy| of(copy.target))?;
        Some((found.task, found.dentry.clone()))
    }
}

/// A copy that is noted.
pub(crate) struct Noted<'a> {
    running: &'a Running,
    number: u64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut all = self.running.all.lock();
        let at = all
            .copies
            .iter()
            .position(|copy| copy.number == self.number);
        let gone = at.and_then(|at| all.copies.remove(at).ok());
        drop(all);
        drop(gone);
    }
}
