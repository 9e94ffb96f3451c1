// SPDX-License-Identifier: GPL-2.0

//! Open files.
//!
//! A file opened for writing is promoted at once, or by the cut that comes next
//! (`O_TRUNC`): a shared mapping, made later under `mmap_lock`, could not wait for a
//! copy. One opened for reading reads the instance that was on top; after a promotion
//! it goes on with the copy, opened once at the next use. A branch that became
//! read-only in between makes one that writes go on with a copy on another branch,
//! too.

#![forbid(unsafe_code)]

use crate::compat::errno::ESTALE;
use crate::fs::{
    access::backing::{
        BackingFile,
        OpenFile, //
    },
    objects::{
        cred::Cred,
        file::{
            File,
            O_ACCMODE,
            O_DIRECT,
            O_NOATIME,
            O_TRUNC, //
        },
        writes::Writes, //
    },
    operations::file::Operations, //
};
use crate::logic::branch_spec::Perm;
use crate::union::{
    branches::branch::{
        Slot,
        Stack, //
    },
    copyup::{
        data::Data,
        on_open,
        promote, //
    },
    plink,
    state::daemon,
    types::{
        Inode,
        Section,
        SuperBlock,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Opens the instance `slot` for the user's file.
fn open_slot(file: &File<Union>, slot: &Slot) -> Result<ARef<BackingFile>> {
    let mut flags = file.open_flags();
    if slot.branch().access.perm != Perm::Rw {
        // A branch that is not ours to write keeps its access times, too.
        flags |= O_NOATIME;
    }
    BackingFile::open(file, flags, slot.path()?, &file.inode().sb().data().cred)
}

/// How often the copy may be another one by the time that it is open.
const FOLLOWING: u32 = 16;

/// Opens the instance that the object has now, for a file that was opened before.
#[cold]
fn follow<'a>(
    section: Section<'_>,
    file: &File<Union>,
    data: &'a OpenFile,
) -> Result<&'a BackingFile> {
    for _ in 0..FOLLOWING {
        data.go_on(
            data.newest(),
            open_slot(file, file.inode().stack(section)?.top())?,
        )?;
        if let Some(real) = opened(section, file, data)? {
            return Ok(real);
        }
        // It was copied once more meanwhile, or somebody else went on with an older copy.
    }
    Err(ESTALE.into())
}

/// The backing file that is open of the instance on top.
#[inline]
fn opened<'a>(
    section: Section<'_>,
    file: &File<Union>,
    data: &'a OpenFile,
) -> Result<Option<&'a BackingFile>> {
    Ok(data.of(file.inode().stack(section)?.top_inode().address()))
}

/// The backing file of the instance on top, which may be written, open for that if `file` is.
#[inline]
fn real_written<'a>(
    section: Section<'_>,
    file: &File<Union>,
    data: &'a OpenFile,
) -> Result<&'a BackingFile> {
    let real = Union::real(section, file, data)?;
    if real.writable() || !file.writable() {
        return Ok(real);
    }
    // Opened to be cut, when its branch was not to be written.
    follow(section, file, data)
}

/// Whether the file that is being opened, and must be copied for it, is cut before anything else
/// happens to it. Then the cut (`setattr`) makes the copy, or leaves all as it was; it is what
/// promotes a file that is opened for reading and cut, too.
///
/// Not where open(2) may have to fail because of the copy: direct I/O, which its file system may
/// not have, and one of several names, which may lead to another object by then.
fn is_cut_first(file: &File<Union>, stack: &Stack) -> Result<bool> {
    let flags = file.flags();
    Ok(flags & (O_TRUNC | O_DIRECT) == O_TRUNC && !plink::part::parts(file.inode(), stack.top())?)
}

/// Opens the instance `slot`, which is not to be written, for reading, whatever the user wants: of
/// a file that is cut first. The next use finds the copy on top, and opens that.
fn open_original(file: &File<Union>, slot: &Slot) -> Result<ARef<BackingFile>> {
    let flags = file.open_flags() & !O_ACCMODE | O_NOATIME;
    BackingFile::open(file, flags, slot.path()?, &file.inode().sb().data().cred)
}

impl Operations for Union {
    fn prepares(sb: &SuperBlock) -> bool {
        sb.data().copies_on_open()
    }

    fn to_prepare(section: Section<'_>, file: &File<Union>) -> Result<bool> {
        on_open::is_wanted(section, file)
    }

    fn prepare(section: Section<'_>, file: &File<Union>) -> Result {
        on_open::prepare(section, file)
    }

    fn open(section: Section<'_>, file: &File<Union>, may_copy: bool) -> Result<Option<OpenFile>> {
        let inode = file.inode();
        if file.writable() {
            let stack = inode.stack(section)?;
            if !stack.writable() {
                if is_cut_first(file, stack)? {
                    return open_original(file, stack.top()).map(|real| Some(OpenFile::new(real)));
                }
                if !may_copy {
                    return Ok(None);
                }
            }
            promote::promote(section, file.dentry(), Data::All)?;
            plink::part::check_copied(inode, file.dentry())?;
        }
        open_slot(file, inode.stack(section)?.top()).map(|real| Some(OpenFile::new(real)))
    }

    #[inline]
    fn real<'a>(
        section: Section<'_>,
        file: &File<Union>,
        data: &'a OpenFile,
    ) -> Result<&'a BackingFile> {
        match opened(section, file, data)? {
            Some(real) => Ok(real),
            None => follow(section, file, data),
        }
    }

    #[inline]
    fn real_for_write<'a>(
        section: Section<'_>,
        file: &File<Union>,
        data: &'a OpenFile,
    ) -> Result<&'a BackingFile> {
        Self::make_writable(section, file)?;
        real_written(section, file, data)
    }

    #[inline]
    fn real_at_hand<'a>(
        section: Section<'_>,
        file: &File<Union>,
        data: &'a OpenFile,
    ) -> Option<&'a BackingFile> {
        let stack = file.inode().stack(section).ok()?;
        if !stack.writable() {
            return None;
        }
        let real = data.of(stack.top_inode().address())?;
        (real.writable() || !file.writable()).then_some(real)
    }

    fn real_if_written<'a>(
        section: Section<'_>,
        file: &File<Union>,
        data: &'a OpenFile,
    ) -> Result<Option<&'a BackingFile>> {
        if !file.inode().stack(section)?.writable() {
            return Ok(None);
        }
        real_written(section, file, data).map(Some)
    }

    #[inline]
    fn make_writable(section: Section<'_>, file: &File<Union>) -> Result {
        if file.inode().stack(section)?.writable() {
            return Ok(());
        }
        promote::promote(section, file.dentry(), Data::All)
    }

    #[inline]
    fn writes(inode: &Inode) -> &Writes {
        &inode.data().writes
    }

    fn real_for_sync<'a>(
        section: Section<'_>,
        file: &File<Union>,
        data: &'a OpenFile,
    ) -> Result<Option<&'a BackingFile>> {
        if !file.inode().stack(section)?.top().branch().was_written {
            return Ok(None);
        }
        Self::real(section, file, data).map(Some)
    }

    fn cred(sb: &SuperBlock) -> &Cred {
        &sb.data().cred
    }

    fn counts_writes(sb: &SuperBlock) -> bool {
        sb.data().fhsm.get().is_some()
    }

    fn modified(section: Section<'_>, inode: &Inode) {
        daemon::written(section, inode);
        // An inode that was opened has a stack.
        if let Err(error) = inode.written(section) {
            pr_debug!("cannot refresh inode {}: {:?}\n", inode.ino(), error);
        }
    }

    fn full(inode: &Inode) {
        inode.sb().data().space.forget();
    }
}
