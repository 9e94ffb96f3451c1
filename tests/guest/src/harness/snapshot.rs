// SPDX-License-Identifier: GPL-2.0

//! Everything a directory tree is, as a value: for "untouched" and for "the same" comparisons.
//!
//! [`Scope::Everything`] is the fingerprint of a read-only branch: inode numbers, link counts and
//! all times included. [`Scope::Visible`] is what two different file systems that hold the same
//! tree must agree on, as the model test needs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hasher},
    os::fd::AsFd,
    path::Path,
};

use rustix::{fs::SeekFrom, io::Errno};

use super::{
    dir,
    sys::{self, FileType, OFlags, Res, Time},
};

/// How much of an object is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    Visible,
}

/// One object of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    /// Bytes of a regular file; 0 for directories in [`Scope::Visible`].
    size: u64,
    rdev: u64,
    links: Option<u64>,
    mtime: Time,
    /// Hash of data, or the target of a symbolic link.
    content: String,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Inode number, access time, change time.
    identity: Option<(u64, Time, Time)>,
}

/// A tree by path relative to its root (`""` is the root).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<String, Node>);

impl Snapshot {
    /// Walks a tree. It must be quiet.
    #[track_caller]
    pub(crate) fn of(root: &Path, scope: Scope) -> Res<Self> {
        let mut nodes = BTreeMap::new();
        let mut todo = vec![String::new()];
        while let Some(rel) = todo.pop() {
            let path = match rel.as_str() {
                "" => root.to_owned(),
                _ => root.join(&rel),
            };
            let node = node(&path, scope)?;
            if node.kind == "Directory" {
                for name in dir::names(&path)? {
                    todo.push(match rel.as_str() {
                        "" => name,
                        _ => format!("{rel}/{name}"),
                    });
                }
            }
            nodes.insert(rel, node);
        }
        Ok(Self(nodes))
    }

    /// Differences in words; empty when equal.
    pub(crate) fn diff(&self, other: &Self) -> Vec<String> {
        self.diff_by(other, |_, a, b| a == b)
    }

    /// As [`Self::diff`] for two trees that were changed by the same operations at slightly
    /// different times: a modification time at or after `start` only has to be so in both.
    pub(crate) fn diff_since(&self, other: &Self, start: Time) -> Vec<String> {
        self.diff_by(other, |path, a, b| {
            let same_time = a.mtime == b.mtime || (a.mtime >= start && b.mtime >= start);
            let mut b = b.clone();
            b.mtime = a.mtime;
            // The root is made by the harness, and its times with it.
            (same_time || path.is_empty()) && *a == b
        })
    }

    /// As [`Self::diff`], but times of directories do not matter, nor do times of others that are
    /// `start` or later now.
    pub(crate) fn diff_but_times(&self, now: &Self, start: Time) -> Vec<String> {
        self.diff_by(now, |_, a, b| {
            let same_time = a.mtime == b.mtime || b.mtime >= start;
            let mut b = b.clone();
            b.mtime = a.mtime;
            (same_time || a.kind == "Directory") && *a == b
        })
    }

    fn diff_by(&self, other: &Self, same: impl Fn(&str, &Node, &Node) -> bool) -> Vec<String> {
        let paths: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let mut found = Vec::new();
        for path in paths {
            match (self.0.get(path), other.0.get(path)) {
                (Some(a), Some(b)) if same(path, a, b) => {}
                (Some(a), Some(b)) => found.push(format!("{path:?}: {}", a.difference(b))),
                (Some(a), None) => found.push(format!("{path:?} ({}) is gone", a.kind)),
                (None, Some(b)) => found.push(format!("{path:?} ({}) is new", b.kind)),
                (None, None) => {}
            }
        }
        found
    }

    /// The same without link counts.
    pub(crate) fn without_links(&self) -> Self {
        let mut this = self.clone();
        for node in this.0.values_mut() {
            node.links = None;
        }
        this
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Node {
    fn difference(&self, other: &Self) -> String {
        let mut parts = Vec::new();
        let mut part = |what: &str, a: String, b: String| {
            if a != b {
                parts.push(format!("{what} {a} -> {b}"));
            }
        };
        part("kind", self.kind.clone(), other.kind.clone());
        let octal = |mode| format!("{mode:04o}");
        part("mode", octal(self.mode), octal(other.mode));
        let text = |owner| format!("{owner:?}");
        part("owner", text(self.owner), text(other.owner));
        part("size", self.size.to_string(), other.size.to_string());
        part("rdev", self.rdev.to_string(), other.rdev.to_string());
        let links = |l| format!("{l:?}");
        part("links", links(self.links), links(other.links));
        let time = |t| format!("{t:?}");
        part("mtime", time(self.mtime), time(other.mtime));
        part("content", self.content.clone(), other.content.clone());
        let xattrs = |x: &BTreeMap<_, _>| format!("{x:?}");
        part("xattrs", xattrs(&self.xattrs), xattrs(&other.xattrs));
        let identity = |i| format!("{i:?}");
        part(
            "(ino, atime, ctime)",
            identity(self.identity),
            identity(other.identity),
        );
        parts.join(", ")
    }
}

fn node(path: &Path, scope: Scope) -> Res<Node> {
    let stat = sys::lstat(path)?;
    let kind = sys::kind(&stat);
    let content = match kind {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            format!("{:016x}", hash(sys::open(path, flags)?)?)
        }
        FileType::Symlink => sys::readlink(path)?,
        _ => String::new(),
    };
    let everything = scope == Scope::Everything;
    let is_dir = kind == FileType::Directory;
    Ok(Node {
        kind: format!("{kind:?}"),
        mode: sys::mode(&stat),
        owner: (stat.st_uid, stat.st_gid),
        size: match is_dir && !everything {
            true => 0,
            false => stat.st_size as u64,
        },
        rdev: match kind {
            FileType::CharacterDevice | FileType::BlockDevice => stat.st_rdev,
            _ => 0,
        },
        links: (!is_dir || everything).then_some(stat.st_nlink),
        mtime: sys::mtime(&stat),
        content,
        xattrs: xattrs(path)?,
        identity: everything.then(|| (stat.st_ino, sys::atime(&stat), sys::ctime(&stat))),
    })
}

fn xattrs(path: &Path) -> Res<BTreeMap<String, Vec<u8>>> {
    let names = match sys::list_xattr(path) {
        Err(e) if e.errno == Errno::OPNOTSUPP => return Ok(BTreeMap::new()),
        names => names?,
    };
    let mut all = BTreeMap::new();
    for name in names {
        let value = sys::get_xattr(path, &name)?;
        all.insert(name, value);
    }
    Ok(all)
}

/// Hash of the data and its offsets. Zeros and holes count as the same.
pub(crate) fn hash(fd: impl AsFd) -> Res<u64> {
    let mut hasher = DefaultHasher::new();
    let mut buf = vec![0u8; 65536];
    let mut pos = 0;
    loop {
        let start = match sys::seek(&fd, SeekFrom::Data(pos)) {
            Err(e) if e.errno == Errno::NXIO => return Ok(hasher.finish()),
            start => start?,
        };
        // Whole blocks, so that hole-y and dense copies are cut alike.
        pos = start - start % buf.len() as u64;
        let end = sys::seek(&fd, SeekFrom::Hole(start))?;
        while pos < end {
            let n = sys::on_fd("pread", rustix::io::pread(&fd, &mut buf[..], pos))?;
            if n == 0 {
                break;
            }
            if buf[..n].iter().any(|b| *b != 0) {
                hasher.write_u64(pos);
                // Trailing zeros of a block may be a hole elsewhere.
                let used = buf[..n].iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
                hasher.write(&buf[..used]);
            }
            pos += n as u64;
        }
    }
}
