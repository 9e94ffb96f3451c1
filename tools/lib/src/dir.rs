// SPDX-License-Identifier: GPL-2.0

//! Directories by descriptor: a path is walked once, symbolic links are never followed, and errors
//! name call and path.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat, StatxFlags},
    io::Errno,
};

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Whether an error says that there is no such object.
pub fn is_absent(error: &anyhow::Error) -> bool {
    matches!(crate::errno_of(error), Some(Errno::NOENT | Errno::NOTDIR))
}

/// The type in a mode.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether it is a directory.
pub fn is_dir(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory; here symbolic links are followed.
    pub fn open(path: &Path) -> Result<Self> {
        let fd =
            fs::open(path, FLAGS, Mode::empty()).with_context(|| format!("{}", path.display()))?;
        let path = path.to_owned();
        Ok(Dir { fd, path })
    }

    /// Opens a subdirectory.
    pub fn sub(&self, name: &OsStr) -> Result<Self> {
        let flags = FLAGS | OFlags::NOFOLLOW;
        let path = self.path_of(name);
        let fd = fs::openat(&self.fd, name, flags, Mode::empty());
        let fd = fd.with_context(|| format!("opening {}", path.display()))?;
        Ok(Dir { fd, path })
    }

    /// Opens a subdirectory if there is one of this name.
    pub fn sub_if_there(&self, name: &OsStr) -> Result<Option<Self>> {
        match self.sub(name) {
            Err(e) if is_absent(&e) => Ok(None),
            // A symbolic link.
            Err(e) if crate::errno_of(&e) == Some(Errno::LOOP) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A path of an entry for calls that take no descriptor.
    pub fn magic_path(&self, name: &OsStr) -> PathBuf {
        let dir = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Path::new(&dir).join(name)
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let named = || format!("reading {}", self.path.display());
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

    /// Its own attributes.
    pub fn stat(&self) -> Result<Stat> {
        fs::fstat(&self.fd).with_context(|| format!("{}", self.path.display()))
    }

    /// The attributes of an entry, if there is one of this name.
    pub fn stat_of(&self, name: &OsStr) -> Result<Option<Stat>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            // Longer than the file system can: there is none.
            Err(Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("{}", self.path_of(name).display())),
        }
    }

    /// Whether there is an entry of this name.
    pub fn has(&self, name: &OsStr) -> Result<bool> {
        Ok(self.stat_of(name)?.is_some())
    }

    /// Whether there is a mark, a regular file, of this name. Anything else of this name is an
    /// error, as it is for the union.
    pub fn has_mark(&self, name: &OsStr) -> Result<bool> {
        match self.stat_of(name)? {
            None => Ok(false),
            Some(stat) if kind(&stat) == FileType::RegularFile => Ok(true),
            Some(stat) => anyhow::bail!(
                "{}: a mark must be a regular file, this is {}; `ruaufs check` lists such names",
                self.path_of(name).display(),
                kind_word(kind(&stat))
            ),
        }
    }

    /// The number of the mount that it is on.
    pub fn mount_id(&self) -> Result<u64> {
        let got = fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
        Ok(got
            .with_context(|| format!("{}", self.path.display()))?
            .stx_mnt_id)
    }

    /// Makes a subdirectory with mode 0700.
    pub fn make_sub(&self, name: &OsStr) -> Result<Self> {
        fs::mkdirat(&self.fd, name, Mode::RWXU)
            .with_context(|| format!("making {}", self.path_of(name).display()))?;
        self.sub(name)
    }

    /// Removes an entry that is no directory.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        fs::unlinkat(&self.fd, name, AtFlags::empty()).map_err(|e| self.cannot_remove(name, e))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: &OsStr) -> Result<()> {
        fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(|e| self.cannot_remove(name, e))
    }

    fn cannot_remove(&self, name: &OsStr, errno: Errno) -> anyhow::Error {
        let hint = match errno {
            Errno::PERM => " (if it is immutable or append-only: chattr -ia)",
            _ => "",
        };
        let path = self.path_of(name);
        anyhow::Error::from(errno).context(format!("removing {}{hint}", path.display()))
    }

    /// Renames an entry of this directory into another one, over what is there.
    pub fn rename(&self, name: &OsStr, to: &Dir, new: &OsStr) -> Result<()> {
        fs::renameat(&self.fd, name, &to.fd, new).with_context(|| {
            let (old, new) = (self.path_of(name), to.path_of(new));
            format!("renaming {} to {}", old.display(), new.display())
        })
    }

    /// Makes an empty file; it must not be there.
    pub fn make_file(&self, name: &OsStr, mode: u32) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let named = || format!("making {}", self.path_of(name).display());
        let fd = fs::openat(&self.fd, name, flags, Mode::RUSR).with_context(named)?;
        fs::fchmod(&fd, Mode::from_raw_mode(mode)).with_context(named)
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
