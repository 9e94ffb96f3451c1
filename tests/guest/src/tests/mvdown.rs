// SPDX-License-Identifier: GPL-2.0

//! The ioctl MVDOWN: a file moves to a lower writable branch, and nobody notices.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::fs::statfs;

use crate::harness::{
    dir::open_dir,
    handle::{path_of, Handle},
    ioctl::{on, raw, MVDOWN, NOWHERE},
    prelude::*,
    scratch::Private,
    sys::Res,
};

cases! {
    WRITABLE: moves, parents_are_made, keeps_or_replaces, numbers_stay_unique;
    BASIC: an_open_file_follows, in_use, refusals, hidden_from_above, file_handles;
    ONCE: bad_requests, room_is_given_back, nothing_is_lost_without_room, attributes_without_room,
        readers_meanwhile;
}

const OWLOWER: u32 = 0x2;
const KUPPER: u32 = 0x4;
const BRID_UPPER: u32 = 0x80;
const BRID_LOWER: u32 = 0x100;
const STFS: u32 = 0x400;
const BOTTOM: u32 = 0x1000;

/// `struct aufs_mvdown`.
struct Request([u8; 96]);

impl Request {
    fn new(flags: u32) -> Self {
        let mut request = Self([0; 96]);
        request.0[..4].copy_from_slice(&flags.to_ne_bytes());
        request
    }

    fn branch(mut self, at: usize, id: i16) -> Self {
        self.0[at..at + 2].copy_from_slice(&id.to_ne_bytes());
        self
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_ne_bytes([self.0[at], self.0[at + 1]])
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn flags(&self) -> u32 {
        u32::from_ne_bytes(self.0[..4].try_into().expect("four bytes"))
    }

    fn reason(&self) -> i8 {
        self.0[88] as i8
    }

    #[track_caller]
    fn run(&mut self, path: impl AsRef<Path>) -> Res<()> {
        let fd = sys::open_ro(path)?;
        on(fd, MVDOWN, &mut self.0).map(drop)
    }
}

/// Moves an open file to the next writable branch.
pub(super) fn move_down(fd: &std::os::fd::OwnedFd) -> Res<()> {
    on(fd, MVDOWN, &mut Request::new(0).0).map(drop)
}

#[track_caller]
fn down(path: impl AsRef<Path>) -> Res<()> {
    Request::new(0).run(path)
}

/// Fails with this errno and reason.
#[track_caller]
fn refused(path: impl AsRef<Path>, mut request: Request, wanted: Errno, reason: i8) {
    errno(request.run(path), wanted);
    assert_eq!(request.reason(), reason);
}

fn two(cx: &Ctx) -> Result<Union> {
    cx.union().rw(Tree::new()).rw(Tree::new()).mount()
}

fn moves(cx: &Ctx) -> Result<()> {
    let mut u = two(cx)?;
    let file = u.at("f");
    sys::write(&file, "content")?;
    sys::chmod(&file, 0o4751)?;
    sys::chown(&file, Some(3), Some(4))?;
    sys::chmod(&file, 0o4751)?;
    sys::set_xattr(&file, "user.x", "value")?;
    sys::utimens(&file, (1_000_000, 0), (2_000_000, 0))?;
    sys::utimens(u.root(), (3_000_000, 0), (4_000_000, 0))?;
    let before = sys::lstat(&file)?;
    let mut request = Request::new(STFS);
    request.run(&file)?;
    assert_eq!((request.i16(8), request.i16(10)), (64, 0));
    assert_eq!((request.i16(48), request.i16(50)), (65, 1));
    assert_eq!(request.flags(), STFS | BOTTOM);
    assert_eq!(request.reason(), 0);
    for (at, branch) in [(16, 0), (56, 1)] {
        let stat = statfs(u.br(branch, ""))?;
        assert_eq!(request.u64(at), stat.f_blocks);
        assert_eq!(request.u64(at + 16), stat.f_files);
    }

    assert!(!exists(u.br(0, "f")));
    assert!(!exists(u.br(0, ".wh.f")));
    let check = |u: &Union| -> Result<()> {
        let after = sys::lstat(u.at("f"))?;
        assert_eq!(after.st_mode, before.st_mode);
        assert_eq!((after.st_uid, after.st_gid), (3, 4));
        assert_eq!(sys::mtime(&after), (2_000_000, 0));
        assert_eq!(after.st_nlink, 1);
        assert_eq!(text(u.at("f"))?, "content");
        assert_eq!(sys::get_xattr(u.at("f"), "user.x")?, b"value");
        assert_eq!(text(u.br(1, "f"))?, "content");
        Ok(())
    };
    check(&u)?;
    assert_eq!(sys::lstat(&file)?.st_ino, before.st_ino);
    assert_eq!(sys::mtime(&sys::lstat(u.root())?), (4_000_000, 0));
    sys::drop_caches();
    check(&u)?;
    assert_eq!(sys::lstat(&file)?.st_ino, before.st_ino);
    u.again()?;
    check(&u)?;
    // It is written where it is now.
    sys::append(&file, "+")?;
    assert_eq!(text(u.br(1, "f"))?, "content+");
    assert!(!exists(u.br(0, "f")));
    sys::unlink(&file)?;
    assert!(!exists(u.br(1, "f")) && !exists(&file));
    Ok(())
}

fn parents_are_made(cx: &Ctx) -> Result<()> {
    let u = two(cx)?;
    sys::mkdir_mode(u.at("a"), 0o751)?;
    sys::mkdir_mode(u.at("a/b"), 0o710)?;
    sys::write(u.at("a/b/f"), "x")?;
    sys::write(u.at("a/b/stays"), "x")?;
    down(u.at("a/b/f"))?;
    for dir in ["a", "a/b"] {
        let (above, below) = (sys::lstat(u.br(0, dir))?, sys::lstat(u.br(1, dir))?);
        assert_eq!(above.st_mode, below.st_mode, "{dir}");
    }
    assert_eq!(dir::names(u.br(1, "a/b"))?, dir::set(["f"]));
    assert_eq!(dir::names(u.br(0, "a/b"))?, dir::set(["stays"]));
    assert_eq!(dir::names(u.at("a/b"))?, dir::set(["f", "stays"]));
    // A listing does not change, and so is none made anew that would.
    down(u.at("a/b/stays"))?;
    assert_eq!(dir::names(u.at("a/b"))?, dir::set(["f", "stays"]));
    Ok(())
}

fn keeps_or_replaces(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "upper"))
        .rw(Tree::new().file("f", "lower"))
        .mount()?;
    refused(u.at("f"), Request::new(0), Errno::EXIST, 0);
    assert_eq!(
        (text(u.br(0, "f"))?, text(u.br(1, "f"))?),
        ("upper".into(), "lower".into())
    );
    Request::new(OWLOWER | KUPPER).run(u.at("f"))?;
    assert_eq!(
        (text(u.br(0, "f"))?, text(u.br(1, "f"))?),
        ("upper".into(), "upper".into())
    );
    sys::append(u.at("f"), "+")?;
    assert_eq!(text(u.br(1, "f"))?, "upper");
    Request::new(OWLOWER).run(u.at("f"))?;
    assert!(!exists(u.br(0, "f")));
    assert_eq!(text(u.at("f"))?, "upper+");

    sys::write(u.at("new"), "new")?;
    Request::new(KUPPER).run(u.at("new"))?;
    assert_eq!(
        (text(u.br(0, "new"))?, text(u.br(1, "new"))?),
        ("new".into(), "new".into())
    );
    assert_eq!(text(u.at("new"))?, "new");
    // A directory is not replaced.
    sys::write(u.at("dir"), "")?;
    sys::mkdir(u.br(1, "dir"))?;
    refused(u.at("dir"), Request::new(OWLOWER), Errno::EXIST, 0);
    Ok(())
}

/// The branch gives the inode number of what was moved to somebody else.
fn numbers_stay_unique(cx: &Ctx) -> Result<()> {
    let u = two(cx)?;
    let mut known = std::collections::BTreeSet::new();
    for round in 0..12 {
        let path = u.at(&format!("f{round}"));
        sys::write(&path, "x")?;
        assert!(known.insert(sys::lstat(&path)?.st_ino), "round {round}");
        match round % 3 {
            0 => down(&path)?,
            1 => {
                known.remove(&sys::lstat(&path)?.st_ino);
                sys::unlink(&path)?;
            }
            _ => {}
        }
        sys::drop_caches();
    }
    let all = dir::list(u.root())?;
    let numbers: std::collections::BTreeSet<_> = all.iter().map(|entry| entry.ino).collect();
    assert_eq!(numbers, known);
    Ok(())
}

fn an_open_file_follows(cx: &Ctx) -> Result<()> {
    let u = two(cx)?;
    sys::write(u.at("f"), "content")?;
    let reader = sys::open_ro(u.at("f"))?;
    assert_eq!(sys::pread_fd(&reader)?, b"content");
    down(u.at("f"))?;
    assert_eq!(sys::pread_fd(&reader)?, b"content");
    sys::append(u.at("f"), "+")?;
    assert_eq!(sys::pread_fd(&reader)?, b"content+");
    assert_eq!(sys::fstat(&reader)?.st_ino, sys::lstat(u.at("f"))?.st_ino);
    Ok(())
}

fn in_use(cx: &Ctx) -> Result<()> {
    let u = two(cx)?;
    sys::write(u.at("f"), "content")?;
    let writer = sys::open_rw(u.at("f"))?;
    refused(u.at("f"), Request::new(0), Errno::BUSY, 0);
    drop(writer);
    sys::link(u.at("f"), u.at("g"))?;
    refused(u.at("f"), Request::new(0), Errno::BUSY, 0);
    sys::unlink(u.at("g"))?;
    let fd = sys::open_ro(u.at("f"))?;
    sys::unlink(u.at("f"))?;
    errno(on(&fd, MVDOWN, &mut Request::new(0).0), Errno::NOENT);
    Ok(())
}

fn refusals(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .file("f", "")
            .file("between", "")
            .file("top", ""))
        .ro(Tree::new().file("low", "").file("between", ""))
        .rw(Tree::new().file("bottom", ""))
        .mount()?;
    refused(u.at("bottom"), Request::new(0), Errno::INVAL, 4);
    refused(u.at("low"), Request::new(0), Errno::ROFS, 0);
    refused(u.at("between"), Request::new(0), Errno::INVAL, 3);
    refused(
        u.at("f"),
        Request::new(BRID_UPPER).branch(8, 66),
        Errno::INVAL,
        5,
    );
    refused(
        u.at("f"),
        Request::new(BRID_UPPER).branch(8, 99),
        Errno::INVAL,
        5,
    );
    refused(
        u.at("f"),
        Request::new(BRID_LOWER).branch(48, 99),
        Errno::INVAL,
        6,
    );
    refused(
        u.at("f"),
        Request::new(BRID_LOWER).branch(48, 64),
        Errno::INVAL,
        6,
    );
    refused(
        u.at("f"),
        Request::new(BRID_LOWER).branch(48, 65),
        Errno::ROFS,
        0,
    );
    for name in ["f", "between", "top"] {
        assert!(exists(u.br(0, name)), "{name}");
    }
    let mut request = Request::new(BRID_UPPER | BRID_LOWER)
        .branch(8, 64)
        .branch(48, 66);
    request.run(u.at("f"))?;
    assert!(exists(u.br(2, "f")) && !exists(u.br(0, "f")));
    Ok(())
}

/// It would not be seen below.
fn hidden_from_above(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .dir("opaque")
            .opaque("opaque")
            .file("opaque/f", ""))
        .ro_wh(Tree::new().whiteout("f").whiteout("d").dir("e").opaque("e"))
        .rw(Tree::new().whiteout("ok").file("x", ""))
        .mount()?;
    sys::write(u.at("f"), "")?;
    refused(u.at("f"), Request::new(0), Errno::INVAL, 2);
    refused(u.at("opaque/f"), Request::new(0), Errno::INVAL, 1);
    sys::mkdir(u.at("d"))?;
    sys::write(u.at("d/f"), "")?;
    errno(down(u.at("d/f")), Errno::INVAL);
    sys::write(u.at("e/f"), "")?;
    refused(u.at("e/f"), Request::new(0), Errno::INVAL, 1);
    assert!(
        !exists(u.br(2, "d")) && !exists(u.br(2, "e")),
        "nothing is made"
    );
    // A whiteout on the target itself goes.
    sys::write(u.at("ok"), "")?;
    down(u.at("ok"))?;
    assert!(exists(u.br(2, "ok")) && !exists(u.br(2, ".wh.ok")));
    Ok(())
}

fn bad_requests(cx: &Ctx) -> Result<()> {
    let u = two(cx)?;
    sys::write(u.at("f"), "")?;
    let fd = sys::open_ro(u.at("f"))?;
    errno(raw(&fd, MVDOWN, NOWHERE), Errno::FAULT);
    errno(raw(&fd, MVDOWN, 0), Errno::FAULT);
    errno(raw(open_dir(u.root())?, MVDOWN, NOWHERE), Errno::ISDIR);
    users::as_user(1000, 1000, || errno(down(u.at("f")), Errno::PERM));
    assert!(exists(u.br(0, "f")));
    Ok(())
}

fn room_is_given_back(cx: &Ctx) -> Result<()> {
    let (upper, lower) = (
        Private::tmpfs(&cx.name(), "size=16m")?,
        Private::tmpfs(&cx.name(), "")?,
    );
    let u = cx
        .union()
        .at(upper.path(), "rw")
        .at(lower.path(), "rw")
        .mount()?;
    let free = || -> Result<u64> { Ok(statfs(upper.path())?.f_bavail) };
    let empty = free()?;
    sys::write(u.at("f"), vec![7; 8 << 20])?;
    assert!(free()? < empty);
    down(u.at("f"))?;
    assert_eq!(free()?, empty, "as soon as it is closed");
    assert_eq!(sys::read(u.at("f"))?, vec![7; 8 << 20]);
    u.umount()?;
    upper.umount()?;
    lower.umount()
}

fn nothing_is_lost_without_room(cx: &Ctx) -> Result<()> {
    let lower = Private::tmpfs(&cx.name(), "size=1m")?;
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let u = cx.union().at(&rw, "rw").at(lower.path(), "rw").mount()?;
    sys::write(u.at("f"), vec![7; 4 << 20])?;
    sys::write(lower.path().join("f"), "old")?;
    for flags in [OWLOWER, OWLOWER | KUPPER] {
        refused(u.at("f"), Request::new(flags), Errno::NOSPC, 0);
        assert_eq!(sys::read(rw.join("f"))?.len(), 4 << 20);
        assert_eq!(text(lower.path().join("f"))?, "old");
        assert_eq!(sys::read(u.at("f"))?, vec![7; 4 << 20]);
        assert!(dir::names(lower.path().join(".wh..wh.orph"))?.is_empty());
    }
    u.umount()?;
    lower.umount()
}

/// What the lower branch does not take stops the move, unless it says otherwise (`icex*`).
fn attributes_without_room(cx: &Ctx) -> Result<()> {
    // More than ext4 has room for.
    let large = vec![7u8; 6000];
    for (perm, forgiven) in [("rw", false), ("rw+icexusr", true)] {
        let high = Tree::new().file("f", "f").xattr("user.large", &large);
        let u = cx
            .union()
            .on(Kind::Tmpfs, "rw", high)
            .on(Kind::Ext4, perm, Tree::new())
            .mount()?;
        if forgiven {
            down(u.at("f"))?;
            assert_eq!(text(u.br(1, "f"))?, "f");
        } else {
            errno(down(u.at("f")), Errno::NOSPC);
            assert!(!exists(u.br(1, "f")));
            assert_eq!(sys::get_xattr(u.at("f"), "user.large")?, large);
        }
    }
    Ok(())
}

/// Ends the readers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever reads, lists or opens the file finds it whole, at each moment.
fn readers_meanwhile(cx: &Ctx) -> Result<()> {
    let u = two(cx)?;
    let content = vec![9u8; 300_000];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let look = || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                for n in 0..4 {
                    let path = u.at(&format!("f{n}"));
                    match sys::read(&path) {
                        Ok(read) => assert!(read.is_empty() || read == content, "{path:?}"),
                        Err(e) => assert_eq!(e.errno, Errno::NOENT, "{e}"),
                    }
                }
                dir::names(u.root())?;
            }
            Ok(())
        };
        let readers = [scope.spawn(look), scope.spawn(look)];
        let end = Stop(&stop);
        let result = (0..40).try_for_each(|round| -> Result<()> {
            let path = u.at(&format!("f{}", round % 4));
            if exists(&path) {
                sys::unlink(&path)?;
            }
            let staged = u.at("staged");
            sys::write(&staged, &content)?;
            sys::rename(&staged, &path)?;
            let ino = sys::lstat(&path)?.st_ino;
            down(&path)?;
            assert_eq!(sys::lstat(&path)?.st_ino, ino);
            assert_eq!(sys::read(&path)?, content);
            assert_eq!(std::fs::metadata(&path)?.nlink(), 1);
            Ok(())
        });
        drop(end);
        for reader in readers {
            reader.join().expect("a reader")?;
        }
        result
    })
}

fn file_handles(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t").file("again", "a"))
        .rw(Tree::new())
        .ro(Tree::new().file("l", "l"))
        .mount()?;
    let root = open_dir(u.root())?;
    let lead = |handle: &Handle, name: &str| -> Result<()> {
        for _ in 0..2 {
            let fd = handle.open(&root, OFlags::RDONLY)?;
            assert_eq!(sys::fstat(&fd)?.st_ino, sys::lstat(u.at(name))?.st_ino);
            drop(fd);
            sys::drop_caches();
        }
        Ok(())
    };
    // The instance that its handle names goes away.
    let old = Handle::of(u.at("t"))?;
    down(u.at("t"))?;
    old.assert_stale(&root);
    let new = Handle::of(u.at("t"))?;
    lead(&new, "t")?;
    old.assert_stale(&root);
    assert_eq!(new, Handle::of(u.at("t"))?);
    // Here it stays, below.
    let first = Handle::of(u.at("l"))?;
    sys::append(u.at("l"), "more")?;
    down(u.at("l"))?;
    assert!(exists(u.br(1, "l")) && !exists(u.br(0, "l")));
    lead(&first, "l")?;
    assert_eq!(first, Handle::of(u.at("l"))?);
    // Opened by a handle it may have no name.
    let handle = Handle::of(u.at("again"))?;
    sys::drop_caches();
    let fd = handle.open(&root, OFlags::RDONLY)?;
    let named = path_of(&fd)? == u.at("again").to_string_lossy();
    let result = on(fd, MVDOWN, &mut Request::new(0).0).map(drop);
    match named {
        true => result?,
        false => errno(result, Errno::NOENT),
    }
    assert_eq!(exists(u.br(1, "again")), named);
    Ok(())
}
