// SPDX-License-Identifier: GPL-2.0

//! What an administrator does to a branch's file system under a mounted union: remount it
//! read-only, unmount it, freeze it. And kills during a copy-up.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::mount::{MountFlags, UnmountFlags};

use super::ops::{self, Lowers, State};
use crate::harness::{
    hold::Frozen,
    prelude::*,
    scratch::{self, Private},
    union::Union,
    watchdog,
};

cases! {
    ONCE: read_only_below, read_only_mount, lazily_unmounted, frozen, killed_while_frozen,
        full_and_killed, others_branch_is_frozen, unmounted_while_a_branch_is_frozen,
        others_branch_is_read_only;
}

/// A file system of the test's own, and a union with its writable branch there.
fn on_own_fs(cx: &Ctx) -> Result<(Private, Lowers, Union)> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let rw = fs.path().join("rw");
    sys::mkdir(&rw)?;
    ops::upper().build(&rw)?;
    let lowers = Lowers::new(cx, Kind::Tmpfs)?;
    let u = lowers.union(cx, &rw)?;
    Ok((fs, lowers, u))
}

/// `mount -o remount,ro` of the file system below: nothing can be changed, everything can be
/// read; back to `rw` everything works.
fn read_only_below(cx: &Ctx) -> Result<()> {
    let (fs, _lowers, u) = on_own_fs(cx)?;
    let before = State::of(&u)?;
    let remount = |flags| rustix::mount::mount_remount(fs.path(), flags, c"");
    remount(MountFlags::RDONLY).context("remount,ro below")?;
    for op in ops::CHANGES {
        match (op.run)(u.root()) {
            Err(e) if e.errno == Errno::ROFS => {}
            other => anyhow::bail!("{}: {other:?}", op.name),
        }
    }
    for op in ops::READS {
        (op.run)(u.root()).context(op.name)?;
    }
    State::of(&u)?.check_undone(&before, ops::NEVER)?;
    remount(MountFlags::empty()).context("remount,rw below")?;
    sys::append(u.at("e/f/g/deep"), "+")?;
    sys::unlink(u.at("d/low"))?;
    assert!(text(u.at("e/f/g/deep"))?.ends_with("d+"));
    u.umount()?;
    fs.umount()
}

/// `mount -o remount,bind,ro` of the mount that the branch's path leads through: the union has one
/// of its own and goes on.
fn read_only_mount(cx: &Ctx) -> Result<()> {
    let (fs, _lowers, u) = on_own_fs(cx)?;
    let rw = fs.path().join("rw");
    rustix::mount::mount_remount(fs.path(), MountFlags::BIND | MountFlags::RDONLY, c"")?;
    errno(sys::write(rw.join("direct"), "x"), Errno::ROFS);
    sys::append(u.at("e/f/g/deep"), "+")?;
    sys::unlink(u.at("d/low"))?;
    assert!(text(rw.join("e/f/g/deep"))?.ends_with("d+"));
    u.umount()?;
    fs.umount()
}

/// `umount -l` of the branches' file systems: the union has mounts of its own and goes on; when it
/// is gone, so are they.
fn lazily_unmounted(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let (rw, ro) = (fs.path().join("rw"), fs.path().join("ro"));
    sys::mkdir(&rw)?;
    sys::mkdir(&ro)?;
    Tree::new().file("d/f", "lower").dir("e").build(&ro)?;
    let device = crate::harness::union::mounts_line(fs.path())?[0].clone();
    let u = cx.union().at(&rw, "rw").at(&ro, "ro").mount()?;
    rustix::mount::unmount(fs.path(), UnmountFlags::DETACH)?;
    sys::append(u.at("d/f"), "+")?;
    sys::write(u.at("e/new"), "new")?;
    sys::rename(u.at("e/new"), u.at("d/new"))?;
    sys::drop_caches();
    assert_eq!(
        (text(u.at("d/f"))?, text(u.at("d/new"))?),
        ("lower+".into(), "new".into())
    );
    u.umount()?;
    // The device is free: nothing holds the file system any more.
    let start = Instant::now();
    loop {
        match scratch::run("e2fsck", &["-f", "-n", &device]) {
            Ok(()) => return Ok(()),
            // The loop device goes by itself when its last user does.
            Err(_)
                if !std::path::Path::new(&format!("/sys/block/{}/loop", &device[5..])).exists() =>
            {
                return Ok(());
            }
            Err(e) if start.elapsed() > Duration::from_secs(5) => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// While a branch is frozen, changes wait and reads elsewhere go on; thawed, all changes are done. (A sync
/// waits, too, as on the branch itself.)
fn frozen(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let lowers = Lowers::new(cx, Kind::Tmpfs)?;
    let union = |name: &str| -> Result<Union> {
        let rw = fs.path().join(name);
        sys::mkdir(&rw)?;
        ops::upper().build(&rw)?;
        lowers.union(cx, &rw)
    };
    for (n, op) in ops::CHANGES.iter().enumerate() {
        let start = ops::now();
        let expected = {
            let other = union(&format!("other{n}"))?;
            (op.run)(other.root())?;
            State::of(&other)?
        };
        let u = union(&format!("rw{n}"))?;
        // What waits holds the directory that it changes, so no new name is looked up there.
        sys::lstat(u.at("aside"))?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| -> Result<()> {
            let frozen = Frozen::new(fs.path())?;
            for op in ops::READS.iter().filter(|op| !op.name.starts_with("sync")) {
                (op.run)(u.root()).with_context(|| format!("{} while it is frozen", op.name))?;
            }
            let changing = scope.spawn(|| {
                let result = (op.run)(u.root());
                done.store(true, Ordering::Release);
                result
            });
            thread::sleep(Duration::from_millis(20));
            // The objects that it changes are locked, as the VFS locks before it asks us.
            let read = || -> Result<()> {
                ensure!(!done.load(Ordering::Acquire), "it did not wait");
                ensure!(text(u.at("aside/file"))? == "aside");
                ensure!(names(u.at("aside"))? == set(["file"]));
                Ok(())
            };
            let read = read().context("while it is frozen");
            drop(frozen);
            let changed = changing.join().expect("the thread panicked");
            read?;
            Ok(changed?)
        })
        .context(op.name)?;
        let after = State::of(&u)?;
        after.check_done(&expected, start).context(op.name)?;
        u.umount()?;
        watchdog::alive();
    }
    fs.umount()
}

fn writer(path: &std::path::Path) -> Result<Child> {
    let mut dd = Command::new("dd");
    dd.arg(format!("of={}", path.display()));
    dd.args(["if=/dev/zero", "bs=1", "count=1", "conv=notrunc"]);
    Ok(dd.stderr(Stdio::null()).spawn()?)
}

/// Who waits for a thaw and is killed goes away then, and leaves nothing half done.
fn killed_while_frozen(cx: &Ctx) -> Result<()> {
    let (fs, _lowers, u) = on_own_fs(cx)?;
    let before = State::of(&u)?;
    let frozen = Frozen::new(fs.path())?;
    let mut children = Vec::new();
    for name in ["d/low", "e/f/g/deep", "d/sparse", "d/low"] {
        children.push(writer(&u.at(name))?);
    }
    thread::sleep(Duration::from_millis(200));
    for child in &mut children {
        child.kill()?;
    }
    drop(frozen);
    for mut child in children {
        child.wait()?;
    }
    // Killed before the first byte was written; copied up or not, all is as it was.
    let after = State::of(&u)?;
    after.check_undone(&before, ops::NEVER)?;
    u.umount()?;
    fs.umount()
}

/// Kills at many moments of copy-ups to a nearly full file system, by two at a time: whatever
/// comes first, no space is lost.
fn full_and_killed(cx: &Ctx) -> Result<()> {
    const SIZE: usize = 6 << 20;
    let fs = Private::tmpfs(&cx.name(), "size=9m")?;
    let rw = fs.path().join("rw");
    sys::mkdir(&rw)?;
    let low = Tree::new()
        .file("a", vec![b'x'; SIZE])
        .file("b", vec![b'x'; SIZE]);
    let low = cx.branch(Kind::Tmpfs, "ro", &low)?;
    let u = cx.union().at(&rw, "rw").at(&low, "ro").mount()?;
    let free = rustix::fs::statfs(fs.path())?.f_bfree;
    for i in 0..12 {
        let mut children = [writer(&u.at("a"))?, writer(&u.at("b"))?];
        thread::sleep(Duration::from_millis(2 + 6 * i));
        for child in &mut children {
            child.kill()?;
            child.wait()?;
        }
        for name in ["a", "b"] {
            if exists(rw.join(name)) {
                sys::unlink(rw.join(name))?;
            }
        }
        sys::drop_caches();
        sys::lstat(u.at("a"))?;
        let now = rustix::fs::statfs(fs.path())?.f_bfree;
        ensure!(now == free, "blocks: {free} free before, {now} after");
    }
    u.umount()?;
    fs.umount()
}

/// A file with three names, of which a copy is on the middle one of three branches. The upper one
/// is on another file system.
fn copied_below(cx: &Ctx) -> Result<(Private, Union)> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let (middle, low) = (fs.path().join("middle"), fs.path().join("low"));
    sys::mkdir(&middle)?;
    sys::mkdir(&low)?;
    Tree::new()
        .file("v", "low")
        .hardlink("v2", "v")
        .hardlink("v3", "v")
        .build(&low)?;
    let u = cx.union().at(&middle, "rw").at(&low, "ro").mount()?;
    sys::append(u.at("v"), "+")?;
    u.umount()?;
    let up = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let u = cx
        .union()
        .at(&up, "rw")
        .at(&middle, "rw")
        .at(&low, "ro")
        .mount()?;
    sys::write(u.at("new"), "new")?;
    assert_eq!(sys::lstat(u.at("v2"))?.st_nlink, 3);
    Ok((fs, u))
}

/// The name was replaced, and what has the others has two left; also at the next mount.
fn two_are_left(u: &mut Union, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let left = |u: &Union| -> Result<()> {
        assert_eq!(text(u.at("v"))?, "new");
        for name in ["v2", "v3"] {
            assert_eq!(sys::lstat(u.at(name))?.st_nlink, 2, "{name}");
            assert_eq!(text(u.at(name))?, "low+");
        }
        Ok(())
    };
    left(u)?;
    sys::drop_caches();
    left(u)?;
    change()?;
    u.again()?;
    left(u)
}

/// A name is replaced on one branch. What it led to has a pseudo-link on another one, which is not
/// waited for.
fn others_branch_is_frozen(cx: &Ctx) -> Result<()> {
    let (fs, mut u) = copied_below(cx)?;
    let mut frozen = Some(Frozen::new(fs.path())?);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let renaming = scope.spawn(|| {
            let result = sys::rename(u.at("new"), u.at("v"));
            done.store(true, Ordering::Release);
            result
        });
        let start = Instant::now();
        while !done.load(Ordering::Acquire) && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(10));
        }
        let in_time = done.load(Ordering::Acquire);
        if !in_time {
            // Or it would wait for ever.
            frozen = None;
        }
        renaming.join().expect("no panic")?;
        ensure!(in_time, "it waited for the other branch");
        Ok(())
    })?;
    two_are_left(&mut u, || {
        drop(frozen);
        Ok(())
    })?;
    u.umount()?;
    fs.umount()
}

/// The union is unmounted while it is frozen: what is to be noted there is, after the thaw.
fn unmounted_while_a_branch_is_frozen(cx: &Ctx) -> Result<()> {
    let (fs, u) = copied_below(cx)?;
    let frozen = Frozen::new(fs.path())?;
    sys::rename(u.at("new"), u.at("v"))?;
    let spec = u.spec().clone();
    u.umount()?;
    let target = cx.mount_point()?;
    let refused = spec.mount(&target).expect_err("it is still to be written");
    assert_eq!(refused.errno, Errno::BUSY, "{refused}");
    drop(frozen);
    let start = Instant::now();
    while let Err(refused) = spec.mount(&target) {
        ensure!(start.elapsed() < Duration::from_secs(60), "{refused}");
        thread::sleep(Duration::from_millis(50));
    }
    for name in ["v2", "v3"] {
        assert_eq!(sys::lstat(target.join(name))?.st_nlink, 2, "{name}");
    }
    scratch::umount(&target)?;
    fs.umount()
}

/// The same while the other one is read-only.
fn others_branch_is_read_only(cx: &Ctx) -> Result<()> {
    let (fs, mut u) = copied_below(cx)?;
    let remount = |flags| rustix::mount::mount_remount(fs.path(), flags, c"");
    remount(MountFlags::RDONLY)?;
    sys::rename(u.at("new"), u.at("v"))?;
    two_are_left(&mut u, || Ok(remount(MountFlags::empty())?))?;
    u.umount()?;
    fs.umount()
}
