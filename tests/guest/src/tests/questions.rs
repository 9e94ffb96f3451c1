// SPDX-License-Identifier: GPL-2.0

//! Questions to branches that do not answer, after the mount or remount that asked them has given
//! up: what they keep from being used, what they do late, and how many there are.

use std::{
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use super::held_up::{beside_others_in, busy, further, named, over_fuse, remounter};
use crate::harness::{
    fuse::{self, Fuse, Request},
    handle::Handle,
    hold::Frozen,
    nfs::Nfs,
    prelude::*,
    scratch::{self, Kind, Private},
    union::{reconfigure, Refused, Spec},
    watchdog,
};

cases! {
    BASIC: other_branches_are_free, branch_that_is_removed, list_of_renamed_directories,
        asked_once_at_a_time, writable_branch_in_the_making_of_a_remount,
        taken_and_given_back_by_a_remount;
    ONCE: left_over_pseudo_links, frozen_branch_of_a_mount, server_that_is_away,
        claim_of_a_change_that_was_given_up, handle_beside_a_frozen_branch,
        rename_on_a_frozen_branch, key_of_handles_on_its_way, tidying_waits_in_a_line;
}

/// How long something may take that is done by itself.
const SOON: Duration = Duration::from_secs(60);

/// Ends `child`, which waits for an answer. That goes on to be waited for by nobody.
fn kill(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Mounts `spec` as soon as that is possible.
fn mount_soon(spec: &Spec, target: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        match spec.mount(target) {
            Err(refused) if refused.errno == Errno::BUSY && begin.elapsed() < SOON => {
                watchdog::alive();
                thread::sleep(Duration::from_millis(50));
            }
            result => return Ok(result?),
        }
    }
}

/// The union is unmounted while its remount's question has no answer: the other branches can be
/// used by another one.
fn other_branches_are_free(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let rw = u.br(0, "");
    let held = sys::open_ro(u.at(fuse::FILE))?;
    fuse.hold(Request::Lookup(fuse::FILE.to_owned()));
    let child = remounter(&u, &further(cx)?)?;
    fuse.wait_for(1)?;
    kill(child)?;
    drop(held);
    u.umount()?;
    let second = cx.union().at(&rw, "rw").mount()?;
    assert_eq!(text(second.at("o/other"))?, "other");
    second.umount()?;
    // Only the branch that is asked is still mounted, by the question; not where the user sees it.
    scratch::umount(fuse.path())?;
    let uses = std::fs::read_to_string("/sys/module/ruaufs/refcnt")?;
    assert_ne!(uses.trim(), "0", "a thread asks, and the module could go");
    fuse.release();
    Ok(())
}

/// The silent branch is removed from the union: it is free, too.
fn branch_that_is_removed(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let held = sys::open_ro(u.at(fuse::FILE))?;
    fuse.hold(Request::Lookup(fuse::FILE.to_owned()));
    let child = remounter(&u, &further(cx)?)?;
    fuse.wait_for(1)?;
    kill(child)?;
    drop(held);
    let begin = Instant::now();
    reconfigure(u.root(), &[&format!("del:{}", fuse.path().display())])?;
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert!(!exists(u.at(fuse::FILE)));
    scratch::umount(fuse.path())?;
    u.umount()?;
    fuse.release();
    Ok(())
}

/// The same for the list of renamed directories, which is read when `dirren` comes.
fn list_of_renamed_directories(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    fuse.hold(Request::Lookup(".wh..wh.hino".to_owned()));
    let child = remounter(&u, "dirren")?;
    fuse.wait_for(1)?;
    kill(child)?;
    u.umount()?;
    scratch::umount(fuse.path())?;
    fuse.release();
    Ok(())
}

/// A branch with a question that was given up is not asked again, however often that is tried.
fn asked_once_at_a_time(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let held = sys::open_ro(u.at(fuse::FILE))?;
    fuse.hold(Request::Lookup(fuse::FILE.to_owned()));
    let more = further(cx)?;
    for _ in 0..4 {
        let child = remounter(&u, &more)?;
        fuse.wait_for(1)?;
        thread::sleep(Duration::from_millis(300));
        kill(child)?;
    }
    assert_eq!(fuse.seen(), 1, "questions without an answer");
    fuse.release();
    reconfigure(u.root(), &[&more])?;
    assert!(exists(u.at("further")));
    drop(held);
    u.umount()
}

/// A branch of which linked whiteouts are taken goes on to be used meanwhile: what is in the making
/// there is no left-over.
fn writable_branch_in_the_making_of_a_remount(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new().file("f", "")).mount()?;
    let rw = u.br(0, "");
    let staged = rw.join(".wh..wh.orph/.wh..wh.f.0001");
    sys::write(&staged, "")?;
    for access in ["rw+nolwh", "rw"] {
        reconfigure(u.root(), &[&format!("mod:{}={access}", rw.display())])?;
        assert!(exists(&staged), "{access}: it was removed");
    }
    u.umount()?;
    let u = cx.union().at(&rw, "rw").mount()?;
    assert!(!exists(&staged), "a left-over stays");
    u.umount()
}

/// A remount that takes the permission to write away and gives it back leaves the branch as it is.
fn taken_and_given_back_by_a_remount(cx: &Ctx) -> Result<()> {
    let low = || {
        ["0", "1", "2", "3"].iter().fold(Tree::new(), |tree, n| {
            tree.file(&format!("d{n}/f"), "f")
                .file(&format!("f{n}"), "f")
        })
    };
    let u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    let rw = u.br(0, "");
    let staged = rw.join(".wh..wh.orph/.wh..wh.f.0001");
    sys::write(&staged, "")?;
    let a = rw.display();
    let ways = [
        format!("mod:{a}=ro,mod:{a}=rw"),
        format!("del:{a},prepend:{a}=rw"),
        format!("del:{a},prepend:{a}=ro,mod:{a}=rw"),
        format!("mod:{a}=ro,del:{a},prepend:{a}=rw"),
    ];
    for (n, options) in ways.iter().enumerate() {
        let each: Vec<&str> = options.split(',').collect();
        reconfigure(u.root(), &each)?;
        assert!(
            exists(&staged),
            "{options}: what is in the making is removed"
        );
        for object in [".wh..wh.aufs", ".wh..wh.plnk"] {
            assert!(exists(rw.join(object)), "{options}: {object} is gone");
        }
        sys::mkdir(u.at(&format!("d{n}/new")))?;
        sys::unlink(u.at(&format!("f{n}")))?;
        sys::unlink(u.at(&format!("d{n}/f")))?;
        assert!(!exists(u.at(&format!("f{n}"))), "{options}");
    }
    sys::unlink(&staged)?;
    u.umount()
}

/// A change of a branch that was given up goes on when the branch is thawed: until then nobody may
/// claim the branch for himself.
fn claim_of_a_change_that_was_given_up(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let branch = fs.path().join("b");
    sys::mkdir(&branch)?;
    let u = cx.union().rw(Tree::new()).at(&branch, "rw").mount()?;
    let frozen = Frozen::new(fs.path())?;
    let shown = branch.display();
    let refused = reconfigure(u.root(), &[&format!("mod:{shown}=rw+nolwh")]);
    busy(refused, &[&shown.to_string()]);
    reconfigure(u.root(), &[&format!("del:{shown}")])?;
    let alone = || -> Result<bool> {
        let dir = sys::open(&branch, OFlags::PATH | OFlags::DIRECTORY)?;
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/fs/aufs/claim")?;
        let command = format!("{}\n", dir.as_raw_fd());
        Ok(std::io::Write::write_all(&mut file, command.as_bytes()).is_ok())
    };
    assert!(!alone()?, "the change is still to come");
    drop(frozen);
    let begin = Instant::now();
    while !alone()? {
        assert!(begin.elapsed() < SOON, "the claim never ends");
        thread::sleep(Duration::from_millis(50));
    }
    u.umount()?;
    fs.umount()
}

/// Who resolves the handle of a file on another branch does not wait for a thaw.
fn handle_beside_a_frozen_branch(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let branch = fs.path().join("b");
    sys::mkdir(&branch)?;
    let u = cx
        .union()
        .at(&branch, "rw")
        .ro(Tree::new().file("f", "f"))
        .mount()?;
    let handle = Handle::of(u.at("f"))?;
    let mount = dir::open_dir(u.root())?;
    let frozen = Frozen::new(fs.path())?;
    let opened = thread::scope(|scope| {
        let resolving = scope.spawn(|| handle.open(&mount, OFlags::RDONLY));
        let begin = Instant::now();
        while !resolving.is_finished() && begin.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(20));
        }
        let in_time = resolving.is_finished();
        drop(frozen);
        let opened = resolving.join().expect("no panic");
        assert!(in_time, "it waited for the thaw");
        opened
    })?;
    assert_eq!(sys::pread_fd(&opened)?, b"f");
    drop((opened, mount));
    u.umount()?;
    fs.umount()
}

/// A rename that waits for a frozen branch keeps nobody from copying and renaming on another one.
fn rename_on_a_frozen_branch(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let branch = fs.path().join("b");
    sys::mkdir(&branch)?;
    Tree::new().file("d/g", "g").build(&branch)?;
    let u = cx
        .union()
        .rw(Tree::new().file("other/name", "name"))
        .at(&branch, "rw")
        .ro(Tree::new().file("f", "f").file("d/low", "low"))
        .mount()?;
    let frozen = Frozen::new(fs.path())?;
    let done = thread::scope(|scope| {
        let renaming = scope.spawn(|| sys::rename(u.at("d/g"), u.at("d/h")));
        let begin = Instant::now();
        thread::sleep(Duration::from_secs(2));
        let others = scope.spawn(|| -> Result<()> {
            sys::append(u.at("f"), "+")?;
            sys::rename(u.at("other/name"), u.at("other/new"))?;
            Ok(())
        });
        while !others.is_finished() && begin.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(20));
        }
        let in_time = others.is_finished();
        let waited = !renaming.is_finished();
        drop(frozen);
        let done = others.join().expect("no panic");
        renaming.join().expect("no panic")?;
        assert!(waited, "the rename did not wait for the thaw");
        assert!(in_time, "others waited for the thaw");
        done
    });
    done?;
    assert_eq!(
        (text(u.at("d/h"))?, text(u.br(0, "f"))?),
        ("g".into(), "f+".into())
    );
    assert!(exists(u.br(0, "other/new")));
    u.umount()?;
    fs.umount()
}

/// The key of handles is on its way to the branch: until it is there, the branch is not removed.
fn key_of_handles_on_its_way(cx: &Ctx) -> Result<()> {
    let fuse = Fuse::with_work(cx)?;
    let u = cx
        .union()
        .at(fuse.path(), "rw")
        .rw(Tree::new().file("low", "low"))
        .mount()?;
    let handle = Handle::of(u.at("low"))?;
    let mount = dir::open_dir(u.root())?;
    fuse.hold(Request::SetXattr);
    let keeper = named("keeper", move || handle.open(&mount, OFlags::RDONLY))?;
    fuse.wait_for(1)?;
    let del = format!("del:{}", fuse.path().display());
    busy(
        reconfigure(u.root(), &[&del]),
        &["(keeper)", "changing attributes"],
    );
    fuse.release();
    assert_eq!(sys::pread_fd(&keeper.join().expect("no panic")?)?, b"low");
    reconfigure(u.root(), &[&del])?;
    u.umount()
}

/// How many kernel threads are at work for unions.
fn at_work() -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        let comm = std::fs::read_to_string(entry?.path().join("comm"));
        count += usize::from(comm.is_ok_and(|comm| comm.trim().ends_with("+aufsd")));
    }
    Ok(count)
}

/// What is to be tidied up on a frozen file system takes one thread, however much it is, and all of
/// it is done after the thaw.
fn tidying_waits_in_a_line(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let branches: Vec<_> = (0..4).map(|n| fs.path().join(format!("b{n}"))).collect();
    let mut spec = cx.union().rw(Tree::new());
    for branch in &branches {
        sys::mkdir(branch)?;
        spec = spec.at(branch, "rw");
    }
    let u = spec.mount()?;
    let count = |branch: &PathBuf| -> Result<usize> { Ok(std::fs::read_dir(branch)?.count()) };
    let frozen = Frozen::new(fs.path())?;
    for branch in &branches {
        let begin = Instant::now();
        reconfigure(u.root(), &[&format!("mod:{}=ro", branch.display())])?;
        assert!(begin.elapsed() < SOON);
        assert_eq!(count(branch)?, 3, "{}: it is frozen", branch.display());
    }
    assert_eq!(at_work()?, 1, "threads wait for one file system");
    drop(frozen);
    let begin = Instant::now();
    for branch in &branches {
        while count(branch)? > 0 {
            assert!(begin.elapsed() < SOON, "{} is left", branch.display());
            thread::sleep(Duration::from_millis(50));
        }
    }
    u.umount()?;
    fs.umount()
}

/// What was begun for a mount that was given up does not remove pseudo-links of a union that is
/// mounted later.
fn left_over_pseudo_links(cx: &Ctx) -> Result<()> {
    let fuse = Fuse::with_work(cx)?;
    let target = cx.mount_point()?;
    let branches = format!("br={}=rw", fuse.path().display());
    let spec = Spec::new(&[&branches]);
    fuse.hold(Request::Xattr);
    let child = Command::new("mount")
        .args(["-i", "-t", "ruaufs", "-o", &branches, "none"])
        .arg(&target)
        .spawn()?;
    fuse.wait_for(1)?;
    kill(child)?;
    fuse.hold_no_more();
    // If this is possible now, the other one must not touch the branch any more.
    let early = spec.mount(&target);
    if early.is_err() {
        fuse.release();
        mount_soon(&spec, &target)?;
    }
    let removed = fuse.removed();
    fuse.release();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(fuse.removed(), removed, "it was removed below the union");
    assert!(exists(target.join(fuse::FILE)));
    scratch::umount(&target)?;
    Ok(())
}

/// A mount with a frozen branch is given up, and takes back what it made when that is thawed.
fn frozen_branch_of_a_mount(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    let branch = fs.path().join("b");
    sys::mkdir(&branch)?;
    let top = cx.branch(cx.layout.upper(), "rw", &Tree::new().file("f", "f"))?;
    let options = format!("br={}=rw:{}=rw", top.display(), branch.display());
    let spec = Spec::new(&[&options]);
    let target = cx.mount_point()?;
    let frozen = Frozen::new(fs.path())?;
    let refused: Refused = spec.mount(&target).expect_err("it is frozen");
    assert_eq!(refused.errno, Errno::BUSY, "{refused}");
    let said = refused.log.concat();
    let shown = branch.display().to_string();
    assert!(
        said.contains(&shown) && said.contains("does not answer"),
        "{said}"
    );
    assert!(
        !exists(top.join(".wh..wh.aufs")),
        "the other branch is as it was"
    );
    // That one is free.
    let other = Spec::new(&[&format!("br={}=rw", top.display())]);
    other.mount(&target)?;
    scratch::umount(&target)?;
    drop(frozen);
    let begin = Instant::now();
    let names = || -> Result<usize> { Ok(std::fs::read_dir(&branch)?.count()) };
    // It is made and taken back meanwhile, or the second mount finds it so.
    mount_soon(&spec, &target)?;
    assert!(begin.elapsed() < SOON);
    assert_eq!(text(target.join("f"))?, "f");
    scratch::umount(&target)?;
    assert_eq!(names()?, 3, "of a writable branch");
    fs.umount()
}

/// A branch on a network file system whose server is silent: nobody else notices, and when it is
/// back the remount succeeds.
fn server_that_is_away(cx: &Ctx) -> Result<()> {
    let tree = Tree::new().file("far", "far").file("deep/far", "deep");
    // A mount of its own, as the server must leave it at the end.
    let fs = Private::tmpfs(&cx.name(), "")?;
    tree.build(fs.path())?;
    let nfs = Nfs::interruptible(cx, fs.path())?;
    let u = cx
        .union()
        .rw(Tree::new().file("d/o/other", "other"))
        .at(&nfs.at(""), "ro")
        .mount()?;
    // Who is in a directory that the branch does not have does not ask it.
    let d = dir::open_dir(u.at("d"))?;
    let inside = PathBuf::from(format!("/proc/self/fd/{}", d.as_raw_fd()));
    let remount = |option: &str| beside_others_in(&inside, &u, &[option]);
    let held = sys::open_ro(u.at("far"))?;
    let deep = sys::open_ro(u.at("deep/far"))?;
    assert_eq!(sys::pread_fd(&held)?, b"far");
    let more = further(cx)?;
    nfs.interrupt();
    let result = remount(&more);
    watchdog::alive();
    // A second one finds the question of the first one without an answer.
    let again = remount(&more);
    nfs.resume();
    let path = nfs.at("").display().to_string();
    busy(result?, &[&path, "does not answer"]);
    busy(again?, &[&path, "does not answer"]);
    watchdog::alive();
    assert_eq!(text(u.at("far"))?, "far");
    assert_eq!(sys::pread_fd(&deep)?, b"deep");
    remount(&more)??;
    assert!(exists(u.at("further")) && exists(u.at("deep/far")));
    drop((held, deep, d));
    u.umount()?;
    drop(nfs);
    fs.umount()
}
