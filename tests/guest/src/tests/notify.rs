// SPDX-License-Identifier: GPL-2.0

//! `udba=notify`: whatever is changed in a branch directly shows in the union at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
    union::{mounts_line, reconfigure},
};

cases! {
    BASIC: names_appear_on_any_branch, names_go_from_any_branch, whiteouts_by_hand,
        opaque_marks_by_hand, directories_merge_and_part, renames_by_hand, types_change,
        directories_in_use_follow, own_changes, copied_up_directories_are_watched,
        added_branches_are_watched, begins_and_ends_with_a_remount,
        begins_with_what_is_known, really_read_only_is_not_watched,
        direct_and_union_changes_together;
    ONCE: nothing_is_left;
}

/// Everything was looked at once, present or absent.
fn known(cx: &Ctx) -> Result<Union> {
    let u = cx
        .union()
        .opt("udba=notify")
        .rw(Tree::new().file("top", "top").dir("d"))
        .ro_wh(
            Tree::new()
                .file("low", "low")
                .file("d/x", "x")
                .file("e/y", "y"),
        )
        .ro(Tree::new().file("d/z", "z").file("bottom", "bottom"))
        .mount()?;
    assert!(mounts_line(u.root())?[3].contains("udba=notify"));
    look(&u)?;
    Ok(u)
}

fn look(u: &Union) -> Result<()> {
    for name in ["top", "low", "d/x", "d/z", "e/y", "bottom"] {
        let _ = sys::lstat(u.at(name));
    }
    for name in ["new", "d/new", "e/new", "d/sub/deep"] {
        let _ = sys::lstat(u.at(name));
    }
    for dir in ["", "d", "e"] {
        let _ = dir::list(u.at(dir));
    }
    Ok(())
}

fn names_appear_on_any_branch(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    for (branch, name) in [(1, "new"), (2, "d/new"), (1, "e/new")] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
        sys::write(u.br(branch, name), "direct")?;
        assert_eq!(text(u.at(name))?, "direct");
    }
    assert_eq!(names(u.at("d"))?, set(["x", "z", "new"]));
    sys::write(u.br(1, "d/new"), "above")?;
    assert_eq!(text(u.at("d/new"))?, "above");
    sys::write(u.br(0, "d/new"), "on top")?;
    assert_eq!(text(u.at("d/new"))?, "on top");
    for n in [1, 2] {
        cx.changed_by_hand(&u.br(n, ""))?;
    }
    u.umount()
}

fn names_go_from_any_branch(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::write(u.br(2, "low"), "below")?;
    assert_eq!(text(u.at("low"))?, "low");
    sys::unlink(u.br(1, "low"))?;
    assert_eq!(text(u.at("low"))?, "below");
    sys::unlink(u.br(2, "low"))?;
    errno(sys::lstat(u.at("low")), Errno::NOENT);
    sys::unlink(u.br(2, "bottom"))?;
    errno(sys::lstat(u.at("bottom")), Errno::NOENT);
    assert_eq!(names(u.root())?, set(["top", "d", "e"]));
    for n in [1, 2] {
        cx.changed_by_hand(&u.br(n, ""))?;
    }
    u.umount()
}

fn whiteouts_by_hand(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    for (branch, name, whiteout) in [
        (0, "low", ".wh.low"),
        (1, "bottom", ".wh.bottom"),
        (0, "d/x", "d/.wh.x"),
        (1, "d/z", "d/.wh.z"),
        (0, "e", ".wh.e"),
    ] {
        let before = names(u.at(name.rsplit_once('/').map_or("", |p| p.0)))?;
        sys::lstat(u.at(name))?;
        sys::create(u.br(branch, whiteout))?;
        errno(sys::lstat(u.at(name)), Errno::NOENT);
        sys::unlink(u.br(branch, whiteout))?;
        sys::lstat(u.at(name)).with_context(|| format!("{whiteout} was removed"))?;
        assert_eq!(
            names(u.at(name.rsplit_once('/').map_or("", |p| p.0)))?,
            before
        );
    }
    // One that the union made.
    sys::unlink(u.at("low"))?;
    errno(sys::lstat(u.at("low")), Errno::NOENT);
    sys::unlink(u.br(0, ".wh.low"))?;
    assert_eq!(text(u.at("low"))?, "low");
    cx.changed_by_hand(&u.br(1, ""))?;
    u.umount()
}

fn opaque_marks_by_hand(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    assert_eq!(names(u.at("d"))?, set(["x", "z"]));
    sys::create(u.br(0, "d/.wh..wh..opq"))?;
    errno(sys::lstat(u.at("d/x")), Errno::NOENT);
    errno(sys::lstat(u.at("d/z")), Errno::NOENT);
    assert_eq!(names(u.at("d"))?, set([]));
    sys::unlink(u.br(0, "d/.wh..wh..opq"))?;
    assert_eq!(text(u.at("d/x"))?, "x");
    assert_eq!(names(u.at("d"))?, set(["x", "z"]));
    sys::create(u.br(1, "d/.wh..wh..opq"))?;
    assert_eq!(text(u.at("d/x"))?, "x");
    errno(sys::lstat(u.at("d/z")), Errno::NOENT);
    sys::unlink(u.br(1, "d/.wh..wh..opq"))?;
    assert_eq!(text(u.at("d/z"))?, "z");
    cx.changed_by_hand(&u.br(1, ""))?;
    u.umount()
}

fn directories_merge_and_part(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    assert_eq!(names(u.at("e"))?, set(["y"]));
    sys::mkdir(u.br(2, "e"))?;
    sys::write(u.br(2, "e/low"), "low")?;
    assert_eq!(text(u.at("e/low"))?, "low");
    assert_eq!(names(u.at("e"))?, set(["y", "low"]));
    sys::mkdir(u.br(0, "e"))?;
    sys::write(u.br(0, "e/high"), "high")?;
    assert_eq!(names(u.at("e"))?, set(["y", "low", "high"]));
    sys::unlink(u.br(0, "e/high"))?;
    sys::rmdir(u.br(0, "e"))?;
    sys::unlink(u.br(2, "e/low"))?;
    sys::rmdir(u.br(2, "e"))?;
    assert_eq!(names(u.at("e"))?, set(["y"]));
    sys::write(u.at("e/new"), "new")?;
    assert_eq!(names(u.at("e"))?, set(["y", "new"]));
    cx.changed_by_hand(&u.br(2, ""))?;
    u.umount()
}

fn renames_by_hand(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::rename(u.br(0, "top"), u.br(0, "moved"))?;
    errno(sys::lstat(u.at("top")), Errno::NOENT);
    assert_eq!(text(u.at("moved"))?, "top");
    sys::rename(u.br(1, "e"), u.br(1, "f"))?;
    errno(sys::lstat(u.at("e/y")), Errno::NOENT);
    assert_eq!(text(u.at("f/y"))?, "y");
    sys::rename(u.br(1, "d/x"), u.br(1, "x"))?;
    errno(sys::lstat(u.at("d/x")), Errno::NOENT);
    assert_eq!(text(u.at("x"))?, "x");
    cx.changed_by_hand(&u.br(1, ""))?;
    u.umount()
}

fn types_change(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::unlink(u.br(1, "low"))?;
    sys::mkdir(u.br(1, "low"))?;
    sys::write(u.br(1, "low/in"), "in")?;
    assert_eq!(text(u.at("low/in"))?, "in");
    sys::unlink(u.br(1, "low/in"))?;
    sys::rmdir(u.br(1, "low"))?;
    sys::symlink("top", u.br(1, "low"))?;
    assert_eq!(text(u.at("low"))?, "top");
    cx.changed_by_hand(&u.br(1, ""))?;
    u.umount()
}

fn directories_in_use_follow(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    let inside = dir::open_dir(u.at("d"))?;
    let open = |name: &str| rustix::fs::openat(&inside, name, OFlags::RDONLY, Mode::empty());
    assert_eq!(open("late").unwrap_err(), Errno::NOENT);
    sys::write(u.br(2, "d/late"), "late")?;
    assert_eq!(sys::read_fd(open("late")?)?, b"late");
    cx.changed_by_hand(&u.br(2, ""))?;
    drop(inside);
    u.umount()
}

fn own_changes(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    for n in 0..50 {
        let (a, b) = (u.at(&format!("d/a{n}")), u.at(&format!("e/b{n}")));
        sys::write(&a, "a")?;
        sys::rename(&a, &b)?;
        assert_eq!(text(&b)?, "a");
        errno(sys::lstat(&a), Errno::NOENT);
        if n % 2 == 0 {
            sys::unlink(&b)?;
        }
    }
    sys::mkdir(u.at("d/m"))?;
    sys::rename(u.at("d/m"), u.at("m"))?;
    sys::write(u.at("m/f"), "f")?;
    sys::unlink(u.at("d/x"))?;
    sys::mkdir(u.at("d/x"))?;
    assert_eq!(names(u.at("d"))?, set(["x", "z"]));
    assert_eq!(names(u.at("e"))?.len(), 26);
    u.umount()
}

fn copied_up_directories_are_watched(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    sys::write(u.at("e/made"), "made")?;
    errno(sys::lstat(u.at("e/direct")), Errno::NOENT);
    sys::write(u.br(0, "e/direct"), "direct")?;
    assert_eq!(text(u.at("e/direct"))?, "direct");
    sys::create(u.br(0, "e/.wh.y"))?;
    errno(sys::lstat(u.at("e/y")), Errno::NOENT);
    u.umount()
}

fn added_branches_are_watched(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = known(cx)?;
    let b = cx.branch(kind, "rw", &Tree::new().file("d/b", "b"))?;
    let append = format!("append:{}=ro", b.display());
    let inside = dir::open_dir(u.at("d"))?;
    reconfigure(u.root(), &[&append])?;
    look(&u)?;
    errno(sys::lstat(u.at("d/direct")), Errno::NOENT);
    sys::write(b.join("d/direct"), "direct")?;
    assert_eq!(text(u.at("d/direct"))?, "direct");
    drop(inside);
    reconfigure(u.root(), &[&format!("del:{}", b.display())])?;
    errno(sys::lstat(u.at("d/direct")), Errno::NOENT);
    u.umount()
}

fn begins_and_ends_with_a_remount(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d"))
        .mount()?;
    let inside = dir::open_dir(u.at("d"))?;
    for udba in ["fsnotify", "none", "notify", "reval", "notify"] {
        reconfigure(u.root(), &[&format!("udba={udba}")])?;
        errno(sys::lstat(u.at("d/n")), Errno::NOENT);
        if udba.ends_with("notify") {
            sys::write(u.br(1, "d/n"), "n")?;
            assert_eq!(text(u.at("d/n"))?, "n", "{udba}");
            sys::unlink(u.br(1, "d/n"))?;
            errno(sys::lstat(u.at("d/n")), Errno::NOENT);
        }
    }
    cx.changed_by_hand(&u.br(1, ""))?;
    drop(inside);
    u.umount()
}

/// What was known before is not believed longer for that.
fn begins_with_what_is_known(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d"))
        .ro(Tree::new().file("d/f", "low"))
        .mount()?;
    for _ in 0..2 {
        for _ in 0..3 {
            assert_eq!(text(u.at("d/f"))?, "low");
        }
        reconfigure(u.root(), &["udba=notify"])?;
        sys::write(u.br(1, "d/f"), "middle")?;
        assert_eq!(text(u.at("d/f"))?, "middle");
        sys::unlink(u.br(1, "d/f"))?;
        assert_eq!(text(u.at("d/f"))?, "low");
        reconfigure(u.root(), &["udba=reval"])?;
    }
    cx.changed_by_hand(&u.br(1, ""))?;
    u.umount()
}

fn really_read_only_is_not_watched(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .opt("udba=notify")
        .rw(Tree::new())
        .on(kind, "rr", Tree::new().dir("d"))
        .mount()?;
    errno(sys::lstat(u.at("d/n")), Errno::NOENT);
    sys::write(u.br(1, "d/n"), "n")?;
    errno(sys::lstat(u.at("d/n")), Errno::NOENT);
    sys::drop_caches();
    assert_eq!(text(u.at("d/n"))?, "n");
    cx.changed_by_hand(&u.br(1, ""))?;
    u.umount()
}

/// One round of a user of the union, beside one of the branches.
fn union_changes(u: &Union, n: u32) -> Result<()> {
    let own = u.at(&format!("d/own{}", n % 7));
    sys::write(&own, n.to_string())?;
    assert_eq!(text(&own)?, n.to_string());
    for branch in [0, 1, 2] {
        let _ = sys::read(u.at(&format!("d/direct{branch}")));
    }
    let _ = sys::lstat(u.at("bottom"));
    dir::list(u.at("d"))?;
    dir::list(u.at("e"))?;
    Ok(sys::unlink(&own)?)
}

fn direct_and_union_changes_together(cx: &Ctx) -> Result<()> {
    let u = known(cx)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let direct = scope.spawn(|| -> Result<()> {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                for branch in [0, 1, 2] {
                    sys::write(u.br(branch, &format!("d/direct{branch}")), n.to_string())?;
                }
                sys::mkdir(u.br(2, "e"))?;
                sys::create(u.br(1, ".wh.bottom"))?;
                sys::rmdir(u.br(2, "e"))?;
                sys::unlink(u.br(1, ".wh.bottom"))?;
                for branch in [0, 1, 2] {
                    sys::unlink(u.br(branch, &format!("d/direct{branch}")))?;
                }
            }
            Ok(())
        });
        let result = (0..150)
            .take_while(|_| !direct.is_finished())
            .try_for_each(|n| union_changes(&u, n));
        stop.store(true, Ordering::Relaxed);
        let direct = direct.join();
        result.and(direct.unwrap_or_else(|_| Err(anyhow::anyhow!("the direct user panicked"))))
    })?;
    assert_eq!(names(u.at("d"))?, set(["x", "z"]));
    assert_eq!(text(u.at("bottom"))?, "bottom");
    for n in [1, 2] {
        cx.changed_by_hand(&u.br(n, ""))?;
    }
    u.umount()
}

/// Marks would hold inodes: then the file system of the branch could not be unmounted.
fn nothing_is_left(cx: &Ctx) -> Result<()> {
    let fs = Private::disk(Kind::Ext4, &cx.name(), 64 << 20)?;
    for dir in ["a", "b"] {
        let path = fs.path().join(dir);
        sys::mkdir(&path)?;
        Tree::new().files("d/e/f", 50).build(&path)?;
    }
    let (a, b) = (fs.path().join("a"), fs.path().join("b"));
    let u = cx
        .union()
        .opt("udba=notify")
        .at(&a, "rw")
        .at(&b, "ro")
        .mount()?;
    sys::write(u.at("d/e/new"), "new")?;
    assert_eq!(names(u.at("d/e"))?.len(), 51);
    sys::drop_caches();
    sys::write(b.join("d/e/direct"), "x")?;
    assert_eq!(text(u.at("d/e/direct"))?, "x");
    reconfigure(u.root(), &[&format!("del:{}", b.display())])?;
    reconfigure(u.root(), &["udba=reval"])?;
    u.umount()?;
    scratch::run("sync", &[])?;
    fs.umount()
}
