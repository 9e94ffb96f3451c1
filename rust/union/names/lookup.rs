// SPDX-License-Identifier: GPL-2.0

//! Looking a name up in the branches.
//!
//! Only the branches in which the directory exists are asked, in their order, and
//! only those of which it is not known that they do not have the name
//! ([`super::index`]); [`crate::logic::lookup`] says when to stop and what belongs
//! to the object.

#![forbid(unsafe_code)]

use super::{
    ask::Ask,
    find,
    index::{
        Known,
        View, //
    },
    records, //
};
use crate::compat::errno::{
    ENOKEY,
    ESTALE, //
};
use crate::fs::{
    objects::{
        entry::Entry,
        inode::Kind, //
    },
    operations::inode::{
        Tie,
        Tied, //
    }, //
};
use crate::logic::{
    lookup::{
        Found,
        Marks,
        Scan,
        Step, //
    },
    stats::Counter, //
};
use crate::union::{
    branches::{
        branch::{
            Slot,
            Slots, //
        },
        ino::InoTable,
        whiteout::{
            self,
            Sought,
            UserName, //
        }, //
    },
    types::{
        Inode,
        LowerDentry,
        Section,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// What the branches know of a name.
pub(crate) struct Answer {
    /// The instances, topmost first; none if the name is absent.
    pub(crate) slots: Slots,
    /// The place of the last of them in the directory. It is the last that is one of the
    /// directory's own: below may be parts of a renamed one.
    pub(crate) place: Option<usize>,
    /// The negative dentry of the topmost writable branch above the first instance.
    pub(crate) guard: Option<ARef<LowerDentry>>,
    /// How many names branches were asked for.
    pub(crate) asked: u32,
}

/// How much of an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All instances.
    All,
    /// The first instance is enough.
    First,
}

/// Asks the branches of the directory `dir`, from its `skip`-th on, for `name`, as far as what is
/// known of them does not answer. The mounter's credentials are in force.
///
/// # Errors
///
/// See [`probe_known`].
pub(crate) fn probe(dir: &View<'_>, skip: usize, name: Sought<'_>, depth: Depth) -> Result<Answer> {
    probe_known(dir, &mut dir.known(name), skip, name, depth)
}

/// As [`probe`], with what is known of `name`. If it was asked before, `skip` is beyond what was
/// found then.
///
/// # Errors
///
/// What a branch's look-up gives, except that names which are too long for a branch are absent
/// there. `ESTALE` if a directory was taken away behind our back. `EIO` if a mark is not a regular
/// file, which only somebody else can have made. `ENOKEY` if what is found may be hidden by an
/// encrypted directory whose key is not there. `EOPNOTSUPP` if a directory that is found ignores
/// the case of names.
pub(crate) fn probe_known(
    dir: &View<'_>,
    known: &mut Known<'_>,
    skip: usize,
    name: Sought<'_>,
    depth: Depth,
) -> Result<Answer> {
    let (stack, ask) = (dir.stack(), dir.ask());
    let mut answer = Answer {
        slots: Slots::new(),
        place: None,
        guard: None,
        asked: 0,
    };
    // That of a mark is asked for with `shwh` only.
    let object = name.object();
    let mut found: Option<ARef<LowerDentry>> = None;
    let mut scan = Scan::new(stack.len().saturating_sub(skip));
    let mut step = scan.step();
    loop {
        step = match step {
            Step::Name(n) => {
                let i = skip.saturating_add(n);
                let next = known.next_name(i);
                if next > i {
                    step = scan.absent_until(next.saturating_sub(skip));
                    continue;
                }
                let slot = stack.get(i).ok_or(EIO)?;
                let dentry = if object.is_none() && !slot.branch().access.honours_whiteouts() {
                    None
                } else {
                    answer.asked = answer.asked.wrapping_add(1);
                    ask.name(slot, name.bytes())?
                };
                let what = match &dentry {
                    Some(dentry) if whiteout::is_mark(dentry) => Found::Absent,
                    Some(dentry) if dentry.is_dir() => {
                        slot.branch().check_case(dentry)?;
                        Found::Dir
                    }
                    Some(dentry) if !dentry.is_negative() => Found::Other,
                    _ => Found::Absent,
                };
                if what != Found::Absent {
                    found = dentry;
                } else if answer.guard.is_none()
                    && answer.slots.is_empty()
                    && slot.branch().access.may_write()
                {
                    answer.guard = dentry;
                }
                scan.name(what)
            }
            Step::Marks(n) => {
                let i = skip.saturating_add(n);
                let hidden = known.next_whiteout(i);
                // Whether those taken before it are opaque was asked before it was taken.
                let place = answer.place.filter(|place| *place >= i);
                let next = hidden.min(place.unwrap_or(stack.len()));
                if next > i {
                    step = scan.clear_until(next.saturating_sub(skip));
                    continue;
                }
                let slot = stack.get(i).ok_or(EIO)?;
                let mut marks = Marks::Absent;
                if slot.branch().access.honours_whiteouts() {
                    if slot.dentry().is_locked() {
                        // What it hides is not known.
                        return Err(ENOKEY.into());
                    }
                    if let Some(name) = object.filter(|_| hidden == i) {
                        if dir.marks().may_hold(slot)? {
                            answer.asked = answer.asked.wrapping_add(1);
                            marks = whiteout::hides(&Asked(ask, slot), name)?.into();
                        }
                    }
                    let inside = answer.slots.last();
                    let inside = inside.filter(|_| marks == Marks::Absent && place == Some(i));
                    if let Some(inside) = inside {
                        if dir.marks().may_hold(inside)? {
                            answer.asked = answer.asked.wrapping_add(1);
                            marks = whiteout::is_opaque(&Asked(ask, inside))?.into();
                        }
                    }
                }
                scan.marks(marks)
            }
            Step::Take(n) => {
                let i = skip.saturating_add(n);
                let (slot, dentry) = stack.get(i).zip(found.take()).ok_or(EIO)?;
                answer.place = Some(i);
                let slot = Slot::new(slot.branch().clone(), dentry);
                if depth == Depth::First {
                    answer.slots.push(slot)?;
                    break;
                }
                let renamed = if slot.dentry().is_dir() {
                    records::below(ask, dir.shape(), &slot, stack)?
                } else {
                    None
                };
                answer.slots.push(slot)?;
                if let Some(parts) = renamed {
                    // It came from elsewhere: what has its name below is something else.
                    for part in parts {
                        answer.slots.push(part)?;
                    }
                    break;
                }
                scan.taken()
            }
            Step::Done => break,
        };
    }
    Ok(answer)
}

/// An instance that is asked for marks by an [`Ask`].
struct Asked<'a>(Ask<'a>, &'a Slot);

impl whiteout::Dir for Asked<'_> {
    type Entry = LowerDentry;

    #[inline]
    fn has(&self, name: &[u8]) -> Result<bool> {
        let Asked(ask, dir) = self;
        let found = ask.name(dir, name)?;
        match found.filter(|found| !found.is_negative()) {
            None => Ok(false),
            Some(found)
                if found
                    .inode()
                    .is_some_and(|inode| inode.kind() == Kind::Regular) =>
            {
                Ok(true)
            }
            Some(_) => Err(EIO),
        }
    }
}

/// Whether `name` would be seen through the instances of `dir` from the `skip`-th on.
pub(crate) fn visible(dir: &View<'_>, skip: usize, name: UserName<'_>) -> Result<bool> {
    visible_known(dir, &mut dir.known(name.into()), skip, name)
}

/// As [`visible`], with what is known of `name`, as for [`probe_known`].
pub(crate) fn visible_known(
    dir: &View<'_>,
    known: &mut Known<'_>,
    skip: usize,
    name: UserName<'_>,
) -> Result<bool> {
    if skip >= dir.stack().len() {
        return Ok(false);
    }
    let answer = probe_known(dir, known, skip, name.into(), Depth::First)?;
    Ok(!answer.slots.is_empty())
}

/// How often a name is looked for whose object goes to another branch each time.
const ATTEMPTS: u32 = 16;

/// Looks `entry` up in `dir`, for the VFS.
///
/// # Errors
///
/// `ESTALE` if what is noted on the branches contradicts itself, or changes all the time; those of
/// the branches.
pub(crate) fn lookup(
    section: Section<'_>,
    dir: &Inode,
    entry: Entry<'_, Union>,
    tie: Tie<'_, Union>,
) -> Result<Tied> {
    let sb = dir.sb();
    let info = sb.data();
    let name = whiteout::check_sought(entry.name(), section.settings().shwh)?;
    // From before the look: what happens meanwhile makes the next walk look again.
    entry.dentry().set_seen(dir.data().watches.count());
    let stats = info.stats();
    let view = View::for_lookup(section, dir)?;
    for attempt in 0..ATTEMPTS {
        let answer = info.cred.scope(|| probe(&view, 0, name, Depth::All))?;
        stats.add(Counter::BranchLookups, answer.asked.into());
        entry.dentry().set_guard(answer.guard);
        let Some(first) = answer.slots.first().cloned() else {
            return Ok(tie.to(None));
        };
        let found = first.inode()?;
        if name.object().is_none() && found.kind() != Kind::Regular {
            return Err(EIO);
        }
        let inode = find::get(section, answer.slots)?;
        // Names that part from it are those that it has then. It may be being copied, which takes
        // long, and who looks it up does not hold its `i_rwsem`.
        let may_part = !section.settings().plink && !inode.is_dir() && found.nlink() > 1;
        let lock = match may_part {
            true => Some(inode.promotion_lock_outside(section)?),
            false => None,
        };
        if inode.is_now(section, found)? {
            let tied = tie.to(Some(inode.clone()));
            if first.dentry().is_removed_in_use() {
                // The cache is not to be the user that keeps it.
                inode.forget_soon();
            }
            return Ok(tied);
        }
        drop(lock);
        if attempt > 0 {
            // Its copy was taken away behind our back, and goes on elsewhere with the number.
            let lower = info.ino.lower(first.branch(), first.dentry())?;
            info.ino.retire(InoTable::reserve()?, lower);
        } else {
            // It was promoted since, or is about to be.
            drop(inode.promotion_lock_outside(section)?);
        }
    }
    Err(ESTALE.into())
}
