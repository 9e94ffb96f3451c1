// SPDX-License-Identifier: GPL-2.0

//! Holding system calls up in the middle: at memory that is not there yet, or at a file system
//! that is frozen.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use super::{dir, map::Map, sys};

/// How long something may take to get to where it is held up.
const LIMIT: Duration = Duration::from_secs(60);

/// Memory whose second half is missing: who touches it waits until [`Gap::fill`]
/// (userfaultfd(2)).
pub(crate) struct Gap {
    fault: OwnedFd,
    map: Map,
}

#[repr(C)]
struct Api([u64; 3]);
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}
#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

impl Gap {
    const API: u64 = 0xaa;
    const DO_API: u32 = 0xc018_aa3f;
    const DO_REGISTER: u32 = 0xc020_aa00;
    const DO_COPY: u32 = 0xc028_aa03;
    const MISSING: u64 = 1;

    /// `len` bytes, of which the first half is `byte`.
    pub(crate) fn new(len: usize, byte: u8) -> Result<Self> {
        // SAFETY: a plain system call.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        ensure!(fd >= 0, "userfaultfd: {}", sys::last_errno());
        // SAFETY: the kernel just returned it.
        let fault = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut map = Map::anonymous(len)?;
        map.bytes_mut()[..len / 2].fill(byte);
        let gap = Self { fault, map };
        gap.call(Self::DO_API, &mut Api([Self::API, 0, 0]))?;
        gap.call(
            Self::DO_REGISTER,
            &mut Register {
                start: gap.missing(),
                len: (len / 2) as u64,
                mode: Self::MISSING,
                ioctls: 0,
            },
        )?;
        Ok(gap)
    }

    fn missing(&self) -> u64 {
        let half = self.map.bytes().len() / 2;
        self.map.bytes().as_ptr() as u64 + half as u64
    }

    fn call<T>(&self, command: u32, arg: &mut T) -> Result<()> {
        let fd = self.fault.as_raw_fd();
        // SAFETY: each command is used with its structure; what it says of memory is true.
        let ret = unsafe { libc::ioctl(fd, command.into(), arg as *mut T) };
        ensure!(ret == 0, "ioctl of userfaultfd: {}", sys::last_errno());
        Ok(())
    }

    /// To be given to a system call; whoever else touches the second half waits.
    pub(crate) fn memory(&self) -> &Map {
        &self.map
    }

    /// Waits until somebody waits for the missing half.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut poll = libc::pollfd {
            fd: self.fault.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut message = [0u8; 32];
        // SAFETY: the arguments are valid.
        let n = unsafe {
            let n = libc::poll(&mut poll, 1, LIMIT.as_millis() as i32);
            ensure!(n == 1, "nobody touched the missing memory");
            libc::read(poll.fd, message.as_mut_ptr().cast(), message.len())
        };
        ensure!(n == 32, "read of userfaultfd: {}", sys::last_errno());
        Ok(())
    }

    /// The missing half is `byte` from now on.
    pub(crate) fn fill(&self, byte: u8) -> Result<()> {
        let half = self.map.bytes().len() / 2;
        let mut from = Map::anonymous(half)?;
        from.bytes_mut().fill(byte);
        self.call(
            Self::DO_COPY,
            &mut Copy {
                to: self.missing(),
                from: from.bytes().as_ptr() as u64,
                len: half as u64,
                mode: 0,
                copied: 0,
            },
        )
    }
}

/// Freezes a file system until dropped.
pub(crate) struct Frozen(OwnedFd);

impl Frozen {
    const FREEZE: libc::c_ulong = 0xc004_5877;
    const THAW: libc::c_ulong = 0xc004_5878;

    pub(crate) fn new(path: &Path) -> Result<Self> {
        let fd = dir::open_dir(path)?;
        // SAFETY: The command takes no memory.
        let ret = unsafe { libc::ioctl(fd.as_raw_fd(), Self::FREEZE as _, 0) };
        ensure!(ret == 0, "FIFREEZE: {}", sys::last_errno());
        Ok(Self(fd))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: The command takes no memory.
        unsafe { libc::ioctl(self.0.as_raw_fd(), Self::THAW as _, 0) };
    }
}

/// The calling thread, for [`sleeps`].
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Waits until a thread of ours sleeps where only the kernel wakes it.
pub(crate) fn sleeps(thread: i32) -> Result<()> {
    let path = format!("/proc/self/task/{thread}/stat");
    let (start, mut seen) = (Instant::now(), 0);
    while seen < 5 {
        let stat = std::fs::read_to_string(&path)?;
        let state = stat.rsplit(") ").next().context("a line of /proc")?;
        seen = if state.starts_with('D') { seen + 1 } else { 0 };
        ensure!(start.elapsed() < LIMIT, "the thread does not wait: {stat}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
