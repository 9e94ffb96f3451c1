// SPDX-License-Identifier: GPL-2.0

//! A branch for ourselves: no union has it, none gets it, and no other tool works on it.
//!
//! Which unions there are is asked of the kernel, which knows those of other mount name spaces and
//! those that were unmounted but are in use. Where it can, it keeps directories free for us as long
//! as [`CLAIM`] is open.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::AsRawFd,
    path::Path,
};

use anyhow::{bail, ensure, Context, Result};
use rustix::{fs::FlockOperation, io::Errno};

use crate::{
    dir::{Dir, Id},
    names::{harmless, Show},
    system,
    union::{self, Registered},
};

/// Where directories are claimed: a descriptor's number is written.
pub const CLAIM: &str = "/proc/fs/aufs/claim";
/// Where tools keep each other out.
const LOCKS: &str = "/run/ruaufs";

/// Directories that are ours while this lives.
#[derive(Debug)]
pub struct Claim {
    _kernel: Vec<File>,
    _locks: Vec<File>,
}

impl Claim {
    /// Claims directories that no union has.
    pub fn new(dirs: &[&Dir]) -> Result<Self> {
        let locks = Self::lock(dirs)?;
        let mut kernel = Vec::new();
        for dir in dirs {
            kernel.extend(claim(dir)?);
        }
        if let (true, Some(user)) = (kernel.is_empty(), users(dirs)?.first()) {
            bail!(
                "{} is in use by the union {}; unmount it first",
                user.path.shown(),
                user.union.shown()
            );
        }
        Ok(Claim {
            _kernel: kernel,
            _locks: locks,
        })
    }

    /// Keeps other tools out of directories that the union `si` has, which is held otherwise.
    pub fn beside(si: &str, dirs: &[&Dir]) -> Result<Self> {
        for dir in dirs {
            // It is refused, and the reason is that union: it is this very directory that it has.
            match ask(dir)? {
                Answer::Taken(why) if why.is_of(si) => {}
                Answer::Taken(why) => return Err(why.error(dir)),
                Answer::Ours(_) => bail!(
                    "{} is no branch of the union si={si}, whatever its path says",
                    dir.path().shown()
                ),
                Answer::Unknown => {}
            }
        }
        Ok(Claim {
            _kernel: Vec::new(),
            _locks: Self::lock(dirs)?,
        })
    }

    fn lock(dirs: &[&Dir]) -> Result<Vec<File>> {
        // Always in the same order.
        let mut ids: Vec<_> = dirs.iter().map(|dir| (dir.id(), dir)).collect();
        ids.sort_by_key(|(id, _)| *id);
        ids.into_iter().map(|(id, dir)| lock(id, dir)).collect()
    }
}

/// What the kernel says to a claim.
enum Answer {
    /// It is ours as long as this is open.
    Ours(File),
    /// Somebody else has it.
    Taken(Taken),
    /// This kernel module cannot tell, or there is none.
    Unknown,
}

/// Who has a directory, in the kernel's words: `the directory is a branch of the union si=ID: PATH`.
struct Taken(String);

impl Taken {
    /// Whether it is this union. Paths, which may contain anything, come after its name.
    fn is_of(&self, si: &str) -> bool {
        let (said, _) = self.0.split_once(':').unwrap_or((&self.0, ""));
        let named = said.split_once(" of the union si=");
        named.is_some_and(|(_, named)| named == si)
    }

    fn error(self, dir: &Dir) -> anyhow::Error {
        let path = dir.path();
        let why = harmless(self.0.trim());
        anyhow::Error::from(Errno::BUSY)
            .context(format!("{}: {why}; unmount that union first", path.shown()))
    }
}

fn claim(dir: &Dir) -> Result<Option<File>> {
    match ask(dir)? {
        Answer::Ours(file) => Ok(Some(file)),
        Answer::Taken(why) => Err(why.error(dir)),
        Answer::Unknown => Ok(None),
    }
}

fn ask(dir: &Dir) -> Result<Answer> {
    let opened = system::control(CLAIM.as_ref());
    let mut file = match opened {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Answer::Unknown),
        other => other.with_context(|| format!("{CLAIM} (are you root?)"))?,
    };
    let order = format!("{}\n", dir.fd().as_raw_fd());
    match file.write_all(order.as_bytes()) {
        Ok(()) => Ok(Answer::Ours(file)),
        Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            let mut why = Vec::new();
            // Without a reason there is still the refusal.
            let _ = file.take(4096).read_to_end(&mut why);
            Ok(Answer::Taken(Taken(
                String::from_utf8_lossy(&why).into_owned(),
            )))
        }
        Err(e) => Err(e).with_context(|| format!("{}: {CLAIM}", dir.path().shown())),
    }
}

/// Takes a lock in a directory of root's: one on the branch itself could be held by anybody.
fn lock(id: Id, dir: &Dir) -> Result<File> {
    let locks = system::own_directory(Path::new(LOCKS))?;
    let name = format!("{:x}-{:x}.lock", id.dev, id.ino);
    let file = system::own_file(&locks, name.as_ref())?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(e) => Err(e).with_context(|| {
            let path = dir.path();
            format!(
                "{}: another commit or repair works on this branch",
                path.shown()
            )
        }),
    }
}

/// A union that has one of some directories, or one above or below it.
#[derive(Clone, Debug)]
pub struct User {
    /// The union.
    pub union: Registered,
    /// Its branch.
    pub path: std::path::PathBuf,
    /// Which of the directories the branch is; `None` if it is above or below it.
    pub is: Option<usize>,
}

/// All unions that have one of these directories as a branch, or one above or below it, as far as
/// their branches can be reached from here.
pub fn users(dirs: &[&Dir]) -> Result<Vec<User>> {
    let mut users = Vec::new();
    for union in union::registered()? {
        for branch in &union.branches {
            // What is not there any more, or not here, the kernel must tell.
            let Ok(open) = Dir::open(&branch.path) else {
                continue;
            };
            for (at, dir) in dirs.iter().enumerate() {
                let same = open.id() == dir.id();
                if same || open.is_within(dir.id())? || dir.is_within(open.id())? {
                    users.push(User {
                        union: union.clone(),
                        path: branch.path.clone(),
                        is: same.then_some(at),
                    });
                }
            }
        }
    }
    Ok(users)
}

/// Fails if a directory lies in another one.
pub fn apart(one: &Dir, other: &Dir) -> Result<()> {
    ensure!(
        !one.is_within(other.id())? && !other.is_within(one.id())?,
        "{} and {} lie one in the other",
        one.path().shown(),
        other.path().shown()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_branch() {
        let is = |why: &str| Taken(why.to_owned()).is_of("1f");
        assert!(is(
            "the directory is a writable branch of the union si=1f: /up\n"
        ));
        assert!(is(
            "the directory overlaps a branch of the union si=1f: /up\n"
        ));
        for other in [
            "",
            "the directory is a branch of the union si=2: /a si=1f: of the union si=1f: /b\n",
            "the directory is a branch of the union si=1f0: /up\n",
            "the directory is a directory that process 1 (si=1f) has claimed: /up\n",
        ] {
            assert!(!is(other), "{other}");
        }
    }
}
