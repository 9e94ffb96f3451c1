// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls but those that list directories ([`super::rdu`]).

use std::os::{fd::FromRawFd, unix::fs::MetadataExt};

use rustix::{fs::openat, mount::MountFlags};

use crate::harness::{
    dir::open_dir,
    idmap,
    ioctl::{self, compat, on, raw, LowMemory, BRINFO, FHSM_FD, IBUSY, MVDOWN, NOWHERE, WBR_FD},
    prelude::*,
    union::{reconfigure, Spec},
};

cases! {
    BASIC: branches, of_32_bit_programs, branch_root, objects_that_keep_a_branch;
    ONCE: others_are_unknown, long_paths, branch_root_of_others, branch_root_through_other_mounts,
        administrators_only, nothing_writable;
}

/// What BRINFO says of a branch: identity, bits of access, path.
type Branch = (i16, i32, String);

fn parse(memory: &[u8]) -> Branch {
    let path = &memory[8..];
    let end = path
        .iter()
        .position(|b| *b == 0)
        .expect("the end of the path");
    assert!(path[end..].iter().all(|b| *b == 0), "nothing else is told");
    (
        i16::from_ne_bytes([memory[0], memory[1]]),
        i32::from_ne_bytes(memory[4..8].try_into().expect("four bytes")),
        String::from_utf8_lossy(&path[..end]).into_owned(),
    )
}

/// A union of three branches with a file on each.
fn three(cx: &Ctx) -> Result<Union> {
    let tree = |name: &str| Tree::new().dir("d").file(name, name);
    cx.union()
        .rw(tree("a"))
        .ro_wh(tree("b"))
        .ro(tree("c"))
        .mount()
}

fn wanted(u: &Union) -> [Branch; 3] {
    let path = |n| u.br(n, "").display().to_string();
    [
        (64, 1, path(0)),
        (65, 0x1000 | 2, path(1)),
        (66, 2, path(2)),
    ]
}

fn branches(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for path in ["", "d"] {
        let fd = open_dir(u.at(path))?;
        assert_eq!(raw(&fd, BRINFO, 0)?, 3);
        let mut memory = vec![0xa5; 3 * 4096];
        assert_eq!(on(&fd, BRINFO, &mut memory)?, 0);
        let got: Vec<_> = memory.chunks(4096).map(parse).collect();
        assert_eq!(got, wanted(&u));
        errno(raw(&fd, BRINFO, NOWHERE), Errno::FAULT);
    }
    errno(raw(sys::open_ro(u.at("c"))?, BRINFO, 0), Errno::NOTTY);
    Ok(())
}

fn of_32_bit_programs(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    let fd = open_dir(u.root())?;
    let mut memory = LowMemory::new(3 * 4096);
    assert_eq!(compat(&fd, BRINFO, 0)?, 3);
    assert_eq!(compat(&fd, BRINFO, memory.address())?, 0);
    let got: Vec<_> = memory.bytes().chunks(4096).map(parse).collect();
    assert_eq!(got, wanted(&u));
    errno(compat(&fd, BRINFO, NOWHERE), Errno::FAULT);

    memory.bytes()[..8].copy_from_slice(&[0, 0, 0, 0, 64, 0, 0, 0]);
    let root = compat(&fd, WBR_FD, memory.address())?;
    // SAFETY: The kernel just gave it to us.
    let root = unsafe { std::os::fd::OwnedFd::from_raw_fd(root as i32) };
    same_place(&root, &u, 0)?;

    let file = sys::open_ro(u.at("a"))?;
    errno(compat(&file, BRINFO, 0), Errno::NOTTY);
    errno(compat(&fd, 0x5401, memory.address()), Errno::NOTTY);
    Ok(())
}

/// Commands that aufs does not have, or not for this kind of file.
fn others_are_unknown(cx: &Ctx) -> Result<()> {
    const TCGETS: u32 = 0x5401;
    let u = three(cx)?;
    sys::write(u.at("f"), "")?;
    let (dir, file) = (open_dir(u.root())?, sys::open_rw(u.at("f"))?);
    let mut memory = vec![0u8; 8192];
    for command in ioctl::ALL {
        // Another size, another direction, another number is another command.
        for other in [command ^ 0x0004_0000, command ^ 0x8000_0000, command + 0x10] {
            for fd in [&dir, &file] {
                errno(on(fd, other, &mut memory), Errno::NOTTY);
            }
        }
    }
    for command in [ioctl::RDU, ioctl::RDU_INO, IBUSY, BRINFO] {
        errno(on(&file, command, &mut memory), Errno::NOTTY);
    }
    errno(on(&dir, TCGETS, &mut memory), Errno::NOTTY);
    // What the VFS answers still comes through.
    assert_eq!(raw(&file, libc::FIOCLEX as u32, 0)?, 0);
    Ok(())
}

fn long_paths(cx: &Ctx) -> Result<()> {
    // Four bytes are shown for each blank.
    let mut path = cx.dir(Kind::Tmpfs)?;
    for _ in 0..5 {
        path.push(" ".repeat(250));
        sys::mkdir(&path)?;
    }
    let u = cx.union().api(Api::Mount2).at(&path, "rw").mount()?;
    let fd = open_dir(u.root())?;
    errno(on(&fd, BRINFO, &mut [0; 4096]), Errno::TOOBIG);
    errno(sys::read(super::sysfs::dir(&u)?.join("br0")), Errno::FBIG);
    Ok(())
}

fn same_place(fd: &std::os::fd::OwnedFd, u: &Union, branch: usize) -> Result<()> {
    let (there, here) = (sys::fstat(fd)?, sys::stat_follow(u.br(branch, ""))?);
    assert_eq!((there.st_dev, there.st_ino), (here.st_dev, here.st_ino));
    Ok(())
}

/// WBR_FD with this argument.
fn root_fd(fd: impl std::os::fd::AsFd, flags: u32, id: i16) -> sys::Res<std::os::fd::OwnedFd> {
    let mut arg = [0u8; 8];
    arg[..4].copy_from_slice(&flags.to_ne_bytes());
    arg[4..6].copy_from_slice(&id.to_ne_bytes());
    let fd = on(fd, WBR_FD, &mut arg)?;
    // SAFETY: The kernel just gave it to us.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) })
}

fn branch_root(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .ro(Tree::new())
        .rw(Tree::new().file("f", ""))
        .rw(Tree::new())
        .mount()?;
    for from in [open_dir(u.root())?, sys::open_ro(u.at("f"))?] {
        let first = raw(&from, WBR_FD, 0)?;
        // SAFETY: The kernel just gave it to us.
        same_place(
            &unsafe { std::os::fd::OwnedFd::from_raw_fd(first as i32) },
            &u,
            1,
        )?;
        same_place(&root_fd(&from, 0, 65)?, &u, 1)?;
        same_place(&root_fd(&from, 0, 66)?, &u, 2)?;
        // The topmost one, which is not writable here.
        errno(root_fd(&from, 0, -1), Errno::NOENT);
        errno(root_fd(&from, 0, 64), Errno::NOENT);
        errno(root_fd(&from, 0, 67), Errno::INVAL);
        errno(root_fd(&from, 0, 0), Errno::INVAL);
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR,
            libc::O_CREAT,
            libc::O_TRUNC,
            libc::O_PATH,
        ] {
            errno(root_fd(&from, flags as u32, 65), Errno::INVAL);
        }
        errno(raw(&from, WBR_FD, NOWHERE), Errno::FAULT);
    }
    let top = open_dir(u.root())?;
    let allowed = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECTORY | libc::O_NOATIME;
    let root = root_fd(&top, allowed as u32, 65)?;
    let flags = rustix::io::fcntl_getfd(&root)?;
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let flags = rustix::io::fcntl_getfd(root_fd(&top, 0, 65)?)?;
    assert!(!flags.contains(rustix::io::FdFlags::CLOEXEC));

    // The way up ends there, but the way down does not.
    let up = openat(&root, "..", OFlags::RDONLY, Mode::empty())?;
    same_place(&up, &u, 1)?;
    openat(&root, "f", OFlags::RDWR, Mode::empty())?;
    openat(&root, "new", OFlags::RDWR | OFlags::CREATE, Mode::RUSR)?;
    assert!(exists(u.br(1, "new")));
    Ok(())
}

/// A descriptor leads to all of a branch, whoever may read its root.
fn branch_root_of_others(cx: &Ctx) -> Result<()> {
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new().dir("open").mode(0o777))?;
    let u = cx.union().at(&rw, "rw").mount()?;
    for mode in [0o711, 0o755, 0o777] {
        sys::chmod(u.root(), mode)?;
        users::as_user(1000, 1000, || -> Result<()> {
            let fd = sys::open_ro(u.at("open"))?;
            errno(raw(&fd, WBR_FD, 0), Errno::PERM);
            errno(root_fd(&fd, 0, 64), Errno::PERM);
            Ok(())
        })?;
    }
    drop(root_fd(open_dir(u.root())?, 0, 64)?);
    Ok(())
}

/// Mounts `source` once more, with other flags.
struct Bind(std::path::PathBuf);

impl Bind {
    fn new(cx: &Ctx, source: &std::path::Path, flags: MountFlags) -> Result<Self> {
        let at = cx.mount_point()?;
        rustix::mount::mount_bind(source, &at)?;
        let bind = Self(at);
        if !flags.is_empty() {
            let none = c"";
            rustix::mount::mount_remount(&bind.0, MountFlags::BIND | flags, none)?;
        }
        Ok(bind)
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        // What stays mounted is a failure of the test.
        let _ = crate::harness::scratch::umount(&self.0);
    }
}

/// Runs `f` with the root directory `root`.
fn in_root<T: Send>(root: &std::path::Path, f: impl FnOnce() -> T + Send) -> T {
    users::apart(|| {
        // A thread that ended may still be on its way out of the kernel.
        let outside = open_dir("/").expect("the root directory");
        rustix::process::chroot(root).expect("chroot");
        let result = f();
        rustix::process::fchdir(outside).expect("fchdir");
        rustix::process::chroot(".").expect("chroot");
        result
    })
}

/// What the mount allows that the request came through, and how much it shows, counts.
fn branch_root_through_other_mounts(cx: &Ctx) -> Result<()> {
    let tree = Tree::new().file("sub/f", "").file("f", "");
    let mut u = cx
        .union()
        .rw(tree)
        .ro(Tree::new().file("low", ""))
        .mount()?;
    let sub = u.at("sub");
    let through = |path: &std::path::Path, wanted: Option<Errno>| -> Result<()> {
        let objects = [Some(open_dir(path)?), sys::open_ro(path.join("f")).ok()];
        for fd in objects.iter().flatten() {
            match wanted {
                None => drop(root_fd(fd, 0, 64)?),
                Some(wanted) => {
                    errno(raw(fd, WBR_FD, 0), wanted);
                    errno(root_fd(fd, 0, 64), wanted);
                }
            }
        }
        Ok(())
    };
    let (all, part) = (u.root().to_owned(), sub.clone());
    let (none, some) = (MountFlags::empty(), Some(Errno::PERM));
    through(&Bind::new(cx, &all, none)?.0, None)?;
    through(&Bind::new(cx, &part, none)?.0, some)?;
    through(
        &Bind::new(cx, &all, MountFlags::RDONLY)?.0,
        Some(Errno::ROFS),
    )?;
    through(&Bind::new(cx, &part, MountFlags::RDONLY)?.0, some)?;
    for flag in [MountFlags::NODEV, MountFlags::NOSUID, MountFlags::NOEXEC] {
        through(&Bind::new(cx, &all, flag)?.0, some)?;
        through(&Bind::new(cx, &part, flag)?.0, some)?;
    }
    let mapped = idmap::UserNs::new()?.mount(cx, &all)?;
    through(mapped.root(), some)?;
    drop(mapped);

    // Shut up in a directory, with a descriptor from outside or not.
    let outside = open_dir(&all)?;
    in_root(&part, || {
        errno(raw(&outside, WBR_FD, 0), Errno::PERM);
        errno(raw(open_dir("/")?, WBR_FD, 0), Errno::PERM);
        anyhow::Ok(())
    })?;
    in_root(&all, || {
        drop(root_fd(open_dir("/")?, 0, 64)?);
        anyhow::Ok(())
    })?;
    drop(outside);

    // A read-only union.
    reconfigure(u.root(), &["ro"])?;
    through(&all, Some(Errno::ROFS))?;
    reconfigure(u.root(), &["rw"])?;
    through(&all, None)?;
    u.again()?;

    // A move to another branch writes, too.
    let bind = Bind::new(cx, &all, MountFlags::RDONLY)?;
    errno(
        on(sys::open_ro(bind.0.join("f"))?, MVDOWN, &mut [0; 96]),
        Errno::ROFS,
    );
    Ok(())
}

fn administrators_only(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    sys::chmod(u.root(), 0o777)?;
    sys::write(u.at("f"), "")?;
    sys::chown(u.at("f"), Some(1000), Some(1000))?;
    users::as_user(1000, 1000, || -> Result<()> {
        let (dir, file) = (open_dir(u.root())?, sys::open_rw(u.at("f"))?);
        let mut memory = [0; 128];
        for fd in [&dir, &file] {
            for command in [WBR_FD, MVDOWN] {
                errno(on(fd, command, &mut memory), Errno::PERM);
                errno(raw(fd, command, NOWHERE), Errno::PERM);
            }
        }
        for command in [IBUSY, FHSM_FD] {
            errno(raw(&dir, command, NOWHERE), Errno::PERM);
        }
        assert_eq!(raw(&dir, BRINFO, 0)?, 3);
        Ok(())
    })
}

fn nothing_writable(cx: &Ctx) -> Result<()> {
    let ro = cx.branch(Kind::Tmpfs, "ro", &Tree::new())?;
    let spec = Spec::new(&[&format!("br={}=ro", ro.display())]);
    let u = Union::mount(cx, spec, vec![ro])?;
    errno(raw(open_dir(u.root())?, WBR_FD, 0), Errno::NOENT);
    Ok(())
}

/// IBUSY: the number on the branch.
fn busy(u: &Union, ino: u64, index: i16) -> sys::Res<u64> {
    let mut arg = [0xa5u8; 24];
    arg[..8].copy_from_slice(&ino.to_ne_bytes());
    arg[16..18].copy_from_slice(&index.to_ne_bytes());
    let fd = open_dir(u.root())?;
    assert_eq!(on(&fd, IBUSY, &mut arg)?, 0);
    assert_eq!(arg[..8], ino.to_ne_bytes());
    assert_eq!(arg[16..18], index.to_ne_bytes());
    Ok(u64::from_ne_bytes(
        arg[8..16].try_into().expect("eight bytes"),
    ))
}

fn objects_that_keep_a_branch(cx: &Ctx) -> Result<()> {
    let u = three(cx)?;
    for (name, on) in [("a", 0), ("b", 1), ("c", 2)] {
        let kept = sys::open_ro(u.at(name))?;
        let ino = sys::fstat(&kept)?.st_ino;
        let lower = std::fs::metadata(u.br(on, name))?.ino();
        for index in 0..3 {
            let wanted = if index == on { lower } else { 0 };
            assert_eq!(busy(&u, ino, index as i16)?, wanted, "{name} on {index}");
        }
    }
    // A directory that has other instances, and the root, keep none.
    let dir = open_dir(u.at("d"))?;
    for index in 0..3 {
        assert_eq!(busy(&u, sys::fstat(&dir)?.st_ino, index)?, 0);
        assert_eq!(busy(&u, 2, index)?, 0);
        assert_eq!(busy(&u, 0x1234_5678_9abc, index)?, 0);
    }
    sys::mkdir(u.at("alone"))?;
    let ino = sys::lstat(u.at("alone"))?.st_ino;
    let lower = std::fs::metadata(u.br(0, "alone"))?.ino();
    assert_eq!(busy(&u, ino, 0)?, lower);

    for index in [-1, 3, i16::MAX, i16::MIN] {
        errno(busy(&u, ino, index), Errno::INVAL);
    }
    let fd = open_dir(u.root())?;
    errno(raw(&fd, IBUSY, NOWHERE), Errno::FAULT);
    errno(raw(&fd, IBUSY, 0), Errno::FAULT);
    users::as_user(1000, 1000, || errno(busy(&u, ino, 0), Errno::PERM));
    Ok(())
}
