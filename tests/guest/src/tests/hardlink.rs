// SPDX-License-Identifier: GPL-2.0

//! Several names of one file: on one branch, across branches, through copy-up and removal.

use crate::harness::prelude::*;

cases! {
    WRITABLE: hard_links, hard_link_of_a_lower_file, hard_links_survive;
    BASIC: hard_link_errors, hard_links_in_several_directories, hard_links_all_removed,
        same_file_twice, hard_linked_lower_file, one_of_several_links, one_of_several_lower_links;
}

fn hard_links(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("a", "a"))
        .ro(Tree::new().dir("d"))
        .mount()?;
    sys::link(u.at("a"), u.at("b"))?;
    sys::link(u.at("a"), u.at("d/c"))?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    for name in ["a", "b", "d/c"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!((stat.st_ino, stat.st_nlink), (ino, 3), "{name}");
    }
    sys::append(u.at("d/c"), "+")?;
    assert_eq!(text(u.at("b"))?, "a+");
    sys::unlink(u.at("a"))?;
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 2);
    sys::drop_caches();
    let (b, c) = (sys::lstat(u.at("b"))?, sys::lstat(u.at("d/c"))?);
    assert_eq!((b.st_ino, b.st_nlink), (c.st_ino, 2));
    Ok(())
}

fn hard_link_of_a_lower_file(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/f", "low").file("d/e/x", ""))
        .mount()?;
    let ino = sys::lstat(u.at("d/f"))?.st_ino;
    sys::link(u.at("d/f"), u.at("d/e/g"))?;
    let check = |when: &str| -> Result<()> {
        for name in ["d/f", "d/e/g"] {
            let stat = sys::lstat(u.at(name))?;
            assert_eq!((stat.st_ino, stat.st_nlink), (ino, 2), "{name} {when}");
        }
        Ok(())
    };
    check("at once")?;
    sys::append(u.at("d/e/g"), " new")?;
    assert_eq!(text(u.at("d/f"))?, "low new");
    sys::append(u.at("d/f"), " too")?;
    assert_eq!(text(u.at("d/e/g"))?, "low new too");
    check("after writes")?;
    sys::drop_caches();
    check("after eviction")?;
    assert_eq!(text(u.at("d/f"))?, "low new too");
    sys::unlink(u.at("d/f"))?;
    assert_eq!(sys::lstat(u.at("d/e/g"))?.st_nlink, 1);
    assert_eq!(text(u.at("d/e/g"))?, "low new too");
    errno(sys::lstat(u.at("d/f")), Errno::NOENT);
    Ok(())
}

fn hard_link_errors(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("top", ""))
        .ro(Tree::new().file("low", "").dir("d"))
        .mount()?;
    errno(sys::link(u.at("top"), u.at("low")), Errno::EXIST);
    errno(sys::link(u.at("low"), u.at("top")), Errno::EXIST);
    errno(sys::link(u.at("d"), u.at("e")), Errno::PERM);
    errno(sys::link(u.at("absent"), u.at("e")), Errno::NOENT);
    errno(sys::link(u.at("low"), u.at("no/e")), Errno::NOENT);
    errno(sys::link(u.br(1, "low"), u.at("e")), Errno::XDEV);
    errno(sys::link(u.at("low"), u.br(0, "e")), Errno::XDEV);
    assert!(!exists(u.br(0, "low")), "a refused link copies nothing");
    Ok(())
}

fn hard_links_survive(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a", "low")
        .mode(0o666)
        .hardlink("b", "a")
        .file("other", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    let reader = sys::open_ro(u.at("b"))?;
    sys::append(u.at("a"), "+a")?;
    let check = |data: &str, when: &str| -> Result<()> {
        for name in ["a", "b"] {
            assert_eq!(text(u.at(name))?, data, "{name} {when}");
            let stat = sys::lstat(u.at(name))?;
            assert_eq!((stat.st_ino, stat.st_nlink), (ino, 2), "{name} {when}");
        }
        Ok(())
    };
    check("low+a", "after a write through a")?;
    sys::append(u.at("b"), "+b")?;
    check("low+a+b", "after a write through b")?;
    assert_eq!(
        sys::pread_fd(&reader)?,
        b"low+a+b",
        "through a descriptor from before"
    );
    drop(reader);
    sys::drop_caches();
    check("low+a+b", "after eviction")?;
    sys::chmod(u.at("b"), 0o600)?;
    assert_eq!(sys::mode(&sys::lstat(u.at("a"))?), 0o600);
    assert_eq!(names(u.root())?, set(["a", "b", "other"]));
    Ok(())
}

fn hard_links_in_several_directories(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a/1", "x")
        .hardlink("b/2", "a/1")
        .hardlink("c/d/3", "a/1")
        .hardlink("a/4", "a/1");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let all = ["a/1", "b/2", "c/d/3", "a/4"];
    for (i, name) in all.iter().enumerate() {
        sys::append(u.at(name), i.to_string())?;
        sys::drop_caches();
    }
    let ino = sys::lstat(u.at("a/1"))?.st_ino;
    for name in all {
        assert_eq!(text(u.at(name))?, "x0123", "{name}");
        let stat = sys::lstat(u.at(name))?;
        assert_eq!((stat.st_ino, stat.st_nlink), (ino, 4), "{name}");
    }
    sys::link(u.at("b/2"), u.at("c/5"))?;
    sys::append(u.at("c/5"), "!")?;
    assert_eq!(text(u.at("a/4"))?, "x0123!");
    assert_eq!(sys::lstat(u.at("a/1"))?.st_nlink, 5);
    Ok(())
}

fn hard_links_all_removed(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a", "x")
        .hardlink("b", "a")
        .hardlink("c", "a");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("a"), "+")?;
    let fd = sys::open_ro(u.at("c"))?;
    for (left, name) in [(2, "a"), (1, "b"), (0, "c")] {
        sys::unlink(u.at(name))?;
        assert_eq!(sys::fstat(&fd)?.st_nlink, left, "after removing {name}");
        assert_eq!(sys::pread_fd(&fd)?, b"x+");
    }
    assert_eq!(names(u.root())?, set([]));
    Ok(())
}

fn same_file_twice(cx: &Ctx) -> Result<()> {
    // rename(2) of one link over another of the same file does nothing.
    let u = cx
        .union()
        .rw(Tree::new().file("a", "x").hardlink("b", "a"))
        .ro(Tree::new().file("c", "y").hardlink("d", "c"))
        .mount()?;
    sys::rename(u.at("a"), u.at("b"))?;
    sys::rename(u.at("c"), u.at("d"))?;
    sys::rename(u.at("a"), u.at("a"))?;
    assert_eq!(names(u.root())?, set(["a", "b", "c", "d"]));
    assert_eq!(sys::lstat(u.at("a"))?.st_nlink, 2);
    assert_eq!(sys::lstat(u.at("c"))?.st_nlink, 2);
    Ok(())
}

fn hard_linked_lower_file(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("a", "x").hardlink("b", "a").dir("d");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    sys::rename(u.at("a"), u.at("d/c"))?;
    for name in ["b", "d/c"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!((stat.st_ino, stat.st_nlink), (ino, 2), "{name}");
    }
    sys::append(u.at("b"), "+")?;
    assert_eq!(text(u.at("d/c"))?, "x+");
    sys::rename(u.at("b"), u.at("d/e"))?;
    sys::append(u.at("d/c"), "-")?;
    assert_eq!(text(u.at("d/e"))?, "x+-");
    Ok(())
}

fn one_of_several_links(cx: &Ctx) -> Result<()> {
    let up = Tree::new()
        .file("a", "data")
        .hardlink("b", "a")
        .hardlink("d/c", "a");
    let u = cx
        .union()
        .rw(up)
        .ro(Tree::new().file("a", "hidden"))
        .mount()?;
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 3);
    sys::unlink(u.at("a"))?;
    for name in ["b", "d/c"] {
        assert_eq!(text(u.at(name))?, "data");
        assert_eq!(sys::lstat(u.at(name))?.st_nlink, 2);
    }
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    sys::unlink(u.at("d/c"))?;
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 1);
    Ok(())
}

fn one_of_several_lower_links(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a", "data")
        .hardlink("b", "a")
        .hardlink("d/c", "a");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 3);
    sys::unlink(u.at("a"))?;
    for name in ["b", "d/c"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!((stat.st_ino, stat.st_nlink), (ino, 2), "{name}");
        assert_eq!(text(u.at(name))?, "data");
    }
    sys::drop_caches();
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 2, "after eviction");
    sys::append(u.at("b"), "+")?;
    assert_eq!(text(u.at("d/c"))?, "data+");
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    Ok(())
}
