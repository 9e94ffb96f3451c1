// SPDX-License-Identifier: GPL-2.0

//! Directories as a native file system has them: positions while names come and go, very many
//! names, marks inside, sticky and setgid bits, default ACLs, names of every length.

use std::collections::BTreeSet;

use rustix::fs::SeekFrom;

use crate::harness::{acl::acl, prelude::*, watchdog};

cases! {
    WRITABLE: positions_while_names_come_and_go, names_up_to_the_limit;
    BASIC: hundred_thousand_merged_names, removed_with_marks_inside, sticky_directories,
        setgid_through_copy_up, default_acl_and_umask;
}

fn positions_while_names_come_and_go(cx: &Ctx) -> Result<()> {
    // One branch (passed through) and two (merged).
    for merged in [false, true] {
        let top = Tree::new().files("d/stays", 60).files("d/goes", 60);
        let mut union = cx.union().rw(top);
        if merged {
            union = union.ro(Tree::new().files("d/stays-low", 60).files("d/goes-low", 60));
        }
        let u = union.mount()?;
        let stays: BTreeSet<_> = names(u.at("d"))?
            .into_iter()
            .filter(|name| name.starts_with("stays"))
            .collect();
        let fd = dir::open_dir(u.at("d"))?;
        let (mut seen, mut told) = (Vec::new(), Vec::new());
        let mut turn = 0;
        loop {
            let some = dir::getdents(&fd, 512)?;
            if some.is_empty() {
                break;
            }
            for entry in &some {
                if entry.name.starts_with("stays") {
                    seen.push(entry.name.clone());
                    told.push((entry.next, entry.name.clone()));
                }
            }
            // Names behind and before the position.
            for goes in names(u.at("d"))?
                .iter()
                .filter(|n| n.starts_with("goes"))
                .take(3)
            {
                sys::unlink(u.at(&format!("d/{goes}")))?;
            }
            sys::write(u.at(&format!("d/new-{turn}")), "")?;
            turn += 1;
            anyhow::ensure!(turn < 1000, "no end");
        }
        let once: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(once.len(), seen.len(), "each name once (merged: {merged})");
        assert_eq!(once, stays, "none is left out (merged: {merged})");
        // A position that was told leads to what came after it.
        for (i, (next, name)) in told.iter().enumerate().rev().step_by(7) {
            sys::seek(&fd, SeekFrom::Start(*next))?;
            let rest: Vec<_> = dir::rest(&fd, 4096)?
                .into_iter()
                .map(|entry| entry.name)
                .filter(|name| name.starts_with("stays"))
                .collect();
            let wanted: Vec<_> = told[i + 1..].iter().map(|(_, name)| name.clone()).collect();
            assert_eq!(rest, wanted, "after {name} (merged: {merged})");
        }
        sys::seek(&fd, SeekFrom::Start(0))?;
        let now: BTreeSet<_> = dir::rest(&fd, 4096)?
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| name != "." && name != "..")
            .collect();
        assert_eq!(now, names(u.at("d"))?, "rewinding shows what is there now");
    }
    Ok(())
}

/// Kilobytes that slab caches and the kernel's own vectors take.
fn kernel_memory() -> Result<u64> {
    let all = std::fs::read_to_string("/proc/meminfo")?;
    let of = |key: &str| -> u64 {
        let line = all.lines().find(|line| line.starts_with(key));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    Ok(of("SUnreclaim:") + of("VmallocUsed:"))
}

fn hundred_thousand_merged_names(cx: &Ctx) -> Result<()> {
    const EACH: usize = 50_000;
    let upper = cx.dir(cx.layout.upper())?;
    let lower = cx.dir(cx.layout.upper())?;
    for (branch, prefix) in [(&upper, "up"), (&lower, "low")] {
        std::fs::create_dir(branch.join("d"))?;
        std::fs::write(branch.join("file"), "")?;
        for i in 0..EACH {
            if i % 5000 == 0 {
                watchdog::alive();
            }
            // Names of one file, as images have few inodes.
            std::fs::hard_link(branch.join("file"), branch.join(format!("d/{prefix}-{i}")))?;
        }
    }
    let u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
    sys::drop_caches();
    let before = kernel_memory()?;
    for _ in 0..2 {
        assert_eq!(dir::list(u.at("d"))?.len(), 2 * EACH);
        watchdog::alive();
    }
    // What it costs is measured by `make bench` (list.huge.first).
    let used = kernel_memory()?.saturating_sub(before);
    println!("{} names: {used} kB kept", 2 * EACH);
    // A name of some 8 bytes and what belongs to it.
    assert!(
        used < 2 * EACH as u64 * 128 / 1024,
        "{used} kB are kept for the listing"
    );
    u.umount()?;
    for branch in [upper, lower] {
        std::fs::remove_dir_all(branch.join("d"))?;
        watchdog::alive();
    }
    Ok(())
}

fn removed_with_marks_inside(cx: &Ctx) -> Result<()> {
    let lower = Tree::new()
        .files("d/f", 30)
        .file("d/sub/x", "")
        .file("e/y", "");
    let mut u = cx
        .union()
        .rw(Tree::new().file("e/top", ""))
        .ro(lower)
        .mount()?;
    std::fs::remove_dir_all(u.at("d/sub"))?;
    for name in names(u.at("d"))? {
        errno(sys::rmdir(u.at("d")), Errno::NOTEMPTY);
        sys::unlink(u.at(&format!("d/{name}")))?;
    }
    let inside = sys::open(u.at("d"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    sys::rmdir(u.at("d"))?;
    assert_eq!(sys::fstat(&inside)?.st_nlink, 0);
    assert_eq!(
        dir::rest(&inside, 4096).map(|all| all.len()).unwrap_or(0),
        0
    );
    drop(inside);
    u.settle()?;
    for _ in 0..2 {
        assert_eq!(names(u.root())?, set(["e"]));
        assert!(!exists(u.br(0, "d")));
        assert_eq!(names(u.br(0, ".wh..wh.orph"))?, set([]));
        u.again()?;
    }
    sys::mkdir(u.at("d"))?;
    assert_eq!(names(u.at("d"))?, set([]));
    Ok(())
}

fn sticky_directories(cx: &Ctx) -> Result<()> {
    let lower = Tree::new()
        .dir("tmp")
        .mode(0o1777)
        .file("tmp/mine", "")
        .owner(1000, 1000)
        .file("tmp/other", "")
        .owner(1001, 1001)
        .dir("tmp/dir")
        .owner(1001, 1001);
    let u = cx.union().rw(Tree::new()).ro(lower).mount()?;
    users::as_user(1000, 1000, || -> Result<()> {
        errno(sys::unlink(u.at("tmp/other")), Errno::PERM);
        errno(sys::rmdir(u.at("tmp/dir")), Errno::PERM);
        errno(sys::rename(u.at("tmp/other"), u.at("tmp/x")), Errno::PERM);
        errno(
            sys::rename(u.at("tmp/mine"), u.at("tmp/other")),
            Errno::PERM,
        );
        sys::write(u.at("tmp/new"), "")?;
        sys::rename(u.at("tmp/mine"), u.at("tmp/new"))?;
        Ok(sys::unlink(u.at("tmp/new"))?)
    })?;
    assert_eq!(names(u.at("tmp"))?, set(["dir", "other"]));
    let mode = |path| Ok::<_, anyhow::Error>(sys::mode(&sys::lstat(path)?));
    assert_eq!(mode(u.at("tmp"))?, 0o1777);
    assert_eq!(mode(u.br(0, "tmp"))?, 0o1777, "the copy is sticky, too");
    Ok(())
}

fn setgid_through_copy_up(cx: &Ctx) -> Result<()> {
    let lower = Tree::new()
        .dir("g")
        .mode(0o2775)
        .owner(0, 50)
        .dir("g/sub")
        .mode(0o755)
        .owner(0, 0);
    let mut u = cx.union().rw(Tree::new()).ro(lower).mount()?;
    sys::write(u.at("g/f"), "")?;
    sys::mkdir(u.at("g/d"))?;
    sys::mkdir(u.at("g/d/e"))?;
    for _ in 0..2 {
        for (name, mode) in [
            ("g", 0o2775),
            ("g/d", 0o2755),
            ("g/d/e", 0o2755),
            ("g/f", 0o644),
        ] {
            let stat = sys::lstat(u.at(name))?;
            assert_eq!((sys::mode(&stat), stat.st_gid), (mode, 50), "{name}");
        }
        // A copied directory stays what it was: it inherits nothing.
        sys::chmod(u.at("g/sub"), 0o755)?;
        assert_eq!(sys::lstat(u.at("g/sub"))?.st_gid, 0);
        u.again()?;
    }
    Ok(())
}

fn default_acl_and_umask(cx: &Ctx) -> Result<()> {
    // user::rwx, user:1001:rwx, group::r-x, mask::rwx, other::---
    let acl = acl(&[
        (1, 7, u32::MAX),
        (2, 7, 1001),
        (4, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ]);
    let default = "system.posix_acl_default";
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("low").dir("plain"))
        .mount()?;
    sys::set_xattr(u.at("low"), default, &acl)?;
    users::with_umask(0o077, || -> Result<()> {
        for dir in ["low", "low/d"] {
            sys::mkdir_mode(u.at("low/d"), 0o777).or_else(|error| match error.errno {
                Errno::EXIST => Ok(()),
                _ => Err(error),
            })?;
            sys::write(u.at(dir).join("f"), "")?;
            assert_eq!(
                sys::mode(&sys::lstat(u.at(dir).join("f"))?),
                0o660,
                "{dir}/f"
            );
            assert_eq!(sys::get_xattr(u.at(dir), default)?, acl, "{dir}");
        }
        assert_eq!(sys::mode(&sys::lstat(u.at("low/d"))?), 0o770);
        sys::mkdir_mode(u.at("plain/d"), 0o777)?;
        sys::write(u.at("plain/f"), "")?;
        Ok(())
    })?;
    assert_eq!(
        sys::mode(&sys::lstat(u.at("plain/d"))?),
        0o700,
        "the umask counts"
    );
    assert_eq!(sys::mode(&sys::lstat(u.at("plain/f"))?), 0o600);
    Ok(())
}

fn names_up_to_the_limit(cx: &Ctx) -> Result<()> {
    let long = |c: &str, len| c.repeat(len);
    let lower = Tree::new()
        .file(&long("l", 242), "l")
        .file(&format!("{}/f", long("d", 242)), "f")
        .file(&long("x", 243), "");
    let mut u = cx.union().rw(Tree::new()).ro(lower).mount()?;
    for len in [1, 241, 242] {
        let (a, b) = (long("a", len), long("b", len));
        sys::write(u.at(&a), "a")?;
        sys::link(u.at(&a), u.at(&b))?;
        sys::unlink(u.at(&a))?;
        sys::rename(u.at(&b), u.at(&a))?;
        sys::unlink(u.at(&a))?;
        sys::mkdir(u.at(&a))?;
        sys::rename(u.at(&a), u.at(&b))?;
        sys::rmdir(u.at(&b))?;
    }
    let too_long = long("a", 243);
    errno(sys::write(u.at(&too_long), ""), Errno::NAMETOOLONG);
    errno(sys::mkdir(u.at(&too_long)), Errno::NAMETOOLONG);
    errno(sys::lstat(u.at(&too_long)), Errno::NAMETOOLONG);
    sys::write(u.at("f"), "")?;
    errno(sys::rename(u.at("f"), u.at(&too_long)), Errno::NAMETOOLONG);
    errno(sys::link(u.at("f"), u.at(&too_long)), Errno::NAMETOOLONG);
    // Copied, hidden and made anew, with whiteouts of 246 bytes.
    let (file, dir) = (long("l", 242), long("d", 242));
    sys::append(u.at(&file), "+")?;
    sys::rename(u.at(&file), u.at("f"))?;
    std::fs::remove_dir_all(u.at(&dir))?;
    u.again()?;
    errno(sys::lstat(u.at(&file)), Errno::NOENT);
    errno(sys::lstat(u.at(&dir)), Errno::NOENT);
    assert_eq!(text(u.at("f"))?, "l+");
    sys::mkdir(u.at(&dir))?;
    assert_eq!(names(u.at(&dir))?, set([]));
    Ok(())
}
