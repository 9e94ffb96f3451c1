// SPDX-License-Identifier: GPL-2.0

//! From what a file handle says to a dentry of the union.

#![forbid(unsafe_code)]

use crate::compat::errno::ESTALE;
use crate::fs::{
    access::{
        dirop,
        export,
        io::{
            self,
            KernelFile, //
        }, //
    },
    base::{
        seats::Doing,
        task, //
    },
    objects::ours::Candidate, //
};
use crate::logic::handle::{
    self,
    Object,
    Part,
    Target, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            BranchTable,
            Slot,
            Slots, //
        },
        whiteout, //
    },
    names::find,
    state::{
        encode,
        sb::SbInfo, //
    },
    types::{
        Dentry,
        Inode,
        LowerDentry,
        LowerInode,
        Section,
        SuperBlock,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// The branch that `object` speaks of.
fn branch_of<'a>(table: &'a BranchTable, object: &Object<'_>) -> Result<&'a Arc<Branch>> {
    let mut alike = None;
    let mut unclear = false;
    for branch in table.order.iter() {
        if encode::tag(branch)? != object.tag {
            continue;
        }
        if branch.id.number() == object.branch {
            return Ok(branch);
        }
        // Of several that look the same only the identity can tell.
        unclear = alike.replace(branch).is_some();
    }
    Ok(alike.filter(|_| !unclear).ok_or(ESTALE)?)
}

/// What a handle has to show for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anybody may have made it.
    Forged,
    /// The union gave it.
    Given,
    /// The union gave it, when the branch itself was the topmost writable one.
    GivenByBranch,
}

impl Trust {
    /// What `object`, of `branch`, has to show.
    fn of(section: Section<'_>, info: &SbInfo, branch: &Branch, object: &Object<'_>) -> Self {
        if object.seal.is_none() {
            return Trust::Forged;
        }
        let is_by = |branch: &Branch| {
            let key = branch.key.as_ref();
            key.is_some_and(|key| object.is_sealed_by(key.key()))
        };
        if is_by(branch) {
            Trust::GivenByBranch
        } else if object.is_sealed_by(info.moves.key)
            || section.table().order.iter().any(|branch| is_by(branch))
        {
            Trust::Given
        } else {
            Trust::Forged
        }
    }
}

/// An instance that a handle leads to. It need not be one that the union shows.
pub(super) struct Found<'a> {
    sb: &'a SuperBlock,
    // Before the branch, which keeps its file system mounted.
    pub(super) lower: ARef<LowerDentry>,
    /// The directory that it is said to be in.
    hint: Option<ARef<LowerDentry>>,
    pub(super) branch: Arc<Branch>,
    /// The number of the object it belongs to; `None` if the union never met it.
    number: Option<u64>,
    pub(super) trust: Trust,
}

impl<'a> Found<'a> {
    /// The instance that `object` stands for, or the one that took its place.
    pub(super) fn new(sb: &'a SuperBlock, object: &Object<'_>) -> Result<Self> {
        let info = sb.data();
        let first = Self::on(sb, object)?;
        let now = match first.number {
            Some(number) => info.moves.now(number)?,
            None => None,
        };
        let Some(words) = now else {
            return Ok(first);
        };
        let Some((Target::Object(object), _)) = handle::parse(&words) else {
            return Err(ESTALE.into());
        };
        Ok(Found {
            number: first.number,
            // It was in memory.
            trust: Trust::GivenByBranch,
            ..Self::on(sb, &object)?
        })
    }

    /// The instance that `object` stands for. File systems take their time: it is no read section.
    fn on(sb: &'a SuperBlock, object: &Object<'_>) -> Result<Self> {
        let info = sb.data();
        let (branch, trust) = {
            let reading = sb.read();
            let section = reading.section();
            let branch = branch_of(section.table(), object)?;
            (branch.clone(), Trust::of(section, info, branch, object))
        };
        let root = branch.root.here();
        let Part { kind, words } = object.object;
        let lower = export::decode(root, kind, words)?;
        let hint = match &object.dir {
            Some(dir) if !lower.is_dir() => match export::decode(root, dir.kind, dir.words) {
                // Removed, after the object was moved to another one.
                Err(error) if error == ESTALE => None,
                other => Some(other?),
            },
            _ => None,
        };
        // What is no directory may be anything, anywhere: it is not opened.
        let hint = hint.filter(|hint| hint.is_dir());
        Ok(Found {
            number: info.ino.known(&branch, &lower)?,
            sb,
            lower,
            hint,
            branch,
            trust,
        })
    }

    pub(super) fn lower_inode(&self) -> Result<&LowerInode> {
        Ok(self.lower.inode().ok_or(ESTALE)?)
    }

    /// Whether `inode` is the object.
    fn is(&self, section: Section<'_>, inode: Candidate<'_, Union>) -> bool {
        let Some(lower) = self.lower.inode() else {
            return false;
        };
        if !inode.is_dir() {
            return self.number == Some(inode.ino()) || inode.ever_led_to(section, lower);
        }
        leads_to(section, inode, lower)
    }

    /// The object, if it is in memory: then the union shows it, or did when it was opened.
    pub(super) fn cached(&self) -> Result<Option<ARef<Dentry>>> {
        let Some(number) = self.number else {
            return Ok(None);
        };
        let inode = {
            // Not beside a remount, which takes stacks out of what inodes remember.
            let entered = self.sb.enter(Doing::LookUp);
            let section = entered.section();
            Inode::find_cached(self.sb, number, |inode| self.is(section, inode))
        };
        match inode {
            Some(inode) if !inode.is_dir() => Ok(Some(Dentry::of(inode)?)),
            Some(inode) => Ok(inode.alias()),
            None => Ok(None),
        }
    }

    /// What the union shows where the branch has `name`, if that is the object.
    pub(super) fn at(&self, name: &LowerDentry) -> Result<Option<ARef<Dentry>>> {
        /// A rename may be half done: then the names are others a moment later.
        const TRIES: usize = 4;
        let mut before = KVec::new();
        for _ in 0..TRIES {
            let (dir, names) = match self.way(name) {
                Err(error) if error == ESTALE => return Ok(None),
                other => other?,
            };
            if names == before {
                break;
            }
            match walk(dir, &names) {
                Ok(dentry) => {
                    let entered = self.sb.enter(Doing::LookUp);
                    let section = entered.section();
                    if dentry
                        .inode()
                        .is_some_and(|inode| self.is(section, inode.into()))
                    {
                        return Ok(Some(dentry));
                    }
                }
                Err(error) if stale(error) != ESTALE => return Err(error),
                Err(_) => {}
            }
            before = names;
        }
        Ok(None)
    }

    /// The names that lead to `name`, the last one first, from the next directory that is in memory
    /// on.
    fn way(&self, name: &LowerDentry) -> Result<(ARef<Dentry>, KVec<KVec<u8>>)> {
        let mut names = KVec::new();
        let mut here: ARef<LowerDentry> = name.into();
        while !here.is(self.branch.root.dentry()) {
            if here.is_root() || task::killed() {
                return Err(if here.is_root() { ESTALE.into() } else { EINTR });
            }
            names.push(here.name()?, GFP_KERNEL)?;
            here = here.parent();
            if let Some(dentry) = self.cached_dir(&here)? {
                return Ok((dentry, names));
            }
        }
        Ok((self.sb.root().ok_or(ESTALE)?, names))
    }

    /// The directory of the union that `lower`, one of the branch, is part of, if it is in memory.
    fn cached_dir(&self, lower: &LowerDentry) -> Result<Option<ARef<Dentry>>> {
        let (Some(number), Some(inode)) = (
            self.sb.data().ino.known(&self.branch, lower)?,
            lower.inode(),
        ) else {
            return Ok(None);
        };
        let reading = self.sb.read();
        let section = reading.section();
        let dir = Inode::find_cached(self.sb, number, |dir| {
            dir.is_dir() && leads_to(section, dir, inode)
        });
        Ok(dir.and_then(|dir| dir.alias()))
    }

    /// The object under a name that is in memory, or in the directory that the handle names.
    /// Whether there was any name instead, which does not lead to it.
    pub(super) fn under_known_name(&self) -> Result<(Option<ARef<Dentry>>, bool)> {
        let mut elsewhere = false;
        for name in self.lower_inode()?.names()? {
            let Some(place) = self.place_of(&name) else {
                continue;
            };
            if place == Place::Inside {
                if let Some(dentry) = self.at(&name)? {
                    return Ok((Some(dentry), false));
                }
            }
            elsewhere = true;
        }
        let Some(dir) = &self.hint else {
            return Ok((None, elsewhere));
        };
        let named = self
            .sb
            .data()
            .cred
            .scope(|| named(&self.branch, dir, self.lower_inode()?))?;
        match named {
            Some(name) => Ok((self.at(&name)?, true)),
            None => Ok((None, elsewhere)),
        }
    }

    /// Where `name` is; `None` if that says nothing about where the object is.
    fn place_of(&self, name: &LowerDentry) -> Option<Place> {
        let root = self.branch.root.dentry();
        if name.is_below(&**root) {
            let work = self.branch.work.as_ref();
            // Names of the object may be on other branches.
            let spare = work.is_some_and(|work| name.parent().is(&*work.plinks));
            return (!spare).then_some(Place::Inside);
        }
        // Of a directory that is no part of the tree yet nothing is known.
        let mut top: ARef<LowerDentry> = name.into();
        while !top.is_root() {
            top = top.parent();
        }
        top.is_top_of_file_system().then_some(Place::Outside)
    }

    /// Whether the object needs no name: it is one that the union showed on its topmost branch, and
    /// nothing hides or removes what is there but the union itself.
    fn may_be_alone(&self) -> bool {
        let reading = self.sb.read();
        let section = reading.section();
        self.trust == Trust::GivenByBranch && encode::is_plain_top(section.table(), &self.branch)
    }

    /// The object without a name.
    fn alone(&self) -> Result<ARef<Dentry>> {
        let entered = self.sb.enter(Doing::LookUp);
        let section = entered.section();
        let info = self.sb.data();
        if !encode::is_plain_top(section.table(), &self.branch) {
            return Err(ESTALE.into());
        }
        // Remounts since it was found may have given it another access.
        let branch = section.table().get(self.branch.id).ok_or(ESTALE)?;
        let slot = Slot::new(branch.clone(), self.lower.clone());
        let inode = info.cred.scope(|| find::get(section, Slots::one(slot)))?;
        Dentry::of(inode)
    }

    /// Whether the branch keeps the object for names of it on other branches.
    fn has_pseudo_link(&self) -> Result<bool> {
        let Some(work) = &self.branch.work else {
            return Ok(false);
        };
        let info = self.sb.data();
        let found = info
            .cred
            .scope(|| named(&self.branch, &work.plinks, self.lower_inode()?))?;
        Ok(found.is_some())
    }

    /// The object under any name that it has on the branch, or without one.
    pub(super) fn anywhere(&self) -> Result<ARef<Dentry>> {
        /// Entries that are listed for an object that needs no name: if the branch has no more, it
        /// is seen that the object is there.
        const FEW: usize = 1 << 12;
        /// Entries that are listed for others.
        const MANY: usize = 1 << 22;

        let may_be_alone = self.may_be_alone();
        let most = if may_be_alone { FEW } else { MANY };
        let info = self.sb.data();
        let (names, all) = info
            .cred
            .scope(|| search(&self.branch, self.lower_inode()?, most))?;
        for name in names.iter() {
            if let Some(dentry) = self.at(name)? {
                return Ok(dentry);
            }
        }
        // It may have been moved from where nobody had looked yet to where somebody had.
        if let (Some(dentry), _) = self.under_known_name()? {
            return Ok(dentry);
        }
        if may_be_alone && (!all || self.has_pseudo_link()?) {
            return self.alone();
        }
        Err(ESTALE.into())
    }
}

/// Where a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Below the root of the branch.
    Inside,
    /// Elsewhere in its file system.
    Outside,
}

/// Whether `dir`, a directory of the union, has the instance `lower`. In a read section.
fn leads_to(section: Section<'_>, dir: Candidate<'_, Union>, lower: &LowerInode) -> bool {
    dir.stack(section).is_ok_and(|stack| {
        stack
            .iter()
            .any(|slot| dirop::same_inode(slot.dentry(), lower))
    })
}

/// The name that the directory `dir` of `branch` has for `inode`, looked up.
///
/// Anybody may have said that it is this directory: that costs no more than to list it.
fn named(
    branch: &Branch,
    dir: &LowerDentry,
    inode: &LowerInode,
) -> Result<Option<ARef<LowerDentry>>> {
    /// Names that are kept of those with the right number.
    const MATCHES: usize = 16;
    /// Names that show whether numbers in listings are those of stat(2).
    const SAMPLES: usize = 4;
    /// Names of a directory where they are not.
    const MOST: usize = 1 << 16;

    let mut matches = KVVec::new();
    let mut samples = KVVec::new();
    each_child(branch, dir, &mut |name, number, _| {
        let (kept, most) = if number == inode.ino() {
            (&mut matches, MATCHES)
        } else {
            (&mut samples, SAMPLES)
        };
        if kept.len() < most {
            kept.push((copy_of(name)?, number), GFP_KERNEL)?;
        }
        Ok(())
    })?;
    let mut differs = false;
    for (name, number) in Iterator::chain(matches.iter(), samples.iter()) {
        let Some(found) = dirop::lookup_positive(dir.dir()?, name)? else {
            continue;
        };
        if dirop::same_inode(&found, inode) {
            return Ok(Some(found));
        }
        differs |= found.inode().is_some_and(|inode| inode.ino() != *number);
    }
    if !differs {
        return Ok(None);
    }
    // There are file systems whose listings show other numbers: iso9660, FUSE.
    let mut names = KVVec::new();
    each_child(branch, dir, &mut |name, _, _| {
        if names.len() >= MOST {
            return Err(ESTALE.into());
        }
        Ok(names.push(copy_of(name)?, GFP_KERNEL)?)
    })?;
    for name in names.iter() {
        if task::killed() {
            return Err(EINTR);
        }
        if let Some(found) = dirop::lookup_positive(dir.dir()?, name)? {
            if dirop::same_inode(&found, inode) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The names of `inode` on `branch`, but for those that no union shows, found by listing the
/// branch, at most `most` entries; and whether these are all. That takes long, so only handles that
/// the union gave come here.
fn search(
    branch: &Branch,
    inode: &LowerInode,
    most: usize,
) -> Result<(KVVec<ARef<LowerDentry>>, bool)> {
    /// Directories that wait to be listed.
    const DIRECTORIES: usize = 1 << 16;
    /// Names that are looked at of a file with many.
    const NAMES: usize = 64;

    // CAST: A count.
    let count = inode.nlink() as usize;
    let mut left = most;
    let mut found = KVVec::new();
    let mut dirs = KVVec::new();
    dirs.push(branch.root.dentry().clone(), GFP_KERNEL_ACCOUNT)?;
    while let Some(dir) = dirs.pop() {
        let mut wanted = KVVec::new();
        let mut full = false;
        let listed = each_child(branch, &dir, &mut |name, number, kind| {
            full = left == 0;
            left = left.checked_sub(1).ok_or(ESTALE)?;
            let is_wanted = number == inode.ino() || io::may_be_dir(kind);
            if is_wanted && whiteout::user(name).is_some() {
                wanted.push(copy_of(name)?, GFP_KERNEL_ACCOUNT)?;
            }
            Ok(())
        });
        if full {
            return Ok((found, false));
        }
        listed?;
        for name in wanted.iter() {
            if task::killed() {
                return Err(EINTR);
            }
            let Some(child) = dirop::lookup_positive(dir.dir()?, name)? else {
                continue;
            };
            if dirop::same_inode(&child, inode) {
                found.push(child, GFP_KERNEL_ACCOUNT)?;
                if found.len() >= count.min(NAMES) {
                    return Ok((found, count <= NAMES));
                }
            } else if child.is_dir() {
                if dirs.len() >= DIRECTORIES {
                    return Ok((found, false));
                }
                dirs.push(child, GFP_KERNEL_ACCOUNT)?;
            }
        }
    }
    Ok((found, true))
}

/// Lists `dir` of `branch`, but for `.` and `..`. Who is killed stops.
fn each_child(
    branch: &Branch,
    dir: &LowerDentry,
    f: &mut dyn FnMut(&[u8], u64, u8) -> Result,
) -> Result {
    KernelFile::dir(branch.at(dir)?, true)?.each_entry(&mut |name, number, kind| {
        if task::killed() {
            return Err(EINTR);
        }
        match name {
            // Next to the root of a subvolume `..` may have any number.
            b"." | b".." => Ok(()),
            _ => f(name, number, kind),
        }
    })
}

/// `name` in memory of its own.
fn copy_of(name: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::new();
    copy.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
    Ok(copy)
}

/// Walks `names`, the first one last, from `dir` on.
fn walk(dir: ARef<Dentry>, names: &[KVec<u8>]) -> Result<ARef<Dentry>> {
    let mut here = dir;
    for name in names.iter().rev() {
        if task::killed() {
            return Err(EINTR);
        }
        here = here.child(name)?;
    }
    Ok(here)
}

/// What a failure to resolve a handle is called: for whoever holds it the object is gone.
pub(super) fn stale(error: Error) -> Error {
    match error {
        error if error == ENOMEM || error == EIO || error == EINTR => error,
        _ => ESTALE.into(),
    }
}
