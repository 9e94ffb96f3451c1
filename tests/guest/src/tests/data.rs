// SPDX-License-Identifier: GPL-2.0

//! Everything that can be done to the data of a file: it gives what a plain directory of the same
//! file system gives, be the file copied up for it or not.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::OnceLock,
};

use rustix::{
    fs::{FallocateFlags, SeekFrom},
    io::{IoSlice, IoSliceMut, ReadWriteFlags},
};

use crate::harness::{
    compare::{as_native, said, Op},
    map::Map,
    prelude::*,
    sys::Res,
};

cases! {
    WRITABLE: reading_and_writing, flags_of_requests, space, moving_between_files;
}

pub(super) type Action = (&'static str, fn(&Path) -> Res<String>);

/// Up to 400,000 bytes that tell where they are from.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    // Made once: every operation has files of it in three places.
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    let all = ALL.get_or_init(|| (0..400_000).map(|i| (i / 256 + i * 7) as u8).collect());
    all[..len].to_vec()
}

/// The files `f` (with a hole), `g`, and `empty`.
pub(super) fn table(actions: &[Action]) -> Vec<Op> {
    let op = |&(name, run): &Action| Op {
        name: name.to_owned(),
        tree: Box::new(|tree, at| {
            let data = pattern(65_536);
            tree.sparse(
                &format!("{at}f"),
                300_000,
                &[(0, &data), (131_072, &data), (299_990, b"0123456789")],
            )
            .file(&format!("{at}g"), pattern(100_000))
            .file(&format!("{at}empty"), "")
        }),
        run: Box::new(move |at| said(run(at))),
    };
    actions.iter().map(op).collect()
}

pub(super) fn done<T>(result: Res<T>) -> Res<String> {
    result.map(|_| "done".to_owned())
}

pub(super) fn rw(d: &Path) -> Res<OwnedFd> {
    sys::open_rw(d.join("f"))
}

/// What a call through libc gave.
pub(super) fn libc_result(call: &'static str, ret: i64) -> Res<i64> {
    match ret {
        -1 => sys::on_fd(call, Err(sys::last_errno())),
        ret => Ok(ret),
    }
}

fn reading_and_writing(cx: &Ctx) -> Result<()> {
    let actions: &[Action] = &[
        ("read all", |d| {
            Ok(format!("{}", sys::read(d.join("f"))?.len()))
        }),
        ("write over a hole", |d| {
            done(sys::pwrite_fd(rw(d)?, &pattern(5000), 100_000))
        }),
        ("write beyond the end", |d| {
            done(sys::pwrite_fd(rw(d)?, b"end", 400_000))
        }),
        ("append", |d| done(sys::append(d.join("f"), "more"))),
        ("pwrite with O_APPEND goes to the end", |d| {
            let fd = sys::open(d.join("f"), OFlags::RDWR | OFlags::APPEND)?;
            let n = sys::on_fd("pwrite", rustix::io::pwrite(&fd, b"x", 5))?;
            Ok(format!("{n} {}", sys::seek(&fd, SeekFrom::Current(0))?))
        }),
        ("position after write", |d| {
            let fd = rw(d)?;
            sys::write_fd(&fd, b"abc")?;
            let mut buf = [0; 10];
            sys::on_fd("read", rustix::io::read(&fd, &mut buf))?;
            Ok(format!("{} {buf:?}", sys::seek(&fd, SeekFrom::Current(0))?))
        }),
        ("seek", |d| {
            let fd = rw(d)?;
            let tries = [
                SeekFrom::Data(0),
                SeekFrom::Data(70_000),
                SeekFrom::Hole(0),
                SeekFrom::Hole(140_000),
                SeekFrom::Data(299_999),
                SeekFrom::Data(300_000),
                SeekFrom::Hole(300_000),
                SeekFrom::End(0),
                SeekFrom::End(10),
                SeekFrom::Current(-400_000),
                SeekFrom::Start(i64::MAX as u64),
                SeekFrom::Start(i64::MAX as u64 + 1),
            ];
            Ok(format!("{:?}", tries.map(|to| said(sys::seek(&fd, to)))))
        }),
        ("seek after copy-up", |d| {
            let fd = sys::open_ro(d.join("f"))?;
            sys::pwrite_fd(rw(d)?, b"x", 0)?;
            let tries = [
                SeekFrom::Data(70_000),
                SeekFrom::Hole(0),
                SeekFrom::Hole(140_000),
            ];
            Ok(format!("{:?}", tries.map(|to| said(sys::seek(&fd, to)))))
        }),
        ("direct write and read", |d| {
            let fd = sys::open(d.join("f"), OFlags::RDWR | OFlags::DIRECT)?;
            let mut map = Map::anonymous(8192)?;
            map.bytes_mut().fill(7);
            let n = sys::on_fd("pwrite", rustix::io::pwrite(&fd, map.bytes(), 131_072))?;
            let m = sys::on_fd(
                "pread",
                rustix::io::pread(&fd, map.bytes_mut(), 131_072 + 4096),
            )?;
            Ok(format!("{n} {m} {:?}", &map.bytes()[4090..4100]))
        }),
        ("direct write beyond the end", |d| {
            let fd = sys::open(d.join("f"), OFlags::RDWR | OFlags::DIRECT)?;
            let map = Map::anonymous(4096)?;
            let n = sys::on_fd("pwrite", rustix::io::pwrite(&fd, map.bytes(), 303_104))?;
            Ok(format!("{n} {}", sys::fstat(&fd)?.st_size))
        }),
        ("O_DSYNC and O_SYNC", |d| {
            for flag in [OFlags::DSYNC, OFlags::SYNC] {
                sys::write_fd(sys::open(d.join("f"), OFlags::RDWR | flag)?, b"sync")?;
            }
            Ok(String::new())
        }),
        ("O_DIRECT by F_SETFL", |d| {
            use rustix::fs::{fcntl_getfl, fcntl_setfl};
            let fd = rw(d)?;
            let flags = sys::on_fd("F_GETFL", fcntl_getfl(&fd))?;
            let on = said(sys::on_fd(
                "F_SETFL",
                fcntl_setfl(&fd, flags | OFlags::DIRECT),
            ));
            let mut map = Map::anonymous(4096)?;
            let n = said(sys::on_fd(
                "pread",
                rustix::io::pread(&fd, map.bytes_mut(), 0),
            ));
            let off = said(sys::on_fd("F_SETFL", fcntl_setfl(&fd, flags)));
            let noatime = fcntl_setfl(&fd, flags | OFlags::NOATIME | OFlags::NONBLOCK);
            Ok(format!(
                "{on} {n} {off} {}",
                said(sys::on_fd("F_SETFL", noatime))
            ))
        }),
        ("a shared mapping", |d| {
            let fd = rw(d)?;
            let mut map = Map::shared(&fd, 300_000)?;
            map.bytes_mut()[100_000] = 1;
            map.bytes_mut()[5] = 2;
            map.sync()?;
            sys::pwrite_fd(&fd, b"by write", 10)?;
            Ok(format!("{:?}", &map.bytes()[..20]))
        }),
        ("cut and grown", |d| {
            sys::truncate(d.join("f"), 140_000)?;
            sys::truncate(d.join("f"), 150_000)?;
            let fd = rw(d)?;
            sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 10))?;
            sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 5000))?;
            Ok(format!("{:?}", &sys::pread_fd(&fd)?[..20]))
        }),
        ("truncate by a descriptor for reading", |d| {
            let fd = sys::open_ro(d.join("f"))?;
            done(sys::on_fd("ftruncate", rustix::fs::ftruncate(&fd, 10)))
        }),
        ("fsync, fdatasync, syncfs, sync_file_range, advice", |d| {
            let fd = rw(d)?;
            sys::write_fd(&fd, b"x")?;
            sys::on_fd("fsync", rustix::fs::fsync(&fd))?;
            sys::on_fd("fdatasync", rustix::fs::fdatasync(&fd))?;
            sys::on_fd("syncfs", rustix::fs::syncfs(&fd))?;
            // SAFETY: plain system calls on an open descriptor.
            let rets = unsafe {
                [
                    libc::sync_file_range(fd.as_raw_fd(), 0, 4096, 7),
                    libc::readahead(fd.as_raw_fd(), 0, 65_536) as i32,
                    libc::posix_fadvise(fd.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED),
                    libc::posix_fadvise(fd.as_raw_fd(), 0, 0, 77),
                ]
            };
            Ok(format!("{rets:?}"))
        }),
    ];
    as_native(cx, &table(actions))
}

fn flags_of_requests(cx: &Ctx) -> Result<()> {
    fn write(d: &Path, flags: u32) -> Res<String> {
        let fd = rw(d)?;
        let flags = ReadWriteFlags::from_bits_retain(flags);
        let n = rustix::io::pwritev2(&fd, &[IoSlice::new(b"written")], 20, flags);
        Ok(format!(
            "{} {:?}",
            said(sys::on_fd("pwritev2", n)),
            &sys::pread_fd(&fd)?[..30]
        ))
    }
    fn read(d: &Path, flags: u32) -> Res<String> {
        let fd = rw(d)?;
        let mut buf = [0; 20];
        let flags = ReadWriteFlags::from_bits_retain(flags);
        let mut into = [IoSliceMut::new(&mut buf)];
        let n = said(sys::on_fd(
            "preadv2",
            rustix::io::preadv2(&fd, &mut into, 3, flags),
        ));
        Ok(format!("{n} {buf:?}"))
    }
    let actions: &[Action] = &[
        ("RWF_HIPRI", |d| write(d, 1)),
        ("RWF_DSYNC", |d| write(d, 2)),
        ("RWF_SYNC", |d| write(d, 4)),
        ("RWF_APPEND", |d| write(d, 0x10)),
        ("RWF_NOAPPEND", |d| {
            let fd = sys::open(d.join("f"), OFlags::RDWR | OFlags::APPEND)?;
            let flags = ReadWriteFlags::from_bits_retain(0x20);
            let n = rustix::io::pwritev2(&fd, &[IoSlice::new(b"written")], 20, flags);
            Ok(said(sys::on_fd("pwritev2", n)))
        }),
        ("RWF_NOSIGNAL", |d| write(d, 0x100)),
        ("RWF unknown", |d| write(d, 0x8000)),
        ("read RWF_HIPRI", |d| read(d, 1)),
        ("read RWF_ATOMIC", |d| read(d, 0x40)),
        ("read RWF unknown", |d| read(d, 0x8000)),
        ("read RWF_NOWAIT of what is cached", |d| {
            sys::pread_fd(rw(d)?)?;
            read(d, 8)
        }),
    ];
    as_native(cx, &table(actions))?;

    // What a union does not take, whatever the branch says.
    let data = pattern(10_000);
    let u = cx
        .union()
        .rw(Tree::new().file("f", &data))
        .ro(Tree::new())
        .mount()?;
    for flag in [0x40, 0x80] {
        assert!(write(u.root(), flag)?.starts_with("Operation not supported"));
        assert!(read(u.root(), flag)?.starts_with("Operation not supported"));
    }
    // A reader that must not wait: after a copy-up as before.
    let low = Tree::new().file("f", &data);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let before = sys::open_ro(u.at("f"))?;
    sys::pread_fd(&before)?;
    sys::pwrite_fd(rw(u.root())?, b"written", 0)?;
    let mut buf = [0; 20];
    let mut now = || {
        let into = &mut [IoSliceMut::new(&mut buf)];
        rustix::io::preadv2(&before, into, 0, ReadWriteFlags::NOWAIT)
    };
    match now() {
        // The file system of the branch cannot do it.
        Err(Errno::OPNOTSUPP) => assert_eq!(cx.layout, Layout::Tmpfs),
        // The copy was not open yet: it is opened by a read that may wait.
        first => {
            assert_eq!(first, Err(Errno::AGAIN));
            assert!(sys::pread_fd(&before)?.starts_with(b"written"));
            assert_eq!(now(), Ok(20));
            assert!(buf.starts_with(b"written"));
        }
    }
    Ok(())
}

fn space(cx: &Ctx) -> Result<()> {
    fn allocate(d: &Path, mode: u32, offset: u64, len: u64) -> Res<String> {
        let fd = rw(d)?;
        let mode = FallocateFlags::from_bits_retain(mode);
        let result = said(sys::on_fd(
            "fallocate",
            rustix::fs::fallocate(&fd, mode, offset, len),
        ));
        let seek = |to| said(sys::seek(&fd, to));
        let (hole, data) = (seek(SeekFrom::Hole(0)), seek(SeekFrom::Data(70_000)));
        let size = sys::fstat(&fd)?.st_size;
        Ok(format!("{result} size {size} hole {hole} data {data}"))
    }
    let actions: &[Action] = &[
        ("allocate", |d| allocate(d, 0, 60_000, 300_000)),
        ("KEEP_SIZE", |d| allocate(d, 1, 290_000, 100_000)),
        ("PUNCH_HOLE", |d| allocate(d, 3, 8192, 16_384)),
        ("PUNCH_HOLE unaligned", |d| allocate(d, 3, 8195, 16_000)),
        ("PUNCH_HOLE alone", |d| allocate(d, 2, 8192, 16_384)),
        ("COLLAPSE_RANGE", |d| allocate(d, 8, 8192, 16_384)),
        ("COLLAPSE_RANGE unaligned", |d| allocate(d, 8, 8000, 16_384)),
        ("COLLAPSE_RANGE beyond the end", |d| {
            allocate(d, 8, 8192, 400_000)
        }),
        ("ZERO_RANGE", |d| allocate(d, 0x10, 100, 150_000)),
        ("ZERO_RANGE, KEEP_SIZE", |d| {
            allocate(d, 0x11, 290_000, 50_000)
        }),
        ("INSERT_RANGE", |d| allocate(d, 0x20, 8192, 16_384)),
        ("UNSHARE_RANGE", |d| allocate(d, 0x40, 0, 65_536)),
        ("WRITE_ZEROES", |d| allocate(d, 0x80, 0, 8192)),
        ("unknown", |d| allocate(d, 0x1000, 0, 8192)),
        ("of nothing", |d| allocate(d, 0, 0, 0)),
        ("by a descriptor for reading", |d| {
            let fd = sys::open_ro(d.join("f"))?;
            let result = rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, 10);
            done(sys::on_fd("fallocate", result))
        }),
        ("too far", |d| allocate(d, 0, i64::MAX as u64 - 5, 10)),
    ];
    as_native(cx, &table(actions))
}

fn moving_between_files(cx: &Ctx) -> Result<()> {
    fn range(d: &Path, from: u64, to: u64, len: usize) -> Res<String> {
        let (source, target) = (sys::open_ro(d.join("g"))?, rw(d)?);
        let (mut from, mut to) = (from, to);
        let n = rustix::fs::copy_file_range(&source, Some(&mut from), &target, Some(&mut to), len);
        Ok(format!(
            "{} {from} {to}",
            said(sys::on_fd("copy_file_range", n))
        ))
    }
    fn clone(d: &Path, offset: u64, len: u64, to: u64) -> Res<String> {
        #[repr(C)]
        struct Range(i64, u64, u64, u64);
        const FICLONERANGE: u64 = 0x4020_940d;
        let (source, target) = (sys::open_ro(d.join("g"))?, rw(d)?);
        let range = Range(i64::from(source.as_raw_fd()), offset, len, to);
        // SAFETY: the argument is what the call wants.
        let ret = unsafe { libc::ioctl(target.as_raw_fd(), FICLONERANGE, &range) };
        done(libc_result("FICLONERANGE", i64::from(ret)))
    }
    fn dedupe(d: &Path, len: u64, same: bool) -> Res<String> {
        #[repr(C)]
        struct Same {
            offset: u64,
            len: u64,
            count: u16,
            reserved: [u16; 3],
            fd: i64,
            to: u64,
            deduped: u64,
            status: i32,
            pad: u32,
        }
        const FIDEDUPERANGE: u64 = 0xc018_9436;
        let (source, target) = (sys::open_ro(d.join("g"))?, rw(d)?);
        if same {
            sys::pwrite_fd(&target, &pattern(65_536), 0)?;
        }
        let mut range = Same {
            offset: 0,
            len,
            count: 1,
            reserved: [0; 3],
            fd: i64::from(target.as_raw_fd()),
            to: 0,
            deduped: 0,
            status: 0,
            pad: 0,
        };
        // SAFETY: the argument is what the call wants.
        let ret = unsafe { libc::ioctl(source.as_raw_fd(), FIDEDUPERANGE, &mut range) };
        libc_result("FIDEDUPERANGE", i64::from(ret))?;
        // A union can only say it of each range.
        if range.status == -libc::EOPNOTSUPP {
            return sys::on_fd("FIDEDUPERANGE", Err(Errno::OPNOTSUPP));
        }
        Ok(format!("{} {}", range.deduped, range.status))
    }
    let actions: &[Action] = &[
        ("copy_file_range", |d| range(d, 0, 0, 100_000)),
        ("copy_file_range unaligned", |d| {
            range(d, 33, 77_777, 22_222)
        }),
        ("copy_file_range to beyond the end", |d| {
            range(d, 99_000, 310_000, 9_000)
        }),
        ("copy_file_range from the end", |d| range(d, 100_000, 0, 10)),
        ("copy_file_range within a file", |d| {
            let fd = rw(d)?;
            let (mut from, mut to) = (0, 200_000);
            let n = rustix::fs::copy_file_range(&fd, Some(&mut from), &fd, Some(&mut to), 50_000);
            Ok(said(sys::on_fd("copy_file_range", n)))
        }),
        ("copy_file_range over itself", |d| {
            let fd = rw(d)?;
            let (mut from, mut to) = (0, 100);
            let n = rustix::fs::copy_file_range(&fd, Some(&mut from), &fd, Some(&mut to), 5_000);
            Ok(said(sys::on_fd("copy_file_range", n)))
        }),
        ("copy_file_range to a descriptor for reading", |d| {
            let (a, b) = (sys::open_ro(d.join("g"))?, sys::open_ro(d.join("f"))?);
            let n = rustix::fs::copy_file_range(&a, None, &b, None, 10);
            Ok(said(sys::on_fd("copy_file_range", n)))
        }),
        ("copy_file_range with O_APPEND", |d| {
            let to = sys::open(d.join("f"), OFlags::RDWR | OFlags::APPEND)?;
            let n = rustix::fs::copy_file_range(sys::open_ro(d.join("g"))?, None, &to, None, 10);
            Ok(said(sys::on_fd("copy_file_range", n)))
        }),
        ("FICLONE", |d| {
            const FICLONE: u64 = 0x4004_9409;
            let (source, target) = (sys::open_ro(d.join("g"))?, rw(d)?);
            // SAFETY: the argument is a descriptor.
            let ret = unsafe { libc::ioctl(target.as_raw_fd(), FICLONE, source.as_raw_fd()) };
            done(libc_result("FICLONE", i64::from(ret)))
        }),
        ("FICLONERANGE", |d| clone(d, 0, 65_536, 131_072)),
        ("FICLONERANGE unaligned", |d| clone(d, 7, 100, 0)),
        ("FICLONERANGE to the end", |d| clone(d, 0, 0, 131_072)),
        ("FIDEDUPERANGE", |d| dedupe(d, 65_536, true)),
        ("FIDEDUPERANGE of different data", |d| {
            dedupe(d, 100_000, false)
        }),
        ("sendfile", |d| {
            let (from, to) = (sys::open_ro(d.join("g"))?, rw(d)?);
            let mut offset = 1000;
            let n = rustix::fs::sendfile(&to, &from, Some(&mut offset), 5000);
            Ok(format!("{} {offset}", said(sys::on_fd("sendfile", n))))
        }),
        ("splice to a pipe and back", |d| {
            use rustix::pipe::{splice, SpliceFlags};
            let (out, into) = sys::on_fd("pipe", rustix::pipe::pipe())?;
            let (from, to) = (sys::open_ro(d.join("g"))?, rw(d)?);
            let (mut a, mut b) = (50, 140_001);
            let flags = SpliceFlags::empty();
            let n = said(sys::on_fd(
                "splice",
                splice(&from, Some(&mut a), &into, None, 9000, flags),
            ));
            let m = said(sys::on_fd(
                "splice",
                splice(&out, None, &to, Some(&mut b), 9000, flags),
            ));
            Ok(format!("{n} {m} {a} {b}"))
        }),
        ("vmsplice and splice", |d| {
            use rustix::pipe::{splice, SpliceFlags};
            let (out, into) = sys::on_fd("pipe", rustix::pipe::pipe())?;
            let data = pattern(3000);
            let slice = libc::iovec {
                iov_base: data.as_ptr().cast_mut().cast(),
                iov_len: data.len(),
            };
            // SAFETY: the memory outlives its stay in the pipe.
            let ret = unsafe { libc::vmsplice(into.as_raw_fd(), &slice, 1, 0) };
            libc_result("vmsplice", ret as i64)?;
            let n = splice(&out, None, rw(d)?, None, 3000, SpliceFlags::empty());
            Ok(said(sys::on_fd("splice", n)))
        }),
        ("splice to a file with O_APPEND", |d| {
            use rustix::pipe::{splice, SpliceFlags};
            let (out, into) = sys::on_fd("pipe", rustix::pipe::pipe())?;
            sys::write_fd(&into, b"abc")?;
            let to = sys::open(d.join("f"), OFlags::WRONLY | OFlags::APPEND)?;
            let n = splice(&out, None, to, None, 3, SpliceFlags::empty());
            Ok(said(sys::on_fd("splice", n)))
        }),
    ];
    as_native(cx, &table(actions))
}
