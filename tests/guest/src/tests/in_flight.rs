// SPDX-License-Identifier: GPL-2.0

//! Writes that are in the middle while something happens to the branch that they go to: it comes
//! out as if one of the two had been wholly before the other.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use rustix::{io::ReadWriteFlags, mm::ProtFlags, mount::MountFlags, pipe::SpliceFlags};

use super::remount::{opt, refused, remount};
use crate::harness::{
    aio::{self, Aio},
    hold::{sleeps, thread_id, Frozen, Gap},
    map::Map,
    prelude::*,
    scratch,
    union::{remount2, Refused},
    uring::{self, Ring, ASYNC},
};

cases! {
    WRITABLE: becomes_read_only, held_by_a_frozen_file_system;
    BASIC: snapshot, taken_out, hidden, moved_down, file_system_becomes_read_only, mapped_after, mapped_after_without_a_place, mapped_for_reading,
        mapped_all_the_time, mapped_before_a_copy, empty_pipe, same_file_twice, synced_after;
    ONCE: queued_request, mapped_beyond_the_branch;
}

const PAGE: usize = 4096;
const LEN: usize = 2 * PAGE;

/// What a write works with: the file, and memory with as many bytes as are written.
struct Scene<'a> {
    fd: &'a OwnedFd,
    memory: &'a Map,
    /// A file of the same branch, of [`LEN`] bytes.
    source: &'a Path,
}

/// A way of writing [`LEN`] bytes to the beginning, or the end, of a file.
struct Way {
    name: &'static str,
    flags: OFlags,
    run: fn(&Scene<'_>) -> Result<i64>,
}

const fn way(name: &'static str, flags: OFlags, run: fn(&Scene<'_>) -> Result<i64>) -> Way {
    Way { name, flags, run }
}

/// They read memory, and wait for it.
const FROM_MEMORY: [Way; 7] = [
    way("pwrite", OFlags::RDWR, pwrite),
    way(
        "write at the end",
        OFlags::RDWR.union(OFlags::APPEND),
        pwrite,
    ),
    way("pwritev2", OFlags::RDWR, |s| {
        let bytes = [std::io::IoSlice::new(s.memory.bytes())];
        let n = rustix::io::pwritev2(s.fd, &bytes, 0, ReadWriteFlags::DSYNC);
        Ok(sys::on_fd("pwritev2", n)? as i64)
    }),
    way("direct pwrite", OFlags::RDWR.union(OFlags::DIRECT), pwrite),
    way("io_submit", OFlags::RDWR, io_submit),
    way(
        "direct io_submit",
        OFlags::RDWR.union(OFlags::DIRECT),
        io_submit,
    ),
    way("io_uring", OFlags::RDWR, |s| {
        let len = s.memory.bytes().len();
        let at = s.memory.bytes().as_ptr();
        // SAFETY: the kernel reads it; nothing else looks meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(at.cast_mut(), len) };
        Ok(Ring::new()?
            .run(uring::Call::Write, ASYNC, s.fd, bytes, 0)?
            .into())
    }),
];

/// They need no memory of the caller's, and wait for the file system.
const IN_THE_KERNEL: [Way; 7] = [
    way("pwrite", OFlags::RDWR, pwrite),
    way("splice", OFlags::RDWR, |s| {
        let (from, to) = rustix::pipe::pipe()?;
        sys::write_fd(&to, s.memory.bytes())?;
        let n = rustix::pipe::splice(&from, None, s.fd, Some(&mut 0), LEN, SpliceFlags::empty());
        Ok(sys::on_fd("splice", n)? as i64)
    }),
    way("sendfile", OFlags::RDWR, |s| {
        let from = sys::open_ro(s.source)?;
        let n = rustix::fs::sendfile(s.fd, &from, Some(&mut 0), LEN);
        Ok(sys::on_fd("sendfile", n)? as i64)
    }),
    way("copy_file_range", OFlags::RDWR, |s| {
        let from = sys::open_ro(s.source)?;
        let n = rustix::fs::copy_file_range(&from, Some(&mut 0), s.fd, Some(&mut 0), LEN);
        Ok(sys::on_fd("copy_file_range", n)? as i64)
    }),
    way("FICLONE", OFlags::RDWR, |s| {
        let done = rustix::fs::ioctl_ficlone(s.fd, sys::open_ro(s.source)?);
        allowed(sys::on_fd("FICLONE", done))
    }),
    way("FIDEDUPERANGE", OFlags::RDWR, |s| {
        let from = sys::open_ro(s.source)?;
        Ok(dedupe(&from, s.fd)?.unwrap_or_default())
    }),
    way("fallocate", OFlags::RDWR, |s| {
        let flags = rustix::fs::FallocateFlags::empty();
        let done = rustix::fs::fallocate(s.fd, flags, 0, 4 * LEN as u64);
        allowed(sys::on_fd("fallocate", done))
    }),
];

fn pwrite(s: &Scene<'_>) -> Result<i64> {
    Ok(sys::on_fd("pwrite", rustix::io::pwrite(s.fd, s.memory.bytes(), 0))? as i64)
}

fn io_submit(s: &Scene<'_>) -> Result<i64> {
    Aio::new()?.run(aio::Call::Write, s.fd, s.memory, 0)
}

/// What some file systems cannot do changes nothing.
fn allowed(result: sys::Res<()>) -> Result<i64> {
    match result {
        Err(e) if e.errno == Errno::OPNOTSUPP => Ok(-1),
        other => Ok(other.map(|()| 0)?),
    }
}

/// FIDEDUPERANGE of [`LEN`] bytes: how many are shared now; an error is its status.
fn dedupe(from: &OwnedFd, to: impl AsFd) -> Result<Option<i64>> {
    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
        count: u16,
        reserved: [u16; 3],
        to: i64,
        to_offset: u64,
        done: u64,
        status: i32,
        reserved_too: u32,
    }
    const FIDEDUPERANGE: u64 = 0xc018_9436;
    let mut range = Range {
        offset: 0,
        len: LEN as u64,
        count: 1,
        reserved: [0; 3],
        to: to.as_fd().as_raw_fd().into(),
        to_offset: 0,
        done: 0,
        status: 0,
        reserved_too: 0,
    };
    // SAFETY: the structure is what the command wants.
    let ret = unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE as _, &mut range) };
    if ret != 0 {
        assert_eq!(sys::last_errno(), Errno::OPNOTSUPP);
        return Ok(None);
    }
    Ok(Some(match range.status {
        status if status < 0 => status.into(),
        _ => range.done as i64,
    }))
}

/// What must not change of a file that is not written.
fn state(path: impl AsRef<Path>) -> Result<(Vec<u8>, [sys::Time; 2])> {
    let stat = sys::lstat(&path)?;
    Ok((sys::read(path)?, [sys::mtime(&stat), sys::ctime(&stat)]))
}

/// A union of two writable branches, with all files in the lower one.
struct Place {
    u: Union,
    lower: PathBuf,
}

impl Place {
    fn new(cx: &Ctx) -> Result<Self> {
        let low = Tree::new()
            .file("f", vec![b'o'; LEN])
            .file("twin", vec![b'o'; LEN])
            .file("other", "other")
            .file("source", [vec![b'o'; PAGE], vec![b's'; PAGE]].concat())
            .file("same", vec![b'o'; LEN]);
        let u = cx.union().rw(Tree::new()).rw(low).mount()?;
        let lower = u.br(1, "");
        Ok(Self { u, lower })
    }

    fn read_only(&self) -> String {
        opt("mod:", &self.lower, "=ro")
    }

    /// What writing through `way` does when nothing disturbs it: what it gives, and the file.
    fn undisturbed(&self, way: &Way) -> Result<(i64, Vec<u8>)> {
        let mut memory = Map::anonymous(LEN)?;
        memory.bytes_mut()[..PAGE].fill(b'A');
        memory.bytes_mut()[PAGE..].fill(b'B');
        let fd = sys::open(self.u.at("twin"), way.flags)?;
        let scene = self.scene(way, &fd, &memory);
        let ret = (way.run)(&scene).with_context(|| way.name)?;
        Ok((ret, sys::read(self.u.at("twin"))?))
    }

    fn scene<'a>(&'a self, way: &Way, fd: &'a OwnedFd, memory: &'a Map) -> Scene<'a> {
        let source = match way.name {
            "FIDEDUPERANGE" => "same",
            _ => "source",
        };
        Scene {
            fd,
            memory,
            source: Box::leak(self.u.at(source).into_boxed_path()),
        }
    }

    /// The branch was made read-only after `f` was written through `fd`: nothing more gets there.
    fn is_over(&self, fd: &OwnedFd, what: &str) -> Result<()> {
        let before = state(self.lower.join("f"))?;
        let mut page = Map::anonymous(PAGE)?;
        page.bytes_mut().fill(b'z');
        sys::pwrite_fd(fd, page.bytes(), 0)?;
        assert!(
            state(self.lower.join("f"))? == before,
            "{what}: the branch is written"
        );
        let now = sys::read(self.u.at("f"))?;
        assert!(
            now.starts_with(page.bytes()) || now.ends_with(page.bytes()),
            "{what}"
        );
        Ok(())
    }
}

/// The remount is refused, as the file is being written; the union goes on.
fn is_refused(place: &Place, result: Result<(), Refused>, why: &str) -> Result<()> {
    let said = refused(result, Errno::BUSY);
    assert!(said.contains(&format!("the file /f {why}")), "{said}");
    assert_eq!(text(place.u.at("other"))?, "other");
    // Somebody else opens it for writing, in whatever way.
    drop(sys::open_rw(place.u.at("f"))?);
    Ok(())
}

/// `way` waits for its memory; `options` are refused meanwhile, and `allowed` when it is done.
fn disturb(
    cx: &Ctx,
    way: &Way,
    options: &dyn Fn(&Place) -> Result<Vec<String>>,
    why: &str,
) -> Result<()> {
    let place = Place::new(cx)?;
    let expected = place.undisturbed(way)?;
    let gap = Gap::new(LEN, b'A')?;
    let fd = sys::open(place.u.at("f"), way.flags)?;
    let options = options(&place)?;
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let ret = thread::scope(|scope| -> Result<i64> {
        let writer = scope.spawn(|| (way.run)(&place.scene(way, &fd, gap.memory())));
        let held = gap
            .wait()
            .and_then(|()| is_refused(&place, remount(&place.u, &options), why));
        gap.fill(b'B')?;
        let ret = writer.join().expect("the writer");
        held?;
        ret
    })
    .with_context(|| way.name)?;
    assert_eq!(ret, expected.0, "{}", way.name);
    assert!(sys::read(place.u.at("f"))? == expected.1, "{}", way.name);
    if why == "is in use" {
        drop(fd);
        remount(&place.u, &options)?;
        assert!(
            sys::read(place.lower.join("f"))? == expected.1,
            "{}",
            way.name
        );
    } else {
        remount(&place.u, &options)?;
        place.is_over(&fd, way.name)?;
        drop(fd);
    }
    place.u.umount()
}

fn becomes_read_only(cx: &Ctx) -> Result<()> {
    for way in &FROM_MEMORY {
        disturb(
            cx,
            way,
            &|place| Ok(vec![place.read_only()]),
            "is being written",
        )?;
    }
    Ok(())
}

fn snapshot(cx: &Ctx) -> Result<()> {
    for way in &FROM_MEMORY {
        let options = |place: &Place| -> Result<Vec<String>> {
            let new = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
            Ok(vec![place.read_only(), opt("prepend:", &new, "=rw")])
        };
        disturb(cx, way, &options, "is being written")?;
    }
    Ok(())
}

fn taken_out(cx: &Ctx) -> Result<()> {
    for way in &FROM_MEMORY[..1] {
        disturb(
            cx,
            way,
            &|place| Ok(vec![opt("del:", &place.lower, "")]),
            "is in use",
        )?;
    }
    Ok(())
}

/// While `during` runs, a write to `f` waits for its memory. Then it has done what it would have
/// done without that.
fn while_written(place: &Place, during: impl FnOnce(&OwnedFd) -> Result<()>) -> Result<()> {
    let gap = Gap::new(LEN, b'A')?;
    let fd = sys::open_rw(place.u.at("f"))?;
    thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| sys::pwrite_fd(&fd, gap.memory().bytes(), 0));
        let held = gap.wait().and_then(|()| during(&fd));
        gap.fill(b'B')?;
        writer.join().expect("the writer")?;
        held
    })?;
    assert!(sys::pread_fd(&fd)? == [[b'A'; PAGE], [b'B'; PAGE]].concat());
    Ok(())
}

/// A new branch shows another file of that name: the one that is open is still written where it is.
fn hidden(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let new = cx.branch(cx.layout.upper(), "rw", &Tree::new().file("f", "new"))?;
    while_written(&place, |_| {
        remount(&place.u, &[&opt("prepend:", &new, "=rw")])?;
        assert_eq!(text(place.u.at("f"))?, "new");
        Ok(())
    })?;
    assert!(sys::read(place.lower.join("f"))?.starts_with(b"AAAA"));
    assert_eq!(text(place.u.at("f"))?, "new");
    place.u.umount()
}

/// To another writable branch: not what somebody writes.
fn moved_down(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let bottom = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    remount(&place.u, &[&opt("append:", &bottom, "=rw")])?;
    let mover = sys::open_ro(place.u.at("f"))?;
    thread::scope(|scope| -> Result<()> {
        let mut moving = None;
        while_written(&place, |_| {
            let (say, hear) = mpsc::channel();
            let mover = &mover;
            moving = Some(scope.spawn(move || {
                say.send(thread_id()).expect("the test waits");
                super::mvdown::move_down(mover)
            }));
            // It waits for the write.
            sleeps(hear.recv()?)
        })?;
        let moved = moving.expect("it began").join().expect("the mover");
        // It may have waited until nobody has the file open for writing any more.
        match moved {
            Ok(()) => assert!(exists(bottom.join("f")) && !exists(place.lower.join("f"))),
            Err(e) => assert_eq!(e.errno, Errno::BUSY),
        }
        Ok(())
    })?;
    assert!(sys::read(place.u.at("f"))?.starts_with(b"AAAA"));
    drop(mover);
    place.u.umount()
}

/// The kernel itself keeps a file system from that while somebody writes.
fn file_system_becomes_read_only(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let fs = match kind {
        Kind::Tmpfs => scratch::Private::tmpfs(&cx.name(), "")?,
        kind => scratch::Private::disk(kind, &cx.name(), 64 << 20)?,
    };
    let lower = fs.path().join("b");
    sys::mkdir(&lower)?;
    Tree::new().file("f", vec![b'o'; LEN]).build(&lower)?;
    let u = cx.union().rw(Tree::new()).at(&lower, "rw").mount()?;
    let place = Place { u, lower };
    while_written(&place, |_| {
        errno(remount2(fs.path(), MountFlags::RDONLY, ""), Errno::BUSY);
        Ok(())
    })?;
    remount2(fs.path(), MountFlags::RDONLY, "")?;
    let before = state(place.lower.join("f"))?;
    sys::append(place.u.at("f"), "more")?;
    assert!(state(place.lower.join("f"))? == before);
    assert_eq!(sys::lstat(place.u.br(0, "f"))?.st_size as usize, LEN + 4);
    remount2(fs.path(), MountFlags::empty(), "")?;
    place.u.umount()?;
    fs.umount()
}

/// tmpfs cannot be frozen.
fn held_by_a_frozen_file_system(cx: &Ctx) -> Result<()> {
    if cx.layout == Layout::Tmpfs {
        return Ok(());
    }
    for way in &IN_THE_KERNEL {
        let place = Place::new(cx)?;
        let expected = place.undisturbed(way)?;
        let mut memory = Map::anonymous(LEN)?;
        memory.bytes_mut()[..PAGE].fill(b'A');
        memory.bytes_mut()[PAGE..].fill(b'B');
        let fd = sys::open(place.u.at("f"), way.flags)?;
        if expected.0 < 0 {
            // Refused before anything waits.
            continue;
        }
        let ret = thread::scope(|scope| -> Result<i64> {
            let frozen = Frozen::new(&place.lower)?;
            let (say, hear) = mpsc::channel();
            let (place, fd, memory) = (&place, &fd, &memory);
            let writer = scope.spawn(move || {
                say.send(thread_id())?;
                (way.run)(&place.scene(way, fd, memory))
            });
            let held = hear.recv().context("the thread is gone").and_then(sleeps);
            let held = held.map(|()| remount(&place.u, &[&place.read_only()]));
            drop(frozen);
            let ret = writer.join().expect("the writer");
            is_refused(place, held?, "is being written")?;
            ret
        })
        .with_context(|| way.name)?;
        assert_eq!(ret, expected.0, "{}", way.name);
        assert!(sys::read(place.u.at("f"))? == expected.1, "{}", way.name);
        remount(&place.u, &[&place.read_only()])?;
        // What is not written is not rearranged either.
        let (from, to) = (
            sys::open_ro(place.u.at("same"))?,
            sys::open_ro(place.u.at("other"))?,
        );
        let before = state(place.lower.join("f"))?;
        if let Some(status) = dedupe(&from, &fd)? {
            assert_eq!(status, -i64::from(libc::EROFS));
        }
        drop((from, to));
        assert!(state(place.lower.join("f"))? == before);
        place.is_over(&fd, way.name)?;
        drop(fd);
        place.u.umount()?;
    }
    Ok(())
}

/// A request that the kernel has taken is under way until the disk has it, although the call is
/// over.
fn queued_request(cx: &Ctx) -> Result<()> {
    let device = crate::harness::device::Mapped::new("queued", 64 << 20)?;
    scratch::run("mkfs.ext4", &["-q", device.device()])?;
    let dir = scratch::base().join("queued");
    sys::mkdir(&dir)?;
    scratch::mount(device.device(), "ext4", &dir, "")?;
    let lower = dir.join("b");
    sys::mkdir(&lower)?;
    Tree::new().file("f", vec![b'o'; LEN]).build(&lower)?;
    let u = cx.union().rw(Tree::new()).at(&lower, "rw").mount()?;
    let fd = sys::open(u.at("f"), OFlags::RDWR | OFlags::DIRECT)?;
    let mut memory = Map::anonymous(LEN)?;
    memory.bytes_mut().fill(b'A');
    let aio = Aio::new()?;
    // Blocks that are written already, so that nothing waits for the journal.
    assert_eq!(aio.run(aio::Call::Write, &fd, &memory, 0)?, LEN as i64);
    memory.bytes_mut().fill(b'B');
    device.suspend()?;
    let submitted = aio.submit(aio::Call::Write, &fd, &memory, 0);
    let result = remount(&u, &[&opt("mod:", &lower, "=ro")]);
    device.resume()?;
    submitted?;
    let said = refused(result, Errno::BUSY);
    assert!(said.contains("the file /f is being written"), "{said}");
    assert_eq!(aio.wait()?, LEN as i64);
    // One that is refused at once is not counted.
    let beyond = aio.run(aio::Call::Write, &fd, &Map::anonymous(PAGE)?, 1)?;
    assert_eq!(beyond, -i64::from(libc::EINVAL));
    remount(&u, &[&opt("mod:", &lower, "=ro")])?;
    let before = state(lower.join("f"))?;
    assert!(before.0 == [b'B'; LEN]);
    memory.bytes_mut().fill(b'C');
    assert_eq!(aio.run(aio::Call::Write, &fd, &memory, 0)?, LEN as i64);
    assert!(state(lower.join("f"))? == before);
    assert!(sys::read(u.at("f"))? == [b'C'; LEN]);
    drop((fd, aio));
    u.umount()?;
    scratch::umount(&dir)?;
    sys::rmdir(&dir)?;
    Ok(())
}

/// A descriptor for writing from before, mapped for writing afterwards: that makes the copy.
fn mapped_after(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let fd = sys::open_rw(place.u.at("f"))?;
    remount(&place.u, &[&place.read_only()])?;
    let before = state(place.lower.join("f"))?;
    let mut map = Map::shared(&fd, LEN)?;
    map.bytes_mut()[0] = b'm';
    map.sync()?;
    assert!(
        state(place.lower.join("f"))? == before,
        "the branch is not written"
    );
    for path in [place.u.at("f"), place.u.br(0, "f")] {
        assert_eq!(sys::read(path)?[..2], *b"mo");
    }
    drop((map, fd));
    place.u.umount()
}

fn mapped_after_without_a_place(cx: &Ctx) -> Result<()> {
    let lower = cx.branch(
        cx.layout.upper(),
        "rw",
        &Tree::new().file("f", vec![b'o'; LEN]),
    )?;
    let u = cx.union().at(&lower, "rw").mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    remount(&u, &[&opt("mod:", &lower, "=ro")])?;
    let before = state(lower.join("f"))?;
    errno(Map::shared(&fd, LEN), Errno::ROFS);
    let mut private = Map::private(&fd, LEN)?;
    private.bytes_mut()[0] = b'p';
    assert!(state(lower.join("f"))? == before);
    remount(&u, &[&opt("mod:", &lower, "=rw")])?;
    let mut map = Map::shared(&fd, LEN)?;
    map.bytes_mut()[0] = b'm';
    drop((map, private, fd));
    assert_eq!(sys::read(lower.join("f"))?[..2], *b"mo");
    u.umount()
}

/// A shared mapping for reading through a descriptor for writing never becomes one for writing.
fn mapped_for_reading(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let fd = sys::open_rw(place.u.at("f"))?;
    let while_written = Map::shared_ro(&fd, LEN)?;
    let said = refused(remount(&place.u, &[&place.read_only()]), Errno::BUSY);
    assert!(said.contains("/f is mapped for writing"), "{said}");
    drop(while_written);
    remount(&place.u, &[&place.read_only()])?;
    let map = Map::shared_ro(&fd, LEN)?;
    assert!(map.bytes() == [b'o'; LEN]);
    assert!(!exists(place.u.br(0, "f")), "reading copies nothing");
    let at = map.bytes().as_ptr().cast_mut().cast();
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the mapping is ours; it is refused.
    let result = unsafe { rustix::mm::mprotect(at, LEN, mprotect_flags(both)) };
    errno(sys::on_fd("mprotect", result), Errno::ACCESS);
    // SAFETY: as above.
    let ret = unsafe { libc::syscall(libc::SYS_remap_file_pages, at, LEN, 0, 0, 0) };
    assert_eq!(
        (ret, sys::last_errno()),
        (-1, Errno::INVAL),
        "remap_file_pages"
    );
    // SAFETY: as above.
    let result = unsafe { rustix::mm::mprotect(at, LEN, mprotect_flags(both)) };
    errno(sys::on_fd("mprotect", result), Errno::ACCESS);
    drop(map);
    place.is_over(&fd, "a mapping")?;
    drop(fd);
    place.u.umount()
}

fn mprotect_flags(prot: ProtFlags) -> rustix::mm::MprotectFlags {
    rustix::mm::MprotectFlags::from_bits_retain(prot.bits())
}

/// A name that is hidden on the file's own branch, which is written, needs a copy above it. What is
/// stored through a mapping would not get there.
fn mapped_before_a_copy(cx: &Ctx) -> Result<()> {
    let upper = Tree::new().whiteout("n").whiteout("l");
    let low = Tree::new()
        .file("f", vec![b'o'; LEN])
        .file("g", vec![b'o'; LEN]);
    let u = cx.union().rw(upper).rw(low).mount()?;
    for (name, new, rename) in [("f", "n", true), ("g", "l", false)] {
        let change = || match rename {
            true => sys::rename(u.at(name), u.at(new)),
            false => sys::link(u.at(name), u.at(new)),
        };
        let fd = sys::open_rw(u.at(name))?;
        let mut map = Map::shared(&fd, LEN)?;
        errno(change(), Errno::XDEV);
        map.bytes_mut()[0] = b'm';
        drop(map);
        change()?;
        let mut map = Map::shared(&fd, LEN)?;
        map.bytes_mut()[1] = b'n';
        drop((map, fd));
        for path in [u.at(new), u.br(0, new)] {
            assert_eq!(sys::read(path)?[..3], *b"mno");
        }
    }
    u.umount()
}

/// Mappings come and go while the branch becomes read-only and writable again: what is stored is
/// never on a branch that is not written, and no call fails.
fn mapped_all_the_time(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let (stop, stopped) = mpsc::channel::<()>();
    let mut changes = 0;
    thread::scope(|scope| -> Result<()> {
        let u = &place.u;
        let mapper = scope.spawn(move || -> Result<()> {
            for n in 0u32.. {
                if stopped.try_recv() != Err(mpsc::TryRecvError::Empty) {
                    break;
                }
                let fd = sys::open_rw(u.at("f"))?;
                let mut map = Map::shared(&fd, LEN)?;
                map.bytes_mut()[0] = n as u8;
            }
            Ok(())
        });
        let writable = opt("mod:", &place.lower, "=rw");
        for _ in 0..20 {
            // It may be mapped just now.
            if remount(u, &[&place.read_only()]).is_err() {
                continue;
            }
            changes += 1;
            let before = state(place.lower.join("f"))?;
            thread::sleep(std::time::Duration::from_millis(5));
            assert!(state(place.lower.join("f"))? == before);
            // The copy is removed by hand, so that the next round begins anew.
            remount(u, &[&writable])?;
        }
        drop(stop);
        mapper.join().expect("the mapper")
    })?;
    assert!(changes > 0, "it never became read-only");
    place.u.umount()
}

/// Who waits for something to come through a pipe keeps nobody from the file.
fn empty_pipe(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let fd = sys::open_rw(place.u.at("f"))?;
    let (from, to) = rustix::pipe::pipe()?;
    let none = rustix::pipe::splice(&from, None, &fd, Some(&mut 0), LEN, SpliceFlags::NONBLOCK);
    assert_eq!(none, Err(Errno::AGAIN));
    thread::scope(|scope| -> Result<()> {
        let splicer = scope.spawn(|| -> Result<usize> {
            let flags = SpliceFlags::empty();
            let n = rustix::pipe::splice(&from, None, &fd, Some(&mut 0), LEN, flags);
            Ok(sys::on_fd("splice", n)?)
        });
        thread::sleep(std::time::Duration::from_millis(100));
        sys::chmod(place.u.at("f"), 0o600)?;
        remount(&place.u, &[&place.read_only()])?;
        let before = state(place.lower.join("f"))?;
        sys::write_fd(&to, b"through")?;
        assert_eq!(splicer.join().expect("the splicer")?, 7);
        assert!(state(place.lower.join("f"))? == before);
        Ok(())
    })?;
    assert_eq!(sys::read(place.u.at("f"))?[..9], *b"throughoo");
    drop(to);
    // Nobody writes to it any more.
    let end = rustix::pipe::splice(&from, None, &fd, Some(&mut 0), LEN, SpliceFlags::empty());
    assert_eq!(end, Ok(0));
    drop(fd);
    place.u.umount()
}

/// Both ends of a copy are in one file, which has to be copied for it.
fn same_file_twice(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let fd = sys::open_rw(place.u.at("source"))?;
    remount(&place.u, &[&place.read_only()])?;
    let before = state(place.lower.join("source"))?;
    let (mut from, mut to) = (PAGE as u64, 0);
    let n = rustix::fs::copy_file_range(&fd, Some(&mut from), &fd, Some(&mut to), PAGE);
    assert_eq!(n, Ok(PAGE));
    assert!(sys::read(place.u.at("source"))? == [b's'; LEN]);
    assert!(state(place.lower.join("source"))? == before);
    drop(fd);
    place.u.umount()
}

/// What was written before the branch became read-only can still be brought to disk.
fn synced_after(cx: &Ctx) -> Result<()> {
    let place = Place::new(cx)?;
    let fd = sys::open_rw(place.u.at("f"))?;
    sys::pwrite_fd(&fd, b"before", 0)?;
    remount(&place.u, &[&place.read_only()])?;
    let before = state(place.lower.join("f"))?;
    sys::on_fd("fsync", rustix::fs::fsync(&fd))?;
    let root = dir::open_dir(place.u.root())?;
    sys::on_fd("syncfs", rustix::fs::syncfs(&root))?;
    drop(root);
    assert!(state(place.lower.join("f"))? == before);
    place.is_over(&fd, "fsync")?;
    drop(fd);
    place.u.umount()
}

/// Where the branch is a stacked file system itself, the kernel counts mappings below it.
fn mapped_beyond_the_branch(cx: &Ctx) -> Result<()> {
    let fs = scratch::Private::tmpfs("beyond", "")?;
    for dir in ["low", "up", "work", "over"] {
        sys::mkdir(fs.path().join(dir))?;
    }
    let low = Tree::new().file("f", vec![b'o'; LEN]);
    low.build(&fs.path().join("low"))?;
    let over = fs.path().join("over");
    let dirs = ["lowerdir", "upperdir", "workdir"];
    let dirs = dirs.iter().zip(["low", "up", "work"]);
    let data: Vec<_> = dirs
        .map(|(option, dir)| format!("{option}={}", fs.path().join(dir).display()))
        .collect();
    scratch::mount("overlay", "overlay", &over, &data.join(","))?;
    let u = cx.union().rw(Tree::new()).at(&over, "rw").mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    let mut map = Map::shared(&fd, LEN)?;
    drop(fd);
    let said = refused(remount(&u, &[&opt("mod:", &over, "=ro")]), Errno::BUSY);
    assert!(said.contains("/f is mapped for writing"), "{said}");
    map.bytes_mut()[0] = b'm';
    drop(map);
    remount(&u, &[&opt("mod:", &over, "=ro")])?;
    assert_eq!(sys::read(over.join("f"))?[..2], *b"mo");
    u.umount()?;
    scratch::umount(&over)?;
    fs.umount()
}
