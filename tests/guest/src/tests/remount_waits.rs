// SPDX-License-Identifier: GPL-2.0

//! How long a remount waits, for whom, and who waits for it: writes, branches that do not answer,
//! disks that stand still.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::held_up::{beside_others, busy, further, remounter, PROMPT};
use crate::harness::{
    device::Mapped,
    fuse::{self, Fuse, Request},
    hold::{sleeps, thread_id, Gap},
    map::Map,
    prelude::*,
    scratch,
    union::{reconfigure, Refused, Spec},
    watchdog,
};

cases! {
    BASIC: write_that_takes_a_moment, paused_write, heavy_writers, large_copy_up,
        mapping_in_place_of_another;
    ONCE: silent_branch_that_is_added, silent_branch_of_a_mount, killed_while_a_branch_is_silent,
        hanging_fsync, look_up_of_another_name, move_that_is_overtaken;
}

const LEN: usize = 8192;

/// What others look at, beside a file to write to.
fn tree() -> Tree {
    Tree::new()
        .file("o/other", "other")
        .file("f", vec![b'o'; LEN])
}

/// Makes the branch `old` read-only and puts a new one above it.
struct Snapshot {
    new: PathBuf,
    options: [String; 2],
}

impl Snapshot {
    fn of(cx: &Ctx, old: &Path) -> Result<Self> {
        let new = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
        let options = [
            format!("mod:{}=ro+wh", old.display()),
            format!("prepend:{}=rw", new.display()),
        ];
        Ok(Snapshot { new, options })
    }

    fn take(&self, u: &Union) -> Result<Result<(), Refused>> {
        beside_others(u, &[&self.options[0], &self.options[1]])
    }
}

/// Takes a snapshot while a write of the thread `writer` to `f` waits for its memory; `after` says
/// when that comes, if it is not after the snapshot.
fn beside_a_write(
    u: &Union,
    snapshot: &Snapshot,
    after: Option<Duration>,
) -> Result<Result<(), Refused>> {
    let gap = Gap::new(LEN, b'A')?;
    let fd = sys::open_rw(u.at("f"))?;
    let result = thread::scope(|scope| -> Result<_> {
        let write = || sys::pwrite_fd(&fd, gap.memory().bytes(), 0);
        let name = thread::Builder::new().name("writer".to_owned());
        let writer = name.spawn_scoped(scope, write)?;
        let result = gap.wait().and_then(|()| {
            let gap = &gap;
            let filler = after.map(|after| {
                scope.spawn(move || {
                    thread::sleep(after);
                    gap.fill(b'B')
                })
            });
            let result = snapshot.take(u);
            if let Some(filler) = filler {
                filler.join().expect("no panic")?;
            }
            result
        });
        if after.is_none() || result.is_err() {
            gap.fill(b'B')?;
        }
        writer.join().expect("no panic")?;
        result
    })?;
    let half = LEN / 2;
    assert!(sys::pread_fd(&fd)? == [vec![b'A'; half], vec![b'B'; half]].concat());
    Ok(result)
}

/// A remount waits for a write that is slow, not only for one that is quick.
fn write_that_takes_a_moment(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(tree()).mount()?;
    let old = u.br(0, "");
    let snapshot = Snapshot::of(cx, &old)?;
    beside_a_write(&u, &snapshot, Some(Duration::from_millis(500)))??;
    assert!(text(old.join("f"))?.ends_with("BBB"));
    sys::append(u.at("f"), "end")?;
    assert!(text(snapshot.new.join("f"))?.ends_with("BBBend"));
    assert!(text(old.join("f"))?.ends_with("BBB"));
    u.umount()
}

/// It does not wait long for one that does not get on, and names who writes.
fn paused_write(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(tree()).mount()?;
    let snapshot = Snapshot::of(cx, &u.br(0, ""))?;
    let begin = Instant::now();
    let result = beside_a_write(&u, &snapshot, None)?;
    let took = begin.elapsed();
    busy(
        result,
        &["the file /f is being written by process", "(writer)"],
    );
    assert!(took < Duration::from_secs(8), "{took:?}");
    snapshot.take(&u)??;
    u.umount()
}

/// Snapshots beside processes that write large blocks all the time.
fn heavy_writers(cx: &Ctx) -> Result<()> {
    const WRITERS: usize = 2;
    const BLOCK: usize = 2 << 20;
    let u = cx.union().rw(tree()).mount()?;
    let stop = AtomicBool::new(false);
    let last = thread::scope(|scope| -> Result<Vec<u8>> {
        let (stop, u) = (&stop, &u);
        let write = move |n: usize| -> Result<u8> {
            let fd = sys::open(u.at(&format!("w{n}")), OFlags::CREATE | OFlags::RDWR)?;
            let mut block = vec![0u8; BLOCK];
            // Once at least, however late it begins.
            loop {
                let next = block[0].wrapping_add(1);
                block.fill(next);
                sys::pwrite_fd(&fd, &block, 0)?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(block[0]);
                }
            }
        };
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || write(n)))
            .collect();
        let snapshots = || -> Result<()> {
            let mut top = u.br(0, "");
            for _ in 0..4 {
                watchdog::alive();
                let snapshot = Snapshot::of(cx, &top)?;
                snapshot.take(u)??;
                top = snapshot.new;
            }
            Ok(())
        };
        let taken = snapshots();
        stop.store(true, Ordering::Relaxed);
        let last = writers
            .into_iter()
            .map(|writer| writer.join().expect("no panic"));
        let last = last.collect();
        taken?;
        last
    })?;
    for (n, last) in last.into_iter().enumerate() {
        let now = sys::read(u.at(&format!("w{n}")))?;
        let runs: Vec<_> = now
            .chunk_by(|a, b| a == b)
            .map(|run| (run.len(), run[0]))
            .collect();
        assert_eq!(runs, [(BLOCK, last)], "runs of bytes in w{n}");
    }
    u.umount()
}

/// What a read-only branch whose marks count is asked for when it becomes a branch.
const QUESTIONS: [fn() -> Request; 3] = [
    || Request::Lookup(".wh..wh.plnk".to_owned()),
    || Request::Statfs,
    || Request::Xattr,
];

/// A branch that does not answer is not added; nobody else waits for it: who changes another union,
/// or brings all file systems to disk.
fn silent_branch_that_is_added(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(tree()).mount()?;
    let other = cx.union().rw(tree()).mount()?;
    for question in QUESTIONS {
        let fuse = Fuse::mount(cx)?;
        let option = format!("append:{}=ro+wh", fuse.path().display());
        fuse.hold(question());
        let result = thread::scope(|scope| -> Result<_> {
            let adding = scope.spawn(|| beside_others(&u, &[&option]));
            fuse.wait_for(1)?;
            let begin = Instant::now();
            reconfigure(other.root(), &["noplink"])?;
            reconfigure(other.root(), &["plink"])?;
            assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
            rustix::fs::sync();
            adding.join().expect("no panic")
        })?;
        let path = fuse.path().display().to_string();
        busy(result, &[&path, "does not answer"]);
        assert!(!exists(u.at(&format!("{}x", fuse::FILE))));
        fuse.release();
        beside_others(&u, &[&option])??;
        let name = u.at("named");
        sys::symlink(fuse::FILE, &name)?;
        sys::unlink(&name)?;
        reconfigure(u.root(), &[&format!("del:{path}")])?;
    }
    other.umount()?;
    u.umount()
}

/// The same for the first mount, which also asks for the marks of the root.
fn silent_branch_of_a_mount(cx: &Ctx) -> Result<()> {
    let opaque: fn() -> Request = || Request::Lookup(".wh..wh..opq".to_owned());
    for question in [QUESTIONS[1], opaque] {
        let top = cx.branch(cx.layout.upper(), "rw", &tree())?;
        let fuse = Fuse::mount(cx)?;
        let target = cx.mount_point()?;
        let branches = format!("br={}=rw:{}=ro+wh", top.display(), fuse.path().display());
        let spec = Spec::new(&[&branches]);
        fuse.hold(question());
        let begin = Instant::now();
        let refused = thread::scope(|scope| -> Result<_> {
            let mounting = scope.spawn(|| spec.mount(&target));
            fuse.wait_for(1)?;
            rustix::fs::sync();
            Ok(mounting
                .join()
                .expect("no panic")
                .expect_err("it is silent"))
        })?;
        let path = fuse.path().display().to_string();
        busy(Err(refused), &[&path, "does not answer"]);
        assert!(begin.elapsed() < Duration::from_secs(25));
        for entry in std::fs::read_dir(&top)? {
            let name = entry?.file_name();
            assert!(name == "f" || name == "o", "{name:?} was left");
        }
        fuse.release();
        spec.mount(&target)?;
        assert!(exists(target.join(fuse::FILE)));
        scratch::umount(&target)?;
    }
    Ok(())
}

/// Who adds a branch can be killed while that does not answer.
fn killed_while_a_branch_is_silent(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(tree()).mount()?;
    let fuse = Fuse::mount(cx)?;
    fuse.hold(Request::Statfs);
    let option = format!("append:{}=ro", fuse.path().display());
    let mut child = remounter(&u, &option)?;
    fuse.wait_for(1)?;
    let begin = Instant::now();
    child.kill()?;
    child.wait()?;
    assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
    beside_others(&u, &[&further(cx)?])??;
    fuse.release();
    beside_others(&u, &[&option])??;
    assert!(exists(u.at(fuse::FILE)));
    u.umount()
}

/// A branch on a disk that can be made to stand still.
struct Disk {
    device: Mapped,
    dir: PathBuf,
    branch: PathBuf,
}

impl Disk {
    fn new(tree: &Tree) -> Result<Self> {
        let device = Mapped::new("waits", 64 << 20)?;
        scratch::run("mkfs.ext4", &["-q", device.device()])?;
        let dir = scratch::base().join("waits");
        sys::mkdir(&dir)?;
        scratch::mount(device.device(), "ext4", &dir, "")?;
        let branch = dir.join("b");
        sys::mkdir(&branch)?;
        tree.build(&branch)?;
        Ok(Disk {
            device,
            dir,
            branch,
        })
    }

    /// Only the contents of files must be read from the disk, names and attributes are cached.
    fn forget_contents(&self, names: &[&str]) -> Result<()> {
        rustix::fs::sync();
        sys::drop_caches();
        for name in names {
            sys::lstat(self.branch.join(name))?;
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        scratch::umount(&self.dir)?;
        sys::rmdir(&self.dir)?;
        Ok(())
    }

    /// Does `work` in a thread, which waits for the disk, and `during` meanwhile.
    fn beside<R: Send>(
        &self,
        work: impl FnOnce() -> R + Send,
        during: impl FnOnce() -> Result<()>,
    ) -> Result<R> {
        self.device.suspend()?;
        thread::scope(|scope| -> Result<R> {
            let (say, hear) = std::sync::mpsc::channel();
            let worker = scope.spawn(move || {
                say.send(thread_id()).expect("the test waits");
                work()
            });
            let done = sleeps(hear.recv()?).and_then(|()| during());
            self.device.resume()?;
            let result = worker.join().expect("no panic");
            done?;
            Ok(result)
        })
    }
}

/// A disk stands still while somebody brings a file to it.
fn hanging_fsync(cx: &Ctx) -> Result<()> {
    let disk = Disk::new(&Tree::new().file("d/f", "old"))?;
    let u = cx.union().rw(tree()).at(&disk.branch, "rw").mount()?;
    let fd = sys::open_rw(u.at("d/f"))?;
    sys::pwrite_fd(&fd, b"new", 0)?;
    let more = further(cx)?;
    let sync = || sys::on_fd("fsync", rustix::fs::fsync(&fd));
    disk.beside(sync, || Ok(beside_others(&u, &[&more])??))??;
    assert!(exists(u.at("further")));
    assert_eq!(text(disk.branch.join("d/f"))?, "new");
    drop(fd);
    u.umount()?;
    disk.end()
}

/// With `noplink` who looks a further name up of a file waits until that was copied; a remount does
/// not.
fn look_up_of_another_name(cx: &Ctx) -> Result<()> {
    let disk = Disk::new(&Tree::new().file("f1", vec![b'l'; LEN]))?;
    sys::link(disk.branch.join("f1"), disk.branch.join("f2"))?;
    let u = cx
        .union()
        .rw(tree())
        .at(&disk.branch, "ro")
        .opt("noplink")
        .mount()?;
    disk.forget_contents(&["f1", "f2"])?;
    let more = further(cx)?;
    let copied = disk.beside(
        || sys::append(u.at("f1"), "end"),
        || {
            thread::scope(|scope| -> Result<()> {
                let (say, hear) = std::sync::mpsc::channel();
                let path = u.at("f2");
                scope.spawn(move || {
                    say.send(thread_id()).expect("the test waits");
                    sys::lstat(path)
                });
                let result = sleeps(hear.recv()?).and_then(|()| beside_others(&u, &[&more]));
                // Else it would be waited for here.
                disk.device.resume()?;
                Ok(result??)
            })
        },
    )?;
    copied?;
    assert!(text(u.at("f1"))?.ends_with("lllend"));
    assert!(text(u.at("f2"))?.ends_with("lll"));
    u.umount()?;
    disk.end()
}

/// A file that is moved to an upper branch when it is opened (`moo`) leaves nothing behind, also
/// if the branches change meanwhile.
fn move_that_is_overtaken(cx: &Ctx) -> Result<()> {
    let disk = Disk::new(&Tree::new().file("m", vec![b'm'; LEN]))?;
    let u = cx.union().rw(tree()).at(&disk.branch, "rw+moo").mount()?;
    disk.forget_contents(&["m"])?;
    let more = further(cx)?;
    let read = disk.beside(
        || sys::read(u.at("m")),
        || Ok(beside_others(&u, &[&more])??),
    )??;
    assert!(read == [b'm'; LEN]);
    assert!(exists(u.at("further")) && exists(u.br(0, "m")));
    assert!(!exists(disk.branch.join("m")), "the original is left");
    u.umount()?;
    disk.end()
}

/// A copy that takes long, without a FUSE daemon: remounts go on beside it. The tmpfs of the guest
/// has room for two files of this size.
fn large_copy_up(cx: &Ctx) -> Result<()> {
    const SIZE: usize = 64 << 20;
    let u = cx.union().rw(tree()).ro(Tree::new().dir("d")).mount()?;
    let big = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let block: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let fd = sys::open(big.join("big"), OFlags::CREATE | OFlags::WRONLY)?;
    for at in (0..SIZE).step_by(block.len()) {
        watchdog::alive();
        sys::pwrite_fd(&fd, &block, at as u64)?;
    }
    sys::on_fd("fsync", rustix::fs::fsync(&fd))?;
    drop(fd);
    reconfigure(u.root(), &[&format!("append:{}=ro", big.display())])?;
    let (path, more) = (u.at("big"), further(cx)?);
    let less = more.replace("append:", "del:");
    let less = less.trim_end_matches("=ro");
    let mut changes = 0;
    thread::scope(|scope| -> Result<()> {
        let copier = scope.spawn(move || sys::append(path, "end"));
        while !copier.is_finished() {
            watchdog::alive();
            beside_others(&u, &[[&*more, less][changes % 2]])??;
            changes += 1;
        }
        Ok(copier.join().expect("no panic")?)
    })?;
    assert!(changes > 0);
    watchdog::alive();
    let copy = sys::read(u.br(0, "big"))?;
    assert!(copy.len() == SIZE + 3 && copy.ends_with(b"end"));
    assert!(copy.chunks_exact(block.len()).all(|chunk| chunk == block));
    sys::unlink(u.at("big"))?;
    sys::unlink(big.join("big"))?;
    u.umount()
}

/// Memory that somebody looks at all the time, and that is mapped anew meanwhile.
struct Watched {
    map: Map,
    /// What is looked at is written here.
    sink: OwnedFd,
}

impl Watched {
    fn new(cx: &Ctx, len: usize) -> Result<Self> {
        let dir = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
        Ok(Watched {
            map: Map::anonymous(len)?,
            sink: sys::open(dir.join("sink"), OFlags::CREATE | OFlags::RDWR)?,
        })
    }

    /// Maps `fd`, or nothing, in place of what is there.
    fn replace(&self, fd: Option<&OwnedFd>) -> Result<()> {
        let bytes = self.map.bytes();
        let at = bytes.as_ptr().cast_mut().cast();
        let (kind, fd) = match fd {
            Some(fd) => (libc::MAP_SHARED, fd.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        let both = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the memory is ours; only the kernel looks at it meanwhile.
        let new = unsafe { libc::mmap(at, bytes.len(), both, kind | libc::MAP_FIXED, fd, 0) };
        anyhow::ensure!(new == at, "mmap: {}", sys::last_errno());
        Ok(())
    }

    /// Looks at it until `stop`: there is always something.
    fn look(&self, stop: &AtomicBool) -> Result<()> {
        let at = self.map.bytes().as_ptr();
        while !stop.load(Ordering::Relaxed) {
            // SAFETY: the kernel says so if there is no memory.
            let n = unsafe { libc::pwrite(self.sink.as_raw_fd(), at.cast(), 1, 0) };
            anyhow::ensure!(n == 1, "the memory is gone: {}", sys::last_errno());
        }
        Ok(())
    }
}

/// A mapping with `MAP_FIXED` takes the place of another at once, whatever it waits for: a copy, or
/// the end of a remount.
fn mapping_in_place_of_another(cx: &Ctx) -> Result<()> {
    let lower = cx.branch(
        cx.layout.upper(),
        "rw",
        &Tree::new().file("m", vec![b'l'; 4 << 20]),
    )?;
    let u = cx.union().rw(tree()).at(&lower, "rw").mount()?;
    let fd = sys::open_rw(u.at("m"))?;
    let watched = Watched::new(cx, LEN)?;
    let stop = AtomicBool::new(false);
    let (more, read_only) = (further(cx)?, format!("mod:{}=ro", lower.display()));
    let less = more.replace("append:", "del:");
    let less = less.trim_end_matches("=ro");
    reconfigure(u.root(), &[&read_only])?;
    thread::scope(|scope| -> Result<()> {
        let (watched, stop, u, more) = (&watched, &stop, &u, &more);
        let looker = scope.spawn(move || watched.look(stop));
        let copied = watched.replace(Some(&fd));
        let changer = scope.spawn(move || -> Result<u32> {
            let mut changes = 0;
            while !stop.load(Ordering::Relaxed) {
                reconfigure(u.root(), &[more])?;
                reconfigure(u.root(), &[less])?;
                changes += 1;
            }
            Ok(changes)
        });
        let begin = Instant::now();
        let mut replaced = copied;
        while replaced.is_ok() && begin.elapsed() < Duration::from_secs(3) {
            watchdog::alive();
            replaced = watched
                .replace(None)
                .and_then(|()| watched.replace(Some(&fd)));
        }
        stop.store(true, Ordering::Relaxed);
        looker.join().expect("no panic")?;
        replaced?;
        assert!(changer.join().expect("no panic")? > 0);
        Ok(())
    })?;
    // SAFETY: the mapping is ours.
    unsafe { watched.map.bytes().as_ptr().cast_mut().write_volatile(b's') };
    assert!(sys::pread_fd(&fd)?.starts_with(b"sl"));
    assert!(sys::read(lower.join("m"))?.starts_with(b"ll"));
    // What was reserved is given back: the branch can be made read-only.
    drop((watched, fd));
    reconfigure(u.root(), &[&format!("mod:{}=ro", u.br(0, "").display())])?;
    u.umount()
}
