// SPDX-License-Identifier: GPL-2.0

//! Data of files: reading, writing, mapping, executing, moving it between descriptors.

use rustix::{
    fs::{FallocateFlags, FlockOperation, SeekFrom},
    io::{preadv, pwritev, IoSlice, IoSliceMut},
    pipe::{pipe, splice, SpliceFlags},
};

use crate::harness::{map::Map, prelude::*, snapshot};

cases! {
    ALL: reading, sendfile_and_splice;
    WRITABLE: writing, fallocate, holes_are_found, syncing;
    BASIC: vectors, append_is_atomic_with_position, copy_file_range, beyond_four_gigabytes,
        file_locks, readers_and_writers_share_a_position, large_random_writes, direct_io, advice,
        notifications, leases, read_only_descriptors, status_flags;
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 256 + i * 7) as u8).collect()
}

fn reading(cx: &Ctx) -> Result<()> {
    let data = pattern(300_001);
    let low = Tree::new().file("f", &data).file("empty", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    assert!(sys::read(u.at("f"))? == data);
    assert_eq!(sys::read(u.at("empty"))?, b"");
    let fd = sys::open_ro(u.at("f"))?;
    let mut buf = [0u8; 1000];
    for offset in [0, 1, 4095, 4096, 65_537, 299_001, 300_000] {
        let n = sys::on_fd("pread", rustix::io::pread(&fd, &mut buf[..], offset as u64))?;
        assert!(
            buf[..n] == data[offset..data.len().min(offset + 1000)],
            "at {offset}"
        );
    }
    assert_eq!(
        sys::on_fd("pread", rustix::io::pread(&fd, &mut buf[..], 300_001))?,
        0
    );
    assert_eq!(sys::seek(&fd, SeekFrom::End(-1))?, 300_000);
    assert_eq!(sys::read_fd(&fd)?, data[300_000..]);
    errno(sys::seek(&fd, SeekFrom::Current(-400_000)), Errno::INVAL);
    sys::drop_caches();
    assert!(
        sys::pread_fd(&fd)? == data,
        "after the page cache was dropped"
    );
    assert!(!exists(u.br(0, "f")), "reading copies nothing up");
    Ok(())
}

fn writing(cx: &Ctx) -> Result<()> {
    let data = pattern(100_000);
    let u = cx
        .union()
        .rw(Tree::new().file("t", &data))
        .ro(Tree::new().file("l", &data).file("d/m", &data))
        .mount()?;
    for name in ["t", "l", "d/m"] {
        let fd = sys::open_rw(u.at(name))?;
        let mut wanted = data.clone();
        for (offset, piece) in [
            (0usize, "head"),
            (50_001, "middle"),
            (99_998, "tail and more"),
        ] {
            sys::pwrite_fd(&fd, piece.as_bytes(), offset as u64)?;
            wanted.resize(wanted.len().max(offset + piece.len()), 0);
            wanted[offset..offset + piece.len()].copy_from_slice(piece.as_bytes());
        }
        sys::pwrite_fd(&fd, b"far", 200_000)?;
        wanted.resize(200_000, 0);
        wanted.extend(b"far");
        assert!(sys::pread_fd(&fd)? == wanted, "{name} by the descriptor");
        assert!(sys::read(u.at(name))? == wanted, "{name} by name");
        assert!(sys::read(u.br(0, name))? == wanted, "{name} on the branch");
        assert_eq!(sys::fstat(&fd)?.st_size, 200_003);
        assert!(sys::mtime(&sys::fstat(&fd)?) > MTIME);
        sys::drop_caches();
        assert!(sys::read(u.at(name))? == wanted, "{name} from the disk");
    }
    Ok(())
}

fn vectors(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "0123456789"))
        .mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    let (mut a, mut b) = ([0u8; 3], [0u8; 20]);
    let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    assert_eq!(sys::on_fd("preadv", preadv(&fd, &mut into, 2))?, 8);
    assert_eq!((&a, &b[..5]), (b"234", &b"56789"[..]));
    let from = [IoSlice::new(b"AB"), IoSlice::new(b"CDE")];
    assert_eq!(sys::on_fd("pwritev", pwritev(&fd, &from, 4))?, 5);
    assert_eq!(text(u.at("f"))?, "0123ABCDE9");
    Ok(())
}

fn append_is_atomic_with_position(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "0"))
        .mount()?;
    let one = sys::open(u.at("f"), OFlags::APPEND | OFlags::RDWR)?;
    let two = sys::open(u.at("f"), OFlags::APPEND | OFlags::WRONLY)?;
    sys::write_fd(&one, b"1")?;
    sys::write_fd(&two, b"2")?;
    sys::seek(&one, SeekFrom::Start(0))?;
    sys::write_fd(&one, b"3")?;
    assert_eq!(sys::seek(&one, SeekFrom::Current(0))?, 4);
    assert_eq!(text(u.at("f"))?, "0123");
    Ok(())
}

fn sendfile_and_splice(cx: &Ctx) -> Result<()> {
    let data = pattern(150_000);
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", &data))
        .mount()?;
    let source = sys::open_ro(u.at("f"))?;
    let target = sys::create(u.at("sent"))?;
    let mut offset = 0;
    while offset < 150_000 {
        let n = rustix::fs::sendfile(&target, &source, Some(&mut offset), 150_000);
        assert!(sys::on_fd("sendfile", n)? > 0);
    }
    assert!(sys::read(u.at("sent"))? == data);

    let (out, into) = pipe()?;
    let target = sys::create(u.at("spliced"))?;
    let mut total = 0;
    while total < 150_000 {
        let n = splice(&source, None, &into, None, 60_000, SpliceFlags::empty());
        let n = sys::on_fd("splice", n)?;
        assert!(n > 0);
        let mut left = n;
        while left > 0 {
            let moved = splice(&out, None, &target, None, left, SpliceFlags::empty());
            left -= sys::on_fd("splice", moved)?;
        }
        total += n;
    }
    assert!(sys::read(u.at("spliced"))? == data);
    Ok(())
}

fn copy_file_range(cx: &Ctx) -> Result<()> {
    let data = pattern(100_000);
    let u = cx
        .union()
        .rw(Tree::new().file("old", "old content"))
        .ro(Tree::new().file("f", &data).file("g", "lower"))
        .mount()?;
    for target in ["new", "old", "g"] {
        let (from, to) = (
            sys::open_ro(u.at("f"))?,
            sys::open(u.at(target), OFlags::CREATE | OFlags::RDWR)?,
        );
        let mut done = 0;
        while done < 100_000 {
            let n = rustix::fs::copy_file_range(&from, None, &to, None, 100_000 - done);
            let n = sys::on_fd("copy_file_range", n)?;
            assert!(n > 0);
            done += n;
        }
        assert!(sys::read(u.at(target))? == data, "{target}");
    }
    assert!(!exists(u.br(0, "f")), "the source stays where it is");
    Ok(())
}

fn fallocate(cx: &Ctx) -> Result<()> {
    let data = pattern(65_536);
    let u = cx
        .union()
        .rw(Tree::new().file("t", &data))
        .ro(Tree::new().file("l", &data))
        .mount()?;
    for name in ["t", "l"] {
        let fd = sys::open_rw(u.at(name))?;
        let alloc = |mode, offset, len| {
            sys::on_fd("fallocate", rustix::fs::fallocate(&fd, mode, offset, len))
        };
        let keep = FallocateFlags::KEEP_SIZE;
        alloc(keep | FallocateFlags::PUNCH_HOLE, 8192, 16_384)?;
        let mut wanted = data.clone();
        wanted[8192..24_576].fill(0);
        assert!(
            sys::pread_fd(&fd)? == wanted,
            "{name}: a hole reads as zeros"
        );
        alloc(keep, 65_536, 65_536)?;
        assert_eq!(sys::fstat(&fd)?.st_size, 65_536);
        alloc(FallocateFlags::empty(), 65_536, 10_000)?;
        wanted.resize(75_536, 0);
        assert!(sys::pread_fd(&fd)? == wanted);
        assert_eq!(sys::lstat(u.at(name))?.st_size, 75_536);
        assert_eq!(sys::lstat(u.br(0, name))?.st_size, 75_536);
        errno(alloc(FallocateFlags::PUNCH_HOLE, 0, 4096), Errno::OPNOTSUPP);
        let readonly = sys::open_ro(u.at(name))?;
        let refused = rustix::fs::fallocate(&readonly, keep, 0, 1);
        errno(sys::on_fd("fallocate", refused), Errno::BADF);
    }
    Ok(())
}

fn holes_are_found(cx: &Ctx) -> Result<()> {
    let tree = |name: &str| Tree::new().sparse(name, 8 << 20, &[(1 << 20, &[1; 65_536])]);
    let u = cx.union().rw(tree("t")).ro(tree("l")).mount()?;
    sys::append(u.at("l"), "end")?;
    for name in ["t", "l"] {
        let fd = sys::open_ro(u.at(name))?;
        assert_eq!(sys::seek(&fd, SeekFrom::Data(0))?, 1 << 20, "{name}");
        assert_eq!(
            sys::seek(&fd, SeekFrom::Hole(1 << 20))?,
            (1 << 20) + 65_536,
            "{name}"
        );
        assert_eq!(sys::seek(&fd, SeekFrom::Hole(0))?, 0, "{name}");
        errno(sys::seek(&fd, SeekFrom::Data(9 << 20)), Errno::NXIO);
    }
    Ok(())
}

fn beyond_four_gigabytes(cx: &Ctx) -> Result<()> {
    const FAR: u64 = (5 << 30) + 123;
    let low = Tree::new().sparse("f", FAR + 10, &[(0, b"start"), (FAR, b"far away!!")]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    sys::pwrite_fd(&fd, b"FAR", FAR)?;
    let mut buf = [0u8; 10];
    sys::on_fd("pread", rustix::io::pread(&fd, &mut buf[..], FAR))?;
    assert_eq!(&buf, b"FAR away!!");
    let stat = sys::lstat(u.br(0, "f"))?;
    assert_eq!(stat.st_size as u64, FAR + 10);
    assert!(
        stat.st_blocks < 4096,
        "{} blocks: the hole was copied as data",
        stat.st_blocks
    );
    Ok(())
}

fn syncing(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(Tree::new().file("l", "l").file("d/x", ""))
        .mount()?;
    for name in ["t", "l"] {
        let fd = sys::open_rw(u.at(name))?;
        sys::write_fd(&fd, b"new")?;
        sys::on_fd("fsync", rustix::fs::fsync(&fd))?;
        sys::on_fd("fdatasync", rustix::fs::fdatasync(&fd))?;
        sys::on_fd("syncfs", rustix::fs::syncfs(&fd))?;
    }
    for name in ["", "d"] {
        let fd = dir::open_dir(u.at(name))?;
        sys::on_fd("fsync of a directory", rustix::fs::fsync(&fd))?;
        sys::on_fd("syncfs", rustix::fs::syncfs(&fd))?;
    }
    let low = sys::open_ro(u.at("d/x"))?;
    sys::on_fd("fsync of a lower file", rustix::fs::fsync(&low))?;
    assert!(!exists(u.br(0, "d")), "fsync for reading copies nothing up");
    Ok(())
}

fn file_locks(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "x"))
        .mount()?;
    let (one, two) = (sys::open_ro(u.at("f"))?, sys::open_rw(u.at("f"))?);
    let lock = |fd: &_, how| sys::on_fd("flock", rustix::fs::flock(fd, how));
    lock(&one, FlockOperation::LockExclusive)?;
    errno(
        lock(&two, FlockOperation::NonBlockingLockShared),
        Errno::AGAIN,
    );
    sys::write_fd(&two, b"copied up meanwhile")?;
    errno(
        lock(&two, FlockOperation::NonBlockingLockShared),
        Errno::AGAIN,
    );
    let three = sys::open_ro(u.at("f"))?;
    errno(
        lock(&three, FlockOperation::NonBlockingLockExclusive),
        Errno::AGAIN,
    );
    lock(&one, FlockOperation::Unlock)?;
    lock(&three, FlockOperation::NonBlockingLockExclusive)?;
    Ok(())
}

fn readers_and_writers_share_a_position(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "0123456789"))
        .mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    let twin = rustix::io::dup(&fd)?;
    let mut buf = [0u8; 3];
    rustix::io::read(&fd, &mut buf[..])?;
    sys::write_fd(&twin, b"ABC")?; // The copy-up must not lose the position.
    rustix::io::read(&fd, &mut buf[..])?;
    assert_eq!(&buf, b"678");
    assert_eq!(text(u.at("f"))?, "012ABC6789");
    Ok(())
}

fn large_random_writes(cx: &Ctx) -> Result<()> {
    let mut model = pattern(1 << 20);
    let low = Tree::new().file("f", &model);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let (writer, reader) = (sys::open_rw(u.at("f"))?, sys::open_ro(u.at("f"))?);
    let mut x: usize = 12_345;
    for i in 0..300 {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (offset, len) = ((x >> 20) % model.len(), (x >> 50) % 9000);
        let end = model.len().min(offset + len);
        model[offset..end].fill(i as u8);
        sys::pwrite_fd(&writer, &model[offset..end], offset as u64)?;
    }
    assert!(
        sys::pread_fd(&reader)? == model,
        "through a descriptor from before"
    );
    sys::drop_caches();
    assert!(sys::read(u.at("f"))? == model, "from the disk");
    assert!(sys::read(u.br(0, "f"))? == model, "on the branch");
    Ok(())
}

fn direct_io(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", pattern(65_536)))
        .mount()?;
    let fd = sys::open(u.at("f"), OFlags::DIRECT | OFlags::RDWR)?;
    // An anonymous mapping is as aligned as direct I/O can ask for.
    let mut buf = Map::anonymous(8192)?;
    let n = sys::on_fd("pread", rustix::io::pread(&fd, buf.bytes_mut(), 4096))?;
    assert_eq!(n, 8192);
    assert!(buf.bytes()[..] == pattern(65_536)[4096..12_288]);
    buf.bytes_mut().fill(9);
    assert_eq!(
        sys::on_fd("pwrite", rustix::io::pwrite(&fd, buf.bytes(), 8192))?,
        8192
    );
    let data = sys::read(u.at("f"))?;
    assert!(
        data[8192..16_384].iter().all(|b| *b == 9),
        "a buffered reader sees it"
    );
    assert!(data[..8192] == pattern(65_536)[..8192]);
    Ok(())
}

fn advice(cx: &Ctx) -> Result<()> {
    use rustix::fs::{fadvise, Advice};
    let data = pattern(200_000);
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", &data))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    for advice in [
        Advice::Sequential,
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::Random,
    ] {
        sys::on_fd("fadvise", fadvise(&fd, 0, None, advice))?;
        assert!(sys::pread_fd(&fd)? == data);
    }
    // SAFETY: a plain system call on an open descriptor.
    let ret = unsafe { libc::readahead(std::os::fd::AsRawFd::as_raw_fd(&fd), 0, 100_000) };
    assert_eq!(ret, 0, "readahead: {}", sys::last_errno());
    Ok(())
}

fn notifications(cx: &Ctx) -> Result<()> {
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/low", "x").file("f", ""))
        .mount()?;
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let mask = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MODIFY | WatchFlags::MOVE;
    inotify::add_watch(&watch, u.at("d"), mask)?;
    sys::write(u.at("d/new"), "")?;
    sys::append(u.at("d/low"), "y")?;
    sys::rename(u.at("d/new"), u.at("d/renamed"))?;
    sys::unlink(u.at("d/renamed"))?;
    let mut seen = Vec::new();
    let mut buf = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buf);
    while let Ok(event) = events.next() {
        let name = event.file_name().map(|n| n.to_string_lossy().into_owned());
        seen.push((event.events(), name.unwrap_or_default()));
    }
    let event = |flags, name: &str| (flags, name.to_owned());
    let wanted = [
        event(ReadFlags::CREATE, "new"),
        event(ReadFlags::MODIFY, "low"),
        event(ReadFlags::MOVED_FROM, "new"),
        event(ReadFlags::MOVED_TO, "renamed"),
        event(ReadFlags::DELETE, "renamed"),
    ];
    assert_eq!(seen, wanted, "and nothing about the copy-up");
    Ok(())
}

fn leases(cx: &Ctx) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: no handler is installed. The kernel tells the holder of a lease by this signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "x"))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let lease = |how: i32| {
        // SAFETY: a plain system call on an open descriptor.
        match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, how) } {
            0 => Ok(()),
            _ => Err(sys::last_errno()),
        }
    };
    sys::on_fd("F_SETLEASE", lease(libc::F_RDLCK))?;
    let writer = sys::open(u.at("f"), OFlags::WRONLY | OFlags::NONBLOCK);
    errno(writer, Errno::AGAIN);
    sys::on_fd("F_SETLEASE", lease(libc::F_UNLCK))?;
    sys::append(u.at("f"), "y")?;
    Ok(())
}

fn read_only_descriptors(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "x"))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    errno(sys::write_fd(&fd, b"y"), Errno::BADF);
    let write_only = sys::open(u.at("f"), OFlags::WRONLY)?;
    errno(sys::read_fd(&write_only), Errno::BADF);
    let path = sys::open(u.at("f"), OFlags::PATH)?;
    errno(sys::read_fd(&path), Errno::BADF);
    assert_eq!(
        snapshot::hash(&fd)?,
        snapshot::hash(sys::open_ro(u.br(1, "f"))?)?
    );
    Ok(())
}

fn status_flags(cx: &Ctx) -> Result<()> {
    use rustix::fs::{fcntl_getfl, fcntl_setfl};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "0123"))
        .mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    let flags = sys::on_fd("F_GETFL", fcntl_getfl(&fd))?;
    sys::on_fd("F_SETFL", fcntl_setfl(&fd, flags | OFlags::APPEND))?;
    sys::seek(&fd, SeekFrom::Start(0))?;
    sys::write_fd(&fd, b"45")?;
    assert_eq!(
        text(u.at("f"))?,
        "012345",
        "O_APPEND set later reaches the branch file"
    );
    sys::on_fd("F_SETFL", fcntl_setfl(&fd, flags))?;
    sys::seek(&fd, SeekFrom::Start(0))?;
    sys::write_fd(&fd, b"x")?;
    assert_eq!(text(u.at("f"))?, "x12345");
    Ok(())
}
