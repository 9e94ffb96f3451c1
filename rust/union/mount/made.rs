// SPDX-License-Identifier: GPL-2.0

//! What a draft makes on disk, and undoes if it comes to nothing.

#![forbid(unsafe_code)]

use crate::fs::{
    objects::{
        cred::Cred,
        path::{
            PrivatePath,
            WriteAccess, //
        }, //
    }, //
};
use crate::logic::branch_spec::Access;
use crate::union::{
    branches::{
        askers::Askers,
        branch::{
            BranchTable,
            Work, //
        },
        claim::Claim,
        notes,
        work::{
            self,
            Objects,
            Refused, //
        }, //
    },
    plink, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        Arc, //
    }, //
};

/// What was made on disk for a draft: bookkeeping objects that branches did not have. When this is
/// dropped they go, or, if they are kept, those that are needed no more: that may take long.
pub(crate) struct Made(pub(super) KVec<Arc<Undo>>);

impl Made {
    /// It is in use now, by the branches of `table`.
    pub(crate) fn keep(&self, table: &BranchTable) {
        for undo in self.0.iter() {
            let branch = table.at_root(undo.root.dentry());
            let work = branch.and_then(|branch| branch.work.as_ref());
            let needless = match work.is_some_and(|work| work.base.is_some()) {
                true => Objects::NONE.0,
                false => undo.needless.load(Acquire),
            };
            undo.unwanted.store(needless, Release);
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for undo in self.0.drain_all() {
            if undo.unwanted.load(Acquire) == Objects::NONE.0 {
                continue;
            }
            let own = undo.clone();
            let tidy = move |_: &PrivatePath| own.undo();
            if let Err(error) = undo.askers.tidy(&undo.cred, &undo.root, tidy) {
                undo.unwanted.store(Objects::NONE.0, Release);
                work::cannot_give_up(error);
            }
        }
    }
}

/// Removes bookkeeping objects of a branch that are not wanted: when that is asked for, or when a
/// question that made them was given up, so that nobody has this any more.
pub(super) struct Undo {
    pub(super) root: Arc<PrivatePath>,
    /// The branch stays claimed until then: it is changed.
    pub(super) _claim: Arc<Claim>,
    pub(super) cred: Arc<Cred>,
    pub(super) askers: Arc<Askers>,
    /// The [`Objects`] to be removed.
    pub(super) unwanted: Atomic<usize>,
    /// Those to be removed in place of them if what was made is kept.
    pub(super) needless: Atomic<usize>,
}

impl Undo {
    /// The mounter's credentials are in force.
    fn undo(&self) {
        let objects = Objects(self.unwanted.xchg(Objects::NONE.0, Full));
        if objects != Objects::NONE {
            work::give_up(&self.root, objects);
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.cred.scope(|| self.undo());
    }
}

/// A branch about to be prepared for being written.
pub(super) struct Preparing {
    pub(super) undo: Undo,
    pub(super) access: Access,
    /// Nobody else uses what is there, nor this union.
    pub(super) alone: bool,
    /// Its pseudo-links, if they are known.
    pub(super) plinks: Option<Arc<notes::Index>>,
}

/// A branch that can be written.
pub(super) struct Prepared {
    pub(super) work: Work,
    pub(super) plinks: Result<Arc<notes::Index>>,
    pub(super) undo: Arc<Undo>,
}

impl Preparing {
    /// Makes or finds the bookkeeping objects. Those that it makes are removed unless they are
    /// kept: if others use the branch, only the base, which nobody needs. The mounter's credentials
    /// are in force.
    pub(super) fn run(self, write: &WriteAccess<'_>) -> Result<Prepared, Refused> {
        let Preparing {
            undo,
            access,
            alone,
            plinks,
        } = self;
        let undo = Arc::new(undo, GFP_KERNEL).map_err(Error::from)?;
        let (work, there) = work::prepare(&undo.root, &access, alone, write)?;
        let ours = match alone {
            true => Objects::ALL,
            false => Objects::BASE,
        };
        undo.unwanted.store(ours.without(there).0, Release);
        if work.base.is_none() {
            undo.needless.store(there.and(Objects::BASE).0, Release);
        }
        let load = || plink::load::load(&undo.root, &access, alone.then_some(write));
        Ok(Prepared {
            work,
            plinks: plinks.map_or_else(load, Ok),
            undo,
        })
    }
}
