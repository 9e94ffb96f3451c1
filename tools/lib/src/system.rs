// SPDX-License-Identifier: GPL-2.0

//! Files of the kernel (`/proc`, `/sys`) and of root (`/run`), where no other user can put anything.

#![allow(clippy::disallowed_methods)]

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use rustix::fs::{AtFlags, OFlags, StatxFlags, CWD};

use crate::{dir::Dir, names::Show};

/// Reads a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// Opens a file for orders to the kernel.
pub fn control(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens a file for orders to the kernel of which nothing is read.
pub fn orders(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// The names in a directory.
pub fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<_>> = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    names
}

/// What a symbolic link of `/proc` shows.
pub fn link(path: &Path) -> io::Result<PathBuf> {
    fs::read_link(path)
}

/// The device and the inode number of what a symbolic link of `/proc` leads to. The object itself is
/// not asked for anything.
pub fn linked(path: &Path) -> io::Result<((u32, u32), u64)> {
    let flags = AtFlags::STATX_DONT_SYNC;
    let got = rustix::fs::statx(CWD, path, flags, StatxFlags::INO)?;
    Ok(((got.stx_dev_major, got.stx_dev_minor), got.stx_ino))
}

/// A directory that belongs to this process's user alone; it is made if it is not there.
pub fn own_directory(path: &Path) -> Result<Dir> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).with_context(|| format!("making {} (are you root?)", path.shown()));
        }
        _ => {}
    }
    let dir = Dir::open(path)?;
    ensure!(
        dir.meta().is_private(),
        "{} belongs to somebody else or is open to others: remove it",
        path.shown()
    );
    Ok(dir)
}

/// Opens a file in such a directory; it is made if it is not there.
pub fn own_file(dir: &Dir, name: &OsStr) -> Result<File> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW.bits() as i32;
    options.read(true).write(true).create(true).truncate(false);
    let path = dir.path_of(name);
    options
        .mode(0o600)
        .custom_flags(flags)
        .open(&path)
        .with_context(|| path.shown())
}
