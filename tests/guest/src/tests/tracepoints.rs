// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: what happens is shown with the right fields, and nothing else is.

use rustix::fs::{major, minor, Stat};

use super::{
    held_up::{further, named, over_fuse},
    mvdown::move_down,
};
use crate::harness::{
    fuse::{self, Request},
    prelude::*,
    scratch::Private,
    sys::RenameFlags,
    trace::{Counting, Event, Trace},
    union::reconfigure,
};

cases! {
    BASIC: copy_up, whiteouts, renames, remounts, stale_names, rename_that_is_overtaken,
        stale_name_of_a_remote_branch, moves_down;
    ONCE: odd_names, when_it_is_off, of_other_unions, copy_up_without_room;
}

/// The device of an object as events show it.
fn dev(stat: &Stat) -> String {
    format!("{}:{}", major(stat.st_dev), minor(stat.st_dev))
}

/// The event is about what `stat` is of, with a name in the directory `dir`.
#[track_caller]
fn about(event: &Event, stat: &Stat, kind: &str, dir: &Stat, name: &str) {
    let shown = ["dev", "kind", "name"].map(|field| event.text(field));
    assert_eq!(shown, [&dev(stat), kind, name], "{event:?}");
    let shown = ["ino", "dir"].map(|field| event.number(field));
    let wanted = [stat, dir].map(|stat| i64::try_from(stat.st_ino).expect("a small number"));
    assert_eq!(shown, wanted, "{event:?}");
}

/// The numbers in these fields.
fn numbers<const N: usize>(event: &Event, fields: [&str; N]) -> [i64; N] {
    fields.map(|field| event.number(field))
}

fn copy_up(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", vec![b'f'; 50_000])
        .symlink("d/link", "f")
        .fifo("d/pipe");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    text(u.at("d/f"))?;
    assert!(trace.events()?.is_empty(), "reading");

    sys::append(u.at("d/f"), "end")?;
    let events = trace.events()?;
    assert_eq!(events.len(), 2, "{events:?}");
    let [root, d, f] = ["", "d", "d/f"].map(|name| sys::lstat(u.at(name)).expect("stat"));
    about(&events[0], &d, "dir", &root, "d");
    about(&events[1], &f, "file", &d, "f");
    for (event, bytes) in events.iter().zip([0, 50_000]) {
        assert_eq!(event.name, "copy_up");
        let shown = numbers(event, ["from", "to", "bytes", "error"]);
        assert_eq!(shown, [65, 64, bytes, 0], "{event:?}");
        assert!(event.number("ns") > 0, "{event:?}");
    }

    sys::append(u.at("d/f"), "end")?;
    assert!(trace.events()?.is_empty(), "what was copied before");
    for (name, kind) in [("link", "symlink"), ("pipe", "0x1000")] {
        sys::chown(u.at(&format!("d/{name}")), Some(1), None)?;
        let [event] = &trace.named("copy_up")?[..] else {
            panic!("one copy-up of {name}");
        };
        let stat = sys::lstat(u.at(&format!("d/{name}")))?;
        about(event, &stat, kind, &d, name);
    }
    u.umount()
}

fn whiteouts(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "f").file("d/g", "g");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    let branch = sys::lstat(u.br(0, ""))?;
    let one = |what: &str, dir: &Stat, name: &str| -> Result<()> {
        let [event] = &trace.named("whiteout")?[..] else {
            panic!("one mark: {what} {name}");
        };
        let shown = ["what", "dev", "name"].map(|field| event.text(field));
        assert_eq!(shown, [what, &dev(dir), name], "{event:?}");
        let shown = numbers(event, ["branch", "dir", "error"]);
        assert_eq!(shown, [64, i64::try_from(dir.st_ino)?, 0], "{event:?}");
        Ok(())
    };
    sys::unlink(u.at("f"))?;
    one("make", &branch, "f")?;
    sys::write(u.at("f"), "new")?;
    one("remove", &branch, "f")?;
    sys::unlink(u.at("d/g"))?;
    let d = sys::lstat(u.br(0, "d"))?;
    one("make", &d, "g")?;
    sys::rmdir(u.at("d"))?;
    one("make", &branch, "d")?;
    sys::mkdir(u.at("d"))?;
    let events = trace.named("whiteout")?;
    let mut all: Vec<_> = events.iter().map(|event| event.text("what")).collect();
    all.sort_unstable();
    assert_eq!(all, ["opaque", "remove"], "{events:?}");
    sys::write(u.at("other"), "nothing below")?;
    sys::unlink(u.at("other"))?;
    assert!(trace.events()?.is_empty(), "no mark");
    u.umount()
}

fn renames(cx: &Ctx) -> Result<()> {
    let rw = Tree::new()
        .file("a/f", "f")
        .dir("b")
        .file("g", "g")
        .file("full/x", "");
    let u = cx.union().rw(rw).ro(Tree::new()).mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    let [root, a, b, f] = ["", "a", "b", "a/f"].map(|name| sys::lstat(u.at(name)).expect("stat"));
    let one = || -> Result<Event> {
        let mut events = trace.events()?;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].name, "rename");
        Ok(events.remove(0))
    };

    sys::rename(u.at("a/f"), u.at("b/new"))?;
    let event = one()?;
    about(&event, &f, "file", &a, "new");
    let shown = numbers(&event, ["to_dir", "error"]);
    assert_eq!(shown, [i64::try_from(b.st_ino)?, 0], "{event:?}");
    assert!(event.number("ns") > 0, "{event:?}");
    assert_eq!(event.text("flags"), "0");

    sys::rename_with(u.at("b/new"), u.at("g"), RenameFlags::EXCHANGE)?;
    let event = one()?;
    about(&event, &f, "file", &b, "g");
    assert_eq!(event.text("flags"), "2");

    let full = Errno::NOTEMPTY;
    errno(sys::rename(u.at("a"), u.at("full")), full);
    let event = one()?;
    about(&event, &a, "dir", &root, "a");
    assert_eq!(
        event.number("error"),
        -i64::from(full.raw_os_error()),
        "{event:?}"
    );

    sys::link(u.at("g"), u.at("h"))?;
    assert!(trace.events()?.is_empty(), "no rename");
    u.umount()
}

fn remounts(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    reconfigure(u.root(), &[&further(cx)?])?;
    reconfigure(u.root(), &["udba=none"])?;
    let proc = reconfigure(u.root(), &["append:/proc=ro"]).expect_err("procfs as a branch");
    let events = trace.events()?;
    let device = dev(&sys::lstat(u.root())?);
    let error = -i64::from(proc.errno.raw_os_error());
    assert_eq!(events.len(), 3, "{events:?}");
    for (event, (branches, error)) in events
        .iter()
        .zip([("2->3", 0), ("3->3", 0), ("3->3", error)])
    {
        assert_eq!(event.name, "remount");
        let shown = ["dev", "branches"].map(|field| event.text(field));
        assert_eq!(shown, [device.as_str(), branches], "{event:?}");
        assert_eq!(event.number("error"), error, "{event:?}");
        assert!(event.number("ns") > 0, "{event:?}");
    }
    u.umount()
}

fn stale_names(cx: &Ctx) -> Result<()> {
    let rw = Tree::new().file("d/gone", "").file("d/stays", "");
    let u = cx
        .union()
        .opt("udba=reval")
        .rw(rw)
        .ro(Tree::new())
        .mount()?;
    let [d, gone] = ["d", "d/gone"].map(|name| sys::lstat(u.at(name)).expect("stat"));
    errno(sys::lstat(u.at("d/new")), Errno::NOENT);
    let trace = Trace::of(&u, &cx.name())?;
    sys::unlink(u.br(0, "d/gone"))?;
    sys::write(u.br(0, "d/new"), "")?;
    text(u.at("d/stays"))?;
    assert!(trace.events()?.is_empty(), "it holds");
    errno(sys::lstat(u.at("d/gone")), Errno::NOENT);
    text(u.at("d/new"))?;
    let events = trace.events()?;
    assert_eq!(events.len(), 2, "{events:?}");
    about(&events[0], &gone, "file", &d, "gone");
    // It led nowhere.
    let shown = ["kind", "ino", "name"].map(|field| events[1].text(field));
    assert_eq!(shown, ["0x0", "0", "new"], "{events:?}");
    for event in events {
        assert_eq!(event.name, "stale");
    }
    u.umount()
}

/// A rename that a remount overtakes is shown once, as its caller sees it. The names are those of
/// objects, so that the VFS need not look them up again.
fn rename_that_is_overtaken(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let trace = Trace::of(&u, &cx.name())?;
    fuse.hold(Request::Read);
    let (old, new) = (u.at(fuse::FILE), u.at("plain"));
    let renamer = named("renamer", move || sys::rename(old, new))?;
    fuse.wait_for(1)?;
    reconfigure(u.root(), &[&further(cx)?])?;
    fuse.release();
    renamer.join().expect("no panic")?;
    let events = trace.events()?;
    let named = |name: &str| events.iter().filter(|event| event.name == name).collect();
    let (renames, remounts): (Vec<_>, Vec<_>) = (named("rename"), named("remount"));
    assert_eq!((renames.len(), remounts.len()), (1, 1), "{events:?}");
    assert_eq!(renames[0].number("error"), 0, "{events:?}");
    // The time in which the remount came is part of it.
    let [rename, remount] = [renames[0], remounts[0]].map(|event| event.number("ns"));
    assert!(rename > remount, "{events:?}");
    u.umount()
}

/// On a branch that is asked at each use, too.
fn stale_name_of_a_remote_branch(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let [root, f] = ["", fuse::FILE].map(|name| sys::lstat(u.at(name)).expect("stat"));
    let trace = Trace::of(&u, &cx.name())?;
    sys::lstat(u.at(fuse::FILE))?;
    assert!(trace.events()?.is_empty(), "it holds");
    fuse.take_file();
    errno(sys::lstat(u.at(fuse::FILE)), Errno::NOENT);
    let events = trace.events()?;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].name, "stale");
    about(&events[0], &f, "file", &root, fuse::FILE);
    u.umount()
}

/// A copy-up that fails is shown with its error.
fn copy_up_without_room(cx: &Ctx) -> Result<()> {
    let fs = Private::tmpfs(&cx.name(), "size=256k")?;
    let u = cx
        .union()
        .at(fs.path(), "rw")
        .ro(Tree::new().file("f", vec![b'f'; 1 << 20]))
        .mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    let full = Errno::NOSPC;
    errno(sys::append(u.at("f"), "end"), full);
    let [event] = &trace.named("copy_up")?[..] else {
        panic!("one copy-up");
    };
    assert_eq!(event.number("error"), -i64::from(full.raw_os_error()));
    assert!(event.number("bytes") < 1 << 20, "{event:?}");
    u.umount()?;
    fs.umount()
}

/// A move to a lower branch is shown and counted, and so is one that fails.
fn moves_down(cx: &Ctx) -> Result<()> {
    let rw = Tree::new().file("d/f", vec![b'f'; 50_000]);
    let u = cx.union().rw(rw).rw(Tree::new()).mount()?;
    let [d, f] = ["d", "d/f"].map(|name| sys::lstat(u.at(name)).expect("stat"));
    let trace = Trace::of(&u, &cx.name())?;
    let counting = Counting::of(&u)?;
    move_down(&sys::open_ro(u.at("d/f"))?)?;
    let [event] = &trace.named("move_down")?[..] else {
        panic!("one move");
    };
    about(event, &f, "file", &d, "f");
    let shown = numbers(event, ["from", "to", "bytes", "error"]);
    assert_eq!(shown, [64, 65, 50_000, 0], "{event:?}");
    let all = counting.all()?;
    let moved = ["moves_down", "move_down_bytes"].map(|name| all[name]);
    assert_eq!(moved, [1, 50_000], "{all:?}");
    u.umount()
}

/// A name cannot look like other fields, or another line.
fn odd_names(cx: &Ctx) -> Result<()> {
    let name = "a\nb error=1 \x7f\x1b[1mé";
    let low = Tree::new().file(name, "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    sys::unlink(u.at(name))?;
    let events = trace.events()?;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].text("name"), "a?b?error=1???[1mé");
    u.umount()
}

fn when_it_is_off(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", ""))
        .mount()?;
    let trace = Trace::of(&u, &cx.name())?;
    trace.enable("whiteout", false)?;
    sys::append(u.at("f"), "")?;
    sys::unlink(u.at("f"))?;
    let events = trace.events()?;
    let seen: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(seen, ["copy_up"]);
    u.umount()
}

fn of_other_unions(cx: &Ctx) -> Result<()> {
    let mount = || {
        cx.union()
            .rw(Tree::new())
            .ro(Tree::new().file("f", ""))
            .mount()
    };
    let (a, b) = (mount()?, mount()?);
    let trace = Trace::of(&a, &cx.name())?;
    sys::unlink(b.at("f"))?;
    assert!(trace.events()?.is_empty());
    sys::unlink(a.at("f"))?;
    assert_eq!(trace.events()?.len(), 1);
    a.umount()?;
    b.umount()
}
