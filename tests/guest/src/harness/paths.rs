// SPDX-License-Identifier: GPL-2.0

//! A FUSE file system, served by this program, that shows a directory and has an object for each
//! *path*, as most servers have that are made with libfuse: two names of one file are two objects
//! with a number, a page cache and attributes each. It has no extended attributes.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Command,
    thread::JoinHandle,
};

use anyhow::{ensure, Context, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::{
    context::Ctx,
    sys::{self, FileType, OFlags},
    users,
};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const FSYNCDIR: u32 = 30;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The length of a request's head.
const HEAD: usize = 40;

/// A mounted one. Dropping it unmounts it.
pub(crate) struct Paths {
    mount: PathBuf,
    thread: Option<JoinHandle<()>>,
}

struct Server {
    device: File,
    /// By number, from 1.
    paths: Vec<PathBuf>,
}

/// A request, and where it is read.
struct Request<'a>(&'a [u8]);

impl<'a> Request<'a> {
    fn long(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().expect("8 bytes"))
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }

    /// The strings that follow `skip` bytes of arguments.
    fn names(&self, skip: usize) -> impl Iterator<Item = PathBuf> + 'a {
        let names = self.0[HEAD + skip..].split(|byte| *byte == 0);
        names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
    }

    fn name(&self, skip: usize) -> PathBuf {
        self.names(skip).next().unwrap_or_default()
    }
}

fn longs(to: &mut Vec<u8>, words: &[u64]) {
    to.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

fn words(to: &mut Vec<u8>, words: &[u32]) {
    to.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

fn error<T>(result: sys::Res<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::from_raw_os_error(e.errno.raw_os_error()))
}

impl Server {
    fn path(&self, number: u64) -> PathBuf {
        self.paths[number as usize - 1].clone()
    }

    fn number(&mut self, path: &Path) -> u64 {
        let at = self.paths.iter().position(|known| known == path);
        let at = at.unwrap_or_else(|| {
            self.paths.push(path.to_owned());
            self.paths.len() - 1
        });
        at as u64 + 1
    }

    /// Objects at and below `old` have another path from now on.
    fn moved(&mut self, old: &Path, new: &Path) {
        let gone = Path::new("/nonexistent");
        for path in &mut self.paths {
            if path == new {
                *path = gone.to_owned();
            }
            if let Ok(rest) = path.strip_prefix(old) {
                *path = if rest.as_os_str().is_empty() {
                    new.to_owned()
                } else {
                    new.join(rest)
                };
            }
        }
    }

    fn attributes(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let meta = fs::symlink_metadata(path)?;
        let mut out = Vec::new();
        let number = self.number(path);
        let (atime, mtime, ctime) = (meta.atime(), meta.mtime(), meta.ctime());
        longs(&mut out, &[number, meta.size(), meta.blocks()]);
        longs(&mut out, &[atime as u64, mtime as u64, ctime as u64]);
        let (atime, mtime, ctime) = (meta.atime_nsec(), meta.mtime_nsec(), meta.ctime_nsec());
        words(&mut out, &[atime as u32, mtime as u32, ctime as u32]);
        words(
            &mut out,
            &[meta.mode(), meta.nlink() as u32, meta.uid(), meta.gid()],
        );
        words(&mut out, &[meta.rdev() as u32, 4096, 0]);
        Ok(out)
    }

    /// An object as the answer to what looks it up or makes it.
    fn entry(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let attributes = self.attributes(path)?;
        let mut out = Vec::new();
        longs(&mut out, &[self.number(path), 0, 0, 0, 0]);
        out.extend(attributes);
        Ok(out)
    }

    fn change(&mut self, request: &Request<'_>, path: &Path) -> io::Result<()> {
        const MODE: u32 = 1;
        const UID: u32 = 2;
        const GID: u32 = 4;
        const SIZE: u32 = 8;
        const ATIME: u32 = 16;
        const MTIME: u32 = 32;
        let valid = request.word(HEAD);
        let has = |bit: u32| valid & bit != 0;
        if has(SIZE) {
            error(sys::truncate(path, request.long(HEAD + 16)))?;
        }
        let owner = |bit: u32, at: usize| has(bit).then(|| request.word(HEAD + at));
        if has(UID) || has(GID) {
            error(sys::chown(path, owner(UID, 76), owner(GID, 80)))?;
        }
        if has(MODE) {
            error(sys::chmod(path, request.word(HEAD + 68) & 0o7777))?;
        }
        if has(ATIME) && has(MTIME) {
            let time = |sec: usize, nsec: usize| {
                (
                    request.long(HEAD + sec) as i64,
                    request.word(HEAD + nsec).into(),
                )
            };
            error(sys::utimens(path, time(32, 56), time(40, 60)))?;
        }
        Ok(())
    }

    fn listing(&mut self, request: &Request<'_>, path: &Path) -> io::Result<Vec<u8>> {
        let (from, size) = (request.long(HEAD + 8), request.word(HEAD + 16) as usize);
        let mut out = Vec::new();
        let mut all = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        all.sort_by_key(fs::DirEntry::file_name);
        for (n, entry) in all.iter().enumerate().skip(from as usize) {
            let name = entry.file_name().into_encoded_bytes();
            let mode = entry.metadata()?.mode();
            let mut one = Vec::new();
            longs(&mut one, &[self.number(&entry.path()), n as u64 + 1]);
            words(&mut one, &[name.len() as u32, mode >> 12]);
            one.extend(name);
            one.resize(one.len().next_multiple_of(8), 0);
            if out.len() + one.len() > size {
                break;
            }
            out.extend(one);
        }
        Ok(out)
    }

    fn answer(&mut self, request: &Request<'_>) -> io::Result<Vec<u8>> {
        let operation = request.word(4);
        if operation == INIT {
            let mut out = Vec::new();
            words(&mut out, &[7, 31, request.word(HEAD + 8), 0, 0, 65536, 1]);
            out.resize(64, 0);
            return Ok(out);
        }
        let path = self.path(request.long(16));
        match operation {
            LOOKUP => self.entry(&path.join(request.name(0))),
            GETATTR => {
                let mut out = vec![0; 16];
                out.extend(self.attributes(&path)?);
                Ok(out)
            }
            SETATTR => {
                self.change(request, &path)?;
                let mut out = vec![0; 16];
                out.extend(self.attributes(&path)?);
                Ok(out)
            }
            READLINK => Ok(error(sys::readlink(&path))?.into_bytes()),
            SYMLINK => {
                let (name, target) = (request.name(0), request.names(0).nth(1));
                let new = path.join(name);
                error(sys::symlink(target.unwrap_or_default(), &new))?;
                self.entry(&new)
            }
            MKNOD => {
                let (mode, new) = (request.word(HEAD), path.join(request.name(16)));
                let kind = FileType::from_raw_mode(mode);
                error(sys::mknod(
                    &new,
                    kind,
                    mode & 0o7777,
                    request.word(HEAD + 4).into(),
                ))?;
                self.entry(&new)
            }
            MKDIR => {
                let new = path.join(request.name(8));
                error(sys::mkdir_mode(&new, request.word(HEAD) & 0o7777))?;
                self.entry(&new)
            }
            UNLINK | RMDIR => {
                let old = path.join(request.name(0));
                match operation {
                    UNLINK => fs::remove_file(&old)?,
                    _ => fs::remove_dir(&old)?,
                }
                self.moved(&old, Path::new("/nonexistent"));
                Ok(Vec::new())
            }
            RENAME => {
                let to = self.path(request.long(HEAD));
                let mut names = request.names(8);
                let old = path.join(names.next().unwrap_or_default());
                let new = to.join(names.next().unwrap_or_default());
                fs::rename(&old, &new)?;
                self.moved(&old, &new);
                Ok(Vec::new())
            }
            LINK => {
                let new = path.join(request.name(8));
                fs::hard_link(self.path(request.long(HEAD)), &new)?;
                self.entry(&new)
            }
            OPEN | OPENDIR => Ok(vec![0; 16]),
            READ => {
                let mut out = vec![0; request.word(HEAD + 16) as usize];
                let len = File::open(&path)?.read_at(&mut out, request.long(HEAD + 8))?;
                out.truncate(len);
                Ok(out)
            }
            WRITE => {
                let file = File::options().write(true).open(&path)?;
                file.write_all_at(&request.0[HEAD + 40..], request.long(HEAD + 8))?;
                let mut out = Vec::new();
                words(&mut out, &[request.word(HEAD + 16), 0]);
                Ok(out)
            }
            STATFS => {
                let mut out = Vec::new();
                longs(&mut out, &[1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19]);
                words(&mut out, &[4096, 255, 4096, 0]);
                out.resize(80, 0);
                Ok(out)
            }
            READDIR => self.listing(request, &path),
            RELEASEDIR | RELEASE | FLUSH | FSYNC | FSYNCDIR => Ok(Vec::new()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }

    fn serve(mut self) {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let len = match (&self.device).read(&mut buffer) {
                Ok(len) => len,
                // One that was taken back, or a signal.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                Err(_) => return,
            };
            let request = Request(&buffer[..len]);
            if matches!(request.word(4), FORGET | BATCH_FORGET | INTERRUPT) {
                continue;
            }
            let (errno, body) = match self.answer(&request) {
                Ok(body) => (0, body),
                Err(e) => (e.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
            };
            let mut out = Vec::new();
            words(
                &mut out,
                &[16 + body.len() as u32, errno.wrapping_neg() as u32],
            );
            longs(&mut out, &[request.long(8)]);
            out.extend(body);
            // Who asked may have given up.
            let _ = (&self.device).write(&out);
        }
    }
}

impl Paths {
    /// Shows the directory `home` at a fresh mount point.
    pub(crate) fn mount(cx: &Ctx, home: &Path) -> Result<Self> {
        let status = Command::new("modprobe").arg("fuse").status()?;
        ensure!(status.success(), "modprobe fuse");
        let mount = cx.mount_point()?;
        let device = sys::open_mode("/dev/fuse", OFlags::RDWR, 0)?;
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let data = CString::new(data)?;
        rustix::mount::mount("fuse", &mount, "fuse", MountFlags::empty(), data.as_c_str())
            .context("mount of type fuse")?;
        let server = Server {
            device: device.into(),
            paths: vec![home.to_owned()],
        };
        // What it makes has the mode that is asked for.
        let thread = std::thread::spawn(move || users::with_umask(0, || server.serve()));
        Ok(Self {
            mount,
            thread: Some(thread),
        })
    }

    /// Its root.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Paths {
    fn drop(&mut self) {
        // Whether it was busy shows as a mount that is left.
        if rustix::mount::unmount(&self.mount, UnmountFlags::empty()).is_ok() {
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
