// SPDX-License-Identifier: GPL-2.0

//! Other users, umasks and working directories, without leaving the process.
//!
//! Credentials belong to a thread for the kernel, so a thread that changes its own and ends is all
//! it takes; the rest of the program keeps its privileges.

use std::thread;

use rustix::{
    fs::{Gid, Uid},
    thread::{
        set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe, UnshareFlags,
    },
};

/// Leaves the working directory when dropped. A joined thread may still be on its way out of the
/// kernel, and must not keep a mount busy then.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        let _ = rustix::process::chdir("/");
    }
}

/// Runs `f` in a thread with working directory and umask of its own.
pub(crate) fn apart<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let body = || {
        // SAFETY: only the file system context is unshared, which no Rust object refers to.
        unsafe { unshare_unsafe(UnshareFlags::FS) }.expect("unshare(CLONE_FS)");
        let _leave = Leave;
        f()
    };
    match thread::scope(|scope| scope.spawn(body).join()) {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs `f` as an unprivileged user.
pub(crate) fn as_user<T: Send>(uid: u32, gid: u32, f: impl FnOnce() -> T + Send) -> T {
    as_member(uid, gid, &[], f)
}

/// Runs `f` as an unprivileged user with supplementary groups.
pub(crate) fn as_member<T: Send>(
    uid: u32,
    gid: u32,
    groups: &[u32],
    f: impl FnOnce() -> T + Send,
) -> T {
    let groups: Vec<_> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    apart(move || {
        set_thread_groups(&groups).expect("setgroups");
        set_thread_res_gid(gid, gid, gid).expect("setresgid");
        set_thread_res_uid(uid, uid, uid).expect("setresuid");
        f()
    })
}

/// Runs `f` with this umask.
pub(crate) fn with_umask<T: Send>(mask: u32, f: impl FnOnce() -> T + Send) -> T {
    apart(move || {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        f()
    })
}
