// SPDX-License-Identifier: GPL-2.0

//! Whiteouts that are shown (`shwh`).

use rustix::mount::MountFlags;

use crate::harness::{
    prelude::*,
    union::{remount2, Builder},
};

cases! {
    BASIC: marks_are_shown, marks_are_hidden_by_default, remount_shows_and_hides, marks_cannot_be_changed,
        marks_come_and_go, bookkeeping_stays_hidden, marks_of_another_type;
    ONCE: warning;
}

/// Two branches whose marks count above one whose marks do not.
fn three(cx: &Ctx) -> Builder<'_> {
    let kind = cx.layout.upper();
    cx.union()
        .on(
            kind,
            "ro+wh",
            Tree::new()
                .whiteout("a")
                .file("b", "b")
                .file("d/new", "new")
                .opaque("d")
                .whiteout("alone/x"),
        )
        .on(kind, "ro+wh", Tree::new().whiteout("a").whiteout("b"))
        .on(
            kind,
            "ro",
            Tree::new()
                .file("a", "a")
                .file("c", "c")
                .whiteout("c")
                .file("d/old", "old"),
        )
}

fn marks_are_shown(cx: &Ctx) -> Result<()> {
    let u = three(cx).opt("shwh").read_only().mount()?;
    assert_eq!(
        names(u.root())?,
        set([".wh.a", ".wh.b", "alone", "b", "c", "d"])
    );
    assert_eq!(names(u.at("d"))?, set([".wh..wh..opq", "new"]));
    // A directory that exists once is passed through.
    assert_eq!(names(u.at("alone"))?, set([".wh.x"]));
    for dir in ["", "d", "alone"] {
        for entry in dir::list(u.at(dir))? {
            if entry.name.starts_with(".wh.") {
                let path = u.at(dir).join(&entry.name);
                let stat = sys::lstat(&path)?;
                assert_eq!(sys::kind(&stat), FileType::RegularFile);
                assert_eq!((stat.st_size, stat.st_ino), (0, entry.ino), "{path:?}");
                assert_eq!(text(&path)?, "");
            }
        }
    }
    // They mean what they mean.
    for name in ["a", ".wh.c", ".wh.d", "d/old", "alone/x", ".wh.nothing"] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    errno(sys::lstat(u.at(".wh.")), Errno::PERM);
    Ok(())
}

fn marks_are_hidden_by_default(cx: &Ctx) -> Result<()> {
    for option in ["noshwh", "nosum"] {
        let u = three(cx).opt(option).read_only().mount()?;
        assert_eq!(names(u.root())?, set(["alone", "b", "c", "d"]));
        assert_eq!(names(u.at("alone"))?, set([]));
        for name in [".wh.a", "d/.wh..wh..opq", "alone/.wh.x", ".wh.nothing"] {
            errno(sys::lstat(u.at(name)), Errno::PERM);
        }
    }
    Ok(())
}

fn remount_shows_and_hides(cx: &Ctx) -> Result<()> {
    let u = three(cx).read_only().mount()?;
    for _ in 0..2 {
        assert!(!names(u.root())?.contains(".wh.a"));
        assert_eq!(names(u.at("alone"))?, set([]));
        errno(sys::lstat(u.at(".wh.a")), Errno::PERM);
        remount2(u.root(), MountFlags::RDONLY, "shwh")?;
        assert!(names(u.root())?.contains(".wh.a"));
        assert_eq!(names(u.at("alone"))?, set([".wh.x"]));
        sys::lstat(u.at(".wh.a"))?;
        sys::lstat(u.at("alone/.wh.x"))?;
        remount2(u.root(), MountFlags::RDONLY, "noshwh")?;
    }
    Ok(())
}

fn marks_cannot_be_changed(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("a").dir("d").opaque("d").file("f", ""))
        .ro(Tree::new().file("a", "a"))
        .opt("shwh")
        .mount()?;
    for name in [".wh.a", "d/.wh..wh..opq"] {
        let path = || u.at(name);
        errno(sys::unlink(path()), Errno::PERM);
        errno(sys::chmod(path(), 0o600), Errno::PERM);
        errno(sys::utimens(path(), MTIME, MTIME), Errno::PERM);
        errno(sys::open_rw(path()), Errno::PERM);
        errno(sys::truncate(path(), 1), Errno::PERM);
        errno(sys::set_xattr(path(), "user.a", "b"), Errno::PERM);
        errno(sys::rename(path(), u.at("new")), Errno::PERM);
        errno(sys::rename(u.at("f"), path()), Errno::PERM);
        errno(sys::link(path(), u.at("new")), Errno::PERM);
        assert_eq!(text(path())?, "");
    }
    for name in [".wh.b", ".wh..wh..opq", "d/.wh.b"] {
        errno(sys::create(u.at(name)), Errno::PERM);
        errno(sys::mkdir(u.at(name)), Errno::PERM);
        errno(sys::symlink("x", u.at(name)), Errno::PERM);
        errno(sys::link(u.at("f"), u.at(name)), Errno::PERM);
    }
    assert_eq!(names(u.root())?, set([".wh.a", "d", "f"]));
    // A directory that shows an opaque mark is empty all the same.
    sys::rmdir(u.at("d"))?;
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    Ok(())
}

fn marks_come_and_go(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("f", 4).file("d/x", "x"))
        .opt("shwh")
        .mount()?;
    for round in 0..3 {
        for n in 0..4 {
            let (name, mark) = (u.at(&format!("f{n}")), u.at(&format!(".wh.f{n}")));
            errno(sys::lstat(&mark), Errno::NOENT);
            sys::unlink(&name)?;
            sys::lstat(&mark).with_context(|| format!("round {round}"))?;
            errno(sys::lstat(&name), Errno::NOENT);
        }
        assert_eq!(
            names(u.root())?,
            set(["d", ".wh.f0", ".wh.f1", ".wh.f2", ".wh.f3"])
        );
        for n in 0..4 {
            sys::write(u.at(&format!("f{n}")), "x")?;
            errno(sys::lstat(u.at(&format!(".wh.f{n}"))), Errno::NOENT);
        }
        assert_eq!(names(u.root())?, set(["d", "f0", "f1", "f2", "f3"]));
    }
    sys::unlink(u.at("d/x"))?;
    sys::rmdir(u.at("d"))?;
    sys::mkdir(u.at("d"))?;
    assert_eq!(names(u.at("d"))?, set([".wh..wh..opq"]));
    Ok(())
}

fn bookkeeping_stays_hidden(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "f"))
        .opt("shwh")
        .mount()?;
    assert_eq!(names(u.root())?, set(["f"]));
    for name in [
        ".wh..wh.aufs",
        ".wh..wh.plnk",
        ".wh..wh.orph",
        ".wh..wh.orph/x",
    ] {
        errno(sys::lstat(u.at(name)), Errno::PERM);
    }
    Ok(())
}

fn marks_of_another_type(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "ro+wh", Tree::new().dir(".wh.d").file("f", ""))
        .opt("shwh")
        .read_only()
        .mount()?;
    errno(sys::lstat(u.at(".wh.d")), Errno::IO);
    errno(sys::lstat(u.at(".wh.d/x")), Errno::IO);
    Ok(())
}

fn warning(cx: &Ctx) -> Result<()> {
    let u = three(cx).opt("shwh").read_only().mount()?;
    u.umount()?;
    assert!(!cx.klog().join("\n").contains("shwh"));
    let u = cx.union().rw(Tree::new()).opt("shwh").mount()?;
    assert!(cx.klog().join("\n").contains("\"shwh\""));
    u.umount()
}
