// SPDX-License-Identifier: GPL-2.0

//! Of which file another is the copy: what the notes say of what was found.

#![forbid(unsafe_code)]

use crate::compat::errno::ESTALE;
use crate::fs::{
    access::dirop,
    base::once::load_acquire, //
};
use crate::logic::plink::{
    self as stored,
    What, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot, //
        },
        ino::{
            InoTable,
            Lower, //
        },
        notes::Entry,
        origin, //
    },
    state::sb::SbInfo,
    types::{
        Inode,
        LowerDentry,
        LowerInode,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Full,
            Release, //
        },
        Arc, //
    }, //
};

/// `list_plink`: writes all to the log, each with the branch of its copy, where that is noted.
pub(crate) fn list(section: Section<'_>) -> Result {
    let info = section.data();
    for inode in info.plinks.kept.lock().values() {
        if inode.is_plinked() {
            pr_info!("pseudo-link: inode {}, in memory only\n", inode.ino());
        }
    }
    for branch in section.table().order.iter() {
        let path = branch.shown.to_bytes()?;
        branch.plinks.each_copy(&mut |entry| {
            pr_info!(
                "pseudo-link: inode {}, {} on branch {}\n",
                entry.number,
                entry.file.ino,
                kernel::str::BStr::from_bytes(&path)
            );
        });
    }
    Ok(())
}

/// The copies which new branches brought along have the inode numbers of their originals.
pub(crate) fn adopt(section: Section<'_>) -> Result {
    let info = section.data();
    let table = section.table();
    // An original may be a copy itself, of something below it.
    for branch in table
        .order
        .iter()
        .rev()
        .filter(|branch| branch.plinks.is_used())
    {
        info.plinks.noted.store(true, Release);
        if branch.plinks.adopted.xchg(true, Full) {
            continue;
        }
        for (file, origin) in branch.plinks.copies()?.iter() {
            // Only one copy has the number: that which is shown in place of the original, or has
            // it already.
            let at = table.index_of(branch.id).unwrap_or(0);
            let taken = table.order.iter().enumerate().any(|(n, other)| {
                let first = n < at || load_acquire(&other.plinks.adopted);
                other.id != branch.id && first && other.plinks.has_copy_of(origin)
            });
            if taken {
                continue;
            }
            // An original is below its copy, where it is looked for.
            let below = table.order.iter().skip(at.saturating_add(1));
            let mut homes = below.filter(|other| other.identity == Some(origin.fs));
            if let Some(home) = homes.next().filter(|home| !origin::has_twin(table, home)) {
                let number = info.ino.number(numbered(info, home, origin.ino)?)?;
                let copy = numbered(info, branch, *file)?;
                info.ino.keep(InoTable::reserve()?, copy, number);
            }
        }
    }
    Ok(())
}

/// The object that was found as `found` gets a number of its own, unless it is in memory, if the
/// one that it would have belongs to a copy which, for what is noted of it, is none of this object:
/// that was changed, or has the number of the original by now, or the note is forged.
pub(crate) fn part_numbers(section: Section<'_>, found: &Slot) -> Result {
    let (sb, info) = (section.sb(), section.data());
    if !load_acquire(&info.plinks.noted) {
        return Ok(());
    }
    let table = section.table();
    let at = table.index_of(found.branch().id).ok_or(ESTALE)?;
    let above = || {
        let above = table.order.iter().take(at);
        above.filter(|branch| branch.plinks.is_used())
    };
    if above().next().is_none() {
        return Ok(());
    }
    let Some(origin) = origin::of(table, found)? else {
        return Ok(());
    };
    if !above().any(|branch| branch.plinks.has_copy_of_other(&origin)) {
        return Ok(());
    }
    let lower = info.ino.lower(found.branch(), found.dentry())?;
    let cached = Inode::cached(sb, info.ino.number(lower)?);
    let inode = found.inode()?;
    if !cached.is_some_and(|cached| cached.ever_led_to(section, inode)) {
        info.ino.part(InoTable::reserve()?, lower);
    }
    Ok(())
}

/// The object with the number `ino` of a branch, in the number space of the branch's root.
fn numbered(info: &SbInfo, branch: &Branch, ino: u64) -> Result<Lower> {
    Ok(Lower {
        space: info.ino.space(branch, branch.root.dentry())?,
        number: ino,
    })
}

/// What is known of an object that was found under some name.
pub(crate) struct Known {
    /// Its topmost instance: the one that was found, or a copy of it.
    pub(crate) slot: Slot,
    /// Whether that is a copy of something.
    pub(crate) is_copy: bool,
    /// The names that the union shows of it, if the branch's link count does not say it.
    pub(crate) names: Option<u32>,
}

/// What is noted of the non-directory that was found as `found`; `None` if nothing is noted at all:
/// then it is what was found.
pub(crate) fn resolve(section: Section<'_>, found: &Slot) -> Result<Option<Known>> {
    let info = section.data();
    if !load_acquire(&info.plinks.noted) {
        return Ok(None);
    }
    let mut known = Known {
        slot: found.clone(),
        is_copy: false,
        names: None,
    };
    info.cred.scope(|| {
        while let Some((branch, entry)) = noted(section, &known.slot)? {
            if entry.note.what == What::Hidden {
                // It may be a copy on a branch that became a layer.
                let inode = known.slot.inode()?;
                known.is_copy |= known.slot.branch().plinks.by_copy(inode).is_some();
                known.names = Some(shown(&entry, inode));
                return Ok(Some(known));
            }
            let Some(copy) = file_of(branch, &entry)? else {
                return Ok(Some(known));
            };
            known.slot = Slot::new(branch.clone(), copy);
            known.is_copy = true;
        }
        let inode = known.slot.inode()?;
        if let Some(entry) = known.slot.branch().plinks.by_copy(inode) {
            known.is_copy = true;
            known.names = Some(shown(&entry, inode));
        }
        Ok(Some(known))
    })
}

/// How many names the union shows of an object that was found by one of them.
fn shown(entry: &Entry, links: &LowerInode) -> u32 {
    entry.note.names.count(links.nlink()).max(1)
}

/// The entry for the instance `slot` on a branch above it.
pub(super) fn noted<'a>(
    section: Section<'a>,
    slot: &Slot,
) -> Result<Option<(&'a Arc<Branch>, Entry)>> {
    let info = section.data();
    if !load_acquire(&info.plinks.noted) {
        return Ok(None);
    }
    let table = section.table();
    let at = table.index_of(slot.branch().id).ok_or(ESTALE)?;
    let above = || {
        let above = table.order.iter().take(at);
        above.filter(|branch| branch.plinks.is_used())
    };
    if above().next().is_none() {
        return Ok(None);
    }
    let Some(origin) = origin::of(table, slot)? else {
        return Ok(None);
    };
    let mut hidden = None;
    for branch in above() {
        match branch.plinks.by_origin(&origin) {
            Some(entry) if entry.note.what == What::Copy => return Ok(Some((branch, entry))),
            // A lower one is from before its branch became a layer.
            Some(entry) => hidden = hidden.or(Some((branch, entry))),
            None => {}
        }
    }
    Ok(hidden)
}

/// The file of `entry`, on `branch`; `None` if somebody took it away, or put another in its place.
pub(super) fn file_of(branch: &Branch, entry: &Entry) -> Result<Option<ARef<LowerDentry>>> {
    let dir = branch.plinks.dir.as_ref().ok_or(EIO)?;
    let name = stored::name(entry.number, entry.file.ino)?;
    let found = dirop::lookup_positive(dir.dir()?, &name)?;
    Ok(found.filter(|found| found.inode().is_some_and(|inode| entry.is(inode))))
}
