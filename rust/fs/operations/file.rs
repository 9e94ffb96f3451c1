// SPDX-License-Identifier: GPL-2.0

//! Regular files: which backing file carries the I/O.

use crate::fs::{
    access::backing::{
        BackingFile,
        OpenFile, //
    },
    objects::{
        cred::Cred,
        file::File,
        inode::Inode,
        sb::SuperBlock,
        section::Section,
        writes::Writes, //
    },
    types::FileSystem, //
};
use kernel::prelude::*;

/// Callbacks on open files that are no directories.
pub(crate) trait Operations: FileSystem {
    /// Whether objects of the super block want [`Operations::prepare`] before they are opened.
    fn prepares(sb: &SuperBlock<Self>) -> bool;

    /// Whether there is something to prepare for `file`, as far as can be told without its lock.
    fn to_prepare(section: Section<'_, Self>, file: &File<Self>) -> Result<bool>;

    /// A regular file or a directory is about to be opened. Its `i_rwsem` is held.
    fn prepare(section: Section<'_, Self>, file: &File<Self>) -> Result;

    /// open(2) of a regular file. `None` if instances must change, and `may_copy` does not say that
    /// `i_rwsem` is held.
    fn open(
        section: Section<'_, Self>,
        file: &File<Self>,
        may_copy: bool,
    ) -> Result<Option<OpenFile>>;

    /// The backing file that carries reading now: of the foreign inode on top.
    fn real<'a>(
        section: Section<'_, Self>,
        file: &File<Self>,
        data: &'a OpenFile,
    ) -> Result<&'a BackingFile>;

    /// The backing file that carries changes of the data now: an instance that may be written, if
    /// need be made for it. `i_rwsem` is held.
    fn real_for_write<'a>(
        section: Section<'_, Self>,
        file: &File<Self>,
        data: &'a OpenFile,
    ) -> Result<&'a BackingFile>;

    /// The same, if nothing has to be copied or opened for it.
    fn real_at_hand<'a>(
        section: Section<'_, Self>,
        file: &File<Self>,
        data: &'a OpenFile,
    ) -> Option<&'a BackingFile>;

    /// As [`Operations::real`], if that instance may be written now.
    fn real_if_written<'a>(
        section: Section<'_, Self>,
        file: &File<Self>,
        data: &'a OpenFile,
    ) -> Result<Option<&'a BackingFile>>;

    /// Makes sure that the data of `file` may be changed. `i_rwsem` is held.
    fn make_writable(section: Section<'_, Self>, file: &File<Self>) -> Result;

    /// The writes to an inode that are under way.
    fn writes(inode: &Inode<Self>) -> &Writes;

    /// The backing file that fsync(2) is to bring to disk, if any.
    fn real_for_sync<'a>(
        section: Section<'_, Self>,
        file: &File<Self>,
        data: &'a OpenFile,
    ) -> Result<Option<&'a BackingFile>>;

    /// The credentials that all I/O on branches uses.
    fn cred(sb: &SuperBlock<Self>) -> &Cred;

    /// Whether [`Operations::modified`] is for each write, not only for those that change
    /// attributes.
    fn counts_writes(sb: &SuperBlock<Self>) -> bool;

    /// The data of the inode was changed through a backing file: refreshes its attributes.
    fn modified(section: Section<'_, Self>, inode: &Inode<Self>);

    /// A write to the inode found its file system full.
    fn full(inode: &Inode<Self>);
}
