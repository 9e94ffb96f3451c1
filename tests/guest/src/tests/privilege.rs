// SPDX-License-Identifier: GPL-2.0

//! Set-id bits and capabilities of files: who loses them, and by what. Compared with a plain
//! directory of the same file system, one by one.

use std::path::Path;

use rustix::fs::{FallocateFlags, Timestamps};

use crate::harness::{
    acl::acl,
    compare::{as_native, said, Op},
    prelude::*,
    sys::Res,
};

/// The file system that everybody is compared with.
const EXT4: &[Layout] = &[Layout::Ext4];

// The rules are the VFS's, and nearly all the same on all file systems; each case costs a copy-up,
// which on a disk waits for the journal.
cases! {
    WRITABLE: of_allocated_space;
    EXT4: of_changed_data, under_protection;
    ONCE: of_changed_attributes, of_new_objects, of_directories;
}

/// Who does it: user, group, supplementary groups. User 0 keeps its capabilities.
type Actor = (&'static str, u32, u32, &'static [u32]);

const ROOT: Actor = ("root", 0, 0, &[]);
const OWNER: Actor = ("owner", 1001, 1001, &[1005]);
const STRANGER: Actor = ("owner out of group", 1001, 1002, &[]);
const OTHER: Actor = ("another user", 1003, 1001, &[]);
const ACTORS: [Actor; 4] = [ROOT, OWNER, STRANGER, OTHER];

fn act<T: Send>((_, uid, gid, groups): Actor, f: impl FnOnce() -> T + Send) -> T {
    match uid {
        0 => f(),
        _ => users::as_member(uid, gid, groups, f),
    }
}

/// `cap_net_raw+ep` as setcap(8) stores it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

const MODES: [u32; 3] = [0o6777, 0o2766, 0o777];

type Action = (&'static str, fn(&Path) -> Res<String>);

fn table(modes: &[u32], actors: &[Actor], actions: &[Action]) -> Vec<Op> {
    let mut ops = Vec::new();
    for &mode in modes {
        for &actor in actors {
            for &(name, run) in actions {
                ops.push(Op {
                    name: format!("{name} of mode {mode:o} by {}", actor.0),
                    tree: Box::new(move |tree, at| {
                        let tree = tree
                            .file(&format!("{at}f"), "0123456789")
                            .mode(mode)
                            .owner(1001, 1001);
                        let tree = match mode {
                            0o777 => tree.xattr("security.capability", CAPABILITY),
                            _ => tree,
                        };
                        tree.file(&format!("{at}source"), "source")
                    }),
                    run: Box::new(move |at| act(actor, || said(run(&at.join("f"))))),
                });
            }
        }
    }
    ops
}

fn done<T>(result: Res<T>) -> Res<String> {
    result.map(|_| "done".to_owned())
}

fn of_changed_data(cx: &Ctx) -> Result<()> {
    let actions: &[Action] = &[
        ("write", |f| done(sys::write_fd(sys::open_rw(f)?, b"x"))),
        ("write of nothing", |f| {
            let fd = sys::open_rw(f)?;
            done(sys::on_fd("write", rustix::io::write(&fd, &[])))
        }),
        ("append", |f| done(sys::append(f, "x"))),
        ("open and close", |f| done(sys::open_rw(f))),
        ("open with O_TRUNC", |f| {
            done(sys::open(f, OFlags::WRONLY | OFlags::TRUNC))
        }),
        ("open for reading with O_TRUNC", |f| {
            done(sys::open(f, OFlags::TRUNC))
        }),
        ("truncate", |f| done(sys::truncate(f, 3))),
        ("truncate to the same size", |f| done(sys::truncate(f, 10))),
        ("ftruncate", |f| {
            let fd = sys::open_rw(f)?;
            done(sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 20)))
        }),
        ("fallocate", |f| {
            let fd = sys::open_rw(f)?;
            let none = FallocateFlags::empty();
            done(sys::on_fd(
                "fallocate",
                rustix::fs::fallocate(&fd, none, 0, 50),
            ))
        }),
        ("copy_file_range", |f| {
            let (to, from) = (sys::open_rw(f)?, sys::open_ro(f.with_file_name("source"))?);
            let n = rustix::fs::copy_file_range(&from, None, &to, None, 6);
            done(sys::on_fd("copy_file_range", n))
        }),
        ("sendfile", |f| {
            let (to, from) = (sys::open_rw(f)?, sys::open_ro(f.with_file_name("source"))?);
            done(sys::on_fd(
                "sendfile",
                rustix::fs::sendfile(&to, &from, None, 6),
            ))
        }),
        ("splice", |f| {
            let (out, into) = sys::on_fd("pipe", rustix::pipe::pipe())?;
            sys::write_fd(&into, b"abc")?;
            let to = sys::open_rw(f)?;
            let flags = rustix::pipe::SpliceFlags::empty();
            let n = rustix::pipe::splice(&out, None, &to, None, 3, flags);
            done(sys::on_fd("splice", n))
        }),
        ("write by a descriptor of root's", |f| {
            done(sys::write_fd(sys::open_rw(f)?, b"x")).and_then(|_| done(sys::append(f, "y")))
        }),
    ];
    as_native(cx, &table(&MODES, &[ROOT, OWNER, OTHER], actions))
}

/// Some file systems take what changes nothing for no change.
fn of_allocated_space(cx: &Ctx) -> Result<()> {
    fn fallocate(f: &Path, mode: FallocateFlags, offset: u64, len: u64) -> Res<String> {
        let fd = sys::open_rw(f)?;
        let result = rustix::fs::fallocate(&fd, mode, offset, len);
        done(sys::on_fd("fallocate", result))
    }
    const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
    let actions: &[Action] = &[
        ("hole in data", |f| fallocate(f, HOLE, 2, 5)),
        ("hole behind the end", |f| fallocate(f, HOLE, 8640, 154)),
        ("hole in a hole", |f| {
            done(sys::truncate(f, 1 << 20))?;
            let mode = sys::mode(&sys::lstat(f)?);
            sys::chmod(f, mode | 0o2000)?;
            fallocate(f, HOLE, 1 << 16, 1 << 16)
        }),
        ("space that is there", |f| {
            fallocate(f, FallocateFlags::KEEP_SIZE, 0, 5)
        }),
        ("zeros", |f| {
            let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            fallocate(f, zero, 0, 5)
        }),
        ("odd collapse", |f| {
            fallocate(f, FallocateFlags::COLLAPSE_RANGE, 1, 3)
        }),
    ];
    as_native(cx, &table(&MODES, &[ROOT, OWNER], actions))
}

fn of_changed_attributes(cx: &Ctx) -> Result<()> {
    let actions: &[Action] = &[
        ("chown of nothing", |f| done(sys::chown(f, None, None))),
        ("chown to the same", |f| {
            done(sys::chown(f, Some(1001), Some(1001)))
        }),
        ("chgrp", |f| done(sys::chown(f, None, Some(1005)))),
        ("chgrp to a foreign group", |f| {
            done(sys::chown(f, None, Some(77)))
        }),
        ("chown", |f| done(sys::chown(f, Some(1009), None))),
        ("chmod to the same", |f| {
            let mode = sys::mode(&sys::lstat(f)?);
            done(sys::chmod(f, mode))
        }),
        ("chmod 6755", |f| done(sys::chmod(f, 0o6755))),
        ("chmod 2755", |f| done(sys::chmod(f, 0o2755))),
        ("chmod 2745", |f| done(sys::chmod(f, 0o2745))),
        ("chmod 1644", |f| done(sys::chmod(f, 0o1644))),
        ("utimes", |f| done(sys::utimens(f, (1, 2), (3, 4)))),
        ("touch", |f| {
            let now = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            let flags = sys::AtFlags::empty();
            let result = rustix::fs::utimensat(rustix::fs::CWD, f, &times, flags);
            done(sys::at("utimensat", f, result))
        }),
        ("setxattr", |f| done(sys::set_xattr(f, "user.a", "b"))),
        ("setxattr of a capability", |f| {
            done(sys::set_xattr(f, "security.capability", CAPABILITY))
        }),
        ("removexattr of a capability", |f| {
            done(sys::remove_xattr(f, "security.capability"))
        }),
        ("setfacl", |f| {
            let acl = acl(&[
                (1, 7, !0),
                (2, 6, 1009),
                (4, 5, !0),
                (16, 7, !0),
                (32, 5, !0),
            ]);
            done(sys::set_xattr(f, "system.posix_acl_access", acl))
        }),
        ("setfacl without entries", |f| {
            let acl = acl(&[(1, 7, !0), (4, 5, !0), (32, 4, !0)]);
            done(sys::set_xattr(f, "system.posix_acl_access", acl))
        }),
        ("link", |f| done(sys::link(f, f.with_file_name("link")))),
        ("rename", |f| {
            done(sys::rename(f, f.with_file_name("moved")))
        }),
        ("rename over", |f| {
            done(sys::rename(f.with_file_name("source"), f))
        }),
        ("unlink", |f| done(sys::unlink(f))),
    ];
    as_native(cx, &table(&[0o6777, 0o777], &ACTORS, actions))
}

fn of_new_objects(cx: &Ctx) -> Result<()> {
    let actions: &[Action] = &[
        ("creat 6777", |d| {
            done(sys::open_mode(
                d.join("n"),
                OFlags::CREATE | OFlags::RDWR,
                0o6777,
            ))
        }),
        ("creat 2747", |d| {
            done(sys::open_mode(
                d.join("n"),
                OFlags::CREATE | OFlags::RDWR,
                0o2747,
            ))
        }),
        ("mkdir 7777", |d| done(sys::mkdir_mode(d.join("n"), 0o7777))),
        ("mkdir 755", |d| done(sys::mkdir_mode(d.join("n"), 0o755))),
        ("mknod 6777", |d| {
            done(sys::mknod(d.join("n"), FileType::RegularFile, 0o6777, 0))
        }),
        ("mkfifo 2777", |d| {
            done(sys::mknod(d.join("n"), FileType::Fifo, 0o2777, 0))
        }),
        ("mknod of a device", |d| {
            done(sys::mknod(
                d.join("n"),
                FileType::CharacterDevice,
                0o666,
                sys::dev(1, 3),
            ))
        }),
        ("symlink", |d| done(sys::symlink("x", d.join("n")))),
        ("unnamed 6777", |d| {
            let fd = sys::open_mode(d, OFlags::TMPFILE | OFlags::RDWR, 0o6777)?;
            let stat = sys::fstat(&fd)?;
            let linked = sys::link_fd(&fd, d.join("n"));
            Ok(format!(
                "{:o} {} {} {}",
                stat.st_mode,
                stat.st_uid,
                stat.st_gid,
                said(linked)
            ))
        }),
    ];
    let mut ops = Vec::new();
    for dir in [0o777, 0o3777] {
        for with_acl in [false, true] {
            for umask in [0, 0o027] {
                for actor in [OWNER, OTHER] {
                    for &(name, run) in actions {
                        let title = format!(
                            "{name} in {dir:o}, default ACL {with_acl}, umask {umask:o}, by {}",
                            actor.0
                        );
                        ops.push(Op {
                            name: title,
                            tree: Box::new(move |tree, at| {
                                let tree = tree.dir(&format!("{at}d")).mode(dir).owner(1001, 1005);
                                if !with_acl {
                                    return tree;
                                }
                                let acl = acl(&[
                                    (1, 7, !0),
                                    (2, 6, 1009),
                                    (4, 5, !0),
                                    (16, 7, !0),
                                    (32, 0, !0),
                                ]);
                                tree.xattr("system.posix_acl_default", acl)
                            }),
                            run: Box::new(move |at| {
                                users::with_umask(umask, || {
                                    act(actor, || {
                                        rustix::process::umask(Mode::from_raw_mode(umask));
                                        said(run(&at.join("d")))
                                    })
                                })
                            }),
                        });
                    }
                }
            }
        }
    }
    as_native(cx, &ops)
}

fn of_directories(cx: &Ctx) -> Result<()> {
    let actions: &[Action] = &[
        ("chmod 755", |d| done(sys::chmod(d, 0o755))),
        ("chmod 2755", |d| done(sys::chmod(d, 0o2755))),
        ("chmod 1777", |d| done(sys::chmod(d, 0o1777))),
        ("chown", |d| done(sys::chown(d, Some(1009), Some(1009)))),
        ("chgrp", |d| done(sys::chown(d, None, Some(1005)))),
        ("unlink of another's", |d| {
            done(sys::unlink(d.join("of-1003")))
        }),
        ("unlink of root's", |d| done(sys::unlink(d.join("of-root")))),
        ("rename of another's", |d| {
            done(sys::rename(d.join("of-1003"), d.join("x")))
        }),
        ("rename over another's", |d| {
            done(sys::rename(d.join("of-1001"), d.join("of-1003")))
        }),
        ("rmdir of another's", |d| {
            done(sys::rmdir(d.join("dir-of-1003")))
        }),
        ("rename of another's directory", |d| {
            done(sys::rename(d.join("dir-of-1003"), d.join("x")))
        }),
        ("setxattr", |d| done(sys::set_xattr(d, "user.x", "y"))),
        ("utimes", |d| done(sys::utimens(d, (1, 2), (3, 4)))),
    ];
    let mut ops = Vec::new();
    for mode in [0o777, 0o3777, 0o555] {
        for actor in [OWNER, OTHER] {
            for &(name, run) in actions {
                ops.push(Op {
                    name: format!("{name} in {mode:o} by {}", actor.0),
                    tree: Box::new(move |tree, at| {
                        let own = |tree: Tree, name: &str, id| {
                            tree.file(&format!("{at}d/{name}"), "").owner(id, id)
                        };
                        let tree = tree.dir(&format!("{at}d")).mode(mode).owner(1001, 1001);
                        let tree = own(tree, "of-1003", 1003);
                        let tree = own(tree, "of-1001", 1001);
                        let tree = own(tree, "of-root", 0);
                        tree.dir(&format!("{at}d/dir-of-1003")).owner(1003, 1003)
                    }),
                    run: Box::new(move |at| act(actor, || said(run(&at.join("d"))))),
                });
            }
        }
    }
    as_native(cx, &ops)
}

/// `fs.protected_*`: what a sticky, open directory protects users from.
fn under_protection(cx: &Ctx) -> Result<()> {
    let actions: &[Action] = &[
        ("link of another's file", |d| {
            done(sys::link(d.join("closed"), d.join("new")))
        }),
        ("link of an open file of another's", |d| {
            done(sys::link(d.join("open"), d.join("new")))
        }),
        ("following another's link", |d| sys::text(d.join("link"))),
        ("O_CREAT of another's file", |d| {
            done(sys::open(d.join("open"), OFlags::CREATE | OFlags::RDWR))
        }),
        ("O_CREAT of another's pipe", |d| {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NONBLOCK;
            done(sys::open(d.join("pipe"), flags))
        }),
        ("opening another's pipe", |d| {
            done(sys::open(d.join("pipe"), OFlags::RDWR | OFlags::NONBLOCK))
        }),
    ];
    let mut ops = Vec::new();
    for mode in [0o777, 0o1777] {
        for actor in [OWNER, OTHER] {
            for &(name, run) in actions {
                ops.push(Op {
                    name: format!("{name} in {mode:o} by {}", actor.0),
                    tree: Box::new(move |tree, at| {
                        tree.dir(&format!("{at}d"))
                            .mode(mode)
                            .file(&format!("{at}d/closed"), "closed")
                            .mode(0o600)
                            .owner(1003, 1003)
                            .file(&format!("{at}d/open"), "open")
                            .mode(0o666)
                            .owner(1003, 1003)
                            .symlink(&format!("{at}d/link"), "open")
                            .owner(1003, 1003)
                            .fifo(&format!("{at}d/pipe"))
                            .mode(0o666)
                            .owner(1003, 1003)
                    }),
                    run: Box::new(move |at| act(actor, || said(run(&at.join("d"))))),
                });
            }
        }
    }
    let all = ["hardlinks", "symlinks", "fifos", "regular"];
    let path = |name: &str| format!("/proc/sys/fs/protected_{name}");
    let before = all.map(|name| std::fs::read_to_string(path(name)));
    for (name, level) in all.iter().zip(["1", "1", "2", "2"]) {
        std::fs::write(path(name), level)?;
    }
    let result = as_native(cx, &ops);
    for (name, level) in all.iter().zip(before) {
        std::fs::write(path(name), level?)?;
    }
    result
}
