// SPDX-License-Identifier: GPL-2.0

//! Looks at a branch's `.wh.` names, with no union mounted, and repairs what can be.

use std::{collections::HashSet, ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use anyhow::{Context, Result};
use rustix::fs::FileType;
use serde::Serialize;

use crate::{
    dir::{self, walk, Dir, Meta},
    names::{self, Meaning, Show},
    plink,
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

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, directory by directory.
    pub findings: Vec<Finding>,
    /// Where something is mounted, so that nothing of what is under or in it was looked at.
    pub mounts: Vec<PathBuf>,
}

impl Check {
    /// Checks all of a branch.
    pub fn branch(&self, root: Dir) -> Result<Report> {
        let mut report = Report::default();
        self.bookkeeping(&root, &mut report)?;
        let id = root.id();
        let mut visit =
            |dir: &Dir, name: &OsStr| self.entry(dir, dir.id() == id, name, &mut report);
        walk(root, &mut visit, &mut |_, _| Ok(()))?;
        Ok(report)
    }

    /// Adds a finding, and repairs it.
    fn add(
        &self,
        report: &mut Report,
        what: What,
        path: PathBuf,
        repair: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let repaired = self.repair && what.is_repairable();
        if repaired {
            repair().with_context(|| format!("repairing {}", path.shown()))?;
        }
        report.findings.push(Finding {
            what,
            path,
            repaired,
        });
        Ok(())
    }

    /// What belongs at the root only.
    fn bookkeeping(&self, root: &Dir, report: &mut Report) -> Result<()> {
        let expected = [
            (names::BASE, FileType::RegularFile),
            (names::PLINKS, FileType::Directory),
            (names::ORPHANS, FileType::Directory),
            (names::RENAMED, FileType::RegularFile),
            (names::COMMIT, FileType::Directory),
        ];
        for (name, kind) in expected {
            match root.get(name.as_ref())? {
                Some(object) if object.meta().kind() != kind => {
                    self.add(report, What::BadBookkeeping, name.into(), || Ok(()))?;
                }
                Some(_) if name == names::COMMIT => {
                    self.add(report, What::Commit, name.into(), || Ok(()))?;
                }
                _ => {}
            }
        }
        let lasting: HashSet<_> = plink::lasting(root)?.into_iter().collect();
        for (name, what) in [(names::PLINKS, What::Plink), (names::ORPHANS, What::Orphan)] {
            let Some(dir) = root.sub(name.as_ref())? else {
                continue;
            };
            for entry in dir.names()? {
                if what == What::Plink && lasting.contains(&entry) {
                    continue;
                }
                let path = PathBuf::from(name).join(&entry);
                self.add(report, what, path, || dir.remove(&entry))?;
            }
        }
        Ok(())
    }

    /// One entry of a directory; if that is a directory of the user's, it is to be entered.
    fn entry(
        &self,
        dir: &Dir,
        is_root: bool,
        name: &OsStr,
        report: &mut Report,
    ) -> Result<Option<Dir>> {
        let object = match dir.get(name) {
            Err(e) if dir::is_mount(&e) => {
                report.mounts.push(dir.below_root(name));
                return Ok(None);
            }
            other => other?,
        };
        let Some(object) = object else {
            return Ok(None);
        };
        if names::meaning(name) == Meaning::Plain {
            if name.len() > names::NAME_MAX {
                self.add(report, What::LongName, dir.below_root(name), || Ok(()))?;
            }
            return object
                .meta()
                .is_dir()
                .then(|| object.open_dir())
                .transpose();
        }
        self.reserved(dir, is_root, name, object.meta(), report)?;
        Ok(None)
    }

    fn reserved(
        &self,
        dir: &Dir,
        is_root: bool,
        name: &OsStr,
        meta: &Meta,
        report: &mut Report,
    ) -> Result<()> {
        let path = || dir.below_root(name);
        match names::meaning(name) {
            Meaning::Whiteout(_) | Meaning::Opaque if !meta.is_file() => {
                self.add(report, What::BadMark, path(), || Ok(()))
            }
            Meaning::Whiteout(of) if dir.has(OsStr::from_bytes(of))? => {
                let of = OsStr::from_bytes(of);
                self.add(report, What::BesideWhiteout, dir.below_root(of), || {
                    separate(dir, of, name)
                })
            }
            Meaning::Plain | Meaning::Whiteout(_) | Meaning::Opaque => Ok(()),
            Meaning::FormerName if meta.is_file() && !is_root => Ok(()),
            Meaning::Bookkeeping if is_root => Ok(()),
            Meaning::Temporary => self.add(report, What::Temporary, path(), || dir.remove(name)),
            Meaning::Bookkeeping | Meaning::FormerName | Meaning::Unknown => {
                self.add(report, What::Unknown, path(), || Ok(()))
            }
        }
    }
}

/// Removes the whiteout of an object that is there. It has hidden what lies on lower branches, which
/// must not appear in a directory now: that gets an opaque mark first.
fn separate(dir: &Dir, name: &OsStr, whiteout: &OsStr) -> Result<()> {
    if let Some(sub) = dir.sub(name)? {
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
    #![allow(clippy::disallowed_methods)]
    use super::*;
    use std::{fs, path::Path};

    fn findings(root: &Path, repair: bool) -> Vec<(What, String, bool)> {
        let report = Check { repair }.branch(Dir::open(root).unwrap()).unwrap();
        assert!(report.mounts.is_empty());
        let tuple = |f: Finding| (f.what, f.path.display().to_string(), f.repaired);
        report.findings.into_iter().map(tuple).collect()
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
