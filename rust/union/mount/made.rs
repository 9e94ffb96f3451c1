// SPDX-License-Identifier: GPL-2.0

//! What a draft makes on disk, and undoes if it comes to nothing.

#![forbid(unsafe_code)]

use crate::fs::{
    base::once::load_acquire,
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
        branch::Work,
        claim::Claim,
        notes,
        whiteout,
        work::{
            self,
            Refused, //
        }, //
    },
    plink, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Release, //
        },
        Arc, //
    }, //
};

/// What was made on disk for a draft: bookkeeping objects of branches that had none.
pub(crate) struct Made(pub(super) KVec<Arc<Undo>>);

impl Made {
    /// It is in use now.
    pub(crate) fn keep(self) {
        for undo in self.0.iter() {
            undo.kept.store(true, Release);
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for undo in self.0.drain_all() {
            if load_acquire(&undo.kept) {
                continue;
            }
            let own = undo.clone();
            let tidy = move |_: &PrivatePath| own.undo();
            if let Err(error) = undo.askers.tidy(&undo.cred, &undo.root, tidy) {
                undo.kept.store(true, Release);
                whiteout::cannot_give_up(error);
            }
        }
    }
}

/// Removes the bookkeeping objects of a branch again, unless they are kept: when that is asked for,
/// or when a question that made them was given up, so that nobody has this any more.
pub(super) struct Undo {
    pub(super) root: Arc<PrivatePath>,
    /// The branch stays claimed until then: it is changed.
    pub(super) _claim: Arc<Claim>,
    pub(super) cred: Arc<Cred>,
    pub(super) askers: Arc<Askers>,
    pub(super) kept: Atomic<bool>,
}

impl Undo {
    /// The mounter's credentials are in force.
    fn undo(&self) {
        if !self.kept.xchg(true, Full) {
            work::give_up(&self.root);
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
    /// Makes or finds the bookkeeping objects. If there were none, and the union is to be alone on
    /// the branch, they are removed unless they are kept. The mounter's credentials are in force.
    pub(super) fn run(self, write: &WriteAccess<'_>) -> Result<Prepared, Refused> {
        let Preparing {
            undo,
            access,
            alone,
            plinks,
        } = self;
        let had_any = work::has_work(&undo.root)?;
        let undo = Arc::new(undo, GFP_KERNEL).map_err(Error::from)?;
        let work = work::prepare(&undo.root, &access, alone, write)?;
        undo.kept.store(had_any || !alone, Release);
        let load = || plink::load::load(&undo.root, &access, alone.then_some(write));
        Ok(Prepared {
            work,
            plinks: plinks.map_or_else(load, Ok),
            undo,
        })
    }
}
