// SPDX-License-Identifier: GPL-2.0

//! Directories in which many names were looked up: what the union remembers of their branches must
//! not outlive the truth.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{prelude::*, union::reconfigure};

cases! {
    BASIC: names_in_many_layers, changes_behind_our_back, our_own_whiteouts, whiteouts_by_hand,
        left_over_whiteouts, directories_that_get_an_instance, renamed_directories,
        changes_that_do_not_count, marks_in_directories_without, opaque_directories, remounts;
}

/// Looks so many absent names up in `dir` that the union begins to remember.
fn learn(u: &Union, dir: &str) {
    // Each time others: what was looked up before is cached.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..40 {
        let i = NEXT.fetch_add(1, Ordering::Relaxed);
        errno(sys::lstat(u.at(&format!("{dir}/absent-{i}"))), Errno::NOENT);
    }
}

/// A writable branch above four others, with a directory `d` in all but the third.
fn known(cx: &Ctx, option: &str) -> Result<Union> {
    let low = |i: usize| {
        Tree::new()
            .file(&format!("d/only-{i}"), i.to_string())
            .file("d/same", i.to_string())
            .file("d/other", i.to_string())
            .dir(&format!("d/sub-{}", i / 2))
            .file(&format!("d/sub-{}/in-{i}", i / 2), "")
    };
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .opt(option)
        .rw(Tree::new().file("d/own", "own"))
        .on(
            kind,
            "ro+wh",
            low(1).whiteout("d/gone").whiteout("d/only-4"),
        )
        .on(kind, "ro", Tree::new())
        .on(kind, "ro+wh", low(3).file("d/gone", ""))
        .on(kind, "ro", low(4).file("d/gone", "").whiteout("d/same"))
        .mount()?;
    learn(&u, "d");
    Ok(u)
}

fn names_in_many_layers(cx: &Ctx) -> Result<()> {
    let u = known(cx, "udba=reval")?;
    assert_eq!(text(u.at("d/own"))?, "own");
    assert_eq!(text(u.at("d/same"))?, "1");
    assert_eq!(text(u.at("d/only-1"))?, "1");
    assert_eq!(text(u.at("d/only-3"))?, "3");
    errno(sys::lstat(u.at("d/only-4")), Errno::NOENT);
    errno(sys::lstat(u.at("d/gone")), Errno::NOENT);
    assert_eq!(names(u.at("d/sub-0"))?, set(["in-1"]));
    assert_eq!(names(u.at("d/sub-1"))?, set(["in-3"]));
    assert_eq!(names(u.at("d/sub-2"))?, set(["in-4"]));
    Ok(())
}

/// A directory that is found below the top has its own opaque mark asked for, whatever is known of
/// the directory that it is in.
fn opaque_directories(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .rw(Tree::new().dir("d"))
        .on(
            kind,
            "ro+wh",
            Tree::new().opaque("d/sub").file("d/sub/a", ""),
        )
        .on(kind, "ro+wh", Tree::new().file("d/sub/b", ""))
        .on(kind, "ro", Tree::new().file("d/sub/c", ""))
        .mount()?;
    learn(&u, "d");
    assert_eq!(names(u.at("d/sub"))?, set(["a"]));
    errno(sys::lstat(u.at("d/sub/b")), Errno::NOENT);
    Ok(())
}

fn changes_behind_our_back(cx: &Ctx) -> Result<()> {
    // At once after it was learned, and at once after one another.
    let u = known(cx, "udba=reval")?;
    sys::write(u.br(3, "d/new"), "3")?;
    assert_eq!(text(u.at("d/new"))?, "3");
    sys::unlink(u.br(1, "d/same"))?;
    assert_eq!(text(u.at("d/same"))?, "3");
    sys::write(u.br(1, "d/.wh.other"), "")?;
    sys::unlink(u.br(1, "d/other"))?;
    errno(sys::lstat(u.at("d/other")), Errno::NOENT);
    learn(&u, "d/sub-2");
    sys::write(u.br(4, "d/sub-2/new"), "4")?;
    assert_eq!(text(u.at("d/sub-2/new"))?, "4");
    sys::rename(u.br(4, "d/sub-2/in-4"), u.br(4, "d/sub-2/moved"))?;
    errno(sys::lstat(u.at("d/sub-2/in-4")), Errno::NOENT);
    assert_eq!(text(u.at("d/sub-2/moved"))?, "");
    for branch in [1, 3, 4] {
        cx.changed_by_hand(&u.br(branch, ""))?;
    }
    Ok(())
}

fn our_own_whiteouts(cx: &Ctx) -> Result<()> {
    let u = known(cx, "udba=reval")?;
    for round in 0..3 {
        for name in ["d/same", "d/only-1", "d/only-3"] {
            sys::unlink(u.at(name))?;
            errno(sys::lstat(u.at(name)), Errno::NOENT);
        }
        assert!(exists(u.br(0, "d/.wh.same")));
        learn(&u, "d");
        sys::drop_caches();
        errno(sys::lstat(u.at("d/same")), Errno::NOENT);
        for name in ["d/same", "d/only-1", "d/only-3"] {
            sys::write(u.at(name), "again")?;
            assert_eq!(text(u.at(name))?, "again", "round {round}");
        }
        assert!(!exists(u.br(0, "d/.wh.same")), "beside its object");
    }
    // A directory over a hidden one begins empty.
    sys::unlink(u.at("d/sub-1/in-3"))?;
    sys::rmdir(u.at("d/sub-1"))?;
    sys::mkdir(u.at("d/sub-1"))?;
    assert_eq!(names(u.at("d/sub-1"))?, set([]));
    errno(sys::lstat(u.at("d/sub-1/in-3")), Errno::NOENT);
    Ok(())
}

fn whiteouts_by_hand(cx: &Ctx) -> Result<()> {
    let u = known(cx, "udba=reval")?;
    sys::write(u.br(0, "d/.wh.only-3"), "")?;
    errno(sys::lstat(u.at("d/only-3")), Errno::NOENT);
    // What is made over it does not show what it hides.
    sys::write(u.br(0, "d/.wh.sub-1"), "")?;
    errno(sys::lstat(u.at("d/sub-1")), Errno::NOENT);
    sys::mkdir(u.at("d/sub-1"))?;
    assert_eq!(names(u.at("d/sub-1"))?, set([]));
    assert!(!exists(u.br(0, "d/.wh.sub-1")));
    Ok(())
}

fn left_over_whiteouts(cx: &Ctx) -> Result<()> {
    // Nothing lies below any more: the whiteout goes all the same when the name is made.
    let u = cx
        .union()
        .rw(Tree::new()
            .whiteout("d/gone")
            .whiteout("d/moved")
            .file("d/own", ""))
        .ro(Tree::new().file("d/f", ""))
        .mount()?;
    learn(&u, "d");
    sys::write(u.at("d/gone"), "new")?;
    sys::rename(u.at("d/own"), u.at("d/moved"))?;
    assert!(!exists(u.br(0, "d/.wh.gone")));
    assert!(!exists(u.br(0, "d/.wh.moved")));
    Ok(())
}

fn directories_that_get_an_instance(cx: &Ctx) -> Result<()> {
    let u = known(cx, "udba=reval")?;
    learn(&u, "d/sub-1");
    sys::write(u.at("d/sub-1/first"), "1")?;
    assert_eq!(text(u.br(0, "d/sub-1/first"))?, "1");
    for i in 0..40 {
        let name = format!("d/sub-1/more-{i}");
        errno(sys::lstat(u.at(&name)), Errno::NOENT);
        sys::write(u.at(&name), "x")?;
    }
    sys::unlink(u.at("d/sub-1/in-3"))?;
    errno(sys::lstat(u.at("d/sub-1/in-3")), Errno::NOENT);
    sys::drop_caches();
    errno(sys::lstat(u.at("d/sub-1/in-3")), Errno::NOENT);
    assert_eq!(names(u.at("d/sub-1"))?.len(), 41);
    Ok(())
}

fn renamed_directories(cx: &Ctx) -> Result<()> {
    let u = known(cx, "udba=reval")?;
    sys::mkdir(u.at("made"))?;
    sys::write(u.at("made/f"), "f")?;
    learn(&u, "made");
    sys::rename(u.at("made"), u.at("d/made"))?;
    assert_eq!(text(u.at("d/made/f"))?, "f");
    sys::rename(u.at("d/own"), u.at("d/only-3"))?;
    assert_eq!(text(u.at("d/only-3"))?, "own");
    sys::rename(u.at("d/only-1"), u.at("d/made/only-1"))?;
    errno(sys::lstat(u.at("d/only-1")), Errno::NOENT);
    assert_eq!(text(u.at("d/made/only-1"))?, "1");
    sys::drop_caches();
    errno(sys::lstat(u.at("d/only-1")), Errno::NOENT);
    Ok(())
}

fn changes_that_do_not_count(cx: &Ctx) -> Result<()> {
    // With udba=none the union may, but need not, see what others did; its own changes it must.
    let u = known(cx, "udba=none")?;
    sys::unlink(u.at("d/same"))?;
    errno(sys::lstat(u.at("d/same")), Errno::NOENT);
    sys::write(u.at("d/new"), "new")?;
    sys::rename(u.at("d/new"), u.at("d/same"))?;
    assert_eq!(text(u.at("d/same"))?, "new");
    assert!(!exists(u.br(0, "d/.wh.same")));
    assert_eq!(text(u.at("d/only-3"))?, "3");
    Ok(())
}

fn marks_in_directories_without(cx: &Ctx) -> Result<()> {
    let low = |i: usize| {
        Tree::new()
            .file("d/sub/same", i.to_string())
            .file(&format!("d/sub/in-{i}"), "")
    };
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .rw(Tree::new().dir("d/sub"))
        .on(kind, "ro+wh", low(1))
        .on(kind, "ro+wh", low(2))
        .on(kind, "ro", low(3))
        .mount()?;
    // Only what has been the same for a while is remembered.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    let look = || -> Result<()> {
        for _ in 0..3 {
            sys::drop_caches();
            for i in 1..4 {
                sys::lstat(u.at(&format!("d/sub/in-{i}")))?;
            }
        }
        Ok(())
    };
    look()?;
    sys::write(u.br(1, "d/sub/.wh.in-3"), "")?;
    sys::drop_caches();
    errno(sys::lstat(u.at("d/sub/in-3")), Errno::NOENT);
    sys::unlink(u.br(1, "d/sub/.wh.in-3"))?;
    look()?;
    sys::write(u.br(2, "d/sub/.wh..wh..opq"), "")?;
    sys::drop_caches();
    errno(sys::lstat(u.at("d/sub/in-3")), Errno::NOENT);
    sys::lstat(u.at("d/sub/in-2"))?;
    sys::unlink(u.at("d/sub/in-2"))?;
    sys::drop_caches();
    errno(sys::lstat(u.at("d/sub/in-2")), Errno::NOENT);
    for branch in [1, 2] {
        cx.changed_by_hand(&u.br(branch, ""))?;
    }
    Ok(())
}

fn remounts(cx: &Ctx) -> Result<()> {
    let u = known(cx, "udba=reval")?;
    errno(sys::lstat(u.at("d/only-4")), Errno::NOENT);
    // Its whiteouts do not count any more, then its names do not.
    let first = u.br(1, "").display().to_string();
    reconfigure(u.root(), &[&format!("mod:{first}=ro")])?;
    assert_eq!(text(u.at("d/only-4"))?, "4");
    learn(&u, "d");
    assert_eq!(text(u.at("d/gone"))?, "");
    reconfigure(u.root(), &[&format!("del:{first}")])?;
    errno(sys::lstat(u.at("d/only-1")), Errno::NOENT);
    assert_eq!(text(u.at("d/same"))?, "3");
    learn(&u, "d");
    reconfigure(u.root(), &[&format!("append:{first}=ro+wh")])?;
    assert_eq!(text(u.at("d/only-1"))?, "1");
    Ok(())
}
