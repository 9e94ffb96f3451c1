// SPDX-License-Identifier: GPL-2.0

//! io_uring, one request at a time.

use std::{
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{ensure, Result};

use super::sys;

/// What is asked for.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Call {
    Fsync = 3,
    Fallocate = 17,
    Read = 22,
    Write = 23,
}

/// The kernel does the request in a thread of its own.
pub(crate) const ASYNC: u8 = 1 << 4;

/// `struct io_uring_params`, with offsets into the rings.
#[repr(C)]
#[derive(Default)]
struct Params {
    entries: [u32; 2],
    flags: u32,
    thread: [u32; 2],
    features: u32,
    other: [u32; 4],
    sq: Offsets,
    cq: Offsets,
}

/// Where parts of a ring are. The fourth and later ones differ between the two.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    fifth: u32,
    sixth: u32,
    seventh: u32,
    other: [u32; 3],
}

/// A ring for one request.
pub(crate) struct Ring {
    fd: OwnedFd,
    params: Params,
    rings: (*mut u8, usize),
    requests: (*mut u8, usize),
}

impl Ring {
    pub(crate) fn new() -> Result<Self> {
        let mut params = Params::default();
        // SAFETY: the argument is what the call wants.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &mut params) };
        ensure!(fd >= 0, "io_uring_setup: {}", sys::last_errno());
        ensure!(params.features & 1 != 0, "one mapping for both rings");
        // SAFETY: the kernel just returned it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let map = |len: usize, offset: i64| -> Result<(*mut u8, usize)> {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let raw = fd.as_raw_fd();
            // SAFETY: a fresh address range is asked for.
            let at =
                unsafe { libc::mmap(ptr::null_mut(), len, prot, libc::MAP_SHARED, raw, offset) };
            ensure!(at != libc::MAP_FAILED, "mmap: {}", sys::last_errno());
            Ok((at.cast(), len))
        };
        let rings = map(4096, 0)?;
        let requests = map(4096, 0x1000_0000)?;
        Ok(Self {
            fd,
            params,
            rings,
            requests,
        })
    }

    /// A word of the rings.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel says that there is one, inside the mapping.
        unsafe { &*self.rings.0.add(offset as usize).cast() }
    }

    /// Makes a request and waits for its result.
    pub(crate) fn run(
        &self,
        call: Call,
        flags: u8,
        fd: impl AsFd,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<i32> {
        let mut request = [0u8; 64];
        request[0] = call as u8;
        request[1] = flags;
        request[4..8].copy_from_slice(&fd.as_fd().as_raw_fd().to_ne_bytes());
        request[8..16].copy_from_slice(&offset.to_ne_bytes());
        match call {
            Call::Read | Call::Write => {
                request[16..24].copy_from_slice(&(buf.as_mut_ptr() as u64).to_ne_bytes());
                request[24..28].copy_from_slice(&(buf.len() as u32).to_ne_bytes());
            }
            // The length is where the address is elsewhere.
            Call::Fallocate => {
                request[16..24].copy_from_slice(&(buf.len() as u64).to_ne_bytes());
            }
            Call::Fsync => {}
        }
        let tail = self.word(self.params.sq.tail).load(Ordering::Acquire);
        let mask = self.word(self.params.sq.mask).load(Ordering::Relaxed);
        let slot = tail & mask;
        // SAFETY: the slot is ours until the tail says otherwise.
        unsafe {
            ptr::copy_nonoverlapping(
                request.as_ptr(),
                self.requests.0.add(64 * slot as usize),
                request.len(),
            );
        }
        let index = self.params.sq.seventh + 4 * slot;
        self.word(index).store(slot, Ordering::Relaxed);
        self.word(self.params.sq.tail)
            .store(tail + 1, Ordering::Release);
        let (nothing, size) = (ptr::null::<u8>(), 0usize);
        // SAFETY: the buffer lives until the request is done, which is waited for.
        let n = unsafe {
            let fd = self.fd.as_raw_fd();
            libc::syscall(libc::SYS_io_uring_enter, fd, 1, 1, 1, nothing, size)
        };
        ensure!(n == 1, "io_uring_enter: {}", sys::last_errno());
        let head = self.word(self.params.cq.head).load(Ordering::Relaxed);
        ensure!(
            head != self.word(self.params.cq.tail).load(Ordering::Acquire),
            "no result"
        );
        let mask = self.word(self.params.cq.mask).load(Ordering::Relaxed);
        // An entry has 16 bytes; the result follows eight bytes of the caller's.
        let result = self.word(self.params.cq.sixth + 16 * (head & mask) + 8);
        let result = result.load(Ordering::Relaxed) as i32;
        self.word(self.params.cq.head)
            .store(head + 1, Ordering::Release);
        Ok(result)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for (at, len) in [self.rings, self.requests] {
            // SAFETY: ours, and not used again.
            unsafe { libc::munmap(at.cast(), len) };
        }
    }
}
