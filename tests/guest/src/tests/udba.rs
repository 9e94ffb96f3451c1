// SPDX-License-Identifier: GPL-2.0

//! Users who change a branch directly, behind the union's back (`udba=reval`, the default).

use crate::harness::{dir::open_dir, prelude::*, sys::RenameFlags, union::reconfigure};

cases! {
    BASIC: new_files_are_found, removed_files_are_missed, changed_content_and_attributes,
        replaced_files, another_look_by_remount, copies_that_are_taken_away, copies_that_are_renamed, moved_to_the_branch_below,
        whiteouts_count_once_the_name_is_forgotten, renamed_to_and_fro;
}

/// A union of a writable and a read-only branch, after everything was looked at, and again: only
/// then all is known that makes a walk fast.
fn known(cx: &Ctx) -> Result<Union> {
    let u = cx
        .union()
        .opt("udba=reval")
        .rw(Tree::new().file("top", "top").dir("d"))
        .ro(Tree::new()
            .file("low", "low")
            .file("d/x", "x")
            .file("e/y", "y"))
        .mount()?;
    for _ in 0..3 {
        for name in ["top", "low", "d/x", "e/y"] {
            text(u.at(name))?;
        }
        for name in ["new", "d/new", "e/new"] {
            errno(sys::lstat(u.at(name)), Errno::NOENT);
        }
    }
    Ok(u)
}

fn new_files_are_found(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::write(u.br(0, "new"), "0")?;
    sys::write(u.br(0, "d/new"), "0")?;
    assert_eq!(text(u.at("new"))?, "0");
    assert_eq!(text(u.at("d/new"))?, "0");
    // A file on the upper branch hides the lower one that was seen before.
    sys::write(u.br(0, "low"), "now above")?;
    assert_eq!(text(u.at("low"))?, "now above");
    Ok(())
}

fn removed_files_are_missed(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::unlink(u.br(0, "top"))?;
    errno(sys::lstat(u.at("top")), Errno::NOENT);
    sys::unlink(u.br(1, "low"))?;
    cx.changed_by_hand(&u.br(1, ""))?;
    errno(sys::lstat(u.at("low")), Errno::NOENT);
    sys::write(u.at("top"), "again")?;
    sys::write(u.at("low"), "again")?;
    assert_eq!(text(u.br(0, "low"))?, "again");
    Ok(())
}

fn changed_content_and_attributes(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::write(u.br(0, "top"), "longer than before")?;
    sys::chmod(u.br(0, "top"), 0o600)?;
    assert_eq!(text(u.at("top"))?, "longer than before");
    let stat = sys::lstat(u.at("top"))?;
    assert_eq!((stat.st_size, sys::mode(&stat)), (18, 0o600));
    users::as_user(1001, 1001, || {
        errno(sys::open_ro(u.at("top")), Errno::ACCESS)
    });
    sys::append(u.br(1, "low"), "+")?;
    cx.changed_by_hand(&u.br(1, ""))?;
    assert_eq!(sys::lstat(u.at("low"))?.st_size, 4);
    sys::append(u.at("low"), "!")?;
    assert_eq!(
        text(u.at("low"))?,
        "low+!",
        "what is copied up is what is there now"
    );
    Ok(())
}

fn replaced_files(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::write(u.br(0, "tmp"), "replaced")?;
    sys::rename(u.br(0, "tmp"), u.br(0, "top"))?;
    assert_eq!(text(u.at("top"))?, "replaced");
    sys::unlink(u.br(0, "top"))?;
    sys::mkdir(u.br(0, "top"))?;
    assert_eq!(names(u.at("top"))?, set([]));
    Ok(())
}

/// Names, also those of directories on the way, that lead elsewhere, to nothing, and back.
fn renamed_to_and_fro(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    let own = |name: &str| u.br(0, name);
    sys::write(own("other"), "other")?;
    sys::mkdir(own("s"))?;
    sys::write(own("s/f"), "f")?;
    let swap = || sys::rename_with(own("top"), own("other"), RenameFlags::EXCHANGE);
    let gone = |name: &str| errno(sys::lstat(u.at(name)), Errno::NOENT);
    let look = |name: &str, content: &str| -> Result<()> {
        for _ in 0..3 {
            assert_eq!(text(u.at(name))?, content, "{name}");
        }
        Ok(())
    };
    for _ in 0..3 {
        swap()?;
        look("top", "other")?;
        look("other", "top")?;
        swap()?;
        look("top", "top")?;

        look("s/f", "f")?;
        sys::rename(own("s"), own("away"))?;
        gone("s/f");
        look("away/f", "f")?;
        sys::rename(own("away"), own("s"))?;
        look("s/f", "f")?;
        gone("away/f");

        sys::rename(own("s/f"), own("d/f"))?;
        gone("s/f");
        look("d/f", "f")?;
        sys::rename(own("d/f"), own("s/f"))?;
        look("s/f", "f")?;
        gone("d/f");
    }
    Ok(())
}

/// A union in which `low`, `d/x` and `e/y` were copied up just now.
fn copied(cx: &Ctx) -> Result<Union> {
    let u = known(cx)?;
    for name in ["low", "d/x", "e/y"] {
        sys::append(u.at(name), "+")?;
    }
    assert_eq!(names(u.at("e"))?, set(["y"]));
    Ok(u)
}

/// What lies below is seen again, although the union knows it by its copy.
fn copies_that_are_taken_away(cx: &Ctx) -> Result<()> {
    let u = copied(cx)?;
    let (file, dir) = (sys::open_ro(u.at("low"))?, open_dir(u.at("e"))?);
    sys::unlink(u.br(0, "low"))?;
    std::fs::remove_dir_all(u.br(0, "e"))?;
    assert_eq!(text(u.at("low"))?, "low");
    assert_eq!(
        sys::pread_fd(&file)?,
        b"low+",
        "an open file stays what it was"
    );
    assert_ne!(sys::fstat(&file)?.st_ino, sys::lstat(u.at("low"))?.st_ino);
    assert_eq!(names(u.at("e"))?, set(["y"]));
    assert_eq!(text(u.at("e/y"))?, "y");
    drop((file, dir));
    sys::append(u.at("low"), "!")?;
    sys::append(u.at("e/y"), "!")?;
    assert_eq!(
        (text(u.br(0, "low"))?, text(u.br(0, "e/y"))?),
        ("low!".into(), "y!".into())
    );
    Ok(())
}

/// The copy goes on under its new name, and what it hid is another object.
fn copies_that_are_renamed(cx: &Ctx) -> Result<()> {
    let u = copied(cx)?;
    sys::rename(u.br(0, "low"), u.br(0, "copy"))?;
    sys::rename(u.br(0, "e"), u.br(0, "edir"))?;
    for _ in 0..2 {
        assert_eq!(
            (text(u.at("low"))?, text(u.at("copy"))?),
            ("low".into(), "low+".into())
        );
        assert_ne!(
            sys::lstat(u.at("low"))?.st_ino,
            sys::lstat(u.at("copy"))?.st_ino
        );
        assert_eq!(
            (text(u.at("e/y"))?, text(u.at("edir/y"))?),
            ("y".into(), "y+".into())
        );
        assert_ne!(
            sys::lstat(u.at("e"))?.st_ino,
            sys::lstat(u.at("edir"))?.st_ino
        );
    }
    sys::append(u.at("low"), "!")?;
    assert_eq!(
        (text(u.at("low"))?, text(u.at("copy"))?),
        ("low!".into(), "low+".into())
    );
    Ok(())
}

/// A remount with `udba=` asks the branches for all that is known.
fn another_look_by_remount(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a", "a")
        .file("d/b", "b")
        .file("e/y", "y")
        .file("r", "r");
    let u = cx
        .union()
        .opt("udba=none")
        .rw(Tree::new())
        .ro(low)
        .mount()?;
    for name in ["a", "d/b", "e/y", "r"] {
        sys::append(u.at(name), "+")?;
    }
    let held = sys::open_ro(u.at("d/b"))?;
    // Two names of one file, so that the count does not tell.
    for branch in [1, 0] {
        sys::link(u.br(branch, "r"), u.br(branch, "s"))?;
    }
    assert_eq!(text(u.at("s"))?, "r+");
    sys::unlink(u.br(0, "a"))?;
    sys::unlink(u.br(1, "d/b"))?;
    for name in ["r", "s"] {
        sys::unlink(u.br(1, name))?;
    }
    for name in ["d/b", "r", "s"] {
        sys::link(u.br(0, name), u.br(1, name))?;
    }
    for name in ["d/b", "r", "s"] {
        sys::unlink(u.br(0, name))?;
    }
    std::fs::remove_dir_all(u.br(0, "e"))?;
    cx.changed_by_hand(&u.br(1, ""))?;
    reconfigure(u.root(), &["udba=none"])?;
    for (name, content) in [
        ("a", "a"),
        ("d/b", "b+"),
        ("e/y", "y"),
        ("r", "r+"),
        ("s", "r+!"),
    ] {
        assert_eq!(text(u.at(name))?, content);
        let low = text(u.br(1, name))?;
        sys::append(u.at(name), "!")?;
        assert_eq!(text(u.br(1, name))?, low, "{name} is not written below");
        assert!(exists(u.br(0, name)), "{name}");
    }
    assert_eq!(text(u.at("d/b"))?, "b+!");
    assert_eq!(sys::pread_fd(&held)?, b"b+!");
    Ok(())
}

/// As tools do it that merge a branch into the one below.
fn moved_to_the_branch_below(cx: &Ctx) -> Result<()> {
    let u = copied(cx)?;
    let held = sys::open_ro(u.at("d/x"))?;
    for name in ["low", "d/x", "e"] {
        if name == "e" {
            std::fs::remove_dir_all(u.br(1, name))?;
        }
        sys::rename(u.br(0, name), u.br(1, name))?;
    }
    cx.changed_by_hand(&u.br(1, ""))?;
    for (name, content) in [("low", "low+"), ("d/x", "x+"), ("e/y", "y+")] {
        assert_eq!(text(u.at(name))?, content);
        // The branch below is not written.
        sys::append(u.at(name), "!")?;
        assert_eq!(text(u.at(name))?, format!("{content}!"));
        assert_eq!(text(u.br(0, name))?, format!("{content}!"));
        assert_eq!(text(u.br(1, name))?, content);
    }
    assert_eq!(sys::pread_fd(&held)?, b"x+!", "an open file follows");
    Ok(())
}

fn whiteouts_count_once_the_name_is_forgotten(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::write(u.br(0, ".wh.low"), "")?;
    sys::drop_caches();
    errno(sys::lstat(u.at("low")), Errno::NOENT);
    sys::unlink(u.br(0, ".wh.low"))?;
    sys::drop_caches();
    assert_eq!(text(u.at("low"))?, "low");
    Ok(())
}
