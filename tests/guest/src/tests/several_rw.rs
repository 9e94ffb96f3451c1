// SPDX-License-Identifier: GPL-2.0

//! Several writable branches: which one an operation uses (policy `tdp`).

use crate::harness::{acl::acl, prelude::*, sys::RenameFlags};

cases! {
    BASIC: policy_top_down_parent, new_objects_go_where_their_directory_is,
        files_are_changed_where_they_are,
        removal_happens_where_things_are, renames_between_them, links_between_them,
        exchanges_of_directories, directories_over_an_upper_one, times_of_directories,
        read_only_between_them, rename_below_a_read_only_directory, renames_into_a_directory_of_the_lower_one,
        each_has_its_bases, the_upper_one_hides_what_the_lower_one_gets,
        new_objects_inherit_what_is_shown, names_in_a_directory_with_something_else_between,
        names_of_one_file_with_something_else_between;
}

/// Top rw, middle rw, bottom ro.
fn three(cx: &Ctx) -> Result<Union> {
    let kind = cx.layout.upper();
    cx.union()
        .on(
            kind,
            "rw",
            Tree::new().file("top/t", "t").file("both/t", "t"),
        )
        .on(
            kind,
            "rw",
            Tree::new()
                .file("mid/m", "m")
                .file("both/m", "m")
                .file("m", "m"),
        )
        .on(
            kind,
            "ro",
            Tree::new()
                .file("low/l", "l")
                .file("both/l", "l")
                .file("l", "l"),
        )
        .mount()
}

fn policy_top_down_parent(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "ro", Tree::new().dir("on0").dir("both"))
        .on(kind, "rw", Tree::new().dir("both").dir("on1"))
        .on(kind, "ro", Tree::new().dir("on2").file("on2/f", "low"))
        .mount()?;
    // The topmost branch with the parent is not writable and nothing above it is.
    errno(sys::create(u.at("on0/f")), Errno::ROFS);
    errno(sys::create(u.at("both/f")), Errno::ROFS);
    sys::write(u.at("on1/f"), "1")?;
    sys::write(u.at("on2/g"), "2")?;
    sys::append(u.at("on2/f"), "+")?;
    assert_eq!(text(u.br(1, "on1/f"))?, "1");
    assert_eq!(text(u.br(1, "on2/g"))?, "2");
    assert_eq!(text(u.br(1, "on2/f"))?, "low+");
    Ok(())
}

fn new_objects_go_where_their_directory_is(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for (dir, branch) in [("", 0), ("top/", 0), ("both/", 0), ("mid/", 1)] {
        let name = |n: &str| format!("{dir}{n}");
        sys::write(u.at(&name("file")), "x")?;
        sys::mkdir(u.at(&name("dir")))?;
        sys::symlink("x", u.at(&name("link")))?;
        sys::mknod(u.at(&name("fifo")), FileType::Fifo, 0o600, 0)?;
        for n in ["file", "dir", "link", "fifo"] {
            assert!(
                exists(u.br(branch, &name(n))),
                "{dir}{n} belongs on branch {branch}"
            );
            assert!(
                !exists(u.br(1 - branch, &name(n))),
                "{dir}{n} is on one branch"
            );
        }
    }
    // A directory that is on the read-only branch alone is made on the nearest writable one.
    sys::write(u.at("low/new"), "x")?;
    assert!(exists(u.br(1, "low/new")) && !exists(u.br(0, "low")));
    Ok(())
}

fn files_are_changed_where_they_are(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for (name, branch) in [("top/t", 0), ("mid/m", 1), ("both/m", 1), ("m", 1)] {
        sys::append(u.at(name), "+")?;
        sys::chmod(u.at(name), 0o600)?;
        sys::set_xattr(u.at(name), "user.a", "b")?;
        assert!(text(u.br(branch, name))?.ends_with('+'), "{name}");
        assert!(!exists(u.br(1 - branch, name)), "{name} has not moved");
    }
    sys::append(u.at("both/l"), "+")?;
    assert_eq!(text(u.at("both/l"))?, "l+");
    assert_eq!(text(u.br(2, "both/l"))?, "l");
    Ok(())
}

fn removal_happens_where_things_are(cx: &Ctx) -> Result<()> {
    let mut u = three(cx)?;
    sys::unlink(u.at("m"))?;
    assert!(!exists(u.br(1, "m")) && !exists(u.br(0, ".wh.m")) && !exists(u.br(1, ".wh.m")));
    sys::unlink(u.at("l"))?;
    sys::unlink(u.at("both/m"))?;
    sys::unlink(u.at("both/l"))?;
    sys::unlink(u.at("both/t"))?;
    sys::rmdir(u.at("both"))?;
    sys::unlink(u.at("mid/m"))?;
    sys::rmdir(u.at("mid"))?;
    for _ in 0..2 {
        assert_eq!(names(u.root())?, set(["top", "low"]));
        for name in ["m", "l", "both", "mid"] {
            errno(sys::lstat(u.at(name)), Errno::NOENT);
        }
        u.again()?;
    }
    Ok(())
}

fn renames_between_them(cx: &Ctx) -> Result<()> {
    let mut u = three(cx)?;
    sys::rename(u.at("mid/m"), u.at("top/m"))?;
    sys::rename(u.at("top/t"), u.at("mid/t"))?;
    sys::rename(u.at("l"), u.at("mid/l"))?;
    sys::rename(u.at("m"), u.at("both/t"))?;
    for _ in 0..2 {
        assert_eq!(names(u.at("top"))?, set(["m"]));
        assert_eq!(names(u.at("mid"))?, set(["t", "l"]));
        assert_eq!(names(u.at("both"))?, set(["t", "m", "l"]));
        assert_eq!(text(u.at("both/t"))?, "m");
        assert_eq!(text(u.at("top/m"))?, "m");
        assert_eq!(text(u.at("mid/t"))?, "t");
        assert_eq!(text(u.at("mid/l"))?, "l");
        errno(sys::lstat(u.at("m")), Errno::NOENT);
        u.again()?;
    }
    Ok(())
}

fn renames_into_a_directory_of_the_lower_one(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for (i, name) in ["top/t", "m", "l", "low/l"].into_iter().enumerate() {
        let data = text(u.at(name))?;
        let to = format!("mid/new{i}");
        sys::rename(u.at(name), u.at(&to))?;
        assert_eq!(text(u.at(&to))?, data);
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    sys::rename_with(u.at("mid/new0"), u.at("both/t"), RenameFlags::EXCHANGE)?;
    assert_eq!(names(u.at("mid"))?.len(), 5);
    sys::mkdir(u.at("dir"))?;
    sys::rename(u.at("dir"), u.at("mid/dir"))?;
    sys::rename(u.at("mid/dir"), u.at("both/dir"))?;
    assert!(exists(u.at("both/dir")));
    Ok(())
}

fn exchanges_of_directories(cx: &Ctx) -> Result<()> {
    // What is below the branch that is worked on cannot be exchanged, and must not be lost.
    let u = three(cx)?;
    sys::mkdir(u.at("empty"))?;
    for (a, b) in [
        ("empty", "mid"),
        ("mid", "empty"),
        ("top", "mid"),
        ("both", "mid"),
    ] {
        let (in_a, in_b) = (names(u.at(a))?, names(u.at(b))?);
        match sys::rename_with(u.at(a), u.at(b), RenameFlags::EXCHANGE) {
            Ok(()) => assert_eq!((names(u.at(a))?, names(u.at(b))?), (in_b, in_a), "{a}, {b}"),
            Err(e) => {
                assert_eq!(e.errno, Errno::XDEV, "{e}");
                assert_eq!((names(u.at(a))?, names(u.at(b))?), (in_a, in_b), "{a}, {b}");
            }
        }
    }
    Ok(())
}

fn directories_over_an_upper_one(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for (from, to) in [("mid", "empty1"), ("low", "empty2"), ("both", "empty3")] {
        sys::mkdir(u.at(to))?;
        let content = names(u.at(from))?;
        match sys::rename(u.at(from), u.at(to)) {
            Ok(()) => assert_eq!(names(u.at(to))?, content, "{from} over {to}"),
            Err(e) => {
                assert_eq!(e.errno, Errno::XDEV, "{e}");
                assert_eq!(names(u.at(from))?, content, "{from} is as before");
                assert_eq!(names(u.at(to))?, set([]));
            }
        }
    }
    Ok(())
}

/// A directory changes with its content, whichever branch that is on.
fn times_of_directories(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    let changed = |what: &str| -> Result<()> {
        let stat = sys::lstat(u.at("both"))?;
        assert!(sys::mtime(&stat) > MTIME, "{what} changes the directory");
        sys::utimens(u.at("both"), MTIME, MTIME)?;
        Ok(())
    };
    sys::rename(u.at("both/m"), u.at("both/n"))?;
    changed("rename")?;
    sys::unlink(u.at("both/n"))?;
    changed("unlink")?;
    sys::rename(u.at("mid/m"), u.at("both/m"))?;
    changed("rename into it")?;
    sys::rename(u.at("both/m"), u.at("mid/m"))?;
    changed("rename out of it")
}

fn links_between_them(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for (from, to) in [
        ("top/t", "mid/t2"),
        ("mid/m", "top/m2"),
        ("l", "mid/l2"),
        ("m", "low/m2"),
    ] {
        sys::link(u.at(from), u.at(to))?;
        sys::append(u.at(to), "+")?;
        sys::append(u.at(from), "-")?;
        assert!(text(u.at(from))?.ends_with("+-"), "{from}");
        assert_eq!(text(u.at(from))?, text(u.at(to))?);
        let (a, b) = (sys::lstat(u.at(from))?, sys::lstat(u.at(to))?);
        assert_eq!((a.st_ino, a.st_nlink), (b.st_ino, 2), "{from} and {to}");
    }
    Ok(())
}

fn read_only_between_them(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "ro", Tree::new().file("f", "ro").file("d/x", "ro"))
        .on(
            kind,
            "rw",
            Tree::new().file("f", "hidden").file("d/y", "rw"),
        )
        .mount()?;
    sys::append(u.at("f"), "+")?;
    assert_eq!(text(u.br(0, "f"))?, "ro+");
    assert_eq!(text(u.br(2, "f"))?, "hidden");
    sys::append(u.at("d/y"), "+")?;
    assert_eq!(text(u.br(2, "d/y"))?, "rw+");
    // The directory's times, shown of its top instance, change with any of its names.
    sys::unlink(u.at("d/y"))?;
    assert!(sys::mtime(&sys::lstat(u.at("d"))?) > MTIME);
    sys::unlink(u.at("f"))?;
    for _ in 0..2 {
        assert_eq!(names(u.root())?, set(["d"]));
        assert_eq!(names(u.at("d"))?, set(["x"]));
        u.again()?;
    }
    Ok(())
}

fn rename_below_a_read_only_directory(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "ro", Tree::new().dir("d").mtime(MTIME.0, MTIME.1))
        .on(kind, "rw", Tree::new().file("d/y", "rw"))
        .mount()?;
    sys::rename(u.at("d/y"), u.at("d/z"))?;
    assert!(sys::mtime(&sys::lstat(u.at("d"))?) > MTIME);
    assert_eq!(text(u.at("d/z"))?, "rw");
    assert_eq!(names(u.at("d"))?, set(["z"]));
    Ok(())
}

fn each_has_its_bases(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for branch in [0, 1] {
        for base in [".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"] {
            assert!(exists(u.br(branch, base)), "{base} on branch {branch}");
        }
    }
    assert!(!exists(u.br(2, ".wh..wh.aufs")));
    // A whiteout is a link of its own branch's base.
    sys::unlink(u.at("low/l"))?;
    let branch = usize::from(!exists(u.br(0, "low/.wh.l")));
    let mark = sys::lstat(u.br(branch, "low/.wh.l"))?;
    assert_eq!(
        mark.st_ino,
        sys::lstat(u.br(branch, ".wh..wh.aufs"))?.st_ino
    );
    Ok(())
}

fn the_upper_one_hides_what_the_lower_one_gets(cx: &Ctx) -> Result<()> {
    // The name is whiteouted on the top, its directory is on the lower one, too.
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new().whiteout("d/f").whiteout("g"))
        .on(
            kind,
            "rw",
            Tree::new()
                .file("d/f", "old")
                .file("g", "old")
                .file("src", "new"),
        )
        .mount()?;
    sys::write(u.at("d/f"), "new")?;
    sys::rename(u.at("src"), u.at("g"))?;
    for _ in 0..2 {
        assert_eq!(text(u.at("d/f"))?, "new");
        assert_eq!(text(u.at("g"))?, "new");
        assert_eq!(names(u.root())?, set(["d", "g"]));
        u.again()?;
    }
    Ok(())
}

/// What is made in an instance that is not the top one gets the group and the ACL that the
/// directory shows, whatever that instance had.
fn new_objects_inherit_what_is_shown(cx: &Ctx) -> Result<()> {
    const NONE: u32 = u32::MAX;
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let rights = acl(&[
        (1, 7, NONE),
        (2, 7, 1001),
        (4, 5, NONE),
        (0x10, 7, NONE),
        (0x20, 0, NONE),
    ]);
    let kind = cx.layout.upper();
    let other = || {
        let dirs = Tree::new()
            .dir("marked")
            .dir("plain")
            .mode(0o2775)
            .owner(0, 9);
        dirs.xattr(default, acl(&[(1, 7, NONE), (4, 7, NONE), (0x20, 7, NONE)]))
            .dir("plain/on1")
            .dir("marked/on1")
    };
    let u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("marked").dir("plain"))
        .on(kind, "rw", other())
        .opt("create=rr")
        .mount()?;
    sys::chown(u.at("marked"), None, Some(50))?;
    sys::chmod(u.at("marked"), 0o2775)?;
    sys::set_xattr(u.at("marked"), default, &rights)?;
    for (dir, gid) in [("marked", 50), ("plain", 0)] {
        for n in 0..4 {
            let at = |what: &str| format!("{dir}/{what}{n}");
            sys::write(u.at(&at("file")), "")?;
            sys::mkdir(u.at(&at("dir")))?;
            sys::mknod(u.at(&at("fifo")), FileType::Fifo, 0o600, 0)?;
            for what in ["file", "dir", "fifo"].map(at) {
                let stat = sys::lstat(u.at(&what))?;
                assert_eq!(stat.st_gid, gid, "{what}");
                let acl = sys::get_xattr(u.at(&what), access);
                assert_eq!(acl.is_ok(), dir == "marked", "{what}");
                if sys::kind(&stat) == FileType::Directory {
                    let marked = dir == "marked";
                    assert_eq!(sys::mode(&stat) & 0o2000 != 0, marked, "{what}");
                    let acl = sys::get_xattr(u.at(&what), default).ok();
                    assert_eq!(acl, marked.then(|| rights.clone()), "{what}");
                }
            }
        }
        let count = |branch| Ok::<_, anyhow::Error>(names(u.br(branch, dir))?.len());
        assert!(count(0)? >= 4 && count(1)? >= 5, "all are on one branch");
    }
    // An unnamed file, and the device that a rename leaves behind.
    for n in 0..2 {
        let file = sys::open_mode(u.at("marked"), OFlags::TMPFILE | OFlags::RDWR, 0o600)?;
        assert_eq!(sys::fstat(&file)?.st_gid, 50, "unnamed file {n}");
    }
    sys::rename_with(
        u.at("marked/on1"),
        u.at("marked/on2"),
        RenameFlags::WHITEOUT,
    )?;
    assert_eq!(sys::lstat(u.at("marked/on1"))?.st_gid, 50);
    sys::get_xattr(u.at("marked/on1"), access)?;
    Ok(())
}

/// The directory `d` is on the top branch and on the lowest one; on the writable one between them
/// that name is a symbolic link, where `w` is.
fn something_else_between(cx: &Ctx) -> Result<Union> {
    let kind = cx.layout.upper();
    let mid = Tree::new()
        .symlink("d", "w")
        .file("w/file", "file")
        .file("w/other", "other")
        .fifo("w/fifo")
        .file("w/linked", "linked")
        .file("w/dir/in", "in");
    let low = Tree::new()
        .file("d/a/victim", "victim")
        .file("d/a/swapped", "swapped")
        .dir("d/b/c")
        .file("w/low", "low");
    cx.union()
        .on(kind, "rw", Tree::new().dir("d"))
        .on(kind, "rw", mid)
        .on(kind, "ro", low)
        .mount()
}

fn names_in_a_directory_with_something_else_between(cx: &Ctx) -> Result<()> {
    let mut u = something_else_between(cx)?;
    sys::rename(u.at("w/fifo"), u.at("d/a/fifo"))?;
    sys::rename(u.at("w/low"), u.at("d/b/low"))?;
    sys::rename(u.at("w/file"), u.at("d/a/victim"))?;
    sys::rename_with(u.at("w/other"), u.at("d/a/swapped"), RenameFlags::EXCHANGE)?;
    sys::link(u.at("w/linked"), u.at("d/b/c/link"))?;
    sys::append(u.at("d/b/c/link"), "+")?;
    // Its contents are on the branch that it cannot stay on.
    errno(sys::rename(u.at("w/dir"), u.at("d/a/dir")), Errno::XDEV);
    for _ in 0..2 {
        assert_eq!(names(u.at("d/a"))?, set(["fifo", "swapped", "victim"]));
        assert_eq!(names(u.at("w"))?, set(["dir", "linked", "other"]));
        assert_eq!(text(u.at("d/b/low"))?, "low");
        assert_eq!(text(u.at("d/a/victim"))?, "file");
        assert_eq!(text(u.at("d/a/swapped"))?, "other");
        assert_eq!(text(u.at("w/other"))?, "swapped");
        assert_eq!(text(u.at("w/linked"))?, "linked+");
        assert_eq!(text(u.at("d/b/c/link"))?, "linked+");
        assert_eq!(sys::readlink(u.br(1, "d"))?, "w", "it is left alone");
        u.again()?;
    }
    Ok(())
}

fn names_of_one_file_with_something_else_between(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let low = Tree::new().file("w/one", "text").hardlink("d/two", "w/one");
    let u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("d"))
        .on(kind, "rw", Tree::new().symlink("d", "w").dir("w"))
        .on(kind, "ro", low)
        .mount()?;
    sys::append(u.at("w/one"), "+")?;
    assert!(exists(u.br(1, "w/one")));
    // The copy has no name there by which `d` leads to it.
    sys::append(u.at("d/two"), "+")?;
    sys::chmod(u.at("d/two"), 0o640)?;
    assert_eq!(text(u.at("w/one"))?, "text++");
    assert_eq!(text(u.at("d/two"))?, "text++");
    sys::rename(u.at("d/two"), u.at("d/three"))?;
    assert_eq!(names(u.at("d"))?, set(["three"]));
    assert_eq!(text(u.at("d/three"))?, "text++");
    sys::unlink(u.at("d/three"))?;
    assert_eq!(names(u.at("d"))?, set([]));
    assert_eq!(text(u.at("w/one"))?, "text++");
    Ok(())
}
