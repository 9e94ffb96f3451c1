// SPDX-License-Identifier: GPL-2.0

//! Using files, all of it from the page cache.

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
    ptr,
};

use anyhow::{ensure, Result};
use rustix::{
    fs::{openat, Mode, OFlags},
    io::{pread, pwrite},
    mm::{madvise, mmap, munmap, Advice, MapFlags, ProtFlags},
};

use crate::{fixture::MIB, run::Session};

const PAGE: usize = 4096;
const LOWER: &CStr = c"files/lower";
const UPPER: &CStr = c"files/upper";

fn open(s: &Session<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    Ok(openat(&s.root, path, flags, Mode::empty())?)
}

fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<()> {
    let size = buffer.len();
    ensure!(pread(fd, buffer, 0)? == size, "short read");
    Ok(())
}

fn write(fd: impl AsFd, data: &[u8]) -> Result<()> {
    ensure!(pwrite(fd, data, 0)? == data.len(), "short write");
    Ok(())
}

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    let mut data = vec![0xa5; MIB as usize];
    let few = (s.plan.batch / 16).max(1);
    let lower = open(s, LOWER, OFlags::RDONLY)?;
    let upper = open(s, UPPER, OFlags::RDONLY)?;
    read(&lower, &mut data)?;
    read(&upper, &mut data)?;

    s.repeat("open.lower", || open(s, LOWER, OFlags::RDONLY).map(drop))?;
    s.repeat("open.upper", || open(s, UPPER, OFlags::RDONLY).map(drop))?;
    s.repeat("read4k.lower", || read(&lower, &mut data[..PAGE]))?;
    s.repeat("read4k.upper", || read(&upper, &mut data[..PAGE]))?;
    s.repeat_of("read1m.lower", few, &mut || read(&lower, &mut data))?;

    s.repeat("mmap.map", || map(&lower, |_| Ok(())))?;
    faults(s, &lower)?;

    let upper = open(s, UPPER, OFlags::WRONLY)?;
    s.repeat("write4k.upper", || write(&upper, &data[..PAGE]))?;
    s.repeat_of("write1m.upper", few, &mut || write(&upper, &data))
}

/// Maps the first MiB of a file for reading and unmaps it.
fn map(fd: impl AsFd, body: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
    let (size, prot) = (MIB as usize, ProtFlags::READ);
    // SAFETY: a fresh address range is asked for, so no memory of others changes.
    let at = unsafe { mmap(ptr::null_mut(), size, prot, MapFlags::SHARED, fd, 0) }?;
    let done = body(at.cast());
    // SAFETY: the mapping is ours, and `body` has ended.
    unsafe { munmap(at, size) }?;
    done
}

/// One fault on each of 64 pages of a fresh mapping.
fn faults(s: &Session<'_>, fd: &OwnedFd) -> Result<()> {
    const PAGES: usize = 64;
    let op = "mmap.fault";
    if !s.wants(op) {
        return Ok(());
    }
    let mut samples = Vec::new();
    for _ in 0..s.plan.samples {
        map(fd, |at| {
            // SAFETY: within the mapping; the advice changes no data. Without it the kernel would
            // map the pages around a fault as well.
            unsafe { madvise(at.cast(), MIB as usize, Advice::Random) }?;
            let count = s.count(|| {
                for page in 0..PAGES {
                    // SAFETY: within the mapping of a file that is that large.
                    unsafe { at.add(page * PAGE).read_volatile() };
                }
                Ok(())
            })?;
            samples.push(count / PAGES as f64);
            Ok(())
        })?;
    }
    s.record(op, &samples)
}
