// SPDX-License-Identifier: GPL-2.0

//! Nobody waits for a remount that waits for somebody: whatever takes long, or for ever, inside the
//! union or below it, others go on meanwhile, and the remount ends.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::harness::{
    fuse::{self, Fuse, Request},
    ioctl,
    prelude::*,
    union::{reconfigure, Refused},
    watchdog,
};

cases! {
    BASIC: copy_up, snapshot_beside_a_copy, listing_into_fuse, listing_into_userfaultfd,
        ioctl_into_fuse, look_up_in_silent_branch, killed_remount, daemon_uses_the_union,
        silent_branch_that_the_remount_asks, branch_of_a_listing_goes_later,
        files_made_beside_snapshots, many_names_of_one_file,
        directory_changed_while_it_is_copied, who_is_outside_is_not_named;
}

/// What takes at most a fraction of a second may take that long on a machine that is busy.
pub(super) const PROMPT: Duration = Duration::from_secs(4);
/// A remount gives up after ten seconds.
pub(super) const REMOUNT: Duration = Duration::from_secs(25);

/// Looks up, opens and makes files all the time, and knows how long that took at most.
struct Others<'s> {
    stop: &'s AtomicBool,
    thread: thread::ScopedJoinHandle<'s, Result<Duration>>,
}

/// A round of what others do, in a directory of their own: as on any file system, who looks a name
/// up keeps those waiting who change names in the same directory.
pub(super) fn round(root: &Path, n: u32) -> Result<()> {
    let dir = root.join("o");
    sys::lstat(dir.join("other"))?;
    sys::open_ro(dir.join("other"))?;
    assert_eq!(text(dir.join("other"))?, "other");
    let new = dir.join(format!("new{}", n % 16));
    sys::write(&new, "new")?;
    sys::unlink(&new)?;
    Ok(())
}

impl<'s> Others<'s> {
    fn start<'e>(scope: &'s thread::Scope<'s, 'e>, root: PathBuf, stop: &'s AtomicBool) -> Self {
        let thread = scope.spawn(move || {
            let (mut longest, mut n) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                round(&root, n)?;
                longest = longest.max(begin.elapsed());
                n += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Ok(longest)
        });
        Others { stop, thread }
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let longest = self.thread.join().expect("no panic")?;
        assert!(longest < PROMPT, "somebody waited for {longest:?}");
        Ok(())
    }
}

/// Runs a remount with `options` beside others, who must not notice.
pub(super) fn beside_others(u: &Union, options: &[&str]) -> Result<Result<(), Refused>> {
    beside_others_in(u.root(), u, options)
}

/// The same for others who are in the directory `dir` of the union, with an `o` of its own.
pub(super) fn beside_others_in(
    dir: &Path,
    u: &Union,
    options: &[&str],
) -> Result<Result<(), Refused>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = Others::start(scope, dir.to_owned(), &stop);
        thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        let result = reconfigure(u.root(), options);
        let took = begin.elapsed();
        others.end()?;
        assert!(took < REMOUNT, "the remount took {took:?}");
        Ok(result)
    })
}

/// The remount was given up, and says why.
#[track_caller]
pub(super) fn busy(result: Result<(), Refused>, why: &[&str]) {
    let refused = result.expect_err("a busy union is not changed");
    assert_eq!(refused.errno, Errno::BUSY, "{refused}");
    let log = refused.log.join("\n");
    for part in why {
        assert!(log.contains(part), "{part:?} is not in {log:?}");
    }
}

/// `o/other` on the writable branch, and below it a FUSE branch.
pub(super) fn over_fuse(cx: &Ctx) -> Result<(Union, Fuse)> {
    let fuse = Fuse::mount(cx)?;
    let u = cx
        .union()
        .rw(Tree::new().file("o/other", "other").file("plain", ""))
        .at(fuse.path(), "ro")
        .mount()?;
    Ok((u, fuse))
}

/// A further branch to be added.
pub(super) fn further(cx: &Ctx) -> Result<String> {
    let dir = cx.branch(cx.layout.upper(), "ro", &Tree::new().file("further", ""))?;
    Ok(format!("append:{}=ro", dir.display()))
}

/// Does `f` in a thread of this name.
pub(super) fn named<R: Send + 'static>(
    name: &str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<JoinHandle<R>> {
    Ok(thread::Builder::new().name(name.to_owned()).spawn(f)?)
}

/// A copy is passed by, also by two remounts, and so is who waits for it.
fn copy_up(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    fuse.hold(Request::Read);
    let (one, two) = (u.at(fuse::FILE), u.at(fuse::FILE));
    let writer = named("copier", move || sys::append(one, "end"))?;
    fuse.wait_for(1)?;
    let second = named("second", move || sys::chmod(two, 0o600))?;
    beside_others(&u, &[&further(cx)?])??;
    beside_others(&u, &["udba=none"])??;
    beside_others(&u, &[&further(cx)?, "udba=reval"])??;
    fuse.release();
    writer.join().expect("no panic")?;
    second.join().expect("no panic")?;
    let all = sys::read(u.at(fuse::FILE))?;
    assert_eq!(all.len() as u64, fuse::SIZE + 3);
    assert!(all.ends_with(b"FFFend"));
    assert_eq!(sys::mode(&sys::lstat(u.br(0, fuse::FILE))?), 0o600);
    u.umount()
}

/// Who copies is outside and in nobody's way: somebody else is named, wherever the two are noted.
fn who_is_outside_is_not_named(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    fuse.hold(Request::Read);
    fuse.hold(Request::Lookup("silent".to_owned()));
    let (file, silent) = (u.at(fuse::FILE), u.at("silent"));
    let writer = named("copier", move || {
        sys::on_first_cpu()?;
        sys::append(file, "end")
    })?;
    fuse.wait_for(1)?;
    let walker = named("walker", move || {
        sys::on_first_cpu()?;
        sys::lstat(silent).map(drop)
    })?;
    fuse.wait_for(2)?;
    busy(
        beside_others(&u, &[&further(cx)?])?,
        &["(walker)", "looking a name up"],
    );
    fuse.release();
    writer.join().expect("no panic")?;
    errno(walker.join().expect("no panic"), Errno::NOENT);
    u.umount()
}

/// The branch that a copy is made to stays writable until it is there. One that is made to another
/// branch than the user's is begun anew.
fn snapshot_beside_a_copy(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    fuse.hold(Request::Read);
    let path = u.at(fuse::FILE);
    let writer = named("copier", move || sys::append(path, "end"))?;
    fuse.wait_for(1)?;
    let new = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let snapshot = [
        format!("mod:{}=ro+wh", u.br(0, "").display()),
        format!("prepend:{}=rw", new.display()),
    ];
    let snapshot: Vec<_> = snapshot.iter().map(String::as_str).collect();
    busy(
        beside_others(&u, &snapshot)?,
        &["(copier)", "the file /f", "copied up"],
    );
    fuse.release();
    writer.join().expect("no panic")?;
    beside_others(&u, &snapshot)??;
    assert!(text(u.br(0, fuse::FILE))?.ends_with("FFFend"));
    sys::append(u.at(fuse::FILE), " again")?;
    assert!(text(new.join(fuse::FILE))?.ends_with("FFFend again"));
    assert!(text(u.br(0, fuse::FILE))?.ends_with("FFFend"));
    u.umount()
}

/// Memory of which each first use takes as long as its owner wants.
trait Slow: Send + 'static {
    fn address(&self) -> usize;
}

/// Lists a directory into slow memory, and meanwhile changes the union.
fn listing_into(
    cx: &Ctx,
    memory: &dyn Slow,
    wait: &dyn Fn() -> Result<()>,
    release: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let low = Tree::new().files("one/f", 100).files("both/f", 100);
    let top = Tree::new().file("o/other", "other").dir("both");
    let u = cx.union().rw(top).ro(low).mount()?;
    for name in ["one", "both"] {
        let dir = dir::open_dir(u.at(name))?;
        let address = memory.address();
        let reader = named("lister", move || list(&dir, address))?;
        wait()?;
        beside_others(&u, &[&further(cx)?])??;
        release()?;
        assert!(reader.join().expect("no panic") > 0);
    }
    u.umount()
}

/// What getdents64(2) into memory at `address` gives.
fn list(dir: &OwnedFd, address: usize) -> i64 {
    // SAFETY: The memory has 64 KiB, of which nobody else makes use.
    unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), address, 1 << 16) }
}

/// A private mapping of a file that is served by this program.
struct Mapping(usize);

impl Mapping {
    fn new(fuse: &Fuse) -> Result<Self> {
        let file = sys::open_ro(fuse.path().join(fuse::FILE))?;
        // SAFETY: A new mapping.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                fuse::SIZE as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        anyhow::ensure!(address != libc::MAP_FAILED, "mmap of a FUSE file");
        Ok(Mapping(address as usize))
    }

    /// Takes what was read out of it again, so that the next use asks for it.
    fn forget(&self) -> Result<()> {
        // SAFETY: The mapping is ours, and nobody uses it now.
        unsafe {
            libc::madvise(
                self.0 as *mut libc::c_void,
                fuse::SIZE as usize,
                libc::MADV_DONTNEED,
            )
        };
        sys::drop_caches();
        Ok(())
    }
}

impl Slow for Mapping {
    fn address(&self) -> usize {
        self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours.
        unsafe { libc::munmap(self.0 as *mut libc::c_void, fuse::SIZE as usize) };
    }
}

fn listing_into_fuse(cx: &Ctx) -> Result<()> {
    let fuse = Fuse::mount(cx)?;
    let mapping = Mapping::new(&fuse)?;
    let count = std::cell::Cell::new(0);
    let wait = || {
        count.set(count.get() + 1);
        fuse.wait_for(count.get())
    };
    fuse.hold(Request::Read);
    let release = || {
        fuse.release();
        mapping.forget()?;
        fuse.hold(Request::Read);
        Ok(())
    };
    // Who listed has ended when the memory is taken away.
    let result = listing_into(cx, &mapping, &wait, &|| {
        fuse.release();
        thread::sleep(Duration::from_millis(300));
        release()
    });
    fuse.release();
    result
}

/// Memory whose pages this program must fill.
struct Userfault {
    fd: OwnedFd,
    address: usize,
}

const LEN: usize = 1 << 16;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;

impl Userfault {
    fn new() -> Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: A new mapping, a new descriptor; the structures are those of the kernel.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            anyhow::ensure!(address != libc::MAP_FAILED, "mmap");
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
            anyhow::ensure!(fd >= 0, "userfaultfd");
            let fd = OwnedFd::from_raw_fd(fd as i32);
            let mut api = [0xaau64, 0, 0];
            let done = libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr());
            anyhow::ensure!(done == 0, "UFFDIO_API");
            let mut register = [address as u64, LEN as u64, 1, 0];
            let done = libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr());
            anyhow::ensure!(done == 0, "UFFDIO_REGISTER");
            let address = address as usize;
            Ok(Userfault { fd, address })
        }
    }

    /// Waits until somebody waits for a page.
    fn wait(&self) -> Result<()> {
        let mut message = [0u8; 32];
        let len = rustix::io::read(&self.fd, &mut message[..])?;
        anyhow::ensure!(len == 32 && message[0] == 0x12, "{message:?}");
        Ok(())
    }

    /// Fills all pages.
    fn fill(&self) -> Result<()> {
        let mut pages = [self.address as u64, LEN as u64, 0, 0];
        // SAFETY: The structure is that of the kernel.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), UFFDIO_ZEROPAGE, pages.as_mut_ptr()) };
        anyhow::ensure!(done == 0, "UFFDIO_ZEROPAGE");
        Ok(())
    }

    /// Takes them away again.
    fn forget(&self) {
        // SAFETY: The memory is ours, and nobody uses it now.
        unsafe { libc::madvise(self.address as *mut libc::c_void, LEN, libc::MADV_DONTNEED) };
    }
}

impl Slow for Userfault {
    fn address(&self) -> usize {
        self.address
    }
}

impl Drop for Userfault {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours.
        unsafe { libc::munmap(self.address as *mut libc::c_void, LEN) };
    }
}

fn listing_into_userfaultfd(cx: &Ctx) -> Result<()> {
    let memory = Userfault::new()?;
    listing_into(cx, &memory, &|| memory.wait(), &|| {
        memory.fill()?;
        thread::sleep(Duration::from_millis(300));
        memory.forget();
        Ok(())
    })
}

fn ioctl_into_fuse(cx: &Ctx) -> Result<()> {
    let fuse = Fuse::mount(cx)?;
    let u = cx
        .union()
        .rw(Tree::new().file("o/other", "other"))
        .ro(Tree::new().file("low", ""))
        .mount()?;
    for (n, command) in [ioctl::BRINFO, ioctl::RDU, ioctl::WBR_FD, ioctl::IBUSY]
        .into_iter()
        .enumerate()
    {
        let mapping = Mapping::new(&fuse)?;
        mapping.forget()?;
        fuse.hold(Request::Read);
        let dir = dir::open_dir(u.root())?;
        let address = mapping.address();
        // What is asked for does not make sense; it is read, or written, all the same.
        let caller = named("caller", move || {
            let _ = ioctl::raw(&dir, command, address);
        })?;
        fuse.wait_for(n + 1)?;
        beside_others(&u, &[&further(cx)?])??;
        fuse.release();
        caller.join().expect("no panic");
    }
    u.umount()
}

fn look_up_in_silent_branch(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    fuse.hold(Request::Lookup("absent".to_owned()));
    let path = u.at("absent");
    let walker = named("walker", move || sys::lstat(path).map(drop))?;
    fuse.wait_for(1)?;
    let more = further(cx)?;
    busy(
        beside_others(&u, &[&more])?,
        &["(walker) is looking a name up"],
    );
    fuse.release();
    errno(walker.join().expect("no panic"), Errno::NOENT);
    beside_others(&u, &[&more])??;
    assert!(exists(u.at("further")));
    u.umount()
}

/// A process that changes the union by mount(8).
pub(super) fn remounter(u: &Union, options: &str) -> Result<Child> {
    Ok(Command::new("mount")
        .args(["-i", "-o", &format!("remount,{options}")])
        .arg(u.root())
        .spawn()?)
}

fn killed_remount(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    // It waits for a section, and then for an answer.
    for request in ["absent", fuse::FILE] {
        let held = sys::open_ro(u.at(fuse::FILE))?;
        fuse.hold(Request::Lookup(request.to_owned()));
        let path = u.at("absent");
        let walker = (request == "absent").then(|| named("walker", move || sys::lstat(path)));
        let mut child = remounter(&u, &further(cx)?)?;
        thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        child.kill()?;
        child.wait()?;
        assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
        round(u.root(), 0)?;
        fuse.release();
        if let Some(walker) = walker {
            errno(walker?.join().expect("no panic").map(drop), Errno::NOENT);
        }
        drop(held);
    }
    u.umount()
}

fn daemon_uses_the_union(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let held = sys::open_ro(u.at(fuse::FILE))?;
    // The remount asks for its name; somebody else for one that is not there. For a file on top
    // nobody asks the daemon.
    let plain = u.at("plain");
    fuse.act(move |request| match request {
        Request::Lookup(name) if name == fuse::FILE || name == "absent" => {
            thread::sleep(Duration::from_millis(300));
            watchdog::alive();
            sys::open_ro(&plain).expect("the daemon is a user like others");
        }
        _ => {}
    });
    let path = u.at("absent");
    let walker = named("walker", move || sys::lstat(path).map(drop))?;
    let more = further(cx)?;
    match beside_others(&u, &[&more])? {
        Ok(()) => {}
        refused => {
            busy(refused, &[]);
            reconfigure(u.root(), &[&more])?;
        }
    }
    errno(walker.join().expect("no panic"), Errno::NOENT);
    assert!(exists(u.at("further")));
    drop(held);
    u.umount()
}

fn silent_branch_that_the_remount_asks(cx: &Ctx) -> Result<()> {
    let (u, fuse) = over_fuse(cx)?;
    let held = sys::open_ro(u.at(fuse::FILE))?;
    fuse.hold(Request::Lookup(fuse::FILE.to_owned()));
    let more = further(cx)?;
    busy(beside_others(&u, &[&more])?, &["does not answer"]);
    fuse.release();
    beside_others(&u, &[&more])??;
    assert!(exists(u.at("further")));
    assert_eq!(sys::pread_fd(&held)?.len() as u64, fuse::SIZE);
    drop(held);
    u.umount()
}

/// A branch that somebody lists stays until that ends.
fn branch_of_a_listing_goes_later(cx: &Ctx) -> Result<()> {
    let memory = Userfault::new()?;
    let low = cx.branch(cx.layout.upper(), "ro", &Tree::new().files("one/f", 100))?;
    let u = cx
        .union()
        .rw(Tree::new().file("o/other", "other"))
        .at(&low, "ro")
        .mount()?;
    let del = format!("del:{}", low.display());
    let dir = dir::open_dir(u.at("one"))?;
    let address = memory.address();
    let lister = named("lister", move || list(&dir, address))?;
    memory.wait()?;
    busy(beside_others(&u, &[&del])?, &[]);
    memory.fill()?;
    assert!(lister.join().expect("no panic") > 0);
    reconfigure(u.root(), &[&del])?;
    assert!(!exists(u.at("one")));
    u.umount()
}

/// Who makes files beside snapshots gets no error, and files that keep their names: what is written
/// to one after a further snapshot, and so to a copy, is found by its name.
fn files_made_beside_snapshots(cx: &Ctx) -> Result<()> {
    const TASKS: u32 = 8;
    let u = cx.union().rw(Tree::new().dir("d")).mount()?;
    let mut top = u.br(0, "");
    let mut made: Vec<(PathBuf, OwnedFd)> = Vec::new();
    let mut snapshot = |n: u32| -> Result<()> {
        let new = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
        let old = std::mem::replace(&mut top, new.clone());
        let options = [
            format!("mod:{}=ro+wh", old.display()),
            format!("prepend:{}=rw", new.display()),
        ];
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        reconfigure(u.root(), &options).map_err(|refused| anyhow::anyhow!("{n}: {refused}"))
    };
    for n in 0..8 {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| -> Result<()> {
            let (stop, u) = (&stop, &u);
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    scope.spawn(move || -> Result<Vec<(PathBuf, OwnedFd)>> {
                        let mut files = Vec::new();
                        for i in 0.. {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            let path = u.at(&format!("d/{n}-{task}-{i}"));
                            let file = std::fs::File::create_new(&path)?;
                            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                            let shown = std::fs::read_link(link)?;
                            assert_eq!(shown, path, "what was just made has its name");
                            // The last ones are kept.
                            files.push((path, OwnedFd::from(file)));
                            if files.len() > 2 {
                                files.remove(0);
                            }
                        }
                        Ok(files)
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(30));
            let taken = snapshot(n);
            stop.store(true, Ordering::Relaxed);
            for task in tasks {
                made.extend(task.join().expect("no panic")?);
            }
            taken
        })?;
    }
    snapshot(99)?;
    for (_, file) in &made {
        rustix::io::write(file, b"written")?;
    }
    for (path, _) in &made {
        assert_eq!(text(path)?, "written", "{path:?}");
    }
    drop(made);
    u.umount()
}

/// Many names of one file, all in use, cost a remount as much as those of many files.
fn many_names_of_one_file(cx: &Ctx) -> Result<()> {
    const NAMES: usize = 20_000;
    let u = cx
        .union()
        .rw(Tree::new().file("o/other", "other").file("d/one", ""))
        .mount()?;
    let name = |n: usize| format!("d/{n}");
    for n in 0..NAMES {
        std::fs::hard_link(u.br(0, "d/one"), u.br(0, &name(n)))?;
    }
    let limit = libc::rlimit {
        rlim_cur: NAMES as u64 + 1000,
        rlim_max: NAMES as u64 + 1000,
    };
    // SAFETY: The structure is valid.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    anyhow::ensure!(done == 0, "setrlimit");
    let mut held: Vec<OwnedFd> = Vec::new();
    for n in 0..NAMES {
        watchdog::alive();
        held.push(sys::open_ro(u.at(&name(n)))?);
    }
    beside_others(&u, &[&further(cx)?])??;
    drop(held);
    u.umount()
}

/// Whether the thread of this name waits for something that cannot be interrupted.
fn sleeps_in_kernel(name: &str) -> Result<bool> {
    for task in std::fs::read_dir("/proc/self/task")? {
        // It may have ended.
        let stat = std::fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
        if stat.contains(&format!("({name}) D")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A directory of a lower writable branch is copied, and the copy waits for its name; meanwhile it
/// is changed: none of that is lost.
fn directory_changed_while_it_is_copied(cx: &Ctx) -> Result<()> {
    let fuse = Fuse::mount(cx)?;
    let mapping = Mapping::new(&fuse)?;
    let low = Tree::new().dir("p/d/e").mtime(MTIME.0, MTIME.1);
    let u = cx
        .union()
        .rw(Tree::new().file("f", "f").file("p/other", ""))
        .rw(low)
        .mount()?;
    sys::utimens(u.br(1, "p/d"), MTIME, MTIME)?;
    fuse.hold(Request::Read);
    let upper = dir::open_dir(u.br(0, "p"))?;
    let address = mapping.address();
    let reader = named("lister", move || list(&upper, address))?;
    fuse.wait_for(1)?;
    let (from, to) = (u.at("f"), u.at("p/d/e/f"));
    let mover = named("mover", move || sys::rename(from, to))?;
    // It is complete, and waits to be given its name.
    let mut waiting = 0;
    while waiting < 20 {
        thread::sleep(Duration::from_millis(10));
        waiting = if sleeps_in_kernel("mover")? {
            waiting + 1
        } else {
            0
        };
    }
    let d = u.at("p/d");
    let changer = named("changer", move || -> Result<()> {
        sys::create(d.join("new"))?;
        sys::chmod(&d, 0o700)?;
        sys::chown(&d, Some(1001), Some(1002))?;
        sys::set_xattr(&d, "trusted.test", b"1")?;
        Ok(())
    })?;
    thread::sleep(Duration::from_millis(500));
    fuse.release();
    assert!(reader.join().expect("no panic") > 0);
    mover.join().expect("no panic")?;
    changer.join().expect("no panic")?;
    let stat = sys::lstat(u.at("p/d"))?;
    assert!(exists(u.br(0, "p/d")), "or this tests nothing");
    assert_eq!(sys::mode(&stat), 0o700);
    assert_eq!((stat.st_uid, stat.st_gid), (1001, 1002));
    assert_eq!(sys::get_xattr(u.at("p/d"), "trusted.test")?, b"1");
    assert!(sys::mtime(&stat) > MTIME, "it got a name");
    u.umount()
}
