// SPDX-License-Identifier: GPL-2.0

//! Power cuts: a load is recorded, and the disk set to what it may hold when the power goes at
//! any moment of it. Then each object of the union is as it was between two steps of the load,
//! and not before a step that was synced.
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
    device::{Loop, Mapped},
    prelude::*,
    random::Random,
    scratch,
    snapshot::{Scope, Snapshot},
    sys::{RenameFlags, Time},
    watchdog,
    writelog::Recorded,
};

cases! {
    ONCE: old_or_new;
}

/// Bytes of the disk, and of the log.
const DISK: u64 = 48 << 20;
const LOG: u64 = 400 << 20;
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
    let mnt = cx.mount_point()?;
    scratch::mount(disk.device(), "ext4", &mnt, "")?;
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
    scratch::run("e2fsck", &["-f", "-n", disk.device()])
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

    // The disk, with all that is there before the load begins.
    let device = Mapped::new(&cx.name(), DISK)?;
    scratch::run(
        "mkfs.ext4",
        &[
            "-q",
            "-F",
            "-E",
            "nodiscard",
            "-J",
            "size=4",
            device.device(),
        ],
    )?;
    let mnt = cx.mount_point()?;
    scratch::mount(device.device(), "ext4", &mnt, "")?;
    sys::mkdir(mnt.join("rw"))?;
    scratch::umount(&mnt)?;
    let low = cx.branch(Kind::Tmpfs, "ro", &lower())?;
    let before = Loop::new(&cx.name(), DISK)?;
    fs::copy(device.below().image(), before.image())?;

    let disk = Recorded::new(device, &cx.name(), LOG)?;
    scratch::mount(disk.device.device(), "ext4", &mnt, "")?;
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
        let cut = Loop::new(&cx.name(), DISK)?;
        fs::copy(before.image(), cut.image())?;
        let target = File::options().write(true).open(cut.image())?;
        log.cut(sure, moment, &target, &mut |n| random.below(n))?;
        drop(target);
        survives(cx, &cut, &low, |root| check(root, &histories, mark))
            .with_context(|| format!("cut {n}, after write {moment}, mark {mark}, seed {seed}"))?;
        watchdog::alive_after(n as u64 + 1, cuts, "cuts");
    }
    Ok(())
}
