// SPDX-License-Identifier: GPL-2.0

//! What one process of the stress test does.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use rustix::fs::{FallocateFlags, FlockOperation};

use super::SHARED;
use crate::harness::{
    dir,
    map::Map,
    random::Random,
    sys::{self, Errno, FileType, OFlags, RenameFlags},
};

/// Files of each process that are on the lower branch from the beginning.
pub(crate) const KEPT: &[&str] = &["a", "b", "c", "d"];
/// Names in the directory of a process.
const NAMES: &[&str] = &["a", "b", "c", "d", "e", "f"];

/// What such a file holds.
pub(crate) fn lower_content(name: &str) -> Vec<u8> {
    name.as_bytes().repeat(6000)
}

/// Works until its time is over, or something is not as it must be.
pub(crate) fn run(arguments: &str) -> Result<()> {
    let fields: Vec<_> = arguments.split(' ').collect();
    let [number, root, seed, seconds] = fields[..] else {
        anyhow::bail!("no worker's arguments");
    };
    let (number, root): (u64, _) = (number.parse()?, PathBuf::from(root));
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut own = Own::new(&root, number);
    let mut shared = Shared::new(&root);
    let mut random = Random::new(seed.parse::<u64>()?.wrapping_mul(1000).wrapping_add(number));
    let mut steps = 0u64;
    while Instant::now() < end {
        match random.below(2) {
            0 => own
                .step(&mut random)
                .with_context(|| format!("step {steps}"))?,
            _ => shared.step(&mut random),
        }
        steps += 1;
        if steps % 50 == 0 {
            own.check().with_context(|| format!("step {steps}"))?;
        }
    }
    drop(shared);
    own.check()
}

/// A directory that no other process changes.
struct Own {
    dir: PathBuf,
    /// What must be there.
    files: BTreeMap<&'static str, Vec<u8>>,
    held: Option<(&'static str, OwnedFd)>,
}

impl Own {
    fn new(root: &Path, number: u64) -> Self {
        Self {
            dir: root.join(format!("own{number}")),
            files: KEPT
                .iter()
                .map(|name| (*name, lower_content(name)))
                .collect(),
            held: None,
        }
    }

    /// One call whose outcome is known.
    fn step(&mut self, random: &mut Random) -> Result<()> {
        let (a, b) = (*random.of(NAMES), *random.of(NAMES));
        let (p, q) = (self.dir.join(a), self.dir.join(b));
        let there = self.files.contains_key(a);
        match random.below(13) {
            0 => {
                let data = vec![random.below(256) as u8; random.below(9000) as usize];
                sys::write(&p, &data)?;
                self.files.insert(a, data);
            }
            1 => match (sys::append(&p, "+"), self.files.get_mut(a)) {
                (Ok(()), Some(data)) => data.push(b'+'),
                (result, None) => wanted(result, Errno::NOENT)?,
                (Err(e), _) => return Err(e.into()),
            },
            2 | 3 => match there {
                true => {
                    sys::unlink(&p)?;
                    self.forget(a);
                    self.files.remove(a);
                }
                false => wanted(sys::unlink(&p), Errno::NOENT)?,
            },
            4 if a != b => match self.files.get(a).cloned() {
                Some(data) => {
                    sys::rename(&p, &q)?;
                    self.forget(a);
                    self.forget(b);
                    self.files.remove(a);
                    self.files.insert(b, data);
                }
                None => wanted(sys::rename(&p, &q), Errno::NOENT)?,
            },
            5 if a != b && there && self.files.contains_key(b) => {
                sys::rename_with(&p, &q, RenameFlags::EXCHANGE)?;
                self.forget(a);
                self.forget(b);
                let (x, y) = (self.files[a].clone(), self.files[b].clone());
                self.files.extend([(a, y), (b, x)]);
            }
            6 => {
                let len = random.below(20_000);
                match self.files.get_mut(a) {
                    Some(data) => {
                        sys::truncate(&p, len)?;
                        data.resize(len as usize, 0);
                    }
                    None => wanted(sys::truncate(&p, len), Errno::NOENT)?,
                }
            }
            7 => match self.files.get(a) {
                Some(data) => ensure!(&sys::read(&p)? == data, "{a} has another content"),
                None => wanted(sys::read(&p), Errno::NOENT)?,
            },
            8 if there => self.held = Some((a, sys::open_ro(&p)?)),
            9 => {
                if let Some((name, fd)) = &self.held {
                    let data = sys::pread_fd(fd)?;
                    ensure!(
                        data == self.files[name],
                        "{name}, held, has another content"
                    );
                }
            }
            10 if there => sys::chmod(&p, 0o600 + random.below(0o200) as u32)?,
            11 => match there {
                true => wanted(sys::mkdir(&p), Errno::EXIST)?,
                false => {
                    sys::mkdir(&p)?;
                    sys::rmdir(&p)?;
                }
            },
            12 => self.check_names()?,
            _ => {}
        }
        Ok(())
    }

    /// The name leads to something else now.
    fn forget(&mut self, name: &str) {
        self.held = self.held.take().filter(|(held, _)| *held != name);
    }

    fn check_names(&self) -> Result<()> {
        let names = dir::names(&self.dir)?;
        ensure!(
            names
                .iter()
                .map(String::as_str)
                .eq(self.files.keys().copied()),
            "{names:?} are listed, not {:?}",
            self.files.keys()
        );
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.check_names()?;
        for (name, data) in &self.files {
            let path = self.dir.join(name);
            ensure!(&sys::read(&path)? == data, "{name} has another content");
            ensure!(sys::lstat(&path)?.st_size as usize == data.len());
        }
        Ok(())
    }
}

fn wanted<T>(result: sys::Res<T>, errno: Errno) -> Result<()> {
    match result {
        Err(e) if e.errno == errno => Ok(()),
        Err(e) => Err(e.into()),
        Ok(_) => anyhow::bail!("succeeded, but {errno} is wanted"),
    }
}

/// What all processes do to each other.
struct Shared {
    root: PathBuf,
    held: Vec<OwnedFd>,
}

impl Shared {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            held: Vec::new(),
        }
    }

    fn path(&self, random: &mut Random) -> PathBuf {
        const PLACES: &[&str] = &[
            "n0",
            "n1",
            "n2",
            "n3",
            "link",
            "d",
            "d/deep",
            "d/deep/file",
            "d/n4",
            "new",
            "d/new",
        ];
        let dir = self
            .root
            .join(format!("all{}", random.below(SHARED as u64)));
        dir.join(random.of(PLACES))
    }

    /// Any call, on anything.
    fn step(&mut self, random: &mut Random) {
        let (p, q) = (self.path(random), self.path(random));
        match random.below(30) {
            0 | 1 => drop(sys::write(&p, vec![b's'; random.below(20_000) as usize])),
            2 => drop(sys::append(&p, "+")),
            3 | 4 => drop(sys::unlink(&p)),
            5 => drop(sys::mkdir(&p)),
            6 => drop(sys::rmdir(&p)),
            7 | 8 => drop(sys::rename(&p, &q)),
            9 => drop(sys::rename_with(&p, &q, RenameFlags::EXCHANGE)),
            10 => drop(sys::rename_with(&p, &q, RenameFlags::NOREPLACE)),
            11 => drop(sys::link(&p, &q)),
            12 => drop(sys::symlink("n1", &p)),
            // Not a FIFO: who opens it would wait for somebody at its other end.
            13 => drop(sys::mknod(&p, FileType::Socket, 0o600, 0)),
            14 => drop(sys::chmod(&p, 0o700 + random.below(0o100) as u32)),
            15 => drop(sys::chown(&p, Some(random.below(4) as u32), None)),
            16 => drop(sys::utimens(&p, (5, 0), (7, 0))),
            17 => drop(sys::set_xattr(
                &p,
                "user.k",
                vec![b'x'; random.below(300) as usize],
            )),
            18 => drop(sys::remove_xattr(&p, "user.k").or(sys::list_xattr(&p).map(drop))),
            19 => drop(sys::truncate(&p, random.below(90_000))),
            20 => drop(dir::list(&p)),
            21 => drop(sys::read(&p).or(sys::readlink(&p).map(String::into_bytes))),
            22 => self
                .held
                .extend(sys::open(&p, OFlags::RDWR | OFlags::NONBLOCK).ok()),
            23 => self
                .held
                .extend(sys::open(&p, OFlags::RDONLY | OFlags::NONBLOCK).ok()),
            24 => drop(sys::open(&p, OFlags::TMPFILE | OFlags::RDWR).map(|fd| {
                let written = sys::write_fd(&fd, b"unnamed");
                (written, sys::link_fd(&fd, &q))
            })),
            25 => self.with_held(random, |fd, random| {
                ignore(rustix::io::pwrite(fd, b"h", random.below(9000)))
            }),
            26 => self.with_held(random, |fd, _| {
                let map = Map::shared_ro(fd, 4096);
                // Cut short meanwhile, it would fault: only what is surely there is read.
                drop((map, rustix::fs::fsync(fd)));
            }),
            27 => self.with_held(random, |fd, random| {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                ignore(rustix::fs::fallocate(fd, flags, random.below(9000), 4096));
                ignore(rustix::fs::flock(
                    fd,
                    FlockOperation::NonBlockingLockExclusive,
                ));
            }),
            28 => {
                if let (Some(from), Some(to)) = (self.held.first(), self.held.last()) {
                    ignore(rustix::fs::copy_file_range(from, None, to, None, 5000));
                }
            }
            _ => self.with_held(random, |fd, _| drop((sys::fstat(fd), sys::pread_fd(fd)))),
        }
        if self.held.len() > 6 {
            self.held.remove(0);
        }
    }

    fn with_held(&self, random: &mut Random, f: impl FnOnce(&OwnedFd, &mut Random)) {
        if !self.held.is_empty() {
            let at = random.below(self.held.len() as u64) as usize;
            f(&self.held[at], random);
        }
    }
}

/// Others are at work, so any result will do.
fn ignore<T>(_: rustix::io::Result<T>) {}
