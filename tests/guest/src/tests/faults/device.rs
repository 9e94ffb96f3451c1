// SPDX-License-Identifier: GPL-2.0

//! The device under a branch fails: reads, writes, or all of it.
//!
//! A file system may go on from its caches for a while, and refuse all changes from some moment
//! on. What is asked of the union: no operation hangs, nothing is pinned, and when the device is
//! back and all is mounted again, the operation is done or undone as a whole.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use rustix::mount::MountFlags;

use super::ops::{self, Lowers, Op, State};
use crate::harness::{
    device::Mapped,
    prelude::*,
    scratch::{self},
    union::{reconfigure, Union},
    watchdog,
};

cases! {
    ONCE: writes_fail_on_ext4, gone_on_ext4, writes_fail_on_xfs, gone_below_a_lower_branch,
        reads_fail_during_copy_up, mounting_on_a_dead_device, write_back_fails_before_syncfs;
}

/// A file system on a device that can fail.
struct Disk {
    device: Mapped,
    kind: Kind,
    path: PathBuf,
}

impl Disk {
    fn new(cx: &Ctx, kind: Kind) -> Result<Self> {
        let size = if kind == Kind::Xfs {
            320 << 20
        } else {
            32 << 20
        };
        let device = Mapped::new(&cx.name(), size)?;
        match kind {
            Kind::Xfs => scratch::run("mkfs.xfs", &["-q", "-f", device.device()])?,
            _ => scratch::run("mkfs.ext4", &["-q", "-F", "-J", "size=4", device.device()])?,
        }
        let path = cx.mount_point()?;
        let disk = Self { device, kind, path };
        disk.mount()?;
        // What they say when their device fails.
        for text in [
            "EXT4-fs error",
            "EXT4-fs warning",
            "XFS (dm-",
            "Buffer I/O error",
        ] {
            cx.tolerate(text);
        }
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        scratch::mount(self.device.device(), self.kind.name(), &self.path, "")
    }

    fn umount(&self) -> Result<()> {
        scratch::umount(&self.path)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Operations, `every` second or third or so, with a device that fails from just before each.
fn sweep(cx: &Ctx, kind: Kind, fail: fn(&Mapped) -> Result<()>, every: usize) -> Result<()> {
    let disk = Disk::new(cx, kind)?;
    let lowers = Lowers::new(cx, Kind::Tmpfs)?;
    let mut failures = 0;
    for op in ops::CHANGES.iter().chain(ops::READS).step_by(every) {
        failures += u64::from(!one(cx, &disk, &lowers, op, fail).context(op.name)?);
        watchdog::alive();
    }
    ensure!(failures > 3, "only {failures} operations failed");
    disk.umount()
}

/// Says whether the operation succeeded.
fn one(
    cx: &Ctx,
    disk: &Disk,
    lowers: &Lowers,
    op: &Op,
    fail: fn(&Mapped) -> Result<()>,
) -> Result<bool> {
    let rw = disk.path().join("rw");
    let fresh = || -> Result<Union> {
        if exists(&rw) {
            std::fs::remove_dir_all(&rw)?;
        }
        sys::mkdir(&rw)?;
        ops::upper().build(&rw)?;
        rustix::fs::syncfs(dir::open_dir(disk.path())?)?;
        lowers.union(cx, &rw)
    };
    let start = ops::now();
    let expected = {
        let u = fresh()?;
        (op.run)(u.root())?;
        State::of(&u)?
    };
    let u = fresh()?;
    let before = State::of(&u)?;
    // On disk, what the mount made as well.
    rustix::fs::syncfs(dir::open_dir(disk.path())?)?;
    fail(&disk.device)?;
    let result = (op.run)(u.root());
    u.umount()?;
    disk.umount()?;
    disk.device.works()?;
    disk.mount()?;
    // Nothing was synced, so what was done may be lost.
    let u = lowers.union(cx, &rw)?;
    let state = State::of(&u)?;
    let undone = state.check_undone(&before, start);
    if let (Err(undone), Err(done)) = (undone, state.check_done(&expected, start)) {
        anyhow::bail!("{result:?}; neither undone: {undone:#}\nnor done: {done:#}");
    }
    u.umount()?;
    Ok(result.is_ok())
}

fn writes_fail_on_ext4(cx: &Ctx) -> Result<()> {
    sweep(cx, Kind::Ext4, Mapped::writes_fail, 2)
}

fn gone_on_ext4(cx: &Ctx) -> Result<()> {
    sweep(cx, Kind::Ext4, Mapped::gone, 3)
}

fn writes_fail_on_xfs(cx: &Ctx) -> Result<()> {
    sweep(cx, Kind::Xfs, Mapped::writes_fail, 5)
}

/// Builds a lower branch on a failing disk, and a union over it with caches that are cold.
fn over(cx: &Ctx, tree: &Tree) -> Result<(Disk, Union)> {
    let disk = Disk::new(cx, Kind::Ext4)?;
    let low = disk.path().join("low");
    sys::mkdir(&low)?;
    tree.build(&low)?;
    rustix::mount::mount_remount(disk.path(), MountFlags::RDONLY, c"")?;
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new().file("d/up", "up"))?;
    let u = cx.union().at(&rw, "rw").at(&low, "ro").mount()?;
    sys::drop_caches();
    Ok((disk, u))
}

/// The device of a lower branch vanishes: what lies on it fails, what does not works, and what was
/// hidden stays hidden.
fn gone_below_a_lower_branch(cx: &Ctx) -> Result<()> {
    let tree = Tree::new()
        .file("d/low", vec![b'l'; 50_000])
        .file("d/gone", "gone")
        .file("e/x", "");
    let (disk, u) = over(cx, &tree)?;
    sys::unlink(u.at("d/gone"))?;
    sys::drop_caches();
    disk.device.gone()?;
    // A name that cannot be asked for is an error, not an absence: it might be hidden, or not.
    for (what, result) in [
        ("stat", sys::lstat(u.at("d/low")).map(drop)),
        (
            "stat of what may be there",
            sys::lstat(u.at("d/none")).map(drop),
        ),
        ("read", sys::read(u.at("e/x")).map(drop)),
        ("list", names(u.at("e")).map(drop)),
        ("copy up", sys::append(u.at("d/low"), "+")),
        ("create", sys::create(u.at("d/new")).map(drop)),
        ("unlink", sys::unlink(u.at("d/low"))),
        ("rename", sys::rename(u.at("d/low"), u.at("d/up"))),
    ] {
        match result {
            Err(e) if e.errno == Errno::IO => {}
            // ext4 may have it in a block that is cached.
            Err(e) if e.errno == Errno::NOENT && what == "stat of what may be there" => {}
            other => anyhow::bail!("{what}: {other:?}"),
        }
    }
    disk.device.works()?;
    sys::drop_caches();
    assert_eq!(names(u.at("d"))?, set(["low", "up"]));
    sys::append(u.at("d/low"), "+")?;
    assert_eq!(sys::read(u.at("d/low"))?.len(), 50_001);
    assert!(!exists(u.at("d/gone")));
    u.umount()?;
    disk.umount()
}

/// The contents of a lower file cannot be read, or only some: there is no copy.
fn reads_fail_during_copy_up(cx: &Ctx) -> Result<()> {
    const SIZE: usize = 8 << 20;
    let (disk, u) = over(cx, &Tree::new().file("d/low", vec![b'l'; SIZE]))?;
    let before = State::of(&u)?;
    let fd = sys::open_ro(u.at("d/low"))?;
    let sectors = disk.device.below().sectors()?;
    // Everything from a moment in the file on, more with each round.
    for bad in [8, 16, 24, 28] {
        sys::drop_caches();
        sys::lstat(u.at("d/low"))?;
        let good = sectors - sectors * bad / 32;
        let lower = disk.device.below().device();
        disk.device.load(&format!(
            "0 {good} linear {lower} 0\n{good} {} error",
            sectors - good
        ))?;
        let result = sys::append(u.at("d/low"), "+");
        disk.device.works()?;
        match result {
            // The file lies before.
            Ok(()) => {
                assert_eq!(sys::read(u.at("d/low"))?.len(), SIZE + 1);
                anyhow::ensure!(bad < 28, "the file was read from a dead device");
                sys::unlink(u.br(0, "d/low"))?;
                sys::drop_caches();
            }
            Err(e) => {
                assert_eq!(e.errno, Errno::IO);
                assert!(!exists(u.br(0, "d/low")));
                State::of(&u)?.check_undone(&before, ops::NEVER)?;
            }
        }
    }
    drop(fd);
    sys::append(u.at("d/low"), "+")?;
    assert_eq!(sys::read(u.at("d/low"))?.len(), SIZE + 1);
    u.umount()?;
    disk.umount()
}

/// A mount whose branch cannot be read or written is refused and leaves nothing.
fn mounting_on_a_dead_device(cx: &Ctx) -> Result<()> {
    let disk = Disk::new(cx, Kind::Ext4)?;
    let rw = disk.path().join("rw");
    sys::mkdir(&rw)?;
    ops::upper().build(&rw)?;
    rustix::fs::syncfs(dir::open_dir(disk.path())?)?;
    let lowers = Lowers::new(cx, Kind::Tmpfs)?;
    sys::drop_caches();
    disk.device.gone()?;
    if let Ok(u) = lowers.union(cx, &rw) {
        // From caches; then nothing can be made.
        ensure!(sys::create(u.at("d/new")).is_err() || sys::lstat(u.at("d/new")).is_ok());
        u.umount()?;
    }
    disk.umount()?;
    disk.device.works()?;
    disk.mount()?;
    let u = lowers.union(cx, &rw)?;
    sys::append(u.at("e/f/g/deep"), "+")?;
    u.umount()?;
    disk.umount()
}

/// Data that was lost when it was written back is told of by syncfs(2), once through each file, as
/// on the file system itself.
fn write_back_fails_before_syncfs(cx: &Ctx) -> Result<()> {
    let disk = Disk::new(cx, Kind::Ext4)?;
    let (rw, lost) = (disk.path().join("rw"), disk.path().join("rw/lost"));
    sys::mkdir(&rw)?;
    // Its blocks are there, so the journal is not needed to write it.
    sys::write(&lost, [b'a'; 8192])?;
    rustix::fs::syncfs(dir::open_dir(disk.path())?)?;
    let u = cx.union().at(&rw, "rw").ro(Tree::new()).mount()?;
    let second = cx.union().at(&rw, "ro").mount()?;
    let syncfs = |fd: &std::os::fd::OwnedFd| rustix::fs::syncfs(fd);
    let (one, two) = (dir::open_dir(u.root())?, sys::open_ro(u.at("lost"))?);
    let (bare, other) = (dir::open_dir(disk.path())?, dir::open_dir(second.root())?);
    for fd in [&one, &two, &bare, &other] {
        syncfs(fd)?;
    }
    let fail = || -> Result<()> {
        let fd = sys::open_rw(u.at("lost"))?;
        sys::pwrite_fd(&fd, &[b'b'; 4096], 0)?;
        disk.device.writes_fail()?;
        // Somebody else writes it, and is told.
        let result = rustix::fs::fdatasync(sys::open_ro(&lost)?);
        disk.device.works()?;
        ensure!(result == Err(Errno::IO), "fdatasync: {result:?}");
        Ok(())
    };
    fail()?;
    for fd in [&one, &two, &bare] {
        assert_eq!(syncfs(fd), Err(Errno::IO));
        syncfs(fd)?;
        syncfs(fd)?;
    }
    // A branch that is written no more tells the same, and so does one that leaves.
    fail()?;
    reconfigure(u.root(), &[&format!("mod={}=ro", rw.display())])?;
    assert_eq!(syncfs(&one), Err(Errno::IO));
    reconfigure(u.root(), &[&format!("mod={}=rw", rw.display())])?;
    fail()?;
    drop((two, other));
    drop(second);
    reconfigure(u.root(), &[&format!("del={}", rw.display())])?;
    assert_eq!(syncfs(&one), Err(Errno::IO));
    syncfs(&one)?;
    drop((one, bare));
    u.umount()?;
    disk.umount()
}
