// SPDX-License-Identifier: GPL-2.0

//! One of the two trees that an operation is applied to, and what can be observed there.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, IFlags, RenameFlags};

use super::{
    held::Held,
    layer,
    op::{Hold, Op, When, SLOTS},
};
use crate::harness::{
    dir,
    handle::Handle,
    sys::{self, FileType, OFlags, Res, Stat},
};

/// The flags of chattr(1) that are looked at.
const FLAGS: IFlags = IFlags::IMMUTABLE
    .union(IFlags::APPEND)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME);

/// A tree and the descriptors held in it.
pub(crate) struct Side {
    root: PathBuf,
    held: [Option<Held>; SLOTS],
    /// It is a union: a mapping made through a descriptor for reading may show what the file was.
    union: bool,
    /// Some object cannot be changed or removed.
    flagged: bool,
}

impl Side {
    pub(crate) fn union(root: PathBuf) -> Self {
        Self {
            root,
            held: [const { None }; SLOTS],
            union: true,
            flagged: false,
        }
    }

    pub(crate) fn plain(root: PathBuf) -> Self {
        Self {
            union: false,
            ..Self::union(root)
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        let stat = sys::lstat(self.root.join(path));
        stat.is_ok_and(|s| sys::kind(&s) == FileType::Directory)
    }

    /// Closes everything.
    pub(crate) fn release(&mut self) {
        self.held = [const { None }; SLOTS];
    }

    /// Inode numbers of files whose times are not compared: those that were changed through
    /// mappings, where the kernel decides when they change, and named pipes that may be used.
    pub(crate) fn stored(&self) -> impl Iterator<Item = u64> + '_ {
        self.held.iter().flatten().filter_map(Held::stored)
    }

    /// Applies an operation; the text is what a program could see of its result.
    pub(crate) fn apply(&mut self, op: &Op) -> Res<String> {
        for name in op.names().into_iter().flatten() {
            let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
            for held in self.held.iter_mut().flatten() {
                held.touch(name);
            }
        }
        match op {
            Op::Hold(slot, p, how) => self.hold(*slot, p, *how),
            Op::Release(slot) => {
                self.held[*slot] = None;
                Ok("released".to_owned())
            }
            Op::HeldLink(slot, p) => {
                let to = self.at(p);
                match &self.held[*slot] {
                    Some(held) => sys::link_fd(held.fd(), to).map(done),
                    None => Ok(EMPTY.to_owned()),
                }
            }
            Op::HeldReopen(slot, flags) => self.reopen(*slot, *flags),
            // Of no single tree.
            Op::DropCaches | Op::Again => Ok(String::new()),
            op => match op.slot() {
                Some(slot) => match &mut self.held[slot] {
                    Some(held) => held.apply(op, self.union),
                    None => Ok(EMPTY.to_owned()),
                },
                None => self.on_path(op),
            },
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn hold(&mut self, slot: usize, path: &str, how: Hold) -> Res<String> {
        let flags = match how {
            Hold::Reading => OFlags::RDONLY,
            Hold::Writing => OFlags::RDWR,
            Hold::Appending => OFlags::RDWR | OFlags::APPEND,
            Hold::Path => OFlags::PATH | OFlags::NOFOLLOW,
            Hold::Unnamed => OFlags::TMPFILE | OFlags::RDWR,
            Hold::Nameless => OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL,
            Hold::Dir => OFlags::RDONLY | OFlags::DIRECTORY,
        };
        let fd = open(&self.at(path), flags)?;
        let stat = sys::fstat(&fd)?;
        let text = seen(&stat);
        // What was held here goes first: it may have locks.
        self.held[slot] = None;
        self.held[slot] = Some(Held::new(fd, how, &stat));
        Ok(text)
    }

    fn reopen(&mut self, slot: usize, flags: OFlags) -> Res<String> {
        use std::os::fd::AsRawFd;
        let Some(held) = &self.held[slot] else {
            return Ok(EMPTY.to_owned());
        };
        let path = format!("/proc/self/fd/{}", held.fd().as_raw_fd());
        let fd = sys::open(path, flags | OFlags::NONBLOCK)?;
        sys::fstat(&fd).map(|s| seen(&s))
    }

    fn on_path(&mut self, op: &Op) -> Res<String> {
        let at = |path: &str| self.root.join(path);
        match op {
            Op::Create(p, mode) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
                sys::open_mode(at(p), flags, *mode).map(|_| "created".to_owned())
            }
            Op::Open(p, flags, mode) => open_and_use(&at(p), *flags, *mode),
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
            Op::Read(p) => content(open(&at(p), OFlags::RDONLY)?),
            Op::Stat(p) => {
                let target = sys::readlink(at(p)).unwrap_or_default();
                sys::lstat(at(p)).map(|s| format!("{} {target}", seen(&s)))
            }
            Op::Access(p, how) => {
                sys::access(at(p), sys::Access::from_bits_truncate(*how)).map(done)
            }
            Op::List(p) => list(dir::list(at(p))?),
            Op::Tour(p, stop) => tour(&at(p), *stop),
            Op::Unlink(p) => sys::unlink(at(p)).map(done),
            Op::Mkdir(p, mode) => sys::mkdir_mode(at(p), *mode).map(done),
            Op::Rmdir(p) => sys::rmdir(at(p)).map(done),
            Op::Rename(a, b, flags) if *flags == RenameFlags::empty() => {
                sys::rename(at(a), at(b)).map(done)
            }
            Op::Rename(a, b, flags) => sys::rename_with(at(a), at(b), *flags).map(done),
            Op::Link(a, b) => sys::link(at(a), at(b)).map(done),
            Op::Symlink(target, p) => sys::symlink(target, at(p)).map(done),
            // Nobody drives device 0:0.
            Op::Node(p, kind, mode) => sys::mknod(at(p), *kind, *mode, 0).map(done),
            Op::Chmod(p, mode) => sys::chmod(at(p), *mode).map(done),
            Op::Chown(p, uid, gid) => sys::chown(at(p), *uid, *gid).map(done),
            Op::Utimens(p, when) => utimens(&at(p), *when).map(done),
            Op::SetXattr(p, name, value, how) => {
                let value = value_of(name, *value);
                sys::set_xattr_with(at(p), name, value, *how).map(done)
            }
            Op::GetXattr(p, name) => sys::get_xattr(at(p), name).map(|v| format!("{v:?}")),
            Op::RemoveXattr(p, name) => sys::remove_xattr(at(p), name).map(done),
            Op::SetAcl(p, name, which) => sys::set_xattr(at(p), name, layer::acl(*which)).map(done),
            Op::Fallocate(p, mode, offset, len) => {
                fallocate(&open(&at(p), OFlags::RDWR)?, *mode, *offset, *len)
            }
            Op::CopyRange(a, b, from, to, len) => {
                let source = open(&at(a), OFlags::RDONLY)?;
                let target = open(&at(b), OFlags::WRONLY | OFlags::CREATE)?;
                let (mut from, mut to) = (*from, *to);
                let result = rustix::fs::copy_file_range(
                    &source,
                    Some(&mut from),
                    &target,
                    Some(&mut to),
                    *len,
                );
                sys::on_fd("copy_file_range", result).map(|n| n.to_string())
            }
            Op::Reflink(a, b) => {
                let source = open(&at(a), OFlags::RDONLY)?;
                let target = open(&at(b), OFlags::WRONLY | OFlags::CREATE)?;
                sys::on_fd("FICLONE", rustix::fs::ioctl_ficlone(&target, &source)).map(done)
            }
            Op::SendFile(a, b) => {
                let source = open(&at(a), OFlags::RDONLY)?;
                let target = open(&at(b), OFlags::WRONLY | OFlags::CREATE)?;
                let result = rustix::fs::sendfile(&target, &source, None, 7000);
                sys::on_fd("sendfile", result).map(|n| n.to_string())
            }
            Op::Splice(a, b, len) => {
                let source = open(&at(a), OFlags::RDONLY)?;
                let target = open(&at(b), OFlags::WRONLY | OFlags::CREATE)?;
                splice(&source, &target, *len)
            }
            Op::ByHandle(p) => {
                let kind = sys::kind(&sys::lstat(at(p))?);
                let flags = match kind {
                    FileType::RegularFile | FileType::Directory => OFlags::RDONLY,
                    _ => OFlags::PATH,
                };
                let fd = Handle::of(at(p))?.open(dir::open_dir(&self.root)?, flags)?;
                sys::fstat(&fd).map(|s| seen(&s))
            }
            Op::Flags(p, flags) => {
                let fd = open(&at(p), OFlags::RDONLY | OFlags::NOFOLLOW)?;
                let text = chattr(&fd, *flags)?;
                self.flagged |= flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND);
                Ok(text)
            }
            Op::Sync(p) => {
                let fd = open(&at(p), OFlags::RDONLY)?;
                sys::on_fd("fsync", rustix::fs::fsync(&fd)).map(done)
            }
            op => unreachable!("{op:?} is not for a path"),
        }
    }

    /// Makes everything removable again.
    pub(crate) fn unflag(&mut self) -> Res<()> {
        if !std::mem::take(&mut self.flagged) {
            return Ok(());
        }
        dir::unbind(&self.root)
    }
}

const EMPTY: &str = "an empty slot";

pub(super) fn done((): ()) -> String {
    String::from("done")
}

/// Opening a fifo must not wait.
fn open(path: &Path, flags: OFlags) -> Res<OwnedFd> {
    sys::open(path, flags | OFlags::NONBLOCK)
}

/// Opens in any way, then writes and reads a little.
fn open_and_use(path: &Path, flags: OFlags, mode: u32) -> Res<String> {
    let fd = sys::open_mode(path, flags | OFlags::NONBLOCK, mode)?;
    let stat = sys::fstat(&fd)?;
    // Buffers are not aligned, and what that means is the branch's taste.
    let usable = !flags.intersects(OFlags::PATH | OFlags::DIRECT);
    if !usable || sys::kind(&stat) != FileType::RegularFile {
        return Ok(seen(&stat));
    }
    let mut buf = [0; 10];
    let wrote = sys::on_fd("write", rustix::io::write(&fd, b"0123456789"));
    let read = sys::on_fd("pread", rustix::io::pread(&fd, &mut buf[..], 5));
    let wrote = wrote.map_err(|e| e.errno);
    let read = read.map_err(|e| e.errno);
    Ok(format!(
        "{wrote:?} {read:?} {buf:?} {}",
        seen(&sys::fstat(&fd)?)
    ))
}

/// Moves some bytes through a pipe.
fn splice(source: &OwnedFd, target: &OwnedFd, len: usize) -> Res<String> {
    use rustix::pipe::{pipe, splice, SpliceFlags};
    let (out, into) = sys::on_fd("pipe", pipe())?;
    let flags = SpliceFlags::NONBLOCK;
    let n = sys::on_fd("splice", splice(source, None, &into, None, len, flags))?;
    let mut left = n;
    while left > 0 {
        left -= sys::on_fd("splice", splice(&out, None, target, None, left, flags))?;
    }
    Ok(n.to_string())
}

/// What a program sees of a descriptor's file, and its data.
pub(super) fn content(fd: impl AsFd) -> Res<String> {
    let stat = sys::fstat(&fd)?;
    let data = sys::pread_fd(&fd)?;
    Ok(format!("{}, hash {:x}", seen(&stat), hash(&data)))
}

/// Of data, for texts.
pub(super) fn hash(data: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    hasher.finish()
}

fn list(entries: Vec<dir::DirEntry>) -> Res<String> {
    let mut all: Vec<_> = entries.into_iter().map(|e| (e.name, e.kind)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(format!("{all:?}"))
}

/// telldir(3) and seekdir(3): what followed a position follows it again.
fn tour(path: &Path, stop: usize) -> Res<String> {
    let fd = dir::open_dir(path)?;
    let first = dir::rest(&fd, 128)?;
    let mut text = list(first.clone())?;
    if let Some(entry) = first.get(stop % first.len().max(1)) {
        sys::seek(&fd, sys::SeekFrom::Start(entry.next))?;
        let again = dir::rest(&fd, 400)?;
        let after = first.iter().skip_while(|e| e.next != entry.next).skip(1);
        if !again.iter().map(|e| &e.name).eq(after.map(|e| &e.name)) {
            text += &format!(" but after {:?} comes {again:?}", entry.name);
        }
    }
    sys::seek(&fd, sys::SeekFrom::Start(0))?;
    let again = list(dir::rest(&fd, 4096)?)?;
    match text == again {
        true => Ok(text),
        false => Ok(format!("{text}, rewound: {again}")),
    }
}

fn utimens(path: &Path, when: When) -> Res<()> {
    use rustix::fs::{UTIME_NOW, UTIME_OMIT};
    let (atime, mtime) = match when {
        When::Both(sec) => ((sec, 5), (sec, 987_654_321)),
        When::AccessOnly(sec) => ((sec, 6), (0, UTIME_OMIT)),
        When::Now => ((0, UTIME_NOW), (0, UTIME_NOW)),
    };
    sys::utimens(path, atime, mtime)
}

/// A value that the name allows.
pub(super) fn value_of(name: &str, fill: u8) -> Vec<u8> {
    if name != "security.capability" {
        return vec![fill; 10];
    }
    // Revision 2, not effective; permitted and inheritable: the lowest capabilities.
    let mut value = 0x0200_0000u32.to_le_bytes().to_vec();
    value.extend([fill, 0, 0, 0].repeat(2));
    value.extend([0; 8]);
    value
}

pub(super) fn fallocate(fd: impl AsFd, mode: FallocateFlags, offset: u64, len: u64) -> Res<String> {
    sys::on_fd("fallocate", rustix::fs::fallocate(fd, mode, offset, len)).map(done)
}

/// Sets exactly these of [`FLAGS`] on a file or directory.
fn chattr(fd: &OwnedFd, wanted: IFlags) -> Res<String> {
    use rustix::fs::{ioctl_getflags, ioctl_setflags};
    let kind = sys::kind(&sys::fstat(fd)?);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok("no file".to_owned());
    }
    let before = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(fd))?;
    // Others, which the file system sets itself, must stay.
    let after = IFlags::from_bits_retain((before.bits() & !FLAGS.bits()) | wanted.bits());
    if after != before {
        sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(fd, after))?;
    }
    let after = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(fd))?;
    Ok(format!("{:?} then {:?}", before & FLAGS, after & FLAGS))
}

/// What stat(2) tells that two trees must agree on.
pub(super) fn seen(stat: &Stat) -> String {
    let kind = sys::kind(stat);
    let (size, links) = match kind {
        FileType::Directory => (0, 0),
        _ => (stat.st_size, stat.st_nlink),
    };
    let (mode, owner) = (sys::mode(stat), (stat.st_uid, stat.st_gid));
    format!("{kind:?} {mode:o} {owner:?}, {size} bytes, {links} links")
}
