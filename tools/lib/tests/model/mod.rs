// SPDX-License-Identifier: GPL-2.0

//! A naive model of a union: branches as values, and what they show together. It shares no code
//! with what is tested.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, XattrFlags, CWD};

/// What an object is, apart from its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub content: Vec<u8>,
    pub xattr: Option<Vec<u8>>,
    pub inode: (u64, u64),
    pub children: BTreeMap<String, Node>,
}

impl Node {
    fn is_dir(&self) -> bool {
        self.kind == "dir"
    }
}

/// Reads a tree as it is on disk.
pub fn read(path: &Path) -> Node {
    let meta = fs::symlink_metadata(path).unwrap();
    let mut children = BTreeMap::new();
    let mut content = Vec::new();
    let kind = if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            children.insert(
                entry.file_name().into_string().unwrap(),
                read(&entry.path()),
            );
        }
        "dir"
    } else if meta.is_symlink() {
        content = fs::read_link(path)
            .unwrap()
            .into_os_string()
            .into_encoded_bytes();
        "symlink"
    } else if meta.is_file() {
        content = fs::read(path).unwrap();
        "file"
    } else {
        "special"
    };
    let mut value = [0; 64];
    let xattr = rustix::fs::lgetxattr(path, "trusted.test", &mut value[..]);
    Node {
        kind: kind.to_owned(),
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content,
        xattr: xattr.ok().map(|n| value[..n].to_vec()),
        inode: (meta.dev(), meta.ino()),
        children,
    }
}

/// An object that the union shows: which file it is counts, not which number that has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub kind: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub content: String,
    pub xattr: Option<Vec<u8>>,
    /// The first name of the same file.
    pub first: String,
}

/// All that the union of these branches shows, by path; `""` is the root.
pub fn shown(branches: &[(&Path, bool)]) -> BTreeMap<String, Shown> {
    let trees: Vec<_> = branches
        .iter()
        .map(|(path, honours)| (read(path), *honours))
        .collect();
    let dirs: Vec<_> = trees
        .iter()
        .map(|(tree, honours)| (tree, *honours))
        .collect();
    let mut all = BTreeMap::new();
    let mut roots = Vec::new();
    for dir in dirs {
        roots.push(dir);
        if dir.1 && dir.0.children.contains_key(".wh..wh..opq") {
            break;
        }
    }
    let mut firsts = BTreeMap::new();
    add(&mut all, &mut firsts, String::new(), &roots);
    all
}

fn add(
    all: &mut BTreeMap<String, Shown>,
    firsts: &mut BTreeMap<(u64, u64), String>,
    path: String,
    instances: &[(&Node, bool)],
) {
    let top = instances[0].0;
    let first = match top.is_dir() {
        true => path.clone(),
        false => firsts
            .entry(top.inode)
            .or_insert_with(|| path.clone())
            .clone(),
    };
    all.insert(
        path.clone(),
        Shown {
            kind: top.kind.clone(),
            mode: top.mode,
            owner: top.owner,
            mtime: top.mtime,
            content: String::from_utf8_lossy(&top.content).into_owned(),
            xattr: top.xattr.clone(),
            first,
        },
    );
    let mut names: Vec<&String> = instances
        .iter()
        .flat_map(|(dir, _)| dir.children.keys())
        .collect();
    names.sort();
    names.dedup();
    for name in names.into_iter().filter(|name| !name.starts_with(".wh.")) {
        let mut found: Vec<(&Node, bool)> = Vec::new();
        for (dir, honours) in instances {
            if let Some(node) = dir.children.get(name) {
                if found.is_empty() || node.is_dir() {
                    found.push((node, *honours));
                }
                let ends = !found[0].0.is_dir()
                    || (node.is_dir() && *honours && node.children.contains_key(".wh..wh..opq"));
                if ends {
                    break;
                }
            }
            if *honours && dir.children.contains_key(&format!(".wh.{name}")) {
                break;
            }
        }
        if !found.is_empty() {
            add(all, firsts, format!("{path}/{name}"), &found);
        }
    }
}

/// A change of a branch under construction. What is not possible does nothing.
#[derive(Clone, Debug)]
pub enum Op {
    Dir(String, u32),
    File(String, u8, u32),
    Sparse(String),
    Symlink(String),
    Fifo(String),
    Link(String, String),
    Whiteout(String),
    Opaque(String),
    Xattr(String),
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => "[abc]",
        2 => "[abc]/[abc]",
        2 => "[abc]/[abc]/[abc]",
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (path(), prop_oneof![Just(0o755), Just(0o700), Just(0o1777)]).prop_map(|(p, m)| Op::Dir(p, m)),
        4 => (path(), 0u8..3, prop_oneof![Just(0o644), Just(0o4755)]).prop_map(|(p, c, m)| Op::File(p, c, m)),
        1 => path().prop_map(Op::Sparse),
        1 => path().prop_map(Op::Symlink),
        1 => path().prop_map(Op::Fifo),
        2 => (path(), path()).prop_map(|(p, q)| Op::Link(p, q)),
        2 => path().prop_map(Op::Whiteout),
        1 => prop_oneof![4 => path(), 1 => Just(String::new())].prop_map(Op::Opaque),
        1 => path().prop_map(Op::Xattr),
    ]
}

/// The making of a branch.
pub fn branch() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 0..25)
}

/// Makes a branch in an empty directory. `seed` makes its times differ from those of others.
pub fn build(root: &Path, ops: &[Op], seed: i64) {
    for name in ["a", "b"] {
        // Most operations find a parent.
        fs::create_dir(root.join(name)).unwrap();
    }
    for (i, op) in ops.iter().enumerate() {
        // Whatever goes wrong here is the same as an operation less.
        let _ = apply(root, op, seed * 1000 + i as i64);
    }
    set_times(root, seed);
}

fn apply(root: &Path, op: &Op, time: i64) -> std::io::Result<()> {
    let whiteout = |p: &str| {
        let p = Path::new(p);
        let name = format!(".wh.{}", p.file_name().unwrap().to_str().unwrap());
        root.join(p.with_file_name(name))
    };
    let (path, mode) = match op {
        Op::Dir(p, mode) => {
            fs::create_dir(root.join(p))?;
            (root.join(p), Some(*mode))
        }
        Op::File(p, content, mode) => {
            fs::File::create_new(root.join(p))?;
            fs::write(root.join(p), format!("{content}-{time}"))?;
            (root.join(p), Some(*mode))
        }
        Op::Sparse(p) => {
            let file = fs::File::create_new(root.join(p))?;
            file.set_len(1 << 20)?;
            std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 500_000)?;
            (root.join(p), None)
        }
        Op::Symlink(p) => {
            std::os::unix::fs::symlink(format!("t{time}"), root.join(p))?;
            (root.join(p), None)
        }
        Op::Fifo(p) => {
            rustix::fs::mknodat(CWD, root.join(p), rustix::fs::FileType::Fifo, Mode::RUSR, 0)?;
            (root.join(p), None)
        }
        Op::Link(p, q) => {
            fs::hard_link(root.join(p), root.join(q))?;
            return Ok(());
        }
        Op::Whiteout(p) => {
            fs::File::create_new(whiteout(p))?;
            return Ok(());
        }
        Op::Opaque(p) => {
            fs::File::create_new(root.join(p).join(".wh..wh..opq"))?;
            return Ok(());
        }
        Op::Xattr(p) => {
            let value = format!("v{time}");
            rustix::fs::lsetxattr(
                root.join(p),
                "trusted.test",
                value.as_bytes(),
                XattrFlags::empty(),
            )?;
            return Ok(());
        }
    };
    if let Some(mode) = mode {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        let owner = Some((time % 7) as u32);
        std::os::unix::fs::lchown(&path, owner, owner)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    set_time(&path, time);
    Ok(())
}

fn set_time(path: &Path, time: i64) {
    let time = Timespec {
        tv_sec: 1_000_000_000 + time,
        tv_nsec: time % 1000,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Directories get theirs last, since all that is made in them changes them.
fn set_times(dir: &Path, seed: i64) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            set_times(&path, seed + 1);
        }
    }
    set_time(dir, 500_000 + seed);
}

/// Three fresh directories: UPPER on one file system, LOWER and one more on another if `apart`.
pub fn directories(apart: bool) -> (tempfile::TempDir, tempfile::TempDir, [PathBuf; 3]) {
    let one = match apart {
        true => tempfile::tempdir_in("/dev/shm").unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let two = tempfile::tempdir().unwrap();
    if apart {
        let dev = |dir: &tempfile::TempDir| fs::metadata(dir.path()).unwrap().dev();
        assert_ne!(dev(&one), dev(&two), "/dev/shm is a file system of its own");
    }
    let upper = match apart {
        true => one.path().join("upper"),
        false => two.path().join("upper"),
    };
    let paths = [upper, two.path().join("lower"), two.path().join("below")];
    for path in &paths {
        fs::create_dir(path).unwrap();
    }
    (one, two, paths)
}
