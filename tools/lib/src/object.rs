// SPDX-License-Identifier: GPL-2.0

//! Copying objects with all that belongs to them.

use std::{ffi::OsStr, fs::File, os::fd::AsFd};

use anyhow::{bail, ensure, Context, Result};
use logic::plink::OWN_XATTRS;
use rustix::{
    fs::{self, FileType, SeekFrom},
    io::Errno,
};

use crate::{
    dir::{self, Dir, Meta, Object, Xattrs},
    names::{self, Show},
};

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// Data is copied in steps of this size; between them one can interrupt.
const STEP: u64 = 8 << 20;
const COMPARED: usize = 128 << 10;

/// Told how many bytes were copied; an error ends the copy.
pub type Report<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// A directory beside the names that are to be replaced, in which nobody else can do anything: an
/// object that is made in it stays what it is until it is moved to its name.
#[derive(Debug)]
pub struct Workshop(Dir);

/// A name which `ruaufs check` knows as temporary, in case it is left behind.
pub const WORKSHOP: &str = ".wh..wh.commit.0000";
const PIECE: &str = "x";

impl Workshop {
    /// Makes one in this directory.
    pub fn open(parent: &Dir) -> Result<Self> {
        parent.remove(WORKSHOP.as_ref())?;
        parent.make_private(WORKSHOP.as_ref()).map(Workshop)
    }

    /// Removes it.
    pub fn close(self, parent: &Dir) -> Result<()> {
        self.0.clear()?;
        parent.rmdir(WORKSHOP.as_ref())
    }

    /// Copies an object that is no directory, with contents, owner, mode, extended attributes (ACLs
    /// are some of these) and times. Returns the copy, and what it could not be given.
    pub fn copy(&self, from: &Object, report: Report<'_>) -> Result<(Object, Vec<String>)> {
        let name: &OsStr = PIECE.as_ref();
        let meta = from.meta();
        match meta.kind() {
            FileType::RegularFile => {
                let source = from.open_file(&mut || report(0))?;
                let target = self.0.make_file(name)?;
                copy_data(&source, &target, meta.size, report)?;
            }
            FileType::Symlink => self.0.make_link(name, &from.link_target()?)?,
            kind @ (FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice) => self.0.make_node(name, kind, meta.rdev)?,
            other => bail!("it is {}", dir::kind_word(other)),
        }
        let copy = self.0.expect(name)?;
        let left_out = set_attributes(&copy.fd(), meta, &from.xattrs()?, self.0.free_bytes()?)?;
        Ok((copy, left_out))
    }

    /// Makes a further name of an object.
    pub fn link(&self, object: &Object) -> rustix::io::Result<()> {
        object.link_to(&self.0, PIECE.as_ref())
    }

    /// Takes over a name from another directory of root's.
    pub fn adopt(&self, from: &Dir, name: &OsStr) -> Result<()> {
        from.rename(name, &self.0, PIECE.as_ref())
    }

    /// Moves what was made to its name, over what is there.
    pub fn deliver(&self, to: &Dir, name: &OsStr) -> Result<()> {
        self.0.rename(PIECE.as_ref(), to, name)?;
        // rename(2) does nothing if both are links of one file.
        self.0.unlink(PIECE.as_ref())
    }

    /// Removes what was made.
    pub fn discard(&self) -> Result<()> {
        self.0.remove(PIECE.as_ref())
    }
}

/// Shares blocks where both files are on one file system that can; else copies what is no hole.
fn copy_data(source: &File, target: &File, size: u64, report: Report<'_>) -> Result<()> {
    if fs::ioctl_ficlone(target, source).is_ok() {
        return report(size);
    }
    let mut pos = 0;
    while pos < size {
        let start = match fs::seek(source, SeekFrom::Data(pos)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => size,
            // A file system that knows no holes.
            Err(Errno::INVAL) => pos,
            Err(e) => return Err(e).context("looking for data"),
        };
        report(start - pos)?;
        let end = match start < size {
            true => fs::seek(source, SeekFrom::Hole(start))
                .unwrap_or(size)
                .min(size),
            false => size,
        };
        copy_range(source, target, start, end, report)?;
        pos = end;
    }
    fs::ftruncate(target, size).context("setting the size")
}

fn copy_range(
    source: &File,
    target: &File,
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
            match fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), step) {
                Ok(n) => done = n as u64,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e).context("copying data"),
            }
            in_kernel = done > 0;
        }
        if !in_kernel {
            done = copy_by_hand(source, target, from, step)?;
            ensure!(done > 0, "it became shorter while it was copied");
            from += done;
            to = from;
        }
        report(done)?;
    }
    Ok(())
}

fn copy_by_hand(source: &File, target: &File, at: u64, step: usize) -> Result<u64> {
    let mut buffer = vec![0; step.min(1 << 20)];
    let got = rustix::io::pread(source, &mut buffer[..], at).context("reading")?;
    let mut written = 0;
    while written < got {
        let chunk = &buffer[written..got];
        written += rustix::io::pwrite(target, chunk, at + written as u64).context("writing")?;
    }
    Ok(got as u64)
}

/// Whether two objects are the same in all that a copy copies, but for the time of the last access.
/// Nothing else is taken for a proof that something was copied.
pub fn is_copy(copy: &Object, of: &Object, report: Report<'_>) -> Result<bool> {
    let key = |m: &Meta| (m.mode, m.uid, m.gid, m.mtime, m.size, m.rdev);
    if key(copy.meta()) != key(of.meta()) {
        return Ok(false);
    }
    let (ours, theirs) = (own(copy.xattrs()?), own(of.xattrs()?));
    if ours != theirs || theirs.partial {
        return Ok(false);
    }
    match of.meta().kind() {
        FileType::RegularFile => {
            let first = copy.open_file(&mut || report(0))?;
            let second = of.open_file(&mut || report(0))?;
            same_data(&first, &second, report)
        }
        FileType::Symlink => Ok(copy.link_target()? == of.link_target()?),
        _ => Ok(true),
    }
}

fn same_data(one: &File, other: &File, report: Report<'_>) -> Result<bool> {
    let (mut first, mut second) = (vec![0; COMPARED], vec![0; COMPARED]);
    let mut at = 0;
    loop {
        // Where both have holes there is nothing to be compared.
        let next = |file: &File| match fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => u64::MAX,
            other => other.unwrap_or(at),
        };
        let start = next(one).min(next(other));
        if start == u64::MAX {
            return Ok(true);
        }
        at = start;
        let (a, b) = (fill(one, &mut first, at)?, fill(other, &mut second, at)?);
        if first[..a] != second[..b] {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
        at += a as u64;
        report(0)?;
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match rustix::io::pread(file, &mut buffer[got..], at + got as u64).context("reading")? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// Without the attributes that are reserved for the union.
fn own(mut all: Xattrs) -> Xattrs {
    all.all.retain(|name, _| !name.starts_with(OWN_XATTRS));
    all
}

/// Gives an open object owner, mode, extended attributes and times of another one. Attributes that
/// the other one lacks are removed. Returns what it could not be given, see [`may_be_left_out`].
pub fn set_attributes(
    to: &impl AsFd,
    meta: &Meta,
    wanted: &Xattrs,
    free: u64,
) -> Result<Vec<String>> {
    let (wanted, have) = (own(wanted.clone()), own(dir::xattrs(to)?));
    let mut left_out = Vec::new();
    if wanted.partial {
        left_out.push("all but those that give rights, as they are too many to be listed".into());
    }
    // Changing the owner drops set-user-id bits and capabilities, changing the mode changes an
    // ACL, and all of these change times: hence this order. The mode is widened last: with an owner
    // or an ACL that it does not belong to, it would give what is given neither before nor after.
    tighten(to, meta)?;
    dir::set_owner(to, meta)?;
    let (wanted, have) = (&wanted.all, &have.all);
    for name in have.keys().filter(|name| !wanted.contains_key(*name)) {
        dir::remove_xattr(to, name).with_context(|| {
            format!("removing the extended attribute {}", dir::shown_name(name))
        })?;
    }
    let mut mode = meta.mode;
    let kept = |n: &[u8], v: &[u8]| n != ACCESS_ACL && have.get(n).is_some_and(|old| old == v);
    for (name, value) in wanted.iter().filter(|(n, v)| !kept(n, v)) {
        match dir::set_xattr(to, name, value) {
            Err(e) if may_be_left_out(name, e, value.len() as u64, free) => {
                left_out.push(format!("{} ({} bytes)", dir::shown_name(name), value.len()));
                if name == ACCESS_ACL {
                    // The group's bits are the mask of an ACL: without it they give more.
                    mode &= !0o070;
                }
            }
            other => other.with_context(|| {
                format!("setting the extended attribute {}", dir::shown_name(name))
            })?,
        }
    }
    dir::set_mode(to, meta, mode)?;
    dir::set_times(to, meta)?;
    Ok(left_out)
}

/// Takes from an object's mode what it is not to have in the end.
fn tighten(to: &impl AsFd, meta: &Meta) -> Result<()> {
    let now = dir::meta_of(to)?.mode;
    match now & !meta.mode & 0o7777 {
        0 => Ok(()),
        _ => dir::set_mode(to, meta, now & meta.mode),
    }
}

/// Any user can give an object attributes that another file system cannot hold, which must not keep
/// root from copying it. Others are errors, and so is it if the file system is just full.
fn may_be_left_out(name: &[u8], errno: Errno, size: u64, free: u64) -> bool {
    let users = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
    match errno {
        Errno::TOOBIG | Errno::RANGE | Errno::OPNOTSUPP | Errno::INVAL => users,
        Errno::NOSPC => users && free > size.saturating_add(1 << 20),
        _ => false,
    }
}

/// Makes a whiteout or an opaque mark: a hard link of the branch's base file if there is one.
pub fn make_mark(root: &Dir, dir: &Dir, name: &OsStr) -> Result<()> {
    if dir.has_mark(name)? {
        return Ok(());
    }
    match root.get(names::BASE.as_ref())? {
        Some(base) if base.meta().is_file() && base.link_to(dir, name).is_ok() => return Ok(()),
        // Too many links, for one: a file of its own is as good.
        _ => {}
    }
    let file = dir.make_file(name)?;
    fs::fchmod(&file, fs::Mode::from_raw_mode(0o444))
        .with_context(|| format!("making {}", dir.path_of(name).shown()))
}
