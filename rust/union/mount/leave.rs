// SPDX-License-Identifier: GPL-2.0

//! What is still to be done on a branch that the union leaves, or writes no more.

#![forbid(unsafe_code)]

use crate::fs::objects::path::PrivatePath;
use crate::union::{
    branches::{
        branch::Branch,
        claim::Claim,
        work::{
            self,
            Objects, //
        }, //
    },
    change::dirren,
    plink,
    state::sb::SbInfo,
    types::text, //
};
use crate::warn_limited;
use kernel::sync::Arc;

impl SbInfo {
    /// Ends `claim`, on a branch with the root `root` that stays: when a change of it that was
    /// given up has ended, too.
    pub(crate) fn end_claim(&self, root: &Arc<PrivatePath>, claim: &Arc<Claim>) {
        if !self.askers.is_changed(root) {
            return claim.end();
        }
        let ending = claim.clone();
        if self
            .askers
            .tidy(&self.cred, root, move |_| ending.end())
            .is_err()
        {
            // Without memory for a thread to wait in.
            claim.end();
        }
    }

    /// The union leaves `branch`, or writes it no more: brings to it what is only in memory; if it
    /// `gives_up` what it has there, bookkeeping objects are removed. If the branch does not
    /// answer, or is frozen, that goes on after this call, and keeps the branch in use. Ends
    /// `claim` then.
    pub(crate) fn leave(&self, branch: &Arc<Branch>, gives_up: bool, claim: Option<Arc<Claim>>) {
        let is_tidy = !gives_up && !dirren::is_stale(branch) && !branch.plinks.has_unstored();
        // A change that was given up goes on, and the claim with it.
        let is_changed = claim.is_some() && self.askers.is_changed(&branch.root);
        let end = move || claim.iter().for_each(|claim| claim.end());
        if is_tidy && !is_changed {
            return end();
        }
        let (cred, left) = (self.cred.clone(), branch.clone());
        let tidy = move |root: &PrivatePath| {
            if gives_up {
                work::give_up(root, Objects::ALL);
            }
            dirren::flush_logged(&cred, &left);
            plink::count::flush_logged(&cred, &left);
            end();
        };
        if let Err(error) = self.askers.tidy(&self.cred, &branch.root, tidy) {
            warn_limited!(
                "branch {}: what was still to be written to it is lost: {:?}\n",
                text(&branch.shown.to_bytes().unwrap_or_default()),
                error
            );
        }
    }
}
