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
            match claim(dir) {
                Err(e) if crate::errno_of(&e) == Some(Errno::BUSY) => {
                    let why = format!("{e:#}");
                    let same = |word: &str| word.trim_end_matches(':') == format!("si={si}");
                    if !why.split_whitespace().any(same) {
                        return Err(e);
                    }
                }
                Ok(Some(_)) => bail!(
                    "{} is no branch of the union si={si}, whatever its path says",
                    dir.path().shown()
                ),
                other => drop(other?),
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

/// `None`: this kernel module cannot, or there is none.
fn claim(dir: &Dir) -> Result<Option<File>> {
    let opened = system::control(CLAIM.as_ref());
    let mut file = match opened {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("{CLAIM} (are you root?)"))?,
    };
    let order = format!("{}\n", dir.fd().as_raw_fd());
    match file.write_all(order.as_bytes()) {
        Ok(()) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            let mut why = Vec::new();
            // Without a reason there is still the refusal.
            let _ = file.take(4096).read_to_end(&mut why);
            let why = harmless(String::from_utf8_lossy(&why).trim());
            Err(e).with_context(|| {
                let path = dir.path();
                format!("{}: {why}; unmount that union first", path.shown())
            })
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
