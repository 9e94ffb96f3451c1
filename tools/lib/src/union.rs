// SPDX-License-Identifier: GPL-2.0

//! A mounted union and its branches.
//!
//! Branches are read from `/sys/fs/aufs/si_<ID>/br<N>`, which shows where they are now, or else
//! from the mount table.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};
use rustix::fs::Stat;
use serde::Serialize;

use crate::{
    branch::Access,
    dir::{self, Dir},
    mounts::{self, Mount},
    names::unescape,
};

/// Where aufs and ruaufs show their unions.
pub const SYSFS: &str = "/sys/fs/aufs";

/// A branch of a mounted union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its position, 0 is the topmost.
    pub index: usize,
    /// Its number, which stays the same; `None` if the kernel does not show it.
    pub id: Option<i64>,
    /// The directory.
    pub path: PathBuf,
    /// What the union may do with it.
    pub access: Access,
}

/// Where branches were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `/sys/fs/aufs`
    Sysfs,
    /// `/proc/self/mountinfo`
    Mounts,
}

/// A mounted union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union {
    /// Its line in the mount table.
    pub mount: Mount,
    /// What names it in sysfs, as hexadecimal text.
    pub si: String,
    /// The branches, topmost first.
    pub branches: Vec<Branch>,
    /// Where they were read from.
    pub origin: Origin,
}

impl Union {
    /// The union that a path is in: a mount point or anything below it.
    pub fn at(path: &Path) -> Result<Self> {
        let id = mounts::id_of(path)?;
        let mount = mounts::table()?.into_iter().find(|mount| mount.id == id);
        match mount {
            Some(mount) if mount.is_union() => Union::of(mount, Path::new(SYSFS)),
            Some(mount) => bail!(
                "{} is not in a union: {} is mounted on {}; `ruaufs status` lists all unions",
                path.display(),
                mount.fstype,
                mount.target.display()
            ),
            None => bail!("{} is not in the mount table", path.display()),
        }
    }

    /// All unions of this mount name space.
    pub fn all() -> Result<Vec<Self>> {
        let unions = mounts::table()?.into_iter().filter(Mount::is_union);
        unions
            .map(|mount| Union::of(mount, Path::new(SYSFS)))
            .collect()
    }

    fn of(mount: Mount, sysfs: &Path) -> Result<Self> {
        let target = mount.target.display();
        let si = mount
            .option("si")
            .with_context(|| format!("{target}: no si= in the mount table"))?;
        let si = String::from_utf8_lossy(si).into_owned();
        if let Some(branches) = from_sysfs(&sysfs.join(format!("si_{si}")))? {
            return Ok(Union {
                mount,
                si,
                branches,
                origin: Origin::Sysfs,
            });
        }
        let branches = from_options(&mount.fs_options);
        if branches.is_empty() {
            bail!("{target}: neither {SYSFS}/si_{si} nor the mount table shows its branches");
        }
        Ok(Union {
            mount,
            si,
            branches,
            origin: Origin::Mounts,
        })
    }

    /// Whether the super block is read-only.
    pub fn is_read_only(&self) -> bool {
        self.mount.has_option("ro")
    }

    /// Visits all objects in it but its root; mounts below it are not entered.
    pub fn walk(&self, visit: Visit<'_>) -> Result<()> {
        let root = Dir::open(&self.mount.target)?;
        let dev = root.stat()?.st_dev;
        walk(&root, dev, visit)
    }

    /// The branch that is this directory, however it is spelled.
    pub fn branch(&self, path: &Path) -> Result<&Branch> {
        let wanted = identity(path)?;
        let mut found = self.branches.iter().filter(|b| b.path == path);
        if let Some(branch) = found.next() {
            return Ok(branch);
        }
        let same = |b: &&Branch| identity(&b.path).is_ok_and(|i| i == wanted);
        self.branches.iter().find(same).with_context(|| {
            let all: Vec<_> = self
                .branches
                .iter()
                .map(|b| b.path.display().to_string())
                .collect();
            format!(
                "{} is no branch of {}: it has {}",
                path.display(),
                self.mount.target.display(),
                all.join(", ")
            )
        })
    }
}

/// Called with a directory, a name in it, and the attributes of that object.
pub type Visit<'a> = &'a mut dyn FnMut(&Dir, &OsStr, &Stat) -> Result<()>;

fn walk(dir: &Dir, dev: u64, visit: Visit<'_>) -> Result<()> {
    for name in dir.names()? {
        // Others may be at work: what is gone meanwhile is no error.
        let Some(stat) = dir.stat_of(&name)? else {
            continue;
        };
        if stat.st_dev != dev {
            continue;
        }
        visit(dir, &name, &stat)?;
        if dir::is_dir(&stat) {
            if let Some(sub) = dir.sub_if_there(&name)? {
                walk(&sub, dev, visit)?;
            }
        }
    }
    Ok(())
}

/// Device and inode number of a directory.
pub fn identity(path: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::stat(path).with_context(|| format!("{}", path.display()))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// `None`: sysfs does not show branches.
fn from_sysfs(dir: &Path) -> Result<Option<Vec<Branch>>> {
    let mut branches = Vec::new();
    loop {
        let index = branches.len();
        let path = dir.join(format!("br{index}"));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
            Err(e) => return Err(e).with_context(|| format!("{}", path.display())),
        };
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let (path, access) = split_shown(text).with_context(|| {
            format!(
                "{}: no branch: {:?}",
                path.display(),
                String::from_utf8_lossy(text)
            )
        })?;
        let id = fs::read_to_string(dir.join(format!("brid{index}"))).ok();
        let id = id.and_then(|text| text.trim().parse().ok());
        branches.push(Branch {
            index,
            id,
            path,
            access,
        });
    }
    Ok((!branches.is_empty()).then_some(branches))
}

/// `PATH=ACCESS` as the kernel shows it. A path may have got an `=` by a move since it was given.
fn split_shown(text: &[u8]) -> Option<(PathBuf, Access)> {
    let at = text.iter().rposition(|b| *b == b'=')?;
    let access = std::str::from_utf8(&text[at + 1..]).ok()?;
    Some((path_of(&text[..at]), Access::shown(access)))
}

fn path_of(escaped: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(escaped)))
}

/// Branches from the options in the mount table: `br=` repeated (type ruaufs), or one `br:` with
/// colons (type aufs, module parameter `brs=0`).
pub fn from_options(options: &[u8]) -> Vec<Branch> {
    let mut branches = Vec::new();
    for option in options.split(|b| *b == b',') {
        let Some(mut list) = option
            .strip_prefix(b"br=")
            .or_else(|| option.strip_prefix(b"br:"))
        else {
            continue;
        };
        // A path may have a colon in it, but no `=`; an access has neither.
        while let Some(eq) = list.iter().position(|b| *b == b'=') {
            let end = list[eq..]
                .iter()
                .position(|b| *b == b':')
                .map_or(list.len(), |n| eq + n);
            branches.push(Branch {
                index: branches.len(),
                id: None,
                path: path_of(&list[..eq]),
                access: Access::shown(&String::from_utf8_lossy(&list[eq + 1..end])),
            });
            list = list.get(end + 1..).unwrap_or_default();
        }
    }
    branches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(branches: &[Branch]) -> Vec<(String, String)> {
        let pair = |b: &Branch| (b.path.display().to_string(), b.access.to_string());
        branches.iter().map(pair).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn branches_in_options() {
        let of = |text: &str| shown(&from_options(text.as_bytes()));
        assert_eq!(
            of("rw,si=1f,udba=none,br=/a\\054b=rw,br=/c\\040d\\075=ro+wh"),
            pairs(&[("/a,b", "rw"), ("/c d=", "ro+wh")])
        );
        assert_eq!(
            of("rw,si=1,br:/a=rw:/b:c=ro+wh:/d=rr"),
            pairs(&[("/a", "rw"), ("/b:c", "ro+wh"), ("/d", "rr")])
        );
        assert_eq!(of("rw,si=1,dirperm1"), pairs(&[]));
        assert_eq!(of("br="), pairs(&[]));
    }

    #[test]
    fn branches_in_sysfs() {
        let sysfs = tempfile::tempdir().unwrap();
        let dir = sysfs.path().join("si_9f");
        assert_eq!(from_sysfs(&dir).unwrap(), None);
        fs::create_dir(&dir).unwrap();
        assert_eq!(from_sysfs(&dir).unwrap(), None);
        fs::write(dir.join("br0"), "/up\\040per=rw\n").unwrap();
        fs::write(dir.join("brid0"), "64\n").unwrap();
        fs::write(dir.join("br1"), "/x=y=ro+wh\n").unwrap();
        let branches = from_sysfs(&dir).unwrap().unwrap();
        assert_eq!(
            shown(&branches),
            pairs(&[("/up per", "rw"), ("/x=y", "ro+wh")])
        );
        assert_eq!((branches[0].id, branches[1].id), (Some(64), None));

        let line = b"40 21 0:38 / /m rw - ruaufs none rw,si=9f,br=/old=rw\n";
        let mount = || mounts::parse(line).remove(0);
        let union = Union::of(mount(), sysfs.path()).unwrap();
        assert_eq!((union.origin, union.branches.len()), (Origin::Sysfs, 2));
        let union = Union::of(mount(), Path::new("/nowhere")).unwrap();
        assert_eq!(union.origin, Origin::Mounts);
        assert_eq!(shown(&union.branches), pairs(&[("/old", "rw")]));
    }

    #[test]
    fn not_in_a_union() {
        let error = Union::at(Path::new("/proc")).unwrap_err().to_string();
        assert!(
            error.contains("/proc is not in a union: proc is mounted on"),
            "{error}"
        );
    }
}
