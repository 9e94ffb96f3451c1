// SPDX-License-Identifier: GPL-2.0

//! Changing a mounted union: its branches, their access, its options.
//!
//! A remount is all or nothing. It closes the gate of the super block
//! ([`crate::fs::gate`]), so no name and no instance changes meanwhile; reading
//! and writing of open files go on. Then:
//!
//! 1. a [`Draft`] takes the changes and makes the new [`Shape`](super::sb::Shape);
//! 2. what is cached and not in use is dropped; a branch that is taken out must not
//!    be needed by anything that is left ([`busy`]);
//! 3. a [`Plan`] says, for everything still cached, which instances it has by the
//!    new shape, and which names lead elsewhere now;
//! 4. all of it is published. From here on nothing fails;
//! 5. when the last reader of the old state is gone, that is freed, and with it the
//!    last references to branches that were taken out.
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
//! `s_umount` (the VFS), the gate, then locks of branches.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        BranchTable,
        Slot,
        Slots,
        Stack, //
    },
    busy,
    claim::Purpose,
    dirren,
    draft::{
        Draft,
        Outcome, //
    },
    index::View,
    ino::{
        InoTable,
        Lower,
        Reserved, //
    },
    inode,
    lookup::{
        self,
        Depth, //
    },
    mount::Change,
    notify,
    plink,
    sb::{
        self,
        Shape, //
    },
    whiteout,
    Dentry,
    Inode,
    LowerDentry,
    SuperBlock, //
};
use crate::fs::{
    context::Context,
    gate::Closed,
    stack::Chain, //
};
use crate::logic::{
    ino,
    options::{
        Opt,
        Udba, //
    }, //
};
use crate::mount_error;
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
/// read-only is mapped for writing. The union is as before then.
pub(crate) fn reconfigure(context: &Context<'_>, changes: &[Change], sb: &SuperBlock) -> Result {
    let info = sb.data();
    info.worker.wait();
    if changes.is_empty() {
        return Ok(());
    }
    info.maintenance.check().map_err(|error| {
        mount_error!(
            context,
            error,
            "its pseudo-links are being maintained through plink_maint"
        )
    })?;
    let closed = info.gate.close();
    // Again: what was queued meanwhile holds branches.
    info.worker.wait();
    let mut draft = Draft::of(context, sb)?;
    draft.take(changes)?;
    let outcome = draft.finish()?;
    let parts = outcome.shape.settings.dirren == info.settings().dirren;
    // Who says how branches are watched has changed them, or tells of the time after that.
    let again = |change: &Change| matches!(change, Change::Set(Opt::Udba(_)));
    if parts && same_branches(info.table(), &outcome.shape.table) && !changes.iter().any(again) {
        return settings_only(sb, &closed, outcome);
    }

    sb.shrink();
    busy::check_free(context, sb, &outcome)?;
    let mut plan = Plan::new(sb);
    info.cred.scope(|| plan.walk_names(&outcome.shape))?;
    plan.walk_inodes(&outcome.shape.table)?;
    plan.commit(&closed, outcome);
    Ok(())
}

/// Whether both hold the same branches with the same access in the same order.
fn same_branches(a: &BranchTable, b: &BranchTable) -> bool {
    a.order.len() == b.order.len()
        && Iterator::zip(a.order.iter(), b.order.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Options that are no branches: nothing that is cached depends on them but whether names are
/// revalidated.
fn settings_only(sb: &SuperBlock, closed: &Closed<'_>, outcome: Outcome) -> Result {
    let info = sb.data();
    let checked = outcome.shape.settings.udba != Udba::None;
    let names = if checked == (info.settings().udba != Udba::None) {
        KVVec::new()
    } else {
        cached_names(sb)?
    };
    let udba = outcome.shape.settings.udba;
    let rewatch = udba != info.settings().udba;
    outcome.made.keep();
    let old = info.reshape(closed, outcome.shape);
    closed.free(old, Chain::<Arc<Branch>>::none());
    sb.set_checked(checked);
    for name in names.iter() {
        name.set_checked(checked);
    }
    if rewatch {
        watch_all(sb);
    }
    Ok(())
}

/// Begins or ends the watches of all directories, after `udba=` has changed.
fn watch_all(sb: &SuperBlock) {
    let notify = sb.data().settings().udba == Udba::Notify;
    let result = sb.each_inode(&mut |inode| {
        if notify {
            notify::watch_or_log(inode);
        } else {
            inode.data().watches.end();
        }
        Ok(())
    });
    if let Err(error) = result {
        pr_warn!("cannot watch the branches: {:?}\n", error);
    }
}

/// All cached names.
fn cached_names(sb: &SuperBlock) -> Result<KVVec<ARef<Dentry>>> {
    let mut names = KVVec::new();
    names.push(sb.root().ok_or(EIO)?, GFP_KERNEL)?;
    let mut next = 0;
    while let Some(dir) = names.get(next).cloned() {
        next = next.saturating_add(1);
        let mut last: Option<ARef<Dentry>> = None;
        while let Some(child) = dir.next_child(last.as_deref()) {
            names.push(child.clone(), GFP_KERNEL)?;
            last = Some(child);
        }
    }
    Ok(names)
}

/// The new instances of an object.
struct Renewed {
    inode: ARef<Inode>,
    stack: KBox<Stack>,
    /// Memory to remember its inode number under its new top instance, and that.
    number: Reserved,
    lower: Lower,
}

/// Where the instances of a directory are to be found.
#[derive(Clone, Copy)]
enum At {
    /// In this place of [`Plan::renewed`].
    Renewed(usize),
    /// They are as they were.
    Inode,
}

/// A directory of the walk.
struct Frame {
    dentry: ARef<Dentry>,
    at: At,
    last: Option<ARef<Dentry>>,
}

/// What is to be published.
struct Plan<'a> {
    sb: &'a SuperBlock,
    /// The mark of inodes that were looked at.
    round: u32,
    renewed: KVVec<Renewed>,
    /// Names that lead elsewhere now.
    hidden: KVVec<ARef<Dentry>>,
    /// The other names, and the new guard of each.
    guards: KVVec<(ARef<Dentry>, Option<ARef<LowerDentry>>)>,
    /// Inodes that were kept for pseudo-links on a branch that goes.
    let_go: KVVec<ARef<Inode>>,
    /// Inodes that refer to a branch that goes or changes, now or in their history.
    stale: KVVec<ARef<Inode>>,
}

/// Whether the branch of `slot` is not in `table`, or has another access there.
fn is_stale(table: &BranchTable, slot: &Slot) -> bool {
    !table
        .get(slot.branch().id)
        .is_some_and(|branch| Arc::ptr_eq(branch, slot.branch()))
}

/// The instances of `stack` on branches of `table`.
fn remaining(table: &BranchTable, stack: &Stack) -> Result<Slots> {
    let mut slots = Slots::new();
    for slot in stack.iter() {
        if let Some(branch) = table.get(slot.branch().id) {
            slots.push(Slot::new(branch.clone(), slot.dentry().clone()))?;
        }
    }
    Ok(slots)
}

impl<'a> Plan<'a> {
    fn new(sb: &'a SuperBlock) -> Self {
        Plan {
            sb,
            round: sb.data().next_round(),
            renewed: KVVec::new(),
            hidden: KVVec::new(),
            guards: KVVec::new(),
            let_go: KVVec::new(),
            stale: KVVec::new(),
        }
    }

    /// Notes the new instances of `inode`, if they are others.
    fn renew(&mut self, inode: &Inode, slots: Slots) -> Result<At> {
        inode.mark(self.round);
        let current = inode.stack()?;
        let same = current.len() == slots.len()
            && Iterator::zip(current.iter(), slots.iter())
                .all(|(a, b)| a.dentry().is(b.dentry()) && Arc::ptr_eq(a.branch(), b.branch()));
        if same {
            return Ok(At::Inode);
        }
        let top = slots.first().ok_or(EIO)?;
        let renewed = Renewed {
            inode: inode.into(),
            lower: self.sb.data().ino.lower(top.branch(), top.dentry())?,
            stack: inode::stack_of(slots)?,
            number: InoTable::reserve()?,
        };
        self.renewed.push(renewed, GFP_KERNEL)?;
        Ok(At::Renewed(self.renewed.len().saturating_sub(1)))
    }

    /// Looks at all cached names, from the root down. The mounter's credentials are in force.
    fn walk_names(&mut self, shape: &Shape) -> Result {
        let root = self.sb.root().ok_or(EIO)?;
        let at = self.renew(root.object()?, sb::root_slots(&shape.table)?)?;
        let mut path: KVVec<Frame> = KVVec::new();
        let frame = Frame {
            dentry: root,
            at,
            last: None,
        };
        path.push(frame, GFP_KERNEL)?;
        while let Some(frame) = path.last_mut() {
            let Some(child) = frame.dentry.next_child(frame.last.as_deref()) else {
                drop(path.pop());
                continue;
            };
            frame.last = Some(child.clone());
            let (dir, at) = (frame.dentry.clone(), frame.at);
            if let Some(at) = self.visit(shape, &dir, at, &child)? {
                let frame = Frame {
                    dentry: child,
                    at,
                    last: None,
                };
                path.push(frame, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Looks at one name in `dir`. For a directory, tells where its instances are.
    fn visit(
        &mut self,
        shape: &Shape,
        dir: &Dentry,
        at: At,
        child: &ARef<Dentry>,
    ) -> Result<Option<At>> {
        if child.is_unhashed() {
            // Removed, or about to be looked up.
            return Ok(None);
        }
        let Some(inode) = child.inode() else {
            self.hidden.push(child.clone(), GFP_KERNEL)?;
            return Ok(None);
        };
        let name = child.name()?;
        let answer = {
            let parent = match at {
                At::Renewed(n) => &*self.renewed.get(n).ok_or(EIO)?.stack,
                At::Inode => dir.object()?.stack()?,
            };
            let view = View::plain(dir.sb().data(), shape, parent);
            lookup::probe(&view, 0, &name, Depth::All)?
        };
        let current = inode.stack()?;
        let same = match answer.slots.first() {
            None => false,
            Some(top) if inode.is_dir() => {
                top.inode()?.is_dir()
                    && answer
                        .slots
                        .iter()
                        .any(|slot| current.iter().any(|known| known.dentry().is(slot.dentry())))
            }
            Some(top) => {
                let found = top.inode()?;
                inode.ever_led_to(found) && inode.is_now(found)?
            }
        };
        let slots = if same {
            self.guards
                .push((child.clone(), answer.guard), GFP_KERNEL)?;
            answer.slots
        } else {
            if child.is_mountpoint() {
                self.guards.push((child.clone(), None), GFP_KERNEL)?;
            } else {
                self.hidden.push(child.clone(), GFP_KERNEL)?;
            }
            remaining(&shape.table, current)?
        };
        if inode.is_dir() && !slots.is_empty() {
            return self.renew(inode, slots).map(Some);
        }
        // The same file, moved to another branch.
        let top = slots.first().filter(|_| same && !inode.is_plinked());
        if top.is_some_and(|top| top.branch().id != current.top().branch().id) {
            self.renew(inode, slots)?;
        }
        Ok(None)
    }

    /// Looks at all cached inodes: what has no name, or keeps its instance on a branch whose access
    /// changes.
    fn walk_inodes(&mut self, table: &BranchTable) -> Result {
        let sb = self.sb;
        sb.each_inode(&mut |inode| {
            let current = inode.stack()?;
            let stale = |stack: &Stack| stack.iter().any(|slot| is_stale(table, slot));
            if inode.history().any(stale) {
                self.stale.push(inode.into(), GFP_KERNEL)?;
            }
            if inode.is_marked(self.round) || !stale(current) {
                return Ok(());
            }
            let slots = remaining(table, current)?;
            if !slots.is_empty() {
                self.renew(inode, slots)?;
            } else if inode.is_held() {
                self.let_go.push(inode.into(), GFP_KERNEL)?;
            } else {
                return Err(EBUSY);
            }
            Ok(())
        })
    }

    /// Makes it so. Nothing fails any more.
    fn commit(mut self, closed: &Closed<'_>, outcome: Outcome) {
        let sb = self.sb;
        let info = sb.data();
        let Outcome {
            shape,
            made,
            removed,
            given_up,
        } = outcome;
        made.keep();
        if let Some(top) = shape.table.order.first() {
            sb.set_limits(top.root.mount.limits());
        }
        let checked = shape.settings.udba != Udba::None;
        let rewatch = shape.settings.udba != info.settings().udba;
        sb.set_checked(checked);

        let mut renewed: KVVec<ARef<Inode>> = KVVec::new();
        for Renewed {
            inode,
            stack,
            number,
            lower,
        } in self.renewed
        {
            let computed = ino::pack(lower.space, lower.number);
            if inode.ino() != ino::ROOT && computed != Some(inode.ino()) {
                info.ino.keep(number, lower, inode.ino());
            }
            inode.publish(stack);
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
        let names = sb.each_inode(&mut |inode| {
            if inode.is_dir() {
                inode.forget_names();
            }
            Ok(())
        });
        if let Err(error) = names {
            pr_warn!("some listings are as they were: {:?}\n", error);
        }
        let old = info.reshape(closed, shape);
        let mut chain = Chain::none();
        for inode in self.stale.iter() {
            let table = info.table();
            inode.prune(
                closed,
                &mut |stack| stack.iter().any(|slot| is_stale(table, slot)),
                &mut chain,
            );
        }
        if let Err(error) = info.views.update(info.table()) {
            pr_warn!(
                "/sys/fs/aufs: some branches are shown as they were: {:?}\n",
                error
            );
        }
        if let Err(error) = info.debug.update(info.table()) {
            pr_warn!(
                "debugfs: pseudo-links are counted as they were: {:?}\n",
                error
            );
        }
        if let Some(Err(error)) = info.fhsm.as_ref().map(|fhsm| fhsm.update(info.table())) {
            pr_warn!(
                "fhsm: the branches are told about as they were: {:?}\n",
                error
            );
        }
        // Only numbers are at stake.
        if let Err(error) = plink::adopt(info) {
            pr_warn!("cannot number the copies on a new branch: {:?}\n", error);
        }
        closed.free(old, chain);
        if rewatch {
            // Walks that left one by the old settings are over.
            for (dentry, _) in self.guards.iter() {
                dentry.break_seal();
            }
        }

        for inode in renewed.iter() {
            if let Err(error) = inode.refresh() {
                pr_warn!("cannot refresh inode {}: {:?}\n", inode.ino(), error);
            }
            if !rewatch {
                notify::watch_or_log(inode);
            }
        }
        if rewatch {
            watch_all(sb);
        }
        for inode in self.let_go.iter() {
            inode.set_plinked(false);
            info.plinks.let_go(inode);
        }
        drop((renewed, self.hidden, self.stale, self.let_go));
        sb.shrink();

        for branch in given_up.iter() {
            // Who shares it still needs what is there.
            let alone = branch.claim.purpose() == Purpose::Write;
            if alone && !removed.iter().any(|other| other.id == branch.id) {
                info.cred.scope(|| whiteout::give_up(&branch.root));
            }
        }
        for branch in Iterator::chain(given_up.iter(), removed.iter()) {
            dirren::flush_logged(&info.cred, branch);
        }
        for branch in removed.iter() {
            if !info.table().order.iter().any(|other| other.fs == branch.fs) {
                info.ino.forget_fs(branch.fs);
            }
        }
    }
}
