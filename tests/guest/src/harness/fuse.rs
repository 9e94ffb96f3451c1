// SPDX-License-Identifier: GPL-2.0

//! A FUSE file system served by this program, which may keep requests waiting.
//!
//! Its root holds one regular file, [`FILE`], of [`SIZE`] bytes, and one directory, [`DIR`], which is
//! empty; it cannot be written. The kernel is told to ask for each name anew.
//!
//! On demand ([`Fuse::with_work`]) it also has what a writable branch needs, and there a pseudo-link
//! that nothing is noted of. That is still there after it was removed, as if somebody had made it
//! anew.

use std::{
    ffi::CString,
    fs::File,
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::{context::Ctx, sys::Errno};

/// The file.
pub(crate) const FILE: &str = "f";
/// The directory, of root, with the mode 0770.
pub(crate) const DIR: &str = "d";
/// What a writable branch has at its root, and the numbers of that.
const WORK: [(&str, u64); 3] = [
    (".wh..wh.aufs", 4),
    (".wh..wh.plnk", PLINKS),
    (".wh..wh.orph", 6),
];
/// The number of the directory of pseudo-links.
const PLINKS: u64 = 5;
/// A pseudo-link, by the inode number of the union and its own.
const LEFT: (&str, u64) = ("10.7", 7);
/// The size of the file.
pub(crate) const SIZE: u64 = 1 << 16;

/// Requests that can be kept waiting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// For a name in the root.
    Lookup(String),
    /// For contents of the file.
    Read,
    /// For the names of attributes.
    ListXattr,
    /// For free space.
    Statfs,
    /// For an extended attribute.
    Xattr,
    /// To set one.
    SetXattr,
}

/// What the daemon does with a request before it answers.
type Act = Box<dyn FnMut(&Request) + Send>;

#[derive(Default)]
struct State {
    /// These wait.
    held: Vec<Request>,
    /// Those that do.
    waiting: Vec<Vec<u8>>,
    /// How many ever did.
    seen: usize,
    /// How many names were removed.
    removed: usize,
    /// The file is not there any more.
    gone: bool,
}

struct Daemon {
    device: File,
    state: Mutex<State>,
    changed: Condvar,
    act: Mutex<Option<Act>>,
    with_work: bool,
}

/// A mounted one. Dropping it lets all requests go on and unmounts it.
pub(crate) struct Fuse {
    daemon: Arc<Daemon>,
    mount: PathBuf,
    thread: Option<JoinHandle<()>>,
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const UNLINK: u32 = 10;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const SETXATTR: u32 = 21;
const LISTXATTR: u32 = 23;
const GETXATTR: u32 = 22;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// Names in a directory may be asked for at once (`FUSE_PARALLEL_DIROPS`).
const PARALLEL: u32 = 1 << 18;
/// The length of a request's head.
const HEAD: usize = 40;
/// The numbers of the objects.
const ROOT: u64 = 1;
const NUMBER: u64 = 2;
const DIR_NUMBER: u64 = 3;

fn attributes(number: u64) -> Vec<u8> {
    let (mode, links, size) = match number {
        ROOT => (0o040_755u32, 3u32, 0),
        DIR_NUMBER => (0o040_770, 2, 0),
        PLINKS | 6 => (0o040_700, 2, 0),
        4 | 7 => (0o100_444, 1, 0),
        _ => (0o100_666, 1, SIZE),
    };
    let mut bytes = Vec::new();
    for word in [number, size, size / 512, 1, 1, 1] {
        bytes.extend(u64::to_ne_bytes(word));
    }
    for word in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
        bytes.extend(u32::to_ne_bytes(word));
    }
    bytes
}

fn word(request: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(request[at..at + 8].try_into().expect("8 bytes"))
}

fn half(request: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(request[at..at + 4].try_into().expect("4 bytes"))
}

fn name(request: &[u8]) -> String {
    let bytes = request[HEAD..].split(|byte| *byte == 0).next();
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn request_of(request: &[u8]) -> Option<Request> {
    match half(request, 4) {
        LOOKUP => Some(Request::Lookup(name(request))),
        READ => Some(Request::Read),
        LISTXATTR => Some(Request::ListXattr),
        STATFS => Some(Request::Statfs),
        GETXATTR => Some(Request::Xattr),
        SETXATTR => Some(Request::SetXattr),
        _ => None,
    }
}

/// The answer to a look-up that finds the object with this number.
fn found(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [number, 0, 0, 0, 0] {
        out.extend(u64::to_ne_bytes(word));
    }
    out.extend(attributes(number));
    out
}

/// What is answered for what a writable branch needs, if the request is for that.
fn answer_for_work(request: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
    match (half(request, 4), word(request, 16)) {
        (LOOKUP, ROOT) => {
            let wanted = name(request);
            let object = WORK.into_iter().find(|(name, _)| *name == wanted);
            object.map(|(_, number)| Ok(found(number)))
        }
        (LOOKUP, PLINKS) if name(request) == LEFT.0 => Some(Ok(found(LEFT.1))),
        (READDIR, PLINKS) if word(request, HEAD + 8) == 0 => {
            let mut out = Vec::new();
            for word in [LEFT.1, 1] {
                out.extend(u64::to_ne_bytes(word));
            }
            for word in [LEFT.0.len() as u32, u32::from(libc::DT_REG)] {
                out.extend(u32::to_ne_bytes(word));
            }
            out.extend(LEFT.0.as_bytes());
            out.resize(out.len().next_multiple_of(8), 0);
            Some(Ok(out))
        }
        (UNLINK, PLINKS) => Some(Ok(Vec::new())),
        // It keeps none, and is asked again.
        (GETXATTR, _) => Some(Err(Errno::NODATA)),
        _ => None,
    }
}

/// What is answered, without the head; `None` if nothing is.
fn answer(request: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
    let number = word(request, 16);
    Some(match half(request, 4) {
        INIT => {
            let mut out = Vec::new();
            for word in [7, 31, half(request, HEAD + 8), PARALLEL, 0, 4096, 1] {
                out.extend(u32::to_ne_bytes(word));
            }
            out.resize(64, 0);
            Ok(out)
        }
        LOOKUP if [FILE, DIR].contains(&name(request).as_str()) => {
            Ok(found(match name(request) == FILE {
                true => NUMBER,
                false => DIR_NUMBER,
            }))
        }
        LOOKUP => Err(Errno::NOENT),
        GETATTR => {
            let mut out = vec![0; 16];
            out.extend(attributes(number));
            Ok(out)
        }
        OPEN | OPENDIR => Ok(vec![0; 16]),
        READ => {
            let (from, len) = (word(request, HEAD + 8), half(request, HEAD + 16));
            let len = u64::from(len).min(SIZE.saturating_sub(from));
            Ok(vec![b'F'; len as usize])
        }
        STATFS => {
            let mut out = vec![0; 40];
            for word in [4096, 255, 4096, 0] {
                out.extend(u32::to_ne_bytes(word));
            }
            out.resize(80, 0);
            Ok(out)
        }
        // There are none.
        LISTXATTR => Ok(vec![0; 8]),
        READDIR | RELEASEDIR | RELEASE | FLUSH => Ok(Vec::new()),
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        _ => Err(Errno::NOSYS),
    })
}

impl Daemon {
    fn reply(&self, request: &[u8]) {
        if let Some(wanted) = request_of(request) {
            if let Some(act) = self.act.lock().expect("not poisoned").as_mut() {
                act(&wanted);
            }
        }
        let is_file = request_of(request) == Some(Request::Lookup(FILE.to_owned()));
        let gone = is_file && self.state.lock().expect("not poisoned").gone;
        let work = self.with_work.then(|| answer_for_work(request)).flatten();
        if work.is_some() && half(request, 4) == UNLINK {
            self.state.lock().expect("not poisoned").removed += 1;
        }
        let Some(answer) = work.or_else(|| answer(request)) else {
            return;
        };
        let (error, body) = match answer {
            Ok(_) if gone => (-Errno::NOENT.raw_os_error(), Vec::new()),
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let mut out = Vec::new();
        out.extend(u32::to_ne_bytes(16 + body.len() as u32));
        out.extend(i32::to_ne_bytes(error));
        out.extend(u64::to_ne_bytes(word(request, 8)));
        out.extend(body);
        // Who asked may have given up.
        let _ = (&self.device).write(&out);
    }

    fn serve(&self) {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let len = match (&self.device).read(&mut buffer) {
                Ok(len) => len,
                // One that was taken back.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let request = &buffer[..len];
            {
                let mut state = self.state.lock().expect("not poisoned");
                let wanted = request_of(request);
                if wanted.is_some_and(|wanted| state.held.contains(&wanted)) {
                    state.waiting.push(request.to_owned());
                    state.seen += 1;
                    self.changed.notify_all();
                    continue;
                }
            }
            self.reply(request);
        }
    }
}

impl Fuse {
    /// Mounts one at a fresh mount point.
    pub(crate) fn mount(cx: &Ctx) -> Result<Self> {
        Self::new(cx, false)
    }

    /// Mounts one that can be a writable branch.
    pub(crate) fn with_work(cx: &Ctx) -> Result<Self> {
        Self::new(cx, true)
    }

    fn new(cx: &Ctx, with_work: bool) -> Result<Self> {
        let status = Command::new("modprobe").arg("fuse").status()?;
        ensure!(status.success(), "modprobe fuse");
        let mount = cx.mount_point()?;
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let data = CString::new(data)?;
        rustix::mount::mount("fuse", &mount, "fuse", MountFlags::empty(), data.as_c_str())
            .context("mount of type fuse")?;
        let daemon = Arc::new(Daemon {
            device,
            state: Mutex::default(),
            changed: Condvar::new(),
            act: Mutex::default(),
            with_work,
        });
        let server = daemon.clone();
        Ok(Self {
            daemon,
            mount,
            thread: Some(std::thread::spawn(move || server.serve())),
        })
    }

    /// Its root.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Requests of this kind wait from now on.
    pub(crate) fn hold(&self, request: Request) {
        let mut state = self.daemon.state.lock().expect("not poisoned");
        state.held.push(request);
    }

    /// Waits until `count` requests wait, or have waited.
    pub(crate) fn wait_for(&self, count: usize) -> Result<()> {
        let state = self.daemon.state.lock().expect("not poisoned");
        let timeout = Duration::from_secs(60);
        let (state, _) = self
            .daemon
            .changed
            .wait_timeout_while(state, timeout, |state| state.seen < count)
            .expect("not poisoned");
        ensure!(state.seen >= count, "no request came");
        Ok(())
    }

    /// Further requests do not wait; those that do go on waiting.
    pub(crate) fn hold_no_more(&self) {
        self.daemon.state.lock().expect("not poisoned").held.clear();
    }

    /// How many requests wait, or have waited.
    pub(crate) fn seen(&self) -> usize {
        self.daemon.state.lock().expect("not poisoned").seen
    }

    /// How many names were removed.
    pub(crate) fn removed(&self) -> usize {
        self.daemon.state.lock().expect("not poisoned").removed
    }

    /// The file is not there any more.
    pub(crate) fn take_file(&self) {
        self.daemon.state.lock().expect("not poisoned").gone = true;
    }

    /// Lets all requests go on.
    pub(crate) fn release(&self) {
        let waiting = {
            let mut state = self.daemon.state.lock().expect("not poisoned");
            state.held.clear();
            std::mem::take(&mut state.waiting)
        };
        for request in waiting {
            self.daemon.reply(&request);
        }
    }

    /// What is done with each of these requests before it is answered.
    pub(crate) fn act(&self, act: impl FnMut(&Request) + Send + 'static) {
        *self.daemon.act.lock().expect("not poisoned") = Some(Box::new(act));
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.release();
        *self.daemon.act.lock().expect("not poisoned") = None;
        // Whether it was busy shows as a mount that is left.
        if rustix::mount::unmount(&self.mount, UnmountFlags::empty()).is_ok() {
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
