// SPDX-License-Identifier: GPL-2.0

//! What changes nothing, or is refused, copies nothing up; what a copy costs is charged to who
//! asked for it.

use std::{path::Path, process::Command};

use rustix::fs::{ioctl_getflags, ioctl_setflags, XattrFlags};

use crate::harness::{acl::acl, prelude::*, scratch};

cases! {
    BASIC: same_as_before, refused, set_id_bits, charged_to_the_caller;
}

const OWNER: u32 = 1000;
const STRANGER: u32 = 1001;
const ACL: &str = "system.posix_acl_access";

fn entries() -> Vec<u8> {
    let none = u32::MAX;
    acl(&[
        (1, 6, none),
        (2, 4, STRANGER),
        (4, 4, none),
        (16, 4, none),
        (32, 0, none),
    ])
}

/// A file and a directory with all attributes, on a branch that is not written.
fn place(cx: &Ctx) -> Result<Union> {
    let low = Tree::new()
        .file("f", "data")
        .mode(0o640)
        .owner(OWNER, OWNER)
        .dir("d")
        .owner(OWNER, OWNER);
    let b = cx.branch(cx.layout.upper(), "ro", &low)?;
    sys::set_xattr(b.join("f"), "user.a", "value")?;
    sys::set_xattr(b.join("f"), ACL, entries())?;
    cx.changed_by_hand(&b)?;
    cx.union().rw(Tree::new()).at(&b, "ro").mount()
}

type Op = (&'static str, fn(&Path) -> sys::Res<()>);

fn same_mode(path: &Path) -> sys::Res<()> {
    sys::chmod(path, sys::mode(&sys::lstat(path)?))
}

fn same_times(path: &Path) -> sys::Res<()> {
    let stat = sys::lstat(path)?;
    sys::utimens(path, sys::atime(&stat), sys::mtime(&stat))
}

fn same_flags(path: &Path) -> sys::Res<()> {
    let fd = sys::open_ro(path)?;
    let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, flags))
}

const SAME: [Op; 5] = [
    ("no owner", |path| sys::chown(path, None, None)),
    ("the owner", |path| {
        sys::chown(path, Some(OWNER), Some(OWNER))
    }),
    ("the mode", same_mode),
    ("the times", same_times),
    ("the flags", same_flags),
];

const SAME_OF_FILE: [Op; 3] = [
    ("an attribute", |path| {
        sys::set_xattr(path, "user.a", "value")
    }),
    ("an attribute that is there", |path| {
        sys::set_xattr_with(path, "user.a", "value", XattrFlags::REPLACE)
    }),
    ("the ACL", |path| sys::set_xattr(path, ACL, entries())),
];

fn same_as_before(cx: &Ctx) -> Result<()> {
    let u = place(cx)?;
    let before = (sys::lstat(u.br(1, "f"))?, sys::lstat(u.br(1, "d"))?);
    for (name, ops) in [("f", &SAME[..]), ("d", &SAME), ("f", &SAME_OF_FILE)] {
        for (what, op) in ops {
            op(&u.at(name)).with_context(|| format!("{name}: {what}"))?;
            assert!(!exists(u.br(0, name)), "{name}: {what}");
        }
    }
    let stranger = users::as_user(STRANGER, STRANGER, || sys::chown(u.at("f"), None, None));
    stranger.context("anybody may change nothing")?;
    assert!(!exists(u.br(0, "f")));
    for (name, stat) in [("f", before.0), ("d", before.1)] {
        let shown = sys::lstat(u.at(name))?;
        assert_eq!(
            (sys::ctime(&shown), sys::mtime(&shown)),
            (sys::ctime(&stat), sys::mtime(&stat))
        );
    }
    // On a branch that is written they are what they are on a file system.
    sys::write(u.at("new"), "data")?;
    let made = sys::ctime(&sys::lstat(u.at("new"))?);
    std::thread::sleep(std::time::Duration::from_millis(20));
    same_mode(&u.at("new"))?;
    assert!(sys::ctime(&sys::lstat(u.at("new"))?) > made);
    // What changes something copies.
    sys::chmod(u.at("f"), 0o600)?;
    sys::utimens(u.at("d"), MTIME, (MTIME.0 + 1, 0))?;
    assert!(exists(u.br(0, "f")) && exists(u.br(0, "d")));
    assert_eq!(sys::get_xattr(u.at("f"), "user.a")?, b"value");
    u.umount()
}

fn refused(cx: &Ctx) -> Result<()> {
    let u = place(cx)?;
    let f = u.at("f");
    errno(sys::remove_xattr(&f, "user.none"), Errno::NODATA);
    let create = sys::set_xattr_with(&f, "user.a", "other", XattrFlags::CREATE);
    errno(create, Errno::EXIST);
    let replace = sys::set_xattr_with(&f, "user.none", "other", XattrFlags::REPLACE);
    errno(replace, Errno::NODATA);
    let tries: [(Errno, Op); 8] = [
        (Errno::PERM, ("chmod", |path| sys::chmod(path, 0o777))),
        (Errno::PERM, ("chmod to the same", same_mode)),
        (
            Errno::PERM,
            ("chown", |path| sys::chown(path, Some(STRANGER), None)),
        ),
        (
            Errno::PERM,
            ("utimens", |path| sys::utimens(path, MTIME, (1, 0))),
        ),
        (
            Errno::ACCESS,
            ("setxattr", |path| sys::set_xattr(path, "user.a", "other")),
        ),
        (
            Errno::PERM,
            ("setfacl", |path| sys::set_xattr(path, ACL, entries())),
        ),
        (Errno::ACCESS, ("truncate", |path| sys::truncate(path, 0))),
        (
            Errno::ACCESS,
            ("open", |path| sys::open(path, OFlags::WRONLY).map(drop)),
        ),
    ];
    users::as_user(STRANGER, STRANGER, || {
        for (wanted, (what, op)) in tries {
            let error = op(&f).expect_err(what);
            assert_eq!(error.errno, wanted, "{what}");
        }
    });
    assert!(!exists(u.br(0, "f")));
    u.umount()
}

/// They go, as on a file system, and that is a change.
fn set_id_bits(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "data")
        .mode(0o4755)
        .owner(OWNER, OWNER);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let stranger = users::as_user(STRANGER, STRANGER, || sys::chown(u.at("f"), None, None));
    errno(stranger, Errno::PERM);
    assert!(!exists(u.br(0, "f")));
    users::as_user(OWNER, OWNER, || sys::chown(u.at("f"), None, None))?;
    for path in [u.at("f"), u.br(0, "f")] {
        assert_eq!(sys::mode(&sys::lstat(path)?), 0o755);
    }
    u.umount()
}

/// A thread of the kernel makes the copy, as it is larger than the caller may make files.
fn charged_to_the_caller(cx: &Ctx) -> Result<()> {
    const SIZE: usize = 16 << 20;
    let low = Tree::new().file("f", vec![1u8; SIZE]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let groups = scratch::base().join("cgroup2");
    sys::mkdir(&groups)?;
    scratch::mount("cgroup2", "cgroup2", &groups, "")?;
    let group = groups.join("ruaufs");
    std::fs::write(groups.join("cgroup.subtree_control"), "+memory")?;
    sys::mkdir(&group)?;
    let script = "echo $$ > $0/cgroup.procs && ulimit -f 1024 && : >> $1";
    let status = Command::new("bash")
        .args(["-c", script])
        .args([&group, &u.at("f")])
        .status()?;
    let stat = std::fs::read_to_string(group.join("memory.stat"))?;
    let file = stat.lines().find_map(|line| line.strip_prefix("file "));
    let file: usize = file.context("no line \"file\"")?.parse()?;
    sys::rmdir(&group)?;
    std::fs::write(groups.join("cgroup.subtree_control"), "-memory")?;
    scratch::umount(&groups)?;
    sys::rmdir(&groups)?;
    assert!(status.success(), "{status}");
    assert_eq!(sys::lstat(u.br(0, "f"))?.st_size as usize, SIZE);
    assert!(file >= SIZE, "{file} bytes are charged");
    u.umount()
}
