// SPDX-License-Identifier: GPL-2.0

//! Making objects: files, directories, nodes, links, unnamed files; where they land and as whose.

use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{openat, AtFlags};

use crate::harness::prelude::*;

cases! {
    WRITABLE: files, open_flags, directories, nodes, symbolic_links, unnamed_files, over_whiteouts;
    BASIC: parents_are_copied_up, parents_keep_times, owner_and_umask, setgid_directories,
        unprivileged_users, no_writable_branch, in_a_removed_directory, trailing_slashes,
        dangling_symlinks, unnamed_file_that_stays_unnamed, unnamed_file_over_lower_name,
        sockets_and_fifos_work, exclusive_and_existing, ro_mount_refuses;
}

fn files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d"))
        .mount()?;
    for name in ["f", "d/f"] {
        let fd = sys::open_mode(u.at(name), OFlags::CREATE | OFlags::RDWR, 0o640)?;
        sys::write_fd(&fd, b"hello")?;
        assert_eq!(sys::pread_fd(&fd)?, b"hello");
        let stat = sys::fstat(&fd)?;
        assert_eq!(
            (sys::mode(&stat), stat.st_size, stat.st_nlink),
            (0o640, 5, 1)
        );
        assert_eq!(text(u.br(0, name))?, "hello");
        assert_eq!(sys::lstat(u.at(name))?.st_ino, stat.st_ino);
    }
    assert_eq!(names(u.root())?, set(["d", "f"]));
    sys::drop_caches();
    assert_eq!(text(u.at("d/f"))?, "hello");
    Ok(())
}

fn open_flags(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("top", "12345"))
        .ro(Tree::new()
            .file("low", "12345")
            .file("untouched", "x")
            .dir("d"))
        .mount()?;
    for name in ["top", "low"] {
        let p = u.at(name);
        errno(sys::create(&p), Errno::EXIST);
        let kept = sys::open(&p, OFlags::CREATE | OFlags::RDWR)?;
        assert_eq!(sys::read_fd(&kept)?, b"12345");
        let fd = sys::open(&p, OFlags::TRUNC | OFlags::WRONLY)?;
        assert_eq!(sys::fstat(&fd)?.st_size, 0);
        sys::write_fd(&fd, b"new")?;
        let fd = sys::open(&p, OFlags::APPEND | OFlags::WRONLY)?;
        sys::write_fd(&fd, b"er")?;
        assert_eq!(text(&p)?, "newer");
        assert_eq!(text(u.br(0, name))?, "newer");
        errno(sys::open(&p, OFlags::DIRECTORY), Errno::NOTDIR);
    }
    let fd = sys::open_ro(u.at("untouched"))?;
    errno(sys::write_fd(&fd, b"x"), Errno::BADF);
    errno(sys::open(u.at("d"), OFlags::WRONLY), Errno::ISDIR);
    errno(
        sys::open(u.at("d"), OFlags::CREATE | OFlags::RDWR),
        Errno::ISDIR,
    );
    errno(sys::open(u.at("absent"), OFlags::RDWR), Errno::NOENT);
    errno(
        sys::open(u.at("top/x"), OFlags::CREATE | OFlags::RDWR),
        Errno::NOTDIR,
    );
    errno(
        sys::open(u.at("no/x"), OFlags::CREATE | OFlags::RDWR),
        Errno::NOENT,
    );
    assert!(!exists(u.br(0, "untouched")), "reading does not copy up");
    Ok(())
}

fn directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("file", ""))
        .ro(Tree::new().dir("low/sub"))
        .mount()?;
    for name in ["new", "low/new", "low/sub/new"] {
        sys::mkdir_mode(u.at(name), 0o750)?;
        let stat = sys::lstat(u.at(name))?;
        assert_eq!(
            (sys::kind(&stat), sys::mode(&stat)),
            (FileType::Directory, 0o750)
        );
        assert_eq!(names(u.at(name))?, set([]));
        assert_eq!(sys::mode(&sys::lstat(u.br(0, name))?), 0o750);
        errno(sys::mkdir(u.at(name)), Errno::EXIST);
        sys::write(u.at(name).join("inside"), "x")?;
    }
    errno(sys::mkdir(u.at("low")), Errno::EXIST);
    errno(sys::mkdir(u.at("file")), Errno::EXIST);
    errno(sys::mkdir(u.at("file/d")), Errno::NOTDIR);
    errno(sys::mkdir(u.at("absent/d")), Errno::NOENT);
    errno(sys::mkdir(u.root()), Errno::EXIST);
    assert_eq!(names(u.at("low"))?, set(["sub", "new"]));
    Ok(())
}

fn nodes(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d"))
        .mount()?;
    let kinds = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("char", FileType::CharacterDevice, sys::dev(1, 7)),
        ("block", FileType::BlockDevice, sys::dev(7, 33)),
        ("regular", FileType::RegularFile, 0),
    ];
    for dir in ["", "d/"] {
        for (name, kind, dev) in kinds {
            let name = format!("{dir}{name}");
            sys::mknod(u.at(&name), kind, 0o620, dev)?;
            for at in [u.at(&name), u.br(0, &name)] {
                let stat = sys::lstat(&at)?;
                assert_eq!((sys::kind(&stat), stat.st_rdev), (kind, dev), "{name}");
                assert_eq!(sys::mode(&stat), 0o600, "0620 under umask 022");
            }
            errno(sys::mknod(u.at(&name), kind, 0o600, dev), Errno::EXIST);
        }
    }
    let full = sys::open_rw(u.at("char"))?; // /dev/full
    errno(sys::write_fd(&full, b"x"), Errno::NOSPC);
    Ok(())
}

fn symbolic_links(cx: &Ctx) -> Result<()> {
    let long = "y/".repeat(500); // XFS takes 1023 bytes.
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d").file("f", "f"))
        .mount()?;
    for (name, target) in [
        ("l", "f"),
        ("d/l", "../f"),
        ("abs", "/etc/passwd"),
        ("long", &long),
    ] {
        sys::symlink(target, u.at(name))?;
        assert_eq!(sys::readlink(u.at(name))?, target);
        assert_eq!(sys::readlink(u.br(0, name))?, target);
        assert_eq!(sys::lstat(u.at(name))?.st_size as usize, target.len());
        errno(sys::symlink("x", u.at(name)), Errno::EXIST);
    }
    assert_eq!(text(u.at("d/l"))?, "f");
    errno(sys::symlink("", u.at("empty")), Errno::NOENT);
    sys::drop_caches();
    assert_eq!(sys::readlink(u.at("long"))?, long);
    Ok(())
}

fn unnamed_files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d/e"))
        .mount()?;
    for dir in ["", "d/e"] {
        let before = names(u.at(dir))?;
        let fd = sys::open_mode(u.at(dir), OFlags::TMPFILE | OFlags::RDWR, 0o640)?;
        sys::write_fd(&fd, b"unnamed")?;
        assert_eq!(sys::fstat(&fd)?.st_nlink, 0);
        assert_eq!(names(u.at(dir))?, before);
        assert_eq!(sys::pread_fd(&fd)?, b"unnamed");
        let name = u.at(dir).join("named");
        sys::link_fd(&fd, &name)?;
        let stat = sys::lstat(&name)?;
        assert_eq!(
            (stat.st_nlink, sys::mode(&stat), stat.st_size),
            (1, 0o640, 7)
        );
        assert_eq!(stat.st_ino, sys::fstat(&fd)?.st_ino);
        sys::write_fd(&fd, b"!")?;
        assert_eq!(text(&name)?, "unnamed!");
        sys::link_fd(&fd, u.at(dir).join("again"))?;
        assert_eq!(sys::lstat(&name)?.st_nlink, 2);
        drop(fd);
        sys::drop_caches();
        assert_eq!(text(&name)?, "unnamed!");
    }
    Ok(())
}

fn unnamed_file_that_stays_unnamed(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/f", ""))
        .mount()?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL;
    let fd = sys::open(u.at("d"), flags)?;
    sys::write_fd(&fd, &[7; 100_000])?;
    errno(sys::link_fd(&fd, u.at("d/x")), Errno::NOENT);
    errno(sys::open(u.at("d/f"), flags), Errno::NOTDIR);
    errno(
        sys::open(u.at("d"), OFlags::TMPFILE | OFlags::RDONLY),
        Errno::INVAL,
    );
    drop(fd);
    assert_eq!(names(u.at("d"))?, set(["f"]));
    Ok(())
}

fn unnamed_file_over_lower_name(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("gone"))
        .ro(Tree::new().file("there", "low").file("gone", "low"))
        .mount()?;
    let fd = sys::open(u.root(), OFlags::TMPFILE | OFlags::RDWR)?;
    sys::write_fd(&fd, b"new")?;
    errno(sys::link_fd(&fd, u.at("there")), Errno::EXIST);
    sys::link_fd(&fd, u.at("gone"))?;
    assert_eq!(text(u.at("gone"))?, "new");
    assert!(!exists(u.br(0, ".wh.gone")));
    Ok(())
}

fn over_whiteouts(cx: &Ctx) -> Result<()> {
    let kinds = ["file", "dir", "link", "fifo", "hard", "rename"];
    let (mut up, mut low) = (Tree::new().file("src", "src"), Tree::new());
    for kind in kinds {
        up = up.whiteout(kind).whiteout(&format!("d/{kind}"));
        low = low.file(kind, "low").file(&format!("d/{kind}"), "low");
    }
    let u = cx.union().rw(up).ro(low).mount()?;
    for dir in ["", "d/"] {
        let at = |kind: &str| u.at(&format!("{dir}{kind}"));
        sys::write(at("file"), "new")?;
        sys::mkdir(at("dir"))?;
        sys::symlink("file", at("link"))?;
        sys::mknod(at("fifo"), FileType::Fifo, 0o600, 0)?;
        sys::link(u.at("src"), at("hard"))?;
        sys::write(at("tmp"), "moved")?;
        sys::rename(at("tmp"), at("rename"))?;
        for kind in kinds {
            let mark = u.br(0, &format!("{dir}.wh.{kind}"));
            assert!(!exists(&mark), "{} is still there", mark.display());
            assert!(exists(at(kind)));
        }
        assert_eq!(text(at("file"))?, "new");
        assert_eq!(text(at("hard"))?, "src");
        assert_eq!(text(at("rename"))?, "moved");
    }
    Ok(())
}

fn parents_are_copied_up(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("a")
        .mode(0o751)
        .owner(11, 12)
        .xattr("user.a", "A")
        .dir("a/b")
        .mode(0o2770)
        .owner(13, 14)
        .xattr("trusted.b", "B")
        .file("a/other", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("a/b"))?.st_ino;
    sys::write(u.at("a/b/new"), "x")?;
    for (name, mode, owner) in [("a", 0o751, (11, 12)), ("a/b", 0o2770, (13, 14))] {
        let stat = sys::lstat(u.br(0, name))?;
        assert_eq!(
            (sys::mode(&stat), stat.st_uid, stat.st_gid),
            (mode, owner.0, owner.1)
        );
    }
    assert_eq!(sys::get_xattr(u.br(0, "a"), "user.a")?, b"A");
    assert_eq!(sys::get_xattr(u.br(0, "a/b"), "trusted.b")?, b"B");
    assert_eq!(sys::lstat(u.at("a/b"))?.st_ino, ino);
    assert_eq!(
        names(u.br(0, "a"))?,
        set(["b"]),
        "siblings stay, and it is not opaque"
    );
    assert_eq!(names(u.at("a"))?, set(["b", "other"]));
    Ok(())
}

fn parents_keep_times(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("a")
        .mtime(1_000_000_001, 111_222_333)
        .dir("a/b")
        .mtime(1_000_000_002, 444_555_666)
        .file("a/b/f", "x");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let before = sys::mtime(&sys::lstat(u.at("a/b"))?);
    // Changing a file does not change its directory, though it is made on the upper branch.
    sys::append(u.at("a/b/f"), "y")?;
    for at in [u.at("a/b"), u.br(0, "a/b")] {
        assert_eq!(sys::mtime(&sys::lstat(at)?), before);
    }
    sys::write(u.at("a/b/new"), "")?;
    assert!(sys::mtime(&sys::lstat(u.at("a/b"))?) > before);
    assert_eq!(
        sys::mtime(&sys::lstat(u.at("a"))?),
        sys::mtime(&sys::lstat(u.br(1, "a"))?)
    );
    sys::drop_caches();
    assert!(
        sys::mtime(&sys::lstat(u.at("a/b"))?) > before,
        "still after eviction"
    );
    Ok(())
}

fn owner_and_umask(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().mode(0o777))
        .ro(Tree::new().dir("d").mode(0o777))
        .mount()?;
    users::as_user(1001, 1002, || -> Result<()> {
        rustix::process::umask(Mode::from_raw_mode(0o027));
        for dir in ["", "d/"] {
            let at = |name: &str| u.at(&format!("{dir}{name}"));
            sys::create(at("file"))?;
            sys::mkdir(at("dir"))?;
            sys::symlink("x", at("link"))?;
            sys::mknod(at("fifo"), FileType::Fifo, 0o666, 0)?;
            sys::mknod(at("socket"), FileType::Socket, 0o666, 0)?;
            errno(
                sys::mknod(at("char"), FileType::CharacterDevice, 0o666, sys::dev(1, 3)),
                Errno::PERM,
            );
        }
        Ok(())
    })?;
    for dir in ["", "d/"] {
        for (name, mode) in [
            ("file", 0o640),
            ("dir", 0o750),
            ("link", 0o777),
            ("fifo", 0o640),
            ("socket", 0o640),
        ] {
            let name = format!("{dir}{name}");
            for at in [u.at(&name), u.br(0, &name)] {
                let stat = sys::lstat(&at)?;
                assert_eq!((stat.st_uid, stat.st_gid), (1001, 1002), "{name}");
                assert_eq!(sys::mode(&stat), mode, "{name}");
            }
        }
    }
    Ok(())
}

fn setgid_directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d").owner(0, 4242).mode(0o2777))
        .mount()?;
    users::as_user(1001, 1002, || -> Result<()> {
        sys::open_mode(u.at("d/f"), OFlags::CREATE | OFlags::RDWR, 0o2755)?;
        sys::mkdir(u.at("d/sub"))?;
        sys::mkdir(u.at("d/sub/sub"))?;
        Ok(())
    })?;
    let file = sys::lstat(u.at("d/f"))?;
    assert_eq!(
        (file.st_uid, file.st_gid),
        (1001, 4242),
        "the directory's group"
    );
    assert_eq!(
        sys::mode(&file),
        0o755,
        "setgid is dropped for a non-member"
    );
    for name in ["d/sub", "d/sub/sub"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!(stat.st_gid, 4242);
        assert_eq!(sys::mode(&stat), 0o2755, "{name} inherits setgid");
        assert_eq!(sys::lstat(u.br(0, name))?.st_gid, 4242);
    }
    Ok(())
}

fn unprivileged_users(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("closed")
        .mode(0o755)
        .dir("own")
        .owner(1001, 1001)
        .mode(0o700);
    let low = low
        .file("own/f", "x")
        .owner(1001, 1001)
        .dir("blind")
        .mode(0o733);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::create(u.at("f")), Errno::ACCESS);
        errno(sys::create(u.at("closed/f")), Errno::ACCESS);
        errno(sys::mkdir(u.at("closed/d")), Errno::ACCESS);
        errno(sys::symlink("x", u.at("closed/l")), Errno::ACCESS);
        errno(sys::link(u.at("own/f"), u.at("closed/f")), Errno::ACCESS);
        errno(
            sys::open(u.at("closed"), OFlags::TMPFILE | OFlags::RDWR),
            Errno::ACCESS,
        );
        // Here he may, although the directory has to be copied up into a root-owned one first.
        sys::write(u.at("own/new"), "mine")?;
        sys::write(u.at("blind/new"), "mine")?;
        errno(dir::open_dir(u.at("blind")), Errno::ACCESS);
        Ok(())
    })?;
    users::as_user(1009, 1009, || {
        errno(sys::lstat(u.at("own/f")), Errno::ACCESS);
        errno(sys::create(u.at("own/x")), Errno::ACCESS);
    });
    assert!(!exists(u.br(0, "closed")), "refusals copy nothing up");
    assert_eq!(sys::lstat(u.br(0, "own"))?.st_uid, 1001);
    Ok(())
}

fn no_writable_branch(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .ro(Tree::new().file("f", "x").dir("d"))
        .ro(Tree::new().file("g", "y"))
        .mount()?;
    errno(sys::create(u.at("n")), Errno::ROFS);
    errno(sys::mkdir(u.at("d/n")), Errno::ROFS);
    errno(sys::mknod(u.at("n"), FileType::Fifo, 0o600, 0), Errno::ROFS);
    errno(sys::symlink("x", u.at("n")), Errno::ROFS);
    errno(sys::link(u.at("f"), u.at("n")), Errno::ROFS);
    errno(sys::rename(u.at("f"), u.at("n")), Errno::ROFS);
    errno(sys::unlink(u.at("f")), Errno::ROFS);
    errno(sys::rmdir(u.at("d")), Errno::ROFS);
    errno(sys::append(u.at("f"), "x"), Errno::ROFS);
    errno(sys::truncate(u.at("f"), 0), Errno::ROFS);
    errno(sys::chmod(u.at("f"), 0o600), Errno::ROFS);
    errno(sys::chown(u.at("f"), Some(1), Some(1)), Errno::ROFS);
    errno(sys::utimens(u.at("f"), (1, 1), (2, 2)), Errno::ROFS);
    errno(sys::set_xattr(u.at("f"), "user.a", "b"), Errno::ROFS);
    errno(
        sys::open(u.at("d"), OFlags::TMPFILE | OFlags::RDWR),
        Errno::ROFS,
    );
    assert_eq!(text(u.at("f"))?, "x");
    assert_eq!(names(u.root())?, set(["f", "d", "g"]));
    Ok(())
}

fn ro_mount_refuses(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "x").dir("d"))
        .ro(Tree::new())
        .read_only()
        .mount()?;
    errno(sys::create(u.at("n")), Errno::ROFS);
    errno(sys::mkdir(u.at("n")), Errno::ROFS);
    errno(sys::unlink(u.at("f")), Errno::ROFS);
    errno(sys::open_rw(u.at("f")), Errno::ROFS);
    errno(sys::chmod(u.at("f"), 0o600), Errno::ROFS);
    assert_eq!(text(u.at("f"))?, "x");
    Ok(())
}

fn in_a_removed_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("top"))
        .ro(Tree::new().dir("low"))
        .mount()?;
    for name in ["top", "low"] {
        let fd = dir::open_dir(u.at(name))?;
        sys::rmdir(u.at(name))?;
        let flags = OFlags::CREATE | OFlags::RDWR;
        let made = openat(&fd, "f", flags, Mode::from_raw_mode(0o600));
        errno(sys::on_fd("openat", made), Errno::NOENT);
        let made = rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o700));
        errno(sys::on_fd("mkdirat", made), Errno::NOENT);
        let up = rustix::fs::statat(&fd, "..", AtFlags::empty());
        assert_eq!(sys::on_fd("fstatat", up)?.st_ino, 2);
    }
    Ok(())
}

fn trailing_slashes(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "").dir("d"))
        .mount()?;
    errno(
        sys::open(u.at("n/"), OFlags::CREATE | OFlags::RDWR),
        Errno::ISDIR,
    );
    errno(sys::symlink("x", u.at("n/")), Errno::NOENT);
    errno(sys::lstat(u.at("f/")), Errno::NOTDIR);
    errno(sys::unlink(u.at("f/")), Errno::NOTDIR);
    errno(sys::rename(u.at("f"), u.at("n/")), Errno::NOTDIR);
    sys::mkdir(u.at("n/"))?;
    sys::rename(u.at("n/"), u.at("m/"))?;
    sys::rmdir(u.at("m/"))?;
    assert_eq!(names(u.root())?, set(["f", "d"]));
    Ok(())
}

fn dangling_symlinks(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .symlink("l", "target")
        .symlink("d/m", "../other");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::write(u.at("l"), "made through the link")?;
    assert_eq!(text(u.at("target"))?, "made through the link");
    sys::write(u.at("d/m"), "too")?;
    assert_eq!(text(u.at("other"))?, "too");
    errno(sys::create(u.at("l")), Errno::EXIST);
    errno(sys::mkdir(u.at("d/m")), Errno::EXIST);
    let nofollow = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::RDWR;
    errno(sys::open(u.at("l"), nofollow), Errno::LOOP);
    assert!(!exists(u.br(0, "l")), "the link itself is not copied up");
    Ok(())
}

fn sockets_and_fifos_work(cx: &Ctx) -> Result<()> {
    use std::io::{Read, Write};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().fifo("d/low").mode(0o666))
        .mount()?;
    let listener = UnixListener::bind(u.at("d/s"))?;
    let mut client = UnixStream::connect(u.at("d/s"))?;
    client.write_all(b"ping")?;
    let mut got = [0; 4];
    listener.accept()?.0.read_exact(&mut got)?;
    assert_eq!(&got, b"ping");
    drop(listener);
    errno(sys::open_ro(u.at("d/s")), Errno::NXIO);

    sys::mknod(u.at("d/top"), FileType::Fifo, 0o666, 0)?;
    for name in ["d/low", "d/top"] {
        let reader = sys::open(u.at(name), OFlags::RDONLY | OFlags::NONBLOCK)?;
        let writer = sys::open(u.at(name), OFlags::WRONLY | OFlags::NONBLOCK)?;
        sys::write_fd(&writer, b"through")?;
        drop(writer);
        assert_eq!(sys::read_fd(&reader)?, b"through");
        drop(reader);
        let alone = sys::open(u.at(name), OFlags::WRONLY | OFlags::NONBLOCK);
        errno(alone, Errno::NXIO);
    }
    assert!(
        !exists(u.br(0, "d/low")),
        "using a fifo does not copy it up"
    );
    Ok(())
}

fn exclusive_and_existing(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new()
            .file("f", "")
            .dir("d")
            .symlink("l", "nowhere")
            .fifo("p"))
        .mount()?;
    for name in ["f", "d", "l", "p"] {
        let p = u.at(name);
        errno(sys::create(&p), Errno::EXIST);
        errno(sys::mkdir(&p), Errno::EXIST);
        errno(sys::symlink("x", &p), Errno::EXIST);
        errno(sys::mknod(&p, FileType::Fifo, 0o600, 0), Errno::EXIST);
        sys::write(u.at("src"), "")?;
        errno(sys::link(u.at("src"), &p), Errno::EXIST);
    }
    let bases = set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", "src"]);
    assert_eq!(names(u.br(0, ""))?, bases, "nothing was copied up");
    Ok(())
}
