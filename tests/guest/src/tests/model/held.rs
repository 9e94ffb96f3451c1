// SPDX-License-Identifier: GPL-2.0

//! What a program holds while the tree changes: descriptors, mappings, positions in directories.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSlice,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use super::{
    op::{Hold, Lock, Mapped, Op},
    side::{content, done, fallocate, hash, seen, value_of},
};
use crate::harness::{
    dir,
    map::Map,
    sys::{self, FileType, Mode, Res, SeekFrom},
};

/// Bytes of a mapping, of whole pages.
const MAPPED: usize = 5 * 4096;
/// Bytes of one store through a mapping.
const STORE: usize = 64;

/// A held descriptor with what hangs on it.
pub(crate) struct Held {
    /// First, so that it goes first.
    map: Option<HeldMap>,
    fd: OwnedFd,
    how: Hold,
    stream: Stream,
    stored: Option<u64>,
}

struct HeldMap {
    map: Map,
    kind: Mapped,
    /// What the file held when it was mapped.
    made: Vec<u8>,
}

impl Op {
    /// The slot of an operation on what is held.
    pub(super) fn slot(&self) -> Option<usize> {
        match self {
            Op::HeldWrite(slot, ..)
            | Op::HeldWriteWith(slot, ..)
            | Op::HeldRead(slot)
            | Op::HeldStat(slot)
            | Op::HeldNext(slot, _)
            | Op::HeldSeekEnd(slot, _)
            | Op::HeldTruncate(slot, _)
            | Op::HeldFallocate(slot, ..)
            | Op::HeldChmod(slot, _)
            | Op::HeldChown(slot, _)
            | Op::HeldXattr(slot, _)
            | Op::HeldSync(slot)
            | Op::HeldLock(slot, _)
            | Op::HeldList(slot, _)
            | Op::HeldSeek(slot, _)
            | Op::Map(slot, _)
            | Op::MapRead(slot)
            | Op::MapWrite(slot, ..)
            | Op::MapSync(slot) => Some(*slot),
            _ => None,
        }
    }
}

impl Held {
    pub(crate) fn new(fd: OwnedFd, how: Hold, stat: &sys::Stat) -> Self {
        let stream = match how {
            Hold::Dir => Stream::new(&fd),
            _ => Stream::default(),
        };
        Self {
            map: None,
            fd,
            how,
            stream,
            stored: (sys::kind(stat) == FileType::Fifo).then_some(stat.st_ino),
        }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Inode number if the file was changed through a mapping, or is a pipe: the times of one in a
    /// union do not tell of its use.
    pub(crate) fn stored(&self) -> Option<u64> {
        self.stored
    }

    /// Something may happen to this name, in whatever directory.
    pub(crate) fn touch(&mut self, name: &str) {
        if matches!(self.how, Hold::Dir) {
            self.stream.touched.insert(name.to_owned());
        }
    }

    fn writable(&self) -> bool {
        !matches!(self.how, Hold::Reading | Hold::Path | Hold::Dir)
    }

    pub(crate) fn apply(&mut self, op: &Op, union: bool) -> Res<String> {
        let fd = &self.fd;
        match op {
            Op::HeldWrite(_, offset, len, fill) => {
                let n = rustix::io::pwrite(fd, &vec![*fill; *len], *offset);
                let n = sys::on_fd("pwrite", n)?;
                sys::fstat(fd).map(|s| format!("{n}, {}", seen(&s)))
            }
            Op::HeldWriteWith(_, offset, fill, flags) => {
                let data = [*fill; 300];
                let n = rustix::io::pwritev2(fd, &[IoSlice::new(&data)], *offset, *flags);
                let n = sys::on_fd("pwritev2", n)?;
                sys::fstat(fd).map(|s| format!("{n}, {}", seen(&s)))
            }
            Op::HeldRead(_) => content(fd),
            Op::HeldStat(_) => sys::fstat(fd).map(|s| seen(&s)),
            Op::HeldNext(_, fill) => match fill {
                None => {
                    let mut buf = [0; 700];
                    let n = match self.how {
                        // The position in a directory may be too large for anything else.
                        Hold::Dir => rustix::io::pread(fd, &mut buf[..], 0),
                        _ => rustix::io::read(fd, &mut buf),
                    };
                    let n = sys::on_fd("read", n)?;
                    Ok(format!("{n} {:x}", hash(&buf)))
                }
                Some(fill) => {
                    let n = sys::on_fd("write", rustix::io::write(fd, &[*fill; 500]))?;
                    Ok(format!("{n} to {}", sys::seek(fd, SeekFrom::Current(0))?))
                }
            },
            Op::HeldSeekEnd(_, offset) => match sys::kind(&sys::fstat(fd)?) {
                FileType::RegularFile => sys::seek(fd, SeekFrom::End(-(*offset as i64)))
                    .map(|position| position.to_string()),
                _ => Ok("no file".to_owned()),
            },
            Op::HeldTruncate(_, len) => {
                sys::on_fd("ftruncate", rustix::fs::ftruncate(fd, *len)).map(done)
            }
            Op::HeldFallocate(_, mode, offset, len) => fallocate(fd, *mode, *offset, *len),
            Op::HeldChmod(_, mode) => {
                let mode = Mode::from_raw_mode(*mode);
                sys::on_fd("fchmod", rustix::fs::fchmod(fd, mode))?;
                sys::fstat(fd).map(|s| seen(&s))
            }
            Op::HeldChown(_, uid) => {
                let uid = rustix::fs::Uid::from_raw(*uid);
                sys::on_fd("fchown", rustix::fs::fchown(fd, Some(uid), None))?;
                sys::fstat(fd).map(|s| seen(&s))
            }
            Op::HeldXattr(_, fill) => {
                let flags = rustix::fs::XattrFlags::empty();
                let value = value_of("user.a", *fill);
                let result = rustix::fs::fsetxattr(fd, "user.a", &value, flags);
                sys::on_fd("fsetxattr", result).map(done)
            }
            Op::HeldSync(_) => sys::on_fd("fsync", rustix::fs::fsync(fd)).map(done),
            Op::HeldLock(_, lock) => apply_lock(fd, *lock),
            Op::HeldList(_, size) => match self.how {
                Hold::Dir => self.stream.list(fd, *size),
                _ => Ok("no directory".to_owned()),
            },
            Op::HeldSeek(_, n) => match self.how {
                Hold::Dir => self.stream.seek(fd, *n),
                _ => Ok("no directory".to_owned()),
            },
            Op::Map(_, kind) => self.map(*kind),
            Op::MapRead(_) => self.map_read(union),
            Op::MapWrite(_, offset, fill) => self.map_write(*offset, *fill),
            Op::MapSync(_) => match &self.map {
                Some(held) if held.kind == Mapped::Shared => held.map.sync().map(done),
                _ => Ok("no shared mapping".to_owned()),
            },
            op => unreachable!("{op:?} is not for what is held"),
        }
    }

    fn map(&mut self, kind: Mapped) -> Res<String> {
        self.map = None;
        if sys::kind(&sys::fstat(&self.fd)?) != FileType::RegularFile {
            return Ok("no file".to_owned());
        }
        // This is a use of the descriptor, so the mapping is of the file as it is now.
        let made = read_some(&self.fd)?;
        let map = match kind {
            Mapped::Shared => Map::shared(&self.fd, MAPPED),
            Mapped::SharedRo => Map::shared_ro(&self.fd, MAPPED),
            Mapped::Private => Map::private(&self.fd, MAPPED),
        }?;
        let text = hash(&made);
        self.map = Some(HeldMap { map, kind, made });
        Ok(format!("mapped {text:x}"))
    }

    /// What may be touched: beyond the end of the file is a signal.
    fn reach(&self) -> Res<usize> {
        let size = sys::fstat(&self.fd)?.st_size as usize;
        Ok(size.min(MAPPED))
    }

    fn map_read(&self, union: bool) -> Res<String> {
        let Some(held) = &self.map else {
            return Ok("not mapped".to_owned());
        };
        let now = self.reach()?;
        if self.writable() {
            return Ok(format!("{:x}", hash(&held.map.bytes()[..now])));
        }
        // The mapping does not follow a copy-up: it may show the file as it was, which may have
        // been shorter than it is now.
        let len = now.min(held.made.len());
        let bytes = &held.map.bytes()[..len];
        let file = read_some(&self.fd)?;
        let same = *bytes == file[..len.min(file.len())] || (union && *bytes == held.made[..len]);
        Ok(format!("{:x} {same}", hash(&file)))
    }

    fn map_write(&mut self, offset: usize, fill: u8) -> Res<String> {
        let (reach, writable) = (self.reach(), self.writable());
        let Some(held) = &mut self.map else {
            return Ok("not mapped".to_owned());
        };
        if held.kind == Mapped::SharedRo || !writable || offset + STORE > reach? {
            return Ok("cannot be stored to".to_owned());
        }
        held.map.bytes_mut()[offset..offset + STORE].fill(fill);
        if held.kind == Mapped::Shared {
            self.stored = Some(sys::fstat(&self.fd)?.st_ino);
        }
        Ok("stored".to_owned())
    }
}

/// The first bytes of a file.
fn read_some(fd: impl AsFd) -> Res<Vec<u8>> {
    let mut buf = vec![0; MAPPED];
    let n = sys::on_fd("pread", rustix::io::pread(fd, &mut buf[..], 0))?;
    buf.truncate(n);
    Ok(buf)
}

fn apply_lock(fd: &OwnedFd, lock: Lock) -> Res<String> {
    let flock = |how| sys::on_fd("flock", rustix::fs::flock(fd, how)).map(done);
    match lock {
        Lock::FlockShared => flock(FlockOperation::NonBlockingLockShared),
        Lock::FlockExclusive => flock(FlockOperation::NonBlockingLockExclusive),
        Lock::FlockOff => flock(FlockOperation::NonBlockingUnlock),
        Lock::OfdRead => ofd(fd, libc::F_RDLCK),
        Lock::OfdWrite => ofd(fd, libc::F_WRLCK),
        Lock::OfdOff => ofd(fd, libc::F_UNLCK),
    }
}

/// An open file description lock on the first 100 bytes.
fn ofd(fd: &OwnedFd, kind: i32) -> Res<String> {
    // SAFETY: all zeros is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_len = 100;
    // SAFETY: the command reads a `flock`, which lives over the call.
    let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    let result = match ret {
        0 => Ok(()),
        _ => Err(sys::last_errno()),
    };
    sys::on_fd("F_OFD_SETLK", result).map(done)
}

/// A directory that is read by parts while names come and go.
///
/// Whatever was there from the first to the last read, and was not touched, is listed once; what
/// was not there, and was not touched, is not.
#[derive(Default)]
struct Stream {
    /// Names when reading began; nothing if they could not be told.
    began: Option<BTreeSet<String>>,
    /// Names to which something may have happened since.
    touched: BTreeSet<String>,
    /// Names in the order in which they were read, with the position after each.
    read: Vec<(String, u64)>,
}

impl Stream {
    fn new(fd: &OwnedFd) -> Self {
        let mut stream = Self::default();
        stream.begin(fd);
        stream
    }

    fn begin(&mut self, fd: &OwnedFd) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let other = rustix::fs::openat(fd, ".", flags, Mode::empty());
        let all = other.ok().and_then(|fd| dir::rest(&fd, 4096).ok());
        self.began = all.map(|all| all.into_iter().map(|e| e.name).collect());
        self.touched.clear();
        self.read.clear();
    }

    fn list(&mut self, fd: &OwnedFd, size: usize) -> Res<String> {
        let some = dir::getdents(fd, size)?;
        let end = some.is_empty();
        self.read.extend(some.into_iter().map(|e| (e.name, e.next)));
        let mut problems = Vec::new();
        let Some(began) = &self.began else {
            return Ok("listed".to_owned());
        };
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in &self.read {
            *count.entry(name).or_default() += 1;
        }
        for (name, times) in &count {
            if !self.touched.contains(*name) && (*times > 1 || !began.contains(*name)) {
                problems.push(format!("{name:?} came {times} times"));
            }
        }
        if end {
            let left = began.iter().filter(|name| !self.touched.contains(*name));
            let left = left.filter(|name| !count.contains_key(name.as_str()));
            problems.extend(left.map(|name| format!("{name:?} never came")));
        }
        match problems.is_empty() {
            true => Ok("listed".to_owned()),
            false => Ok(format!("{problems:?}")),
        }
    }

    fn seek(&mut self, fd: &OwnedFd, n: usize) -> Res<String> {
        match self.read.get(n % (self.read.len() + 1)) {
            None => {
                sys::seek(fd, SeekFrom::Start(0))?;
                self.begin(fd);
            }
            Some((_, next)) => {
                let keep = n % (self.read.len() + 1) + 1;
                sys::seek(fd, SeekFrom::Start(*next))?;
                self.read.truncate(keep);
            }
        }
        Ok("sought".to_owned())
    }
}

/// Errors that tell nothing of a difference.
pub(crate) fn same_error(union: Errno, plain: Errno, op: &Op) -> bool {
    // POSIX allows both for a directory that is to be replaced; XFS has its own taste.
    let replaced = (union, plain) == (Errno::NOTEMPTY, Errno::EXIST);
    union == plain || (replaced && matches!(op, Op::Rename(..)))
}
