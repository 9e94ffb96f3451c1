// SPDX-License-Identifier: GPL-2.0

//! Power cuts: a load is recorded, and the disk set to what it may hold when the power goes at
//! any moment of it. Then each object of the union is as it was between two steps of the load,
//! and not before a step that was synced. And what moves to another file system is there.
//!
//! `SEED` (default 1) chooses the load and the moments, `CUTS` (default 20) is their number.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
};

use anyhow::ensure;

use crate::harness::{
    context::leftovers,
    device::{output, Loop, Mapped},
    ioctl::{on, MVDOWN},
    prelude::*,
    random::Random,
    scratch,
    snapshot::{Scope, Snapshot},
    sys::{RenameFlags, Time},
    union::reconfigure,
    watchdog,
    writelog::Recorded,
};

cases! {
    JOURNALS: old_or_new;
    DISKS: moved_down, moved_up, made_before_it_was_read_only;
}

/// The file systems that keep the order of all changes. On btrfs what is synced by itself overtakes
/// earlier changes of other names, so there a state between two steps is not what is to be seen.
const JOURNALS: &[Layout] = &[Layout::Ext4, Layout::Xfs];

/// The file systems that have something to say about it.
const DISKS: &[Layout] = &[Layout::Ext4, Layout::Xfs, Layout::Btrfs];

/// Bytes of the log.
const LOG: u64 = 400 << 20;

/// Bytes of the disk: nearly as few as there can be.
fn size(kind: Kind) -> u64 {
    match kind {
        Kind::Ext4 => 48 << 20,
        _ => 320 << 20,
    }
}

/// Makes an empty file system. Nothing is discarded: that would not be recorded.
fn make(kind: Kind, device: &str) -> Result<()> {
    let options: &[&str] = match kind {
        Kind::Ext4 => &["-q", "-F", "-E", "nodiscard", "-J", "size=4"],
        Kind::Btrfs => &["-q", "-f", "-K", "-m", "single", "-d", "single"],
        _ => &["-q", "-f", "-K"],
    };
    let tool = format!("mkfs.{}", kind.name());
    scratch::run(&tool, &[options, &[device]].concat())
}

/// Mounts a file system that does nothing by itself for a long time.
fn mount(kind: Kind, device: &str, target: &Path) -> Result<()> {
    let options = match kind {
        Kind::Ext4 => "commit=300",
        Kind::Btrfs => "commit=300,nodiscard",
        _ => "",
    };
    if kind == Kind::Btrfs {
        // It knows the disks by what is on them, and each is a copy of one that it knows.
        output("btrfs", &["device", "scan", "--forget"])?;
    }
    scratch::mount(device, kind.name(), target, options)
}

/// Fails if the file system is not whole.
fn examine(kind: Kind, device: &str) -> Result<()> {
    match kind {
        Kind::Ext4 => scratch::run("e2fsck", &["-f", "-n", device]),
        Kind::Btrfs => scratch::run("btrfs", &["check", device]),
        _ => scratch::run("xfs_repair", &["-n", device]),
    }
}

/// Copies an image, and no holes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    scratch::run("cp", &["--sparse=always", &from, &to])
}
/// Objects under change.
const OBJECTS: usize = 24;

/// One system call that changes something in an object, the directory given.
type Step = fn(&Path) -> Result<()>;

/// What may happen to an object, in this order. Data is synced, as a program does that wants to
/// have it whole; names and attributes are not.
const SCRIPTS: &[&[Step]] = &[
    // Data of lower files.
    &[
        |o| append(&o.join("f"), "+"),
        |o| Ok(sys::chmod(o.join("f"), 0o600)?),
        |o| Ok(sys::link(o.join("f"), o.join("f2"))?),
        |o| append(&o.join("f2"), "-"),
        |o| Ok(sys::unlink(o.join("f"))?),
        |o| Ok(sys::truncate(o.join("big"), 70_000)?),
        |o| Ok(sys::set_xattr(o.join("big"), "user.a", "b")?),
    ],
    // A file replaced by a new one.
    &[
        |o| Ok(sys::create(o.join("f.new")).map(drop)?),
        |o| append(&o.join("f.new"), "all new"),
        |o| Ok(sys::rename(o.join("f.new"), o.join("f"))?),
        |o| Ok(sys::rename(o.join("f"), o.join("g"))?),
        |o| Ok(sys::rename(o.join("g"), o.join("dir/x"))?),
        |o| {
            Ok(sys::rename_with(
                o.join("dir/x"),
                o.join("big"),
                RenameFlags::EXCHANGE,
            )?)
        },
    ],
    // A lower directory goes, and comes again empty.
    &[
        |o| Ok(sys::unlink(o.join("dir/x"))?),
        |o| Ok(sys::unlink(o.join("dir/y"))?),
        |o| Ok(sys::rmdir(o.join("dir"))?),
        |o| Ok(sys::mkdir(o.join("dir"))?),
        |o| Ok(sys::symlink("new", o.join("dir/x"))?),
        |o| Ok(sys::rename(o.join("dir"), o.join("moved"))?),
        |o| Ok(sys::chmod(o.join("moved"), 0o700)?),
    ],
    // A directory takes the place of an emptied lower one.
    &[
        |o| Ok(sys::mkdir(o.join("new"))?),
        |o| Ok(sys::create(o.join("new/file")).map(drop)?),
        |o| Ok(sys::unlink(o.join("dir/x"))?),
        |o| Ok(sys::unlink(o.join("dir/y"))?),
        |o| Ok(sys::rename(o.join("new"), o.join("dir"))?),
        |o| Ok(sys::unlink(o.join("sym"))?),
        |o| Ok(sys::mkdir(o.join("sym"))?),
        |o| {
            Ok(sys::rename_with(
                o.join("sym"),
                o.join("big"),
                RenameFlags::EXCHANGE,
            )?)
        },
    ],
];

fn append(path: &Path, text: &str) -> Result<()> {
    let fd = sys::open(path, OFlags::APPEND | OFlags::WRONLY)?;
    sys::write_fd(&fd, text.as_bytes())?;
    Ok(rustix::fs::fsync(fd)?)
}

/// The lower branch.
fn lower() -> Tree {
    (0..OBJECTS).fold(Tree::new(), |tree, n| {
        let name = |name: &str| format!("o{n}/{name}");
        tree.file(&name("f"), vec![b'f'; 9000])
            .xattr("user.k", "v")
            .file(&name("big"), vec![b'b'; 100_000])
            .file(&name("dir/x"), "x")
            .file(&name("dir/y"), "y")
            .symlink(&name("sym"), "f")
    })
}

/// What an object looked like after each of its steps, and from which of these on it was synced
/// at each mark.
struct History {
    states: Vec<Snapshot>,
    synced: BTreeMap<usize, usize>,
}

/// Runs the load; marks have increasing numbers.
fn load(root: &Path, disk: &Recorded, random: &mut Random) -> Result<Vec<History>> {
    let object = |n: usize| root.join(format!("o{n}"));
    let mut histories = Vec::new();
    for n in 0..OBJECTS {
        histories.push(History {
            states: vec![Snapshot::of(&object(n), Scope::Visible)?],
            synced: BTreeMap::from([(0, 0)]),
        });
    }
    let script = |n: usize| SCRIPTS[n % SCRIPTS.len()];
    let mut mark = 0;
    loop {
        let open: Vec<_> = (0..OBJECTS)
            .filter(|&n| histories[n].states.len() <= script(n).len())
            .collect();
        let Some(&n) = open.get(random.below(open.len().max(1) as u64) as usize) else {
            return Ok(histories);
        };
        let step = histories[n].states.len() - 1;
        script(n)[step](&object(n)).with_context(|| format!("o{n}, step {step}"))?;
        let state = Snapshot::of(&object(n), Scope::Visible)?;
        histories[n].states.push(state);
        if random.below(12) == 0 {
            rustix::fs::syncfs(dir::open_dir(root)?)?;
            mark += 1;
            disk.mark(&mark.to_string())?;
            for history in &mut histories {
                let last = history.states.len() - 1;
                history.synced.insert(mark, last);
            }
        }
    }
}

/// Fails unless each object is as after one of its steps, none of them before `mark`.
fn check(root: &Path, histories: &[History], mark: usize) -> Result<()> {
    for (n, history) in histories.iter().enumerate() {
        // Times may be from the step that was cut off.
        const ALWAYS: Time = (i64::MIN, 0);
        let now = Snapshot::of(&root.join(format!("o{n}")), Scope::Visible)?;
        let first = history.synced[&mark];
        let diffs = history
            .states
            .iter()
            .map(|s| s.diff_but_times(&now, ALWAYS));
        let diffs: Vec<_> = diffs.collect();
        if diffs[first..].iter().any(Vec::is_empty) {
            continue;
        }
        let each = |(step, diff)| format!("from step {step} by {diff:?}");
        let all: Vec<_> = diffs.iter().enumerate().map(each).collect();
        anyhow::bail!(
            "o{n}: it was synced after step {first}, and differs\n{}",
            all.join("\n")
        );
    }
    Ok(())
}

/// Mounts what is left, and sees that it can be used.
fn survives(cx: &Ctx, disk: &Loop, low: &Path, check: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (mnt, kind) = (cx.mount_point()?, cx.layout.upper());
    mount(kind, disk.device(), &mnt)?;
    let rw = mnt.join("rw");
    let u = cx.union().at(&rw, "rw").at(low, "ro").mount()?;
    check(u.root())?;
    // A name and its whiteout may both be there; then the whiteout means nothing.
    let left = leftovers(&Snapshot::of(&rw, Scope::Visible)?, true);
    ensure!(left.is_empty(), "the mount left {left:?}");
    for n in 0..OBJECTS {
        let new = u.at(&format!("o{n}/after"));
        sys::write(&new, "the cut")?;
        sys::rename(&new, u.at(&format!("o{n}/f")))?;
    }
    fs::remove_dir_all(u.at("o0"))?;
    ensure!(!exists(u.at("o0")));
    u.umount()?;
    scratch::umount(&mnt)?;
    examine(kind, disk.device())
}

/// A disk with an empty directory `rw`, whose writes are recorded from then on, mounted; and a
/// copy of it as it was before.
fn recorded(cx: &Ctx, mnt: &Path) -> Result<(Recorded, Loop)> {
    let kind = cx.layout.upper();
    let device = Mapped::new(&cx.name(), size(kind))?;
    make(kind, device.device())?;
    mount(kind, device.device(), mnt)?;
    sys::mkdir(mnt.join("rw"))?;
    scratch::umount(mnt)?;
    let before = Loop::new(&cx.name(), size(kind))?;
    copy(device.below().image(), before.image())?;
    let disk = Recorded::new(device, &cx.name(), LOG)?;
    mount(kind, disk.device.device(), mnt)?;
    Ok((disk, before))
}

fn old_or_new(cx: &Ctx) -> Result<()> {
    let setting = |name: &str, default: u64| -> Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
            Err(_) => Ok(default),
        }
    };
    let (seed, cuts) = (setting("SEED", 1)?, setting("CUTS", 20)?);
    let mut random = Random::new(seed);

    let mnt = cx.mount_point()?;
    let low = cx.branch(Kind::Tmpfs, "ro", &lower())?;
    let (disk, before) = recorded(cx, &mnt)?;
    let u = cx
        .union()
        .at(&mnt.join("rw"), "rw")
        .at(&low, "ro")
        .mount()?;
    let histories = load(u.root(), &disk, &mut random)?;
    u.umount()?;
    scratch::umount(&mnt)?;
    let log = disk.log()?;

    let mut moments: Vec<_> = (0..cuts)
        .map(|_| random.below(log.entries.len() as u64) as usize + 1)
        .collect();
    moments.sort_unstable();
    println!("    {} writes, {cuts} cuts, seed {seed}", log.entries.len());
    let sure_disk = File::options().write(true).open(before.image())?;
    let (mut sure, mut mark) = (0, 0);
    for (n, moment) in moments.into_iter().enumerate() {
        let reached = log.replay(sure, moment, &sure_disk)?;
        let numbers = log.entries[sure..moment]
            .iter()
            .filter_map(|e| e.mark.as_ref());
        // The end of the recording has a mark that is no number.
        mark = numbers
            .filter_map(|text| text.parse().ok())
            .max()
            .unwrap_or(mark)
            .max(mark);
        sure = reached;
        let cut = Loop::new(&cx.name(), size(cx.layout.upper()))?;
        copy(before.image(), cut.image())?;
        let target = File::options().write(true).open(cut.image())?;
        log.cut(sure, moment, &target, &mut |n| random.below(n))?;
        drop(target);
        survives(cx, &cut, &low, |root| check(root, &histories, mark))
            .with_context(|| format!("cut {n}, after write {moment}, mark {mark}, seed {seed}"))?;
        watchdog::alive_after(n as u64 + 1, cuts, "cuts");
    }
    Ok(())
}

/// How many files move.
const ROUNDS: usize = 5;

fn moving(n: usize) -> String {
    format!("d{n}/e/f")
}

/// Some contents; one file has none.
fn contents(n: usize) -> String {
    format!("contents {n}").repeat(n * 700)
}

/// After each move the file is there, as the original may be gone.
fn has_moved(rw: &Path, n: usize) -> Result<()> {
    let found = text(rw.join(moving(n)));
    ensure!(
        found.as_ref().is_ok_and(|found| *found == contents(n)),
        "{}: {found:?}",
        moving(n)
    );
    Ok(())
}

/// After each round the disk is cut off, as if nothing but what it was told to keep had arrived, or
/// some of it. What `check` looks for in the branch is there, of all rounds up to that.
fn cut_after_each(
    cx: &Ctx,
    disk: &Recorded,
    before: &Loop,
    check: fn(&Path, usize) -> Result<()>,
) -> Result<()> {
    let kind = cx.layout.upper();
    let mnt = cx.mount_point()?;
    let log = disk.log()?;
    let sure_disk = File::options().write(true).open(before.image())?;
    let (mut sure, mut random) = (0, Random::new(1));
    for n in 0..ROUNDS {
        let mark = (n + 1).to_string();
        let moment = log
            .entries
            .iter()
            .position(|entry| entry.mark.as_ref() == Some(&mark))
            .context("a mark is missing")?;
        sure = log.replay(sure, moment, &sure_disk)?;
        for all_is_lost in [true, false] {
            let cut = Loop::new(&cx.name(), size(kind))?;
            copy(before.image(), cut.image())?;
            let target = File::options().write(true).open(cut.image())?;
            log.cut(sure, moment, &target, &mut |n| match all_is_lost {
                true => 1.min(n - 1),
                false => random.below(n),
            })?;
            drop(target);
            mount(kind, cut.device(), &mnt)?;
            for n in 0..=n {
                check(&mnt.join("rw"), n).with_context(|| format!("after {mark} rounds"))?;
            }
            scratch::umount(&mnt)?;
            examine(kind, cut.device())?;
        }
        watchdog::alive_after(n as u64 + 1, ROUNDS as u64, "cuts");
    }
    Ok(())
}

/// MVDOWN. The branch above forgets at once, and has directories that the lower one has not.
fn moved_down(cx: &Ctx) -> Result<()> {
    let mnt = cx.mount_point()?;
    let up = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let (disk, before) = recorded(cx, &mnt)?;
    let u = cx.union().at(&up, "rw").at(&mnt.join("rw"), "rw").mount()?;
    for n in 0..ROUNDS {
        let file = u.at(&moving(n));
        fs::create_dir_all(file.parent().context("its directory")?)?;
        sys::write(&file, contents(n))?;
        on(sys::open_ro(&file)?, MVDOWN, &mut [0; 96])?;
        ensure!(!exists(up.join(moving(n))), "it is still above");
        disk.mark(&(n + 1).to_string())?;
    }
    u.umount()?;
    scratch::umount(&mnt)?;
    cut_after_each(cx, &disk, &before, has_moved)
}

/// A branch with `moo`: what is read there moves up. Some files have another name.
fn moved_up(cx: &Ctx) -> Result<()> {
    let mnt = cx.mount_point()?;
    let tree = (0..ROUNDS).fold(Tree::new(), |tree, n| {
        let tree = tree.file(&moving(n), contents(n));
        match n % 2 {
            0 => tree,
            _ => tree.hardlink(&format!("d{n}/other"), &moving(n)),
        }
    });
    let low = cx.branch(Kind::Tmpfs, "rw", &tree)?;
    let (disk, before) = recorded(cx, &mnt)?;
    let u = cx
        .union()
        .at(&mnt.join("rw"), "rw")
        .at(&low, "rw+moo")
        .mount()?;
    for n in 0..ROUNDS {
        ensure!(text(u.at(&moving(n)))? == contents(n));
        ensure!(!exists(low.join(moving(n))), "it is still below");
        disk.mark(&(n + 1).to_string())?;
    }
    u.umount()?;
    scratch::umount(&mnt)?;
    cut_after_each(cx, &disk, &before, has_moved)
}

/// A directory is synced when the branch that its names were made on is not written any more.
fn made_before_it_was_read_only(cx: &Ctx) -> Result<()> {
    let mnt = cx.mount_point()?;
    let low = cx.branch(Kind::Tmpfs, "ro", &Tree::new().dir("d"))?;
    let (disk, before) = recorded(cx, &mnt)?;
    let rw = mnt.join("rw");
    let u = cx.union().at(&rw, "rw").at(&low, "ro").mount()?;
    for n in 0..ROUNDS {
        sys::mkdir(u.at(&format!("d/made{n}")))?;
        let d = dir::open_dir(u.at("d"))?;
        reconfigure(u.root(), &[&format!("mod={}=ro", rw.display())])?;
        sys::on_fd("fsync", rustix::fs::fsync(&d))?;
        disk.mark(&(n + 1).to_string())?;
        reconfigure(u.root(), &[&format!("mod={}=rw", rw.display())])?;
    }
    u.umount()?;
    scratch::umount(&mnt)?;
    cut_after_each(cx, &disk, &before, |rw, n| {
        let name = format!("d/made{n}");
        ensure!(exists(rw.join(&name)), "{name} is not there");
        Ok(())
    })
}
