// SPDX-License-Identifier: GPL-2.0

//! Whole trees, compared in every respect in which a union must not differ from a directory.
//!
//! Both trees are read with as few system calls as it takes. Beyond what is equal or not at one
//! moment, [`Pair`] follows objects from one comparison to the next: an object keeps its inode
//! number while it lives, whatever its name, and its times move when those of its twin do.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, SeekFrom, Statx, StatxFlags},
    io::Errno,
};

use super::merge::{self, Object};
use crate::harness::{
    dir,
    scratch::Kind,
    sys::{self, FileType, Mode, OFlags, Res, Time},
};

/// What was changed by an operation has a later time; what the scenario made has an earlier one.
const START: Time = (1_700_000_000, 0);

/// Everything that is compared of one object.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    rdev: (u32, u32),
    links: u32,
    ino: u64,
    times: Times,
    born: Time,
    /// Data of a file, target of a symbolic link.
    data: Vec<u8>,
    /// Where data begins and ends.
    map: Vec<(u64, u64)>,
    xattrs: BTreeMap<String, Vec<u8>>,
    subdirs: u32,
    /// The link count of a directory after it was listed.
    listed_links: u32,
}

impl Object for Node {
    fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    access: Time,
    modification: Time,
    change: Time,
}

/// A tree by path relative to its root (`""` is the root).
pub(crate) type Nodes = BTreeMap<String, Node>;

/// Reads a quiet tree. `map`: with the places of holes.
pub(crate) fn read(root: &Path, map: bool) -> Res<Nodes> {
    let mut nodes = Nodes::new();
    let fd = dir::open_dir(root)?;
    let stat = statx(&fd, "")?;
    let mut node = node(&stat);
    node.xattrs = xattrs(&fd, root)?;
    nodes.insert(String::new(), node);
    read_dir(fd, root, "", map, &mut nodes)?;
    Ok(nodes)
}

fn read_dir(fd: OwnedFd, root: &Path, rel: &str, map: bool, nodes: &mut Nodes) -> Res<()> {
    let mut subdirs = 0;
    let mut names = BTreeSet::new();
    for entry in dir::rest(&fd, 8192)? {
        if entry.name == "." || entry.name == ".." {
            continue;
        }
        let path = match rel {
            "" => entry.name.clone(),
            _ => format!("{rel}/{}", entry.name),
        };
        assert!(names.insert(entry.name.clone()), "{path:?} is listed twice");
        let stat = statx(&fd, &entry.name)?;
        let mut node = node(&stat);
        let listed = (entry.kind, entry.ino);
        let real = (node.kind, node.ino);
        assert!(
            listed == real,
            "{path:?} is listed as {listed:?}, it is {real:?}"
        );
        let open = |flags| {
            let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&fd, &entry.name, flags, Mode::empty());
            sys::at("openat", &path, file)
        };
        match node.kind {
            FileType::Directory => {
                subdirs += 1;
                let below = open(OFlags::DIRECTORY)?;
                node.xattrs = xattrs(&below, root)?;
                nodes.insert(path.clone(), node);
                read_dir(below, root, &path, map, nodes)?;
                continue;
            }
            FileType::RegularFile => {
                let file = open(OFlags::empty())?;
                node.xattrs = xattrs(&file, root)?;
                if node.size > 0 {
                    node.data = data(&file, node.size)?;
                }
                if map && node.size > 0 {
                    node.map = data_map(&file)?;
                }
            }
            FileType::Symlink => {
                node.data = sys::readlink(root.join(&path))?.into_bytes();
                node.xattrs = xattrs_at(&root.join(&path))?;
            }
            _ => node.xattrs = xattrs_at(&root.join(&path))?,
        }
        nodes.insert(path, node);
    }
    if let Some(dir) = nodes.get_mut(rel) {
        dir.subdirs = subdirs;
        dir.listed_links = statx(&fd, "")?.stx_nlink;
    }
    Ok(())
}

#[track_caller]
fn statx(dir: &OwnedFd, name: &str) -> Res<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    sys::at("statx", name, rustix::fs::statx(dir, name, flags, mask))
}

fn node(stat: &Statx) -> Node {
    let time = |t: rustix::fs::StatxTimestamp| (t.tv_sec, i64::from(t.tv_nsec));
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    Node {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        owner: (stat.stx_uid, stat.stx_gid),
        size: match kind {
            FileType::Directory => 0,
            _ => stat.stx_size,
        },
        rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
        links: stat.stx_nlink,
        ino: stat.stx_ino,
        times: Times {
            access: time(stat.stx_atime),
            modification: time(stat.stx_mtime),
            change: time(stat.stx_ctime),
        },
        born: time(stat.stx_btime),
        data: Vec::new(),
        map: Vec::new(),
        xattrs: BTreeMap::new(),
        subdirs: 0,
        listed_links: 0,
    }
}

fn data(file: &OwnedFd, size: u64) -> Res<Vec<u8>> {
    let mut buf = vec![0; size as usize];
    let mut done = 0;
    while done < buf.len() {
        let n = rustix::io::pread(file, &mut buf[done..], done as u64);
        match sys::on_fd("pread", n)? {
            0 => break,
            n => done += n,
        }
    }
    buf.truncate(done);
    Ok(buf)
}

fn data_map(file: &OwnedFd) -> Res<Vec<(u64, u64)>> {
    let mut map = Vec::new();
    let mut end = 0;
    loop {
        let start = match sys::seek(file, SeekFrom::Data(end)) {
            Err(e) if e.errno == Errno::NXIO => return Ok(map),
            start => start?,
        };
        end = sys::seek(file, SeekFrom::Hole(start))?;
        map.push((start, end));
    }
}

/// Of an open file; the path is just for messages.
fn xattrs(fd: &OwnedFd, path: &Path) -> Res<BTreeMap<String, Vec<u8>>> {
    let mut buf = [0u8; 2048];
    let n = sys::at("flistxattr", path, rustix::fs::flistxattr(fd, &mut buf))?;
    let mut all = BTreeMap::new();
    for name in names(&buf[..n]) {
        let mut value = vec![0; 512];
        let got = rustix::fs::fgetxattr(fd, name.as_str(), &mut value[..]);
        value.truncate(sys::at("fgetxattr", path, got)?);
        all.insert(name, value);
    }
    Ok(all)
}

fn xattrs_at(path: &Path) -> Res<BTreeMap<String, Vec<u8>>> {
    let mut buf = [0u8; 2048];
    let n = match rustix::fs::llistxattr(path, &mut buf) {
        Err(Errno::OPNOTSUPP) => 0,
        n => sys::at("llistxattr", path, n)?,
    };
    let mut all = BTreeMap::new();
    for name in names(&buf[..n]) {
        let value = sys::get_xattr(path, &name)?;
        all.insert(name, value);
    }
    Ok(all)
}

fn names(list: &[u8]) -> Vec<String> {
    let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
    names
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .collect()
}

/// A directory and the union that must look like it, over time.
pub(crate) struct Pair {
    holes: bool,
    /// Files that were changed through mappings, and pipes, by inode number in the directory.
    stored: BTreeSet<u64>,
    before: Option<(Nodes, Nodes)>,
    /// The kernel may have forgotten what it knew of the union at the last comparison.
    evicted: bool,
    /// Other threads drop caches at any time.
    shared: bool,
}

impl Pair {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            holes: holes_are_exact(kind),
            stored: BTreeSet::new(),
            before: None,
            evicted: false,
            shared: false,
        }
    }

    /// A pair of which other threads may drop the caches between any two comparisons.
    pub(crate) fn shared(kind: Kind) -> Self {
        Self {
            evicted: true,
            shared: true,
            ..Self::new(kind)
        }
    }

    /// Caches were dropped.
    pub(crate) fn evicted(&mut self) {
        self.evicted = true;
    }

    /// Times of this file of the directory mean nothing from here on.
    pub(crate) fn stored(&mut self, ino: u64) {
        self.stored.insert(ino);
    }

    /// The union is mounted anew: its inode numbers may be others.
    pub(crate) fn forget(&mut self) {
        self.before = None;
    }

    /// Differences in words; empty when there are none.
    pub(crate) fn compare(&mut self, plain: &Path, union: &Path) -> Res<Vec<String>> {
        let plain = read(plain, self.holes)?;
        let union = read(union, self.holes)?;
        let mut found = differences(&plain, &union, |path, a, b| self.difference(path, a, b));
        if found.is_empty() {
            identities(&plain, &union, &mut found);
            if let Some((old_plain, old_union)) = &self.before {
                self.follow((old_plain, old_union), (&plain, &union), &mut found);
            }
        }
        self.before = Some((plain, union));
        self.evicted = self.shared;
        Ok(found)
    }

    fn difference(&self, path: &str, plain: &Node, union: &Node) -> Vec<String> {
        let mut found = plain.differs(union);
        // The root is made by the harness, and its times with it.
        if path.is_empty() || self.stored.contains(&plain.ino) {
            return found;
        }
        let times = [
            ("access time", plain.times.access, union.times.access),
            ("mtime", plain.times.modification, union.times.modification),
        ];
        for (what, a, b) in times {
            if a != b && (a < START || b < START) {
                found.push(format!("{what} {a:?} -> {b:?}"));
            }
        }
        if plain.map != union.map {
            found.push(format!("data at {:?} -> {:?}", plain.map, union.map));
        }
        found
    }

    /// What became of the objects of the last comparison.
    fn follow(&self, old: (&Nodes, &Nodes), new: (&Nodes, &Nodes), found: &mut Vec<String>) {
        // Objects of the directory by what never changes and is never used again.
        let mut lived = BTreeMap::new();
        for (path, plain) in old.0 {
            if let Some(union) = old.1.get(path) {
                lived.insert((plain.ino, plain.born), (plain, union));
            }
        }
        for (path, plain) in new.0 {
            let Some(union) = new.1.get(path) else {
                continue;
            };
            let Some((old_plain, old_union)) = lived.get(&(plain.ino, plain.born)) else {
                continue;
            };
            if union.ino != old_union.ino {
                let (a, b) = (old_union.ino, union.ino);
                found.push(format!("{path:?}: inode number {a} -> {b}"));
            }
            if self.stored.contains(&plain.ino) || path.is_empty() {
                continue;
            }
            let moved = |a: Time, b: Time| if a == b { "stays" } else { "moves" };
            let plain_moved = moved(old_plain.times.modification, plain.times.modification);
            let union_moved = moved(old_union.times.modification, union.times.modification);
            if plain_moved != union_moved {
                found.push(format!("{path:?}: mtime {plain_moved} -> {union_moved}"));
            }
            let plain_moved = moved(old_plain.times.change, plain.times.change);
            let union_moved = moved(old_union.times.change, union.times.change);
            // What branches do not know is forgotten with the inode: that a copy-up is no change,
            // and that a file lost a name.
            let hidden = plain.links < old_plain.links;
            let forgotten = self.evicted && (union_moved == "moves" || hidden);
            // What sets an object on a branch that is not written to what it is changes nothing.
            let needless = union_moved == "stays"
                && plain_moved == "moves"
                && old_plain.times.modification == plain.times.modification
                && old_plain.differs(plain).is_empty();
            let excused = forgotten || needless;
            if plain_moved != union_moved && !excused {
                found.push(format!("{path:?}: ctime {plain_moved} -> {union_moved}"));
            }
            let exact = [1, 2 + union.subdirs];
            if union.is_dir() && !self.evicted && !exact.contains(&union.links) {
                let (links, subdirs) = (union.links, union.subdirs);
                found.push(format!(
                    "{path:?}: {links} links with {subdirs} directories"
                ));
            }
        }
    }
}

/// Whether two files that were written alike have their holes at the same places.
fn holes_are_exact(kind: Kind) -> bool {
    // XFS allocates ahead by its own guess, and what was allocated is data until it is written
    // back; btrfs writes small files into the tree, and its extents depend on when that was.
    matches!(kind, Kind::Tmpfs | Kind::Ext4)
}

impl Node {
    /// All that does not depend on when and where.
    fn differs(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut part = |same: bool, what: &str, a: String, b: String| {
            if !same {
                found.push(format!("{what} {a} -> {b}"));
            }
        };
        macro_rules! same {
            ($what:literal, $field:ident) => {
                let (a, b) = (&self.$field, &other.$field);
                if a != b {
                    part(false, $what, format!("{a:?}"), format!("{b:?}"));
                }
            };
        }
        same!("kind", kind);
        let octal = |mode| format!("{mode:04o}");
        part(
            self.mode == other.mode,
            "mode",
            octal(self.mode),
            octal(other.mode),
        );
        same!("owner", owner);
        same!("size", size);
        if matches!(self.kind, FileType::CharacterDevice | FileType::BlockDevice) {
            same!("device", rdev);
        }
        same!("xattrs", xattrs);
        if self.data != other.data {
            let (a, b) = (show(&self.data), show(&other.data));
            part(false, "data", a, b);
        }
        match self.is_dir() && other.is_dir() {
            false => {
                same!("links", links);
            }
            // 1: not counted at all.
            true if other.links == 1 => {}
            true => {
                // Those of the parts add up, so it can be too large before it is listed.
                let (exact, first) = (2 + other.subdirs, other.links);
                let least = format!("at least {exact}");
                part(first >= exact, "links", least, first.to_string());
                let listed = other.listed_links;
                part(
                    listed == exact,
                    "links",
                    exact.to_string(),
                    listed.to_string(),
                );
            }
        }
        found
    }
}

/// Runs of equal bytes.
fn show(data: &[u8]) -> String {
    let runs = data.chunk_by(|a, b| a == b).map(|run| match run.first() {
        Some(byte) => format!("{}*{byte}", run.len()),
        None => String::new(),
    });
    runs.take(12).collect::<Vec<_>>().join(" ")
}

fn differences(
    a: &Nodes,
    b: &Nodes,
    differs: impl Fn(&str, &Node, &Node) -> Vec<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (path, left) in a {
        match b.get(path) {
            None => found.push(format!("{path:?} ({:?}) is missing", left.kind)),
            Some(right) => {
                let parts = differs(path, left, right);
                if !parts.is_empty() {
                    found.push(format!("{path:?}: {}", parts.join(", ")));
                }
            }
        }
    }
    for (path, right) in b {
        if !a.contains_key(path) {
            found.push(format!("{path:?} ({:?}) is too much", right.kind));
        }
    }
    found
}

/// Names are of one object in the union when they are in the directory.
fn identities(plain: &Nodes, union: &Nodes, found: &mut Vec<String>) {
    let (mut there, mut back) = (BTreeMap::new(), BTreeMap::new());
    for (path, plain) in plain {
        let Some(union) = union.get(path) else {
            continue;
        };
        let one = *there.entry(plain.ino).or_insert(union.ino) == union.ino;
        let other = *back.entry(union.ino).or_insert(plain.ino) == plain.ino;
        if !one || !other {
            found.push(format!(
                "{path:?}: inode number {} is of something else",
                union.ino
            ));
        }
    }
}

/// What changed in one tree between two quiet moments; `numbers`: inode numbers, too, which a new
/// mount does not keep.
pub(crate) fn changes(before: &Nodes, after: &Nodes, numbers: bool) -> Vec<String> {
    differences(before, after, |_, a, b| {
        let mut found = a.differs(b);
        if a.times.modification != b.times.modification {
            let times = (a.times.modification, b.times.modification);
            found.push(format!("mtime {:?} -> {:?}", times.0, times.1));
        }
        if numbers && a.ino != b.ino {
            found.push(format!("inode number {} -> {}", a.ino, b.ino));
        }
        found
    })
}

/// Differences of all that branches tell of objects. They do not tell of the root, and not, without
/// the pseudo-links, how many names a file has that was copied up.
pub(crate) fn contents(branches: &Nodes, union: &Nodes) -> Vec<String> {
    let mut all = branches.clone();
    all.extend(union.get("").map(|root| (String::new(), root.clone())));
    differences(&all, union, |_, a, b| {
        let mut found = a.differs(b);
        found.retain(|text| !text.starts_with("links"));
        found
    })
}

/// What the branches on disk, top first, say that a union of them is.
pub(crate) fn merged(branches: &[(std::path::PathBuf, bool)]) -> Res<Nodes> {
    let mut layers = Vec::new();
    for (path, believed) in branches {
        layers.push(split(read(path, false)?, *believed));
    }
    let all: Vec<_> = layers.iter().collect();
    let merged = merge::merge(&all);
    Ok(merged
        .into_iter()
        .map(|(path, node)| (path, node.clone()))
        .collect())
}

/// Objects and marks of a branch.
fn split(nodes: Nodes, believed: bool) -> merge::Layer<Node> {
    let mut layer = merge::Layer {
        believed,
        items: BTreeMap::new(),
        whiteouts: BTreeSet::new(),
        opaque: BTreeSet::new(),
    };
    for (path, node) in nodes {
        let hidden = path
            .split('/')
            .rev()
            .skip(1)
            .any(|name| name.starts_with(".wh."));
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
        match name.strip_prefix(".wh.") {
            _ if hidden => {}
            None => {
                layer.items.insert(path, node);
            }
            Some(".wh..opq") => {
                layer.opaque.insert(dir.to_owned());
            }
            Some(bookkeeping) if bookkeeping.starts_with(".wh.") => {}
            Some(name) => {
                let path = match dir {
                    "" => name.to_owned(),
                    _ => format!("{dir}/{name}"),
                };
                layer.whiteouts.insert(path);
            }
        }
    }
    layer
}
