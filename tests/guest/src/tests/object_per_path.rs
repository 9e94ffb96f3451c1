// SPDX-License-Identifier: GPL-2.0

//! A writable branch on which each path is an object of its own, as with FUSE servers that are made
//! with libfuse: a file with several names is changed there as one with a single name.

use std::path::PathBuf;

use crate::harness::{
    context::leftovers,
    paths::Paths,
    prelude::*,
    snapshot::{Scope, Snapshot},
};

cases! {
    BASIC: several_lower_names, names_made_in_the_union, attributes_that_it_cannot_hold,
        names_part_when_somebody_writes;
}

struct Below {
    home: PathBuf,
    fuse: Paths,
}

impl Below {
    fn new(cx: &Ctx) -> Result<Self> {
        let home = cx.dir(cx.layout.upper())?;
        let fuse = Paths::mount(cx, &home)?;
        Ok(Self { home, fuse })
    }

    fn end(self) -> Result<()> {
        let now = Snapshot::of(&self.home, Scope::Everything)?;
        assert_eq!(leftovers(&now, false), [""; 0]);
        drop(self.fuse);
        Ok(())
    }
}

fn several_lower_names(cx: &Ctx) -> Result<()> {
    let below = Below::new(cx)?;
    let low = Tree::new()
        .file("x", "x")
        .hardlink("x2", "x")
        .hardlink("d/x3", "x")
        .file("single", "s")
        .symlink("l", "x")
        .hardlink("l2", "l");
    let mut u = cx.union().at(below.fuse.path(), "rw").ro(low).mount()?;
    sys::chmod(u.at("x"), 0o600)?;
    sys::chmod(u.at("x"), 0o640)?;
    sys::append(u.at("x"), "1")?;
    sys::rename(u.at("x"), u.at("y"))?;
    sys::append(u.at("y"), "2")?;
    sys::append(u.at("x2"), "a")?;
    sys::append(u.at("x2"), "b")?;
    sys::chown(u.at("l"), Some(1001), None)?;
    sys::chown(u.at("l"), Some(1002), None)?;
    sys::chmod(u.at("single"), 0o600)?;
    sys::chmod(u.at("single"), 0o640)?;
    sys::rename(u.at("single"), u.at("s2"))?;
    for again in [false, true] {
        if again {
            u.again()?;
        }
        assert_eq!(names(u.root())?, set(["y", "x2", "d", "s2", "l", "l2"]));
        assert_eq!(text(u.at("y"))?, "x12");
        assert_eq!(text(u.at("x2"))?, "xab");
        assert_eq!(text(u.at("d/x3"))?, "x");
        assert_eq!(sys::mode(&sys::lstat(u.at("y"))?), 0o640);
        assert_eq!(sys::mode(&sys::lstat(u.at("x2"))?), 0o644);
        assert_eq!(sys::lstat(u.at("l"))?.st_uid, 1002);
        assert_eq!(sys::lstat(u.at("l2"))?.st_uid, 0);
    }
    sys::unlink(u.at("y"))?;
    sys::unlink(u.at("x2"))?;
    assert_eq!(text(u.at("d/x3"))?, "x");
    sys::unlink(u.at("d/x3"))?;
    sys::rmdir(u.at("d"))?;
    assert_eq!(names(u.root())?, set(["s2", "l", "l2"]));
    u.umount()?;
    below.end()
}

fn names_made_in_the_union(cx: &Ctx) -> Result<()> {
    let below = Below::new(cx)?;
    let low = Tree::new().file("low", "low").hardlink("low2", "low");
    let u = cx.union().at(below.fuse.path(), "rw").ro(low).mount()?;
    sys::write(u.at("n"), "n")?;
    sys::link(u.at("n"), u.at("n2"))?;
    sys::chmod(u.at("n"), 0o600)?;
    sys::chmod(u.at("n2"), 0o640)?;
    sys::rename(u.at("n"), u.at("n3"))?;
    assert_eq!(text(u.at("n2"))?, "n");
    sys::unlink(u.at("n3"))?;
    assert_eq!(text(u.at("n2"))?, "n");
    sys::link(u.at("low"), u.at("low3"))?;
    sys::append(u.at("low"), "+")?;
    assert_eq!(text(u.at("low"))?, "low+");
    assert_eq!(text(u.at("low2"))?, "low");
    sys::unlink(u.at("low"))?;
    sys::unlink(u.at("low2"))?;
    assert_eq!(text(u.at("low3"))?, "low+");
    assert_eq!(names(u.root())?, set(["n2", "low3"]));
    u.umount()?;
    below.end()
}

fn attributes_that_it_cannot_hold(cx: &Ctx) -> Result<()> {
    let below = Below::new(cx)?;
    let low = Tree::new()
        .file("d/f", "low")
        .xattr("user.k", "v")
        .file("d/g", "low")
        .xattr("trusted.k", "v")
        .file("d/labelled", "low")
        .xattr("security.k", "v");
    let u = cx.union().at(below.fuse.path(), "rw").ro(low).mount()?;
    sys::append(u.at("d/f"), "+")?;
    sys::append(u.at("d/g"), "+")?;
    assert_eq!(text(u.at("d/f"))?, "low+");
    let said = cx.klog();
    let told: Vec<_> = said
        .iter()
        .filter(|line| line.contains("cannot hold"))
        .collect();
    assert_eq!(told.len(), 1, "{said:?}");
    assert!(
        told[0].contains(&*below.fuse.path().to_string_lossy()),
        "{told:?}"
    );
    // What an LSM keeps there is not lost in silence.
    errno(sys::append(u.at("d/labelled"), "+"), Errno::OPNOTSUPP);
    u.umount()?;
    below.end()
}

fn names_part_when_somebody_writes(cx: &Ctx) -> Result<()> {
    let below = Below::new(cx)?;
    let low = Tree::new().file("x", "x").hardlink("x2", "x");
    let u = cx.union().at(below.fuse.path(), "rw").ro(low).mount()?;
    // Whoever has the file open sees the copy, by whatever name.
    let reader = sys::open_ro(u.at("x2"))?;
    let writer = sys::open_rw(u.at("x"))?;
    sys::pwrite_fd(&writer, b"X", 0)?;
    assert_eq!(sys::pread_fd(&reader)?, b"X");
    assert_eq!(text(u.at("x2"))?, "x");
    assert_ne!(
        sys::lstat(u.at("x"))?.st_ino,
        sys::lstat(u.at("x2"))?.st_ino
    );
    drop((reader, writer));
    u.umount()?;
    below.end()
}
