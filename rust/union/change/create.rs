// SPDX-License-Identifier: GPL-2.0

//! Making names: create, mkdir, mknod, symlink, link, unnamed files.
//!
//! The object is made in the directory's instance on the chosen branch; then the
//! whiteout of the name goes, if there is one. A name that has both shows the
//! object and nothing from below, so an interruption between the two does no harm.

#![forbid(unsafe_code)]

use crate::compat::errno::{
    EDQUOT,
    ESTALE, //
};
use crate::fs::{
    access::{
        backing::{
            BackingFile,
            OpenFile, //
        },
        dirop::{
            self,
            Creating,
            Removing, //
        }, //
    },
    objects::{
        entry::Entry,
        file::File,
        path::{
            IdMap,
            WriteAccess, //
        }, //
    },
    operations::inode::Make, //
};
use crate::logic::options::Diropq;
use crate::union::{
    branches::{
        branch::{
            Branch,
            Slot,
            Slots, //
        },
        durable,
        whiteout::{
            self,
            UserName, //
        }, //
    },
    copyup::{
        self,
        promote,
        target::{
            self,
            NewEntry,
            NewName, //
        }, //
    },
    names::{
        find,
        index::{
            self,
            View, //
        }, //
    },
    plink,
    state::sb::SbInfo,
    types::{
        Dentry,
        Inode,
        LowerDentry,
        Section,
        Union, //
    }, //
};
use crate::warn_limited;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// The branch on which `entry` of `dir` is made; the directory has an instance there after this.
fn branch_for(section: Section<'_>, dir: &Dentry, entry: NewEntry<'_>) -> Result<Arc<Branch>> {
    let branch = target::for_new_entry(section, dir, entry)?;
    promote::promote_to(section, dir, &branch)?;
    promote::promote_shown(section, dir)?;
    Ok(branch)
}

/// A branch that is full is not what its free space was said to be.
fn note_full(info: &SbInfo, error: Error) {
    if error == ENOSPC || error == EDQUOT {
        info.space.forget();
    }
}

/// Makes an object under a name that is absent.
pub(crate) fn make(
    section: Section<'_>,
    dir: &Inode,
    entry: Entry<'_, Union>,
    make: Make<'_>,
    mode: u16,
    idmap: IdMap<'_>,
) -> Result<ARef<Inode>> {
    let name = whiteout::check(entry.name())?;
    let sb = dir.sb();
    let info = sb.data();
    let wanted = NewEntry {
        name: Some(name),
        is_dir: matches!(make, Make::Dir),
    };
    let branch =
        branch_for(section, entry.parent(), wanted).inspect_err(|&error| note_full(info, error))?;
    let slot = dir.slot_on(section, branch.id)?.ok_or(ESTALE)?;
    let noticed = dir.notice_others(section)?;
    let write = branch.want_write()?;
    let made = with_name(section, dir, (&entry, name), slot, &write, |whiteouted| {
        let at = slot.path()?;
        copyup::meta::share_inherited(section, dir, slot, &write)?;
        let made = info.cred.scope_for_creation(dir, &entry, mode, idmap, || {
            let creating = Creating::new(at, &name, &write)?;
            match make {
                Make::File => creating.create(mode),
                Make::Dir => creating.mkdir(mode),
                Make::Node(kind, rdev) => creating.mknod(kind, rdev),
                Make::Symlink(text) => creating.symlink(text),
            }
        })?;
        if matches!(make, Make::Dir) && (whiteouted || section.settings().diropq == Diropq::Always)
        {
            info.cred.scope(|| {
                whiteout::make_opaque(&branch, &made, &write)
                    .inspect_err(|_| unmake(slot, name, &write))
            })?;
        }
        Ok((made, whiteouted))
    })
    .inspect_err(|&error| note_full(info, error))?;
    drop(write);
    let (made, whiteouted) = made;
    let slots = Slots::one(Slot::new(branch, made));
    let inode = find::get(section, slots).inspect_err(|_| {
        take_back(dir, slot, name, whiteouted);
        entry.dentry().unhash();
    })?;
    dir.changed_on(section, slot.branch(), noticed);
    Ok(inode)
}

/// Takes back what was made and made visible: there was no memory for its inode.
fn take_back(dir: &Inode, slot: &Slot, name: UserName<'_>, whiteouted: bool) {
    let branch = slot.branch();
    let result = dir.sb().data().cred.scope(|| {
        let write = branch.want_write()?;
        if whiteouted {
            index::hides(dir);
            whiteout::create(branch, slot.dentry(), name, &write)?;
        }
        unmake(slot, name, &write);
        Ok::<(), Error>(())
    });
    if let Err(error) = result {
        warn_limited!(
            "cannot undo the creation of {:?}: {:?}\n",
            kernel::str::BStr::from_bytes(&name),
            error
        );
    }
}

/// Runs `make`, which puts `entry`, which has `name`, into the directory instance `slot`, and
/// removes the whiteout of the name afterwards. `make` is told whether there is one.
///
/// An error in the end undoes what was made.
fn with_name<F, R>(
    section: Section<'_>,
    dir: &Inode,
    (entry, name): (&Entry<'_, Union>, UserName<'_>),
    slot: &Slot,
    write: &WriteAccess<'_>,
    make: F,
) -> Result<R>
where
    F: FnOnce(bool) -> Result<R>,
{
    let info = dir.sb().data();
    let view = View::of(section, dir)?;
    let at = view.stack().position(slot.branch().id).ok_or(ESTALE)?;
    let whiteouted = view.whiteouted(at, name)?;
    // The guard waits for the name to appear; from here on that is our own doing.
    entry.dentry().set_guard(None);
    let result = make(whiteouted).and_then(|made| {
        if whiteouted {
            info.cred.scope(|| {
                durable::in_order(slot.branch(), slot.dentry())
                    .and_then(|()| whiteout::remove(slot.branch(), slot.dentry(), name, write))
                    .inspect_err(|_| unmake(slot, name, write))
            })?;
        }
        Ok(made)
    });
    if result.is_err() {
        // It is not guarded any more.
        entry.dentry().unhash();
    }
    result
}

/// Removes what was just made.
fn unmake(slot: &Slot, name: UserName<'_>, write: &WriteAccess<'_>) {
    let result = || -> Result {
        let removing = Removing::new(slot.path()?, &name, write)?;
        if removing.child().is_dir() {
            // It holds an opaque mark at most.
            let child: ARef<LowerDentry> = removing.child().into();
            drop(removing);
            whiteout::unmake_opaque(slot.branch(), &child, write)?;
            Removing::new(slot.path()?, &name, write)?.rmdir()
        } else {
            removing.unlink_regardless()
        }
    };
    if let Err(error) = result() {
        warn_limited!(
            "cannot undo the creation of {:?}: {:?}\n",
            kernel::str::BStr::from_bytes(&name),
            error
        );
    }
}

/// Makes another name for the object of `old`.
pub(crate) fn link(
    section: Section<'_>,
    old: &Dentry,
    dir: &Inode,
    entry: Entry<'_, Union>,
) -> Result {
    let name = whiteout::check(entry.name())?;
    let info = dir.sb().data();
    if section.settings().shwh {
        whiteout::check(&old.name()?)?;
    }
    let inode = old.object()?;
    let home = old.directory();
    let own = target::above(section, &home, inode.stack(section)?.top())?;
    let new = NewName {
        dir: entry.parent(),
        name,
        victim: None,
        from: (!old.is_nameless()).then_some(&*home),
        // What is there already is linked from there.
        stays: inode.slot_on(section, own.id)?.is_some(),
    };
    let branch = target::for_new_name(section, &new, &own)?;
    promote::promote_to(section, old, &branch)?;
    promote::promote_to(section, entry.parent(), &branch)?;
    promote::promote_shown(section, entry.parent())?;
    let lock = inode.promotion_lock();
    plink::part::check(old)?;
    if inode.stack(section)?.top().branch().id != branch.id {
        // Somebody copied it to another one since.
        return Err(ESTALE.into());
    }
    let slot = dir.slot_on(section, branch.id)?.ok_or(ESTALE)?;
    let noticed = dir.notice_others(section)?;
    let write = branch.want_write()?;
    let top: ARef<LowerDentry> = inode.stack(section)?.top().dentry().clone();
    let made = with_name(section, dir, (&entry, name), slot, &write, |_| {
        info.cred.scope(|| {
            plink::count::count_beside(section, inode, &write)?;
            Creating::new(slot.path()?, &name, &write)?.link(&top)
        })
    })?;
    drop(write);
    if !dirop::same_inode(&made, inode.stack(section)?.top_inode()) {
        // The branch has an object for each name (FUSE): the next walk finds that of this one.
        entry.dentry().unhash();
    }
    if inode.is_plinked() {
        inode.set_nlink(inode.nlink().saturating_add(1));
    } else {
        inode.set_nlink(inode.stack(section)?.top_inode().nlink());
    }
    drop(lock);
    inode.refresh(section)?;
    dir.changed_on(section, &branch, noticed);
    Ok(())
}

/// Makes an unnamed file and opens it.
pub(crate) fn tmpfile(
    section: Section<'_>,
    dir: &Inode,
    entry: Entry<'_, Union>,
    file: &File<Union>,
    mode: u16,
    idmap: IdMap<'_>,
) -> Result<(ARef<Inode>, OpenFile)> {
    let sb = dir.sb();
    let info = sb.data();
    // It is not looked up.
    entry.dentry().set_seen(0);
    let wanted = NewEntry {
        name: None,
        is_dir: false,
    };
    let branch = branch_for(section, &file.dentry().parent(), wanted)?;
    let slot = dir.slot_on(section, branch.id)?.ok_or(ESTALE)?;
    let write = branch.want_write()?;
    copyup::meta::share_inherited(section, dir, slot, &write)?;
    let real = info.cred.scope_for_creation(dir, &entry, mode, idmap, || {
        BackingFile::tmpfile(file, file.flags(), write.to(slot.path()?)?, mode)
    })?;
    drop(write);
    let slot = Slot::new(branch, ARef::from(real.dentry()));
    let inode = find::get(section, Slots::one(slot))?;
    Ok((inode, OpenFile::new(real)))
}
