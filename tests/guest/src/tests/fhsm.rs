// SPDX-License-Identifier: GPL-2.0

//! `+fhsm`, `fhsm_sec=` and the descriptor of FHSM_FD: how full branches are, for a daemon.

use std::{
    os::fd::{AsFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{poll, PollFd, PollFlags, Timespec},
    fs::statfs,
};

use crate::harness::{
    dir::open_dir,
    ioctl::{raw, FHSM_FD},
    prelude::*,
    sys::{on_fd, Res},
    union::{mounts_line, reconfigure},
};

cases! {
    BASIC: tells_what_changed, follows_changes_of_branches;
    ONCE: refusals, shown_and_set, too_few_branches, waits_and_ends, writes_wake_seldom,
        the_daemon_moves_nothing_up;
}

const CLOEXEC: usize = libc::O_CLOEXEC as usize;
const NONBLOCK: usize = libc::O_NONBLOCK as usize;

#[track_caller]
fn descriptor(root: &std::path::Path, flags: usize) -> Res<OwnedFd> {
    let fd = raw(open_dir(root)?, FHSM_FD, flags)?;
    // SAFETY: The kernel gave it to us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `struct aufs_stbr`: identity, position; blocks, available, files, free files.
type Stbr = (i16, i16, [u64; 4]);

#[track_caller]
fn read(fd: &OwnedFd, size: usize) -> Res<Vec<Stbr>> {
    let mut buffer = vec![0xff; size];
    let len = on_fd("read", rustix::io::read(fd, &mut buffer))?;
    assert_eq!(len % 40, 0);
    let short = |bytes: &[u8]| i16::from_ne_bytes(bytes.try_into().expect("two bytes"));
    let long = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    let all = buffer[..len].chunks(40).map(|one| {
        assert_eq!(one[4..8], [0; 4]);
        let stat = [8, 16, 24, 32].map(|at| long(&one[at..at + 8]));
        (short(&one[..2]), short(&one[2..4]), stat)
    });
    Ok(all.collect())
}

fn ready(fd: &OwnedFd, milliseconds: u64) -> Result<bool> {
    let time = Timespec::try_from(Duration::from_millis(milliseconds))?;
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&time))? == 1)
}

/// What is to be told of a branch.
fn stat(u: &Union, index: usize) -> Result<[u64; 4]> {
    let stat = statfs(u.br(index, ""))?;
    Ok([stat.f_blocks, stat.f_bavail, stat.f_files, stat.f_ffree])
}

/// Three branches that take part, of which the lowest is not told, and one that does not.
fn union(cx: &Ctx, options: &[&str]) -> Result<Union> {
    let kind = cx.layout.upper();
    let low = Tree::new().file("low", "low");
    let mut builder = cx.union();
    for option in options {
        builder = builder.opt(option);
    }
    builder
        .on(kind, "rw+fhsm", Tree::new())
        .on(kind, "rw", Tree::new())
        .on(kind, "rw+fhsm", low)
        .on(kind, "rw+fhsm", Tree::new())
        .mount()
}

fn tells_what_changed(cx: &Ctx) -> Result<()> {
    let u = union(cx, &["fhsm_sec=0"])?;
    let fd = descriptor(u.root(), NONBLOCK | CLOEXEC)?;
    assert!(ready(&fd, 0)?);
    // All of them at first.
    let ids = |all: &[Stbr]| {
        all.iter()
            .map(|(id, index, _)| (*id, *index))
            .collect::<Vec<_>>()
    };
    let first = read(&fd, 4096)?;
    assert_eq!(ids(&first), [(64, 0), (66, 2)]);
    assert_eq!((first[0].2, first[1].2), (stat(&u, 0)?, stat(&u, 2)?));
    assert!(!ready(&fd, 0)?);
    errno(read(&fd, 4096), Errno::AGAIN);
    // Nothing that matters.
    text(u.at("low"))?;
    assert!(!ready(&fd, 0)?);
    sys::write(u.at("f"), vec![7; 1 << 20])?;
    sys::open_rw(u.at("f")).and_then(|fd| on_fd("fsync", rustix::fs::fsync(fd)))?;
    assert!(ready(&fd, 0)?);
    errno(read(&fd, 79), Errno::MSGSIZE);
    let told = read(&fd, 80)?;
    assert!(told.contains(&(64, 0, stat(&u, 0)?)), "{told:?}");
    while ready(&fd, 0)? {
        read(&fd, 80)?;
    }
    sys::unlink(u.at("f"))?;
    sys::drop_caches();
    assert!(ready(&fd, 0)?, "room was given back");
    u.umount()
}

fn follows_changes_of_branches(cx: &Ctx) -> Result<()> {
    let u = union(cx, &[])?;
    let fd = descriptor(u.root(), NONBLOCK)?;
    assert_eq!(read(&fd, 4096)?.len(), 2);
    let path = |index| u.br(index, "").display().to_string();
    reconfigure(u.root(), &[&format!("mod={}=rw+fhsm", path(1))])?;
    assert!(ready(&fd, 0)?);
    assert_eq!(read(&fd, 4096)?, [(65, 1, stat(&u, 1)?)]);
    reconfigure(u.root(), &[&format!("del={}", path(3))])?;
    // The lowest that is left is not told any more.
    let _ = read(&fd, 4096);
    errno(read(&fd, 79), Errno::MSGSIZE);
    errno(read(&fd, 80), Errno::AGAIN);
    u.umount()?;
    assert!(ready(&fd, 0)?);
    assert_eq!(read(&fd, 0)?, []);
    Ok(())
}

fn refusals(cx: &Ctx) -> Result<()> {
    let u = union(cx, &[])?;
    sys::mkdir(u.at("d"))?;
    sys::write(u.at("f"), "")?;
    errno(descriptor(&u.at("d"), 0), Errno::NOTTY);
    errno(raw(sys::open_ro(u.at("f"))?, FHSM_FD, 0), Errno::NOTTY);
    for flags in [1, libc::O_APPEND as usize, 1 << 40, usize::MAX] {
        errno(descriptor(u.root(), flags), Errno::INVAL);
    }
    users::as_user(1000, 1000, || errno(descriptor(u.root(), 0), Errno::PERM));
    let fd = descriptor(u.root(), CLOEXEC)?;
    errno(descriptor(u.root(), 0), Errno::BUSY);
    errno(on_fd("write", rustix::io::write(&fd, b"x")), Errno::BADF);
    errno(read(&fd, 79), Errno::MSGSIZE);
    // SAFETY: The kernel checks the address.
    let ret = unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd()), 8 as _, 4096) };
    assert_eq!((ret, sys::last_errno()), (-1, Errno::FAULT));
    assert_eq!(read(&fd, 4096)?.len(), 2, "it was not lost");
    drop(fd);
    assert_eq!(read(&descriptor(u.root(), 0)?, 4096)?.len(), 2);
    u.umount()
}

fn shown_and_set(cx: &Ctx) -> Result<()> {
    let u = union(cx, &["fhsm_sec=5"])?;
    let shown = mounts_line(u.root())?[3].clone();
    assert!(shown.contains(",fhsm_sec=5"), "{shown}");
    assert_eq!(shown.matches("=rw+fhsm").count(), 3, "{shown}");
    reconfigure(u.root(), &["fhsm_sec=30"])?;
    assert!(!mounts_line(u.root())?[3].contains("fhsm_sec"));
    u.umount()
}

fn too_few_branches(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .on(Kind::Tmpfs, "rw+fhsm", Tree::new())
        .ro(Tree::new())
        .mount()?;
    let fd = descriptor(u.root(), NONBLOCK)?;
    errno(read(&fd, 4096), Errno::AGAIN);
    sys::write(u.at("f"), vec![7; 1 << 20])?;
    assert!(!ready(&fd, 0)?);
    u.umount()
}

fn waits_and_ends(cx: &Ctx) -> Result<()> {
    let u = union(cx, &[])?;
    let fd = descriptor(u.root(), CLOEXEC)?;
    read(&fd, 4096)?;
    thread::scope(|scope| -> Result<()> {
        let reader = scope.spawn(|| read(&fd, 4096));
        thread::sleep(Duration::from_millis(200));
        assert!(!reader.is_finished());
        // A new object tells at once.
        sys::write(u.at("f"), vec![7; 1 << 20])?;
        let told = reader.join().expect("no panic")?;
        assert!(
            told.iter().all(|(id, ..)| [64, 66].contains(id)),
            "{told:?}"
        );
        Ok(())
    })?;
    while ready(&fd, 100)? {
        read(&fd, 4096)?;
    }
    thread::scope(|scope| -> Result<()> {
        let (waiting, polling) = (
            scope.spawn(|| read(&fd, 4096)),
            scope.spawn(|| ready(&fd, 20_000)),
        );
        thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished() && !polling.is_finished());
        // The descriptor does not hold the union.
        u.umount()?;
        assert_eq!(waiting.join().expect("no panic")?, []);
        assert!(polling.join().expect("no panic")?);
        Ok(())
    })
}

/// Writes wake at most each `fhsm_sec` seconds; what is asked is up to date all the same.
fn writes_wake_seldom(cx: &Ctx) -> Result<()> {
    let u = union(cx, &["fhsm_sec=3"])?;
    let file = sys::create(u.at("f"))?;
    let fd = descriptor(u.root(), NONBLOCK)?;
    read(&fd, 4096)?;
    let write = || sys::write_fd(&file, &[7; 1 << 16]);
    write()?;
    assert!(ready(&fd, 0)?);
    read(&fd, 4096)?;
    thread::scope(|scope| -> Result<()> {
        let poller = scope.spawn(|| -> Result<Duration> {
            let start = Instant::now();
            assert!(ready(&fd, 30_000)?);
            Ok(start.elapsed())
        });
        thread::sleep(Duration::from_millis(300));
        while !poller.is_finished() {
            write()?;
            thread::sleep(Duration::from_millis(100));
        }
        let waited = poller.join().expect("no panic")?;
        assert!(waited > Duration::from_millis(1500), "{waited:?}");
        Ok(())
    })?;
    drop(file);
    u.umount()
}

/// What the daemon opens stays where it is, whatever `coo_reg` says.
fn the_daemon_moves_nothing_up(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .on(Kind::Tmpfs, "rw+fhsm", Tree::new())
        .on(
            Kind::Tmpfs,
            "ro+coo_reg+fhsm",
            Tree::new().file("a", "a").file("b", "b"),
        )
        .mount()?;
    let fd = descriptor(u.root(), CLOEXEC)?;
    assert_eq!(text(u.at("a"))?, "a");
    assert!(!exists(u.br(0, "a")));
    drop(fd);
    assert_eq!(text(u.at("a"))?, "a");
    assert!(exists(u.br(0, "a")));
    u.umount()
}
