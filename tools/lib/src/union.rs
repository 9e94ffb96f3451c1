// SPDX-License-Identifier: GPL-2.0

//! A mounted union and its branches.
//!
//! Branches are read from `/sys/fs/aufs/si_<ID>/br<N>`, which shows where they are now, or else
//! from the mount table.

use std::{
    ffi::OsString,
    io::ErrorKind,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure, Context, Result};
use serde::Serialize;

use crate::{
    branch::Access,
    dir::{self, Dir, Object},
    mounts::{self, Mount},
    names::{unescape, Show},
    system,
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
        let id = dir::mount_of(path)?;
        let mount = mounts::table()?.into_iter().find(|mount| mount.id == id);
        match mount {
            Some(mount) if mount.is_union() => Union::of(mount, Path::new(SYSFS)),
            Some(mount) => bail!(
                "{} is not in a union: {} is mounted on {}; `ruaufs status` lists all unions",
                path.shown(),
                mount.fstype,
                mount.target.shown()
            ),
            None => bail!("{} is not in the mount table", path.shown()),
        }
    }

    /// All unions that are mounted in this mount name space. Others may mount and unmount meanwhile.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for mount in mounts::table()?.into_iter().filter(Mount::is_union) {
            let id = mount.id;
            match Union::of(mount, Path::new(SYSFS)) {
                Ok(union) => all.push(union),
                Err(e) if mounts::table()?.iter().any(|mount| mount.id == id) => return Err(e),
                // It has gone.
                Err(_) => {}
            }
        }
        Ok(all)
    }

    fn of(mount: Mount, sysfs: &Path) -> Result<Self> {
        let target = mount.target.shown();
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
    pub fn walk(&self, visit: &mut dyn FnMut(&Object) -> Result<()>) -> Result<()> {
        let root = Dir::open(&self.mount.target)?;
        ensure!(
            root.meta().mount == self.mount.id,
            "{}: another one is mounted there now",
            self.mount.target.shown()
        );
        dir::walk(
            root,
            &mut |dir, name| {
                let object = match dir.get(name) {
                    Err(e) if dir::is_mount(&e) => None,
                    other => other?,
                };
                // Others may be at work: what is gone meanwhile is no error.
                let Some(object) = object else {
                    return Ok(None);
                };
                visit(&object)?;
                match object.meta().is_dir() {
                    true => match object.open_dir() {
                        Err(e) if dir::is_absent(&e) => Ok(None),
                        other => other.map(Some),
                    },
                    false => Ok(None),
                }
            },
            &mut |_, _| Ok(()),
        )
    }

    /// The branch that a user means: its directory, however it is spelled, or its index.
    pub fn branch_or_index(&self, word: &Path) -> Result<&Branch> {
        let index = || word.to_str()?.parse::<usize>().ok();
        self.branch(word).or_else(|error| {
            let by_index = index().and_then(|index| self.branches.get(index));
            by_index.ok_or(error)
        })
    }

    /// The branch that is this directory, however it is spelled.
    pub fn branch(&self, path: &Path) -> Result<&Branch> {
        if let Some(branch) = self.branches.iter().find(|b| b.path == path) {
            return Ok(branch);
        }
        let wanted = Dir::open(path)?.id();
        let same = |b: &&Branch| Dir::open(&b.path).is_ok_and(|dir| dir.id() == wanted);
        self.branches.iter().find(same).with_context(|| {
            let all: Vec<_> = self.branches.iter().map(|b| b.path.shown()).collect();
            format!(
                "{} is no branch of {}: it has {}",
                path.shown(),
                self.mount.target.shown(),
                all.join(", ")
            )
        })
    }
}

/// A union that the kernel has, mounted here or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// What names it in sysfs, as hexadecimal text.
    pub si: String,
    /// The branches, topmost first, as paths from here.
    pub branches: Vec<Branch>,
    /// If it is mounted in this mount name space.
    pub mounted: Option<Union>,
}

impl Registered {
    /// Where it is mounted, or its name in sysfs.
    pub fn shown(&self) -> String {
        match &self.mounted {
            Some(union) => union.mount.target.shown(),
            None => format!("si_{}", self.si),
        }
    }
}

/// All unions that the kernel has: those of other mount name spaces, and those that were unmounted
/// while they were in use, too.
pub fn registered() -> Result<Vec<Registered>> {
    let mut all: Vec<Registered> = Vec::new();
    for union in Union::all()? {
        if all.iter().all(|known| known.si != union.si) {
            all.push(Registered {
                si: union.si.clone(),
                branches: union.branches.clone(),
                mounted: Some(union),
            });
        }
    }
    let sysfs = Path::new(SYSFS);
    let names = match system::names(sysfs) {
        // No module, no union.
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| SYSFS)?,
    };
    for name in names {
        let Some(si) = name.to_str().and_then(|name| name.strip_prefix("si_")) else {
            continue;
        };
        if all.iter().any(|known| known.si == si) {
            continue;
        }
        all.push(Registered {
            si: si.to_owned(),
            branches: from_sysfs(&sysfs.join(&name))?.unwrap_or_default(),
            mounted: None,
        });
    }
    Ok(all)
}

/// `None`: sysfs does not show branches, or there is no such union.
fn from_sysfs(dir: &Path) -> Result<Option<Vec<Branch>>> {
    // Branches may come and go between two files: twice the same is what there was.
    let mut seen = read_sysfs(dir)?;
    for _ in 0..READINGS {
        let again = read_sysfs(dir)?;
        if again == seen {
            break;
        }
        seen = again;
    }
    Ok((!seen.is_empty()).then_some(seen))
}

/// Whoever changes branches all the time is not waited for.
const READINGS: usize = 20;

fn read_sysfs(dir: &Path) -> Result<Vec<Branch>> {
    let mut branches = Vec::new();
    loop {
        let index = branches.len();
        let path = dir.join(format!("br{index}"));
        let text = match system::read(&path) {
            Ok(text) => text,
            Err(e) if is_gone(&e) => return Ok(branches),
            Err(e) => return Err(e).with_context(|| path.shown()),
        };
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let (path, access) = split_shown(text).with_context(|| {
            let text = String::from_utf8_lossy(text);
            format!("{}: no branch: {text:?}", path.shown())
        })?;
        let id = system::read(&dir.join(format!("brid{index}"))).ok();
        let id = id.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
        branches.push(Branch {
            index,
            id,
            path,
            access,
        });
    }
}

/// A file of sysfs that is removed while it is open says that there is no device.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
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
    #![allow(clippy::disallowed_methods)]
    use super::*;
    use std::fs;

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
