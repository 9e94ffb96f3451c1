// SPDX-License-Identifier: GPL-2.0

//! Open directories: what they list.

use crate::fs::{
    access::{
        dir::Emitter,
        io::{
            KernelFile,
            Whence, //
        }, //
    },
    objects::{
        file::File,
        section::Section, //
    }, //
};
use core::pin::Pin;
use kernel::prelude::*;

/// Callbacks on open directories.
pub(crate) trait Operations: super::file::Operations {
    /// What entries are read from.
    type Listing;

    /// open(2).
    fn open_dir(file: &File<Self>) -> Result<Pin<KBox<Self::Dir>>>;

    /// getdents(2): what the entries from the position `pos` on are read from. The directory is
    /// locked shared.
    fn listing(
        section: Section<'_, Self>,
        file: &File<Self>,
        dir: &Self::Dir,
        pos: i64,
    ) -> Result<Self::Listing>;

    /// getdents(2): emits entries from the emitter's position on. The directory is locked shared.
    /// Runs outside the gate, since it writes to memory of users.
    fn emit(file: &File<Self>, listing: &Self::Listing, out: &mut Emitter<'_>) -> Result;

    /// lseek(2): the new position for one that the VFS found valid, or an error. Runs outside the
    /// gate.
    fn seek_dir(file: &File<Self>, dir: &Self::Dir, offset: i64, whence: Whence) -> Result<i64>;

    /// fsync(2): calls `f` with each foreign directory that is to be brought to disk.
    fn to_sync(
        section: Section<'_, Self>,
        file: &File<Self>,
        f: &mut dyn FnMut(KernelFile) -> Result,
    ) -> Result;
}
