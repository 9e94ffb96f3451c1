// SPDX-License-Identifier: GPL-2.0

//! The tools in trees in which somebody else swaps every name all the time, and against what any
//! user can leave there: forged state, named pipes, deep trees, odd attributes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::{
    fs::{linkat, mkdirat, openat, AtFlags},
    process::{setrlimit, Resource, Rlimit},
};

use super::{command, Said};
use crate::harness::{
    prelude::*,
    random::Random,
    scratch::Private,
    snapshot::{Scope, Snapshot},
    sys::RenameFlags,
    watchdog,
};

cases! {
    BASIC: names_are_swapped, foreign_state_is_refused, a_full_branch;
    ONCE: deep_trees, attributes_that_do_not_fit, nobody_is_waited_for, subvolumes, many_whiteouts;
}

const USER: u32 = 1000;
/// Longer than any of these take, also under emulation.
const PATIENCE: Duration = Duration::from_secs(150);

/// Waits for a tool, which must end by itself.
fn ends(mut child: Child) -> Result<Said> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            anyhow::bail!("it does not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    watchdog::alive();
    Ok(Said::of(child.wait_with_output()?))
}

fn start(name: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<Child> {
    let mut tool = command(name);
    tool.args(args.iter().map(|arg| (*arg).as_ref()));
    let piped = tool.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(piped.stdin(Stdio::null()).spawn()?)
}

fn commit(upper: &Path, lower: &Path) -> Result<Said> {
    ends(start(
        "ruaufs",
        &[&"commit", &"--upper", &upper, &"--lower", &lower],
    )?)
}

/// What belongs to the user in both branches, beside which lies something of root's.
fn home(mark: &str) -> Tree {
    let mut tree = Tree::new().file("etc/keep", mark);
    for dir in [
        "home/u",
        "home/u/a",
        "home/u/a/b",
        "home/u/c",
        "home/u/spare",
    ] {
        tree = tree.dir(dir).owner(USER, USER);
    }
    for i in 0..6 {
        for dir in ["home/u", "home/u/a", "home/u/a/b", "home/u/c"] {
            let file = format!("{dir}/f{i}");
            tree = tree.file(&file, mark).mode(0o666).owner(USER, USER);
        }
    }
    tree.file("home/u/a/suid", "root's")
        .mode(0o4755)
        .file("home/u/x1", "many")
        .owner(USER, USER)
        .hardlink("home/u/a/x2", "home/u/x1")
        .file("home/u/spare/file", "mine")
        .mode(0o777)
        .owner(USER, USER)
        .dir("home/u/spare/dir")
        .owner(USER, USER)
        .file("home/u/spare/dir/f0", "mine")
        .owner(USER, USER)
        .fifo("home/u/spare/pipe")
        .owner(USER, USER)
}

/// All that can be swapped: places, and what may be put there.
fn places(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for dir in ["", "a", "a/b", "c"] {
        let names = ["a", "b", "c", "x1", "x2", "suid", "new"];
        let names = names.iter().map(|name| (*name).to_owned());
        let files = (0..6).map(|i| format!("f{i}"));
        let own = (0..3).map(|i| format!(".wh..wh.commit.000{i}"));
        for name in names.chain(files).chain(own) {
            all.push(root.join("home/u").join(dir).join(name));
        }
    }
    all
}

fn swap(roots: &[PathBuf], outside: &Path, stop: &AtomicBool, seed: u64) {
    let mut random = Random::new(seed);
    let mut sets = Vec::new();
    for root in roots {
        let spare = root.join("home/u/spare");
        let _ = sys::symlink(outside.join("secret"), spare.join("link"));
        let _ = sys::symlink(outside.join("dir"), spare.join("dirlink"));
        let spares = ["file", "dir", "pipe", "link", "dirlink"].map(|name| spare.join(name));
        sets.push((places(root), spares));
    }
    while !stop.load(Ordering::Relaxed) {
        for (places, spares) in &sets {
            let mut pick = |all: &[PathBuf]| all[random.below(all.len() as u64) as usize].clone();
            let (one, other, spare) = (pick(places), pick(places), pick(spares));
            // Whatever is not there now may be later.
            let _ = sys::rename_with(&one, &spare, RenameFlags::EXCHANGE);
            let _ = sys::rename_with(&one, &other, RenameFlags::EXCHANGE);
            if random.below(8) == 0 {
                let _ = sys::rename(&one, &other);
                // It may be a named pipe.
                let _ = sys::open_mode(&one, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, 0o644);
            }
        }
    }
}

/// What was root's is so still, and nobody else has made something of the like.
fn check(outside: &Path, before: &Snapshot, branches: &[&Path]) -> Result<()> {
    let diff = before.diff(&Snapshot::of(outside, Scope::Everything)?);
    ensure!(
        diff.is_empty(),
        "outside the branches:\n{}",
        diff.join("\n")
    );
    for branch in branches {
        set_ids(branch)?;
    }
    Ok(())
}

fn set_ids(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stat = sys::lstat(&path)?;
        match sys::kind(&stat) {
            FileType::Directory => set_ids(&path)?,
            FileType::RegularFile if stat.st_uid == 0 && stat.st_mode & 0o6000 != 0 => {
                ensure!(text(&path)? == "root's", "{}", path.display());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Runs `work` while all names are swapped.
fn under_attack(
    roots: &[PathBuf],
    outside: &Path,
    seed: u64,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| users::as_user(USER, USER, || swap(roots, outside, &stop, seed)));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

fn names_are_swapped(cx: &Ctx) -> Result<()> {
    let other = match cx.layout.upper() {
        Kind::Tmpfs => Kind::Ext4,
        _ => Kind::Tmpfs,
    };
    let outside = cx.dir(cx.layout.upper())?;
    Tree::new()
        .file("secret", "secret")
        .mode(0o600)
        .file("dir/f0", "root's, too")
        .mode(0o600)
        .file("dir/suid", "another")
        .mode(0o4700)
        .build(&outside)?;
    let before = Snapshot::of(&outside, Scope::Everything)?;
    for round in 0..4u64 {
        // Linked on one file system, copied to another.
        let lower_kind = if round % 2 == 0 {
            other
        } else {
            cx.layout.upper()
        };
        let (upper, lower) = (cx.dir(cx.layout.upper())?, cx.dir(lower_kind)?);
        home("up").build(&upper)?;
        home("low").build(&lower)?;
        let roots = [upper.clone(), lower.clone()];
        under_attack(&roots, &outside, round + 1, || {
            for args in [
                &[
                    &"diff" as &dyn AsRef<_>,
                    &"--upper",
                    &upper,
                    &"--lower",
                    &lower,
                ][..],
                &[&"check", &"--repair", &upper, &lower],
                &[&"commit", &"--keep", &"--upper", &upper, &"--lower", &lower],
                &[&"commit", &"--upper", &upper, &"--lower", &lower],
            ] {
                // It may fail, since what it looks at changes.
                ends(start("ruaufs", args)?)?;
            }
            Ok(())
        })?;
        check(&outside, &before, &[&upper, &lower])?;
        // And when there is peace it comes to an end.
        let said = commit(&upper, &lower)?;
        ensure!(said.status == 0, "{}{}", said.out, said.err);
        check(&outside, &before, &[&upper, &lower])?;
        assert_eq!(text(lower.join("etc/keep"))?, "up");
    }
    for round in 0..2u64 {
        let (upper, lower) = (cx.dir(cx.layout.upper())?, cx.dir(other)?);
        home("low").build(&lower)?;
        sys::chmod(&upper, 0o755)?;
        let u = cx.union().at(&upper, "rw").at(&lower, "rw").mount()?;
        sys::append(u.at("home/u/x1"), "!")?;
        for i in 0..6 {
            sys::append(u.at(&format!("home/u/a/f{i}")), "!")?;
        }
        let roots = [u.root().to_owned()];
        under_attack(&roots, &outside, round + 10, || {
            ends(start("auplink", &[&u.root(), &"flush"])?)?;
            for i in 0..6 {
                ends(start("aumvdown", &[&u.at(&format!("home/u/a/f{i}"))])?)?;
            }
            ends(start("ruaufs", &[&"diff", &u.root()])?)?;
            ends(start("aubrsync", &[&"copy", &u.root(), &upper, &lower])?)?;
            ends(start("aubrsync", &[&"move", &u.root(), &upper, &lower])?)?;
            Ok(())
        })?;
        u.umount()?;
        check(&outside, &before, &[&upper, &lower])?;
    }
    Ok(())
}

/// Whoever owns the root of a branch can put there what looks as if a commit had left it.
fn foreign_state_is_refused(cx: &Ctx) -> Result<()> {
    let outside = cx.dir(cx.layout.upper())?;
    sys::write(outside.join("victim"), "precious")?;
    let state = ".wh..wh.commit";
    type Make = fn(&Path, &Path) -> Result<()>;
    let users: &[(&str, Make)] = &[
        ("a link in a directory", |state, outside| {
            sys::mkdir(state)?;
            Ok(sys::symlink(
                outside.join("victim"),
                state.join("journal.new"),
            )?)
        }),
        ("a pipe", |state, _| {
            sys::mkdir(state)?;
            Ok(sys::mknod(state.join("journal"), FileType::Fifo, 0o600, 0)?)
        }),
        ("a link", |state, outside| Ok(sys::symlink(outside, state)?)),
        ("a file", |state, _| Ok(sys::write(state, "")?)),
        ("a pipe in its place", |state, _| {
            Ok(sys::mknod(state, FileType::Fifo, 0o600, 0)?)
        }),
    ];
    for (name, make) in users {
        let (upper, lower) = (cx.dir(cx.layout.upper())?, cx.dir(cx.layout.upper())?);
        sys::chown(&upper, Some(USER), Some(USER))?;
        sys::write(upper.join("f"), "f")?;
        users::as_user(USER, USER, || make(&upper.join(state), &outside))?;
        let said = commit(&upper, &lower)?;
        said.bad(1, "was not left by a commit");
        assert_eq!(text(outside.join("victim"))?, "precious", "{name}");
        assert_eq!(
            (text(upper.join("f"))?, names(&lower)?),
            ("f".into(), set([]))
        );
    }
    // A directory of root's that was renamed by its neighbour.
    let (upper, lower) = (cx.dir(cx.layout.upper())?, cx.dir(cx.layout.upper())?);
    sys::chown(&upper, Some(USER), Some(USER))?;
    sys::mkdir_mode(upper.join("secret"), 0o700)?;
    sys::write(upper.join("secret/key"), "key")?;
    users::as_user(USER, USER, || {
        sys::rename(upper.join("secret"), upper.join(state))
    })?;
    commit(&upper, &lower)?.bad(1, "key is in it");
    assert_eq!(text(upper.join(state).join("key"))?, "key");
    // A copy is known by its contents, not by what is written about it.
    let (upper, lower) = (cx.dir(Kind::Tmpfs)?, cx.dir(Kind::Ext4)?);
    for (dir, words) in [(&upper, "important"), (&lower, "imposture")] {
        sys::write(dir.join("f"), words)?;
        sys::utimens(dir.join("f"), (1_000, 0), (1_000, 0))?;
    }
    commit(&upper, &lower)?.good();
    assert_eq!(text(lower.join("f"))?, "important");
    Ok(())
}

/// A commit starts, and ends, where nothing more can be written to the upper branch.
fn a_full_branch(cx: &Ctx) -> Result<()> {
    let small = Private::disk(Kind::Ext4, &cx.name(), 32 << 20)?;
    let upper = small.path().join("upper");
    sys::mkdir(&upper)?;
    sys::mkdir(upper.join("d"))?;
    sys::write(upper.join("d/f"), "in a directory")?;
    sys::write(upper.join("f"), "beside it")?;
    let fill = |name: &str, step: usize| -> Result<()> {
        let fd = sys::create(small.path().join(name))?;
        while sys::write_fd(&fd, &vec![7; step]).is_ok() {}
        Ok(())
    };
    fill("most", 64 << 10)?;
    fill("rest", 512)?;
    // Directories, too.
    let mut n = 0;
    while sys::mkdir(small.path().join(format!("x{n}"))).is_ok() {
        n += 1;
    }
    let lower = cx.dir(cx.layout.upper())?;
    commit(&upper, &lower)?.good();
    assert_eq!(text(lower.join("d/f"))?, "in a directory");
    assert_eq!((names(&upper)?, names(&lower)?), (set([]), set(["d", "f"])));
    small.umount()
}

/// A chain of directories, the first of which is in `root`, with a file with two names at its end.
fn chain(root: &Path, levels: usize, name: &str) -> Result<()> {
    let mut at = dir::open_dir(root)?;
    for _ in 0..levels {
        mkdirat(&at, name, Mode::RWXU)?;
        at = openat(&at, name, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    openat(&at, "f", flags, Mode::RUSR)?;
    Ok(linkat(&at, "f", &at, "g", AtFlags::empty())?)
}

/// How many levels a chain has, and how many names the file at its end has.
fn measured(root: &Path, name: &str) -> Result<(usize, u64)> {
    let mut at = dir::open_dir(root)?;
    let mut levels = 0;
    while let Ok(next) = openat(&at, name, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()) {
        at = next;
        levels += 1;
    }
    let file = openat(&at, "f", OFlags::RDONLY, Mode::empty())?;
    Ok((levels, sys::fstat(&file)?.st_nlink))
}

fn with_descriptors<T>(number: u64, f: impl FnOnce() -> T) -> T {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(number),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("setrlimit");
    let done = f();
    setrlimit(Resource::Nofile, before).expect("setrlimit");
    done
}

/// Deeper than a process may have descriptors, than a stack is, than a path may be.
fn deep_trees(cx: &Ctx) -> Result<()> {
    let long = "d".repeat(230);
    for (levels, name) in [(1100, "d"), (9000, "d"), (30, &*long)] {
        for lower_kind in [Kind::Ext4, Kind::Tmpfs] {
            let (upper, lower) = (cx.dir(Kind::Tmpfs)?, cx.dir(lower_kind)?);
            chain(&upper, levels, name)?;
            for args in [
                &[
                    &"diff" as &dyn AsRef<_>,
                    &"--summary",
                    &"--upper",
                    &upper,
                    &"--lower",
                    &lower,
                ][..],
                &[&"check", &upper],
                &[&"commit", &"--upper", &upper, &"--lower", &lower],
            ] {
                let child = with_descriptors(256, || start("ruaufs", args))?;
                let said = ends(child)?;
                ensure!(said.status == 0, "{levels}: {}", said.err.len());
            }
            assert_eq!(names(&upper)?, set([]));
            assert_eq!(measured(&lower, name)?, (levels, 2));
            // And removed by a whiteout, which leaves the directory for the harness to remove.
            sys::write(upper.join(format!(".wh.{name}")), "")?;
            commit(&upper, &lower)?.good();
            assert_eq!(names(&lower)?, set([]));
        }
    }
    // Pseudo-links are flushed in a union with a deep tree that a user has made.
    let low = Tree::new().file("a", "low").hardlink("b", "a");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("a"), "+")?;
    sys::mkdir_mode(u.at("home"), 0o777)?;
    chain(&u.at("home"), 1100, "d")?;
    let flush = with_descriptors(256, || start("auplink", &[&u.root(), &"flush"]))?;
    ends(flush)?.good();
    assert_eq!(sys::lstat(u.br(0, "b"))?.st_nlink, 2);
    let home = u.br(0, "home");
    u.umount()?;
    // The harness removes what is left as most programs do: with a descriptor for each level.
    Ok(with_descriptors(4096, || fs::remove_dir_all(home))?)
}

/// What a user sets, and another file system cannot hold, or is no text, does not stop root.
fn attributes_that_do_not_fit(cx: &Ctx) -> Result<()> {
    let (upper, lower) = (cx.dir(Kind::Tmpfs)?, cx.dir(Kind::Ext4)?);
    sys::write(upper.join("f"), "f")?;
    sys::write(upper.join("g"), "g")?;
    sys::set_xattr(upper.join("f"), "user.big", vec![b'x'; 30_000])?;
    let flags = rustix::fs::XattrFlags::empty();
    let odd: &[u8] = b"user.\xff";
    rustix::fs::setxattr(upper.join("g"), odd, b"1", flags)?;
    // More than listxattr(2) lists.
    sys::write(upper.join("many"), "many")?;
    for i in 0..300 {
        let name = format!("user.{i:0>240}");
        rustix::fs::setxattr(upper.join("many"), name, b"1", flags)?;
    }
    sys::chmod(upper.join("many"), 0o4751)?;
    let said = commit(&upper, &lower)?;
    assert!(said.err.contains("too many to be listed"), "{}", said.err);
    assert!(said.err.contains("user.big (30000 bytes)"), "{}", said.err);
    said.good();
    let mut value = [0; 4];
    assert_eq!(
        rustix::fs::getxattr(lower.join("g"), odd, &mut value[..])?,
        1
    );
    assert_eq!(text(lower.join("f"))?, "f");
    assert_eq!(text(lower.join("many"))?, "many");
    assert_eq!(sys::mode(&sys::lstat(lower.join("many"))?), 0o4751);
    Ok(())
}

/// Neither a lock on a branch that anybody can open, nor a named pipe in a file's place.
fn nobody_is_waited_for(cx: &Ctx) -> Result<()> {
    let (upper, lower) = (cx.dir(Kind::Tmpfs)?, cx.dir(Kind::Ext4)?);
    sys::write(upper.join("f"), "f")?;
    sys::mknod(upper.join("p"), FileType::Fifo, 0o600, 0)?;
    let held = users::as_user(USER, USER, || -> Result<_> {
        let mut all = Vec::new();
        for dir in [&upper, &lower] {
            let fd = dir::open_dir(dir)?;
            rustix::fs::flock(&fd, rustix::fs::FlockOperation::LockExclusive)?;
            all.push(fd);
        }
        Ok(all)
    })?;
    commit(&upper, &lower)?.good();
    assert_eq!(sys::kind(&sys::lstat(lower.join("p"))?), FileType::Fifo);
    drop(held);
    Ok(())
}

/// Files of two subvolumes may have one inode number.
fn subvolumes(cx: &Ctx) -> Result<()> {
    let (upper, lower) = (cx.dir(Kind::Btrfs)?, cx.dir(Kind::Tmpfs)?);
    for name in ["s1", "s2"] {
        crate::harness::scratch::subvolume(&upper.join(name))?;
        sys::write(upper.join(name).join("f"), name)?;
        sys::link(upper.join(name).join("f"), upper.join(name).join("g"))?;
    }
    let ino = |name: &str| sys::lstat(upper.join(name).join("f")).map(|stat| stat.st_ino);
    assert_eq!(ino("s1")?, ino("s2")?);
    commit(&upper, &lower)?.good();
    for name in ["s1", "s2"] {
        let at = lower.join(name);
        assert_eq!(
            (text(at.join("f"))?, text(at.join("g"))?),
            (name.into(), name.into())
        );
        assert_eq!(sys::lstat(at.join("f"))?.st_nlink, 2);
    }
    assert_eq!(names(&upper)?, set([]));
    Ok(())
}

/// Cost grows with the number of names, not with its square.
fn many_whiteouts(cx: &Ctx) -> Result<()> {
    let (upper, lower) = (cx.dir(Kind::Tmpfs)?, cx.dir(Kind::Tmpfs)?);
    for i in 0..30_000 {
        sys::write(lower.join(format!("old{i}")), "")?;
        sys::write(upper.join(format!(".wh.old{i}")), "")?;
        sys::write(upper.join(format!("new{i}")), "")?;
    }
    let args: &[&dyn AsRef<_>] = &[
        &"diff",
        &"--summary",
        &"--upper",
        &upper,
        &"--lower",
        &lower,
    ];
    let said = ends(start("ruaufs", args)?)?.good();
    assert_eq!(said, "30000 added, 0 changed, 30000 deleted\n");
    commit(&upper, &lower)?.good();
    assert_eq!(names(&lower)?.len(), 30_000);
    Ok(())
}
