// SPDX-License-Identifier: GPL-2.0

//! Renames: every combination of branch, kind, flag and obstacle.

use crate::harness::{prelude::*, sys::RenameFlags};

cases! {
    WRITABLE: files, lower_files, over_existing_files, over_whiteouts, exchange;
    BASIC: other_kinds, between_directories, wrong_kinds, noreplace, whiteout_flag, upper_of_overlayfs,
        exchange_errors, open_files_follow, times_and_numbers, no_writable_branch,
        unprivileged_users, there_and_back, long_chain, replaced_file_lives_on, survives_remount;
}

fn files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("a", "a").dir("d"))
        .ro(Tree::new().dir("e"))
        .mount()?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    for (from, to) in [("a", "b"), ("b", "d/b"), ("d/b", "e/c"), ("e/c", "a")] {
        sys::rename(u.at(from), u.at(to))?;
        errno(sys::lstat(u.at(from)), Errno::NOENT);
        assert_eq!(text(u.at(to))?, "a");
        assert_eq!(sys::lstat(u.at(to))?.st_ino, ino);
        assert!(!exists(u.br(0, from)));
        let mark = crate::harness::tree::whiteout_name(from);
        assert!(!exists(u.br(0, &mark)), "there is nothing below {from}");
    }
    errno(sys::rename(u.at("absent"), u.at("x")), Errno::NOENT);
    errno(sys::rename(u.at("a"), u.at("no/x")), Errno::NOENT);
    errno(sys::rename(u.at("a"), u.br(0, "x")), Errno::XDEV);
    Ok(())
}

fn lower_files(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "low")
        .mode(0o4711)
        .owner(5, 6)
        .xattr("user.k", "v")
        .file("d/g", "low g")
        .dir("e");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for (from, to) in [("f", "moved"), ("d/g", "e/h")] {
        let before = sys::lstat(u.at(from))?;
        let data = text(u.at(from))?;
        sys::rename(u.at(from), u.at(to))?;
        errno(sys::lstat(u.at(from)), Errno::NOENT);
        let after = sys::lstat(u.at(to))?;
        assert_eq!(after.st_ino, before.st_ino);
        assert_eq!(after.st_mode, before.st_mode);
        assert_eq!((after.st_uid, after.st_gid), (before.st_uid, before.st_gid));
        assert_eq!(sys::mtime(&after), sys::mtime(&before));
        assert_eq!(text(u.at(to))?, data);
        assert!(exists(u.br(0, &crate::harness::tree::whiteout_name(from))));
        assert!(exists(u.br(0, to)));
        assert!(!exists(u.br(0, from)), "no copy under the old name");
    }
    assert_eq!(sys::get_xattr(u.at("moved"), "user.k")?, b"v");
    assert_eq!(names(u.root())?, set(["d", "e", "moved"]));
    assert_eq!(names(u.at("d"))?, set([]));
    Ok(())
}

fn over_existing_files(cx: &Ctx) -> Result<()> {
    let names_of = |side: &str| {
        [
            format!("{side}-to-t"),
            format!("{side}-to-l"),
            format!("{side}-to-b"),
        ]
    };
    let (mut up, mut low) = (Tree::new(), Tree::new());
    for name in names_of("t") {
        up = up.file(&name, "top");
    }
    for name in names_of("l") {
        low = low.file(&name, "low");
    }
    for side in ["t", "l"] {
        up = up
            .file(&format!("dst-{side}-t"), "old")
            .file(&format!("dst-{side}-b"), "old");
        low = low
            .file(&format!("dst-{side}-l"), "old")
            .file(&format!("dst-{side}-b"), "older");
    }
    let mut u = cx.union().rw(up).ro(low).mount()?;
    for (side, data) in [("t", "top"), ("l", "low")] {
        for to in ["t", "l", "b"] {
            let (src, dst) = (format!("{side}-to-{to}"), format!("dst-{side}-{to}"));
            sys::rename(u.at(&src), u.at(&dst))?;
            errno(sys::lstat(u.at(&src)), Errno::NOENT);
            assert_eq!(text(u.at(&dst))?, data, "{src} over {dst}");
            assert!(!exists(u.br(0, &format!(".wh.{dst}"))));
            assert_eq!(exists(u.br(0, &format!(".wh.{src}"))), side == "l");
        }
    }
    let all = names(u.root())?;
    assert_eq!(all.len(), 6);
    u.again()?;
    assert_eq!(names(u.root())?, all);
    Ok(())
}

fn over_whiteouts(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .whiteout("a")
            .whiteout("b")
            .whiteout("c")
            .file("t", "t")
            .dir("td"))
        .ro(Tree::new()
            .file("a", "")
            .file("b", "")
            .file("c/old", "")
            .file("l", "l"))
        .mount()?;
    sys::rename(u.at("t"), u.at("a"))?;
    sys::rename(u.at("l"), u.at("b"))?;
    sys::rename(u.at("td"), u.at("c"))?;
    assert_eq!(text(u.at("a"))?, "t");
    assert_eq!(text(u.at("b"))?, "l");
    assert_eq!(
        names(u.at("c"))?,
        set([]),
        "old content of the name stays hidden"
    );
    assert!(exists(u.br(0, "c/.wh..wh..opq")));
    for mark in [".wh.a", ".wh.b", ".wh.c", ".wh.t", ".wh.td"] {
        assert!(!exists(u.br(0, mark)), "{mark}");
    }
    assert!(exists(u.br(0, ".wh.l")));
    Ok(())
}

fn exchange(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .file("t1", "t1")
            .file("t2", "t2")
            .file("td/in", "")
            .file("t3", "t3"))
        .ro(Tree::new()
            .file("l1", "l1")
            .file("l2", "l2")
            .file("d/l3", "l3")
            .dir("empty"))
        .mount()?;
    let swap = |a: &str, b: &str| sys::rename_with(u.at(a), u.at(b), RenameFlags::EXCHANGE);
    for (a, b) in [("t1", "t2"), ("t1", "l1"), ("l1", "l2"), ("t2", "d/l3")] {
        let (ta, tb) = (text(u.at(a))?, text(u.at(b))?);
        let (ia, ib) = (sys::lstat(u.at(a))?.st_ino, sys::lstat(u.at(b))?.st_ino);
        swap(a, b)?;
        assert_eq!((text(u.at(a))?, text(u.at(b))?), (tb, ta), "{a} and {b}");
        assert_eq!(
            (sys::lstat(u.at(a))?.st_ino, sys::lstat(u.at(b))?.st_ino),
            (ib, ia)
        );
    }
    swap("td", "t3")?;
    assert_eq!(text(u.at("td"))?, "t3");
    assert_eq!(names(u.at("t3"))?, set(["in"]));
    swap("t3", "empty")?;
    assert_eq!(names(u.at("empty"))?, set(["in"]));
    assert_eq!(names(u.at("t3"))?, set([]));
    sys::drop_caches();
    assert_eq!(text(u.at("td"))?, "t3");
    assert_eq!(names(u.at("empty"))?, set(["in"]));
    Ok(())
}

fn exchange_errors(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t").file("td/sub/x", ""))
        .ro(Tree::new().file("low/f", ""))
        .mount()?;
    let swap = |a: &str, b: &str| sys::rename_with(u.at(a), u.at(b), RenameFlags::EXCHANGE);
    errno(swap("t", "absent"), Errno::NOENT);
    errno(swap("absent", "t"), Errno::NOENT);
    errno(swap("t", "low"), Errno::XDEV);
    errno(swap("low", "t"), Errno::XDEV);
    errno(swap("td", "td/sub"), Errno::INVAL);
    errno(swap("td/sub", "td"), Errno::INVAL);
    let both = RenameFlags::EXCHANGE | RenameFlags::NOREPLACE;
    errno(sys::rename_with(u.at("t"), u.at("td"), both), Errno::INVAL);
    assert_eq!(text(u.at("t"))?, "t");
    assert_eq!(names(u.at("low"))?, set(["f"]));
    Ok(())
}

fn other_kinds(cx: &Ctx) -> Result<()> {
    let tree = |p: &str| {
        Tree::new()
            .symlink(&format!("{p}link"), "target")
            .owner(7, 7)
            .fifo(&format!("{p}fifo"))
            .mode(0o621)
            .node(
                &format!("{p}char"),
                FileType::CharacterDevice,
                sys::dev(1, 3),
            )
            .owner(8, 8)
            .node(&format!("{p}socket"), FileType::Socket, 0)
    };
    let u = cx.union().rw(tree("t")).ro(tree("l").dir("d")).mount()?;
    for side in ["t", "l"] {
        for kind in ["link", "fifo", "char", "socket"] {
            let (from, to) = (format!("{side}{kind}"), format!("d/{side}{kind}"));
            let before = sys::lstat(u.at(&from))?;
            sys::rename(u.at(&from), u.at(&to))?;
            errno(sys::lstat(u.at(&from)), Errno::NOENT);
            let after = sys::lstat(u.at(&to))?;
            assert_eq!(after.st_mode, before.st_mode, "{to}");
            assert_eq!(
                (after.st_uid, after.st_rdev),
                (before.st_uid, before.st_rdev),
                "{to}"
            );
            assert_eq!(after.st_ino, before.st_ino, "{to}");
        }
        assert_eq!(sys::readlink(u.at(&format!("d/{side}link")))?, "target");
    }
    Ok(())
}

fn between_directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("top/t", "t"))
        .ro(Tree::new().file("low/l", "l").dir("deep/er/est"))
        .mount()?;
    sys::rename(u.at("top/t"), u.at("low/t"))?;
    sys::rename(u.at("low/l"), u.at("top/l"))?;
    sys::rename(u.at("top/l"), u.at("deep/er/est/l"))?;
    assert_eq!(names(u.at("top"))?, set([]));
    assert_eq!(names(u.at("low"))?, set(["t"]));
    assert_eq!(text(u.at("deep/er/est/l"))?, "l");
    assert_eq!(names(u.br(0, "low"))?, set(["t", ".wh.l"]));
    assert_eq!(
        names(u.br(0, "top"))?,
        set([]),
        "no whiteout where nothing is below"
    );
    Ok(())
}

fn wrong_kinds(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("tf", "tf").dir("td"))
        .ro(Tree::new().file("lf", "lf").dir("ld"))
        .mount()?;
    for file in ["tf", "lf"] {
        for dir in ["td", "ld"] {
            errno(sys::rename(u.at(file), u.at(dir)), Errno::ISDIR);
            errno(sys::rename(u.at(dir), u.at(file)), Errno::NOTDIR);
        }
    }
    errno(sys::rename(u.at("tf"), u.at("lf/x")), Errno::NOTDIR);
    assert_eq!(text(u.at("tf"))?, "tf");
    assert_eq!(text(u.at("lf"))?, "lf");
    assert_eq!(names(u.root())?.len(), 4);
    Ok(())
}

fn noreplace(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t").file("t2", "t2").whiteout("gone"))
        .ro(Tree::new().file("l", "l").file("l2", "l2").file("gone", ""))
        .mount()?;
    let mv = |a: &str, b: &str| sys::rename_with(u.at(a), u.at(b), RenameFlags::NOREPLACE);
    for (a, b) in [("t", "t2"), ("t", "l"), ("l", "t"), ("l", "l2")] {
        errno(mv(a, b), Errno::EXIST);
    }
    assert_eq!(text(u.at("t"))?, "t");
    assert!(!exists(u.br(0, "l")), "a refusal copies nothing up");
    mv("t", "new")?;
    mv("l", "gone")?;
    mv("l2", "l")?;
    assert_eq!(names(u.root())?, set(["t2", "new", "gone", "l"]));
    assert_eq!(text(u.at("gone"))?, "l");
    assert_eq!(text(u.at("l"))?, "l2");
    Ok(())
}

fn whiteout_flag(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("t", "t").dir("td").file("over", ""))
        .ro(Tree::new()
            .file("l", "l")
            .file("ld/x", "")
            .dir("le")
            .file("gone", ""))
        .mount()?;
    let mv = |a: &str, b: &str| sys::rename_with(u.at(a), u.at(b), RenameFlags::WHITEOUT);
    for (from, to) in [
        ("t", "x"),
        ("l", "over"),
        ("td", "y"),
        ("le", "z"),
        ("gone", "w"),
    ] {
        let before = sys::lstat(u.at(from))?.st_ino;
        mv(from, to)?;
        assert_eq!(sys::lstat(u.at(to))?.st_ino, before, "{from}");
    }
    errno(mv("ld", "no"), Errno::XDEV);
    errno(
        sys::rename_with(
            u.at("x"),
            u.at("y"),
            RenameFlags::WHITEOUT | RenameFlags::EXCHANGE,
        ),
        Errno::INVAL,
    );
    for _ in 0..2 {
        // As on any other file system: a device node 0:0 is left, which hides what is below.
        for from in ["t", "l", "td", "le", "gone"] {
            let stat = sys::lstat(u.at(from))?;
            assert_eq!(sys::kind(&stat), FileType::CharacterDevice, "{from}");
            assert_eq!(stat.st_rdev, 0, "{from}");
            assert!(!exists(u.br(0, &format!(".wh.{from}"))), "{from}");
        }
        assert_eq!(text(u.at("x"))?, "t");
        assert_eq!(text(u.at("over"))?, "l");
        assert_eq!(names(u.root())?.len(), 11);
        u.again()?;
    }
    sys::unlink(u.at("l"))?;
    errno(sys::lstat(u.at("l")), Errno::NOENT);
    // It belongs to who renamed.
    sys::chmod(u.root(), 0o777)?;
    users::as_user(7, 8, || {
        sys::rename_with(u.at("x"), u.at("v"), RenameFlags::WHITEOUT)
    })?;
    let stat = sys::lstat(u.at("x"))?;
    assert_eq!((stat.st_uid, stat.st_gid), (7, 8));
    Ok(())
}

fn upper_of_overlayfs(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new()
            .dir("up")
            .dir("work")
            .dir("low")
            .file("up/a", "a"))
        .opt("udba=none")
        .mount()?;
    let lower = cx.branch(
        cx.layout.upper(),
        "ro",
        &Tree::new().file("b", "b").file("c", "c"),
    )?;
    let mnt = cx.mount_point()?;
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        u.at("up").display(),
        u.at("work").display()
    );
    crate::harness::scratch::mount("overlay", "overlay", &mnt, &data)?;
    let work = || -> Result<()> {
        sys::rename(mnt.join("b"), mnt.join("new"))?;
        sys::unlink(mnt.join("c"))?;
        sys::append(mnt.join("new"), "+")?;
        assert_eq!(names(&mnt)?, set(["a", "new"]));
        assert_eq!(text(mnt.join("new"))?, "b+");
        Ok(())
    };
    let done = work();
    crate::harness::scratch::umount(&mnt)?;
    done?;
    for name in ["up/b", "up/c"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!(
            (sys::kind(&stat), stat.st_rdev),
            (FileType::CharacterDevice, 0)
        );
    }
    let refused = cx
        .klog()
        .into_iter()
        .find(|line| line.contains("RENAME_WHITEOUT"));
    assert_eq!(refused, None, "overlayfs finds what it needs");
    Ok(())
}

fn open_files_follow(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(Tree::new().file("l", "l").file("d/x", ""))
        .mount()?;
    for name in ["t", "l"] {
        let (reader, writer) = (sys::open_ro(u.at(name))?, sys::open_rw(u.at(name))?);
        let to = u.at(&format!("d/{name}"));
        sys::rename(u.at(name), &to)?;
        sys::pwrite_fd(&writer, b"W", 0)?;
        assert_eq!(sys::pread_fd(&reader)?, b"W");
        assert_eq!(text(&to)?, "W");
        assert_eq!(sys::fstat(&reader)?.st_ino, sys::lstat(&to)?.st_ino);
        assert_eq!(sys::fstat(&reader)?.st_nlink, 1);
    }
    Ok(())
}

fn times_and_numbers(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("a/f", "f").dir("b").dir("c"))
        .mount()?;
    let file = sys::lstat(u.at("a/f"))?;
    sys::rename(u.at("a/f"), u.at("b/f"))?;
    assert!(
        sys::mtime(&sys::lstat(u.at("a"))?) > MTIME,
        "the old directory changed"
    );
    assert!(
        sys::mtime(&sys::lstat(u.at("b"))?) > MTIME,
        "the new directory changed"
    );
    assert_eq!(sys::mtime(&sys::lstat(u.at("c"))?), MTIME);
    assert_eq!(sys::mtime(&sys::lstat(u.at("b/f"))?), sys::mtime(&file));
    sys::drop_caches();
    assert_eq!(
        sys::lstat(u.at("b/f"))?.st_ino,
        file.st_ino,
        "after eviction"
    );
    let listed = dir::list(u.at("b"))?;
    assert_eq!(listed[0].ino, file.st_ino);
    Ok(())
}

fn no_writable_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "ro", Tree::new().file("above", "").dir("d"))
        .on(kind, "rw", Tree::new().file("w", "").dir("wd"))
        .mount()?;
    errno(sys::rename(u.at("above"), u.at("wd/x")), Errno::ROFS);
    errno(sys::rename(u.at("w"), u.at("above")), Errno::ROFS);
    assert_eq!(names(u.root())?, set(["above", "d", "w", "wd"]));
    Ok(())
}

fn unprivileged_users(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("open")
        .mode(0o777)
        .file("open/f", "roots")
        .mode(0o600)
        .file("closed/g", "")
        .mode(0o666)
        .dir("open/roots-dir")
        .mode(0o755);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::rename(u.at("open/f"), u.at("closed/f")), Errno::ACCESS);
        errno(sys::rename(u.at("closed/g"), u.at("open/g")), Errno::ACCESS);
        // His permission is about the directory; the copy keeps owner and mode.
        sys::rename(u.at("open/f"), u.at("open/h"))?;
        errno(sys::open_ro(u.at("open/h")), Errno::ACCESS);
        Ok(())
    })?;
    let stat = sys::lstat(u.at("open/h"))?;
    assert_eq!((stat.st_uid, sys::mode(&stat)), (0, 0o600));
    assert_eq!(text(u.at("open/h"))?, "roots");
    Ok(())
}

fn there_and_back(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "low"))
        .mount()?;
    sys::rename(u.at("f"), u.at("g"))?;
    sys::rename(u.at("g"), u.at("f"))?;
    assert!(!exists(u.br(0, ".wh.f")), "the real name is back");
    assert_eq!(names(u.root())?, set(["f"]));
    u.again()?;
    assert_eq!(text(u.at("f"))?, "low");
    Ok(())
}

fn long_chain(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("f", 20))
        .mount()?;
    for round in 0..5 {
        // Shifts all names by one; each destination was just vacated.
        sys::rename(u.at("f19"), u.at("spare"))?;
        for i in (0..19).rev() {
            sys::rename(u.at(&format!("f{i}")), u.at(&format!("f{}", i + 1)))?;
        }
        sys::rename(u.at("spare"), u.at("f0"))?;
        assert_eq!(names(u.root())?.len(), 20, "round {round}");
    }
    let marks = names(u.br(0, ""))?
        .into_iter()
        .filter(|n| n.starts_with(".wh.f"))
        .count();
    assert_eq!(marks, 0, "every name is taken");
    Ok(())
}

fn replaced_file_lives_on(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .file("new1", "new")
            .file("new2", "new")
            .file("t", "old"))
        .ro(Tree::new().file("l", "old"))
        .mount()?;
    for (new, old) in [("new1", "t"), ("new2", "l")] {
        let fd = sys::open_rw(u.at(old))?;
        sys::rename(u.at(new), u.at(old))?;
        assert_eq!(sys::pread_fd(&fd)?, b"old");
        assert_eq!(sys::fstat(&fd)?.st_nlink, 0);
        sys::pwrite_fd(&fd, b"OLD", 0)?;
        assert_eq!(sys::pread_fd(&fd)?, b"OLD");
        assert_eq!(text(u.at(old))?, "new");
    }
    Ok(())
}

fn survives_remount(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("d/t", "t"))
        .ro(Tree::new().file("a", "a").file("b", "b").dir("e"))
        .mount()?;
    sys::rename(u.at("a"), u.at("b"))?;
    sys::rename(u.at("d"), u.at("e"))?;
    sys::rename(u.at("b"), u.at("e/b"))?;
    u.again()?;
    assert_eq!(names(u.root())?, set(["e"]));
    assert_eq!(names(u.at("e"))?, set(["t", "b"]));
    assert_eq!(text(u.at("e/b"))?, "a");
    Ok(())
}
