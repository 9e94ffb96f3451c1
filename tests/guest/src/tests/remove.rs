// SPDX-License-Identifier: GPL-2.0

//! Removing objects: unlink, rmdir, and what stays usable afterwards.

use crate::harness::prelude::*;

cases! {
    WIDE: lower_files, every_kind, upper_and_lower_instances, lower_directories;
    BASIC: upper_only_leaves_nothing, rmdir_not_empty, rmdir_with_only_whiteouts, wrong_kind,
        open_upper_file_lives_on, open_lower_file_lives_on, open_lower_file_is_written_after,
        working_directory, sticky_directories, unprivileged_users, whole_tree,
        removed_stays_removed, again_and_again, directory_that_was_rebuilt, parent_times,
        many_whiteouts_in_a_removed_directory, mount_points_are_busy;
}

fn lower_files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "").file("d/g", "").file("d/keep", ""))
        .ro(Tree::new().file("f", "").file("d/g", ""))
        .mount()?;
    for name in ["f", "d/g"] {
        sys::unlink(u.at(name))?;
        errno(sys::lstat(u.at(name)), Errno::NOENT);
        errno(sys::unlink(u.at(name)), Errno::NOENT);
    }
    assert_eq!(names(u.root())?, set(["d"]));
    assert_eq!(names(u.at("d"))?, set(["keep"]));
    assert_eq!(names(u.br(0, "d"))?, set([".wh.g"]));
    assert!(exists(u.br(0, ".wh.f")));
    sys::drop_caches();
    errno(sys::lstat(u.at("d/g")), Errno::NOENT);
    Ok(())
}

fn every_kind(cx: &Ctx) -> Result<()> {
    let tree = |p: &str| {
        Tree::new()
            .file(&format!("{p}file"), "")
            .symlink(&format!("{p}link"), "nowhere")
            .node(
                &format!("{p}char"),
                FileType::CharacterDevice,
                sys::dev(1, 3),
            )
            .node(&format!("{p}block"), FileType::BlockDevice, sys::dev(7, 77))
            .fifo(&format!("{p}fifo"))
    };
    let u = cx.union().rw(tree("t")).ro(tree("l")).mount()?;
    for kind in ["file", "link", "char", "block", "fifo"] {
        for side in ["t", "l"] {
            let name = format!("{side}{kind}");
            sys::unlink(u.at(&name))?;
            errno(sys::lstat(u.at(&name)), Errno::NOENT);
            assert_eq!(exists(u.br(0, &format!(".wh.{name}"))), side == "l");
            assert!(!exists(u.br(0, &name)));
        }
    }
    assert_eq!(names(u.root())?, set([]));
    Ok(())
}

fn upper_and_lower_instances(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "top").dir("d").symlink("x", "y"))
        .ro(Tree::new().file("f", "low").dir("d").file("x", "low"))
        .mount()?;
    sys::unlink(u.at("f"))?;
    sys::rmdir(u.at("d"))?;
    sys::unlink(u.at("x"))?;
    let left = [
        ".wh..wh.aufs",
        ".wh..wh.plnk",
        ".wh..wh.orph",
        ".wh.f",
        ".wh.d",
        ".wh.x",
    ];
    assert_eq!(names(u.br(0, ""))?, set(left));
    assert_eq!(names(u.root())?, set([]));
    Ok(())
}

fn lower_directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("a").dir("d/b"))
        .ro(Tree::new().dir("a").file("c", ""))
        .mount()?;
    sys::rmdir(u.at("a"))?;
    sys::rmdir(u.at("d/b"))?;
    sys::rmdir(u.at("d"))?;
    assert_eq!(names(u.root())?, set(["c"]));
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    errno(sys::lstat(u.at("d/b")), Errno::NOENT);
    let left = [
        ".wh..wh.aufs",
        ".wh..wh.plnk",
        ".wh..wh.orph",
        ".wh.a",
        ".wh.d",
    ];
    assert_eq!(names(u.br(0, ""))?, set(left));
    Ok(())
}

fn upper_only_leaves_nothing(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "").dir("d"))
        .ro(Tree::new())
        .mount()?;
    sys::unlink(u.at("f"))?;
    sys::rmdir(u.at("d"))?;
    assert_eq!(
        names(u.br(0, ""))?,
        set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"])
    );
    Ok(())
}

fn rmdir_not_empty(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .file("top/f", "")
            .dir("merged")
            .file("merged2/x", "")
            .file("p/over/x", ""))
        .ro(Tree::new()
            .file("low/f", "")
            .file("merged/f", "")
            .file("p/over", "a file, which would show")
            .dir("merged2"))
        .ro(Tree::new().dir("low").dir("top").dir("sub/dir"))
        .mount()?;
    for name in ["top", "low", "merged", "merged2", "sub", "p/over"] {
        errno(sys::rmdir(u.at(name)), Errno::NOTEMPTY);
        assert_eq!(names(u.at(name))?.len(), 1, "{name} is as before");
    }
    assert_eq!(sys::mtime(&sys::lstat(u.at("p"))?), MTIME);
    let left = [
        ".wh..wh.aufs",
        ".wh..wh.plnk",
        ".wh..wh.orph",
        "top",
        "merged",
        "merged2",
        "p",
    ];
    assert_eq!(names(u.br(0, ""))?, set(left), "a refusal leaves nothing");
    Ok(())
}

fn rmdir_with_only_whiteouts(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .whiteout("d/a")
            .whiteout("d/b")
            .dir("o")
            .opaque("o")
            .whiteout("only/was-never-there"))
        .ro_wh(Tree::new().dir("d").whiteout("e/c").file("o/hidden", ""))
        .ro(Tree::new().file("d/a", "").file("d/b", "").file("e/c", ""))
        .mount()?;
    for name in ["d", "e", "o", "only"] {
        assert_eq!(names(u.at(name))?, set([]));
        sys::rmdir(u.at(name))?;
        errno(sys::lstat(u.at(name)), Errno::NOENT);
        assert!(!exists(u.br(0, name)), "{name} is gone from the branch");
    }
    assert!(
        !exists(u.br(0, ".wh.only")),
        "there is nothing below to hide"
    );
    assert!(exists(u.br(0, ".wh.d")) && exists(u.br(0, ".wh.e")) && exists(u.br(0, ".wh.o")));
    Ok(())
}

fn wrong_kind(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("tf", "").dir("td"))
        .ro(Tree::new().file("lf", "").dir("ld").symlink("ll", "ld"))
        .mount()?;
    for name in ["td", "ld"] {
        errno(sys::unlink(u.at(name)), Errno::ISDIR);
    }
    for name in ["tf", "lf", "ll"] {
        errno(sys::rmdir(u.at(name)), Errno::NOTDIR);
    }
    errno(sys::rmdir(u.at("absent")), Errno::NOENT);
    errno(sys::rmdir(u.at("ld/.")), Errno::INVAL);
    errno(sys::rmdir(u.at("ld/..")), Errno::NOTEMPTY);
    errno(sys::rmdir(u.root()), Errno::BUSY);
    assert_eq!(names(u.root())?.len(), 5);
    Ok(())
}

fn open_upper_file_lives_on(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "top"))
        .ro(Tree::new())
        .mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    sys::unlink(u.at("f"))?;
    assert_eq!(sys::fstat(&fd)?.st_nlink, 0);
    sys::write_fd(&fd, b"TOP+")?;
    assert_eq!(sys::pread_fd(&fd)?, b"TOP+");
    sys::on_fd("fsync", rustix::fs::fsync(&fd))?;
    sys::on_fd(
        "fchmod",
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o600)),
    )?;
    assert_eq!(sys::mode(&sys::fstat(&fd)?), 0o600);
    sys::write(u.at("f"), "another")?;
    assert_eq!(sys::pread_fd(&fd)?, b"TOP+");
    assert_ne!(sys::lstat(u.at("f"))?.st_ino, sys::fstat(&fd)?.st_ino);
    Ok(())
}

fn open_lower_file_lives_on(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "low"))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let ino = sys::fstat(&fd)?.st_ino;
    sys::unlink(u.at("f"))?;
    let stat = sys::fstat(&fd)?;
    assert_eq!((stat.st_ino, stat.st_nlink, stat.st_size), (ino, 0, 3));
    sys::write(u.at("f"), "another")?;
    assert_eq!(sys::pread_fd(&fd)?, b"low");
    sys::drop_caches();
    assert_eq!(sys::pread_fd(&fd)?, b"low");
    errno(sys::link_fd(&fd, u.at("g")), Errno::NOENT);
    Ok(())
}

fn open_lower_file_is_written_after(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/f", "low"))
        .mount()?;
    let (writer, reader) = (sys::open_rw(u.at("d/f"))?, sys::open_ro(u.at("d/f"))?);
    sys::unlink(u.at("d/f"))?;
    sys::pwrite_fd(&writer, b"L", 0)?;
    sys::pwrite_fd(&writer, b"!", 3)?;
    assert_eq!(sys::pread_fd(&writer)?, b"Low!");
    assert_eq!(sys::pread_fd(&reader)?, b"Low!", "readers follow");
    sys::on_fd("ftruncate", rustix::fs::ftruncate(&writer, 1))?;
    assert_eq!(sys::fstat(&reader)?.st_size, 1);
    errno(sys::lstat(u.at("d/f")), Errno::NOENT);
    sys::rmdir(u.at("d"))?;
    sys::pwrite_fd(&writer, b"still", 0)?;
    assert_eq!(sys::pread_fd(&reader)?, b"still");
    drop((writer, reader));
    assert_eq!(names(u.br(0, ".wh..wh.orph"))?, set([]));
    Ok(())
}

fn working_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("top"))
        .ro(Tree::new().dir("low"))
        .mount()?;
    for name in ["top", "low"] {
        let path = u.at(name);
        users::apart(|| -> Result<()> {
            rustix::process::chdir(&path)?;
            sys::rmdir(&path)?;
            errno(sys::create("f"), Errno::NOENT);
            errno(sys::mkdir("d"), Errno::NOENT);
            errno(sys::lstat("f"), Errno::NOENT);
            assert_eq!(sys::lstat(".")?.st_nlink, 0);
            errno(
                sys::at("getcwd", ".", rustix::process::getcwd(Vec::new())),
                Errno::NOENT,
            );
            // The name is free for another directory meanwhile.
            sys::mkdir(&path)?;
            sys::write(path.join("f"), "")?;
            errno(sys::lstat("f"), Errno::NOENT);
            Ok(())
        })?;
    }
    Ok(())
}

fn sticky_directories(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("tmp")
        .mode(0o1777)
        .file("tmp/mine", "")
        .owner(1001, 1001)
        .file("tmp/roots", "")
        .mode(0o666)
        .dir("tmp/dir")
        .owner(1001, 1001);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1002, 1002, || {
        errno(sys::unlink(u.at("tmp/mine")), Errno::PERM);
        errno(sys::unlink(u.at("tmp/roots")), Errno::PERM);
        errno(
            sys::rename(u.at("tmp/mine"), u.at("tmp/stolen")),
            Errno::PERM,
        );
        errno(sys::rmdir(u.at("tmp/dir")), Errno::PERM);
    });
    users::as_user(1001, 1001, || -> Result<()> {
        sys::unlink(u.at("tmp/mine"))?;
        sys::rmdir(u.at("tmp/dir"))?;
        errno(sys::unlink(u.at("tmp/roots")), Errno::PERM);
        Ok(())
    })?;
    assert_eq!(names(u.at("tmp"))?, set(["roots"]));
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "tmp"))?), 0o1777);
    Ok(())
}

fn unprivileged_users(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("closed/f", "")
        .mode(0o666)
        .dir("closed/d")
        .mode(0o777)
        .dir("open")
        .mode(0o777)
        .file("open/roots", "")
        .mode(0o600)
        .dir("open/dir")
        .mode(0o700);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::unlink(u.at("closed/f")), Errno::ACCESS);
        errno(sys::rmdir(u.at("closed/d")), Errno::ACCESS);
        // What counts is the directory, not the object.
        sys::unlink(u.at("open/roots"))?;
        sys::rmdir(u.at("open/dir"))?;
        Ok(())
    })?;
    assert_eq!(names(u.at("open"))?, set([]));
    assert!(!exists(u.br(0, "closed")), "a refusal copies nothing up");
    Ok(())
}

fn whole_tree(cx: &Ctx) -> Result<()> {
    let mut low = Tree::new();
    for i in 0..5 {
        for j in 0..5 {
            low = low
                .file(&format!("t/d{i}/e{j}/f"), "")
                .symlink(&format!("t/d{i}/l{j}"), "x");
        }
    }
    let up = Tree::new()
        .file("t/d1/e1/f", "up")
        .file("t/d9/x", "")
        .dir("t/d2/e2/deep/er");
    let u = cx.union().rw(up).ro(low).mount()?;
    std::fs::remove_dir_all(u.at("t"))?;
    assert_eq!(names(u.root())?, set([]));
    let left = [".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", ".wh.t"];
    assert_eq!(names(u.br(0, ""))?, set(left), "one whiteout for all of it");
    Ok(())
}

fn removed_stays_removed(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("e/top", ""))
        .ro(Tree::new().file("f", "").file("d/g", "").file("e/low", ""))
        .mount()?;
    sys::unlink(u.at("f"))?;
    sys::unlink(u.at("d/g"))?;
    sys::unlink(u.at("e/low"))?;
    sys::unlink(u.at("e/top"))?;
    sys::rmdir(u.at("e"))?;
    for _ in 0..2 {
        assert_eq!(names(u.root())?, set(["d"]));
        assert_eq!(names(u.at("d"))?, set([]));
        for name in ["f", "d/g", "e", "e/low"] {
            errno(sys::lstat(u.at(name)), Errno::NOENT);
        }
        u.again()?;
    }
    Ok(())
}

fn again_and_again(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "low").file("d/x", "low"))
        .mount()?;
    for i in 0..20 {
        sys::unlink(u.at("f"))?;
        errno(sys::lstat(u.at("f")), Errno::NOENT);
        sys::write(u.at("f"), i.to_string())?;
        assert_eq!(text(u.at("f"))?, i.to_string());
        for name in names(u.at("d"))? {
            sys::unlink(u.at("d").join(name))?;
        }
        sys::rmdir(u.at("d"))?;
        sys::mkdir(u.at("d"))?;
        sys::write(u.at("d/x"), i.to_string())?;
        assert_eq!(names(u.at("d"))?, set(["x"]));
    }
    assert_eq!(
        sys::lstat(u.br(0, ".wh..wh.aufs"))?.st_nlink,
        2,
        "the base and one opaque mark"
    );
    Ok(())
}

fn directory_that_was_rebuilt(cx: &Ctx) -> Result<()> {
    // A file where a lower directory was, then a directory again: the old content stays away.
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/old", "").file("d/e/old", ""))
        .mount()?;
    std::fs::remove_dir_all(u.at("d"))?;
    sys::write(u.at("d"), "a file")?;
    errno(sys::lstat(u.at("d/old")), Errno::NOTDIR);
    sys::unlink(u.at("d"))?;
    sys::mkdir(u.at("d"))?;
    sys::mkdir(u.at("d/e"))?;
    u.again()?;
    assert_eq!(names(u.at("d"))?, set(["e"]));
    assert_eq!(names(u.at("d/e"))?, set([]));
    Ok(())
}

fn parent_times(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/a", "").dir("d/b").file("d/c", ""))
        .mount()?;
    let times = || -> Result<(sys::Time, sys::Time)> {
        let stat = sys::lstat(u.at("d"))?;
        Ok((sys::mtime(&stat), sys::ctime(&stat)))
    };
    assert_eq!(times()?.0, MTIME);
    sys::unlink(u.at("d/a"))?;
    let after = times()?;
    assert!(
        after.0 > MTIME && after.1 > MTIME,
        "unlink changes the directory"
    );
    std::thread::sleep(std::time::Duration::from_millis(20));
    sys::rmdir(u.at("d/b"))?;
    assert!(times()?.0 > after.0, "rmdir changes the directory");
    let c = sys::open_ro(u.at("d/c"))?;
    let before = sys::ctime(&sys::fstat(&c)?);
    sys::unlink(u.at("d/c"))?;
    assert!(sys::ctime(&sys::fstat(&c)?) >= before);
    Ok(())
}

fn many_whiteouts_in_a_removed_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("d/f", 500))
        .mount()?;
    for i in 0..500 {
        sys::unlink(u.at(&format!("d/f{i}")))?;
    }
    sys::rmdir(u.at("d"))?;
    errno(sys::lstat(u.at("d")), Errno::NOENT);
    sys::mkdir(u.at("d"))?;
    assert_eq!(names(u.at("d"))?, set([]));
    sys::rmdir(u.at("d"))?;
    u.umount() // Waits for whatever is still being removed; leftovers fail the test.
}

fn mount_points_are_busy(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d"))
        .mount()?;
    let inner = u.at("d");
    crate::harness::scratch::mount("tmpfs", "tmpfs", &inner, "")?;
    errno(sys::rmdir(&inner), Errno::BUSY);
    errno(sys::rename(&inner, u.at("e")), Errno::BUSY);
    sys::write(u.at("d/f"), "on the tmpfs")?;
    errno(sys::rename(u.at("d/f"), u.at("f")), Errno::XDEV);
    crate::harness::scratch::umount(&inner)?;
    sys::rmdir(&inner)?;
    Ok(())
}
