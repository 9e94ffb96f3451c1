// SPDX-License-Identifier: GPL-2.0

//! File handles: `name_to_handle_at(2)` and `open_by_handle_at(2)`.

use std::{
    ffi::CString,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use super::sys::{self, Errno, OFlags, Res};

/// The longest handle of the kernel.
const MAX: usize = 128;
/// Ask for a handle that says its directory, too.
const AT_HANDLE_CONNECTABLE: i32 = 0x2;

/// A file handle.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    len: u32,
    kind: i32,
    bytes: [u8; MAX],
}

impl Handle {
    fn new(path: &Path, flags: i32) -> Res<Self> {
        let mut handle = Self {
            len: MAX as u32,
            kind: 0,
            bytes: [0; MAX],
        };
        let c = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
        let mut mount = 0i32;
        // SAFETY: all pointers are valid over the call, and `len` says how many bytes there are.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                c.as_ptr(),
                &mut handle,
                &mut mount,
                flags,
            )
        };
        match ret {
            0 => Ok(handle),
            _ => sys::at("name_to_handle_at", path, Err(sys::last_errno())),
        }
    }

    /// The handle of what is at `path`.
    #[track_caller]
    pub(crate) fn of(path: impl AsRef<Path>) -> Res<Self> {
        Self::new(path.as_ref(), 0)
    }

    /// The same, with its directory in it.
    #[track_caller]
    pub(crate) fn connectable(path: impl AsRef<Path>) -> Res<Self> {
        Self::new(path.as_ref(), AT_HANDLE_CONNECTABLE)
    }

    /// A handle made by hand.
    pub(crate) fn forged(kind: i32, words: &[u8]) -> Self {
        let mut bytes = [0; MAX];
        bytes[..words.len()].copy_from_slice(words);
        Self {
            len: words.len() as u32,
            kind,
            bytes,
        }
    }

    /// Its type.
    pub(crate) fn kind(&self) -> i32 {
        self.kind
    }

    /// Its contents.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Opens what it leads to, in the file system that `mount` belongs to.
    #[track_caller]
    pub(crate) fn open(&self, mount: impl AsFd, flags: OFlags) -> Res<OwnedFd> {
        let flags = (flags | OFlags::CLOEXEC).bits() as i32;
        // SAFETY: the handle is valid over the call.
        let fd = unsafe {
            let mount = mount.as_fd().as_raw_fd();
            libc::syscall(libc::SYS_open_by_handle_at, mount, self, flags)
        };
        match i32::try_from(fd) {
            // SAFETY: the kernel just returned it.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => sys::on_fd("open_by_handle_at", Err(sys::last_errno())),
        }
    }

    /// Asserts that it leads nowhere any more.
    #[track_caller]
    pub(crate) fn assert_stale(&self, mount: impl AsFd) {
        sys::errno(self.open(mount, OFlags::PATH), Errno::STALE);
    }
}

/// The path that an open descriptor has, as the kernel sees it.
pub(crate) fn path_of(fd: impl AsFd) -> Res<String> {
    sys::readlink(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}
