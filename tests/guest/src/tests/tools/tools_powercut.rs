// SPDX-License-Identifier: GPL-2.0

//! Power cuts while a branch is merged into one on another file system: whenever the power goes,
//! the union shows what it showed, and the commit can be run again.
//!
//! Both file systems are on one recorded disk, so that what is sure to be on either at a moment is
//! known. Neither writes anything by itself (`commit=300`), and the upper one is synced all the
//! time: a removal that does not wait for the lower one is on disk first.
//!
//! `SEED` (default 1) chooses the moments, `CUTS` (default 12) is their number.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::ensure;

use super::tool;
use crate::harness::{
    device::{output, Loop, Mapped},
    prelude::*,
    random::Random,
    scratch,
    snapshot::{Scope, Snapshot},
    watchdog,
    writelog::Recorded,
};

cases! {
    ONCE: commit_survives, aubrsync_survives;
}

const HALF: u64 = 24 << 20;
const LOG: u64 = 300 << 20;

/// One half of a disk as a device.
struct Half(String);

impl Half {
    fn new(disk: &str, number: u64) -> Result<Self> {
        let (offset, size) = ((number * HALF).to_string(), HALF.to_string());
        let args = ["-f", "--show", "-o", &offset, "--sizelimit", &size, disk];
        output("losetup", &args).map(Half)
    }

    fn make(&self) -> Result<()> {
        let options = ["-q", "-F", "-E", "nodiscard", "-J", "size=4"];
        scratch::run("mkfs.ext4", &[&options[..], &[&self.0]].concat())
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup")
            .args(["-d", &self.0])
            .status();
    }
}

/// Both file systems, mounted.
struct Both {
    halves: [Half; 2],
    mounts: [PathBuf; 2],
}

impl Both {
    fn mount(cx: &Ctx, disk: &str, make: bool) -> Result<Self> {
        let both = Both {
            halves: [Half::new(disk, 0)?, Half::new(disk, 1)?],
            mounts: [cx.mount_point()?, cx.mount_point()?],
        };
        for (half, mount) in both.halves.iter().zip(&both.mounts) {
            if make {
                half.make()?;
            }
            scratch::mount(&half.0, "ext4", mount, "commit=300")?;
        }
        Ok(both)
    }

    fn branches(&self) -> [PathBuf; 2] {
        [self.mounts[0].join("b"), self.mounts[1].join("b")]
    }

    fn umount(self) -> Result<()> {
        self.mounts
            .iter()
            .try_for_each(|mount| scratch::umount(mount))
    }

    fn shown(&self, cx: &Ctx) -> Result<Snapshot> {
        let [upper, lower] = self.branches();
        let u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
        let shown = Snapshot::of(u.root(), Scope::Visible)?;
        u.umount()?;
        Ok(shown)
    }
}

fn commit_survives(cx: &Ctx) -> Result<()> {
    survives(cx, &|_, upper, lower| {
        let args: &[&dyn AsRef<_>] = &[&"commit", &"--upper", &upper, &"--lower", &lower];
        tool("ruaufs", args)?.good();
        Ok(())
    })
}

fn aubrsync_survives(cx: &Ctx) -> Result<()> {
    survives(cx, &|cx, upper, lower| {
        let u = cx.union().at(upper, "rw").at(lower, "ro").mount()?;
        tool("aubrsync", &[&"move", &u.root(), &upper, &lower])?.good();
        u.umount()
    })
}

/// Merges one branch into another.
type Merge = dyn Fn(&Ctx, &Path, &Path) -> Result<()>;

fn survives(cx: &Ctx, merge: &Merge) -> Result<()> {
    let setting = |name: &str, default: u64| -> Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
            Err(_) => Ok(default),
        }
    };
    let (seed, cuts) = (setting("SEED", 1)?, setting("CUTS", 12)?);
    let mut random = Random::new(seed);
    let device = Mapped::new(&cx.name(), 2 * HALF)?;
    let both = Both::mount(cx, device.device(), true)?;
    build(&both.branches())?;
    // A mounted union makes its bookkeeping; that is no part of what is recorded.
    let before = both.shown(cx)?;
    both.umount()?;
    let image = Loop::new(&cx.name(), 2 * HALF)?;
    fs::copy(device.below().image(), image.image())?;

    let disk = Recorded::new(device, &cx.name(), LOG)?;
    let both = Both::mount(cx, disk.device.device(), false)?;
    let [upper, lower] = both.branches();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let root = both.mounts[0].clone();
        let stop = &stop;
        scope.spawn(move || {
            let root = dir::open_dir(&root).expect("the root");
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::syncfs(&root);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let merged = merge(cx, &upper, &lower);
        stop.store(true, Ordering::Relaxed);
        merged
    })?;
    both.umount()?;
    let log = disk.log()?;

    let mut moments: Vec<_> = (0..cuts)
        .map(|_| random.below(log.entries.len() as u64) as usize + 1)
        .collect();
    moments.sort_unstable();
    let sure_disk = File::options().write(true).open(image.image())?;
    let mut sure = 0;
    for (n, moment) in moments.into_iter().enumerate() {
        sure = log.replay(sure, moment, &sure_disk)?;
        let cut = Loop::new(&cx.name(), 2 * HALF)?;
        fs::copy(image.image(), cut.image())?;
        let target = File::options().write(true).open(cut.image())?;
        log.cut(sure, moment, &target, &mut |n| random.below(n))?;
        drop(target);
        went_on(cx, &cut, &before).with_context(|| {
            format!(
                "cut {n}, after write {moment} of {}, seed {seed}",
                log.entries.len()
            )
        })?;
        watchdog::alive_after(n as u64 + 1, cuts, "cuts");
    }
    Ok(())
}

/// What is to be merged: new, changed, removed, replaced, and names of one file.
fn build([upper, lower]: &[PathBuf; 2]) -> Result<()> {
    let mut up = Tree::new();
    let mut low = Tree::new();
    for i in 0..8 {
        let at = |name: &str| format!("d{i}/{name}");
        low = low
            .file(&at("changed"), vec![1; 5_000])
            .file(&at("gone/with/all"), "old")
            .file(&at("stays"), "stays");
        up = up
            .file(&at("changed"), vec![2; 9_000])
            .file(&at("new"), vec![3; 70_000])
            .whiteout(&at("gone"))
            .file(&at("one"), "several names")
            .hardlink(&format!("x{i}"), &at("one"));
    }
    sys::mkdir(upper)?;
    sys::mkdir(lower)?;
    up.build(upper)?;
    low.build(lower)
}

/// The union is what it was, and the commit comes to its end.
fn went_on(cx: &Ctx, disk: &Loop, before: &Snapshot) -> Result<()> {
    let both = Both::mount(cx, disk.device(), false)?;
    // Which names show the original and which the copy may differ for a moment, and so may the
    // times of the root.
    let same = |now: &Snapshot| {
        let mut diff = before.without_links().diff(&now.without_links());
        diff.retain(|line| !line.starts_with("\"\": mtime"));
        diff
    };
    let diff = same(&both.shown(cx)?);
    ensure!(diff.is_empty(), "the union differs:\n{}", diff.join("\n"));
    let [upper, lower] = both.branches();
    let args: &[&dyn AsRef<_>] = &[&"commit", &"--upper", &upper, &"--lower", &lower];
    tool("ruaufs", args)?.good();
    let diff = same(&Snapshot::of(&lower, Scope::Visible)?);
    ensure!(
        diff.is_empty(),
        "the merged branch differs:\n{}",
        diff.join("\n")
    );
    for i in 0..8 {
        let ino = |name: String| sys::lstat(lower.join(name)).map(|stat| stat.st_ino);
        ensure!(
            ino(format!("d{i}/one"))? == ino(format!("x{i}"))?,
            "two files of one"
        );
    }
    both.umount()
}
