// SPDX-License-Identifier: GPL-2.0

//! Immutable and append-only objects (`chattr +i`, `+a`): what they keep users from, and what they
//! do not. On a native file system a directory that is immutable still has files that can be
//! written; so their copies come into the directory on the writable branch.

use std::path::Path;

use rustix::fs::{ioctl_getflags, ioctl_setflags, IFlags};

use crate::harness::prelude::*;

cases! {
    WRITABLE: immutable_directory, append_only_directory, names_of_a_file, flagged_behind_the_union;
    BASIC: flagged_on_a_lower_branch, flags_go_up_with_a_directory;
}

const BITS: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

fn flags(path: impl AsRef<Path>) -> Result<IFlags> {
    let fd = sys::open_ro(path)?;
    Ok(sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))? & BITS)
}

/// `chattr =FLAGS`.
fn chattr(path: impl AsRef<Path>, flags: IFlags) -> Result<()> {
    let fd = sys::open_ro(path)?;
    let now = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    let new = IFlags::from_bits_retain(now.bits() & !BITS.bits()) | flags;
    sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, new))?;
    Ok(())
}

fn low() -> Tree {
    Tree::new()
        .dir("d")
        .mtime(1_400_000_000, 5)
        .file("d/f", "low")
        .file("d/o", "low")
        .file("d/x", "low")
        .symlink("d/l", "f")
        .fifo("d/p")
        .dir("d/s")
        .file("d/s/g", "low")
}

/// All kinds of objects in `d`, which does not take new names, are changed.
fn change_inside(u: &Union) -> Result<()> {
    let before = sys::lstat(u.at("d"))?;
    let reader = sys::open_ro(u.at("d/f"))?;
    sys::append(u.at("d/f"), "+")?;
    assert_eq!(sys::pread_fd(&reader)?, b"low+");
    sys::chown(u.at("d/l"), Some(7), None)?;
    sys::chmod(u.at("d/p"), 0o600)?;
    sys::chmod(u.at("d/s"), 0o700)?;
    sys::append(u.at("d/s/g"), "+")?;
    sys::write(u.at("d/s/new"), "new")?;
    assert_eq!(sys::lstat(u.at("d/l"))?.st_uid, 7);
    assert_eq!(sys::mode(&sys::lstat(u.at("d/p"))?), 0o600);
    assert_eq!(text(u.at("d/s/g"))?, "low+");
    for name in ["f", "l", "p", "s"] {
        assert!(exists(u.br(0, "d").join(name)), "{name} was copied");
    }
    // The directory itself did not change.
    let after = sys::lstat(u.at("d"))?;
    assert_eq!(sys::mtime(&after), sys::mtime(&before));
    assert_eq!(sys::mtime(&after), (1_400_000_000, 5));
    Ok(())
}

fn refuses_new_names(u: &Union) {
    errno(sys::create(u.at("d/new")), Errno::PERM);
    errno(sys::unlink(u.at("d/o")), Errno::PERM);
    errno(sys::rename(u.at("d/o"), u.at("o")), Errno::PERM);
    errno(sys::chmod(u.at("d"), 0o700), Errno::PERM);
}

fn immutable_directory(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    chattr(u.at("d"), IFlags::IMMUTABLE)?;
    change_inside(&u)?;
    for _ in 0..2 {
        refuses_new_names(&u);
        errno(sys::create(u.br(0, "d/new")), Errno::PERM);
        assert_eq!(flags(u.at("d"))?, IFlags::IMMUTABLE);
        assert_eq!(flags(u.br(0, "d"))?, IFlags::IMMUTABLE);
        assert_eq!(names(u.at("d"))?, set(["f", "l", "o", "p", "s", "x"]));
        sys::drop_caches();
        u.again()?;
    }
    chattr(u.at("d"), IFlags::empty())?;
    sys::unlink(u.at("d/o"))?;
    Ok(())
}

fn append_only_directory(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(low()).mount()?;
    let times = |path: &str| sys::lstat(u.at(path));
    let before = times("d")?;
    sys::unlink(u.at("d/x"))?;
    sys::utimens(u.at("d"), sys::atime(&before), sys::mtime(&before))?;
    chattr(u.at("d"), IFlags::APPEND)?;
    change_inside(&u)?;
    // New names are allowed, also where there was another one before.
    sys::write(u.at("d/x"), "new")?;
    sys::write(u.at("y"), "new")?;
    sys::rename(u.at("y"), u.at("d/y"))?;
    sys::link(u.at("d/f"), u.at("d/z"))?;
    errno(sys::unlink(u.at("d/x")), Errno::PERM);
    errno(sys::rename(u.at("d/y"), u.at("d/w")), Errno::PERM);
    assert_eq!(text(u.at("d/x"))?, "new");
    assert!(!exists(u.br(0, "d/.wh.x")), "the whiteout is gone");
    assert_eq!(flags(u.at("d"))?, IFlags::APPEND);
    assert_eq!(flags(u.br(0, "d"))?, IFlags::APPEND);
    chattr(u.at("d"), IFlags::empty())?;
    Ok(())
}

fn names_of_a_file(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("a", "low").hardlink("b", "a");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    chattr(u.at("a"), IFlags::APPEND)?;
    // By the name that was not copied.
    sys::append(u.at("b"), "+")?;
    assert_eq!(text(u.at("a"))?, "low+");
    errno(sys::open_rw(u.at("b")), Errno::PERM);
    errno(sys::link(u.at("b"), u.at("c")), Errno::PERM);
    chattr(u.at("b"), IFlags::IMMUTABLE)?;
    errno(sys::open_rw(u.at("a")), Errno::PERM);
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 2);
    chattr(u.at("b"), IFlags::empty())?;
    assert_eq!(flags(u.at("a"))?, IFlags::empty());
    sys::append(u.at("b"), "+")?;
    assert_eq!(text(u.at("a"))?, "low++");
    Ok(())
}

/// What the union has not noticed still keeps users from writing.
fn flagged_behind_the_union(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("a", "low").file("i", "low");
    let u = cx.union().opt("udba=none").rw(low).mount()?;
    sys::lstat(u.at("a"))?;
    sys::lstat(u.at("i"))?;
    chattr(u.br(0, "a"), IFlags::APPEND)?;
    chattr(u.br(0, "i"), IFlags::IMMUTABLE)?;
    errno(sys::open_rw(u.at("a")), Errno::PERM);
    errno(sys::open_rw(u.at("i")), Errno::PERM);
    sys::append(u.at("a"), "+")?;
    errno(sys::append(u.at("i"), "+"), Errno::PERM);
    chattr(u.br(0, "a"), IFlags::empty())?;
    chattr(u.br(0, "i"), IFlags::empty())?;
    assert_eq!(text(u.at("a"))?, "low+");
    Ok(())
}

/// The copy of a directory has its flags, too.
fn flagged_on_a_lower_branch(cx: &Ctx) -> Result<()> {
    let branch = cx.dir(cx.layout.upper())?;
    low().build(&branch)?;
    chattr(branch.join("d"), IFlags::IMMUTABLE)?;
    let builder = cx.union().rw(Tree::new());
    let u = builder.at(&branch, "ro").mount()?;
    refuses_new_names(&u);
    change_inside(&u)?;
    refuses_new_names(&u);
    assert_eq!(flags(u.at("d"))?, IFlags::IMMUTABLE);
    chattr(u.at("d"), IFlags::empty())?;
    sys::write(u.at("d/new"), "new")?;
    u.umount()?;
    chattr(branch.join("d"), IFlags::empty())
}

/// The instance that a directory had before it got another one above goes on being written.
fn flags_go_up_with_a_directory(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    for bit in [IFlags::APPEND, IFlags::IMMUTABLE] {
        let u = cx
            .union()
            .on(kind, "rw", Tree::new().file("c/new", ""))
            .on(kind, "rw", Tree::new().file("d/f", "").file("d/e/g", ""))
            .mount()?;
        chattr(u.at("d"), bit)?;
        // Neither adds a name to an immutable directory.
        match bit {
            IFlags::APPEND => sys::rename(u.at("c/new"), u.at("d/new"))?,
            _ => sys::rename(u.at("c/new"), u.at("d/e/new"))?,
        }
        assert!(flags(u.at("d"))?.contains(bit), "{bit:?}");
        errno(sys::unlink(u.at("d/f")), Errno::PERM);
        assert!(exists(u.br(0, "d")), "it got an instance on the top branch");
        chattr(u.at("d"), IFlags::empty())?;
        sys::unlink(u.at("d/f"))?;
        std::fs::remove_dir_all(u.at("d"))?;
        errno(sys::lstat(u.at("d")), Errno::NOENT);
    }
    Ok(())
}
