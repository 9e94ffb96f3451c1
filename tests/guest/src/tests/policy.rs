// SPDX-License-Identifier: GPL-2.0

//! Policies: the branch that gets a new object (`create=`) and the one that gets a copy (`cpup=`).

use rustix::mount::MountFlags;

use crate::harness::{
    prelude::*,
    scratch::Private,
    union::{mounts_line, remount2},
};

cases! {
    BASIC: copies_go_where_the_policy_says, copies_pass_by_what_is_in_the_way,
        new_entries_pass_by_what_is_in_the_way, by_turns, parents_are_made_downwards, whiteouts_and_opaque_directories, obstacles,
        unnamed_files, most_free_space, measured_space_is_believed, full_branch, limits,
        most_free_space_with_the_parent, changed_by_remount;
    ONCE: shown;
}

/// Which of the writable branches 0 to 2 holds `path`.
fn holders(u: &Union, path: &str) -> Vec<usize> {
    (0..3).filter(|&at| exists(u.br(at, path))).collect()
}

/// The directory `d` is on the writable branches 0 and 1, not on 2; its file is on the lowest.
fn copies_go_where_the_policy_says(cx: &Ctx) -> Result<()> {
    for (option, branch) in [
        ("cpup=tdp", 0),
        ("copyup=top-down-parent", 0),
        ("cpup=bup", 1),
        ("copyup_policy=bottom-up-parent", 1),
        ("cpup=bu", 2),
        ("copyup=bottom-up", 2),
    ] {
        let kind = cx.layout.upper();
        let low = Tree::new()
            .file("d/sub/f", "low")
            .file("d/sub/g", "low")
            .file("d/h", "low")
            .file("d/gone", "low");
        let d = Tree::new().dir("d").mode(0o751).owner(3, 4);
        let mut u = cx
            .union()
            .on(kind, "rw", d.clone())
            .on(kind, "rw", d)
            .on(kind, "rw", Tree::new())
            .on(kind, "ro", low)
            .opt(option)
            .mount()?;
        sys::chmod(u.at("d/h"), 0o600)?;
        sys::unlink(u.at("d/gone"))?;
        for name in ["d/h", "d/.wh.gone"] {
            assert_eq!(holders(&u, name), [branch], "{option}: {name}");
        }
        // `sub` is on none of them: the nearest one, whatever the policy.
        sys::append(u.at("d/sub/f"), "+")?;
        assert_eq!(holders(&u, "d/sub/f"), [2], "{option}");
        let d = sys::lstat(u.br(2, "d"))?;
        assert_eq!((sys::mode(&d), d.st_uid, d.st_gid), (0o751, 3, 4));
        for _ in 0..2 {
            assert_eq!(text(u.at("d/sub/f"))?, "low+");
            assert_eq!(text(u.at("d/sub/g"))?, "low");
            assert_eq!(sys::mode(&sys::lstat(u.at("d/h"))?), 0o600);
            assert_eq!(names(u.at("d"))?, set(["sub", "h"]));
            u.again()?;
        }
    }
    Ok(())
}

/// Something of another type bears the directory's name on the branch that is nearest.
fn copies_pass_by_what_is_in_the_way(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("d"))
        .on(kind, "rw", Tree::new())
        .on(kind, "rw", Tree::new().file("d", "in the way"))
        .on(kind, "ro", Tree::new().file("d/sub/f", "low"))
        .opt("cpup=bu")
        .mount()?;
    sys::append(u.at("d/sub/f"), "+")?;
    assert!(exists(u.br(1, "d/sub/f")) && !exists(u.br(0, "d/sub")));
    assert_eq!(text(u.br(2, "d"))?, "in the way");
    u.again()?;
    assert_eq!(text(u.at("d/sub/f"))?, "low+");
    Ok(())
}

/// The same with the default policies.
fn new_entries_pass_by_what_is_in_the_way(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("d"))
        .on(kind, "rw", Tree::new().file("d", "in the way"))
        .on(
            kind,
            "ro",
            Tree::new().dir("d/file").dir("d/dir").dir("d/unnamed"),
        )
        .mount()?;
    sys::write(u.at("d/file/f"), "x")?;
    sys::mkdir(u.at("d/dir/f"))?;
    let unnamed = sys::open(u.at("d/unnamed"), OFlags::TMPFILE | OFlags::RDWR)?;
    sys::link_fd(&unnamed, u.at("d/unnamed/f"))?;
    assert_eq!(text(u.br(1, "d"))?, "in the way");
    for name in ["d/file/f", "d/dir/f", "d/unnamed/f"] {
        assert!(exists(u.br(0, name)), "{name}");
    }
    drop(unnamed);
    u.again()?;
    for name in ["d/file", "d/dir", "d/unnamed"] {
        assert_eq!(names(u.at(name))?, set(["f"]), "{name}");
    }
    Ok(())
}

/// Where `path` is, which is on one branch of the first `count`.
#[track_caller]
fn holder(u: &Union, count: usize, path: &str) -> usize {
    let found: Vec<_> = (0..count).filter(|&at| exists(u.br(at, path))).collect();
    assert_eq!(found.len(), 1, "{path} is on {found:?}");
    found[0]
}

/// Writable file systems of the test's own, of so many MiB.
fn disks(cx: &Ctx, sizes: &[u64]) -> Result<Vec<Private>> {
    let make = |size: &u64| match cx.layout.upper() {
        Kind::Tmpfs => Private::tmpfs(&cx.name(), &format!("size={size}m")),
        kind => Private::disk(kind, &cx.name(), size << 20),
    };
    sizes.iter().map(make).collect()
}

/// A union of the directory `b` on each.
fn over(cx: &Ctx, disks: &[Private], option: &str) -> Result<Union> {
    let mut builder = cx.union().opt(option);
    for disk in disks {
        let path = disk.path().join("b");
        if !exists(&path) {
            sys::mkdir(&path)?;
        }
        builder = builder.at(&path, "rw");
    }
    builder.mount()
}

/// Fills a disk until so many MiB are left.
fn leave(disk: &Private, name: &str, mib: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(disk.path())?;
    let free = stat.f_bavail * stat.f_frsize;
    let take = usize::try_from(free.saturating_sub(mib << 20))?;
    Ok(sys::write(disk.path().join(name), vec![1; take])?)
}

fn end(u: Union, disks: Vec<Private>) -> Result<()> {
    u.umount()?;
    disks.into_iter().try_for_each(Private::umount)
}

fn by_turns(cx: &Ctx) -> Result<()> {
    for option in ["create=rr", "create_policy=round-robin"] {
        let kind = cx.layout.upper();
        let mut u = cx
            .union()
            .on(kind, "rw", Tree::new())
            .on(kind, "ro", Tree::new().file("low", "low"))
            .on(kind, "rw", Tree::new())
            .on(kind, "rw", Tree::new())
            .opt(option)
            .mount()?;
        sys::mkdir(u.at("first"))?;
        assert_eq!(holder(&u, 4, "first"), 0);
        for (n, at) in [3, 2, 0, 3, 2, 0].into_iter().enumerate() {
            let name = |what: &str| format!("{what}{n}");
            sys::write(u.at(&name("f")), "x")?;
            sys::mkdir(u.at(&name("d")))?;
            for what in ["f", "d"] {
                assert_eq!(holder(&u, 4, &name(what)), at, "{}", name(what));
            }
        }
        // Every kind of object has its turn.
        sys::symlink("x", u.at("s"))?;
        sys::mknod(u.at("p"), FileType::Fifo, 0o600, 0)?;
        assert_eq!((holder(&u, 4, "s"), holder(&u, 4, "p")), (3, 2));
        let all = names(u.root())?;
        assert_eq!(all.len(), 16);
        // They are changed and removed where they are.
        sys::append(u.at("f1"), "y")?;
        assert_eq!(text(u.br(2, "f1"))?, "xy");
        u.again()?;
        assert_eq!(names(u.root())?, all);
        for n in 0..6 {
            sys::unlink(u.at(&format!("f{n}")))?;
            sys::rmdir(u.at(&format!("d{n}")))?;
        }
        assert_eq!(names(u.root())?, set(["first", "low", "p", "s"]));
    }
    Ok(())
}

/// The parents of what a policy puts elsewhere are made there, as they are.
fn parents_are_made_downwards(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(
            kind,
            "rw",
            Tree::new()
                .dir("d")
                .mode(0o2750)
                .owner(5, 6)
                .dir("d/e")
                .mode(0o700)
                .xattr("user.a", "b"),
        )
        .on(kind, "rw", Tree::new().file("taken", "x"))
        .on(kind, "rw", Tree::new())
        .opt("create=rr")
        .mount()?;
    for name in ["d/e/f", "d/e/g", "d/e/h"] {
        sys::write(u.at(name), name)?;
    }
    for (name, at) in [("d/e/f", 2), ("d/e/g", 1), ("d/e/h", 0)] {
        assert_eq!(holder(&u, 3, name), at);
        let (d, e) = (sys::lstat(u.br(at, "d"))?, sys::lstat(u.br(at, "d/e"))?);
        assert_eq!((sys::mode(&d), d.st_uid, d.st_gid), (0o2750, 5, 6));
        assert_eq!(sys::mode(&e), 0o700);
    }
    let before = sys::lstat(u.at("d/e"))?;
    for _ in 0..2 {
        assert_eq!(names(u.at("d/e"))?, set(["f", "g", "h"]));
        assert_eq!(text(u.at("d/e/f"))?, "d/e/f");
        assert_eq!(sys::lstat(u.at("d/e"))?.st_ino, before.st_ino);
        u.again()?;
    }
    // All of it can go.
    for name in ["d/e/f", "d/e/g", "d/e/h"] {
        sys::unlink(u.at(name))?;
    }
    sys::rmdir(u.at("d/e"))?;
    sys::rmdir(u.at("d"))?;
    u.again()?;
    assert_eq!(names(u.root())?, set(["taken"]));
    Ok(())
}

/// What is hidden stays hidden, and what is made is seen.
fn whiteouts_and_opaque_directories(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let low = Tree::new()
        .file("name", "old")
        .file("closed/old", "old")
        .file("cut/old", "old")
        .file("cut/sub/old", "old");
    let mut u = cx
        .union()
        .on(
            kind,
            "rw",
            Tree::new()
                .whiteout("name")
                .dir("closed")
                .opaque("closed")
                .dir("cut/sub"),
        )
        .on(kind, "rw", Tree::new().whiteout("cut"))
        .on(kind, "rw", Tree::new())
        .on(kind, "ro", low)
        .opt("create=rr")
        .mount()?;
    // Three each, so that each branch would have its turn.
    for n in 0..3 {
        sys::write(u.at(&format!("closed/f{n}")), "new")?;
        assert_eq!(holder(&u, 3, &format!("closed/f{n}")), 0);
        sys::write(u.at("name"), "new")?;
        assert_eq!(holder(&u, 3, "name"), 0);
        sys::unlink(u.at("name"))?;
        assert!(exists(u.br(0, ".wh.name")), "what is below is hidden again");
    }
    // The whiteout of a parent's own name: made there, and opaque.
    for n in 0..3 {
        sys::write(u.at(&format!("cut/sub/f{n}")), "new")?;
        assert!(!exists(u.br(2, "cut")), "it would not be seen there");
    }
    assert!(exists(u.br(1, "cut/.wh..wh..opq")) && !exists(u.br(1, ".wh.cut")));
    for _ in 0..2 {
        assert_eq!(names(u.root())?, set(["closed", "cut"]));
        assert_eq!(names(u.at("closed"))?, set(["f0", "f1", "f2"]));
        assert_eq!(names(u.at("cut"))?, set(["sub"]));
        assert_eq!(names(u.at("cut/sub"))?, set(["f0", "f1", "f2"]));
        u.again()?;
    }
    Ok(())
}

/// A branch on which a file bears the name of the directory is passed by.
fn obstacles(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("d"))
        .on(kind, "rw", Tree::new().file("d", "in the way"))
        .on(kind, "rw", Tree::new())
        .opt("create=rr")
        .mount()?;
    for n in 0..6 {
        sys::write(u.at(&format!("d/f{n}")), "x")?;
    }
    assert_eq!(text(u.br(1, "d"))?, "in the way");
    for _ in 0..2 {
        assert_eq!(names(u.at("d"))?.len(), 6);
        u.again()?;
    }
    Ok(())
}

fn unnamed_files(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "rw", Tree::new())
        .opt("create=rr")
        .mount()?;
    for (n, at) in [1, 0, 1].into_iter().enumerate() {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let fd = sys::open_mode(u.root(), flags, 0o600)?;
        sys::write_fd(&fd, b"x")?;
        let name = format!("f{n}");
        sys::link_fd(&fd, u.at(&name))?;
        assert_eq!(holder(&u, 2, &name), at);
    }
    Ok(())
}

fn most_free_space(cx: &Ctx) -> Result<()> {
    let disks = disks(cx, &[32, 48, 40])?;
    let u = over(cx, &disks, "create=mfs:0")?;
    let make = |name: &str| -> Result<usize> {
        sys::write(u.at(name), "x")?;
        Ok(holder(&u, 3, name))
    };
    assert_eq!(make("a")?, 1);
    leave(&disks[1], "x", 10)?;
    assert_eq!(make("b")?, 2);
    leave(&disks[2], "x", 12)?;
    assert_eq!(make("c")?, 0);
    sys::mkdir(u.at("d"))?;
    assert_eq!(holder(&u, 3, "d"), 0);
    sys::unlink(disks[1].path().join("x"))?;
    assert_eq!(make("d/e")?, 1);
    end(u, disks)
}

/// What was measured is believed for a while.
fn measured_space_is_believed(cx: &Ctx) -> Result<()> {
    let disks = disks(cx, &[40, 32])?;
    let u = over(cx, &disks, "create=most-free-space:3600")?;
    sys::write(u.at("a"), "x")?;
    leave(&disks[0], "x", 10)?;
    sys::write(u.at("b"), "x")?;
    remount2(u.root(), MountFlags::empty(), "create=mfs:1")?;
    std::thread::sleep(std::time::Duration::from_millis(1300));
    sys::write(u.at("c"), "x")?;
    let found = ["a", "b", "c"].map(|name| holder(&u, 2, name));
    assert_eq!(found, [0, 0, 1]);
    end(u, disks)
}

/// A branch that is full is known to be, however long a measurement would be believed.
fn full_branch(cx: &Ctx) -> Result<()> {
    let disks = disks(cx, &[40, 32])?;
    let u = over(cx, &disks, "create=mfs:3600")?;
    let big = sys::create(u.at("big"))?;
    assert_eq!(holder(&u, 2, "big"), 0);
    let block = vec![7u8; 1 << 20];
    let error = loop {
        if let Err(error) = sys::write_fd(&big, &block) {
            break error;
        }
    };
    assert_eq!(error.errno, Errno::NOSPC);
    drop(big);
    sys::write(u.at("next"), "x")?;
    assert_eq!(holder(&u, 2, "next"), 1);
    // What was written is there.
    let size = sys::lstat(u.at("big"))?.st_size;
    assert!(size > 20 << 20, "{size}");
    let data = sys::read(u.at("big"))?;
    assert!(data.iter().all(|&byte| byte == 7) && data.len() as i64 == size);
    end(u, disks)
}

fn limits(cx: &Ctx) -> Result<()> {
    const LOW: u64 = 16 << 20;
    // tdmfs: from the top, the first with enough; or else the one with most.
    let disks = disks(cx, &[40, 48, 64])?;
    let u = over(cx, &disks, &format!("create=tdmfs:{LOW}:0"))?;
    let make = |u: &Union, name: &str| -> Result<usize> {
        sys::write(u.at(name), "x")?;
        Ok(holder(u, 3, name))
    };
    assert_eq!(make(&u, "a")?, 0);
    leave(&disks[0], "x", 8)?;
    assert_eq!(make(&u, "b")?, 1);
    sys::mkdir(u.br(0, "only"))?;
    assert_eq!(make(&u, "only/a")?, 2, "the parent is on a full one");
    u.umount()?;
    // mfsrr: the one with most; by turns where that is not enough.
    let u = over(cx, &disks, &format!("create=mfsrr:{LOW}:0"))?;
    assert_eq!(make(&u, "c")?, 2);
    leave(&disks[1], "x", 8)?;
    leave(&disks[2], "x", 8)?;
    let turns: Vec<usize> = (0..6)
        .map(|n| make(&u, &format!("t{n}")))
        .collect::<Result<_>>()?;
    assert_eq!(turns, [2, 1, 0, 2, 1, 0]);
    end(u, disks)
}

fn most_free_space_with_the_parent(cx: &Ctx) -> Result<()> {
    const LOW: u64 = 16 << 20;
    let disks = disks(cx, &[32, 48, 64])?;
    let make = |u: &Union, name: &str| -> Result<usize> {
        sys::write(u.at(name), "x")?;
        Ok(holder(u, 3, name))
    };
    for (n, disk) in disks.iter().enumerate() {
        sys::mkdir(disk.path().join("b"))?;
        if n < 2 {
            sys::mkdir(disk.path().join("b/two"))?;
        }
    }
    sys::mkdir(disks[0].path().join("b/one"))?;
    let u = over(cx, &disks, "create=pmfs:0")?;
    assert_eq!(make(&u, "a")?, 2);
    assert_eq!(make(&u, "two/a")?, 1);
    assert_eq!(make(&u, "one/a")?, 0);
    leave(&disks[1], "x", 10)?;
    assert_eq!(make(&u, "two/b")?, 0);
    u.umount()?;
    let u = over(cx, &disks, &format!("create=pmfsrr:{LOW}:0"))?;
    assert_eq!(make(&u, "two/c")?, 0);
    leave(&disks[0], "x", 8)?;
    assert_eq!(make(&u, "two/d")?, 2, "regardless of the parent");
    leave(&disks[2], "x", 8)?;
    let turns: Vec<usize> = (0..4)
        .map(|n| make(&u, &format!("two/t{n}")))
        .collect::<Result<_>>()?;
    assert_eq!(turns, [2, 1, 0, 2]);
    end(u, disks)
}

/// A remount changes the policy.
fn changed_by_remount(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "rw", Tree::new())
        .mount()?;
    let mut found = Vec::new();
    for option in ["create=tdp", "create=rr", "create=tdp"] {
        remount2(u.root(), MountFlags::empty(), option)?;
        for n in 0..2 {
            let name = format!("f{}-{n}", found.len());
            sys::write(u.at(&name), "x")?;
            found.push(holder(&u, 2, &name));
        }
    }
    assert_eq!(found, [0, 0, 1, 0, 0, 0]);
    Ok(())
}

/// Each policy is shown as it was given, and mounts again.
fn shown(cx: &Ctx) -> Result<()> {
    for (given, wanted) in [
        ("create=tdp", None),
        ("create_policy=round-robin", Some("create=rr")),
        ("create=most-free-space", Some("create=mfs")),
        ("create=mfs:60", Some("create=mfs:60")),
        ("create=mfsrr:1048576:30", Some("create=mfsrr:1048576:30")),
        ("create=tdmfs:1", Some("create=tdmfs:1")),
        ("create=pmfs:0", Some("create=pmfs:0")),
        ("create=pmfsrr:5:3600", Some("create=pmfsrr:5:3600")),
        ("copyup=bottom-up", Some("cpup=bu")),
    ] {
        let u = cx.union().rw(Tree::new()).opt(given).mount()?;
        let line = mounts_line(u.root())?[3].clone();
        let found = line
            .split(',')
            .find(|o| o.starts_with("create=") || o.starts_with("cpup="));
        assert_eq!(found, wanted, "{given}");
        sys::write(u.at("f"), "x")?;
    }
    Ok(())
}
