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
    draft::{
        Draft,
        Outcome, //
    },
    memory::Memory,
    options::Change,
    patience::{
        Allowance,
        Patience,
        Patiently, //
    }, //
};
use crate::fs::{
    callbacks::context::Context,
    objects::section::{
        Alone,
        Closed, //
    }, //
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
            BranchTable,
            Slot,
            Slots,
            Stack, //
        },
        claim::{
            Claim,
            Purpose, //
        },
        ino::{
            InoTable,
            Lower,
            Reserved, //
        }, //
    },
    names::{
        index::View,
        lookup::{
            self,
            Answer,
            Depth, //
        },
        watch, //
    },
    objects::object,
    plink,
    state::sb::{
        self,
        Shape, //
    },
    Dentry,
    Inode,
    LowerDentry,
    Section,
    SuperBlock,
    Union, //
};
use crate::{
    mount_error,
    warn_limited, //
};
use kernel::{
    alloc::{
        allocator::KVmalloc,
        kvec::IntoIter, //
    },
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
    let closed = patience.close(alone, false)?;
    let section = alone.section();
    let checked = outcome.shape.settings.udba != Udba::None;
    let names = if checked == (section.settings().udba != Udba::None) {
        KVVec::new()
    } else {
        cached_names(sb)?
    };
    let udba = outcome.shape.settings.udba;
    let rewatch = udba != section.settings().udba;
    outcome.made.keep();
    let replaced = sb::reshape(closed, outcome.shape);
    sb.set_checked(checked);
    for name in names.iter() {
        name.set_checked(checked);
    }
    replaced.free(alone);
    if rewatch {
        watch_all(alone.section());
    }
    Ok(())
}

/// Begins or ends the watches of all directories, after `udba=` has changed.
fn watch_all(section: Section<'_>) {
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

/// All cached names.
fn cached_names(sb: &SuperBlock) -> Result<KVVec<ARef<Dentry>>> {
    let mut names = KVVec::new();
    names.push(sb.root().ok_or(EIO)?, GFP_KERNEL)?;
    let mut next = 0;
    while let Some(dir) = names.get(next).cloned() {
        next = next.saturating_add(1);
        for child in dir.children()? {
            names.push(child, GFP_KERNEL)?;
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
    /// In this place of [`Found::renewed`].
    Renewed(usize),
    /// They are as they were.
    Inode,
}

/// A directory whose names are looked at.
#[derive(Clone, Copy)]
struct Place {
    at: At,
    /// What is known of its own name: this list of instances, and no other one.
    known: u32,
}

/// A directory of the walk.
struct Frame {
    dentry: ARef<Dentry>,
    place: Place,
    children: IntoIter<ARef<Dentry>, KVmalloc>,
}

impl Frame {
    fn new(dentry: ARef<Dentry>, place: Place) -> Result<Self> {
        let children = dentry.children()?.into_iter();
        Ok(Frame {
            dentry,
            place,
            children,
        })
    }
}

/// Whether `error` may be of the moment, or of one name: then it counts if it comes again.
fn is_passing(error: Error) -> bool {
    error != EINTR && error != ENOMEM && error != EBUSY
}

/// Whether, and how, a walk asks branches for what is not known.
enum Asking<'a, 'c> {
    /// It does; the gate is open.
    Freely(&'a Patience<'c>),
    /// The gate is closed.
    Seldom(Allowance),
}

/// What is to be published.
struct Found<'a> {
    sb: &'a SuperBlock,
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

/// A walk over all that is cached.
struct Plan<'a, 'm, 'c> {
    sb: &'a SuperBlock,
    memory: &'m mut Memory<'a>,
    asking: Asking<'m, 'c>,
    /// The mark of inodes that were looked at.
    round: u32,
    found: Found<'a>,
    /// Something had to be asked, and could not be.
    is_short: bool,
    /// Why a branch did not answer, while the gate was open.
    failed: Option<Error>,
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

/// Whether the instances `stack` are those of the directory `inode`, and hide the same: then what
/// is known of its link count goes on.
fn keeps_surplus(section: Section<'_>, inode: &Inode, stack: &Stack) -> bool {
    let whiteouts = |slot: &Slot| slot.branch().access.honours_whiteouts();
    inode.stack(section).is_ok_and(|current| {
        current.len() == stack.len()
            && Iterator::zip(current.iter(), stack.iter())
                .all(|(a, b)| a.dentry().is(b.dentry()) && whiteouts(a) == whiteouts(b))
    })
}

impl<'a, 'm, 'c> Plan<'a, 'm, 'c> {
    fn new(sb: &'a SuperBlock, memory: &'m mut Memory<'a>, asking: Asking<'m, 'c>) -> Self {
        Plan {
            sb,
            memory,
            asking,
            round: sb.data().next_round(),
            found: Found {
                sb,
                renewed: KVVec::new(),
                hidden: KVVec::new(),
                guards: KVVec::new(),
                let_go: KVVec::new(),
                stale: KVVec::new(),
            },
            is_short: false,
            failed: None,
        }
    }

    /// Notes the new instances of `inode`, if they are others.
    fn renew(&mut self, section: Section<'_>, inode: &Inode, slots: &Slots) -> Result<At> {
        inode.mark(self.round);
        let current = inode.stack(section)?;
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
            stack: object::stack_of(slots.duplicate()?)?,
            number: InoTable::reserve()?,
        };
        let all = &mut self.found.renewed;
        all.push(renewed, GFP_KERNEL)?;
        Ok(At::Renewed(all.len().saturating_sub(1)))
    }

    /// Looks at all cached names, from the root down. The mounter's credentials are in force.
    ///
    /// While the gate is open a name that cannot be looked at is passed over.
    fn walk_names(&mut self, section: Section<'_>, shape: &Arc<Shape>) -> Result {
        let root = self.sb.root().ok_or(EIO)?;
        let inode = root.object()?;
        let (known, answer) = self.answer(
            inode,
            inode.stack(section)?.serial(),
            0,
            KVec::new(),
            |plan| plan.ask_roots(shape),
        )?;
        let at = self.renew(section, inode, &answer.slots)?;
        let mut path: KVVec<Frame> = KVVec::new();
        path.push(Frame::new(root, Place { at, known })?, GFP_KERNEL)?;
        while let Some(frame) = path.last_mut() {
            let Some(child) = frame.children.next() else {
                drop(path.pop());
                continue;
            };
            let (dir, place) = (frame.dentry.clone(), frame.place);
            let place = match self.visit(section, shape, &dir, place, &child) {
                Err(error) if matches!(self.asking, Asking::Freely(_)) && is_passing(error) => {
                    self.failed = Some(error);
                    None
                }
                other => other?,
            };
            if let Some(place) = place {
                path.push(Frame::new(child, place)?, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Looks at one name in `dir`. For a directory, tells where its instances are.
    fn visit(
        &mut self,
        section: Section<'_>,
        shape: &Arc<Shape>,
        dir: &Dentry,
        place: Place,
        child: &ARef<Dentry>,
    ) -> Result<Option<Place>> {
        if child.is_unhashed() {
            // Removed, or about to be looked up.
            return Ok(None);
        }
        let Some(inode) = child.inode() else {
            self.found.hidden.push(child.clone(), GFP_KERNEL)?;
            return Ok(None);
        };
        let current = inode.stack(section)?;
        let (known, answer) = self.answer(
            inode,
            current.serial(),
            place.known,
            child.name()?,
            |plan| plan.ask(section, shape, dir, place.at, child.name()?),
        )?;
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
                inode.ever_led_to(section, found) && inode.is_now(section, found)?
            }
        };
        let left;
        let slots = if same {
            let guard = answer.guard.clone();
            self.found.guards.push((child.clone(), guard), GFP_KERNEL)?;
            &answer.slots
        } else {
            if child.is_mountpoint() {
                self.found.guards.push((child.clone(), None), GFP_KERNEL)?;
            } else {
                self.found.hidden.push(child.clone(), GFP_KERNEL)?;
            }
            left = remaining(&shape.table, current)?;
            &left
        };
        if inode.is_dir() && !slots.is_empty() {
            let at = self.renew(section, inode, slots)?;
            return Ok(Some(Place { at, known }));
        }
        // The same file, moved to another branch.
        let top = slots.first().filter(|_| same && !inode.is_plinked());
        if top.is_some_and(|top| top.branch().id != current.top().branch().id) {
            self.renew(section, inode, slots)?;
        }
        Ok(None)
    }

    /// The answer for `name`, which leads to `inode` with the stack `serial`, in the list of
    /// instances `dir`, with the number of what is known of it: what is remembered, or what `ask`
    /// gives.
    fn answer(
        &mut self,
        inode: &Inode,
        serial: u32,
        dir: u32,
        name: KVec<u8>,
        ask: impl FnOnce(&mut Self) -> Result<Arc<Answer>>,
    ) -> Result<(u32, Arc<Answer>)> {
        if let Some(known) = self.memory.find(inode, serial, dir, &name) {
            return Ok(known);
        }
        let answer = ask(self)?;
        let known = self
            .memory
            .remember(inode, serial, dir, name, answer.clone())?;
        Ok((known, answer))
    }

    /// Asks for the instances of the root.
    fn ask_roots(&mut self, shape: &Arc<Shape>) -> Result<Arc<Answer>> {
        let info = self.sb.data();
        let slots = match self.may_ask(shape.is_remote())? {
            None => sb::root_slots(&shape.table, &mut sb::is_opaque)?,
            Some(patience) => {
                let mut ask =
                    |branch: &Arc<Branch>| patience.ask_root(&info.askers, &info.cred, branch);
                sb::root_slots(&shape.table, &mut ask)?
            }
        };
        let answer = Answer {
            slots,
            place: None,
            guard: None,
            asked: 0,
        };
        Ok(Arc::new(answer, GFP_KERNEL)?)
    }

    /// Asks for `name` in the directory `dir`.
    fn ask(
        &mut self,
        section: Section<'_>,
        shape: &Arc<Shape>,
        dir: &Dentry,
        at: At,
        name: KVec<u8>,
    ) -> Result<Arc<Answer>> {
        let parent = self.stack(section, dir, at)?;
        // The parts of a renamed directory may be anywhere.
        let remote = parent.is_remote() || (shape.settings.dirren && shape.is_remote());
        let patience = self.may_ask(remote)?;
        let info = self.sb.data();
        let view = View::plain(info, shape, self.stack(section, dir, at)?);
        let answer = match patience {
            None => lookup::probe(&view, 0, &name, Depth::All)?,
            Some(patience) => {
                let ask = Patiently { patience, info };
                let known = &mut view.known(&name);
                lookup::probe_by(&ask, &view, known, 0, &name, Depth::All)?
            }
        };
        Ok(Arc::new(answer, GFP_KERNEL)?)
    }

    /// The instances of the directory `dir`, which are `at`.
    fn stack<'s>(&'s self, section: Section<'s>, dir: &'s Dentry, at: At) -> Result<&'s Stack> {
        match at {
            At::Renewed(n) => Ok(&*self.found.renewed.get(n).ok_or(EIO)?.stack),
            At::Inode => dir.object()?.stack(section),
        }
    }

    /// Whether branches may be asked now: with patience if some of them may take any time
    /// (`remote`).
    fn may_ask(&mut self, remote: bool) -> Result<Option<&'m Patience<'c>>> {
        match &mut self.asking {
            Asking::Freely(patience) => {
                patience.go_on()?;
                return Ok(Some(*patience).filter(|_| remote));
            }
            Asking::Seldom(allowance) => {
                if !remote && allowance.take() {
                    return Ok(None);
                }
            }
        }
        self.is_short = true;
        Err(EAGAIN)
    }

    /// Looks at all cached inodes: what has no name, or keeps its instance on a branch whose access
    /// changes.
    fn walk_inodes(&mut self, section: Section<'_>, table: &BranchTable) -> Result {
        let sb = self.sb;
        sb.each_inode(&mut |inode| {
            let current = inode.stack(section)?;
            let stale = |stack: &Stack| stack.iter().any(|slot| is_stale(table, slot));
            if inode.history(section).any(stale) {
                self.found.stale.push(inode.into(), GFP_KERNEL)?;
            }
            if inode.is_marked(self.round) || !stale(current) {
                return Ok(());
            }
            let slots = remaining(table, current)?;
            if !slots.is_empty() {
                self.renew(section, inode, &slots)?;
            } else if inode.is_held() {
                self.found.let_go.push(inode.into(), GFP_KERNEL)?;
            } else {
                return Err(EBUSY);
            }
            Ok(())
        })
    }
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
        made.keep();
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
                stack.iter().any(|slot| is_stale(table, slot))
            });
        }
        if let Some(Err(error)) = info.fhsm.get().map(|fhsm| fhsm.update(section.table())) {
            warn_limited!(
                "fhsm: the branches are told about as they were: {:?}\n",
                error
            );
        }
        // Only numbers are at stake.
        if let Err(error) = plink::adopt(section) {
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
            if inode.is_dir() && !keeps_surplus(section, &inode, &stack) {
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
fn follow(
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
        if !left().any(|branch| Arc::ptr_eq(&branch.claim, claim)) {
            claim.end();
        }
    }
    for branch in left() {
        // Who shares it still needs what is there.
        let alone = branch.claim.purpose() == Purpose::Write;
        let gone = removed.iter().any(|other| other.id == branch.id);
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
