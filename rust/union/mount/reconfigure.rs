// SPDX-License-Identifier: GPL-2.0

//! Changing a mounted union: its branches, their access, its options.
//!
//! A remount is all or nothing. It does its work beside the running union, and closes
//! the gate of the super block ([`crate::fs::base::gate`]) to publish what came out:
//!
//! 1. a [`Draft`] takes the changes and makes the new [`Shape`](crate::union::state::sb::Shape);
//! 2. what is cached and not in use is dropped;
//! 3. a walk asks the branches, in their new order, for everything still cached, and
//!    remembers the answers ([`Memory`]);
//! 4. the gate is closed; a branch that is taken out must not be needed by anything
//!    that is left ([`super::busy`]);
//! 5. the same walk again makes a [`Plan`]: which instances everything cached has by the
//!    new shape, and which names lead elsewhere now. It has the answers already, but for
//!    what came since. A few names are asked for at once, if their branches are local.
//!    Else the gate opens, and all is done again from step 2;
//! 6. the plan is carried out. From here on nothing fails, and nothing waits for a
//!    branch. The gate opens;
//! 7. when the last reader of the old state is gone, that is freed, and with it the
//!    last references to branches that were taken out.
//!
//! A copy that is being made is no reader ([`crate::union::copyup`]): it is passed by, unless its
//! target is taken out or becomes read-only. Then it is waited for with the gate open.
//!
//! Nobody waits for a remount longer than the gate is closed, some tenths of a second at
//! most. The remount itself gives up after ten seconds ([`Patience`]).
//!
//! # Why an answer may be remembered
//!
//! An answer is for a name in a list of instances. It holds while the name leads to the
//! same inode, that inode has the same stack, and the list is the same: each change of ours
//! that could make for another answer changes one of them. A name that comes or goes is
//! another dentry, or has another inode; a copy, or a file that moves, gives its inode
//! another stack; a whiteout hides a name that goes; a renamed object has another name, and
//! a directory in another place another stack. Changes behind the union's back are noticed
//! later, as always. Inodes do not stay for being remembered: they have a mark that no
//! other one has.
//!
//! # What becomes of cached objects
//!
//! A directory gets the instances that a look-up would find now; if it has none of
//! its old ones among them it is hidden: its name is looked up anew, who is inside
//! stays there. A name of a non-directory that leads to another object now is looked
//! up anew; open files keep the object. Mount points keep what they are on.
//!
//! # Locking
//!
//! `s_umount` (the VFS), the gate, then locks of branches. As only a remount takes stacks and
//! shapes away, and it holds `s_umount`, it looks at them outside sections of the gate.

#![forbid(unsafe_code)]

use super::{
    busy,
    draft::Draft,
    memory::Memory,
    outcome::Outcome,
    patience::Patience,
    plan::{
        self,
        Asking,
        Found,
        Plan,
        Renewed, //
    },
    wanted::Change, //
};
use crate::fs::{
    objects::section::{
        Alone,
        Closed, //
    },
    operations::context::Context, //
};
use crate::logic::{
    ino,
    options::{
        Opt,
        Udba, //
    }, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            BranchTable, //
        },
        claim::{
            Claim,
            Purpose, //
        }, //
    },
    names::watch,
    plink,
    state::sb,
    types::{
        Dentry,
        Inode,
        Section,
        SuperBlock,
        Union, //
    }, //
};
use crate::{
    mount_error,
    warn_limited, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Changes a mounted union.
///
/// # Errors
///
/// What a [`Draft`] gives; `EBUSY` if a branch that is taken out is in use, or one that becomes
/// read-only is mapped for writing, or if it could not get through; `EINTR` if the task was killed.
/// The union is as before then.
pub(crate) fn reconfigure(
    context: &Context<'_>,
    changes: &[Change],
    alone: &mut Alone<'_, Union>,
) -> Result {
    let info = alone.sb().data();
    let mut patience = Patience::new(context);
    if changes.is_empty() {
        // Who asks for nothing else waits for what is under way, as long as that is not for ever.
        return patience.drain(info);
    }
    info.maintenance.check().map_err(|error| {
        mount_error!(
            context,
            error,
            "its pseudo-links are being maintained through plink_maint"
        )
    })?;
    let mut draft = Draft::of(context, &patience, alone.section())?;
    draft.take(changes)?;
    let outcome = draft.finish()?;
    let section = alone.section();
    let parts = outcome.shape.settings.dirren == section.settings().dirren;
    // Who says how branches are watched has changed them, or tells of the time after that.
    let again = |change: &Change| matches!(change, Change::Set(Opt::Udba(_)));
    if parts && same_branches(section.table(), &outcome.shape.table) && !changes.iter().any(again) {
        return settings_only(alone, &mut patience, outcome);
    }
    let over = claims_over(section.table(), &outcome.shape.table)?;
    let (closed, plan) = find_moment(alone, &mut patience, &outcome)?;
    plan.commit(alone, closed, outcome, &over);
    Ok(())
}

/// The claims to write that `old` has and `new` does not. Once `new` is published nobody writes
/// there any more; who looks may take longer.
fn claims_over(old: &BranchTable, new: &BranchTable) -> Result<KVec<Arc<Claim>>> {
    let mut over = KVec::new();
    for claim in old.order.iter().map(|branch| &branch.claim) {
        let mut kept = new.order.iter().map(|branch| &branch.claim);
        if claim.purpose() == Purpose::Write && !kept.any(|kept| Arc::ptr_eq(kept, claim)) {
            over.push(claim.clone(), GFP_KERNEL)?;
        }
    }
    Ok(over)
}

/// Closes the gate at a moment at which all is known that must be known: gives it, and what is to
/// be done.
fn find_moment<'a>(
    alone: &Alone<'a, Union>,
    patience: &mut Patience<'_>,
    outcome: &Outcome,
) -> Result<(Closed<'a, Union>, Found<'a>)> {
    let (sb, section) = (alone.sb(), alone.section());
    let info = sb.data();
    let mut memory = Memory::new(info)?;
    loop {
        sb.shrink();
        let failed = {
            let mut plan = Plan::new(sb, &mut memory, Asking::Freely(patience));
            info.cred
                .scope(|| plan.walk_names(section, &outcome.shape))?;
            plan.failed
        };
        let closed = patience.close(alone, outcome.takes_away())?;
        if let Some((task, name)) = info.running.find(|id| outcome.takes(id)) {
            drop(closed);
            patience.copying(task, &name)?;
            continue;
        }
        // Nobody comes who would keep what is not in use.
        sb.shrink();
        if let Some(hindrance) = busy::find(section, outcome, patience.closed())? {
            drop(closed);
            patience.in_use(hindrance)?;
            continue;
        }
        let mut plan = Plan::new(sb, &mut memory, Asking::Seldom(patience.allowance()));
        let walked = info.cred.scope(|| plan.walk_names(section, &outcome.shape));
        if !plan.is_short {
            walked?;
            plan.walk_inodes(section, &outcome.shape.table)?;
            let found = plan.found;
            return Ok((closed, found));
        }
        drop(plan);
        drop(closed);
        patience.again(failed)?;
    }
}

/// Whether both hold the same branches with the same access in the same order.
fn same_branches(a: &BranchTable, b: &BranchTable) -> bool {
    a.order.len() == b.order.len()
        && Iterator::zip(a.order.iter(), b.order.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Options that are no branches: nothing that is cached depends on them but whether names are
/// revalidated.
fn settings_only(
    alone: &mut Alone<'_, Union>,
    patience: &mut Patience<'_>,
    outcome: Outcome,
) -> Result {
    let sb = alone.sb();
    let udba = outcome.shape.settings.udba;
    let before = alone.section().settings().udba;
    let (checked, rewatch) = (udba != Udba::None, udba != before);
    let recheck = checked != (before != Udba::None);
    if recheck {
        sb.shrink();
    }
    let closed = patience.close(alone, false)?;
    outcome.made.keep(&outcome.shape.table);
    let replaced = sb::reshape(closed, outcome.shape);
    // What is looked up from now on has it from the beginning.
    sb.set_checked(checked);
    replaced.free(alone);
    // Here the gate is open again: there may be any number of names. Until the turn of a name comes
    // it is as before the remount, which has not ended.
    if recheck {
        if let Err(error) = set_checked(sb, checked) {
            warn_limited!("some cached names are checked as before: {:?}\n", error);
        }
    }
    if rewatch {
        watch_all(alone.section());
    }
    Ok(())
}

/// Begins or ends the watches of all directories, after `udba=` has changed.
pub(super) fn watch_all(section: Section<'_>) {
    let notify = section.settings().udba == Udba::Notify;
    let result = section.sb().each_inode(&mut |inode| {
        if notify {
            watch::watch_or_log(section, inode);
        } else {
            inode.data().watches.end();
        }
        Ok(())
    });
    if let Err(error) = result {
        warn_limited!("cannot watch the branches: {:?}\n", error);
    }
}

/// Says of all cached names whether walks ask for their revalidation.
fn set_checked(sb: &SuperBlock, checked: bool) -> Result {
    let mut dirs: KVVec<ARef<Dentry>> = KVVec::new();
    dirs.push(sb.root().ok_or(EIO)?, GFP_KERNEL)?;
    while let Some(dir) = dirs.pop() {
        dir.set_checked(checked);
        for child in dir.children()?.alive {
            child.set_checked(checked);
            if child.inode().is_some_and(Inode::is_dir) {
                dirs.push(child, GFP_KERNEL)?;
            }
        }
    }
    Ok(())
}

impl Found<'_> {
    /// Makes it so. Nothing fails any more.
    fn commit(
        mut self,
        alone: &mut Alone<'_, Union>,
        closed: Closed<'_, Union>,
        outcome: Outcome,
        over: &[Arc<Claim>],
    ) {
        let (sb, section) = (self.sb, alone.section());
        let info = sb.data();
        let Outcome {
            shape,
            made,
            removed,
            given_up,
        } = outcome;
        made.keep(&shape.table);
        if let Some(top) = shape.table.order.first() {
            sb.set_limits(top.root.mount().limits());
        }
        let checked = shape.settings.udba != Udba::None;
        let rewatch = shape.settings.udba != section.settings().udba;
        sb.set_checked(checked);

        let renewed = self.publish(section, checked);
        let mut replaced = sb::reshape(closed, shape);
        for inode in self.stale.iter() {
            let table = section.table();
            replaced.prune(inode, &mut |stack| {
                stack.iter().any(|slot| plan::is_stale(table, slot))
            });
        }
        if let Some(Err(error)) = info.fhsm.get().map(|fhsm| fhsm.update(section.table())) {
            warn_limited!(
                "fhsm: the branches are told about as they were: {:?}\n",
                error
            );
        }
        // Only numbers are at stake.
        if let Err(error) = plink::originals::adopt(section) {
            warn_limited!("cannot number the copies on a new branch: {:?}\n", error);
        }
        for inode in renewed.iter() {
            if let Err(error) = inode.refresh(section) {
                warn_limited!("cannot refresh inode {}: {:?}\n", inode.ino(), error);
            }
            if !rewatch {
                watch::watch_or_log(section, inode);
            }
        }
        for inode in self.let_go.iter() {
            inode.set_plinked(false);
            info.plinks.let_go(inode);
        }
        replaced.free(alone);
        // Here the gate is open again.
        if rewatch {
            // Walks that left one by the old settings are over.
            for (dentry, _) in self.guards.iter() {
                dentry.break_seal();
            }
            watch_all(alone.section());
        }
        drop((renewed, self));
        sb.shrink();
        follow(alone.section(), &removed, &given_up, over);
        drop(made);
    }

    /// Gives cached objects and names what was found. The gate is closed. Gives the inodes that
    /// have new instances.
    fn publish(&mut self, section: Section<'_>, checked: bool) -> KVVec<ARef<Inode>> {
        let info = self.sb.data();
        let mut renewed: KVVec<ARef<Inode>> = KVVec::new();
        for Renewed {
            inode,
            stack,
            number,
            lower,
        } in core::mem::replace(&mut self.renewed, KVVec::new())
        {
            if inode.ino() != ino::ROOT && info.ino.packed(lower) != Some(inode.ino()) {
                info.ino.keep(number, lower, inode.ino());
            }
            if inode.is_dir() && !plan::keeps_surplus(section, &inode, &stack) {
                inode.forget_surplus();
            }
            inode.publish(section, stack);
            // Those that find no place here are refreshed at their next use.
            let _ = renewed.push(inode, GFP_KERNEL);
        }
        for dentry in self.hidden.iter() {
            dentry.unhash();
            dentry.set_guard(None);
        }
        for (dentry, guard) in self.guards.iter_mut() {
            dentry.set_guard(guard.take());
            dentry.set_checked(checked);
        }
        // With `udba=none` listings are believed until now.
        let names = self.sb.each_inode(&mut |inode| {
            if inode.is_dir() {
                inode.forget_names();
            }
            Ok(())
        });
        if let Err(error) = names {
            warn_limited!("some listings are as they were: {:?}\n", error);
        }
        renewed
    }
}

/// What follows from other branches, and nobody waits for. The gate is open.
pub(super) fn follow(
    section: Section<'_>,
    removed: &[Arc<Branch>],
    given_up: &[Arc<Branch>],
    over: &[Arc<Claim>],
) {
    let info = section.data();
    if let Err(error) = info.views.update(section.table()) {
        warn_limited!(
            "/sys/fs/aufs: some branches are shown as they were: {:?}\n",
            error
        );
    }
    if let Err(error) = info.debug.update(section.table()) {
        warn_limited!(
            "debugfs: pseudo-links are counted as they were: {:?}\n",
            error
        );
    }
    let left = || Iterator::chain(given_up.iter(), removed.iter());
    for claim in over {
        if left().any(|branch| Arc::ptr_eq(&branch.claim, claim)) {
            continue;
        }
        let mut stay = section.table().order.iter();
        match stay.find(|branch| claim.is_for(&branch.root)) {
            Some(branch) => info.end_claim(&branch.root, claim),
            None => claim.end(),
        }
    }
    for branch in left() {
        // Who shares it still needs what is there.
        let alone = branch.claim.purpose() == Purpose::Write;
        let mut stay = section.table().order.iter();
        let gone = removed.iter().any(|other| other.id == branch.id)
            || stay.any(|other| other.is_written_at(&branch.root));
        let mut over = over.iter();
        let claim = over.find(|claim| Arc::ptr_eq(claim, &branch.claim));
        info.leave(branch, alone && !gone, claim.cloned());
    }
    for branch in removed.iter() {
        if !section
            .table()
            .order
            .iter()
            .any(|other| other.fs == branch.fs)
        {
            info.ino.forget_fs(branch.fs);
        }
    }
}
