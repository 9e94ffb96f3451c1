// SPDX-License-Identifier: GPL-2.0

//! A small declarative description of a directory tree, and its materialisation.
//!
//! ```ignore
//! Tree::new().file("d/f", "text").mode(0o640).xattr("user.k", "v").whiteout("d/x").opaque("e")
//! ```
//!
//! Missing parents are made. Attribute methods (`mode`, `owner`, `mtime`, `xattr`) change the entry
//! that was added last; before any entry they change the root itself. Times are set at the end, so
//! every object carries a time in the past with nanoseconds ([`MTIME`]) unless told otherwise: a
//! test sees at once whether an operation changed or failed to keep it.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::SeekFrom;

use super::sys::{self, FileType, OFlags, Time};

/// Modification (and access) time of everything a tree makes.
pub(crate) const MTIME: Time = (1_500_000_000, 123_456_789);

#[derive(Clone, Debug)]
enum What {
    Dir,
    File(Vec<u8>),
    /// Length, then pieces of data at offsets; the rest are holes.
    Sparse(u64, Vec<(u64, Vec<u8>)>),
    Symlink(String),
    Node(FileType, u64),
    /// Another name of an earlier entry.
    Hardlink(String),
}

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    what: What,
    mode: Option<u32>,
    owner: (u32, u32),
    mtime: Time,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Description of a directory tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// In order of creation; the first one is the root.
    entries: Vec<Entry>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
        .add("", What::Dir)
    }

    fn add(mut self, path: &str, what: What) -> Self {
        if let Some((parent, _)) = path.rsplit_once('/') {
            if !self.entries.iter().any(|e| e.path == parent) {
                self = self.dir(parent);
            }
        }
        self.entries.push(Entry {
            path: path.to_owned(),
            what,
            mode: None,
            owner: (0, 0),
            mtime: MTIME,
            xattrs: Vec::new(),
        });
        self
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.add(path, What::Dir)
    }

    pub(crate) fn file(self, path: &str, data: impl AsRef<[u8]>) -> Self {
        self.add(path, What::File(data.as_ref().to_vec()))
    }

    /// Many empty files `PREFIX0`, `PREFIX1`, ...
    pub(crate) fn files(self, prefix: &str, count: usize) -> Self {
        (0..count).fold(self, |tree, i| tree.file(&format!("{prefix}{i}"), ""))
    }

    pub(crate) fn sparse(self, path: &str, len: u64, data: &[(u64, &[u8])]) -> Self {
        let data = data.iter().map(|(at, d)| (*at, d.to_vec())).collect();
        self.add(path, What::Sparse(len, data))
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.add(path, What::Symlink(target.to_owned()))
    }

    pub(crate) fn fifo(self, path: &str) -> Self {
        self.add(path, What::Node(FileType::Fifo, 0))
    }

    pub(crate) fn node(self, path: &str, kind: FileType, dev: u64) -> Self {
        self.add(path, What::Node(kind, dev))
    }

    /// A second name for the entry `existing`.
    pub(crate) fn hardlink(self, path: &str, existing: &str) -> Self {
        self.add(path, What::Hardlink(existing.to_owned()))
    }

    /// A foreign whiteout for `path`: an empty regular file, mode 0644, not linked to a base.
    pub(crate) fn whiteout(self, path: &str) -> Self {
        let marker = whiteout_name(path);
        self.file(&marker, "")
    }

    /// An opaque mark inside the directory `path` (made if missing).
    pub(crate) fn opaque(self, path: &str) -> Self {
        let marker = match path {
            "" => ".wh..wh..opq".to_owned(),
            _ => format!("{path}/.wh..wh..opq"),
        };
        self.file(&marker, "")
    }

    fn last(&mut self) -> &mut Entry {
        self.entries.last_mut().expect("a tree has a root")
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.last().mode = Some(mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.last().owner = (uid, gid);
        self
    }

    pub(crate) fn mtime(mut self, sec: i64, nsec: i64) -> Self {
        self.last().mtime = (sec, nsec);
        self
    }

    pub(crate) fn xattr(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let pair = (name.to_owned(), value.as_ref().to_vec());
        self.last().xattrs.push(pair);
        self
    }

    /// Makes the tree in an existing, empty directory.
    pub(crate) fn build(&self, root: &Path) -> Result<()> {
        for entry in &self.entries {
            let path = root.join(&entry.path);
            make(entry, &path, root).with_context(|| format!("building {}", path.display()))?;
        }
        // Children before parents: making an entry changes its directory's times.
        for entry in self.entries.iter().rev() {
            let path = root.join(&entry.path);
            let path = match entry.path.as_str() {
                "" => root,
                _ => &path,
            };
            sys::utimens(path, entry.mtime, entry.mtime)?;
        }
        Ok(())
    }
}

fn make(entry: &Entry, path: &Path, root: &Path) -> Result<()> {
    let default_mode = match &entry.what {
        What::Dir => {
            if !entry.path.is_empty() {
                sys::mkdir(path)?;
            }
            0o755
        }
        What::File(data) => {
            sys::write_fd(sys::create(path)?, data)?;
            0o644
        }
        What::Sparse(len, pieces) => {
            let fd = sys::open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?;
            for (offset, data) in pieces {
                sys::seek(&fd, SeekFrom::Start(*offset))?;
                sys::write_fd(&fd, data)?;
            }
            sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, *len))?;
            0o644
        }
        What::Symlink(target) => {
            sys::symlink(target, path)?;
            0o777
        }
        What::Node(kind, dev) => {
            sys::mknod(path, *kind, 0o644, *dev)?;
            0o644
        }
        What::Hardlink(existing) => {
            sys::link(root.join(existing), path)?;
            return Ok(());
        }
    };
    // Also when it is root's: a set-group-id directory gives its group to what is made in it.
    let (uid, gid) = entry.owner;
    sys::chown(path, Some(uid), Some(gid))?;
    if !matches!(entry.what, What::Symlink(_)) {
        sys::chmod(path, entry.mode.unwrap_or(default_mode))?;
    }
    for (name, value) in &entry.xattrs {
        sys::set_xattr(path, name, value)?;
    }
    Ok(())
}

/// `d/x` to `d/.wh.x`.
pub(crate) fn whiteout_name(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((dir, name)) => format!("{dir}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}
