// SPDX-License-Identifier: GPL-2.0

//! No space, no inodes, no quota: each operation with nothing left, then with one unit left, and
//! so on until it succeeds. So each step of it is the one that fails once.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use rustix::{fs::FallocateFlags, mount::MountFlags};

use super::ops::{self, Lowers, Op, State};
use crate::harness::{prelude::*, scratch::Private, watchdog};

cases! {
    ONCE: blocks_of_tmpfs, inodes_of_tmpfs, blocks_of_ext4, inodes_of_ext4, quota_of_blocks,
        quota_of_inodes;
}

/// A file system that can be made to have just so much left.
trait Limited {
    /// Leaves `n` units, blocks or inodes, and no more.
    fn leave(&self, n: u64) -> Result<()>;
    /// Takes the limit away.
    fn unlimited(&self) -> Result<()>;
    /// Where branches can be made.
    fn path(&self) -> &Path;
    /// What an operation fails with.
    fn errno(&self) -> Errno;
    /// More than any operation needs.
    fn most(&self) -> u64;
}

/// Makes the writable branch anew.
fn fresh(fs: &impl Limited) -> Result<PathBuf> {
    fs.unlimited()?;
    let rw = fs.path().join("rw");
    if exists(&rw) {
        fs::remove_dir_all(&rw)?;
    }
    sys::mkdir(&rw)?;
    ops::upper().build(&rw)?;
    Ok(rw)
}

/// Operations, `every` second or third or so, each with more and more left.
fn sweep(cx: &Ctx, fs: &impl Limited, owner: u32, every: usize) -> Result<()> {
    let lowers = Lowers::of(cx, Kind::Tmpfs, owner)?;
    let mut failures = 0;
    for op in ops::CHANGES.iter().step_by(every) {
        failures += sweep_one(cx, fs, &lowers, op).context(op.name)?;
        watchdog::alive();
    }
    fs.unlimited()?;
    ensure!(failures > 10, "only {failures} operations failed");
    Ok(())
}

/// One operation; says how often it failed.
fn sweep_one(cx: &Ctx, fs: &impl Limited, lowers: &Lowers, op: &Op) -> Result<u64> {
    let start = ops::now();
    let expected = {
        let u = lowers.union(cx, &fresh(fs)?)?;
        (op.run)(u.root())?;
        let state = State::of(&u)?;
        u.umount()?;
        state
    };
    for left in 0..fs.most() {
        let mut u = lowers.union(cx, &fresh(fs)?)?;
        let before = State::of(&u)?;
        fs.leave(left)?;
        let result = (op.run)(u.root());
        let after = State::of(&u);
        fs.unlimited()?;
        let judge = |state: &State, mounted: bool| match &result {
            Ok(()) if mounted => state.check_done_and_mounted(&expected, start),
            Ok(()) => state.check_done(&expected, start),
            Err(e) if e.errno == fs.errno() => state.check_undone(&before, start),
            Err(e) => Err(e.clone().into()),
        };
        let at = || format!("with {left} left");
        judge(&after?, false).with_context(at)?;
        // What is on disk is the same; seldom after a failure, since it takes long.
        if result.is_ok() || left % 4 == 1 {
            u.again()?;
            judge(&State::of(&u)?, true)
                .with_context(at)
                .context("after a new mount")?;
        }
        u.umount()?;
        if result.is_ok() {
            return Ok(left);
        }
    }
    anyhow::bail!("it still fails with {} left", fs.most())
}

// --- tmpfs ------------------------------------------------------------------------------------

/// A tmpfs whose limit is set by a remount.
struct Tmpfs {
    fs: Private,
    inodes: bool,
}

impl Tmpfs {
    fn remount(&self, options: &str) -> Result<()> {
        let data = CString::new(options)?;
        rustix::mount::mount_remount(self.fs.path(), MountFlags::NOATIME, data.as_c_str())
            .with_context(|| format!("remount with {options}"))
    }
}

impl Limited for Tmpfs {
    fn leave(&self, n: u64) -> Result<()> {
        let stat = rustix::fs::statfs(self.fs.path())?;
        match self.inodes {
            true => self.remount(&format!("nr_inodes={}", stat.f_files - stat.f_ffree + n)),
            // Sizes are rounded up to whole pages; a size of 0 means no limit.
            false => self.remount(&format!(
                "size={}",
                (stat.f_blocks - stat.f_bfree + n) * 4096
            )),
        }
    }

    fn unlimited(&self) -> Result<()> {
        self.remount("size=64m,nr_inodes=10k")
    }

    fn path(&self) -> &Path {
        self.fs.path()
    }

    fn errno(&self) -> Errno {
        Errno::NOSPC
    }

    fn most(&self) -> u64 {
        60
    }
}

fn on_tmpfs(cx: &Ctx, inodes: bool) -> Result<()> {
    let fs = Private::tmpfs(&cx.name(), "size=64m,nr_inodes=10k")?;
    // Never so empty that the limit would be none at all.
    sys::write(fs.path().join("ballast"), "x")?;
    let limited = Tmpfs { fs, inodes };
    sweep(cx, &limited, 0, 1)?;
    limited.fs.umount()
}

fn blocks_of_tmpfs(cx: &Ctx) -> Result<()> {
    on_tmpfs(cx, false)
}

fn inodes_of_tmpfs(cx: &Ctx) -> Result<()> {
    on_tmpfs(cx, true)
}

// --- ext4 -------------------------------------------------------------------------------------

/// An ext4 that is filled.
struct Ext4 {
    fs: Private,
    inodes: bool,
}

impl Ext4 {
    fn filler(&self) -> PathBuf {
        self.fs.path().join("filler")
    }

    fn sync(&self) -> Result<()> {
        // Blocks that were freed can be had again when the journal has it.
        Ok(rustix::fs::syncfs(dir::open_dir(self.fs.path())?)?)
    }

    /// A file takes all blocks but `n`.
    fn leave_blocks(&self, n: u64) -> Result<()> {
        self.sync()?;
        let block = rustix::fs::statfs(self.fs.path())?.f_bsize as u64;
        let fd = sys::create(self.filler())?;
        let (mut len, mut step) = (0, 4096 * block);
        while step >= block {
            match rustix::fs::fallocate(&fd, FallocateFlags::empty(), len, step) {
                Ok(()) => len += step,
                Err(Errno::NOSPC) => step /= 2,
                Err(e) => return Err(e.into()),
            }
        }
        // What a failed attempt took goes, too.
        rustix::fs::ftruncate(&fd, len - n * block)?;
        self.sync()
    }

    /// Files take all inodes but `n`.
    fn leave_inodes(&self, n: u64) -> Result<()> {
        self.sync()?;
        sys::mkdir(self.filler())?;
        let mut made = 0;
        while rustix::fs::statfs(self.fs.path())?.f_ffree > n {
            sys::create(self.filler().join(made.to_string()))?;
            made += 1;
        }
        Ok(())
    }
}

impl Limited for Ext4 {
    fn leave(&self, n: u64) -> Result<()> {
        match self.inodes {
            true => self.leave_inodes(n),
            false => self.leave_blocks(n),
        }
    }

    fn unlimited(&self) -> Result<()> {
        let filler = self.filler();
        match (exists(&filler), self.inodes) {
            (false, _) => Ok(()),
            (true, true) => Ok(fs::remove_dir_all(filler)?),
            (true, false) => Ok(fs::remove_file(filler)?),
        }
    }

    fn path(&self) -> &Path {
        self.fs.path()
    }

    fn errno(&self) -> Errno {
        Errno::NOSPC
    }

    fn most(&self) -> u64 {
        80
    }
}

fn on_ext4(cx: &Ctx, inodes: bool) -> Result<()> {
    let mkfs = ["-b", "1024", "-J", "size=1", "-N", "128"];
    let fs = Private::ext4(&cx.name(), 4 << 20, &mkfs, "acl,user_xattr")?;
    let limited = Ext4 { fs, inodes };
    sweep(cx, &limited, 0, 3)?;
    limited.fs.umount()
}

fn blocks_of_ext4(cx: &Ctx) -> Result<()> {
    on_ext4(cx, false)
}

fn inodes_of_ext4(cx: &Ctx) -> Result<()> {
    on_ext4(cx, true)
}

// --- quota ------------------------------------------------------------------------------------

/// Whose quota is limited: the owner of the lower files.
const OWNER: u32 = 1001;

/// An ext4 on which [`OWNER`] has a quota.
struct Quota {
    fs: Private,
    device: CString,
    inodes: bool,
}

impl Quota {
    /// One call of quotactl(2) for the user.
    fn control(&self, command: i32, quota: &mut libc::dqblk) -> Result<()> {
        let command = libc::QCMD(command, libc::USRQUOTA);
        // SAFETY: The device is a string, the structure is what both commands take.
        let ret = unsafe {
            libc::quotactl(
                command,
                self.device.as_bytes_with_nul().as_ptr().cast(),
                OWNER as i32,
                std::ptr::from_mut(quota).cast(),
            )
        };
        ensure!(ret == 0, "quotactl: {}", sys::last_errno());
        Ok(())
    }

    fn used(&self) -> Result<libc::dqblk> {
        // SAFETY: All fields are numbers.
        let mut quota = unsafe { std::mem::zeroed() };
        self.control(libc::Q_GETQUOTA, &mut quota)?;
        Ok(quota)
    }
}

impl Limited for Quota {
    fn leave(&self, n: u64) -> Result<()> {
        // Allocations that are still delayed count already.
        let mut quota = self.used()?;
        // A limit of 0 is none, so [`quota`] lets the user own something.
        match self.inodes {
            true => quota.dqb_ihardlimit = quota.dqb_curinodes + n,
            false => quota.dqb_bhardlimit = quota.dqb_curspace.div_ceil(1024) + n,
        }
        quota.dqb_valid = libc::QIF_LIMITS;
        self.control(libc::Q_SETQUOTA, &mut quota)
    }

    fn unlimited(&self) -> Result<()> {
        let mut quota = self.used()?;
        (quota.dqb_ihardlimit, quota.dqb_bhardlimit) = (0, 0);
        quota.dqb_valid = libc::QIF_LIMITS;
        self.control(libc::Q_SETQUOTA, &mut quota)
    }

    fn path(&self) -> &Path {
        self.fs.path()
    }

    fn errno(&self) -> Errno {
        Errno::DQUOT
    }

    fn most(&self) -> u64 {
        60
    }
}

fn quota(cx: &Ctx, inodes: bool) -> Result<()> {
    let mkfs = ["-b", "1024", "-O", "quota", "-E", "quotatype=usrquota"];
    let fs = Private::ext4(&cx.name(), 16 << 20, &mkfs, "usrquota,acl,user_xattr")?;
    let device = CString::new(crate::harness::union::mounts_line(fs.path())?[0].as_str())?;
    sys::write(fs.path().join("ballast"), "x")?;
    sys::chown(fs.path().join("ballast"), Some(OWNER), None)?;
    let limited = Quota { fs, device, inodes };
    sweep(cx, &limited, OWNER, 2)?;
    limited.fs.umount()
}

fn quota_of_blocks(cx: &Ctx) -> Result<()> {
    quota(cx, false)
}

fn quota_of_inodes(cx: &Ctx) -> Result<()> {
    quota(cx, true)
}
