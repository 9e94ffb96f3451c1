// SPDX-License-Identifier: GPL-2.0

//! What there is beside data: ioctls, flags of open(2), limits, quotas, what statx(2) tells. Compared
//! with a plain directory of the same file system.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::fs::FallocateFlags;

use super::data::{done, libc_result, pattern, rw, table, Action};
use crate::harness::{
    compare::{as_native, said},
    prelude::*,
    scratch::Private,
    sys::Res,
};

cases! {
    WRITABLE: ioctls, opening, limits, facts;
    ONCE: quotas_bind;
}

fn ioctls(cx: &Ctx) -> Result<()> {
    fn number(fd: &OwnedFd, call: &'static str, request: u64) -> String {
        let mut value = 0u64;
        // SAFETY: all of these take a pointer to at most eight bytes.
        let ret = unsafe { libc::ioctl(fd.as_raw_fd(), request, &mut value) };
        said(libc_result(call, i64::from(ret)).map(|_| value))
    }
    #[repr(C)]
    #[derive(Default, Debug)]
    struct FsXattr {
        xflags: u32,
        extsize: u32,
        nextents: u32,
        projid: u32,
        cowextsize: u32,
        pad: [u8; 8],
    }
    const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
    const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
    fn set_flags(fd: &OwnedFd, flags: u64) -> String {
        // SAFETY: the call takes a pointer to a word.
        let ret = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_SETFLAGS, &flags) };
        said(libc_result("FS_IOC_SETFLAGS", i64::from(ret)))
    }
    /// What the file system itself says: there is room for extended attributes.
    const HASATTR: u32 = 0x8000_0000;
    fn fsxattr(fd: &OwnedFd) -> String {
        let mut attr = FsXattr::default();
        // SAFETY: the argument is what the call wants.
        let ret = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSGETXATTR, &mut attr) };
        // How many extents there are is up to the moment.
        let of_user = (attr.xflags & !HASATTR, attr.projid);
        said(libc_result("FS_IOC_FSGETXATTR", i64::from(ret)).map(|_| of_user))
    }
    fn set_fsxattr(fd: &OwnedFd, xflags: u32, projid: u32) -> String {
        let attr = FsXattr {
            xflags,
            projid,
            ..FsXattr::default()
        };
        // SAFETY: the argument is what the call wants.
        let ret = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSSETXATTR, &attr) };
        said(libc_result("FS_IOC_FSSETXATTR", i64::from(ret)))
    }
    let actions: &[Action] = &[
        ("FS_IOC_GETFLAGS", |d| {
            Ok(number(
                &sys::open_ro(d.join("g"))?,
                "FS_IOC_GETFLAGS",
                FS_IOC_GETFLAGS,
            ))
        }),
        ("FS_IOC_GETFLAGS of a directory", |d| {
            Ok(number(
                &sys::open_ro(d)?,
                "FS_IOC_GETFLAGS",
                FS_IOC_GETFLAGS,
            ))
        }),
        ("FS_IOC_SETFLAGS", |d| {
            let fd = sys::open_ro(d.join("g"))?;
            let mut all = String::new();
            for flag in [0x80, 0x40, 0x8, 0x1, 0x4, 0x2, 0x2000_0000, 0x800] {
                all += &format!(" {flag:x} {}", set_flags(&fd, flag));
                all += &format!(" {}", number(&fd, "FS_IOC_GETFLAGS", FS_IOC_GETFLAGS));
            }
            all += &set_flags(&fd, 0);
            Ok(all)
        }),
        ("flags that bind", |d| {
            let fd = sys::open_ro(d.join("g"))?;
            let mut all = String::new();
            for flag in [0x20, 0x10] {
                all += &set_flags(&fd, flag);
                let g = d.join("g");
                for result in [
                    sys::open_rw(&g).map(drop),
                    sys::append(&g, "x"),
                    sys::truncate(&g, 0),
                    sys::chmod(&g, 0o600),
                    sys::chown(&g, Some(1), None),
                    sys::utimens(&g, (1, 1), (2, 2)),
                    sys::set_xattr(&g, "user.x", "y"),
                    sys::link(&g, d.join("link")),
                    sys::rename(&g, d.join("moved")),
                    sys::unlink(&g),
                    sys::open(&g, OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC).map(drop),
                ] {
                    all += &format!(" {}", said(result));
                }
                all += &set_flags(&fd, 0);
            }
            Ok(all)
        }),
        ("an append-only directory", |d| {
            sys::mkdir(d.join("dir"))?;
            sys::write(d.join("dir/f"), "")?;
            let fd = sys::open_ro(d.join("dir"))?;
            let mut all = String::new();
            for flag in [0x20, 0x10] {
                all += &set_flags(&fd, flag);
                for result in [
                    sys::write(d.join("dir/new"), ""),
                    sys::mkdir(d.join("dir/newdir")),
                    sys::unlink(d.join("dir/f")),
                    sys::rename(d.join("dir/f"), d.join("dir/h")),
                    sys::append(d.join("dir/f"), "x"),
                    sys::rename(d.join("dir"), d.join("dir2")),
                    sys::chmod(d.join("dir"), 0o700),
                ] {
                    all += &format!(" {}", said(result));
                }
                all += &set_flags(&fd, 0);
            }
            Ok(all)
        }),
        ("flags by another user", |d| {
            let fd = sys::open_ro(d.join("g"))?;
            Ok(users::as_user(1001, 1001, || {
                [
                    set_flags(&fd, 0x80),
                    set_flags(&fd, 0x10),
                    set_fsxattr(&fd, 0, 5),
                ]
                .join(" ")
            }))
        }),
        ("FS_IOC_FSGETXATTR", |d| {
            Ok(fsxattr(&sys::open_ro(d.join("g"))?))
        }),
        ("FS_IOC_FSSETXATTR", |d| {
            let fd = sys::open_ro(d.join("g"))?;
            let mut all = String::new();
            for (xflags, projid) in [(0x20, 0), (0, 77), (0x200, 77), (0x8000_0000, 0)] {
                all += &format!(" {} {}", set_fsxattr(&fd, xflags, projid), fsxattr(&fd));
            }
            Ok(all)
        }),
        ("FIGETBSZ and others", |d| {
            let fd = sys::open_ro(d.join("g"))?;
            let requests = [
                ("FIGETBSZ", 2),
                ("FIONREAD", 0x541b),
                ("TCGETS", 0x5401),
                ("unknown", 0x1234),
            ];
            let all = requests.map(|(name, request)| number(&fd, name, request));
            Ok(format!("{all:?}"))
        }),
        ("FIEMAP", |d| {
            let fd = sys::open_ro(d.join("f"))?;
            let mut map = [0u64; 4 + 7 * 16];
            map[1] = u64::MAX;
            map[2] = 1; // Synced first.
            map[3] = 16;
            // SAFETY: the argument is a header and room for 16 extents.
            let ret = unsafe { libc::ioctl(fd.as_raw_fd(), 0xc020_660b, &mut map) };
            libc_result("FIEMAP", i64::from(ret))?;
            let count = (map[2] >> 32) as usize;
            let extents = map[4..].chunks(7).take(count).map(|e| (e[0], e[2]));
            let extents: Vec<_> = extents.collect();
            let covered: u64 = extents.iter().map(|e| e.1).sum();
            let start = extents.first().map(|e| e.0);
            Ok(format!("starts at {start:?}, {covered} bytes"))
        }),
    ];
    as_native(cx, &table(actions))?;

    // Where the branch put the data, and which generation it gave the inode, would not stay.
    let u = cx
        .union()
        .rw(Tree::new().file("f", "x"))
        .ro(Tree::new())
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    assert_eq!(
        number(&fd, "FIBMAP", 1),
        said::<()>(sys::on_fd("FIBMAP", Err(Errno::INVAL)))
    );
    let version = number(&fd, "FS_IOC_GETVERSION", 0x8008_7601);
    assert_eq!(version, said::<()>(sys::on_fd("ioctl", Err(Errno::NOTTY))));
    Ok(())
}

fn opening(cx: &Ctx) -> Result<()> {
    fn open(d: &Path, name: &str, flags: OFlags) -> Res<String> {
        let fd = sys::open_mode(d.join(name), flags, 0o640)?;
        let now = sys::on_fd("F_GETFL", rustix::fs::fcntl_getfl(&fd))?;
        Ok(format!("{:x} {}", now.bits(), sys::fstat(&fd)?.st_size))
    }
    let actions: &[Action] = &[
        ("O_TRUNC", |d| open(d, "f", OFlags::RDWR | OFlags::TRUNC)),
        ("O_RDONLY|O_TRUNC", |d| open(d, "f", OFlags::TRUNC)),
        ("O_APPEND|O_TRUNC", |d| {
            open(d, "f", OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC)
        }),
        ("O_CREAT", |d| open(d, "f", OFlags::RDWR | OFlags::CREATE)),
        ("O_CREAT|O_EXCL", |d| {
            open(d, "f", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
        }),
        ("O_CREAT|O_TRUNC", |d| {
            open(d, "f", OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)
        }),
        ("O_EXCL", |d| open(d, "f", OFlags::RDWR | OFlags::EXCL)),
        ("O_DIRECTORY", |d| open(d, "f", OFlags::DIRECTORY)),
        ("O_PATH", |d| open(d, "f", OFlags::PATH)),
        ("O_NOATIME", |d| open(d, "f", OFlags::NOATIME)),
        ("O_NOATIME by another", |d| {
            users::as_user(1001, 1001, || open(d, "f", OFlags::NOATIME))
        }),
        ("O_RDWR by another", |d| {
            users::as_user(1001, 1001, || open(d, "f", OFlags::RDWR))
        }),
        ("O_TRUNC by another", |d| {
            users::as_user(1001, 1001, || open(d, "f", OFlags::TRUNC))
        }),
        ("mode 3", |d| open(d, "f", OFlags::from_bits_retain(3))),
        ("O_TMPFILE for reading", |d| open(d, "", OFlags::TMPFILE)),
        ("O_TMPFILE|O_EXCL", |d| {
            let fd = sys::open(d, OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL)?;
            done(sys::link_fd(&fd, d.join("linked")))
        }),
        ("O_TMPFILE, twice linked", |d| {
            let fd = sys::open(d, OFlags::TMPFILE | OFlags::RDWR)?;
            let before = sys::fstat(&fd)?.st_nlink;
            sys::write_fd(&fd, b"x")?;
            sys::link_fd(&fd, d.join("one"))?;
            let again = said(sys::link_fd(&fd, d.join("two")));
            sys::unlink(d.join("one"))?;
            Ok(format!("{before} {again} {}", sys::fstat(&fd)?.st_nlink))
        }),
        ("a directory for writing", |d| open(d, "", OFlags::RDWR)),
        ("a directory with O_CREAT", |d| open(d, "", OFlags::CREATE)),
        ("O_DIRECT", |d| open(d, "f", OFlags::RDWR | OFlags::DIRECT)),
        ("O_DIRECT of a new file", |d| {
            open(d, "new", OFlags::RDWR | OFlags::DIRECT | OFlags::CREATE)
        }),
        ("O_DIRECT|O_TRUNC", |d| {
            open(d, "f", OFlags::RDWR | OFlags::DIRECT | OFlags::TRUNC)
        }),
    ];
    as_native(cx, &table(actions))
}

fn limits(cx: &Ctx) -> Result<()> {
    fn limited<T: Send>(limit: u64, f: impl FnOnce() -> T + Send) -> T {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let set = |soft| {
            // SAFETY: the argument is what the calls want.
            unsafe {
                let mut rlim = std::mem::zeroed();
                libc::getrlimit(libc::RLIMIT_FSIZE, &mut rlim);
                rlim.rlim_cur = soft;
                libc::setrlimit(libc::RLIMIT_FSIZE, &rlim);
            }
        };
        set(limit);
        let value = f();
        set(libc::RLIM_INFINITY);
        value
    }
    let actions: &[Action] = &[
        ("write over RLIMIT_FSIZE", |d| {
            limited(300_100, || {
                let fd = rw(d)?;
                let n = rustix::io::pwrite(&fd, &pattern(500), 299_900);
                let m = rustix::io::pwrite(&fd, b"x", 300_100);
                Ok(format!(
                    "{} {}",
                    said(sys::on_fd("w", n)),
                    said(sys::on_fd("w", m))
                ))
            })
        }),
        ("copy-up under a smaller limit", |d| {
            limited(1000, || {
                let fd = rw(d)?;
                let n = said(sys::on_fd("pwrite", rustix::io::pwrite(&fd, b"in", 10)));
                Ok(format!("{n} {}", said(sys::chmod(d.join("g"), 0o600))))
            })
        }),
        ("truncate over RLIMIT_FSIZE", |d| {
            limited(1000, || done(sys::truncate(d.join("empty"), 2000)))
        }),
        ("truncate below RLIMIT_FSIZE", |d| {
            limited(1000, || done(sys::truncate(d.join("f"), 900)))
        }),
        ("fallocate over RLIMIT_FSIZE", |d| {
            limited(1000, || {
                let fd = sys::open_rw(d.join("empty"))?;
                let none = FallocateFlags::empty();
                done(sys::on_fd(
                    "fallocate",
                    rustix::fs::fallocate(&fd, none, 0, 2000),
                ))
            })
        }),
        ("copy_file_range over RLIMIT_FSIZE", |d| {
            limited(1000, || {
                let (from, to) = (sys::open_ro(d.join("g"))?, sys::open_rw(d.join("empty"))?);
                let n = rustix::fs::copy_file_range(&from, None, &to, None, 2000);
                Ok(said(sys::on_fd("copy_file_range", n)))
            })
        }),
        ("splice over RLIMIT_FSIZE", |d| {
            use rustix::pipe::{splice, SpliceFlags};
            limited(1000, || {
                let (out, into) = sys::on_fd("pipe", rustix::pipe::pipe())?;
                sys::write_fd(&into, &pattern(2000))?;
                let to = sys::open_rw(d.join("empty"))?;
                let n = splice(&out, None, to, None, 2000, SpliceFlags::empty());
                Ok(said(sys::on_fd("splice", n)))
            })
        }),
        ("the largest file", |d| {
            let fd = sys::open_rw(d.join("empty"))?;
            let far = said(sys::on_fd(
                "pwrite",
                rustix::io::pwrite(&fd, b"x", i64::MAX as u64),
            ));
            let cut = said(sys::on_fd(
                "ftruncate",
                rustix::fs::ftruncate(&fd, i64::MAX as u64),
            ));
            sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 0))?;
            Ok(format!("{far} {cut}"))
        }),
    ];
    as_native(cx, &table(actions))
}

fn facts(cx: &Ctx) -> Result<()> {
    fn statx(d: &Path, name: &str, mask: u32) -> Res<String> {
        use rustix::fs::{AtFlags, StatxFlags};
        let mask = StatxFlags::from_bits_retain(mask);
        let path = d.join(name);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let s = sys::at(
            "statx",
            &path,
            rustix::fs::statx(rustix::fs::CWD, &path, flags, mask),
        )?;
        Ok(format!(
            "mask {:x} attributes {:x} of {:x} blksize {} blocks {} size {} birth {} mode {:o}",
            s.stx_mask,
            s.stx_attributes.bits() & !0x2000,
            s.stx_attributes_mask.bits(),
            s.stx_blksize,
            s.stx_blocks,
            match s.stx_mode & 0o170_000 {
                0o040_000 => 0,
                _ => s.stx_size,
            },
            s.stx_btime.tv_sec != 0,
            s.stx_mode
        ))
    }
    let actions: &[Action] = &[
        ("statx of what is basic", |d| statx(d, "g", 0x7ff)),
        ("statx of birth", |d| statx(d, "g", 0xfff)),
        ("statx of all", |d| statx(d, "g", 0x7fff_ffff & !0x5000)),
        ("statx of a sparse file", |d| statx(d, "f", 0xfff)),
        ("statx of an immutable file", |d| {
            use rustix::fs::{ioctl_setflags, IFlags};
            let fd = sys::open_ro(d.join("g"))?;
            let set = |flags| said(sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, flags)));
            let (on, said, off) = (
                set(IFlags::IMMUTABLE | IFlags::NODUMP),
                statx(d, "g", 0xfff)?,
                set(IFlags::empty()),
            );
            Ok(format!("{on} {said} {off}"))
        }),
        ("statx after a change", |d| {
            sys::append(d.join("g"), "x")?;
            sys::on_fd("fsync", rustix::fs::fsync(sys::open_ro(d.join("g"))?))?;
            // How much xfs allocates in advance is its secret.
            let all = statx(d, "g", 0xfff)?;
            let (before, after) = all.split_once(" blocks ").expect("blocks");
            Ok(format!(
                "{before} {}",
                after.split_once(' ').expect("more").1
            ))
        }),
        ("alignment of direct I/O", |d| {
            #[repr(C)]
            struct Statx([u32; 64]);
            let mut s = Statx([0; 64]);
            let c = std::ffi::CString::new(d.join("g").as_os_str().as_encoded_bytes());
            // SAFETY: the arguments are what the call wants.
            let ret = unsafe {
                let path = c.expect("no NUL").into_raw();
                let at = libc::AT_FDCWD;
                let ret = libc::syscall(libc::SYS_statx, at, path, 0, 0x2000u32, &mut s);
                drop(std::ffi::CString::from_raw(path));
                ret
            };
            libc_result("statx", ret)?;
            Ok(format!("{:x} {} {}", s.0[0] & 0x2000, s.0[38], s.0[39]))
        }),
        ("pathconf", |d| {
            let c = std::ffi::CString::new(d.as_os_str().as_encoded_bytes()).expect("no NUL");
            // Not the most links: what the C library says of them, it takes from the type number.
            let names = [libc::_PC_CHOWN_RESTRICTED, libc::_PC_NO_TRUNC];
            // SAFETY: plain calls with a string.
            Ok(format!(
                "{:?}",
                names.map(|name| unsafe { libc::pathconf(c.as_ptr(), name) })
            ))
        }),
    ];
    as_native(cx, &table(actions))
}

/// Files count for their owner, also those that are copied up for somebody else. What does not
/// fit fails and leaves nothing.
fn quotas_bind(cx: &Ctx) -> Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Limits {
        hard: u64,
        soft: u64,
        space: u64,
        inodes: [u64; 3],
        times: [u64; 2],
        valid: u32,
    }
    const Q_SETQUOTA: i32 = 0x0080_0008 << 8;
    const Q_GETQUOTA: i32 = 0x0080_0007 << 8;
    let quota = ["-O", "quota", "-E", "quotatype=usrquota"];
    let disk = Private::ext4(&cx.name(), 64 << 20, &quota, "usrquota")?;
    let fd = dir::open_dir(disk.path())?;
    let quota = |command: i32, limits: &mut Limits| {
        // SAFETY: the argument is what the call wants.
        let ret =
            unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, 1001, limits) };
        libc_result("quotactl_fd", ret)
    };
    let mut limits = Limits {
        hard: 256,
        soft: 256,
        valid: 1,
        ..Limits::default()
    };
    quota(Q_SETQUOTA, &mut limits)?;
    let rw = disk.path().join("rw");
    sys::mkdir(&rw)?;
    let low = cx.branch(
        Kind::Tmpfs,
        "ro",
        &Tree::new()
            .file("d/big", pattern(400_000))
            .owner(1001, 1001)
            .mode(0o666)
            .file("d/small", pattern(50_000))
            .owner(1001, 1001)
            .mode(0o666)
            .dir("open")
            .mode(0o777),
    )?;
    let u = cx.union().at(&rw, "rw").at(&low, "ro").mount()?;
    let used = || -> Result<u64> {
        let mut limits = Limits::default();
        quota(Q_GETQUOTA, &mut limits)?;
        Ok(limits.space)
    };
    for user in [1001, 1002] {
        users::as_user(user, user, || {
            errno(sys::append(u.at("d/big"), "x"), Errno::DQUOT);
            errno(sys::open_rw(u.at("d/big")), Errno::DQUOT);
        });
    }
    errno(sys::chmod(u.at("d/big"), 0o600), Errno::DQUOT);
    assert!(sys::read(u.at("d/big"))? == pattern(400_000));
    assert_eq!(
        dir::names(rw.join(".wh..wh.orph"))?,
        set([]),
        "nothing is left"
    );
    rustix::fs::sync();
    assert_eq!(used()?, 0);
    users::as_user(1001, 1001, || -> Result<()> {
        sys::append(u.at("d/small"), "x")?;
        let fd = sys::create(u.at("open/new"))?;
        let mut written = 0;
        let error = loop {
            match rustix::io::write(&fd, &pattern(10_000)) {
                Ok(n) => written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::DQUOT);
        assert!((150_000..256 * 1024).contains(&written), "{written}");
        Ok(())
    })?;
    assert!(used()? <= 256 * 1024);
    u.umount()?;
    drop(fd);
    disk.umount()
}
