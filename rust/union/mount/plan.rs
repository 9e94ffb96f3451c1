// SPDX-License-Identifier: GPL-2.0

//! The walk of a remount over all cached names and inodes, which finds their new instances.

#![forbid(unsafe_code)]

use super::{
    memory::Memory,
    patience::{
        Allowance,
        Patience,
        Patiently, //
    }, //
};
use crate::union::{
    branches::{
        branch::{
            self,
            Branch,
            BranchTable,
            Slot,
            Slots,
            Stack, //
        },
        ino::{
            InoTable,
            Lower,
            Reserved, //
        },
        stack,
        whiteout, //
    },
    names::{
        ask::Ask,
        index::View,
        lookup::{
            self,
            Answer,
            Depth, //
        }, //
    },
    state::sb::Shape,
    types::{
        Dentry,
        Inode,
        LowerDentry,
        Section,
        SuperBlock, //
    }, //
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

/// The new instances of an object.
pub(super) struct Renewed {
    pub(super) inode: ARef<Inode>,
    pub(super) stack: KBox<Stack>,
    /// Memory to remember its inode number under its new top instance, and that.
    pub(super) number: Reserved,
    pub(super) lower: Lower,
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
    fn new(dentry: ARef<Dentry>, place: Place, children: KVVec<ARef<Dentry>>) -> Self {
        Frame {
            dentry,
            place,
            children: children.into_iter(),
        }
    }
}

/// Whether `error` may be of the moment, or of one name: then it counts if it comes again.
fn is_passing(error: Error) -> bool {
    error != EINTR && error != ENOMEM && error != EBUSY
}

/// Whether, and how, a walk asks branches for what is not known.
pub(super) enum Asking<'a, 'c> {
    /// It does; the gate is open.
    Freely(&'a Patience<'c>),
    /// The gate is closed.
    Seldom(Allowance),
}

/// What is to be published.
pub(super) struct Found<'a> {
    pub(super) sb: &'a SuperBlock,
    pub(super) renewed: KVVec<Renewed>,
    /// Names that lead elsewhere now.
    pub(super) hidden: KVVec<ARef<Dentry>>,
    /// The other names, and the new guard of each.
    pub(super) guards: KVVec<(ARef<Dentry>, Option<ARef<LowerDentry>>)>,
    /// Inodes that were kept for pseudo-links on a branch that goes.
    pub(super) let_go: KVVec<ARef<Inode>>,
    /// Inodes that refer to a branch that goes or changes, now or in their history.
    pub(super) stale: KVVec<ARef<Inode>>,
}

/// A walk over all that is cached.
pub(super) struct Plan<'a, 'm, 'c> {
    sb: &'a SuperBlock,
    memory: &'m mut Memory<'a>,
    asking: Asking<'m, 'c>,
    /// The mark of inodes that were looked at.
    round: u32,
    pub(super) found: Found<'a>,
    /// Something had to be asked, and could not be.
    pub(super) is_short: bool,
    /// Why a branch did not answer, while the gate was open.
    pub(super) failed: Option<Error>,
}

/// Whether the branch of `slot` is not in `table`, or has another access there.
pub(super) fn is_stale(table: &BranchTable, slot: &Slot) -> bool {
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
pub(super) fn keeps_surplus(section: Section<'_>, inode: &Inode, stack: &Stack) -> bool {
    let whiteouts = |slot: &Slot| slot.branch().access.honours_whiteouts();
    inode.stack(section).is_ok_and(|current| {
        current.len() == stack.len()
            && Iterator::zip(current.iter(), stack.iter())
                .all(|(a, b)| a.dentry().is(b.dentry()) && whiteouts(a) == whiteouts(b))
    })
}

impl<'a, 'm, 'c> Plan<'a, 'm, 'c> {
    pub(super) fn new(
        sb: &'a SuperBlock,
        memory: &'m mut Memory<'a>,
        asking: Asking<'m, 'c>,
    ) -> Self {
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
            stack: stack::stack_of(slots.duplicate()?)?,
            number: InoTable::reserve()?,
        };
        let all = &mut self.found.renewed;
        all.push(renewed, GFP_KERNEL)?;
        Ok(At::Renewed(all.len().saturating_sub(1)))
    }

    /// Looks at all cached names, from the root down. The mounter's credentials are in force.
    ///
    /// While the gate is open a name that cannot be looked at is passed over.
    pub(super) fn walk_names(&mut self, section: Section<'_>, shape: &Arc<Shape>) -> Result {
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
        let names = self.names(&root)?;
        path.push(Frame::new(root, Place { at, known }, names), GFP_KERNEL)?;
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
                let names = self.names(&child)?;
                path.push(Frame::new(child, place, names), GFP_KERNEL)?;
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
            // Removed or hidden, but in use, or about to be looked up.
            self.forget_guards(child)?;
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
        if inode.is_dir() {
            if slots.is_empty() {
                self.forget_guards(child)?;
                return Ok(None);
            }
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

    /// Notes that `name`, and all that is cached below it, is to have no guard: nobody finds it by
    /// a walk from the root any more, so it is not looked at, but a guard keeps a dentry of a
    /// branch, which may go.
    fn forget_guards(&mut self, name: &ARef<Dentry>) -> Result {
        let all = &mut self.found.guards;
        let mut next = all.len();
        all.push((name.clone(), None), GFP_KERNEL)?;
        while let Some((dir, _)) = all.get(next) {
            next = next.saturating_add(1);
            let children = dir.clone().children()?;
            self.is_short |= children.guarded;
            for child in children.alive {
                all.push((child, None), GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// The names that are cached in the directory `dir`. One that is about to be freed and has a
    /// guard still is passed over, and waited for with the gate open.
    fn names(&mut self, dir: &Dentry) -> Result<KVVec<ARef<Dentry>>> {
        let children = dir.children()?;
        self.is_short |= children.guarded;
        Ok(children.alive)
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
            None => branch::root_slots(&shape.table, &mut whiteout::is_opaque_root)?,
            Some(patience) => {
                let mut ask =
                    |branch: &Arc<Branch>| patience.ask_root(&info.askers, &info.cred, branch);
                branch::root_slots(&shape.table, &mut ask)?
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
        let patiently = patience.map(|patience| Patiently { patience, info });
        let ask = match &patiently {
            None => Ask::AtOnce,
            Some(patiently) => Ask::Apart(patiently),
        };
        let view = View::plain(info, shape, self.stack(section, dir, at)?).by(ask);
        let answer = lookup::probe(&view, 0, whiteout::sought(&name), Depth::All)?;
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
    pub(super) fn walk_inodes(&mut self, section: Section<'_>, table: &BranchTable) -> Result {
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
