// SPDX-License-Identifier: GPL-2.0

//! Open files across copy-up: descriptors, mappings, watches, locks and leases taken before it
//! still mean the same file after it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
};

use crate::harness::{
    aio::{self, Aio},
    handle::Handle,
    map::Map,
    prelude::*,
    uring::{Call, Ring, ASYNC},
};

cases! {
    WRITABLE: directory_descriptor, path_descriptor, locks, leases;
    BASIC: new_mapping_through_an_old_descriptor, old_mapping_stays_as_it_was,
        mapping_of_a_file_that_is_cut, file_watch, fanotify_marks, running_program,
        swap_is_refused, asynchronous_requests, io_uring;
}

fn low_file(cx: &Ctx) -> Result<Union> {
    cx.union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/f", "low").file("d/g", "g"))
        .mount()
}

fn directory_descriptor(cx: &Ctx) -> Result<()> {
    let u = low_file(cx)?;
    let fd = dir::open_dir(u.at("d"))?;
    let ino = sys::fstat(&fd)?.st_ino;
    assert_eq!(dir::rest(&fd, 4096)?.len(), 4, "with . and ..");
    sys::chmod(u.at("d"), 0o700)?;
    sys::write(u.at("d/new"), "new")?;
    sys::unlink(u.at("d/g"))?;
    let stat = sys::fstat(&fd)?;
    assert_eq!((stat.st_ino, sys::mode(&stat)), (ino, 0o700));
    sys::seek(&fd, sys::SeekFrom::Start(0))?;
    let seen = dir::unique(&dir::rest(&fd, 4096)?, &u.at("d"));
    assert_eq!(seen, set([".", "..", "f", "new"]));
    let file = rustix::fs::openat(&fd, "new", OFlags::RDONLY, Mode::empty());
    assert_eq!(sys::read_fd(sys::on_fd("openat", file)?)?, b"new");
    sys::on_fd(
        "mkdirat",
        rustix::fs::mkdirat(&fd, "sub", Mode::from_raw_mode(0o755)),
    )?;
    assert!(exists(u.br(0, "d/sub")));
    sys::on_fd("fsync", rustix::fs::fsync(&fd))?;
    sys::on_fd(
        "fchmod",
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o711)),
    )?;
    assert_eq!(sys::mode(&sys::lstat(u.at("d"))?), 0o711);
    Ok(())
}

fn path_descriptor(cx: &Ctx) -> Result<()> {
    let u = low_file(cx)?;
    let fd = sys::open(u.at("d/f"), OFlags::PATH)?;
    let ino = sys::fstat(&fd)?.st_ino;
    sys::append(u.at("d/f"), " and more")?;
    sys::rename(u.at("d/f"), u.at("moved"))?;
    sys::drop_caches();
    let stat = sys::fstat(&fd)?;
    assert_eq!((stat.st_ino, stat.st_size), (ino, 12));
    let by_proc = format!("/proc/self/fd/{}", fd.as_raw_fd());
    assert_eq!(text(&by_proc)?, "low and more", "opened again");
    sys::write_fd(sys::open(&by_proc, OFlags::WRONLY)?, b"new")?;
    assert_eq!(text(u.at("moved"))?, "new and more");
    sys::link_fd(&fd, u.at("linked"))?;
    assert_eq!(sys::lstat(u.at("linked"))?.st_ino, ino);
    Ok(())
}

fn new_mapping_through_an_old_descriptor(cx: &Ctx) -> Result<()> {
    let u = low_file(cx)?;
    let fd = sys::open_ro(u.at("d/f"))?;
    sys::write_fd(sys::open_rw(u.at("d/f"))?, b"new")?;
    // The first use of the descriptor since.
    let map = Map::shared_ro(&fd, 3)?;
    assert_eq!(map.bytes(), b"new");
    let private = Map::private(&fd, 3)?;
    assert_eq!(private.bytes(), b"new");
    sys::write_fd(sys::open_rw(u.at("d/f"))?, b"yet")?;
    assert_eq!(map.bytes(), b"yet", "and follows what is written");
    Ok(())
}

/// A mapping cannot be moved to another file by a module. It goes on showing the original, which
/// nobody changes, as it was when the copy was made; it never shows a mixture, and never faults
/// where the original has data. See "Mappings" in `ruaufs-reference.rst`.
fn old_mapping_stays_as_it_was(cx: &Ctx) -> Result<()> {
    let data: Vec<u8> = (0..20_000).map(|i| (i / 7) as u8).collect();
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", &data))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let (shared, private) = (Map::shared_ro(&fd, 20_000)?, Map::private(&fd, 20_000)?);
    assert_eq!(shared.bytes()[0], data[0], "one page is there already");
    sys::pwrite_fd(sys::open_rw(u.at("f"))?, &[0xff; 20_000], 0)?;
    sys::truncate(u.at("f"), 5000)?;
    sys::drop_caches();
    assert!(shared.bytes() == data, "the shared one");
    assert!(private.bytes() == data, "the private one");
    assert!(sys::pread_fd(&fd)? == [0xff; 5000], "read(2) follows");
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let path = u.at("f");
    let shown = maps
        .lines()
        .filter(|l| l.ends_with(&*path.to_string_lossy()));
    assert_eq!(shown.count(), 2, "under the name in the union");
    // A mapping that was made for writing is of the copy from the beginning.
    let writer = sys::open_rw(u.at("f"))?;
    let map = Map::shared(&writer, 5000)?;
    sys::pwrite_fd(&writer, b"seen", 0)?;
    assert_eq!(&map.bytes()[..4], b"seen");
    Ok(())
}

/// What a child that runs `f` ends with: its exit status or its signal.
fn in_a_child(f: impl FnOnce() -> i32) -> Result<std::process::ExitStatus> {
    use std::os::unix::process::ExitStatusExt;
    // SAFETY: the child makes no use of the threads that it lost, and ends at once.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = f();
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    anyhow::ensure!(pid > 0, "fork: {}", sys::last_errno());
    let mut status = 0;
    // SAFETY: the argument is valid.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    Ok(std::process::ExitStatus::from_raw(status))
}

fn mapping_of_a_file_that_is_cut(cx: &Ctx) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    let data = vec![7u8; 20_000];
    let u = cx
        .union()
        .rw(Tree::new().file("t", &data))
        .ro(Tree::new().file("l", &data))
        .mount()?;
    for name in ["t", "l"] {
        let fd = sys::open_rw(u.at(name))?;
        let map = Map::shared(&fd, 20_000)?;
        assert_eq!(map.bytes()[19_000], 7);
        sys::truncate(u.at(name), 5000)?;
        assert_eq!(map.bytes()[4999], 7);
        assert_eq!(map.bytes()[5001], 0, "the rest of the page");
        let status = in_a_child(|| {
            // SAFETY: a mapped address, whose page the file does not have any more.
            i32::from(unsafe { std::ptr::read_volatile(map.bytes().as_ptr().add(12_000)) })
        })?;
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{name}: {status}");
        sys::truncate(u.at(name), 20_000)?;
        assert_eq!(map.bytes()[12_000], 0, "it has it again");
    }
    Ok(())
}

fn file_watch(cx: &Ctx) -> Result<()> {
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    let u = low_file(cx)?;
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let mask = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
    let mask = mask | WatchFlags::DELETE_SELF | WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watch, u.at("d/f"), mask)?;
    let events = || {
        let mut seen = Vec::new();
        let mut buf = vec![std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buf);
        while let Ok(event) = reader.next() {
            seen.push(event.events());
        }
        seen
    };
    sys::append(u.at("d/f"), "more")?;
    assert_eq!(
        events(),
        [ReadFlags::MODIFY, ReadFlags::CLOSE_WRITE],
        "the copy-up is silent"
    );
    sys::drop_caches();
    sys::chmod(u.at("d/f"), 0o600)?;
    sys::rename(u.at("d/f"), u.at("moved"))?;
    assert_eq!(events(), [ReadFlags::ATTRIB, ReadFlags::MOVE_SELF]);
    sys::append(u.at("moved"), "again")?;
    sys::unlink(u.at("moved"))?;
    let seen = events();
    assert!(
        seen.starts_with(&[ReadFlags::MODIFY, ReadFlags::CLOSE_WRITE]),
        "{seen:?}"
    );
    assert!(seen.contains(&ReadFlags::DELETE_SELF), "{seen:?}");
    Ok(())
}

/// A fanotify group that names objects by handle.
struct Fanotify(OwnedFd);

impl Fanotify {
    fn new() -> Result<Self> {
        use std::os::fd::FromRawFd;
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_NONBLOCK | libc::FAN_CLOEXEC;
        // SAFETY: a plain system call.
        let fd = unsafe { libc::fanotify_init(flags | libc::FAN_REPORT_FID, 0) };
        anyhow::ensure!(fd >= 0, "fanotify_init: {}", sys::last_errno());
        // SAFETY: the kernel just returned it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn mark(&self, path: std::path::PathBuf, how: u32, mask: u64) -> Result<()> {
        let c = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
        let flags = libc::FAN_MARK_ADD | how;
        let fd = self.0.as_raw_fd();
        // SAFETY: the path is a string.
        let ret = unsafe { libc::fanotify_mark(fd, flags, mask, libc::AT_FDCWD, c.as_ptr()) };
        anyhow::ensure!(ret == 0, "fanotify_mark: {}", sys::last_errno());
        Ok(())
    }

    /// The events that wait: mask, type and bytes of the handle.
    fn events(&self) -> Result<Vec<(u64, i32, Vec<u8>)>> {
        let mut buf = vec![0u8; 8192];
        let n = match rustix::io::read(&self.0, &mut buf) {
            Err(Errno::AGAIN) => return Ok(Vec::new()),
            other => sys::on_fd("read", other)?,
        };
        let word = |at: usize| u32::from_ne_bytes(buf[at..at + 4].try_into().expect("4 bytes"));
        let (mut at, mut events) = (0, Vec::new());
        while at < n {
            let (len, meta) = (word(at) as usize, 24);
            let mask = u64::from_ne_bytes(buf[at + 8..at + 16].try_into()?);
            // struct fanotify_event_info_fid: header (4), fsid (8), struct file_handle.
            let info = at + meta;
            anyhow::ensure!(len > meta + 20, "an event without a handle");
            let (bytes, kind) = (word(info + 12) as usize, word(info + 16) as i32);
            events.push((mask, kind, buf[info + 20..info + 20 + bytes].to_vec()));
            at += len;
        }
        Ok(events)
    }
}

fn fanotify_marks(cx: &Ctx) -> Result<()> {
    const MODIFY: u64 = 0x2;
    const ATTRIB: u64 = 0x4;
    const CLOSE_WRITE: u64 = 0x8;
    for (name, how) in [
        ("inode", libc::FAN_MARK_INODE),
        ("mount", libc::FAN_MARK_MOUNT),
        ("file system", libc::FAN_MARK_FILESYSTEM),
    ] {
        let u = low_file(cx)?;
        let group = Fanotify::new()?;
        let target = match how {
            libc::FAN_MARK_INODE => u.at("d/f"),
            _ => u.at(""),
        };
        // Mounts have no events about attributes.
        let mask = match how {
            libc::FAN_MARK_MOUNT => MODIFY | CLOSE_WRITE,
            _ => MODIFY | CLOSE_WRITE | ATTRIB,
        };
        group.mark(target, how, mask).with_context(|| name)?;
        let handle = Handle::of(u.at("d/f"))?;
        sys::append(u.at("d/f"), "more")?;
        sys::drop_caches();
        sys::append(u.at("d/f"), "again")?;
        sys::chmod(u.at("d/f"), 0o600)?;
        let events = group.events()?;
        let all = events.iter().fold(0, |all, event| all | event.0);
        assert_eq!(all, mask, "{name}: {events:?}");
        for (_, kind, bytes) in &events {
            assert_eq!(
                (*kind, &bytes[..]),
                (handle.kind(), handle.bytes()),
                "{name}"
            );
        }
        drop(group);
        u.umount()?;
    }
    Ok(())
}

/// `fcntl(2)` with a lock on the first ten bytes.
fn lock(fd: &OwnedFd, command: i32, kind: i32) -> sys::Res<i32> {
    // SAFETY: zeroes are a valid lock, and the call takes a pointer to one.
    let (ret, lock) = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        lock.l_len = 10;
        (libc::fcntl(fd.as_raw_fd(), command, &mut lock), lock)
    };
    match ret {
        0 => Ok(i32::from(lock.l_type)),
        _ => sys::on_fd("fcntl", Err(sys::last_errno())),
    }
}

fn locks(cx: &Ctx) -> Result<()> {
    const OFD_GETLK: i32 = 36;
    const OFD_SETLK: i32 = 37;
    let u = low_file(cx)?;
    let reader = sys::open_ro(u.at("d/f"))?;
    lock(&reader, OFD_SETLK, libc::F_RDLCK)?;
    let posix = sys::open_ro(u.at("d/g"))?;
    lock(&posix, libc::F_SETLK, libc::F_RDLCK)?;
    for name in ["d/f", "d/g"] {
        let writer = sys::open_rw(u.at(name))?;
        sys::write_fd(&writer, b"copied up")?;
        sys::drop_caches();
        errno(lock(&writer, OFD_SETLK, libc::F_WRLCK), Errno::AGAIN);
        assert_eq!(lock(&writer, OFD_GETLK, libc::F_WRLCK)?, libc::F_RDLCK);
        let fresh = sys::open_rw(u.at(name))?;
        errno(lock(&fresh, OFD_SETLK, libc::F_WRLCK), Errno::AGAIN);
        lock(&fresh, OFD_SETLK, libc::F_RDLCK)?;
        lock(&fresh, OFD_SETLK, libc::F_UNLCK)?;
    }
    lock(&reader, OFD_SETLK, libc::F_UNLCK)?;
    lock(&sys::open_rw(u.at("d/f"))?, OFD_SETLK, libc::F_WRLCK)?;
    lock(&posix, libc::F_SETLK, libc::F_UNLCK)?;
    lock(&sys::open_rw(u.at("d/g"))?, OFD_SETLK, libc::F_WRLCK)?;
    Ok(())
}

fn leases(cx: &Ctx) -> Result<()> {
    // SAFETY: no handler is installed. The kernel tells the holder of a lease by this signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let lease = |fd: &OwnedFd, how: i32| {
        // SAFETY: a plain system call on an open descriptor.
        let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, how) };
        sys::on_fd(
            "F_SETLEASE",
            if ret == 0 {
                Ok(())
            } else {
                Err(sys::last_errno())
            },
        )
    };
    let held = |fd: &OwnedFd| {
        // SAFETY: a plain system call on an open descriptor.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE) }
    };
    let u = low_file(cx)?;
    let reader = sys::open_ro(u.at("d/f"))?;
    lease(&reader, libc::F_RDLCK)?;
    let nonblocking = OFlags::WRONLY | OFlags::NONBLOCK;
    errno(sys::open(u.at("d/f"), nonblocking), Errno::AGAIN);
    assert_eq!(held(&reader), libc::F_UNLCK, "it is asked back");
    assert!(!exists(u.br(0, "d/f")), "who must wait copies nothing up");
    lease(&reader, libc::F_UNLCK)?;
    // Copied up by attribute, which a lease does not forbid.
    lease(&reader, libc::F_RDLCK)?;
    sys::chmod(u.at("d/f"), 0o600)?;
    assert!(exists(u.br(0, "d/f")));
    assert_eq!(held(&reader), libc::F_RDLCK);
    errno(sys::open(u.at("d/f"), nonblocking), Errno::AGAIN);
    lease(&reader, libc::F_UNLCK)?;
    let writer = sys::open_rw(u.at("d/f"))?;
    errno(lease(&reader, libc::F_RDLCK), Errno::AGAIN);
    drop(reader);
    lease(&writer, libc::F_WRLCK)?;
    errno(sys::open(u.at("d/f"), OFlags::NONBLOCK), Errno::AGAIN);
    lease(&writer, libc::F_UNLCK)?;
    drop(sys::open_ro(u.at("d/f"))?);
    Ok(())
}

fn running_program(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("sleep", std::fs::read("/bin/sleep")?)
        .mode(0o755);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let mut child = Command::new(u.at("sleep")).arg("1000").spawn()?;
    // Copied up while it runs, by attribute.
    let tries = (|| {
        sys::chmod(u.at("sleep"), 0o700)?;
        Ok([
            sys::open_rw(u.at("sleep")).map(drop),
            sys::truncate(u.at("sleep"), 0),
        ])
    })();
    let shown = sys::readlink(format!("/proc/{}/exe", child.id()));
    child.kill()?;
    child.wait()?;
    let tries: sys::Res<[sys::Res<()>; 2]> = tries;
    for result in tries? {
        errno(result, Errno::TXTBSY);
    }
    assert_eq!(shown?, u.at("sleep").to_string_lossy());
    let writer = sys::open_rw(u.at("sleep"))?;
    let refused = Command::new(u.at("sleep"))
        .output()
        .expect_err("it is open for writing");
    assert_eq!(refused.raw_os_error(), Some(libc::ETXTBSY));
    drop(writer);
    Ok(())
}

fn swap_is_refused(cx: &Ctx) -> Result<()> {
    let mut data = vec![0u8; 1 << 20];
    data[4086..4096].copy_from_slice(b"SWAPSPACE2");
    data[1024] = 1;
    data[1028..1032].copy_from_slice(&255u32.to_le_bytes());
    let u = cx
        .union()
        .rw(Tree::new().file("t", &data).mode(0o600))
        .ro(Tree::new().file("l", &data).mode(0o600))
        .mount()?;
    for name in ["t", "l"] {
        let c = std::ffi::CString::new(u.at(name).as_os_str().as_encoded_bytes())?;
        // SAFETY: the path is a string.
        let ret = unsafe { libc::swapon(c.as_ptr(), 0) };
        assert_eq!((ret, sys::last_errno()), (-1, Errno::INVAL), "{name}");
    }
    assert!(!exists(u.br(0, "l")) || sys::read(u.br(0, "l"))? == data);
    Ok(())
}

/// `io_submit(2)`: what is done behind the caller's back goes to the right file, too.
fn asynchronous_requests(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", vec![1u8; 65_536]))
        .mount()?;
    let aio = Aio::new()?;
    for direct in [OFlags::empty(), OFlags::DIRECT] {
        let reader = sys::open(u.at("f"), direct)?;
        let mut map = Map::anonymous(8192)?;
        assert_eq!(aio.run(aio::Call::Read, &reader, &map, 4096)?, 8192);
        let writer = sys::open(u.at("f"), OFlags::RDWR | direct)?;
        map.bytes_mut().fill(5);
        assert_eq!(aio.run(aio::Call::Write, &writer, &map, 8192)?, 8192);
        map.bytes_mut().fill(0);
        assert_eq!(aio.run(aio::Call::Read, &reader, &map, 8192)?, 8192);
        assert!(
            map.bytes().iter().all(|b| *b == 5),
            "the reader from before sees it"
        );
        assert_eq!(
            aio.run(aio::Call::Write, &writer, &map, 65_536)?,
            8192,
            "beyond the end"
        );
        assert_eq!(sys::fstat(&reader)?.st_size, 73_728);
        sys::truncate(u.at("f"), 65_536)?;
    }
    Ok(())
}

fn io_uring(cx: &Ctx) -> Result<()> {
    let ring = Ring::new()?;
    for flags in [0, ASYNC] {
        for direct in [OFlags::empty(), OFlags::DIRECT] {
            let u = cx
                .union()
                .rw(Tree::new())
                .ro(Tree::new().file("f", vec![1u8; 65_536]))
                .mount()?;
            let reader = sys::open(u.at("f"), direct)?;
            let mut map = Map::anonymous(8192)?;
            let n = ring.run(Call::Read, flags, &reader, map.bytes_mut(), 4096)?;
            assert_eq!((n, map.bytes()[8191]), (8192, 1));
            let writer = sys::open(u.at("f"), OFlags::RDWR | direct)?;
            map.bytes_mut().fill(5);
            let n = ring.run(Call::Write, flags, &writer, map.bytes_mut(), 8192)?;
            assert_eq!(n, 8192);
            assert_eq!(ring.run(Call::Fsync, flags, &writer, &mut [], 0)?, 0);
            map.bytes_mut().fill(0);
            let n = ring.run(Call::Read, flags, &reader, map.bytes_mut(), 8192)?;
            assert_eq!(n, 8192);
            assert!(
                map.bytes().iter().all(|b| *b == 5),
                "the reader from before sees it"
            );
            let n = ring.run(Call::Fallocate, flags, &writer, map.bytes_mut(), 65_536)?;
            assert_eq!((n, sys::fstat(&reader)?.st_size), (0, 73_728));
            let n = ring.run(Call::Write, flags, &reader, map.bytes_mut(), 0)?;
            assert_eq!(n, -libc::EBADF);
            assert_eq!(sys::read(u.br(0, "f"))?.len(), 73_728);
        }
    }
    Ok(())
}
