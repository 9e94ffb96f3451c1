// SPDX-License-Identifier: GPL-2.0

//! What a union counts (`stats` in debugfs): each counter counts what it says, and nothing else.

use std::{
    collections::BTreeMap,
    fs::read_to_string,
    thread::{self, sleep},
    time::Duration,
};

use super::held_up::{beside_others, busy, further, over_fuse};
use crate::harness::{
    fuse::Request,
    prelude::*,
    trace::{stats, stats_file, Counting},
    union::reconfigure,
};

cases! {
    BASIC: copy_ups, holes_are_not_copied, look_ups_in_one_branch, look_ups_with_an_index,
        listings, stale_names, remounts;
    ONCE: waits_for_remounts, form_of_the_file, held_open, for_root_only, each_union_for_itself;
}

/// Counts as they are written here.
fn counts<const N: usize>(all: [(&str, u64); N]) -> BTreeMap<String, u64> {
    all.into_iter()
        .map(|(name, n)| (name.to_owned(), n))
        .collect()
}

fn copy_ups(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/e/f", vec![b'f'; 100_000])
        .file("empty", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for name in ["d/e/f", "empty"] {
        sys::lstat(u.at(name))?;
    }
    let counting = Counting::of(&u)?;
    text(u.at("d/e/f"))?;
    assert_eq!(counting.counts()?, counts([]), "reading");
    sys::append(u.at("d/e/f"), "end")?;
    let all = counting.all()?;
    assert_eq!(
        (all["copy_ups"], all["copy_up_bytes"]),
        (3, 100_000),
        "{all:?}"
    );
    assert!(all["copy_up_ns"] > 0, "{all:?}");
    let counting = Counting::of(&u)?;
    sys::append(u.at("d/e/f"), "end")?;
    sys::chmod(u.at("d/e"), 0o700)?;
    assert_eq!(counting.counts()?, counts([]), "what was copied before");
    sys::chmod(u.at("empty"), 0o600)?;
    assert_eq!(counting.counts()?, counts([("copy_ups", 1)]));
    u.umount()
}

fn holes_are_not_copied(cx: &Ctx) -> Result<()> {
    let low = Tree::new().sparse(
        "f",
        64 << 20,
        &[(0, &[b'a'; 4096]), (32 << 20, &[b'b'; 4096])],
    );
    let kind = cx.layout.upper();
    let u = cx.union().rw(Tree::new()).on(kind, "ro", low).mount()?;
    let counting = Counting::of(&u)?;
    sys::append(u.at("f"), "end")?;
    let all = counting.all()?;
    // Up to a block of the file system around each.
    assert!(all["copy_up_bytes"] >= 8192, "{all:?}");
    assert!(all["copy_up_bytes"] < 1 << 20, "{all:?}");
    u.umount()
}

fn look_ups_in_one_branch(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/f", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::lstat(u.at("d"))?;
    let counting = Counting::of(&u)?;
    errno(sys::lstat(u.at("d/absent")), Errno::NOENT);
    sys::lstat(u.at("d/f"))?;
    let two = counts([("lookups", 2), ("branch_lookups", 2)]);
    assert_eq!(counting.counts()?, two);
    errno(sys::lstat(u.at("d/absent")), Errno::NOENT);
    sys::lstat(u.at("d/f"))?;
    assert_eq!(counting.counts()?, two, "cached names");
    u.umount()
}

fn look_ups_with_an_index(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/own", ""))
        .ro(Tree::new().file("d/low", ""))
        .ro(Tree::new().file("d/lowest", ""))
        .mount()?;
    sys::lstat(u.at("d"))?;
    let counting = Counting::of(&u)?;
    let absent = |n: u32| errno(sys::lstat(u.at(&format!("d/absent-{n}"))), Errno::NOENT);
    absent(0);
    let all = counting.all()?;
    assert_eq!((all["lookups"], all["index_misses"]), (1, 1), "{all:?}");
    assert_eq!((all["index_hits"], all["index_builds"]), (0, 0), "{all:?}");
    // A name in each branch, and a whiteout in those above the lowest: not more.
    assert!((3..=5).contains(&all["branch_lookups"]), "{all:?}");
    (1..40).for_each(absent);
    let all = counting.all()?;
    assert_eq!((all["lookups"], all["index_builds"]), (40, 1), "{all:?}");
    assert_eq!(all["index_hits"] + all["index_misses"], 40, "{all:?}");
    assert!(all["index_hits"] > 20, "{all:?}");
    let counting = Counting::of(&u)?;
    (40..45).for_each(absent);
    let wanted = counts([("lookups", 5), ("index_hits", 5), ("branch_lookups", 5)]);
    assert_eq!(
        counting.counts()?,
        wanted,
        "the writable branch alone is asked"
    );
    u.umount()
}

fn listings(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/b", "").file("alone/c", "");
    let rw = Tree::new().file("d/a", "");
    let u = cx.union().opt("rdcache=60").rw(rw).ro(low).mount()?;
    // What was made a moment ago is older then.
    sleep(Duration::from_millis(50));
    for name in ["d", "alone"] {
        sys::lstat(u.at(name))?;
    }
    let counting = Counting::of(&u)?;
    for _ in 0..3 {
        assert_eq!(names(u.at("d"))?, set(["a", "b"]));
        assert_eq!(names(u.at("alone"))?, set(["c"]));
    }
    assert_eq!(counting.counts()?, counts([("listings", 1)]));
    u.umount()
}

fn stale_names(cx: &Ctx) -> Result<()> {
    for (option, wanted) in [("udba=reval", 1), ("udba=none", 0)] {
        let rw = Tree::new().file("d/gone", "").file("d/stays", "");
        let u = cx.union().opt(option).rw(rw).ro(Tree::new()).mount()?;
        for _ in 0..3 {
            text(u.at("d/gone"))?;
            text(u.at("d/stays"))?;
        }
        let counting = Counting::of(&u)?;
        sys::unlink(u.br(0, "d/gone"))?;
        text(u.at("d/stays"))?;
        assert_eq!(counting.all()?["stale_names"], 0);
        assert_eq!(exists(u.at("d/gone")), wanted == 0);
        let all = counting.all()?;
        assert_eq!(
            (all["stale_names"], all["lookups"]),
            (wanted, wanted),
            "{all:?}"
        );
        assert_eq!(exists(u.at("d/gone")), wanted == 0);
        assert_eq!(counting.all()?, all, "it is known now");
        u.umount()?;
    }
    Ok(())
}

fn remounts(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
    let counting = Counting::of(&u)?;
    reconfigure(u.root(), &["udba=none"])?;
    reconfigure(u.root(), &[&further(cx)?])?;
    assert_eq!(counting.all()?["remounts"], 2);
    reconfigure(u.root(), &["append:/proc=ro"]).expect_err("procfs as a branch");
    assert_eq!(counting.all()?["remounts"], 2);
    u.umount()
}

/// Others wait for moments while a remount tries in vain.
fn waits_for_remounts(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    sys::chmod(u.at("plain"), 0o600)?;
    assert_eq!(stats(&u)?["gate_waits"], 0);
    fuse.hold(Request::Lookup("absent".to_owned()));
    let path = u.at("absent");
    let walker = thread::spawn(move || sys::lstat(path).map(drop));
    fuse.wait_for(1)?;
    busy(
        beside_others(&u, &[&further(cx)?])?,
        &["is looking a name up"],
    );
    fuse.release();
    errno(walker.join().expect("no panic"), Errno::NOENT);
    let all = stats(&u)?;
    assert!(all["gate_waits"] > 0, "{all:?}");
    // Each is one for a part of at least 50 milliseconds.
    assert!(all["gate_wait_ns"] > 1_000_000, "{all:?}");
    assert_eq!(all["remounts"], 0);
    let counting = Counting::of(&u)?;
    sys::chmod(u.at("plain"), 0o644)?;
    let all = counting.all()?;
    assert_eq!([all["gate_waits"], all["gate_wait_ns"]], [0, 0], "{all:?}");
    u.umount()
}

/// A line for each counter, with a name that the documentation has.
/// An open file keeps the module, whose code closes it, also when the union is gone.
fn held_open(cx: &Ctx) -> Result<()> {
    let uses = || -> Result<u32> {
        Ok(read_to_string("/sys/module/ruaufs/refcnt")?
            .trim()
            .parse()?)
    };
    let u = cx.union().rw(Tree::new()).mount()?;
    let path = stats_file(&u)?;
    for file in [path.clone(), path.with_file_name("plink")] {
        let before = uses()?;
        let held = sys::open_ro(&file)?;
        assert_eq!(uses()?, before + 1, "{}", file.display());
        drop(held);
    }
    let held = sys::open_ro(&path)?;
    u.umount()?;
    assert_ne!(uses()?, 0, "the module could go before the file");
    assert!(sys::pread_fd(&held).is_err(), "the union is gone");
    Ok(())
}

fn form_of_the_file(cx: &Ctx) -> Result<()> {
    let page = include_str!("../../../../Documentation/filesystems/ruaufs-interfaces.rst");
    let u = cx.union().rw(Tree::new()).mount()?;
    let text = read_to_string(stats_file(&u)?)?;
    let names: Vec<_> = text
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            value.parse::<u64>().expect("a number");
            name
        })
        .collect();
    let documented: Vec<_> = page
        .lines()
        .skip_while(|line| !line.contains("si_<hex>/stats"))
        .skip(1)
        .take_while(|line| *line != "Tracepoints")
        .filter_map(|line| line.strip_prefix("``")?.split_once("`` "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, documented);
    u.umount()
}

fn for_root_only(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).mount()?;
    let file = stats_file(&u)?;
    let mode = sys::mode(&sys::lstat(&file)?);
    assert_eq!(mode & 0o7777, 0o400);
    users::as_user(1001, 1001, || errno(sys::open_ro(&file), Errno::ACCESS));
    u.umount()?;
    assert!(!exists(&file));
    Ok(())
}

fn each_union_for_itself(cx: &Ctx) -> Result<()> {
    let mount = || {
        cx.union()
            .rw(Tree::new())
            .ro(Tree::new().file("f", "f"))
            .mount()
    };
    let (a, b) = (mount()?, mount()?);
    let (in_a, in_b) = (Counting::of(&a)?, Counting::of(&b)?);
    sys::append(a.at("f"), "end")?;
    assert_eq!(in_a.all()?["copy_ups"], 1);
    assert_eq!(in_b.counts()?, counts([]));
    a.umount()?;
    b.umount()
}
