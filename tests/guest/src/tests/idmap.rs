// SPDX-License-Identifier: GPL-2.0

//! Mapped ids: idmapped mounts of a union, user namespaces.
//! What is done through them is compared with an idmapped mount of a plain directory.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use crate::harness::{
    acl::acl,
    compare::{as_native_through, said, Op},
    idmap::{UserNs, BASE},
    prelude::*,
    sys::Res,
};

cases! {
    BASIC: mapped_union, owners_on_the_branch;
    ONCE: mount_in_a_user_namespace;
}

/// Users: mapped ones, one who is not mapped, and root.
const ACTORS: [(u32, u32); 5] = [
    (BASE + 1001, BASE + 1001),
    (BASE + 1003, BASE + 1001),
    (BASE, BASE),
    (1001, 1001),
    (0, 0),
];

type Action = (&'static str, fn(&Path) -> Res<String>);

fn done<T>(result: Res<T>) -> Res<String> {
    result.map(|_| "done".to_owned())
}

/// Access for one more user.
fn acl_for(id: u32) -> Vec<u8> {
    acl(&[
        (1, 7, !0),
        (2, 6, id),
        (4, 5, !0),
        (8, 7, id + 1),
        (16, 7, !0),
        (32, 0, !0),
    ])
}

const ACTIONS: &[Action] = &[
    ("stat", |d| {
        let stat = sys::lstat(d.join("f"))?;
        Ok(format!(
            "{:o} {} {}",
            stat.st_mode, stat.st_uid, stat.st_gid
        ))
    }),
    ("read", |d| sys::text(d.join("f"))),
    ("read of a closed one", |d| sys::text(d.join("closed"))),
    ("read by an ACL", |d| sys::text(d.join("acl"))),
    ("the ACL", |d| {
        sys::get_xattr(d.join("acl"), "system.posix_acl_access").map(|acl| format!("{acl:?}"))
    }),
    ("write", |d| done(sys::append(d.join("f"), "x"))),
    ("write by an ACL", |d| done(sys::append(d.join("acl"), "x"))),
    ("truncate", |d| done(sys::truncate(d.join("f"), 1))),
    ("chmod", |d| done(sys::chmod(d.join("f"), 0o2751))),
    ("chown to nobody of the map", |d| {
        done(sys::chown(d.join("f"), Some(5), None))
    }),
    ("chown", |d| {
        done(sys::chown(d.join("f"), Some(BASE + 7), Some(BASE + 8)))
    }),
    ("chgrp", |d| {
        done(sys::chown(d.join("f"), None, Some(BASE + 1001)))
    }),
    ("utimes", |d| {
        done(sys::utimens(d.join("f"), (1, 2), (3, 4)))
    }),
    ("setxattr", |d| {
        done(sys::set_xattr(d.join("f"), "user.a", "b"))
    }),
    ("setfacl", |d| {
        let name = "system.posix_acl_access";
        done(sys::set_xattr(d.join("f"), name, acl_for(BASE + 1003)))?;
        sys::get_xattr(d.join("f"), name).map(|acl| format!("{acl:?}"))
    }),
    ("setfacl for nobody of the map", |d| {
        done(sys::set_xattr(
            d.join("f"),
            "system.posix_acl_access",
            acl_for(5),
        ))
    }),
    ("create", |d| done(sys::create(d.join("new")))),
    ("mkdir", |d| done(sys::mkdir(d.join("new")))),
    ("mkdir below a default ACL", |d| {
        done(sys::mkdir(d.join("dir/new")))
    }),
    ("create below a default ACL", |d| {
        done(sys::create(d.join("dir/new")))
    }),
    ("symlink", |d| done(sys::symlink("x", d.join("new")))),
    ("mkfifo", |d| {
        done(sys::mknod(d.join("new"), FileType::Fifo, 0o600, 0))
    }),
    ("unnamed", |d| {
        let fd = sys::open_mode(d, OFlags::TMPFILE | OFlags::RDWR, 0o6755)?;
        let stat = sys::fstat(&fd)?;
        let linked = said(sys::link_fd(&fd, d.join("new")));
        Ok(format!(
            "{:o} {} {} {linked}",
            stat.st_mode, stat.st_uid, stat.st_gid
        ))
    }),
    ("link", |d| done(sys::link(d.join("f"), d.join("new")))),
    ("rename", |d| done(sys::rename(d.join("f"), d.join("new")))),
    ("unlink", |d| done(sys::unlink(d.join("f")))),
    ("unlink in a sticky directory", |d| {
        done(sys::unlink(d.join("sticky/f")))
    }),
    ("set a capability", |d| {
        let mut capability = vec![1, 0, 0, 2, 0, 0x20];
        capability.resize(20, 0);
        done(sys::set_xattr(
            d.join("f"),
            "security.capability",
            capability,
        ))
    }),
    ("access", |d| {
        let how = [
            sys::Access::READ_OK,
            sys::Access::WRITE_OK,
            sys::Access::EXEC_OK,
        ];
        let names = ["f", "closed", "acl", "sticky", "dir"];
        let all = names.map(|name| how.map(|how| said(sys::access(d.join(name), how))));
        Ok(format!("{all:?}"))
    }),
];

fn table() -> Vec<Op> {
    let mut ops = Vec::new();
    for (uid, gid) in ACTORS {
        for &(name, run) in ACTIONS {
            ops.push(Op {
                name: format!("{name} by {uid}:{gid}"),
                tree: Box::new(|tree, at| {
                    tree.file(&format!("{at}f"), "text")
                        .mode(0o6754)
                        .owner(1001, 1001)
                        .file(&format!("{at}closed"), "closed")
                        .mode(0o600)
                        .owner(1003, 1003)
                        .file(&format!("{at}acl"), "acl")
                        .mode(0o600)
                        .xattr("system.posix_acl_access", acl_for(1001))
                        .dir(&format!("{at}sticky"))
                        .mode(0o1777)
                        .file(&format!("{at}sticky/f"), "")
                        .owner(1003, 1003)
                        .dir(&format!("{at}dir"))
                        .mode(0o2777)
                        .owner(0, 1005)
                        .xattr("system.posix_acl_default", acl_for(1009))
                }),
                run: Box::new(move |at| match uid {
                    0 => said(run(at)),
                    _ => users::as_user(uid, gid, || said(run(at))),
                }),
            });
        }
    }
    ops
}

fn mapped_union(cx: &Ctx) -> Result<()> {
    as_native_through(cx, &table(), &UserNs::new()?)
}

fn owners_on_the_branch(cx: &Ctx) -> Result<()> {
    let ns = UserNs::new()?;
    let u = cx
        .union()
        .rw(Tree::new().mode(0o777))
        .ro(Tree::new().file("f", "x").owner(1001, 1002))
        .mount()?;
    let mapped = ns.mount(cx, u.root())?;
    let stat = sys::lstat(mapped.root().join("f"))?;
    assert_eq!((stat.st_uid, stat.st_gid), (BASE + 1001, BASE + 1002));
    users::as_user(BASE + 1001, BASE + 1002, || -> Result<()> {
        sys::chmod(mapped.root().join("f"), 0o600)?;
        sys::write(mapped.root().join("new"), "")?;
        Ok(())
    })?;
    for name in ["f", "new"] {
        let stat = sys::lstat(u.br(0, name))?;
        assert_eq!(
            (stat.st_uid, stat.st_gid),
            (1001, 1002),
            "{name} on the branch"
        );
        assert_eq!(sys::lstat(u.at(name))?.st_uid, 1001, "{name} without a map");
    }
    drop(mapped);
    Ok(())
}

fn mount_in_a_user_namespace(cx: &Ctx) -> Result<()> {
    let low = cx.branch(Kind::Tmpfs, "ro", &Tree::new())?;
    let target = cx.mount_point()?;
    let mut command = Command::new("mount");
    command
        .args(["-i", "-t", "ruaufs", "-o"])
        .arg(format!("br={}=ro", low.display()))
        .arg("none")
        .arg(&target);
    // SAFETY: the child has one thread, and only makes system calls.
    unsafe {
        command.pre_exec(|| {
            match libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) {
                0 => {}
                _ => return Err(std::io::Error::last_os_error()),
            }
            // Root in there, with all capabilities over the name space of mounts.
            std::fs::write("/proc/self/uid_map", "0 0 1")
        })
    };
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it is refused");
    assert!(
        said.contains("permission denied") || said.contains("not permitted"),
        "{said}"
    );
    Ok(())
}
