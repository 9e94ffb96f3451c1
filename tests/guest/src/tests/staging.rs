// SPDX-License-Identifier: GPL-2.0

//! Directories of the writable branch that take no object from elsewhere: those of a project of
//! their own, encrypted ones, subvolumes. All works in them as in any other.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::harness::{
    context::leftovers,
    policy::{self, Key},
    prelude::*,
    scratch::{self, Private},
    snapshot::{Scope, Snapshot},
};

cases! {
    ONCE: project_ext4, project_in_a_project_ext4, orphans_without_a_project_ext4, project_xfs,
        project_in_a_project_xfs, encrypted, encrypted_and_locked, subvolume,
        leftovers_of_a_crash_go_with_their_directory, owner_of_the_directory_swaps_what_is_made;
    BASIC: the_acl_of_the_directory_is_not_the_copys, inherited_acl_lets_nobody_in;
    EXT4: flags_of_the_directory_are_not_the_copys;
}

const EXT4: &[Layout] = &[Layout::Ext4];
const DISK: u64 = 192 << 20;

fn lower() -> Tree {
    Tree::new()
        .file("p/f", "low")
        .file("p/g", "low")
        .file("p/q/h", "low")
        .file("p/q/r/i", "low")
        .symlink("p/link", "f")
        .fifo("p/fifo")
        .file("p/dd/1", "low")
        .file("p/one", "low")
        .hardlink("p/two", "p/one")
        .file("p/mine", "low")
        .hardlink("other", "p/mine")
        .file("outside", "low")
}

/// What becomes of a file with names in several directories when it is copied up.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    /// They stay together.
    Together,
    /// The branch cannot keep them together.
    Part,
}

/// A union whose writable branch is in `home`, with the directory `p` as `prepare` leaves it.
fn with_special(
    cx: &Ctx,
    home: &Path,
    prepare: &dyn Fn(&Path) -> Result<()>,
    check: &dyn Fn(&Path) -> Result<()>,
    names: Names,
) -> Result<()> {
    let (up, low) = (home.join("up"), home.join("low"));
    for dir in [&up, &low] {
        sys::mkdir(dir)?;
    }
    lower().build(&low)?;
    sys::mkdir(up.join("p"))?;
    prepare(&up)?;
    let before = Snapshot::of(&low, Scope::Everything)?;
    let mut u = cx.union().at(&up, "rw").at(&low, "ro").mount()?;
    changes(&u, names)?;
    for name in ["f", "mknod", "new2", "q", "q/h", "q/r/i", "newd2", "dd"] {
        check(&up.join("p").join(name)).with_context(|| format!("p/{name}"))?;
    }
    for again in [false, true] {
        if again {
            u.again()?;
        }
        result(&u, names)?;
    }
    u.umount()?;
    assert_eq!(
        leftovers(&Snapshot::of(&up, Scope::Everything)?, false),
        [""; 0]
    );
    assert_eq!(
        before.diff(&Snapshot::of(&low, Scope::Everything)?),
        [""; 0]
    );
    Ok(())
}

fn changes(u: &Union, names: Names) -> Result<()> {
    let p = |rel: &str| u.at("p").join(rel);
    // Times of the directory are its user's.
    let mtime = sys::mtime(&sys::lstat(p(""))?);
    sys::append(p("f"), "+")?;
    sys::chmod(p("q/r/i"), 0o600)?;
    sys::chown(p("link"), Some(1001), None)?;
    sys::chmod(p("fifo"), 0o600)?;
    assert_eq!(sys::mtime(&sys::lstat(p(""))?), mtime);
    sys::write(p("new"), "new")?;
    sys::mkdir(p("newd"))?;
    sys::symlink("x", p("newl"))?;
    sys::mknod(p("mknod"), FileType::RegularFile, 0o644, 0)?;
    sys::append(p("q/h"), "+")?;
    sys::unlink(p("g"))?;
    sys::unlink(p("dd/1"))?;
    sys::rmdir(p("dd"))?;
    sys::mkdir(p("dd"))?;
    sys::write(p("dd/2"), "")?;
    sys::unlink(p("dd/2"))?;
    sys::rmdir(p("dd"))?;
    sys::mkdir(p("dd"))?;
    sys::rename(p("new"), p("new2"))?;
    sys::link(p("new2"), p("new3"))?;
    sys::rename(p("newd"), p("newd2"))?;
    sys::rename(p("f"), p("f2"))?;
    sys::rename(p("f2"), p("f"))?;
    sys::append(p("one"), "+")?;
    if names == Names::Together {
        sys::append(p("two"), "+")?;
    }
    sys::append(p("mine"), "+")?;
    // A replaced directory that holds marks.
    sys::mkdir(p("newd3"))?;
    sys::mkdir(p("newd3/x"))?;
    sys::rmdir(p("newd3/x"))?;
    sys::rename(p("newd3"), p("dd"))?;
    Ok(())
}

fn result(u: &Union, together: Names) -> Result<()> {
    let p = |rel: &str| u.at("p").join(rel);
    assert_eq!(
        names(p(""))?,
        set([
            "f", "q", "link", "fifo", "dd", "one", "two", "mine", "new2", "new3", "newd2", "newl",
            "mknod"
        ])
    );
    assert_eq!(text(p("f"))?, "low+");
    assert_eq!(text(p("q/h"))?, "low+");
    assert_eq!(text(p("q/r/i"))?, "low");
    assert_eq!(sys::mode(&sys::lstat(p("q/r/i"))?), 0o600);
    assert_eq!(sys::lstat(p("link"))?.st_uid, 1001);
    assert_eq!(sys::readlink(p("link"))?, "f");
    assert_eq!(sys::mode(&sys::lstat(p("fifo"))?), 0o600);
    assert_eq!(text(p("new3"))?, "new");
    assert_eq!(names(p("dd"))?, set([]));
    let (one, two, other) = match together {
        Names::Together => ("low++", "low++", "low+"),
        Names::Part => ("low+", "low", "low"),
    };
    assert_eq!(text(p("one"))?, one);
    assert_eq!(text(p("two"))?, two);
    assert_eq!(text(p("mine"))?, "low+");
    assert_eq!(text(u.at("other"))?, other);
    Ok(())
}

fn ext4(cx: &Ctx) -> Result<Private> {
    let features = ["-O", "project,quota,encrypt"];
    Private::ext4(&cx.name(), DISK, &features, "prjquota")
}

fn in_project(wanted: u32) -> impl Fn(&Path) -> Result<()> {
    move |path: &Path| {
        assert_eq!(policy::project(path)?, wanted, "{}", path.display());
        Ok(())
    }
}

fn project_ext4(cx: &Ctx) -> Result<()> {
    let disk = ext4(cx)?;
    let prepare = |up: &Path| policy::set_project(up.join("p"), 42);
    with_special(cx, disk.path(), &prepare, &in_project(42), Names::Together)?;
    disk.umount()
}

/// Neither the directory of orphans nor that of pseudo-links takes anything of the inner one.
fn nested(up: &Path) -> Result<()> {
    policy::set_project(up, 7)?;
    policy::set_project(up.join("p"), 42)
}

fn project_in_a_project_ext4(cx: &Ctx) -> Result<()> {
    let disk = ext4(cx)?;
    with_special(cx, disk.path(), &nested, &in_project(42), Names::Part)?;
    disk.umount()
}

/// The root of the branch got its project when the union had been mounted already.
fn orphans_without_a_project_ext4(cx: &Ctx) -> Result<()> {
    let disk = ext4(cx)?;
    let prepare = |up: &Path| -> Result<()> {
        cx.union().at(up, "rw").mount()?.umount()?;
        nested(up)
    };
    with_special(cx, disk.path(), &prepare, &in_project(42), Names::Together)?;
    disk.umount()
}

fn project_xfs(cx: &Ctx) -> Result<()> {
    let disk = Private::disk(Kind::Xfs, &cx.name(), 512 << 20)?;
    let prepare = |up: &Path| policy::set_project(up.join("p"), 42);
    with_special(cx, disk.path(), &prepare, &in_project(42), Names::Together)?;
    disk.umount()
}

fn project_in_a_project_xfs(cx: &Ctx) -> Result<()> {
    let disk = Private::disk(Kind::Xfs, &cx.name(), 512 << 20)?;
    with_special(cx, disk.path(), &nested, &in_project(42), Names::Part)?;
    disk.umount()
}

fn encrypted(cx: &Ctx) -> Result<()> {
    let disk = ext4(cx)?;
    let key = Key::add(disk.path())?;
    let prepare = |up: &Path| key.encrypt(up.join("p"));
    with_special(cx, disk.path(), &prepare, &|_| Ok(()), Names::Together)?;
    key.remove(disk.path())?;
    disk.umount()
}

fn encrypted_and_locked(cx: &Ctx) -> Result<()> {
    let disk = ext4(cx)?;
    let (up, low) = (disk.path().join("up"), disk.path().join("low"));
    for dir in [&up, &low] {
        sys::mkdir(dir)?;
    }
    lower().build(&low)?;
    sys::mkdir(up.join("p"))?;
    let key = Key::add(disk.path())?;
    key.encrypt(up.join("p"))?;
    let mut u = cx.union().at(&up, "rw").at(&low, "ro").mount()?;
    sys::append(u.at("p/f"), "+")?;
    sys::unlink(u.at("p/g"))?;
    u.umount()?;
    key.remove(disk.path())?;
    sys::drop_caches();
    u = cx.union().at(&up, "rw").at(&low, "ro").mount()?;
    // What it hides is not known, so nothing of it shows; nothing can be made.
    errno(names(u.at("p")), Errno::NOKEY);
    errno(sys::lstat(u.at("p/g")), Errno::NOKEY);
    errno(sys::lstat(u.at("p/one")), Errno::NOKEY);
    errno(sys::create(u.at("p/new")), Errno::NOKEY);
    errno(sys::mkdir(u.at("p/newd")), Errno::NOKEY);
    errno(sys::append(u.at("p/one"), "+"), Errno::NOKEY);
    errno(sys::chmod(u.at("p/q"), 0o700), Errno::NOKEY);
    errno(sys::unlink(u.at("p/one")), Errno::NOKEY);
    sys::append(u.at("outside"), "+")?;
    u.umount()?;
    let key = Key::add(disk.path())?;
    sys::drop_caches();
    u = cx.union().at(&up, "rw").at(&low, "ro").mount()?;
    assert_eq!(text(u.at("p/f"))?, "low+");
    assert!(!exists(u.at("p/g")));
    sys::append(u.at("p/one"), "+")?;
    u.umount()?;
    assert_eq!(
        leftovers(&Snapshot::of(&up, Scope::Everything)?, false),
        [""; 0]
    );
    key.remove(disk.path())?;
    disk.umount()
}

fn subvolume(cx: &Ctx) -> Result<()> {
    let disk = Private::disk(Kind::Btrfs, &cx.name(), 256 << 20)?;
    let prepare = |up: &Path| -> Result<()> {
        sys::rmdir(up.join("p"))?;
        scratch::subvolume(&up.join("p"))
    };
    with_special(cx, disk.path(), &prepare, &|_| Ok(()), Names::Part)?;
    disk.umount()
}

/// The names are reserved, so nobody sees them.
fn leftovers_of_a_crash_go_with_their_directory(cx: &Ctx) -> Result<()> {
    let up = Tree::new()
        .file("d/.wh..wh.copyup.0001", "half")
        .opaque("d/.wh..wh.copyup.0002")
        .whiteout("d/.wh..wh.copyup.0002/x")
        .dir("d/.wh..wh.x.0003/.wh..wh.copyup.0004")
        .dir("e/.wh..wh.copyup.0001")
        .dir("new");
    let low = Tree::new().file("d/low", "");
    let u = cx.union().rw(up).ro(low).mount()?;
    assert_eq!(names(u.at("d"))?, set(["low"]));
    errno(sys::lstat(u.at("d/.wh..wh.copyup.0001")), Errno::PERM);
    sys::unlink(u.at("d/low"))?;
    sys::rmdir(u.at("d"))?;
    sys::rename(u.at("new"), u.at("e"))?;
    u.settle()?;
    assert_eq!(names(u.root())?, set(["e"]));
    assert_eq!(names(u.br(0, "e"))?, set([]));
    u.umount()
}

/// Moves what is being made in the directories `0`, `1` ... of `dir` away, and puts a file there
/// instead. `at` is where the union is; it ends with that at `end`.
fn swap(dir: &Path, at: &AtomicUsize, end: usize) -> Result<()> {
    loop {
        let n = at.load(Ordering::Relaxed);
        if n == end {
            return Ok(());
        }
        let home = dir.join(n.to_string());
        for entry in std::fs::read_dir(&home)?.flatten() {
            let name = entry.path();
            if name.to_string_lossy().contains(".wh..wh.copyup.")
                && sys::rename(&name, home.join("stolen")).is_ok()
            {
                sys::write(&name, "")?;
            }
        }
    }
}

/// A directory gets a temporary name in the one it is for, which others may write to.
fn owner_of_the_directory_swaps_what_is_made(cx: &Ctx) -> Result<()> {
    const TRIES: usize = 150;
    let disk = ext4(cx)?;
    let (up, low) = (disk.path().join("up"), disk.path().join("low"));
    let mut tree = Tree::new();
    for n in 0..TRIES {
        tree = tree.file(&format!("p/{n}/d/x"), "low");
    }
    sys::mkdir(&low)?;
    tree.build(&low)?;
    sys::mkdir(&up)?;
    sys::mkdir(up.join("p"))?;
    policy::set_project(up.join("p"), 42)?;
    for n in 0..TRIES {
        sys::mkdir(up.join(format!("p/{n}")))?;
    }
    let u = cx.union().at(&up, "rw").at(&low, "ro").mount()?;
    let at = AtomicUsize::new(0);
    thread::scope(|scope| -> Result<()> {
        let racer = scope.spawn(|| swap(&up.join("p"), &at, TRIES));
        let result = (0..TRIES).try_for_each(|n| -> Result<()> {
            at.store(n, Ordering::Relaxed);
            let dir = u.at(&format!("p/{n}/d"));
            if let Err(error) = sys::chmod(&dir, 0o750) {
                // Another object has the temporary name, or none.
                anyhow::ensure!(
                    [Errno::STALE, Errno::NOENT].contains(&error.errno),
                    "{error}"
                );
                return Ok(());
            }
            anyhow::ensure!(text(dir.join("x"))? == "low");
            anyhow::ensure!(names(&dir)? == set(["x"]));
            Ok(())
        });
        // Also after an error: the other thread is waited for.
        at.store(TRIES, Ordering::Relaxed);
        result?;
        racer.join().expect("no panic")
    })?;
    u.umount()?;
    disk.umount()
}

fn the_acl_of_the_directory_is_not_the_copys(cx: &Ctx) -> Result<()> {
    use crate::harness::acl::acl;
    const ACCESS: &str = "system.posix_acl_access";
    const DEFAULT: &str = "system.posix_acl_default";
    const NONE: u32 = u32::MAX;
    let default = acl(&[
        (0x01, 7, NONE),
        (0x02, 7, 1001),
        (0x04, 5, NONE),
        (0x10, 7, NONE),
        (0x20, 5, NONE),
    ]);
    let low = Tree::new()
        .file("d/f", "low")
        .mode(0o640)
        .dir("d/sub")
        .mode(0o750);
    let up = Tree::new().dir("d").xattr(DEFAULT, &default);
    let u = cx.union().rw(up).ro(low).opt("acl").mount()?;
    sys::append(u.at("d/f"), "+")?;
    sys::chmod(u.at("d/sub"), 0o700)?;
    for path in ["d/f", "d/sub"] {
        for at in [u.at(path), u.br(0, path)] {
            errno(sys::get_xattr(&at, ACCESS), Errno::NODATA);
        }
    }
    errno(sys::get_xattr(u.br(0, "d/sub"), DEFAULT), Errno::NODATA);
    assert_eq!(sys::mode(&sys::lstat(u.at("d/f"))?), 0o640);
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "d/sub"))?), 0o700);
    u.umount()
}

/// Nor is it for a moment: the copy, which has its mode already, is stopped on its way to the rest.
fn inherited_acl_lets_nobody_in(cx: &Ctx) -> Result<()> {
    use crate::harness::{
        acl::acl,
        fuse::{self, Fuse, Request},
    };
    const NONE: u32 = u32::MAX;
    let default = acl(&[
        (0x01, 7, NONE),
        (0x02, 7, 1001),
        (0x04, 5, NONE),
        (0x10, 7, NONE),
        (0x20, 5, NONE),
    ]);
    let fuse = Fuse::mount(cx)?;
    let u = cx
        .union()
        .rw(Tree::new())
        .at(fuse.path(), "ro")
        .opt("acl")
        .mount()?;
    let nursery = u.br(0, ".wh..wh.orph");
    sys::set_xattr(&nursery, "system.posix_acl_default", &default)?;
    fuse.hold(Request::ListXattr);
    let made = u.at(fuse::DIR).join("made");
    let maker = thread::spawn(move || sys::mkdir(made));
    fuse.wait_for(1)?;
    let staged: Vec<_> = names(&nursery)?.into_iter().collect();
    assert_eq!(staged.len(), 1, "{staged:?}");
    let staged = nursery.join(&staged[0]);
    let (mode, attributes) = (sys::mode(&sys::lstat(&staged)?), sys::list_xattr(&staged)?);
    fuse.release();
    maker.join().expect("no panic")?;
    assert_eq!(mode, 0o770, "or this tests nothing");
    assert_eq!(attributes, set([]));
    u.umount()
}

fn flags_of_the_directory_are_not_the_copys(cx: &Ctx) -> Result<()> {
    use rustix::fs::{ioctl_getflags, ioctl_setflags, IFlags};
    let low = Tree::new().file("d/f", "low").file("d/g", "low");
    let u = cx.union().rw(Tree::new().dir("d")).ro(low).mount()?;
    let inherited = IFlags::NOATIME | IFlags::SYNC;
    let fd = dir::open_dir(u.br(0, "d"))?;
    let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, flags | inherited))?;
    sys::append(u.at("d/f"), "+")?;
    let fd = sys::open_ro(u.at("d/f"))?;
    let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    assert!(!flags.intersects(inherited), "{flags:?}");
    drop(fd);
    u.umount()
}
