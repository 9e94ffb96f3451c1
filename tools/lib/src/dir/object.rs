// SPDX-License-Identifier: GPL-2.0

//! One object, opened with `O_PATH`: its attributes, and what may be done with it.

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use rustix::{
    fs::{
        self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, CWD,
        UTIME_OMIT,
    },
    io::Errno,
};

use super::{kind_word, magic, Dir, Id, Meta, Place, BELOW, DIRECTORY};
use crate::names::Show;

/// Extended attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xattrs {
    /// Names, which may be any bytes, and values.
    pub all: BTreeMap<Vec<u8>, Vec<u8>>,
    /// There are more, whose names are too long for a list: any user can have so many.
    pub partial: bool,
}

/// Those that are looked for by name where they cannot be listed: what gives rights.
const RIGHTS: &[u8] = b"security.capability\0security.selinux\0security.SMACK64\0\
    security.apparmor\0security.ima\0security.evm\0\
    system.posix_acl_access\0system.posix_acl_default";

/// How long the holder of a lease has to give it back; the kernel's default is 45 seconds.
const LEASE: Duration = Duration::from_secs(60);

/// An object by descriptor.
#[derive(Debug)]
pub struct Object {
    fd: OwnedFd,
    meta: Meta,
    place: Place,
}

impl Object {
    pub(super) fn new(fd: OwnedFd, place: Place) -> Result<Self> {
        let meta = Meta::of(&fd).with_context(|| place.path().shown())?;
        Ok(Object { fd, meta, place })
    }

    /// Its attributes when it was opened.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Which object it is.
    pub fn id(&self) -> Id {
        self.meta.id
    }

    /// Where it was found, for messages.
    pub fn path(&self) -> PathBuf {
        self.place.path()
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens it as a directory.
    pub fn open_dir(self) -> Result<Dir> {
        let fd = fs::openat2(&self.fd, ".", DIRECTORY, Mode::empty(), BELOW)
            .with_context(|| format!("opening {}", self.path().shown()))?;
        Dir::new(fd, self.place)
    }

    /// Opens it for reading; it must be a regular file. An error of `waiting` ends the waiting for
    /// somebody's lease.
    pub fn open_file(&self, waiting: &mut dyn FnMut() -> Result<()>) -> Result<File> {
        ensure!(
            self.meta.is_file(),
            "{} is {}",
            self.path().shown(),
            kind_word(self.meta.kind())
        );
        // Somebody's lease makes an opening wait. It is broken by the first attempt.
        let start = Instant::now();
        loop {
            match self.try_open() {
                Err(Errno::AGAIN) if start.elapsed() < LEASE => {
                    waiting()?;
                    thread::sleep(Duration::from_millis(50));
                }
                other => {
                    let fd = other.with_context(|| format!("opening {}", self.path().shown()))?;
                    return Ok(fd.into());
                }
            }
        }
    }

    fn try_open(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = magic(&self.fd);
        // Reading leaves no trace where that is allowed.
        match fs::open(&path, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => fs::open(&path, flags, Mode::empty()),
            other => other,
        }
    }

    /// What the symbolic link contains.
    pub fn link_target(&self) -> Result<Vec<u8>> {
        let target = fs::readlinkat(&self.fd, "", Vec::new())
            .with_context(|| format!("reading the link {}", self.path().shown()))?;
        Ok(target.into_bytes())
    }

    /// Gives this very object one more name.
    pub fn link_to(&self, dir: &Dir, name: &OsStr) -> rustix::io::Result<()> {
        match fs::linkat(&self.fd, "", dir.fd(), name, AtFlags::EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH.
            Err(Errno::NOENT) => fs::linkat(
                CWD,
                magic(&self.fd),
                dir.fd(),
                name,
                AtFlags::SYMLINK_FOLLOW,
            ),
            other => other,
        }
    }

    /// Its extended attributes.
    pub fn xattrs(&self) -> Result<Xattrs> {
        xattrs(&self.fd).with_context(|| self.path().shown())
    }

    /// Whether it has this extended attribute.
    pub fn has_xattr(&self, name: &CStr) -> Result<bool> {
        match fs::getxattr_query(magic(&self.fd), name) {
            Ok(_) => Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("{}: {name:?}", self.path().shown())),
        }
    }

    /// Sets the time of its last access to what it was when it was opened: a change for the kernel,
    /// for nobody else.
    pub fn touch_unchanged(&self) -> rustix::io::Result<()> {
        let mut times = times(self.meta.atime, self.meta.mtime);
        times.last_modification.tv_nsec = UTIME_OMIT as _;
        fs::utimensat(&self.fd, "", &times, AtFlags::EMPTY_PATH)
    }
}

/// The extended attributes of an open object.
pub fn xattrs(fd: impl AsFd) -> Result<Xattrs> {
    let path = magic(fd);
    let list = sized(|buffer| match buffer {
        None => fs::listxattr_query(&path),
        Some(buffer) => fs::listxattr(&path, buffer),
    });
    let (list, partial) = match list {
        // The file system has none.
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::default()),
        Err(Errno::TOOBIG) => (RIGHTS.to_vec(), true),
        other => (other.context("listing extended attributes")?, false),
    };
    let mut all = BTreeMap::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let value = sized(|buffer| match buffer {
            None => fs::getxattr_query(&path, name),
            Some(buffer) => fs::getxattr(&path, name, buffer),
        });
        match value {
            Ok(value) => drop(all.insert(name.to_vec(), value)),
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(Errno::OPNOTSUPP) if partial => {}
            Err(e) => {
                return Err(e).with_context(|| {
                    format!("reading the extended attribute {}", shown_name(name))
                })
            }
        }
    }
    Ok(Xattrs { all, partial })
}

/// The name of an extended attribute for people.
pub fn shown_name(name: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(name).shown()
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

fn times((atime, atime_nsec): super::Time, (mtime, mtime_nsec): super::Time) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: atime,
            tv_nsec: atime_nsec.into(),
        },
        last_modification: Timespec {
            tv_sec: mtime,
            tv_nsec: mtime_nsec.into(),
        },
    }
}

/// Sets the times of an open object.
pub fn set_times(fd: impl AsFd, meta: &Meta) -> Result<()> {
    let times = times(meta.atime, meta.mtime);
    fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH).context("setting the times")
}

/// Sets the owner of an open object; this drops set-user-id bits and capabilities.
pub fn set_owner(fd: impl AsFd, meta: &Meta) -> Result<()> {
    let owner = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    fs::chownat(fd, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH)
        .context("changing the owner")
}

/// Sets the mode of an open object; a symbolic link has none.
pub fn set_mode(fd: impl AsFd, meta: &Meta, mode: u32) -> Result<()> {
    if meta.kind() == FileType::Symlink {
        return Ok(());
    }
    fs::chmod(magic(fd), Mode::from_raw_mode(mode & 0o7777)).context("changing the mode")
}

/// Sets an extended attribute of an open object.
pub fn set_xattr(fd: impl AsFd, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    fs::setxattr(magic(fd), name, value, XattrFlags::empty())
}

/// Removes an extended attribute of an open object.
pub fn remove_xattr(fd: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match fs::removexattr(magic(fd), name) {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}
