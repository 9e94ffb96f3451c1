// SPDX-License-Identifier: GPL-2.0

//! Mounts that show other owners than their file system has.

use std::{
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::{
    fs::CWD,
    mount::{move_mount, open_tree, MoveMountFlags, OpenTreeFlags},
};

use super::{context::Ctx, scratch, sys};

/// Ids below this one are shown as `BASE` and up.
pub(crate) const COUNT: u32 = 65_536;
/// The first id that is shown.
pub(crate) const BASE: u32 = 100_000;

/// A user namespace in which the ids 0 to `COUNT` stand for `BASE` and up.
pub(crate) struct UserNs(OwnedFd);

impl UserNs {
    pub(crate) fn new() -> Result<Self> {
        let mut command = Command::new("sleep");
        command.arg("1000");
        // SAFETY: the child has one thread, and only makes a system call.
        unsafe {
            command.pre_exec(|| match libc::unshare(libc::CLONE_NEWUSER) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            })
        };
        let mut child = command.spawn().context("a user namespace")?;
        let open = || -> Result<OwnedFd> {
            let proc = PathBuf::from(format!("/proc/{}", child.id()));
            for map in ["uid_map", "gid_map"] {
                fs::write(proc.join(map), format!("0 {BASE} {COUNT}"))?;
            }
            Ok(sys::open_ro(proc.join("ns/user"))?)
        };
        let fd = open();
        child.kill()?;
        child.wait()?;
        Ok(Self(fd?))
    }

    /// Mounts the directory `source` once more, with mapped ids, at a fresh mount point.
    pub(crate) fn mount(&self, cx: &Ctx, source: &Path) -> Result<Mapped> {
        #[repr(C)]
        struct MountAttr {
            set: u64,
            clear: u64,
            propagation: u64,
            userns: u64,
        }
        const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
        let target = cx.mount_point()?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = sys::at("open_tree", source, open_tree(CWD, source, flags))?;
        let attr = MountAttr {
            set: MOUNT_ATTR_IDMAP,
            clear: 0,
            propagation: 0,
            userns: self.0.as_raw_fd() as u64,
        };
        // SAFETY: all pointers are valid over the call.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &attr,
                size_of::<MountAttr>(),
            )
        };
        if ret != 0 {
            sys::at("mount_setattr", source, Err(sys::last_errno()))?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        sys::at(
            "move_mount",
            &target,
            move_mount(&tree, "", CWD, &target, flags),
        )?;
        Ok(Mapped(target))
    }
}

/// A mount with mapped ids; unmounted when dropped.
pub(crate) struct Mapped(PathBuf);

impl Mapped {
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // What stays mounted is a failure of the test.
        let _ = scratch::umount(&self.0);
    }
}
