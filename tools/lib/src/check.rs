// SPDX-License-Identifier: GPL-2.0

//! Looks at a branch's `.wh.` names, with no union mounted, and repairs what can be.

use std::{ffi::OsStr, path::PathBuf};

use anyhow::{Context, Result};
use rustix::fs::FileType;
use serde::Serialize;

use crate::{
    dir::{self, Dir},
    names::{self, Meaning},
    object, plink,
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// An object is beside its own whiteout. ruaufs shows it, aufs gives EIO.
    BesideWhiteout,
    /// A whiteout or opaque mark is no regular file: the union gives EIO.
    BadMark,
    /// A bookkeeping name is of the wrong type: the branch cannot be mounted `rw`.
    BadBookkeeping,
    /// A pseudo-link that was not flushed and has no note. The next mount removes it.
    Plink,
    /// A left-over in the directory of orphans. The next mount removes it.
    Orphan,
    /// A temporary object beside others, left by a crash.
    Temporary,
    /// An unfinished `ruaufs commit`.
    Commit,
    /// A reserved name of unknown meaning. Nobody sees it.
    Unknown,
    /// The name is too long for a union: it is listed there but cannot be used.
    LongName,
}

impl What {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            What::BesideWhiteout => "beside its own whiteout",
            What::BadMark => "this mark is no regular file, so the union gives EIO here",
            What::BadBookkeeping => "of the wrong type, so the branch cannot be mounted rw",
            What::Plink => "pseudo-link that was not flushed",
            What::Orphan => "left-over in the directory of orphans",
            What::Temporary => "temporary object, left by a crash",
            What::Commit => "unfinished commit: run `ruaufs commit` again",
            What::Unknown => "reserved name of unknown meaning, which no union shows",
            What::LongName => "name longer than a union can use (242 bytes)",
        }
    }

    /// Whether [`Check::repair`] does something about it.
    pub fn is_repairable(self) -> bool {
        match self {
            What::BesideWhiteout | What::Plink | What::Orphan | What::Temporary => true,
            What::BadMark
            | What::BadBookkeeping
            | What::Commit
            | What::Unknown
            | What::LongName => false,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub what: What,
    /// Where, relative to the branch.
    pub path: PathBuf,
    /// Whether it is right now.
    pub repaired: bool,
}

/// How a branch is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Check {
    /// Make right what can be. Nobody may use the branch.
    pub repair: bool,
}

impl Check {
    /// Checks all of a branch; findings come directory by directory.
    pub fn branch(&self, root: &Dir) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        self.bookkeeping(root, &mut found)?;
        self.directory(root, PathBuf::new(), &mut found)?;
        Ok(found)
    }

    /// Adds a finding, and repairs it.
    fn add(
        &self,
        found: &mut Vec<Finding>,
        what: What,
        path: PathBuf,
        repair: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let repaired = self.repair && what.is_repairable();
        if repaired {
            repair().with_context(|| format!("repairing {}", path.display()))?;
        }
        found.push(Finding {
            what,
            path,
            repaired,
        });
        Ok(())
    }

    /// What belongs at the root only.
    fn bookkeeping(&self, root: &Dir, found: &mut Vec<Finding>) -> Result<()> {
        let expected = [
            (names::BASE, FileType::RegularFile),
            (names::PLINKS, FileType::Directory),
            (names::ORPHANS, FileType::Directory),
            (names::RENAMED, FileType::RegularFile),
            (names::COMMIT, FileType::Directory),
        ];
        for (name, kind) in expected {
            match root.stat_of(name.as_ref())? {
                Some(stat) if dir::kind(&stat) != kind => {
                    self.add(found, What::BadBookkeeping, name.into(), || Ok(()))?;
                }
                Some(_) if name == names::COMMIT => {
                    self.add(found, What::Commit, name.into(), || Ok(()))?;
                }
                _ => {}
            }
        }
        let lasting = plink::lasting(root)?;
        for (name, what) in [(names::PLINKS, What::Plink), (names::ORPHANS, What::Orphan)] {
            let Some(dir) = root.sub_if_there(name.as_ref())? else {
                continue;
            };
            for entry in dir.names()? {
                if what == What::Plink && lasting.contains(&entry) {
                    continue;
                }
                let path = PathBuf::from(name).join(&entry);
                self.add(found, what, path, || object::remove(&dir, &entry))?;
            }
        }
        Ok(())
    }

    fn directory(&self, dir: &Dir, at: PathBuf, found: &mut Vec<Finding>) -> Result<()> {
        let is_root = at.as_os_str().is_empty();
        for name in dir.names()? {
            let path = at.join(&name);
            let Some(stat) = dir.stat_of(&name)? else {
                continue;
            };
            let regular = dir::kind(&stat) == FileType::RegularFile;
            match names::meaning(&name) {
                Meaning::Plain => {
                    if name.len() > names::NAME_MAX {
                        self.add(found, What::LongName, path.clone(), || Ok(()))?;
                    }
                    if dir::is_dir(&stat) {
                        self.directory(&dir.sub(&name)?, path, found)?;
                    }
                }
                Meaning::Whiteout(_) | Meaning::Opaque if !regular => {
                    self.add(found, What::BadMark, path, || Ok(()))?;
                }
                Meaning::Whiteout(of) if dir.has(&of)? => {
                    let path = at.join(&of);
                    self.add(found, What::BesideWhiteout, path, || {
                        separate(dir, &of, &name)
                    })?;
                }
                Meaning::Whiteout(_) | Meaning::Opaque => {}
                Meaning::FormerName if regular && !is_root => {}
                Meaning::Bookkeeping if is_root => {}
                Meaning::Temporary => {
                    self.add(found, What::Temporary, path, || object::remove(dir, &name))?;
                }
                Meaning::Bookkeeping | Meaning::FormerName | Meaning::Unknown => {
                    self.add(found, What::Unknown, path, || Ok(()))?;
                }
            }
        }
        Ok(())
    }
}

/// Removes the whiteout of an object that is there. It has hidden what lies on lower branches, which
/// must not appear in a directory now: that gets an opaque mark first.
fn separate(dir: &Dir, name: &OsStr, whiteout: &OsStr) -> Result<()> {
    if let Some(sub) = dir.sub_if_there(name)? {
        let opaque: &OsStr = names::OPAQUE.as_ref();
        if !sub.has_mark(opaque)? {
            // The whiteout itself becomes the mark: no second file is needed.
            return dir.rename(whiteout, &sub, opaque);
        }
    }
    dir.unlink(whiteout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn findings(root: &Path, repair: bool) -> Vec<(What, String, bool)> {
        let found = Check { repair }.branch(&Dir::open(root).unwrap()).unwrap();
        let tuple = |f: Finding| (f.what, f.path.display().to_string(), f.repaired);
        found.into_iter().map(tuple).collect()
    }

    #[test]
    fn a_sound_branch() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::write(at(".wh..wh.aufs"), "").unwrap();
        for sub in [".wh..wh.plnk", ".wh..wh.orph", "d"] {
            fs::create_dir(at(sub)).unwrap();
        }
        for file in [".wh.gone", "d/.wh..wh..opq", "d/x", "d/.wh..wh..dr.2_1"] {
            fs::write(at(file), "").unwrap();
        }
        assert_eq!(findings(dir.path(), false), []);
        assert_eq!(findings(dir.path(), true), []);
    }

    #[test]
    fn what_is_found_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for sub in [
            ".wh..wh.aufs",
            ".wh..wh.plnk",
            ".wh..wh.orph/t",
            "d/e",
            "f",
            ".wh.bad",
            ".wh..wh.d.0001",
        ] {
            fs::create_dir_all(at(sub)).unwrap();
        }
        let long = "n".repeat(243);
        for file in [
            ".wh..wh.plnk/11.12",
            ".wh..wh.orph/t/u",
            "a",
            ".wh.a",
            ".wh.d",
            "f/.wh..wh..opq",
            ".wh.f",
            "d/.wh..wh.aufs",
            "d/e/.wh..wh.x",
            "d/e/.wh..wh.y.0a0b",
            ".wh..wh.d.0001/z",
            &long,
        ] {
            fs::write(at(file), "").unwrap();
        }
        use What::*;
        let expected = |repaired: bool| {
            let list = [
                (BadBookkeeping, ".wh..wh.aufs"),
                (Plink, ".wh..wh.plnk/11.12"),
                (Orphan, ".wh..wh.orph/t"),
                (Temporary, ".wh..wh.d.0001"),
                (BesideWhiteout, "a"),
                (BadMark, ".wh.bad"),
                (BesideWhiteout, "d"),
                (BesideWhiteout, "f"),
                (Unknown, "d/.wh..wh.aufs"),
                (Unknown, "d/e/.wh..wh.x"),
                (Temporary, "d/e/.wh..wh.y.0a0b"),
                (LongName, &long),
            ];
            let tuple = |(what, path): (What, &str)| {
                (what, path.to_owned(), repaired && what.is_repairable())
            };
            list.into_iter().map(tuple).collect::<Vec<_>>()
        };
        assert_eq!(findings(dir.path(), false), expected(false));
        assert_eq!(findings(dir.path(), true), expected(true));
        // A directory that was beside its whiteout is opaque now.
        assert!(at("d/.wh..wh..opq").is_file() && !at(".wh.d").exists());
        assert!(at("f/.wh..wh..opq").is_file() && !at(".wh.f").exists());
        let left = findings(dir.path(), true);
        let left: Vec<_> = left.into_iter().map(|(what, ..)| what).collect();
        assert_eq!(left, [BadBookkeeping, BadMark, Unknown, Unknown, LongName]);
    }

    #[test]
    fn a_pseudo_link_with_a_note_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(names::PLINKS)).unwrap();
        let noted = dir.path().join(names::PLINKS).join("11.12");
        fs::write(&noted, "").unwrap();
        fs::write(dir.path().join(names::PLINKS).join("11.13"), "").unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(&noted, "trusted.ruaufs.plink", b"x", flags).unwrap();
        let left = format!("{}/11.13", names::PLINKS);
        assert_eq!(findings(dir.path(), true), [(What::Plink, left, true)]);
        assert!(noted.exists());
    }

    #[test]
    fn an_unfinished_commit() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(names::COMMIT)).unwrap();
        assert_eq!(
            findings(dir.path(), true),
            [(What::Commit, names::COMMIT.to_owned(), false)]
        );
    }
}
