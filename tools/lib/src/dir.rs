// SPDX-License-Identifier: GPL-2.0

//! Directories and what is in them, by descriptor. This is the only module that opens a name.
//!
//! The tools work as root in trees in which others may rename, link and write at any moment. Hence:
//!
//! - A name is resolved once. What was opened is looked at, and all that follows goes to that very
//!   object through its descriptor. [`Object`]s are opened with `O_PATH`, which opens no device and
//!   waits for no named pipe; only a regular file or a directory is opened further.
//! - No symbolic link is followed and no mount is entered (openat2(2)). Only [`Dir::open`] walks a
//!   path: that of a branch or a union, which root has given.
//! - An object is known by device *and* inode number ([`Id`]).
//! - A tree may be of any depth: a [`Cursor`] keeps a few directories open and finds its way back
//!   by `..`, which must lead to the directory it came from.

#![allow(clippy::disallowed_methods)]

mod cursor;
mod object;

pub use cursor::{descriptors, walk, window, Cursor};
pub use object::{
    remove_xattr, set_mode, set_owner, set_times, set_xattr, shown_name, xattrs, Object, Xattrs,
};

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{bail, ensure, Context, Result};
use rustix::{
    fs::{
        self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags,
        CWD,
    },
    io::Errno,
};

use crate::names::Show;

/// What tells an object from all others: device and inode number. Subvolumes have devices of their
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The device.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
}

/// A point in time: seconds and nanoseconds.
pub type Time = (i64, u32);

/// The attributes of an object, all of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Which object it is.
    pub id: Id,
    /// The number of the mount that it was reached through.
    pub mount: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Which device it is, for device nodes.
    pub rdev: u64,
    /// Time of the last access.
    pub atime: Time,
    /// Time of the last change of the contents.
    pub mtime: Time,
    /// Immutable or append-only.
    pub fixed: bool,
}

impl Meta {
    fn of(fd: impl AsFd) -> rustix::io::Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        fs::statx(fd, "", AtFlags::EMPTY_PATH, mask).map(|got| Meta::from(&got))
    }

    /// The type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Whether only this process's user (root) can have put there what is in this directory.
    pub fn is_private(&self) -> bool {
        self.is_dir() && self.uid == rustix::process::geteuid().as_raw() && self.mode & 0o077 == 0
    }
}

impl From<&Statx> for Meta {
    fn from(got: &Statx) -> Self {
        let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        Meta {
            id: Id {
                dev: fs::makedev(got.stx_dev_major, got.stx_dev_minor),
                ino: got.stx_ino,
            },
            mount: got.stx_mnt_id,
            mode: got.stx_mode.into(),
            uid: got.stx_uid,
            gid: got.stx_gid,
            nlink: got.stx_nlink,
            size: got.stx_size,
            rdev: fs::makedev(got.stx_rdev_major, got.stx_rdev_minor),
            atime: (got.stx_atime.tv_sec, got.stx_atime.tv_nsec),
            mtime: (got.stx_mtime.tv_sec, got.stx_mtime.tv_nsec),
            fixed: got.stx_attributes.intersects(fixed),
        }
    }
}

/// Where an object was found, for messages. Its path is put together when it is asked for.
#[derive(Clone, Debug)]
pub struct Place(Rc<Node>);

#[derive(Debug)]
struct Node {
    parent: Option<Place>,
    name: PathBuf,
}

impl Place {
    fn root(path: &Path) -> Self {
        Place(Rc::new(Node {
            parent: None,
            name: path.to_owned(),
        }))
    }

    fn child(&self, name: &OsStr) -> Self {
        Place(Rc::new(Node {
            parent: Some(self.clone()),
            name: name.into(),
        }))
    }

    /// The names from the root on; the root itself is none of them.
    fn names(&self) -> Vec<&Path> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(parent) = &at.0.parent {
            names.push(at.0.name.as_path());
            at = parent;
        }
        names.reverse();
        names
    }

    /// The path below the directory that was opened by its path.
    pub fn below_root(&self) -> PathBuf {
        let mut path = PathBuf::new();
        self.names().iter().for_each(|name| path.push(name));
        path
    }

    /// The whole path.
    pub fn path(&self) -> PathBuf {
        let mut root = self;
        while let Some(parent) = &root.0.parent {
            root = parent;
        }
        let mut path = root.0.name.clone();
        self.names().iter().for_each(|name| path.push(name));
        path
    }
}

impl Drop for Node {
    /// By a loop: a chain may be longer than the stack is deep.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(Place(node)) = next {
            next = Rc::into_inner(node).and_then(|mut node| node.parent.take());
        }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    meta: Meta,
    place: Place,
}

/// Whether an error says that there is no such object.
pub fn is_absent(error: &anyhow::Error) -> bool {
    matches!(crate::errno_of(error), Some(Errno::NOENT | Errno::NOTDIR))
}

/// Whether an error says that something is mounted there.
pub fn is_mount(error: &anyhow::Error) -> bool {
    crate::errno_of(error) == Some(Errno::XDEV)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const NODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const STAY: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_XDEV);
const BELOW: ResolveFlags = STAY.union(ResolveFlags::BENEATH);

/// The path of an open object for calls that take no descriptor. It leads to that very object; no
/// name may be put behind it.
fn magic(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The attributes that an open object has now.
pub fn meta_of(fd: impl AsFd) -> Result<Meta> {
    Meta::of(fd).context("asking for attributes")
}

/// The number of the mount that a path is on.
pub fn mount_of(path: &Path) -> Result<u64> {
    let got =
        fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).with_context(|| path.shown())?;
    Ok(got.stx_mnt_id)
}

/// Opens where something is mounted, which must be the mount of this number; and a path of it for
/// calls that take no descriptor.
pub fn mount_point(path: &Path, mount: u64) -> Result<(OwnedFd, String)> {
    let flags = NODE | OFlags::DIRECTORY;
    let fd = fs::open(path, flags, Mode::empty()).with_context(|| path.shown())?;
    ensure!(
        Meta::of(&fd).with_context(|| path.shown())?.mount == mount,
        "{}: another one is mounted there now",
        path.shown()
    );
    let magic = magic(&fd);
    Ok((fd, magic))
}

/// Opens the last name of a path that a user gave, whatever it is, without following it.
pub fn object_at(path: &Path) -> Result<Object> {
    let fd = fs::open(path, NODE, Mode::empty()).with_context(|| path.shown())?;
    Object::new(fd, Place::root(path))
}

impl Dir {
    /// Opens a directory by its path. Here symbolic links are followed.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let fd = fs::open(path, flags, Mode::empty()).with_context(|| path.shown())?;
        Dir::new(fd, Place::root(path))
    }

    fn new(fd: OwnedFd, place: Place) -> Result<Self> {
        let meta = Meta::of(&fd).with_context(|| place.path().shown())?;
        Ok(Dir { fd, meta, place })
    }

    /// Its path, for messages.
    pub fn path(&self) -> PathBuf {
        self.place.path()
    }

    /// The path of an entry, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.place.path().join(name)
    }

    /// The path of an entry below the directory that was opened by its path.
    pub fn below_root(&self, name: &OsStr) -> PathBuf {
        self.place.below_root().join(name)
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which directory it is.
    pub fn id(&self) -> Id {
        self.meta.id
    }

    /// The attributes that it had when it was opened.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The attributes that it has now.
    pub fn meta_now(&self) -> Result<Meta> {
        Meta::of(&self.fd).with_context(|| self.path().shown())
    }

    /// The entry of this name, if there is one, whatever it is.
    pub fn get(&self, name: &OsStr) -> Result<Option<Object>> {
        match fs::openat2(&self.fd, name, NODE, Mode::empty(), BELOW) {
            Ok(fd) => Object::new(fd, self.place.child(name)).map(Some),
            // Longer than the file system can: there is none.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(e).with_context(|| {
                let path = self.path_of(name).shown();
                match e {
                    Errno::XDEV => format!("{path}: something is mounted there; unmount it first"),
                    Errno::NOSYS => format!("{path}: this kernel has no openat2(2)"),
                    _ => path,
                }
            }),
        }
    }

    /// The entry of this name, which was there a moment ago.
    pub fn expect(&self, name: &OsStr) -> Result<Object> {
        self.get(name)?.with_context(|| {
            let path = self.path_of(name).shown();
            format!("{path} is gone: somebody else changes the branch")
        })
    }

    /// Opens a subdirectory, if there is one of this name.
    pub fn sub(&self, name: &OsStr) -> Result<Option<Self>> {
        match self.get(name)? {
            Some(object) if object.meta().is_dir() => object.open_dir().map(Some),
            _ => Ok(None),
        }
    }

    /// The directory that it is in, which must be `id`, found at `place`.
    fn parent(&self, id: Id, place: Place) -> Result<Self> {
        let fd = fs::openat2(&self.fd, "..", DIRECTORY, Mode::empty(), STAY)
            .with_context(|| format!("leaving {}", self.path().shown()))?;
        let parent = Dir::new(fd, place)?;
        ensure!(
            parent.id() == id,
            "{} was moved: somebody else changes the branch",
            self.path().shown()
        );
        Ok(parent)
    }

    /// Whether it is this directory or lies somewhere below it; mounts do not count.
    pub fn is_within(&self, id: Id) -> Result<bool> {
        let named = || format!("the directories above {}", self.path().shown());
        let mut at = None;
        loop {
            let fd = at.as_ref().map_or(self.fd(), OwnedFd::as_fd);
            let here = Meta::of(fd).with_context(named)?.id;
            if here == id {
                return Ok(true);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let up = fs::openat(fd, "..", flags, Mode::empty()).with_context(named)?;
            if Meta::of(&up).with_context(named)?.id == here {
                return Ok(false);
            }
            at = Some(up);
        }
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let named = || format!("reading {}", self.path().shown());
        // Not the descriptor itself: its position is shared.
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd).with_context(named)? {
            let entry = entry.with_context(named)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether there is an entry of this name.
    pub fn has(&self, name: &OsStr) -> Result<bool> {
        Ok(self.get(name)?.is_some())
    }

    /// Whether there is a mark, a regular file, of this name. Anything else of this name is an
    /// error, as it is for the union.
    pub fn has_mark(&self, name: &OsStr) -> Result<bool> {
        match self.get(name)? {
            None => Ok(false),
            Some(object) if object.meta().is_file() => Ok(true),
            Some(object) => bail!(
                "{}: a mark must be a regular file, this is {}; `ruaufs check` lists such names",
                object.path().shown(),
                kind_word(object.meta().kind())
            ),
        }
    }

    /// Makes a subdirectory in which nobody else can do anything, and opens it.
    pub fn make_private(&self, name: &OsStr) -> Result<Self> {
        let path = || self.path_of(name).shown();
        fs::mkdirat(&self.fd, name, Mode::RWXU).with_context(|| format!("making {}", path()))?;
        let made = self.expect(name)?;
        ensure!(
            made.meta().is_private(),
            "{} is another one than was made: somebody else changes the branch",
            path()
        );
        let made = made.open_dir()?;
        ensure!(
            made.names()?.is_empty(),
            "{} is not empty: somebody else changes the branch",
            path()
        );
        Ok(made)
    }

    /// Makes an empty file that is open for writing; the name must not be there.
    pub fn make_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = fs::openat(&self.fd, name, flags, mode)
            .with_context(|| format!("making {}", self.path_of(name).shown()))?;
        Ok(fd.into())
    }

    /// Makes a symbolic link; the name must not be there.
    pub fn make_link(&self, name: &OsStr, target: &[u8]) -> Result<()> {
        fs::symlinkat(target, &self.fd, name)
            .with_context(|| format!("making the link {}", self.path_of(name).shown()))
    }

    /// Makes a named pipe, a socket or a device node; the name must not be there.
    pub fn make_node(&self, name: &OsStr, kind: FileType, device: u64) -> Result<()> {
        fs::mknodat(&self.fd, name, kind, Mode::RUSR | Mode::WUSR, device).with_context(|| {
            let path = self.path_of(name);
            format!("making {}, {}", path.shown(), kind_word(kind))
        })
    }

    /// Removes an entry that is no directory; one that is gone is no error.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(|e| self.cannot_remove(name, e)),
        }
    }

    /// Removes an empty directory; one that is gone is no error.
    pub fn rmdir(&self, name: &OsStr) -> Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(|e| self.cannot_remove(name, e)),
        }
    }

    fn cannot_remove(&self, name: &OsStr, errno: Errno) -> anyhow::Error {
        let hint = match errno {
            Errno::PERM => " (if it is immutable or append-only: chattr -ia)",
            Errno::BUSY => " (if something is mounted there: unmount it)",
            Errno::NOTEMPTY => " (somebody else changes the branch)",
            _ => "",
        };
        let path = self.path_of(name);
        anyhow::Error::from(errno).context(format!("removing {}{hint}", path.shown()))
    }

    /// Removes an entry and all that is in it. Mounts below it are an error.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            // File systems differ in what they say of a directory.
            Err(e) => match self.get(name)? {
                Some(object) if object.meta().is_dir() => {}
                _ => return Err(self.cannot_remove(name, e)),
            },
        }
        let Some(dir) = self.sub(name)? else {
            return self.unlink(name);
        };
        dir.clear()?;
        self.rmdir(name)
    }

    /// Removes all that is in it. Mounts below it are an error.
    pub fn clear(self) -> Result<()> {
        walk(
            self,
            &mut |dir, name| match fs::unlinkat(&dir.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(None),
                Err(e) => match dir.get(name)? {
                    Some(object) if object.meta().is_dir() => object.open_dir().map(Some),
                    None => Ok(None),
                    Some(_) => Err(dir.cannot_remove(name, e)),
                },
            },
            &mut |dir, name| dir.rmdir(name),
        )
    }

    /// Renames an entry of this directory into another one, over what is there.
    pub fn rename(&self, name: &OsStr, to: &Dir, new: &OsStr) -> Result<()> {
        fs::renameat(&self.fd, name, &to.fd, new).with_context(|| {
            let (old, new) = (self.path_of(name), to.path_of(new));
            format!("renaming {} to {}", old.shown(), new.shown())
        })
    }

    /// Finds an object again by its names from here on; it must be the same one.
    pub fn find(&self, names: &Path, id: Id) -> Result<Object> {
        let mut dir = None;
        let mut names = names.iter().peekable();
        while let Some(name) = names.next() {
            let object = dir.as_ref().unwrap_or(self).expect(name)?;
            if names.peek().is_some() {
                dir = Some(object.open_dir()?);
                continue;
            }
            ensure!(
                object.id() == id,
                "{} is another one now: somebody else changes the branch",
                object.path().shown()
            );
            return Ok(object);
        }
        bail!("{}: there is no name", self.path().shown())
    }

    /// Writes all of its file system to disk.
    pub fn sync_file_system(&self) -> Result<()> {
        fs::syncfs(&self.fd).with_context(|| format!("writing {} to disk", self.path().shown()))
    }

    /// Whether its file system is mounted read-only.
    pub fn is_read_only(&self) -> Result<bool> {
        let got = fs::fstatvfs(&self.fd).with_context(|| self.path().shown())?;
        Ok(got.f_flag.contains(fs::StatVfsMountFlags::RDONLY))
    }

    /// Bytes that are free on its file system for users.
    pub fn free_bytes(&self) -> Result<u64> {
        let got = fs::fstatvfs(&self.fd).with_context(|| self.path().shown())?;
        Ok(got.f_bavail.saturating_mul(got.f_frsize))
    }
}

/// The type of an object in a word, with its article.
pub fn kind_word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "of an unknown type",
    }
}
