// SPDX-License-Identifier: GPL-2.0

//! Open files.
//!
//! A file opened for writing is promoted at once: a shared mapping, made later
//! under `mmap_lock`, could not wait for a copy. One opened for reading reads the
//! instance that was on top; after a promotion it goes on with the copy, opened
//! once at the next use. A branch that became read-only in between makes one that
//! writes go on with a copy on another branch, too.

#![forbid(unsafe_code)]

use super::{
    branch::Slot,
    copyup::{
        self,
        Data, //
    },
    fhsm,
    on_open,
    plink,
    Inode,
    SuperBlock,
    Union, //
};
use crate::fs::{
    backing::BackingFile,
    cred::Cred,
    file::{
        File,
        Operations,
        O_NOATIME,
        O_TRUNC, //
    }, //
};
use crate::logic::branch_spec::Perm;
use kernel::{
    prelude::*,
    sync::SetOnce, //
};

/// An open file: an instance, and the next one if the file was promoted since. What was opened
/// stays open, as others may be using it.
pub(crate) struct OpenFile {
    real: BackingFile,
    next: SetOnce<KBox<OpenFile>>,
}

impl OpenFile {
    /// A file that was opened as `real`.
    pub(crate) fn new(real: BackingFile) -> Self {
        OpenFile {
            real,
            next: SetOnce::new(),
        }
    }

    /// The instance that was opened last.
    fn last(&self) -> &OpenFile {
        let mut this = self;
        while let Some(next) = this.next.as_ref() {
            this = next;
        }
        this
    }
}

/// Opens the instance `slot` for the user's file.
fn open_slot(file: &File<Union>, slot: &Slot) -> Result<BackingFile> {
    let mut flags = file.open_flags();
    if slot.branch().access.perm != Perm::Rw {
        // A branch that is not ours to write keeps its access times, too.
        flags |= O_NOATIME;
    }
    BackingFile::open(file, flags, slot.path(), &file.inode().sb().data().cred)
}

/// How much of a file's data is wanted by who opens it.
pub(crate) fn wanted(file: &File<Union>) -> Data {
    if file.writable() && file.flags() & O_TRUNC != 0 {
        Data::Before(0)
    } else {
        Data::All
    }
}

impl Operations for Union {
    fn prepares(sb: &SuperBlock) -> bool {
        sb.data().copies_on_open()
    }

    fn prepare(file: &File<Union>) -> Result {
        on_open::prepare(file)
    }

    fn open(file: &File<Union>) -> Result<KBox<OpenFile>> {
        let inode = file.inode();
        // A read-only open may cut the file, too, but only after checks that are still to come;
        // then `setattr` promotes it.
        if file.writable() {
            copyup::promote(file.dentry(), wanted(file))?;
            plink::part::check_copied(inode, file.dentry())?;
        }
        let real = open_slot(file, inode.stack()?.top())?;
        Ok(KBox::new(OpenFile::new(real), GFP_KERNEL)?)
    }

    fn real<'a>(file: &File<Union>, data: &'a OpenFile) -> Result<&'a BackingFile> {
        if let Some(real) = Self::opened(file, data)? {
            return Ok(real);
        }
        let opened = OpenFile::new(open_slot(file, file.inode().stack()?.top())?);
        // Somebody else may be first; what loses is closed again.
        data.last().next.populate(KBox::new(opened, GFP_KERNEL)?);
        Self::opened(file, data)?.ok_or(ESTALE)
    }

    fn opened<'a>(file: &File<Union>, data: &'a OpenFile) -> Result<Option<&'a BackingFile>> {
        let stack = file.inode().stack()?;
        let top = stack.top_inode();
        if data.real.is_of(top) {
            return Ok(Some(&data.real));
        }
        let last = &data.last().real;
        Ok(last.is_of(top).then_some(last))
    }

    fn real_for_write<'a>(file: &File<Union>, data: &'a OpenFile) -> Result<&'a BackingFile> {
        if !file.inode().stack()?.writable() {
            copyup::promote(file.dentry(), Data::All)?;
        }
        Self::real(file, data)
    }

    fn last_used(data: &OpenFile) -> &BackingFile {
        &data.last().real
    }

    fn real_for_sync<'a>(
        file: &File<Union>,
        data: &'a OpenFile,
    ) -> Result<Option<&'a BackingFile>> {
        if !file.inode().stack()?.writable() {
            return Ok(None);
        }
        Self::real(file, data).map(Some)
    }

    fn cred(sb: &SuperBlock) -> &Cred {
        &sb.data().cred
    }

    fn modified(inode: &Inode) {
        fhsm::written(inode);
        // An inode that was opened has a stack.
        if let Err(error) = inode.written() {
            pr_debug!("cannot refresh inode {}: {:?}\n", inode.ino(), error);
        }
    }

    fn full(inode: &Inode) {
        inode.sb().data().space.forget();
    }
}
