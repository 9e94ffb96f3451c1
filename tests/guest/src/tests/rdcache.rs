// SPDX-License-Identifier: GPL-2.0

//! How long a merged listing is kept (`rdcache=`), and the options about its memory.

use std::{path::Path, thread::sleep, time::Duration};

use rustix::fs::inotify;

use super::bad_input::refused;
use crate::harness::{
    prelude::*,
    scratch,
    union::{mounts_line, Builder},
};

cases! {
    BASIC: listings_are_kept_for_a_while, fixed_listings_are_kept, changes_are_seen_whatever_it_is;
    ONCE: values, blocks_and_buckets, kept_at_the_cost_of_the_reader;
}

/// How often the directory `dir` of a branch is read during `act`.
fn reads(dir: &Path, act: impl FnOnce() -> Result<()>) -> Result<usize> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK)?;
    // Equal events become one: between two times of opening it is closed.
    let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::CLOSE_NOWRITE;
    inotify::add_watch(&watch, dir, flags)?;
    act()?;
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut space);
    let mut count = 0;
    while let Ok(event) = events.next() {
        count += usize::from(event.events().contains(inotify::ReadFlags::OPEN));
    }
    Ok(count)
}

fn two<'c>(cx: &'c Ctx, perm: &str) -> Builder<'c> {
    let kind = cx.layout.upper();
    cx.union().on(kind, perm, Tree::new().file("d/a", "")).on(
        kind,
        perm,
        Tree::new().file("d/b", ""),
    )
}

fn listings_are_kept_for_a_while(cx: &Ctx) -> Result<()> {
    for (option, wait, wanted) in [
        ("rdcache=0", 0, 3),
        ("rdcache=1", 1200, 3),
        ("rdcache=60", 300, 1),
        ("nosum", 300, 1),
    ] {
        let u = two(cx, "rw").opt(option).mount()?;
        // What was made a moment ago is older then.
        sleep(Duration::from_millis(50));
        let count = reads(&u.br(1, "d"), || {
            for _ in 0..3 {
                assert_eq!(names(u.at("d"))?, set(["a", "b"]));
                sleep(Duration::from_millis(wait));
            }
            Ok(())
        })?;
        assert_eq!(count, wanted, "{option}");
    }
    Ok(())
}

/// Nobody can change a `rr` branch, so its listings hold.
fn fixed_listings_are_kept(cx: &Ctx) -> Result<()> {
    let u = two(cx, "rr").opt("rdcache=1").read_only().mount()?;
    let count = reads(&u.br(1, "d"), || {
        for _ in 0..2 {
            assert_eq!(names(u.at("d"))?, set(["a", "b"]));
            sleep(Duration::from_millis(1200));
        }
        Ok(())
    })?;
    assert_eq!(count, 1);
    Ok(())
}

fn changes_are_seen_whatever_it_is(cx: &Ctx) -> Result<()> {
    for option in ["rdcache=0", "rdcache=3600"] {
        let u = two(cx, "rw").opt(option).mount()?;
        assert_eq!(names(u.at("d"))?, set(["a", "b"]));
        sys::write(u.at("d/c"), "")?;
        assert_eq!(names(u.at("d"))?, set(["a", "b", "c"]));
        sys::unlink(u.at("d/b"))?;
        assert_eq!(names(u.at("d"))?, set(["a", "c"]));
        // A change behind the union's back, later than one tick.
        sleep(Duration::from_millis(50));
        sys::write(u.br(1, "d/direct"), "")?;
        assert_eq!(names(u.at("d"))?, set(["a", "c", "direct"]), "{option}");
    }
    Ok(())
}

fn values(cx: &Ctx) -> Result<()> {
    let branch = cx.branch(Kind::Tmpfs, "rw", &Tree::new().file("f", ""))?;
    let list = format!("br={}=rw", branch.display());
    for (option, word) in [
        ("rdcache=3601", "3600"),
        ("rdcache=-1", "number"),
        ("rdcache=x", "number"),
        ("rdblk=254", "255"),
        ("rdblk=x", "def"),
        ("rdhash=-1", "def"),
        ("dirwh=-1", "number"),
        ("dirwh=", "number"),
    ] {
        let key = option.split('=').next().unwrap_or(option);
        refused(cx, &[&list, option], Errno::INVAL, &[&[key], &[word]]);
    }
    for (given, shown) in [
        ("rdcache=0", Some("rdcache=0")),
        ("rdcache=10", None),
        ("rdcache=3600", Some("rdcache=3600")),
        ("rdblk=def", None),
        ("rdblk=0", Some("rdblk=0")),
        ("rdblk=4096", Some("rdblk=4096")),
        ("rdhash=def", None),
        ("rdhash=64", Some("rdhash=64")),
        ("dirwh=3", None),
        ("dirwh=0", Some("dirwh=0")),
    ] {
        let u = cx.union().at(&branch, "rw").opt(given).mount()?;
        let options = mounts_line(u.root())?[3].clone();
        let key = given.split('=').next().unwrap_or(given);
        let found = options.split(',').find(|o| o.starts_with(key));
        assert_eq!(found, shown, "{given}");
        assert_eq!(names(u.root())?, set(["f"]));
        u.umount()?;
    }
    Ok(())
}

/// They are accepted without a word, though nothing follows from them.
fn blocks_and_buckets(cx: &Ctx) -> Result<()> {
    for option in ["rdblk=4096", "rdhash=64"] {
        let before = cx.klog().len();
        let u = two(cx, "rw").opt(option).mount()?;
        assert_eq!(names(u.at("d"))?, set(["a", "b"]));
        let said = cx.klog()[before..].join("\n");
        let key = option.split('=').next().unwrap_or(option);
        assert!(!said.contains(key), "{said}");
    }
    Ok(())
}

/// What is kept of a directory is charged to who listed it.
fn kept_at_the_cost_of_the_reader(cx: &Ctx) -> Result<()> {
    const NAMES: usize = 20_000;
    let (rw, ro) = (cx.dir(Kind::Tmpfs)?, cx.dir(Kind::Tmpfs)?);
    for dir in [&rw, &ro] {
        sys::mkdir(dir.join("d"))?;
    }
    sys::write(rw.join("d/f"), "")?;
    for n in 0..NAMES {
        sys::mkdir(ro.join(format!("d/{n:0200}")))?;
    }
    let u = cx
        .union()
        .at(&rw, "rw")
        .at(&ro, "ro")
        .opt("rdcache=3600")
        .mount()?;
    let groups = scratch::base().join("cgroup2");
    sys::mkdir(&groups)?;
    scratch::mount("cgroup2", "cgroup2", &groups, "")?;
    std::fs::write(groups.join("cgroup.subtree_control"), "+memory")?;
    let group = groups.join("reader");
    sys::mkdir(&group)?;
    let status = std::process::Command::new("bash")
        .args([
            "-c",
            "echo $$ > $0/cgroup.procs && ls -f $1 | wc -l >/dev/null",
        ])
        .args([&group, &u.at("d")])
        .status()?;
    let stat = std::fs::read_to_string(group.join("memory.stat"))?;
    let kernel = stat.lines().find_map(|line| line.strip_prefix("kernel "));
    let kernel: usize = kernel.context("no line \"kernel\"")?.parse()?;
    u.umount()?;
    sys::rmdir(&group)?;
    std::fs::write(groups.join("cgroup.subtree_control"), "-memory")?;
    scratch::umount(&groups)?;
    sys::rmdir(&groups)?;
    assert!(status.success(), "{status}");
    assert!(kernel > NAMES * 200, "{kernel} bytes are charged");
    Ok(())
}
