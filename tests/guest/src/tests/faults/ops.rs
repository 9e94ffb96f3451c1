// SPDX-License-Identifier: GPL-2.0

//! A union with one of everything, and each operation that changes something in it or reads it.
//!
//! An operation is one change for the user, whatever it takes on the branches: that is what must
//! be done or undone as a whole.

use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};

use crate::harness::{
    context::{leftovers, Ctx},
    dir,
    scratch::Kind,
    snapshot::{Scope, Snapshot},
    sys::{self, Errno, FileType, OFlags, RenameFlags, Res, Time},
    tree::Tree,
    union::Union,
};

/// An operation, on the root of the union.
pub(crate) struct Op {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Path) -> Res<()>,
}

impl Op {
    /// Whether it makes a file and then opens it: if that fails, the file stays, as on any file
    /// system.
    pub(crate) fn opens_last(&self) -> bool {
        self.name.starts_with("create")
    }
}

macro_rules! ops {
    ($($name:literal: |$root:ident| $body:expr;)+) => {
        &[$(Op { name: $name, run: |$root| $body }),+]
    };
}

/// `u::rw-, u:1001:rw-, g::---, m::rw-, o::---`, version 2.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 233, 3, 0, 0, 4, 0, 0, 0, 255, 255,
    255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// What changes something.
pub(crate) const CHANGES: &[Op] = ops! {
    "write to a lower file": |u| sys::append(u.join("e/f/g/deep"), "+");
    "write to a sparse lower file": |u| sys::append(u.join("d/sparse"), "+");
    "cut a lower file": |u| sys::truncate(u.join("e/f/g/deep"), 100);
    "cut by one of several names": |u| sys::truncate(u.join("d/h1"), 3);
    "empty a lower file": |u| sys::open(u.join("e/f/g/deep"), OFlags::WRONLY | OFlags::TRUNC).map(drop);
    "lengthen a lower file": |u| sys::truncate(u.join("d/low"), 50_000);
    "chmod": |u| sys::chmod(u.join("e/f/g/deep"), 0o640);
    "chmod of a directory": |u| sys::chmod(u.join("e/f/g"), 0o700);
    "chown": |u| sys::chown(u.join("d/low"), Some(12), Some(34));
    "chown of a symlink": |u| sys::chown(u.join("d/sym"), Some(12), None);
    "utimens": |u| sys::utimens(u.join("d/fifo"), (5, 0), (7, 0));
    "set an attribute": |u| sys::set_xattr(u.join("d/low"), "trusted.a", vec![b'v'; 200]);
    "remove an attribute": |u| sys::remove_xattr(u.join("d/low"), "trusted.k");
    "set an ACL": |u| sys::set_xattr(u.join("d/low"), ACCESS, ACL);
    "set a default ACL": |u| sys::set_xattr(u.join("e/f"), DEFAULT, ACL);
    "remove an ACL": |u| sys::remove_xattr(u.join("d/acl"), ACCESS);
    "empty by one of several names": |u| {
        sys::open(u.join("d/h1"), OFlags::WRONLY | OFlags::TRUNC).map(drop)
    };
    "write by one of several names": |u| sys::append(u.join("d/h1"), "+");
    "create": |u| sys::create(u.join("e/f/new")).map(drop);
    "create over a whiteout": |u| sys::create(u.join("d/gone")).map(drop);
    "mkdir": |u| sys::mkdir(u.join("e/f/new"));
    "mkdir over a whiteout": |u| sys::mkdir(u.join("d/gonedir"));
    "mknod of a file": |u| sys::mknod(u.join("d/gone"), FileType::RegularFile, 0o600, 0);
    "mknod of a device": |u| sys::mknod(u.join("d/gone"), FileType::CharacterDevice, 0o600, sys::dev(1, 3));
    "symlink": |u| sys::symlink("x".repeat(100), u.join("d/gone"));
    "an unnamed file gets a name": |u| {
        let fd = sys::open(u.join("e/f"), OFlags::TMPFILE | OFlags::RDWR)?;
        sys::write_fd(&fd, b"content")?;
        sys::link_fd(fd, u.join("e/f/new"))
    };
    "link of a lower file": |u| sys::link(u.join("e/f/g/deep"), u.join("d/gone"));
    "link of an upper file": |u| sys::link(u.join("d/up"), u.join("e/f/new"));
    "link of a file with several names": |u| sys::link(u.join("d/h1"), u.join("e/f/new"));
    "unlink of a lower file": |u| sys::unlink(u.join("e/f/g/deep"));
    "unlink of an upper file": |u| sys::unlink(u.join("d/up"));
    "unlink of both": |u| sys::unlink(u.join("d/both"));
    "unlink of one of several names": |u| sys::unlink(u.join("d/h1"));
    "unlink of a symlink": |u| sys::unlink(u.join("d/sym"));
    "rmdir of a lower directory": |u| sys::rmdir(u.join("e/empty"));
    "rmdir of an upper directory": |u| sys::rmdir(u.join("plain/in"));
    "rmdir of a directory with marks": |u| sys::rmdir(u.join("marks"));
    "rename of a lower file": |u| sys::rename(u.join("e/f/g/deep"), u.join("d/new"));
    "rename over an upper file": |u| sys::rename(u.join("d/low"), u.join("d/up"));
    "rename over a lower file": |u| sys::rename(u.join("d/up"), u.join("e/f/g/deep"));
    "rename over a file of both": |u| sys::rename(u.join("d/low"), u.join("d/both"));
    "rename over a whiteout": |u| sys::rename(u.join("d/both"), u.join("d/gone"));
    "rename of one of several names": |u| sys::rename(u.join("d/h1"), u.join("e/f/new"));
    "rename of a directory": |u| sys::rename(u.join("plain"), u.join("e/f/new"));
    "rename of a directory over a whiteout": |u| sys::rename(u.join("plain"), u.join("d/gonedir"));
    "rename of a directory over one with marks": |u| sys::rename(u.join("plain"), u.join("marks"));
    "rename of a directory over a lower one": |u| sys::rename(u.join("plain"), u.join("e/empty"));
    "rename of a lower directory": |u| sys::rename(u.join("e/empty"), u.join("d/new"));
    "exchange of files": |u| exchange(u, "d/low", "d/both");
    "exchange of a file and a directory": |u| exchange(u, "e/f/g/deep", "plain");
    "exchange of directories": |u| exchange(u, "plain", "e/empty");
};

/// What changes nothing.
pub(crate) const READS: &[Op] = ops! {
    "stat": |u| sys::lstat(u.join("e/f/g/deep")).map(drop);
    "stat of what is not there": |u| absent(&u.join("e/f/g/none"));
    "stat of what is hidden": |u| absent(&u.join("d/gone"));
    "read": |u| sys::read(u.join("e/f/g/deep")).map(drop);
    "readlink": |u| sys::readlink(u.join("d/sym")).map(drop);
    "list a merged directory": |u| dir::names(u.join("d")).map(drop);
    "list a lower directory": |u| dir::names(u.join("e/f/g")).map(drop);
    "list attributes": |u| sys::list_xattr(u.join("d/low")).map(drop);
    "get an attribute": |u| sys::get_xattr(u.join("d/low"), "trusted.k").map(drop);
    "get an ACL": |u| sys::get_xattr(u.join("d/acl"), ACCESS).map(drop);
    "statfs": |u| sys::at("statfs", u, rustix::fs::statfs(u)).map(drop);
    "sync": |u| sys::on_fd("syncfs", rustix::fs::syncfs(dir::open_dir(u)?));
    "sync of a directory": |u| sys::on_fd("fsync", rustix::fs::fsync(dir::open_dir(u.join("d"))?));
};

fn exchange(u: &Path, a: &str, b: &str) -> Res<()> {
    sys::rename_with(u.join(a), u.join(b), RenameFlags::EXCHANGE)
}

fn absent(path: &Path) -> Res<()> {
    match sys::lstat(path) {
        Err(e) if e.errno == Errno::NOENT => Ok(()),
        other => other.map(|_| panic!("{} is there", path.display())),
    }
}

/// Contents of a lower file: more than a page, less than makes a run long.
const DATA: [u8; 10_000] = [b'd'; 10_000];

/// The writable branch.
pub(crate) fn upper() -> Tree {
    Tree::new()
        .file("d/up", "up")
        .file("d/both", "both, upper")
        .whiteout("d/gone")
        .whiteout("d/gonedir")
        .whiteout("marks/a")
        .whiteout("marks/b")
        .file("plain/file", "plain")
        .dir("plain/in")
}

/// The branch in the middle, whose whiteouts count.
fn middle() -> Tree {
    Tree::new()
        .file("d/mid", "mid")
        .whiteout("d/hidden")
        .file("d/both", "both, middle")
}

/// The lowest branch; what matters belongs to `owner`.
fn lowest(owner: u32) -> Tree {
    let sparse: [(u64, &[u8]); 2] = [(0, b"start"), (200_000, b"end")];
    Tree::new()
        .file("d/low", DATA)
        .owner(owner, owner)
        .xattr("trusted.k", "v")
        .xattr("user.k", [b'u'; 100])
        .sparse("d/sparse", 300_000, &sparse)
        .file("d/acl", "acl")
        .xattr(ACCESS, ACL)
        .file("d/both", "both, lower")
        .file("d/gone", "gone")
        .file("d/gonedir/inside", "gone")
        .file("d/hidden", "hidden")
        .symlink("d/sym", "low")
        .fifo("d/fifo")
        .file("d/h1", "linked")
        .hardlink("e/h2", "d/h1")
        .dir("e/f/g")
        .owner(owner, owner)
        .file("e/f/g/deep", DATA)
        .owner(owner, owner)
        .dir("e/empty")
        .file("marks/a", "a")
        .file("marks/b", "b")
        .file("aside/file", "aside")
}

/// The read-only branches of all unions of a test.
pub(crate) struct Lowers([PathBuf; 2]);

impl Lowers {
    pub(crate) fn new(cx: &Ctx, kind: Kind) -> Result<Self> {
        Self::of(cx, kind, 0)
    }

    /// With the files to be changed belonging to `owner`.
    pub(crate) fn of(cx: &Ctx, kind: Kind, owner: u32) -> Result<Self> {
        let middle = cx.branch(kind, "ro+wh", &middle())?;
        Ok(Self([middle, cx.branch(kind, "ro", &lowest(owner))?]))
    }

    /// Mounts the union of everything, with an existing writable branch.
    pub(crate) fn union(&self, cx: &Ctx, rw: &Path) -> Result<Union> {
        let [middle, lowest] = &self.0;
        let union = cx.union().at(rw, "rw").at(middle, "ro+wh");
        union.at(lowest, "ro").mount()
    }
}

/// A time that is never reached: no time may differ.
pub(crate) const NEVER: Time = (i64::MAX, 0);

/// A time that was always reached: no time matters.
pub(crate) const EVER: Time = (0, 0);

/// A moment ago, with room for clocks that tick seldom.
pub(crate) fn now() -> Time {
    (sys::now().0 - 1, 0)
}

/// What a union shows, and what its writable branch holds beside it.
pub(crate) struct State {
    view: Snapshot,
    branch: Snapshot,
}

impl State {
    pub(crate) fn of(u: &Union) -> Result<Self> {
        Self::between(u.root(), &u.br(0, ""))
    }

    /// Of the union mounted at `root`, whose writable branch is `rw`.
    pub(crate) fn between(root: &Path, rw: &Path) -> Result<Self> {
        Ok(Self {
            view: Snapshot::of(root, Scope::Visible)?,
            branch: Snapshot::of(rw, Scope::Visible)?,
        })
    }

    /// Fails unless the union is as in `before`, an operation having failed since `start`. Its
    /// objects may have been copied up; directories may have got new times when something was
    /// undone, and files where data should have been written, as on any file system.
    pub(crate) fn check_undone(&self, before: &Self, start: Time) -> Result<()> {
        let diff = before.view.diff_but_times(&self.view, start);
        ensure!(diff.is_empty(), "it failed, but: {diff:#?}");
        let (mut old, mut new) = (before.whiteouts(), self.whiteouts());
        // An opaque mark may have come in place of them.
        for whiteouts in [&mut old, &mut new] {
            whiteouts.retain(|path| !self.is_opaque(path));
        }
        ensure!(
            old == new,
            "it failed, but the whiteouts were {old:?} and are {new:?}"
        );
        self.check_clean(false)
    }

    /// Fails unless the union shows the same as `expected`, after the same operation.
    pub(crate) fn check_done(&self, expected: &Self, start: Time) -> Result<()> {
        self.check_shown(expected, start)?;
        self.check_clean(false)
    }

    /// As [`Self::check_done`]; what was removed may still wait for the next mount, out of sight. A
    /// whiteout that could not be removed may stay beside the object, where it hides nothing but
    /// what lies below.
    pub(crate) fn check_done_but_orphans(&self, expected: &Self, start: Time) -> Result<()> {
        self.check_shown(expected, start)?;
        let mut left = leftovers(&self.branch, true);
        left.retain(|what| !what.contains("\".wh..wh.orph/"));
        ensure!(left.is_empty(), "in the writable branch: {left:#?}");
        Ok(())
    }

    /// As [`Self::check_done_but_orphans`], after a new mount, which removes orphans. A removed name
    /// of a file with several is noted for its link count: without room for the note the name goes
    /// all the same.
    pub(crate) fn check_done_and_mounted(&self, expected: &Self, start: Time) -> Result<()> {
        let uncounted = |state: &Self| Self {
            view: state.view.without_links(),
            branch: state.branch.clone(),
        };
        uncounted(self).check_shown(&uncounted(expected), start)?;
        self.check_clean(true)
    }

    /// Fails unless the union shows the same as `expected`, after the same operation.
    fn check_shown(&self, expected: &Self, start: Time) -> Result<()> {
        let diff = expected.view.diff_but_times(&self.view, start);
        ensure!(
            diff.is_empty(),
            "it succeeded, but differs from a run without faults: {diff:#?}"
        );
        Ok(())
    }

    /// Whether the union is the same as in `before`, to the times.
    pub(crate) fn is(&self, before: &Self) -> bool {
        before.view == self.view
    }

    /// Whether the writable branch holds the same as in `expected`, after the same operation since
    /// `start`: then a new mount finds the same.
    pub(crate) fn on_disk_as(&self, expected: &Self, start: Time) -> bool {
        let diff = expected.branch.diff_but_times(&self.branch, start);
        diff.is_empty()
    }

    /// Fails if anything is left behind in the writable branch; `messy`: but a whiteout beside an
    /// object.
    fn check_clean(&self, messy: bool) -> Result<()> {
        let left = leftovers(&self.branch, messy);
        ensure!(left.is_empty(), "in the writable branch: {left:#?}");
        Ok(())
    }

    /// Whether what lies beside `path`, on the writable branch, hides all that is below.
    fn is_opaque(&self, path: &str) -> bool {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let mark = format!("{dir}/.wh..wh..opq");
        self.branch.paths().any(|other| other == mark)
    }

    fn whiteouts(&self) -> Vec<&str> {
        let hides = |path: &&str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            name.starts_with(".wh.") && !name.starts_with(".wh..wh.")
        };
        self.branch.paths().filter(hides).collect()
    }
}
