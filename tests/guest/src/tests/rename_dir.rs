// SPDX-License-Identifier: GPL-2.0

//! Renames of directories: on the top branch, below it, merged, over others.

use crate::harness::prelude::*;

cases! {
    WRITABLE: directories_of_the_top, lower_directory_with_content, empty_lower_directory;
    BASIC: merged_directory, over_directories, into_itself, directory_over_a_lower_name_is_opaque,
        dot_and_dotdot;
}

fn directories_of_the_top(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("d/f", "f").file("d/e/g", "g"))
        .ro(Tree::new().dir("low"))
        .mount()?;
    let ino = sys::lstat(u.at("d"))?.st_ino;
    for (from, to) in [("d", "x"), ("x", "low/y"), ("low/y", "d")] {
        sys::rename(u.at(from), u.at(to))?;
        errno(sys::lstat(u.at(from)), Errno::NOENT);
        assert_eq!(names(u.at(to))?, set(["f", "e"]));
        assert_eq!(text(u.at(to).join("e/g"))?, "g");
        assert_eq!(sys::lstat(u.at(to))?.st_ino, ino);
        let parent = sys::lstat(u.at(to).join(".."))?.st_ino;
        assert_eq!(
            parent,
            sys::lstat(u.at(to).parent().expect("has one"))?.st_ino
        );
    }
    u.again()?;
    assert_eq!(text(u.at("d/e/g"))?, "g");
    Ok(())
}

fn lower_directory_with_content(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("both"))
        .ro(Tree::new().file("low/f", "f").file("both/g", "g"))
        .mount()?;
    errno(sys::rename(u.at("low"), u.at("new")), Errno::XDEV);
    errno(sys::rename(u.at("both"), u.at("new")), Errno::XDEV);
    assert_eq!(names(u.root())?, set(["low", "both"]));
    assert_eq!(text(u.at("low/f"))?, "f");
    assert_eq!(text(u.at("both/g"))?, "g");
    errno(sys::lstat(u.at("new")), Errno::NOENT);
    let left = [".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", "both"];
    assert_eq!(names(u.br(0, ""))?, set(left), "a refusal leaves nothing");
    // What mv(1) does then works.
    crate::harness::scratch::run(
        "mv",
        &[
            &u.at("low").to_string_lossy(),
            &u.at("new").to_string_lossy(),
        ],
    )?;
    assert_eq!(text(u.at("new/f"))?, "f");
    errno(sys::lstat(u.at("low")), Errno::NOENT);
    Ok(())
}

fn empty_lower_directory(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("a")
        .mode(0o750)
        .owner(3, 4)
        .dir("d/b")
        .dir("c");
    let mut u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    sys::rename(u.at("a"), u.at("x"))?;
    sys::rename(u.at("d/b"), u.at("x/y"))?;
    sys::rename(u.at("x"), u.at("c"))?;
    let stat = sys::lstat(u.at("c"))?;
    assert_eq!((sys::mode(&stat), stat.st_uid, stat.st_gid), (0o750, 3, 4));
    assert_eq!(stat.st_ino, ino);
    assert_eq!(names(u.at("c"))?, set(["y"]));
    sys::write(u.at("c/y/f"), "works")?;
    u.again()?;
    assert_eq!(names(u.root())?, set(["c", "d"]));
    assert_eq!(text(u.at("c/y/f"))?, "works");
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    Ok(())
}

fn merged_directory(cx: &Ctx) -> Result<()> {
    // Lower parts whose content is whiteouted do not hinder, and do not come back.
    let mut u = cx
        .union()
        .rw(Tree::new().file("d/top", "t").whiteout("d/low"))
        .ro(Tree::new().file("d/low", "l"))
        .mount()?;
    sys::rename(u.at("d"), u.at("e"))?;
    for _ in 0..2 {
        errno(sys::lstat(u.at("d")), Errno::NOENT);
        assert_eq!(names(u.at("e"))?, set(["top"]));
        errno(sys::lstat(u.at("e/low")), Errno::NOENT);
        u.again()?;
    }
    sys::mkdir(u.at("d"))?;
    assert_eq!(names(u.at("d"))?, set([]), "the old name starts empty");
    Ok(())
}

fn over_directories(cx: &Ctx) -> Result<()> {
    let up = Tree::new()
        .file("s1/x", "1")
        .file("s2/x", "2")
        .file("s3/x", "3")
        .file("s4/x", "4")
        .file("s5/x", "5")
        .dir("top-empty")
        .whiteout("whiteouts/gone")
        .file("full/y", "")
        .dir("merged-full");
    let low = Tree::new()
        .dir("low-empty")
        .file("whiteouts/gone", "")
        .file("merged-full/z", "")
        .dir("s6");
    let mut u = cx.union().rw(up).ro(low).mount()?;
    errno(sys::rename(u.at("s1"), u.at("full")), Errno::NOTEMPTY);
    errno(
        sys::rename(u.at("s1"), u.at("merged-full")),
        Errno::NOTEMPTY,
    );
    sys::rename(u.at("s1"), u.at("top-empty"))?;
    sys::rename(u.at("s2"), u.at("low-empty"))?;
    sys::rename(u.at("s3"), u.at("whiteouts"))?;
    sys::rename(u.at("s4"), u.at("s6"))?;
    for _ in 0..2 {
        for (name, data) in [
            ("top-empty", "1"),
            ("low-empty", "2"),
            ("whiteouts", "3"),
            ("s6", "4"),
            ("s5", "5"),
        ] {
            assert_eq!(names(u.at(name))?, set(["x"]), "{name}");
            assert_eq!(text(u.at(name).join("x"))?, data);
        }
        errno(sys::lstat(u.at("whiteouts/gone")), Errno::NOENT);
        assert_eq!(names(u.root())?.len(), 7);
        u.again()?;
    }
    Ok(())
}

fn into_itself(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("t/sub"))
        .ro(Tree::new().dir("l/sub"))
        .mount()?;
    for name in ["t", "l"] {
        let sub = format!("{name}/sub");
        errno(sys::rename(u.at(name), u.at(&sub)), Errno::INVAL);
        errno(
            sys::rename(u.at(name), u.at(&format!("{sub}/x"))),
            Errno::INVAL,
        );
        errno(sys::rename(u.at(&sub), u.at(name)), Errno::NOTEMPTY);
        sys::rename(u.at(name), u.at(name))?;
        assert_eq!(names(u.at(name))?, set(["sub"]));
    }
    Ok(())
}

fn directory_over_a_lower_name_is_opaque(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("new/mine", "").whiteout("old/a"))
        .ro(Tree::new().file("old/a", "").dir("plain"))
        .ro(Tree::new().file("old/a", ""))
        .mount()?;
    sys::rename(u.at("new"), u.at("old"))?;
    assert!(exists(u.br(0, "old/.wh..wh..opq")));
    for _ in 0..2 {
        assert_eq!(names(u.at("old"))?, set(["mine"]));
        errno(sys::lstat(u.at("old/a")), Errno::NOENT);
        u.again()?;
    }
    sys::rename(u.at("old"), u.at("elsewhere"))?;
    assert_eq!(names(u.root())?, set(["elsewhere", "plain"]));
    Ok(())
}

fn dot_and_dotdot(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d/e"))
        .mount()?;
    errno(sys::rename(u.at("d/."), u.at("x")), Errno::BUSY);
    errno(sys::rename(u.at("d/e"), u.at("d/..")), Errno::BUSY);
    errno(sys::rename(u.root(), u.at("d/x")), Errno::XDEV);
    Ok(())
}
