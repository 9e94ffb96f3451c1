// SPDX-License-Identifier: GPL-2.0

//! Memory mappings as values.

use std::{os::fd::AsFd, ptr, slice};

use rustix::mm::{mmap, mmap_anonymous, msync, munmap, MapFlags, MsyncFlags, ProtFlags};

use super::sys::{self, Res};

/// A mapping from offset 0; unmapped when dropped.
///
/// # Invariants
///
/// `addr` is the start of a live mapping of `len` bytes that only this object names. It must not
/// be touched beyond the end of the mapped file, and a test that changes the file by other means
/// accepts what the bytes become.
#[derive(Debug)]
pub(crate) struct Map {
    addr: *mut u8,
    len: usize,
}

// SAFETY: by the invariant nobody else names the memory; it is read through shared references.
unsafe impl Sync for Map {}

impl Map {
    #[track_caller]
    fn new(fd: impl AsFd, len: usize, prot: ProtFlags, flags: MapFlags) -> Res<Self> {
        // SAFETY: a fresh address range is asked for, so no memory of others changes.
        let addr = unsafe { mmap(ptr::null_mut(), len, prot, flags, fd, 0) };
        let addr = sys::on_fd("mmap", addr)?.cast();
        Ok(Self { addr, len })
    }

    #[track_caller]
    pub(crate) fn private(fd: impl AsFd, len: usize) -> Res<Self> {
        Self::new(
            fd,
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }

    #[track_caller]
    pub(crate) fn shared(fd: impl AsFd, len: usize) -> Res<Self> {
        Self::new(
            fd,
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    }

    #[track_caller]
    pub(crate) fn shared_ro(fd: impl AsFd, len: usize) -> Res<Self> {
        Self::new(fd, len, ProtFlags::READ, MapFlags::SHARED)
    }

    #[track_caller]
    pub(crate) fn anonymous(len: usize) -> Res<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `new`.
        let addr = unsafe { mmap_anonymous(ptr::null_mut(), len, prot, MapFlags::PRIVATE) };
        let addr = sys::on_fd("mmap", addr)?.cast();
        Ok(Self { addr, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: by the invariant.
        unsafe { slice::from_raw_parts(self.addr, self.len) }
    }

    /// Only of mappings made writable; others fault.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: by the invariant.
        unsafe { slice::from_raw_parts_mut(self.addr, self.len) }
    }

    #[track_caller]
    pub(crate) fn sync(&self) -> Res<()> {
        // SAFETY: by the invariant.
        sys::on_fd("msync", unsafe {
            msync(self.addr.cast(), self.len, MsyncFlags::SYNC)
        })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: by the invariant; nobody uses the mapping any more.
        let _ = unsafe { munmap(self.addr.cast(), self.len) };
    }
}
