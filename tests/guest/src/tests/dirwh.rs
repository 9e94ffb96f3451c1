// SPDX-License-Identifier: GPL-2.0

//! Removing directories that hold many whiteouts (`dirwh=`): at once, or by a kernel thread.

use rustix::mount::MountFlags;

use crate::harness::{prelude::*, union::remount2};

cases! {
    BASIC: few_are_removed_at_once, many_are_removed_in_the_end, removed_by_rename,
        remount_waits, unmount_waits, several_at_a_time;
}

const ORPHANS: &str = ".wh..wh.orph";

/// Directories `d0`, `d1`, ... whose files are all removed, so that each holds `whiteouts`.
fn hollow(cx: &Ctx, option: &str, dirs: usize, whiteouts: usize) -> Result<Union> {
    let mut low = Tree::new();
    let mut top = Tree::new();
    for dir in 0..dirs {
        for n in 0..whiteouts {
            low = low.file(&format!("d{dir}/f{n}"), "");
            top = top.whiteout(&format!("d{dir}/f{n}"));
        }
    }
    let kind = cx.layout.upper();
    cx.union()
        .on(kind, "rw", top)
        .on(kind, "ro", low)
        .opt(option)
        .mount()
}

fn few_are_removed_at_once(cx: &Ctx) -> Result<()> {
    for (option, whiteouts) in [("dirwh=10", 10), ("dirwh=2147483647", 50), ("nosum", 3)] {
        let mut u = hollow(cx, option, 1, whiteouts)?;
        assert_eq!(names(u.at("d0"))?, set([]));
        sys::rmdir(u.at("d0"))?;
        assert_eq!(names(u.br(0, ORPHANS))?, set([]), "{option}");
        for _ in 0..2 {
            errno(sys::lstat(u.at("d0")), Errno::NOENT);
            assert_eq!(names(u.root())?, set([]));
            u.again()?;
        }
    }
    Ok(())
}

fn many_are_removed_in_the_end(cx: &Ctx) -> Result<()> {
    for (option, whiteouts) in [
        ("dirwh=10", 200),
        ("dirwh=1", 1),
        ("dirwh=0", 1),
        ("nosum", 4),
    ] {
        let mut u = hollow(cx, option, 1, whiteouts)?;
        sys::rmdir(u.at("d0"))?;
        errno(sys::lstat(u.at("d0")), Errno::NOENT);
        assert!(exists(u.br(0, ".wh.d0")) && !exists(u.br(0, "d0")));
        // The name is free at once.
        sys::mkdir(u.at("d0"))?;
        sys::write(u.at("d0/new"), "new")?;
        u.settle()?;
        for _ in 0..2 {
            assert_eq!(names(u.at("d0"))?, set(["new"]), "{option}");
            u.again()?;
        }
    }
    Ok(())
}

fn removed_by_rename(cx: &Ctx) -> Result<()> {
    for option in ["dirwh=0", "dirwh=1000"] {
        let mut u = hollow(cx, option, 1, 100)?;
        sys::mkdir(u.at("new"))?;
        sys::write(u.at("new/f1"), "new")?;
        sys::rename(u.at("new"), u.at("d0"))?;
        if option == "dirwh=1000" {
            assert_eq!(names(u.br(0, ORPHANS))?, set([]));
        }
        u.settle()?;
        for _ in 0..2 {
            assert_eq!(names(u.root())?, set(["d0"]));
            assert_eq!(names(u.at("d0"))?, set(["f1"]));
            u.again()?;
        }
    }
    Ok(())
}

fn remount_waits(cx: &Ctx) -> Result<()> {
    let u = hollow(cx, "dirwh=0", 3, 150)?;
    for dir in ["d0", "d1", "d2"] {
        sys::rmdir(u.at(dir))?;
    }
    remount2(u.root(), MountFlags::RDONLY, "")?;
    assert_eq!(names(u.br(0, ORPHANS))?, set([]));
    Ok(())
}

fn unmount_waits(cx: &Ctx) -> Result<()> {
    for _ in 0..4 {
        let u = hollow(cx, "dirwh=0", 3, 150)?;
        let orphans = u.br(0, ORPHANS);
        for dir in ["d0", "d1", "d2"] {
            sys::rmdir(u.at(dir))?;
        }
        u.umount()?;
        assert_eq!(names(&orphans)?, set([]));
    }
    Ok(())
}

fn several_at_a_time(cx: &Ctx) -> Result<()> {
    let u = hollow(cx, "dirwh=5", 12, 40)?;
    std::thread::scope(|scope| {
        for task in 0..4 {
            let u = &u;
            scope.spawn(move || {
                for dir in (task..12).step_by(4) {
                    sys::rmdir(u.at(&format!("d{dir}"))).expect("rmdir");
                }
            });
        }
    });
    assert_eq!(names(u.root())?, set([]));
    u.settle()
}
