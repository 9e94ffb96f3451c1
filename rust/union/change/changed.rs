// SPDX-License-Identifier: GPL-2.0

//! What a change of names does to the inodes: times and link counts.

#![forbid(unsafe_code)]

use crate::fs::{
    access::attr::Change,
    base::once::load, //
};
use crate::union::{
    branches::branch::Branch,
    objects::shown::Noticed,
    plink,
    state::{
        daemon,
        fhsm::Event, //
    },
    types::{
        Inode,
        Section, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::atomic::{
        Full,
        Relaxed, //
    }, //
};

impl Inode {
    /// The directory was changed by us, on `branch`. The top instance, whose times are shown, is
    /// another one if a policy chose a lower branch: then it gets the time, too.
    ///
    /// The change is done and not undone for what comes after it: a failure is only logged.
    pub(crate) fn changed_on(&self, section: Section<'_>, branch: &Branch, noticed: Noticed) {
        // Ordered against the look at the veil: see `keep_change_time_of`.
        self.data().changes.fetch_add(1, Full);
        self.unveil();
        daemon::tell(section, branch, Event::Changed);
        let touch = || -> Result {
            let top = self.stack(section)?.top();
            if top.branch().id == branch.id || !top.branch().writable() {
                return Ok(());
            }
            let write = top.branch().want_write()?;
            self.sb()
                .data()
                .cred
                .scope(|| Change::new().modified().apply(write.to(top.path()?)?))?;
            drop(write);
            Ok(())
        };
        if let Err(error) = touch()
            .and(self.counts_anew(section, branch.id, noticed))
            .and(self.refresh(section))
        {
            warn_limited!("a directory was changed, its times were not: {:?}\n", error);
        }
    }

    /// Takes one name away from the link count. It may have been hidden only, by something on the
    /// branch `hidden_on`: then its own branch still counts it. The object's lock is held.
    pub(crate) fn name_removed(&self, section: Section<'_>, hidden_on: Option<&Branch>) -> Result {
        let mut done = Ok(());
        if hidden_on.is_some() && !self.is_dir() {
            self.name_hidden(section);
        }
        let nlink = if self.is_dir() {
            0
        } else if self.is_plinked() {
            let left = self.nlink().saturating_sub(1);
            // A copy on a branch that became a layer cannot be told
            // ([`plink::count::settle`](crate::union::plink::count::settle)).
            let layer = !self.stack(section)?.writable();
            if let Some(branch) = hidden_on.filter(|_| layer && left > 0) {
                done = plink::count::hide(section, self, left, branch).map(drop);
            }
            left
        } else {
            if let Some(branch) = hidden_on {
                let left = self.nlink().saturating_sub(1);
                self.data().hidden.fetch_add(1, Relaxed);
                // The branch still counts the name, so that it is hidden must not be forgotten
                // while there are others; with `noplink` the branch's count is what is shown.
                if left > 0 {
                    let noted = plink::count::hide(section, self, left, branch);
                    if !matches!(noted, Ok(true)) && section.settings().plink {
                        done = self.sb().data().plinks.keep(self).and(noted.map(drop));
                    }
                }
            }
            let stack = self.stack(section)?;
            let hidden = load(&self.data().hidden);
            // The name that it was given goes when it is used no more.
            let in_use = u32::from(stack.top().dentry().is_removed_in_use());
            let links = stack.top_inode().nlink();
            links.saturating_sub(hidden).saturating_sub(in_use)
        };
        self.set_nlink(nlink);
        done
    }

    /// A name is hidden, and the instance does not know: its change time moves all the same.
    fn name_hidden(&self, section: Section<'_>) {
        let touch = || -> Result<bool> {
            let top = self.stack(section)?.top();
            if self.nlink() <= 1 || !top.branch().writable() {
                return Ok(false);
            }
            let before = top.inode()?.change_time();
            // Nobody waits for another branch than the one that is changed.
            let Some(write) = top.branch().try_write()? else {
                return Ok(false);
            };
            self.sb()
                .data()
                .cred
                .scope(|| Change::new().changed().apply(write.to(top.path()?)?))?;
            drop(write);
            // A server need not do what it is told.
            Ok(top.inode()?.change_time() != before)
        };
        // What cannot be told the branch is shown as long as the inode is in memory.
        match touch() {
            Ok(true) => self.unveil(),
            _ => self.show_change(section),
        }
    }
}
