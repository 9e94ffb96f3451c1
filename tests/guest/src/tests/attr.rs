// SPDX-License-Identifier: GPL-2.0

//! Attributes: mode, owner, times, size, and the permission they give.

use std::path::Path;

use rustix::fs::{fchmod, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::harness::{prelude::*, sys::Access};

cases! {
    WRITABLE: chmod, chown, times, truncate, truncate_to_the_same_size;
    BASIC: chown_of_nothing, chown_drops_suid, symbolic_links_have_owners_and_times,
        special_files, permission_by_mode, permission_by_group, only_owners_may_change,
        access_agrees_with_open, root_directory, descriptor_opened_for_reading,
        write_drops_suid, refusals_leave_suid, truncate_errors, directories_of_lower_branches,
        attributes_after_remount, inode_flags;
}

fn low() -> Tree {
    Tree::new()
        .file("f", "0123456789")
        .mode(0o644)
        .owner(10, 20)
        .file("d/f", "0123456789")
        .mode(0o644)
        .owner(10, 20)
}

fn chmod(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(low())
        .mount()?;
    for (name, mode) in [("t", 0o4711), ("f", 0o6755), ("d/f", 0o000), ("d", 0o1777)] {
        let before = sys::lstat(u.at(name))?;
        sys::chmod(u.at(name), mode)?;
        for at in [u.at(name), u.br(0, name)] {
            let stat = sys::lstat(at)?;
            assert_eq!(sys::mode(&stat), mode, "{name}");
            assert_eq!((stat.st_uid, stat.st_gid), (before.st_uid, before.st_gid));
            assert_eq!(
                sys::mtime(&stat),
                sys::mtime(&before),
                "chmod is no modification"
            );
            assert!(sys::ctime(&stat) > sys::ctime(&before));
        }
        assert_eq!(sys::lstat(u.at(name))?.st_ino, before.st_ino);
    }
    u.again()?;
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o6755);
    assert_eq!(text(u.at("f"))?, "0123456789");
    Ok(())
}

/// Whether that changes a file that loses a bit by it is up to the file system; a copy is no reason.
fn truncate_to_the_same_size(cx: &Ctx) -> Result<()> {
    let tree = || {
        let tree = Tree::new().file("empty", "").mode(0o4755);
        tree.file("full", "full").mode(0o6755).file("none", "")
    };
    let u = cx.union().rw(Tree::new()).ro(tree()).mount()?;
    let plain = cx.dir(cx.layout.upper())?;
    tree().build(&plain)?;
    for (name, size) in [("empty", 0), ("full", 4), ("full", 3)] {
        let truncated = |path: &Path| -> Result<_> {
            let before = sys::lstat(path)?;
            sys::truncate(path, size)?;
            let after = sys::lstat(path)?;
            let moved = sys::ctime(&after) != sys::ctime(&before);
            Ok((sys::mode(&after), moved))
        };
        assert_eq!(
            truncated(&u.at(name))?,
            truncated(&plain.join(name))?,
            "{name}"
        );
    }
    u.umount()
}

fn chown(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(low())
        .mount()?;
    for name in ["t", "f", "d/f", "d"] {
        let before = sys::lstat(u.at(name))?;
        sys::chown(u.at(name), Some(4_000_000_000), None)?;
        let stat = sys::lstat(u.at(name))?;
        assert_eq!(
            (stat.st_uid, stat.st_gid),
            (4_000_000_000, before.st_gid),
            "{name}"
        );
        sys::chown(u.at(name), None, Some(70_000))?;
        for at in [u.at(name), u.br(0, name)] {
            let stat = sys::lstat(at)?;
            assert_eq!(
                (stat.st_uid, stat.st_gid),
                (4_000_000_000, 70_000),
                "{name}"
            );
        }
    }
    Ok(())
}

fn chown_of_nothing(cx: &Ctx) -> Result<()> {
    // The aufs tools give a file that was copied up its other names by this.
    let tree = low().hardlink("g", "f");
    let u = cx.union().rw(Tree::new()).ro(tree).mount()?;
    sys::chown(u.at("f"), None, None)?;
    assert!(!exists(u.br(0, "f")), "else there is nothing to do");
    sys::utimens(u.at("f"), MTIME, (7, 0))?;
    sys::chown(u.at("g"), None, None)?;
    let (f, g) = (sys::lstat(u.br(0, "f"))?, sys::lstat(u.br(0, "g"))?);
    assert_eq!((g.st_uid, g.st_gid, g.st_size), (10, 20, 10));
    assert_eq!((f.st_ino, sys::mtime(&g)), (g.st_ino, (7, 0)));
    Ok(())
}

fn times(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(low())
        .mount()?;
    for name in ["t", "f", "d/f", "d"] {
        let (atime, mtime) = ((1_234_567_890, 987_654_321), (-86_400, 5));
        sys::utimens(u.at(name), atime, mtime)?;
        for at in [u.at(name), u.br(0, name)] {
            let stat = sys::lstat(at)?;
            assert_eq!(
                (sys::atime(&stat), sys::mtime(&stat)),
                (atime, mtime),
                "{name}"
            );
        }
        let omit = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let set = |last_access, last_modification| {
            let times = Timestamps {
                last_access,
                last_modification,
            };
            let flags = rustix::fs::AtFlags::empty();
            let at = u.at(name);
            sys::at(
                "utimensat",
                &at,
                rustix::fs::utimensat(rustix::fs::CWD, &at, &times, flags),
            )
        };
        set(omit, now)?;
        let stat = sys::lstat(u.at(name))?;
        assert_eq!(sys::atime(&stat), atime, "{name}: atime was to be left");
        assert!(sys::mtime(&stat) > atime, "{name}: mtime was to be now");
        set(sys::timespec((3, 4)), omit)?;
        let after = sys::lstat(u.at(name))?;
        assert_eq!(
            sys::mtime(&after),
            sys::mtime(&stat),
            "{name}: mtime was to be left"
        );
        assert_eq!(sys::atime(&after), (3, 4));
    }
    Ok(())
}

fn truncate(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("shorter", "0123456789")
        .file("longer", "0123456789")
        .file("empty", "0123456789")
        .file("same", "0123456789")
        .file("open", "0123456789");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::truncate(u.at("shorter"), 4)?;
    assert_eq!(text(u.at("shorter"))?, "0123");
    sys::truncate(u.at("longer"), 100_000)?;
    let data = sys::read(u.at("longer"))?;
    assert_eq!((data.len(), &data[..11]), (100_000, &b"0123456789\0"[..]));
    sys::truncate(u.at("empty"), 0)?;
    assert_eq!(text(u.at("empty"))?, "");
    sys::truncate(u.at("same"), 10)?;
    assert_eq!(text(u.at("same"))?, "0123456789");
    let fd = sys::open_rw(u.at("open"))?;
    sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 2))?;
    assert_eq!(sys::pread_fd(&fd)?, b"01");
    assert_eq!(sys::fstat(&fd)?.st_size, 2);
    for name in ["shorter", "longer", "empty", "open"] {
        assert!(
            sys::mtime(&sys::lstat(u.at(name))?) > MTIME,
            "{name} was modified"
        );
        assert_eq!(
            sys::lstat(u.br(0, name))?.st_size,
            sys::lstat(u.at(name))?.st_size
        );
    }
    Ok(())
}

/// What the file system does not know it refuses before anything else.
fn refusals_leave_suid(cx: &Ctx) -> Result<()> {
    use rustix::fs::{fallocate, ioctl_ficlone, FallocateFlags};
    let file = Tree::new().file("f", "data").mode(0o6777);
    let u = cx.union().rw(file.file("source", "more")).mount()?;
    users::as_user(9, 9, || -> Result<()> {
        let f = sys::open(u.at("f"), OFlags::RDWR)?;
        let source = sys::open_ro(u.at("source"))?;
        assert_eq!(ioctl_ficlone(&f, &source), Err(Errno::OPNOTSUPP));
        let unshare = fallocate(&f, FallocateFlags::UNSHARE_RANGE, 0, 4);
        assert_eq!(unshare, Err(Errno::OPNOTSUPP));
        assert_eq!(sys::mode(&sys::fstat(&f)?), 0o6777);
        sys::on_fd(
            "fallocate",
            fallocate(&f, FallocateFlags::empty(), 0, 10000),
        )?;
        assert_eq!(sys::mode(&sys::fstat(&f)?), 0o777);
        Ok(())
    })
}

fn truncate_errors(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "x")
        .mode(0o644)
        .dir("d")
        .symlink("l", "f")
        .fifo("p");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    errno(sys::truncate(u.at("d"), 0), Errno::ISDIR);
    errno(sys::truncate(u.at("p"), 0), Errno::INVAL);
    errno(sys::truncate(u.at("absent"), 0), Errno::NOENT);
    let fd = sys::open_ro(u.at("f"))?;
    errno(
        sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 0)),
        Errno::INVAL,
    );
    users::as_user(1001, 1001, || {
        errno(sys::truncate(u.at("f"), 0), Errno::ACCESS)
    });
    assert_eq!(text(u.at("f"))?, "x");
    sys::truncate(u.at("l"), 0)?;
    assert_eq!(text(u.at("f"))?, "", "the link was followed");
    Ok(())
}

fn chown_drops_suid(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "")
        .mode(0o6755)
        .owner(1001, 1001)
        .file("r", "")
        .mode(0o6755)
        .dir("d")
        .mode(0o2755);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_member(1001, 1001, &[1005], || {
        sys::chown(u.at("f"), None, Some(1005))
    })?;
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o755);
    assert_eq!(sys::lstat(u.at("f"))?.st_gid, 1005);
    sys::chown(u.at("r"), Some(5), Some(5))?;
    assert_eq!(sys::mode(&sys::lstat(u.at("r"))?), 0o755, "also by root");
    sys::chown(u.at("d"), Some(5), Some(5))?;
    assert_eq!(
        sys::mode(&sys::lstat(u.at("d"))?),
        0o2755,
        "but not of a directory"
    );
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "r"))?), 0o755);
    Ok(())
}

fn write_drops_suid(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("w", "x")
        .mode(0o6777)
        .file("t", "x")
        .mode(0o4777)
        .file("root", "x")
        .mode(0o4777);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        sys::append(u.at("w"), "y")?;
        sys::truncate(u.at("t"), 0)?;
        Ok(())
    })?;
    assert_eq!(sys::mode(&sys::lstat(u.at("w"))?), 0o777);
    assert_eq!(sys::mode(&sys::lstat(u.at("t"))?), 0o777);
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "w"))?), 0o777);
    sys::append(u.at("root"), "y")?;
    assert_eq!(
        sys::mode(&sys::lstat(u.at("root"))?),
        0o4777,
        "root keeps it"
    );
    Ok(())
}

fn symbolic_links_have_owners_and_times(cx: &Ctx) -> Result<()> {
    let low = Tree::new().symlink("l", "nowhere").owner(1, 2);
    let mut u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("l"))?.st_ino;
    sys::chown(u.at("l"), Some(33), None)?;
    sys::utimens(u.at("l"), (5, 6), (7, 8))?;
    for at in [u.at("l"), u.br(0, "l")] {
        let stat = sys::lstat(&at)?;
        assert_eq!(
            (stat.st_uid, stat.st_gid, sys::mtime(&stat)),
            (33, 2, (7, 8))
        );
        assert_eq!(sys::readlink(&at)?, "nowhere");
    }
    assert_eq!(sys::lstat(u.at("l"))?.st_ino, ino);
    u.again()?;
    assert_eq!(sys::lstat(u.at("l"))?.st_uid, 33);
    Ok(())
}

fn special_files(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .fifo("fifo")
        .node("null", FileType::CharacterDevice, sys::dev(1, 3))
        .node("socket", FileType::Socket, 0);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for name in ["fifo", "null", "socket"] {
        let before = sys::lstat(u.at(name))?;
        sys::chmod(u.at(name), 0o666)?;
        sys::chown(u.at(name), Some(9), Some(9))?;
        sys::utimens(u.at(name), (1, 2), (3, 4))?;
        for at in [u.at(name), u.br(0, name)] {
            let stat = sys::lstat(at)?;
            assert_eq!(sys::kind(&stat), sys::kind(&before), "{name}");
            assert_eq!((stat.st_rdev, stat.st_uid), (before.st_rdev, 9), "{name}");
            assert_eq!(
                (sys::mode(&stat), sys::mtime(&stat)),
                (0o666, (3, 4)),
                "{name}"
            );
        }
        assert_eq!(sys::lstat(u.at(name))?.st_ino, before.st_ino);
    }
    sys::write_fd(sys::open_rw(u.at("null"))?, b"swallowed")?;
    // What goes through a pipe leaves no mark on a branch.
    let pipe = sys::open_rw(u.at("fifo"))?;
    sys::write_fd(&pipe, b"through")?;
    let mut buf = [0; 7];
    assert_eq!(rustix::io::read(&pipe, &mut buf)?, 7);
    let stat = sys::lstat(u.at("fifo"))?;
    assert_eq!((sys::atime(&stat), sys::mtime(&stat)), ((1, 2), (3, 4)));
    Ok(())
}

fn permission_by_mode(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("secret", "s")
        .mode(0o600)
        .file("readable", "r")
        .mode(0o644)
        .file("writable", "w")
        .mode(0o666)
        .file("blind", "b")
        .mode(0o222)
        .dir("locked")
        .mode(0o700)
        .file("locked/f", "")
        .dir("pass")
        .mode(0o711)
        .file("pass/f", "p");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::chmod(u.at("locked"), 0o700)?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::open_ro(u.at("secret")), Errno::ACCESS);
        errno(sys::open_rw(u.at("readable")), Errno::ACCESS);
        assert_eq!(text(u.at("readable"))?, "r");
        sys::append(u.at("writable"), "+")?;
        errno(sys::open_ro(u.at("blind")), Errno::ACCESS);
        sys::append(u.at("blind"), "+")?;
        errno(sys::lstat(u.at("locked/f")), Errno::ACCESS);
        errno(dir::open_dir(u.at("locked")), Errno::ACCESS);
        assert_eq!(text(u.at("pass/f"))?, "p");
        errno(sys::create(u.at("pass/new")), Errno::ACCESS);
        Ok(())
    })?;
    // Both checks follow the union's own mode after a change.
    sys::chmod(u.at("secret"), 0o604)?;
    users::as_user(1001, 1001, || text(u.at("secret")))?;
    sys::chmod(u.at("readable"), 0o600)?;
    users::as_user(1001, 1001, || {
        errno(sys::open_ro(u.at("readable")), Errno::ACCESS)
    });
    assert_eq!(text(u.at("blind"))?, "b+");
    Ok(())
}

fn permission_by_group(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "x")
        .mode(0o060)
        .owner(0, 2000)
        .dir("d")
        .mode(0o2770)
        .owner(0, 2000)
        .file("mine", "x")
        .mode(0o077)
        .owner(1001, 2000);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || {
        errno(sys::open_rw(u.at("f")), Errno::ACCESS);
        errno(sys::create(u.at("d/x")), Errno::ACCESS);
        errno(sys::open_ro(u.at("mine")), Errno::ACCESS); // The owner class decides.
    });
    users::as_member(1001, 1001, &[1500, 2000], || -> Result<()> {
        sys::append(u.at("f"), "+")?;
        sys::create(u.at("d/x"))?;
        Ok(())
    })?;
    assert_eq!(sys::lstat(u.at("d/x"))?.st_gid, 2000);
    Ok(())
}

fn only_owners_may_change(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("other", "x")
        .mode(0o666)
        .owner(1002, 1002)
        .file("own", "x")
        .owner(1001, 1001);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::chmod(u.at("other"), 0o600), Errno::PERM);
        errno(sys::chown(u.at("other"), Some(1001), None), Errno::PERM);
        errno(sys::utimens(u.at("other"), (1, 1), (1, 1)), Errno::PERM);
        errno(sys::chown(u.at("own"), Some(1002), None), Errno::PERM);
        errno(sys::chown(u.at("own"), None, Some(3000)), Errno::PERM);
        sys::chmod(u.at("own"), 0o400)?;
        sys::utimens(u.at("own"), (1, 1), (1, 1))?;
        Ok(())
    })?;
    assert!(!exists(u.br(0, "other")), "refusals copy nothing up");
    assert_eq!(sys::lstat(u.br(0, "own"))?.st_uid, 1001);
    Ok(())
}

fn access_agrees_with_open(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("r", "")
        .mode(0o644)
        .file("x", "")
        .mode(0o711)
        .file("none", "")
        .mode(0o600);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        sys::access(u.at("r"), Access::READ_OK)?;
        errno(sys::access(u.at("r"), Access::WRITE_OK), Errno::ACCESS);
        errno(sys::access(u.at("r"), Access::EXEC_OK), Errno::ACCESS);
        sys::access(u.at("x"), Access::EXEC_OK)?;
        errno(sys::access(u.at("none"), Access::READ_OK), Errno::ACCESS);
        sys::access(u.at("none"), Access::EXISTS)?;
        Ok(())
    })?;
    sys::access(u.at("r"), Access::WRITE_OK)?;
    errno(sys::access(u.at("r"), Access::EXEC_OK), Errno::ACCESS);
    Ok(())
}

fn root_directory(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().mode(0o700))
        .mount()?;
    sys::chmod(u.root(), 0o1751)?;
    sys::chown(u.root(), Some(12), Some(13))?;
    sys::utimens(u.root(), (1, 2), (3, 4))?;
    u.again()?;
    let stat = sys::lstat(u.root())?;
    assert_eq!(
        (sys::mode(&stat), stat.st_uid, stat.st_gid),
        (0o1751, 12, 13)
    );
    assert_eq!(
        sys::mtime(&stat),
        (3, 4),
        "mounting changes no visible time"
    );
    Ok(())
}

fn descriptor_opened_for_reading(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    sys::on_fd("fchmod", fchmod(&fd, Mode::from_raw_mode(0o751)))?;
    assert_eq!(sys::mode(&sys::fstat(&fd)?), 0o751);
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o751);
    sys::chown(u.at("f"), Some(77), None)?;
    assert_eq!(sys::fstat(&fd)?.st_uid, 77);
    sys::write(u.at("f"), "longer than it was before")?;
    assert_eq!(sys::fstat(&fd)?.st_size, 25);
    assert_eq!(sys::pread_fd(&fd)?, b"longer than it was before");
    Ok(())
}

fn directories_of_lower_branches(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new()
            .dir("d")
            .mode(0o700)
            .owner(1, 1)
            .file("d/mid", ""))
        .ro(Tree::new()
            .dir("d")
            .mode(0o777)
            .owner(2, 2)
            .file("d/low", ""))
        .mount()?;
    let stat = sys::lstat(u.at("d"))?;
    assert_eq!(
        (sys::mode(&stat), stat.st_uid),
        (0o700, 1),
        "the topmost one's"
    );
    sys::chmod(u.at("d"), 0o755)?;
    assert_eq!(names(u.at("d"))?, set(["mid", "low"]), "still merged");
    // Only the topmost instance decides (aufs: dirperm1), so a lower 0700 does not matter now.
    let seen = users::as_user(1001, 1001, || names(u.at("d")))?;
    assert_eq!(seen, set(["mid", "low"]));
    Ok(())
}

fn attributes_after_remount(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    sys::chmod(u.at("f"), 0o4755)?;
    sys::chown(u.at("d"), Some(99), Some(98))?;
    sys::utimens(u.at("d/f"), (1, 2), (3, 4))?;
    u.again()?;
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o4755);
    assert_eq!(sys::lstat(u.at("d"))?.st_uid, 99);
    assert_eq!(sys::mtime(&sys::lstat(u.at("d/f"))?), (3, 4));
    Ok(())
}

fn inode_flags(cx: &Ctx) -> Result<()> {
    use rustix::fs::{ioctl_getflags, ioctl_setflags, IFlags};
    // chattr on the union's file does what it does on the branch, and is enforced.
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(Tree::new())
        .mount()?;
    let fd = sys::open_ro(u.at("t"))?;
    let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    sys::on_fd(
        "FS_IOC_SETFLAGS",
        ioctl_setflags(&fd, flags | IFlags::IMMUTABLE),
    )?;
    let now = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    assert!(now.contains(IFlags::IMMUTABLE));
    errno(sys::open_rw(u.at("t")), Errno::PERM);
    errno(sys::unlink(u.at("t")), Errno::PERM);
    errno(sys::chmod(u.at("t"), 0o600), Errno::PERM);
    sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, flags))?;
    sys::append(u.at("t"), "+")?;
    Ok(())
}
