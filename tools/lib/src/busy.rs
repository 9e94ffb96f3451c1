// SPDX-License-Identifier: GPL-2.0

//! Who holds a branch: processes that have something of a union open, and the inodes that the
//! kernel calls busy.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::io::Errno;

use crate::{dir::Dir, ioctl, system, union::Union};

/// Something of a union that a process uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The process.
    pub pid: u32,
    /// Its command's name, which may be any bytes.
    pub command: OsString,
    /// `cwd`, `root`, `exe`, `map`, or the number of a descriptor.
    pub how: String,
    /// The object's inode number in the union.
    pub ino: u64,
    /// The object's path as the kernel shows it.
    pub path: PathBuf,
}

/// What processes use of a file system, by its device number. Processes that cannot be looked into
/// are left out; root can look into all.
pub fn uses(dev: (u32, u32)) -> Result<Vec<Use>> {
    let mut all = Vec::new();
    let proc = Path::new("/proc");
    for name in system::names(proc).context("/proc")? {
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            of_process(pid, &proc.join(name), dev, &mut all);
        }
    }
    all.sort_by(|a, b| (a.pid, &a.how).cmp(&(b.pid, &b.how)));
    Ok(all)
}

fn of_process(pid: u32, proc: &Path, dev: (u32, u32), all: &mut Vec<Use>) {
    let mut command = system::read(&proc.join("comm")).unwrap_or_default();
    command.truncate(command.trim_ascii_end().len());
    let command = OsString::from_vec(command);
    let mut links: Vec<_> = ["cwd", "root", "exe"]
        .map(|how| (how.to_owned(), proc.join(how)))
        .into();
    for (dir, is_map) in [("fd", false), ("map_files", true)] {
        let dir = proc.join(dir);
        for name in system::names(&dir).unwrap_or_default() {
            let how = match is_map {
                true => OsStr::new("map"),
                false => &name,
            };
            links.push((how.to_string_lossy().into_owned(), dir.join(&name)));
        }
    }
    let mut seen = BTreeSet::new();
    for (how, link) in links {
        let Ok((on, ino)) = system::linked(&link) else {
            continue;
        };
        if on == dev && seen.insert((how.clone(), ino)) {
            all.push(Use {
                pid,
                command: command.clone(),
                how,
                ino,
                path: system::link(&link).unwrap_or_default(),
            });
        }
    }
}

/// Asks the kernel whether an inode of the union keeps a branch from being removed.
///
/// `Ok(None)`: it does not; `Ok(Some(n))`: it does, its number on the branch is n.
pub fn on_branch(union: &Union, ino: u64, index: usize) -> Result<Option<u64>> {
    let dir = Dir::open(&union.mount.target)?;
    let index = i16::try_from(index).context("the index of the branch is too large")?;
    ioctl::busy_inode(dir.fd(), ino, index).map_err(|e| {
        let why = match e {
            Errno::NOTTY => "this kernel module cannot tell which inodes are busy",
            Errno::PERM => "only root may ask which inodes are busy",
            Errno::INVAL => "there is no branch of this index",
            _ => "asking the kernel for busy inodes",
        };
        anyhow::Error::from(e).context(why)
    })
}

/// Fails if this process may not ask which inodes keep the branch of this index, or there is none.
pub fn may_ask(union: &Union, index: usize) -> Result<()> {
    let root = Dir::open(&union.mount.target)?.id().ino;
    on_branch(union, root, index).map(drop)
}

/// All inode numbers in a union; mounts below it are not entered.
pub fn inodes(union: &Union) -> Result<BTreeSet<u64>> {
    let mut all = BTreeSet::new();
    union.walk(&mut |object| {
        all.insert(object.id().ino);
        Ok(())
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;
    use rustix::fs::{AtFlags, StatxFlags};
    use std::fs;

    #[test]
    fn own_uses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let file = fs::File::create(&path).unwrap();
        let flags = AtFlags::EMPTY_PATH;
        let stat = rustix::fs::statx(&file, "", flags, StatxFlags::INO).unwrap();
        let all = uses((stat.stx_dev_major, stat.stx_dev_minor)).unwrap();
        let ours = |u: &&Use| u.pid == std::process::id() && u.ino == stat.stx_ino;
        let found = all.iter().find(ours).unwrap();
        assert_eq!(found.path, path.canonicalize().unwrap());
        assert!(found.how.parse::<u32>().is_ok(), "{}", found.how);
    }
}
