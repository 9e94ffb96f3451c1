// SPDX-License-Identifier: GPL-2.0

//! `io_submit(2)`, one request at a time.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{ensure, Result};

use super::{map::Map, sys};

#[derive(Clone, Copy)]
#[repr(u16)]
pub(crate) enum Call {
    Read = 0,
    Write = 1,
}

#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    flags: u32,
    opcode: u16,
    priority: u16,
    fd: u32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: [u64; 2],
}

#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    more: i64,
}

/// A queue of requests.
pub(crate) struct Aio(u64);

impl Aio {
    pub(crate) fn new() -> Result<Self> {
        let mut context = 0u64;
        // SAFETY: the argument is valid.
        let ret = unsafe { libc::syscall(libc::SYS_io_setup, 8, &mut context) };
        ensure!(ret == 0, "io_setup: {}", sys::last_errno());
        Ok(Self(context))
    }

    /// Makes a request with all of `map`, which must stay until [`Aio::wait`] has its result.
    pub(crate) fn submit(&self, call: Call, fd: impl AsFd, map: &Map, offset: i64) -> Result<()> {
        let mut request = Request {
            opcode: call as u16,
            fd: fd.as_fd().as_raw_fd() as u32,
            buf: map.bytes().as_ptr() as u64,
            bytes: map.bytes().len() as u64,
            offset,
            ..Request::default()
        };
        let mut list = [&mut request as *mut Request];
        // SAFETY: the kernel copies the request; the buffer is the caller's duty.
        let n = unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, list.as_mut_ptr()) };
        ensure!(n == 1, "io_submit: {}", sys::last_errno());
        Ok(())
    }

    /// The result of the request.
    pub(crate) fn wait(&self) -> Result<i64> {
        let mut event = Event::default();
        let none = std::ptr::null::<libc::timespec>();
        // SAFETY: the arguments are valid.
        let n = unsafe { libc::syscall(libc::SYS_io_getevents, self.0, 1, 1, &mut event, none) };
        ensure!(n == 1, "io_getevents: {}", sys::last_errno());
        Ok(event.result)
    }

    /// A request and its result.
    pub(crate) fn run(&self, call: Call, fd: impl AsFd, map: &Map, offset: i64) -> Result<i64> {
        self.submit(call, fd, map, offset)?;
        self.wait()
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: a plain system call.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
