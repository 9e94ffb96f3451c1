// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque marks: who is believed, what they look like on disk, what they hide.

use std::os::unix::fs::MetadataExt;

use rustix::fs::IFlags;

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
};

cases! {
    WIDE: honoured_on_rw_and_ro_wh, ignored_but_hidden_on_plain_ro, foreign_ones_count,
        opaque_ends_the_merge, opaque_on_plain_ro_is_ignored, real_beside_whiteout_stays;
    BASIC: hides_from_its_branch_down, of_a_directory, rr_wh_is_as_ro_wh,
        format_on_disk, base_files, base_files_are_kept, what_others_put_there, link_to_the_base, opaque_root,
        made_by_mkdir_over_whiteout, not_made_by_a_fresh_mkdir, whiteout_of_a_long_name,
        nothing_whiteouted_that_is_not_below, of_something_on_a_plain_ro_top,
        base_that_cannot_be_linked;
    ONCE: in_a_subvolume;
}

fn honoured_on_rw_and_ro_wh(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("a").whiteout("d/a"))
        .ro_wh(Tree::new().whiteout("b").whiteout("d/b"))
        .ro(Tree::new()
            .file("a", "")
            .file("b", "")
            .file("c", "")
            .file("d/a", "")
            .file("d/b", "")
            .file("d/c", ""))
        .mount()?;
    for name in ["a", "b", "d/a", "d/b"] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
        errno(sys::open_rw(u.at(name)), Errno::NOENT);
        errno(sys::unlink(u.at(name)), Errno::NOENT);
    }
    assert_eq!(names(u.root())?, set(["c", "d"]));
    assert_eq!(names(u.at("d"))?, set(["c"]));
    Ok(())
}

fn ignored_but_hidden_on_plain_ro(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().whiteout("a").whiteout("d/a").file("d/x", ""))
        .ro(Tree::new().file("a", "seen").file("d/a", "seen"))
        .mount()?;
    assert_eq!(text(u.at("a"))?, "seen");
    assert_eq!(text(u.at("d/a"))?, "seen");
    assert_eq!(names(u.root())?, set(["a", "d"]));
    assert_eq!(names(u.at("d"))?, set(["a", "x"]));
    errno(sys::lstat(u.at(".wh.a")), Errno::PERM);
    Ok(())
}

fn foreign_ones_count(cx: &Ctx) -> Result<()> {
    // podman writes 0644, umoci 0000, rootless tools other owners; some are not empty.
    let marks = Tree::new()
        .file(".wh.a", "")
        .mode(0o644)
        .file(".wh.b", "")
        .mode(0o000)
        .file(".wh.c", "")
        .mode(0o777)
        .owner(1000, 1000)
        .file(".wh.d", "not empty")
        .mode(0o600)
        .file("x/.wh.a", "")
        .mode(0o000)
        .owner(65534, 65534)
        .file("x/.wh..wh..opq", "")
        .mode(0o000)
        .owner(1, 1);
    let low = || {
        ["a", "b", "c", "d", "x/a", "x/b", "keep"]
            .iter()
            .fold(Tree::new(), |t, name| t.file(name, "low"))
    };
    for perm in ["rw", "ro+wh"] {
        let kind = match perm {
            "rw" => cx.layout.upper(),
            _ => cx.next_lower(),
        };
        let lower = cx.next_lower();
        let mut b = cx.union();
        if perm != "rw" {
            b = b.rw(Tree::new());
        }
        let u = b
            .on(kind, perm, marks.clone())
            .on(lower, "ro", low())
            .mount()?;
        assert_eq!(names(u.root())?, set(["x", "keep"]), "as {perm}");
        assert_eq!(names(u.at("x"))?, set([]), "as {perm}");
        for name in ["a", "b", "c", "d", "x/a", "x/b"] {
            errno(sys::lstat(u.at(name)), Errno::NOENT);
        }
        // An unprivileged user sees the same, although he could not open the marks.
        let seen = users::as_user(1000, 1000, || names(u.root()))?;
        assert_eq!(seen, set(["x", "keep"]), "as {perm} for a user");
        // They can be removed by creating the name again.
        sys::write(u.at("a"), "new")?;
        sys::mkdir(u.at("b"))?;
        assert_eq!(text(u.at("a"))?, "new");
        assert_eq!(names(u.at("b"))?, set([]));
        if perm == "rw" {
            assert!(!exists(u.br(0, ".wh.a")) && !exists(u.br(0, ".wh.b")));
        }
    }
    Ok(())
}

fn opaque_ends_the_merge(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/top", ""))
        .ro_wh(
            Tree::new()
                .file("d/mid", "")
                .opaque("d")
                .file("d/sub/m", ""),
        )
        .ro(Tree::new()
            .file("d/low", "")
            .file("d/sub/l", "")
            .file("f", ""))
        .mount()?;
    assert_eq!(names(u.at("d"))?, set(["top", "mid", "sub"]));
    assert_eq!(names(u.at("d/sub"))?, set(["m"]), "children end there too");
    errno(sys::lstat(u.at("d/low")), Errno::NOENT);
    errno(sys::lstat(u.at("d/sub/l")), Errno::NOENT);
    assert!(
        exists(u.at("f")),
        "siblings of the opaque directory are merged"
    );
    Ok(())
}

fn opaque_on_plain_ro_is_ignored(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/mid", "").opaque("d"))
        .ro(Tree::new().file("d/low", ""))
        .mount()?;
    assert_eq!(names(u.at("d"))?, set(["mid", "low"]));
    assert!(exists(u.at("d/low")));
    Ok(())
}

fn real_beside_whiteout_stays(cx: &Ctx) -> Result<()> {
    // The rule of OCI layers: a whiteout hides lower layers only, never its own.
    let both = |p: &str| {
        Tree::new()
            .file("f", p)
            .whiteout("f")
            .file("d/own", p)
            .whiteout("d")
            .file("e/x", p)
            .whiteout("e/x")
    };
    let low = || {
        Tree::new()
            .file("f", "low")
            .file("d/low", "")
            .file("e/x", "low")
            .file("e/y", "")
    };
    for perm in ["rw", "ro+wh"] {
        let u = match perm {
            "rw" => cx.union().rw(both("up")).ro(low()).mount()?,
            _ => cx
                .union()
                .rw(Tree::new())
                .ro_wh(both("up"))
                .ro(low())
                .mount()?,
        };
        cx.messy(&u.br(0, ""));
        assert_eq!(text(u.at("f"))?, "up", "as {perm}");
        assert_eq!(text(u.at("e/x"))?, "up", "as {perm}");
        assert_eq!(
            names(u.at("d"))?,
            set(["own"]),
            "as {perm}: lower d is hidden"
        );
        errno(sys::lstat(u.at("d/low")), Errno::NOENT);
        assert_eq!(names(u.root())?, set(["d", "e", "f"]), "as {perm}");
        assert_eq!(names(u.at("e"))?, set(["x", "y"]), "as {perm}");
        sys::unlink(u.at("f"))?;
        errno(sys::lstat(u.at("f")), Errno::NOENT);
        assert_eq!(names(u.root())?, set(["d", "e"]), "as {perm}: f is gone");
    }
    Ok(())
}

fn hides_from_its_branch_down(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("a", "top"))
        .ro_wh(Tree::new().whiteout("a").whiteout("b"))
        .ro(Tree::new().file("a", "low").file("b", "low"))
        .mount()?;
    assert_eq!(
        text(u.at("a"))?,
        "top",
        "a whiteout below does not hide what is above"
    );
    errno(sys::lstat(u.at("b")), Errno::NOENT);
    sys::unlink(u.at("a"))?;
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    assert!(!exists(u.br(0, ".wh.a")), "branch 1 hides it already");
    Ok(())
}

fn of_a_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("d"))
        .ro(Tree::new().file("d/f", "").file("d/e/g", ""))
        .mount()?;
    for name in ["d", "d/f", "d/e", "d/e/g"] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    errno(sys::create(u.at("d/new")), Errno::NOENT);
    assert_eq!(names(u.root())?, set([]));
    Ok(())
}

fn rr_wh_is_as_ro_wh(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .rw(Tree::new())
        .on(kind, "rr+wh", Tree::new().whiteout("a"))
        .on(kind, "rr", Tree::new().whiteout("b").file("a", ""))
        .on(kind, "ro", Tree::new().file("b", ""))
        .mount()?;
    assert_eq!(names(u.root())?, set(["b"]));
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    Ok(())
}

fn format_on_disk(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "").file("d/g", "").dir("e"))
        .mount()?;
    sys::unlink(u.at("f"))?;
    sys::unlink(u.at("d/g"))?;
    sys::rmdir(u.at("e"))?;
    let base = std::fs::metadata(u.br(0, ".wh..wh.aufs"))?;
    for mark in [".wh.f", "d/.wh.g", ".wh.e"] {
        let mark = std::fs::symlink_metadata(u.br(0, mark))?;
        assert!(mark.is_file());
        assert_eq!(mark.size(), 0);
        assert_eq!(mark.mode() & 0o7777, 0o444);
        assert_eq!(mark.ino(), base.ino(), "a hard link of the base");
    }
    assert_eq!(std::fs::metadata(u.br(0, ".wh..wh.aufs"))?.nlink(), 4);
    Ok(())
}

fn base_files(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
    let check = || -> Result<()> {
        let wanted = set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"]);
        assert_eq!(names(u.br(0, ""))?, wanted);
        assert_eq!(names(u.br(1, ""))?, set([]), "none on a read-only branch");
        let base = sys::lstat(u.br(0, ".wh..wh.aufs"))?;
        assert_eq!(sys::kind(&base), FileType::RegularFile);
        assert_eq!(
            (sys::mode(&base), base.st_size, base.st_nlink),
            (0o444, 0, 1)
        );
        for name in [".wh..wh.plnk", ".wh..wh.orph"] {
            let dir = sys::lstat(u.br(0, name))?;
            assert_eq!(sys::kind(&dir), FileType::Directory);
            assert_eq!(sys::mode(&dir), 0o700, "{name}");
        }
        Ok(())
    };
    check()?;
    assert_eq!(names(u.root())?, set([]));
    Ok(())
}

fn base_files_are_kept(cx: &Ctx) -> Result<()> {
    // Left in place by umount, found and used again by the next mount.
    let (rw, ro) = (cx.dir(cx.layout.upper())?, cx.dir(cx.layout.upper())?);
    Tree::new().file("f", "").build(&ro)?;
    let mut u = cx.union().at(&rw, "rw").at(&ro, "ro").mount()?;
    sys::unlink(u.at("f"))?;
    let before = sys::lstat(rw.join(".wh..wh.aufs"))?.st_ino;
    u.again()?;
    assert_eq!(sys::lstat(rw.join(".wh..wh.aufs"))?.st_ino, before);
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    u.umount()?;
    assert!(exists(rw.join(".wh..wh.aufs")), "umount leaves the bases");
    assert!(exists(rw.join(".wh..wh.plnk")) && exists(rw.join(".wh..wh.orph")));
    Ok(())
}

fn link_to_the_base(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("f", 300))
        .mount()?;
    for i in 0..300 {
        sys::unlink(u.at(&format!("f{i}")))?;
    }
    assert_eq!(sys::lstat(u.br(0, ".wh..wh.aufs"))?.st_nlink, 301);
    for i in 0..300 {
        sys::write(u.at(&format!("f{i}")), "")?;
    }
    assert_eq!(sys::lstat(u.br(0, ".wh..wh.aufs"))?.st_nlink, 1);
    Ok(())
}

fn opaque_root(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro_wh(Tree::new().file("a", "").opaque(""))
        .ro(Tree::new().file("b", ""))
        .mount()?;
    assert_eq!(names(u.root())?, set(["a"]));
    errno(sys::lstat(u.at("b")), Errno::NOENT);
    Ok(())
}

fn made_by_mkdir_over_whiteout(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("byhand"))
        .ro(Tree::new()
            .file("byhand/x", "")
            .file("d/x", "")
            .file("d/y", "")
            .file("f", ""))
        .mount()?;
    sys::mkdir(u.at("byhand"))?;
    sys::unlink(u.at("d/x"))?;
    sys::unlink(u.at("d/y"))?;
    sys::rmdir(u.at("d"))?;
    sys::mkdir(u.at("d"))?;
    sys::unlink(u.at("f"))?;
    sys::mkdir(u.at("f"))?;
    let base = sys::lstat(u.br(0, ".wh..wh.aufs"))?;
    for at in ["byhand", "d", "f"] {
        assert_eq!(names(u.at(at))?, set([]), "{at} starts empty");
        assert!(
            !exists(u.br(0, &format!(".wh.{at}"))),
            "the whiteout is gone"
        );
        let mark = sys::lstat(u.br(0, &format!("{at}/.wh..wh..opq")))?;
        assert_eq!((sys::mode(&mark), mark.st_size), (0o444, 0));
        assert_eq!(mark.st_ino, base.st_ino, "a hard link of the base");
    }
    errno(sys::lstat(u.at("d/x")), Errno::NOENT);
    sys::write(u.at("d/x"), "new")?;
    assert_eq!(names(u.at("d"))?, set(["x"]));
    Ok(())
}

fn not_made_by_a_fresh_mkdir(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("low"))
        .mount()?;
    sys::mkdir(u.at("new"))?;
    sys::mkdir(u.at("low/new"))?;
    assert_eq!(names(u.br(0, "new"))?, set([]));
    assert_eq!(names(u.br(0, "low"))?, set(["new"]));
    assert_eq!(names(u.br(0, "low/new"))?, set([]));
    Ok(())
}

fn whiteout_of_a_long_name(cx: &Ctx) -> Result<()> {
    let name = "l".repeat(242);
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file(&name, ""))
        .mount()?;
    sys::unlink(u.at(&name))?;
    errno(sys::lstat(u.at(&name)), Errno::NOENT);
    assert!(exists(u.br(0, &format!(".wh.{name}"))));
    sys::write(u.at(&name), "again")?;
    assert_eq!(text(u.br(0, &name))?, "again");
    Ok(())
}

fn nothing_whiteouted_that_is_not_below(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("top", "").dir("topdir"))
        .ro(Tree::new().file("d/f", ""))
        .mount()?;
    sys::write(u.at("new"), "")?;
    sys::mkdir(u.at("d/newdir"))?;
    sys::unlink(u.at("top"))?;
    sys::unlink(u.at("new"))?;
    sys::rmdir(u.at("topdir"))?;
    sys::rmdir(u.at("d/newdir"))?;
    let bases = set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", "d"]);
    assert_eq!(names(u.br(0, ""))?, bases);
    assert_eq!(names(u.br(0, "d"))?, set([]));
    Ok(())
}

fn of_something_on_a_plain_ro_top(cx: &Ctx) -> Result<()> {
    // The writable branch is in the middle: what is above it cannot be removed.
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(
            kind,
            "ro",
            Tree::new().file("above", "a").file("both", "a").dir("d"),
        )
        .on(
            kind,
            "rw",
            Tree::new().file("both", "b").dir("d").file("w", "w"),
        )
        .on(kind, "ro", Tree::new().file("below", "c"))
        .mount()?;
    errno(sys::unlink(u.at("above")), Errno::ROFS);
    errno(sys::unlink(u.at("both")), Errno::ROFS);
    errno(sys::append(u.at("above"), "x"), Errno::ROFS);
    assert_eq!(text(u.at("above"))?, "a");
    assert_eq!(text(u.br(1, "both"))?, "b", "and nothing behind it is");
    sys::append(u.at("w"), "+")?;
    assert_eq!(
        text(u.br(1, "w"))?,
        "w+",
        "but what is seen there can be written"
    );
    Ok(())
}

/// Whiteouts are files of their own then.
fn base_that_cannot_be_linked(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "").file("d/g", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let chattr = |flags| -> Result<()> {
        let base = sys::open_ro(u.br(0, ".wh..wh.aufs"))?;
        Ok(rustix::fs::ioctl_setflags(&base, flags)?)
    };
    chattr(IFlags::IMMUTABLE)?;
    let removed = sys::unlink(u.at("f")).and_then(|()| sys::unlink(u.at("d/g")));
    chattr(IFlags::empty())?;
    removed?;
    for name in ["f", "d/g"] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    assert_eq!(sys::lstat(u.br(0, ".wh.f"))?.st_nlink, 1);
    Ok(())
}

/// The base is in another subvolume than the directory.
fn in_a_subvolume(cx: &Ctx) -> Result<()> {
    let disk = Private::disk(Kind::Btrfs, &cx.name(), 256 << 20)?;
    let sub = disk.path().join("sub");
    scratch::subvolume(&sub)?;
    let low = cx.branch(Kind::Tmpfs, "ro", &Tree::new().file("sub/f", "f"))?;
    let u = cx.union().at(disk.path(), "rw").at(&low, "ro").mount()?;
    sys::unlink(u.at("sub/f"))?;
    assert!(names(u.at("sub"))?.is_empty());
    sys::rmdir(u.at("sub"))?;
    errno(sys::lstat(u.at("sub")), Errno::NOENT);
    u.umount()?;
    disk.umount()
}

/// What is not ours in the directories of bookkeeping stays: who owns the root of a branch could
/// have moved anything there.
fn what_others_put_there(cx: &Ctx) -> Result<()> {
    let rw = cx.dir(cx.layout.upper())?;
    Tree::new()
        .file(".wh..wh.orph/somebodys", "data")
        .file(".wh..wh.orph/dir/file", "data")
        .file(".wh..wh.orph/.wh..wh.left.00a0", "")
        .file(".wh..wh.orph/.wh..wh.gone.1111/.wh.x", "")
        .file(".wh..wh.orph/.wh..wh.dir.1112/.wh.x", "")
        .file(".wh..wh.orph/.wh..wh.dir.1112/file", "data")
        .file(".wh..wh.plnk/somebodys", "data")
        .file(".wh..wh.plnk/12.13", "")
        .build(&rw)?;
    let low = cx.branch(cx.layout.upper(), "ro", &Tree::new().file("f", ""))?;
    let u = cx.union().at(&rw, "rw").at(&low, "ro").mount()?;
    u.umount()?;
    let orphans = rw.join(".wh..wh.orph");
    assert_eq!(
        names(&orphans)?,
        set(["somebodys", "dir", ".wh..wh.dir.1112"])
    );
    assert_eq!(names(orphans.join(".wh..wh.dir.1112"))?, set(["file"]));
    assert_eq!(text(orphans.join("dir/file"))?, "data");
    assert_eq!(names(rw.join(".wh..wh.plnk"))?, set(["somebodys"]));
    Ok(())
}
