// SPDX-License-Identifier: GPL-2.0

//! Copying objects with all that belongs to them, and removing trees.

use std::{collections::BTreeMap, ffi::OsStr, io::Write, os::fd::AsFd};

use anyhow::{ensure, Context, Result};
use rustix::{
    fs::{
        self, AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
        XattrFlags,
    },
    io::Errno,
};

use crate::{
    dir::{self, Dir},
    names,
};

/// Extended attributes that belong to the file system an object is on.
const RESERVED_XATTRS: &str = "trusted.ruaufs.";

/// Data is copied in steps of this size; between them one can interrupt.
const STEP: u64 = 8 << 20;

/// Told how many bytes were copied; an error ends the copy.
pub type Report<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// Copies an object that is no directory, with contents, owner, mode, extended attributes (ACLs are
/// some of these) and times. The new name must not be there. A failed copy leaves nothing.
pub fn copy(
    from: &Dir,
    name: &OsStr,
    stat: &Stat,
    to: &Dir,
    new: &OsStr,
    report: Report<'_>,
) -> Result<()> {
    let result = (|| {
        make(from, name, stat, to, new, report)?;
        copy_attributes(from, name, stat, to, new)
    })();
    if result.is_err() {
        // What matters is the first error.
        let _ = fs::unlinkat(to.fd(), new, AtFlags::empty());
    }
    result.with_context(|| {
        let (old, new) = (from.path_of(name), to.path());
        format!("copying {} to {}", old.display(), new.display())
    })
}

fn make(
    from: &Dir,
    name: &OsStr,
    stat: &Stat,
    to: &Dir,
    new: &OsStr,
    report: Report<'_>,
) -> Result<()> {
    match dir::kind(stat) {
        FileType::RegularFile => {
            // Reading leaves no trace where that is allowed.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = match fs::openat(from.fd(), name, flags | OFlags::NOATIME, Mode::empty()) {
                Err(Errno::PERM) => fs::openat(from.fd(), name, flags, Mode::empty()),
                other => other,
            };
            let source = source.context("opening it")?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let target = fs::openat(to.fd(), new, flags, Mode::RUSR | Mode::WUSR);
            let target = target.context("making the copy")?;
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            copy_data(&source, &target, size, report)
        }
        FileType::Symlink => {
            let target = fs::readlinkat(from.fd(), name, Vec::new()).context("reading the link")?;
            fs::symlinkat(target, to.fd(), new).context("making the link")
        }
        kind @ (FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice) => {
            fs::mknodat(to.fd(), new, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                .with_context(|| format!("making {}", dir::kind_word(kind)))
        }
        other => anyhow::bail!("it is {}", dir::kind_word(other)),
    }
}

/// Shares blocks where both files are on one file system that can; else copies what is no hole.
fn copy_data(source: impl AsFd, target: impl AsFd, size: u64, report: Report<'_>) -> Result<()> {
    if fs::ioctl_ficlone(&target, &source).is_ok() {
        return report(size);
    }
    let mut pos = 0;
    while pos < size {
        let start = match fs::seek(&source, SeekFrom::Data(pos)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => size,
            // A file system that knows no holes.
            Err(Errno::INVAL) => pos,
            Err(e) => return Err(e).context("looking for data"),
        };
        report(start - pos)?;
        let end = match start < size {
            true => fs::seek(&source, SeekFrom::Hole(start))
                .unwrap_or(size)
                .min(size),
            false => size,
        };
        copy_range(&source, &target, start, end, report)?;
        pos = end;
    }
    fs::ftruncate(&target, size).context("setting the size")
}

fn copy_range(
    source: impl AsFd,
    target: impl AsFd,
    start: u64,
    end: u64,
    report: Report<'_>,
) -> Result<()> {
    let (mut from, mut to) = (start, start);
    let mut in_kernel = true;
    while from < end {
        let step = usize::try_from((end - from).min(STEP)).unwrap_or(usize::MAX);
        let mut done = 0;
        if in_kernel {
            match fs::copy_file_range(&source, Some(&mut from), &target, Some(&mut to), step) {
                Ok(n) => done = n as u64,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e).context("copying data"),
            }
            in_kernel = done > 0;
        }
        if !in_kernel {
            done = copy_by_hand(&source, &target, from, step)?;
            ensure!(done > 0, "it became shorter while it was copied");
            from += done;
            to = from;
        }
        report(done)?;
    }
    Ok(())
}

fn copy_by_hand(source: impl AsFd, target: impl AsFd, at: u64, step: usize) -> Result<u64> {
    let mut buffer = vec![0; step.min(1 << 20)];
    let got = rustix::io::pread(&source, &mut buffer[..], at).context("reading")?;
    let mut written = 0;
    while written < got {
        let chunk = &buffer[written..got];
        written += rustix::io::pwrite(&target, chunk, at + written as u64).context("writing")?;
    }
    Ok(got as u64)
}

/// Gives an object owner, mode, extended attributes and times of another one, both of which may be
/// directories. Attributes that the other one lacks are removed.
pub fn copy_attributes(from: &Dir, name: &OsStr, stat: &Stat, to: &Dir, new: &OsStr) -> Result<()> {
    let owner = (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    );
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    // Changing the owner drops set-user-id bits and capabilities, changing the mode changes an
    // ACL, and all of these change times: hence this order.
    fs::chownat(to.fd(), new, owner.0, owner.1, nofollow).context("changing the owner")?;
    let is_link = dir::kind(stat) == FileType::Symlink;
    if !is_link {
        let mode = Mode::from_raw_mode(stat.st_mode);
        fs::chmodat(to.fd(), new, mode, AtFlags::empty()).context("changing the mode")?;
    }
    let wanted = xattrs(from, name)?;
    let have = xattrs(to, new)?;
    let path = to.magic_path(new);
    for attribute in have.keys().filter(|a| !wanted.contains_key(*a)) {
        fs::lremovexattr(&path, attribute.as_str())
            .with_context(|| format!("removing the extended attribute {attribute}"))?;
    }
    for (attribute, value) in wanted.iter().filter(|(a, v)| have.get(*a) != Some(*v)) {
        fs::lsetxattr(&path, attribute.as_str(), value, XattrFlags::empty())
            .with_context(|| format!("setting the extended attribute {attribute}"))?;
    }
    fs::utimensat(to.fd(), new, &times(stat), nofollow).context("setting the times")
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// [`copy_attributes`] of one branch's root to another's.
pub fn copy_root_attributes(from: &Dir, stat: &Stat, to: &Dir) -> Result<()> {
    let dot: &OsStr = ".".as_ref();
    copy_attributes(from, dot, stat, to, dot)
        .with_context(|| format!("changing attributes of {}", to.path().display()))
}

/// Sets the times of a directory.
pub fn set_times(dir: &Dir, stat: &Stat) -> Result<()> {
    fs::futimens(dir.fd(), &times(stat))
        .with_context(|| format!("setting the times of {}", dir.path().display()))
}

/// The extended attributes of an object, without those that are reserved for the union.
pub fn xattrs(dir: &Dir, name: &OsStr) -> Result<BTreeMap<String, Vec<u8>>> {
    let path = dir.magic_path(name);
    let list = sized(|buffer| match buffer {
        None => fs::llistxattr_query(&path),
        Some(buffer) => fs::llistxattr(&path, buffer),
    });
    let list = match list {
        // The file system has none.
        Err(Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        other => other.context("listing extended attributes")?,
    };
    let mut all = BTreeMap::new();
    for attribute in list.split(|b| *b == 0).filter(|a| !a.is_empty()) {
        let attribute = String::from_utf8_lossy(attribute).into_owned();
        if attribute.starts_with(RESERVED_XATTRS) {
            continue;
        }
        let value = sized(|buffer| match buffer {
            None => fs::lgetxattr_query(&path, attribute.as_str()),
            Some(buffer) => fs::lgetxattr(&path, attribute.as_str(), buffer),
        });
        let value = value.with_context(|| format!("reading the extended attribute {attribute}"))?;
        all.insert(attribute, value);
    }
    Ok(all)
}

/// Asks for the size first, then for the contents, until they fit.
fn sized(
    mut call: impl FnMut(Option<&mut [u8]>) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    loop {
        let mut buffer = vec![0; call(None)?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match call(Some(&mut buffer)) {
            Err(Errno::RANGE) => continue,
            got => {
                buffer.truncate(got?);
                return Ok(buffer);
            }
        }
    }
}

/// Removes an entry and all that is in it. Mounts below it are an error.
pub fn remove(dir: &Dir, name: &OsStr) -> Result<()> {
    remove_on(dir, name, dir.mount_id()?)
}

fn remove_on(dir: &Dir, name: &OsStr, mount: u64) -> Result<()> {
    let Some(stat) = dir.stat_of(name)? else {
        return Ok(());
    };
    if !dir::is_dir(&stat) {
        return dir.unlink(name);
    }
    let sub = dir.sub(name)?;
    ensure!(
        sub.mount_id()? == mount,
        "{}: something is mounted there; unmount it first",
        sub.path().display()
    );
    for entry in sub.names()? {
        remove_on(&sub, &entry, mount)?;
    }
    dir.rmdir(name)
}

/// Makes a whiteout or an opaque mark: a hard link of the branch's base file if there is one.
pub fn make_mark(root: &Dir, dir: &Dir, name: &OsStr) -> Result<()> {
    if dir.has_mark(name)? {
        return Ok(());
    }
    let base: &OsStr = names::BASE.as_ref();
    if root.has_mark(base)? {
        let flags = AtFlags::empty();
        if fs::linkat(root.fd(), base, dir.fd(), name, flags).is_ok() {
            return Ok(());
        }
        // Too many links, for one: a file of its own is as good.
    }
    dir.make_file(name, 0o444)
}

/// Writes a small file in one go.
pub fn write_file(dir: &Dir, name: &OsStr, data: &[u8]) -> Result<std::fs::File> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let named = || format!("writing {}", dir.path_of(name).display());
    let fd = fs::openat(dir.fd(), name, flags, Mode::RUSR | Mode::WUSR).with_context(named)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(data).with_context(named)?;
    Ok(file)
}
