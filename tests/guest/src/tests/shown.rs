// SPDX-License-Identifier: GPL-2.0

//! Change times and link counts that a native file system would show.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{prelude::*, union::reconfigure};

cases! {
    WRITABLE: a_copy_is_no_change, a_change_shows, a_hidden_name_is_a_change,
        subdirs_that_go, subdirs_that_are_replaced, subdirs_that_are_listed,
        subdirs_of_a_copied_directory;
    BASIC: a_hidden_name_on_a_writable_branch, the_last_name, long_ago, what_others_do_to_subdirs,
        subdirs_that_others_swap, subdirs_beside_other_changes,
        subdirs_after_a_remount, copies_beside_changes,
        listings_beside_changes;
}

fn ctime(u: &Union, name: &str) -> Result<sys::Time> {
    Ok(sys::ctime(&sys::lstat(u.at(name))?))
}

fn links(u: &Union, name: &str) -> Result<u64> {
    Ok(sys::lstat(u.at(name))?.st_nlink)
}

/// Asserts that a directory has so many sub-directories, if its file systems count them.
fn subdirs(u: &Union, name: &str, count: u64) -> Result<()> {
    let links = links(u, name)?;
    assert!(links == count + 2 || links == 1, "{name:?}: {links} links");
    Ok(())
}

fn low() -> Tree {
    Tree::new()
        .file("d/e/f", "data")
        .hardlink("d/e/g", "d/e/f")
        .hardlink("d/e/h", "d/e/f")
        .file("d/x", "x")
}

fn a_copy_is_no_change(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    let all = ["", "d", "d/e", "d/e/f", "d/e/g", "d/x"];
    let times = || -> Result<Vec<_>> { all.iter().map(|name| ctime(&u, name)).collect() };
    let before = times()?;
    let f = sys::open_rw(u.at("d/e/f"))?;
    assert_eq!(times()?, before, "copied up");
    // Another name of the same file, which gets there now.
    let g = sys::open_rw(u.at("d/e/g"))?;
    drop(sys::open_rw(u.at("d/x"))?);
    assert_eq!(times()?, before, "given another name");
    for file in [&f, &g] {
        assert_eq!(sys::ctime(&sys::fstat(file)?), before[3]);
    }
    // Where the copies are told apart from what they are.
    let bare = sys::ctime(&sys::lstat(u.br(0, "d"))?);
    assert!(bare > before[1], "or this tests nothing");
    Ok(())
}

fn a_change_shows(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    let moves = |name: &str, change: &dyn Fn() -> Result<()>| -> Result<()> {
        let before = ctime(&u, name)?;
        change()?;
        assert!(ctime(&u, name)? > before, "{name:?} was changed");
        Ok(())
    };
    let stays = |name: &str, change: &dyn Fn() -> Result<()>| -> Result<()> {
        let before = ctime(&u, name)?;
        change()?;
        assert_eq!(ctime(&u, name)?, before, "{name:?} was not changed");
        Ok(())
    };
    let x = || Ok(sys::chmod(u.at("d/x"), 0o600)?);
    stays("d", &|| moves("d/x", &x))?;
    moves("d/x", &x)?;
    let f = || Ok(sys::append(u.at("d/e/f"), "more")?);
    stays("d/e", &|| moves("d/e/f", &f))?;
    moves("d/e/g", &f)?;
    moves("d/e/g", &|| Ok(sys::truncate(u.at("d/e/h"), 1)?))?;
    moves("d/e", &|| Ok(sys::write(u.at("d/e/new"), "")?))?;
    moves("d", &|| Ok(sys::rename(u.at("d/x"), u.at("d/y"))?))?;
    moves("d/e/f", &|| Ok(sys::link(u.at("d/e/f"), u.at("d/e/i"))?))?;
    moves("d", &|| Ok(sys::chmod(u.at("d"), 0o700)?))?;
    moves("", &|| Ok(sys::mkdir(u.at("made"))?))?;
    moves("d", &|| {
        Ok(sys::set_xattr(u.at("d"), "trusted.test", b"1")?)
    })
}

fn a_hidden_name_is_a_change(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("new", "new"))
        .ro(low())
        .mount()?;
    let f = sys::open_ro(u.at("d/e/f"))?;
    let seen = || -> Result<_> {
        let stat = sys::fstat(&f)?;
        assert_eq!(ctime(&u, "d/e/f")?, sys::ctime(&stat));
        Ok((sys::ctime(&stat), stat.st_nlink))
    };
    let first = seen()?;
    sys::unlink(u.at("d/e/g"))?;
    let second = seen()?;
    assert!(second.0 > first.0 && second.1 == 2, "{first:?} {second:?}");
    sys::rename(u.at("new"), u.at("d/e/h"))?;
    let third = seen()?;
    assert!(third.0 > second.0 && third.1 == 1, "{second:?} {third:?}");
    // The copy has it still, and what is done to it is later.
    drop(sys::open_rw(u.at("d/e/f"))?);
    assert_eq!(seen()?, third);
    sys::chmod(u.at("d/e/f"), 0o600)?;
    assert!(seen()?.0 >= third.0);
    Ok(())
}

/// There the change is on disk.
fn a_hidden_name_on_a_writable_branch(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("new", "new").file("newer", ""))
        .rw(low())
        .opt("create=rr")
        .mount()?;
    let first = ctime(&u, "d/e/f")?;
    sys::rename(u.at("new"), u.at("d/e/g"))?;
    let second = ctime(&u, "d/e/f")?;
    assert!(second > first);
    assert_eq!(links(&u, "d/e/f")?, 2);
    sys::unlink(u.at("d/e/h"))?;
    let third = ctime(&u, "d/e/f")?;
    assert!(third > second);
    assert_eq!(links(&u, "d/e/f")?, 1);
    sys::drop_caches();
    assert_eq!(ctime(&u, "d/e/f")?, third);
    u.again()?;
    assert_eq!(ctime(&u, "d/e/f")?, third);
    assert_eq!(sys::ctime(&sys::lstat(u.br(1, "d/e/f"))?), third);
    Ok(())
}

/// Who has it open sees that it lost its last name.
fn the_last_name(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("a", "").file("b", "").dir("d");
    let u = cx.union().rw(Tree::new().file("c", "")).ro(low).mount()?;
    let (a, b) = (sys::open_ro(u.at("a"))?, sys::open_ro(u.at("b"))?);
    let before = [sys::fstat(&a)?, sys::fstat(&b)?];
    sys::unlink(u.at("a"))?;
    sys::rename(u.at("c"), u.at("b"))?;
    for (file, before) in [a, b].iter().zip(before) {
        let after = sys::fstat(file)?;
        assert!(sys::ctime(&after) > sys::ctime(&before));
        assert_eq!(after.st_nlink, 0);
    }
    Ok(())
}

/// squashfs keeps one time, from before or after the epoch, for all.
fn long_ago(cx: &Ctx) -> Result<()> {
    for sec in [0, 1, 1 << 31] {
        let low = Tree::new()
            .file("d/f", "")
            .mtime(sec, 0)
            .hardlink("d/g", "d/f");
        let u = cx
            .union()
            .rw(Tree::new())
            .on(Kind::Squashfs, "ro", low)
            .mount()?;
        let first = ctime(&u, "d/f")?;
        sys::unlink(u.at("d/g"))?;
        let second = ctime(&u, "d/f")?;
        assert!(second != first, "{second:?}");
        drop(sys::open_rw(u.at("d/f"))?);
        assert_eq!(ctime(&u, "d/f")?, second);
        u.umount()?;
    }
    Ok(())
}

fn dirs() -> Tree {
    Tree::new().dir("p/a").dir("p/b").dir("p/c").file("p/f", "")
}

fn subdirs_that_go(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(dirs()).mount()?;
    subdirs(&u, "p", 3)?;
    subdirs(&u, "", 1)?;
    sys::rmdir(u.at("p/a"))?;
    subdirs(&u, "p", 2)?;
    sys::rename(u.at("p/b"), u.at("b"))?;
    subdirs(&u, "p", 1)?;
    subdirs(&u, "", 2)?;
    sys::mkdir(u.at("p/b"))?;
    subdirs(&u, "p", 2)?;
    // A copy is no other one.
    sys::write(u.at("p/c/new"), "")?;
    subdirs(&u, "p", 2)?;
    sys::unlink(u.at("p/c/new"))?;
    sys::rmdir(u.at("p/c"))?;
    subdirs(&u, "p", 1)?;
    sys::rename(u.at("p/b"), u.at("p/z"))?;
    subdirs(&u, "p", 1)?;
    sys::rmdir(u.at("p/z"))?;
    subdirs(&u, "p", 0)?;
    sys::mkdir(u.at("p/a"))?;
    subdirs(&u, "p", 1)?;
    subdirs(&u, "", 2)
}

fn subdirs_that_are_replaced(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("own").dir("p/up"))
        .ro(dirs())
        .mount()?;
    // It is on both branches.
    names(u.root())?;
    subdirs(&u, "", 2)?;
    subdirs(&u, "p", 4)?;
    sys::rename(u.at("own"), u.at("p/a"))?;
    subdirs(&u, "p", 4)?;
    subdirs(&u, "", 1)?;
    sys::rename(u.at("p/up"), u.at("p/b"))?;
    subdirs(&u, "p", 3)?;
    sys::rename(u.at("p/b"), u.at("p/c"))?;
    subdirs(&u, "p", 2)?;
    sys::rmdir(u.at("p/c"))?;
    sys::rmdir(u.at("p/a"))?;
    subdirs(&u, "p", 0)
}

fn subdirs_of_a_copied_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("p/a").dir("p/b"))
        .ro(dirs())
        .mount()?;
    names(u.at("p"))?;
    subdirs(&u, "p", 3)?;
    sys::rmdir(u.at("p/c"))?;
    subdirs(&u, "p", 2)?;
    sys::rmdir(u.at("p/a"))?;
    subdirs(&u, "p", 1)?;
    sys::chmod(u.at("p/b"), 0o700)?;
    subdirs(&u, "p", 1)
}

fn subdirs_that_are_listed(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("p/a").dir("p/b").whiteout("p/c").dir("p/d"))
        .ro(dirs())
        .mount()?;
    let before = links(&u, "p")?;
    assert!(before >= 5 || before == 1, "never too small");
    names(u.at("p"))?;
    subdirs(&u, "p", 3)?;
    sys::rmdir(u.at("p/a"))?;
    subdirs(&u, "p", 2)?;
    sys::mkdir(u.at("p/c"))?;
    subdirs(&u, "p", 3)?;
    sys::mkdir(u.at("p/n"))?;
    names(u.at("p"))?;
    subdirs(&u, "p", 4)?;
    sys::drop_caches();
    let again = links(&u, "p")?;
    assert!(again >= 6 || again == 1, "never too small");
    Ok(())
}

/// What cannot be known makes the count too large, not too small.
fn what_others_do_to_subdirs(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(dirs()).mount()?;
    sys::rmdir(u.at("p/a"))?;
    subdirs(&u, "p", 2)?;
    std::fs::remove_dir(u.br(1, "p/a"))?;
    std::fs::create_dir(u.br(0, "p/new"))?;
    cx.changed_by_hand(&u.br(1, ""))?;
    assert!(links(&u, "p")? >= 5);
    std::fs::remove_dir(u.br(0, "p/new"))?;
    assert!(links(&u, "p")? >= 4);
    sys::mkdir(u.at("p/made"))?;
    assert!(links(&u, "p")? >= 5);
    sys::rmdir(u.at("p/made"))?;
    names(u.at("p"))?;
    subdirs(&u, "p", 2)
}

/// One that is counted, and does not show, makes room for one that does.
fn subdirs_that_others_swap(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(dirs()).mount()?;
    let known = |count| {
        names(u.at("p"))?;
        subdirs(&u, "p", count)
    };
    sys::rmdir(u.at("p/a"))?;
    known(2)?;
    std::fs::remove_dir(u.br(1, "p/a"))?;
    std::fs::create_dir(u.br(1, "p/new"))?;
    assert!(links(&u, "p")? >= 5, "below");
    known(3)?;
    sys::rmdir(u.at("p/new"))?;
    known(2)?;
    std::fs::rename(u.br(1, "p/new"), u.br(1, "p/newer"))?;
    // A change by us does not hide that.
    sys::mkdir(u.at("p/made"))?;
    assert!(links(&u, "p")? >= 6, "before a change by us");
    known(4)?;
    sys::rmdir(u.at("p/b"))?;
    known(3)?;
    std::fs::remove_file(u.br(0, "p/.wh.b"))?;
    assert!(links(&u, "p")? >= 6, "a whiteout that others removed");
    cx.changed_by_hand(&u.br(1, ""))?;
    known(4)
}

/// What is known is not forgotten for changes by us that count nothing.
fn subdirs_beside_other_changes(cx: &Ctx) -> Result<()> {
    let low = dirs().file("p/b/deep", "").file("p/g", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::rmdir(u.at("p/a"))?;
    sys::write(u.at("p/new"), "new")?;
    subdirs(&u, "p", 2)?;
    sys::append(u.at("p/b/deep"), "copied")?;
    sys::append(u.at("p/g"), "copied")?;
    subdirs(&u, "p", 2)?;
    sys::utimens(u.at("p"), (1, 2), (3, 4))?;
    subdirs(&u, "p", 2)?;
    sys::rename(u.at("p/new"), u.at("p/newer"))?;
    sys::unlink(u.at("p/g"))?;
    sys::chmod(u.at("p"), 0o700)?;
    sys::link(u.at("p/newer"), u.at("p/linked"))?;
    subdirs(&u, "p", 2)
}

fn subdirs_after_a_remount(cx: &Ctx) -> Result<()> {
    let new = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let u = cx.union().rw(Tree::new()).ro(dirs()).mount()?;
    let p = sys::open(u.at("p"), OFlags::RDONLY)?;
    sys::rmdir(u.at("p/a"))?;
    sys::rename(u.at("p/b"), u.at("b"))?;
    subdirs(&u, "p", 1)?;
    let freeze = format!("mod={}=ro+wh", u.br(0, "").display());
    let prepend = format!("prepend={}=rw", new.display());
    reconfigure(u.root(), &[&freeze, &prepend])?;
    subdirs(&u, "p", 1)?;
    sys::mkdir(u.at("p/a"))?;
    subdirs(&u, "p", 2)?;
    sys::rmdir(u.at("p/c"))?;
    subdirs(&u, "p", 1)?;
    drop(p);
    // What the whiteouts hide is seen again.
    reconfigure(u.root(), &[&format!("mod={}=ro", u.br(0, "").display())])?;
    assert!(links(&u, "p")? >= 3);
    names(u.at("p"))?;
    subdirs(&u, "p", 2)
}

/// Copies go into a directory in which names are made at the same time: each of these shows.
fn copies_beside_changes(cx: &Ctx) -> Result<()> {
    const COUNT: usize = 300;
    let low = Tree::new().files("d/f", COUNT);
    let u = cx.union().rw(Tree::new().dir("d")).ro(low).mount()?;
    let times = || -> Result<_> {
        let stat = sys::lstat(u.at("d"))?;
        Ok((sys::ctime(&stat), (stat.st_mtime, stat.st_mtime_nsec)))
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let copy = |n: usize| sys::open_rw(u.at(&format!("d/f{n}"))).map(drop);
            let copied = (0..COUNT).try_for_each(copy);
            done.store(true, Ordering::Release);
            copied
        });
        let mut n = 0;
        while n == 0 || !done.load(Ordering::Acquire) {
            let before = times()?;
            sys::write(u.at(&format!("d/new{n}")), "")?;
            let after = times()?;
            assert!(after.0 > before.0, "change time: {before:?} {after:?}");
            assert!(after.1 > before.1, "modification: {before:?} {after:?}");
            n += 1;
        }
        copier.join().expect("the copier does not panic")?;
        Ok(())
    })
}

/// Sub-directories are made while the directory is listed: they are counted.
fn listings_beside_changes(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d"))
        .ro(Tree::new().dir("d"))
        .mount()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let lister = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Acquire) {
                dir::list(u.at("d"))?;
            }
            Ok(())
        });
        let made = (1..=500).try_for_each(|n| {
            sys::mkdir(u.at(&format!("d/{n}")))?;
            subdirs(&u, "d", n)
        });
        done.store(true, Ordering::Release);
        lister.join().expect("the lister does not panic")?;
        made
    })
}
