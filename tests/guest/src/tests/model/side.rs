// SPDX-License-Identifier: GPL-2.0

//! One of the two trees that an operation is applied to, and what can be observed there.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

use super::scenario::{Hold, Op, SLOTS};
use crate::harness::{
    dir,
    snapshot::hash,
    sys::{self, FileType, Mode, OFlags, RenameFlags, Res, Stat},
};

/// A tree and the descriptors held in it.
pub(crate) struct Side {
    root: PathBuf,
    held: [Option<OwnedFd>; SLOTS],
}

impl Side {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            held: [const { None }; SLOTS],
        }
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        let stat = sys::lstat(self.root.join(path));
        stat.is_ok_and(|s| sys::kind(&s) == FileType::Directory)
    }

    /// Applies an operation; the text is what a program could see of its result.
    pub(crate) fn apply(&mut self, op: &Op) -> Res<String> {
        let at = |path: &str| self.root.join(path);
        let done = |()| String::from("done");
        match op {
            Op::Create(p, mode) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
                sys::open_mode(at(p), flags, *mode).map(|_| "created".to_owned())
            }
            Op::Write(p, offset, len, fill) => {
                let fd = open(&at(p), OFlags::CREATE | OFlags::WRONLY)?;
                sys::pwrite_fd(&fd, &vec![*fill; *len], *offset).map(done)
            }
            Op::Append(p, fill) => {
                let fd = open(&at(p), OFlags::APPEND | OFlags::WRONLY)?;
                sys::write_fd(&fd, &[*fill; 100]).map(done)
            }
            Op::Replace(p, fill) => {
                let fd = open(&at(p), OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY)?;
                sys::write_fd(&fd, &[*fill; 100]).map(done)
            }
            Op::Truncate(p, len) => sys::truncate(at(p), *len).map(done),
            Op::Read(p) => {
                let fd = open(&at(p), OFlags::RDONLY)?;
                content(&fd)
            }
            Op::Stat(p) => sys::lstat(at(p)).map(|s| seen(&s)),
            Op::List(p) => list(&at(p)),
            Op::Unlink(p) => sys::unlink(at(p)).map(done),
            Op::Mkdir(p, mode) => sys::mkdir_mode(at(p), *mode).map(done),
            Op::Rmdir(p) => sys::rmdir(at(p)).map(done),
            Op::Rename(a, b) => sys::rename(at(a), at(b)).map(done),
            Op::RenameNoReplace(a, b) => {
                sys::rename_with(at(a), at(b), RenameFlags::NOREPLACE).map(done)
            }
            Op::Exchange(a, b) => sys::rename_with(at(a), at(b), RenameFlags::EXCHANGE).map(done),
            Op::Link(a, b) => sys::link(at(a), at(b)).map(done),
            Op::Symlink(target, p) => sys::symlink(target, at(p)).map(done),
            Op::Fifo(p) => sys::mknod(at(p), FileType::Fifo, 0o640, 0).map(done),
            Op::Chmod(p, mode) => sys::chmod(at(p), *mode).map(done),
            Op::Chown(p, uid) => sys::chown(at(p), Some(*uid), Some(uid + 10)).map(done),
            Op::Utimens(p, sec) => sys::utimens(at(p), (*sec, 5), (*sec, 987_654_321)).map(done),
            Op::SetXattr(p, name, value) => sys::set_xattr(at(p), name, [*value; 10]).map(done),
            Op::RemoveXattr(p, name) => sys::remove_xattr(at(p), name).map(done),
            Op::PunchHole(p, offset) => {
                let fd = open(&at(p), OFlags::RDWR)?;
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let result = rustix::fs::fallocate(&fd, flags, *offset, 4096);
                sys::on_fd("fallocate", result).map(done)
            }
            Op::Hold(slot, p, how) => {
                let flags = match how {
                    Hold::Reading => OFlags::RDONLY,
                    Hold::Writing => OFlags::RDWR,
                    Hold::Unnamed => OFlags::TMPFILE | OFlags::RDWR,
                };
                let fd = open(&at(p), flags)?;
                let text = seen(&sys::fstat(&fd)?);
                self.held[*slot] = Some(fd);
                Ok(text)
            }
            Op::HeldWrite(slot, offset, len, fill) => self.with_held(*slot, |fd| {
                sys::pwrite_fd(fd, &vec![*fill; *len], *offset)?;
                Ok(seen(&sys::fstat(fd)?))
            }),
            Op::HeldRead(slot) => self.with_held(*slot, content),
            Op::HeldTruncate(slot, len) => self.with_held(*slot, |fd| {
                sys::on_fd("ftruncate", rustix::fs::ftruncate(fd, *len)).map(done)
            }),
            Op::HeldChmod(slot, mode) => self.with_held(*slot, |fd| {
                let mode = Mode::from_raw_mode(*mode);
                sys::on_fd("fchmod", rustix::fs::fchmod(fd, mode))?;
                Ok(seen(&sys::fstat(fd)?))
            }),
            Op::HeldLink(slot, p) => {
                let to = at(p);
                self.with_held(*slot, |fd| sys::link_fd(fd, to).map(done))
            }
            Op::Release(slot) => {
                self.held[*slot] = None;
                Ok("released".to_owned())
            }
            Op::DropCaches => {
                sys::drop_caches();
                Ok("dropped".to_owned())
            }
        }
    }

    fn with_held(&self, slot: usize, f: impl FnOnce(&OwnedFd) -> Res<String>) -> Res<String> {
        match &self.held[slot] {
            Some(fd) => f(fd),
            None => Ok("an empty slot".to_owned()),
        }
    }
}

/// Opening a fifo must not wait.
fn open(path: &Path, flags: OFlags) -> Res<OwnedFd> {
    sys::open(path, flags | OFlags::NONBLOCK)
}

fn content(fd: &OwnedFd) -> Res<String> {
    let stat = sys::fstat(fd)?;
    match sys::kind(&stat) {
        FileType::RegularFile => Ok(format!("{}, hash {:x}", seen(&stat), hash(fd)?)),
        _ => sys::pread_fd(fd).map(|data| format!("{}, {data:?}", seen(&stat))),
    }
}

fn list(path: &Path) -> Res<String> {
    let mut all: Vec<_> = dir::list(path)?
        .into_iter()
        .map(|e| (e.name, e.kind))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(format!("{all:?}"))
}

fn seen(stat: &Stat) -> String {
    let kind = sys::kind(stat);
    let (size, links) = match kind {
        FileType::Directory => (0, 0),
        _ => (stat.st_size, stat.st_nlink),
    };
    let (mode, owner) = (sys::mode(stat), (stat.st_uid, stat.st_gid));
    format!("{kind:?} {mode:o} {owner:?}, {size} bytes, {links} links")
}
