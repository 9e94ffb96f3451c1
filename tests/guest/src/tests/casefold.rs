// SPDX-License-Identifier: GPL-2.0

//! File systems on which directories can ignore the case of names: branches, but for such
//! directories.

use std::path::Path;

use crate::harness::{prelude::*, scratch::Private};
use rustix::fs::{ioctl_getflags, ioctl_setflags, IFlags};

cases! {
    ONCE: directories_that_tell_names_apart, refused_at_mount, refused_when_met;
}

fn disk(cx: &Ctx) -> Result<Private> {
    Private::ext4(&cx.name(), 64 << 20, &["-O", "casefold"], "acl")
}

/// Makes an empty directory ignore the case of names.
fn fold(path: impl AsRef<Path>) -> sys::Res<()> {
    let fd = dir::open_dir(path)?;
    let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
    let flags = IFlags::from_bits_retain(flags.bits() | 0x4000_0000);
    sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, flags))
}

fn directories_that_tell_names_apart(cx: &Ctx) -> Result<()> {
    let disk = disk(cx)?;
    let (up, low) = (disk.path().join("up"), disk.path().join("low"));
    for dir in [&up, &low] {
        sys::mkdir(dir)?;
    }
    Tree::new()
        .file("d/f", "low")
        .file("d/F", "LOW")
        .file("d/g", "g")
        .build(&low)?;
    let mut u = cx.union().at(&up, "rw").at(&low, "ro").mount()?;
    sys::append(u.at("d/f"), "+")?;
    sys::unlink(u.at("d/g"))?;
    sys::write(u.at("d/G"), "new")?;
    sys::rename(u.at("d/G"), u.at("d/h"))?;
    for again in [false, true] {
        if again {
            u.again()?;
        }
        assert_eq!(names(u.at("d"))?, set(["f", "F", "h"]));
        assert_eq!(text(u.at("d/f"))?, "low+");
        assert_eq!(text(u.at("d/F"))?, "LOW");
    }
    // The union itself tells names apart everywhere.
    sys::mkdir(u.at("e"))?;
    errno(fold(u.at("e")), Errno::OPNOTSUPP);
    u.umount()?;
    disk.umount()
}

fn refused_at_mount(cx: &Ctx) -> Result<()> {
    let disk = disk(cx)?;
    let folds = disk.path().join("folds");
    sys::mkdir(&folds)?;
    fold(&folds)?;
    for perm in ["rw", "ro"] {
        let refused = cx.union().rw(Tree::new()).at(&folds, perm).mount();
        let said = format!("{:#}", refused.err().context("it is mounted")?);
        assert!(said.contains("ignores the case of names"), "{said}");
        assert!(said.contains(&*folds.to_string_lossy()), "{said}");
    }
    disk.umount()
}

fn refused_when_met(cx: &Ctx) -> Result<()> {
    let disk = disk(cx)?;
    let low = disk.path().join("low");
    Tree::new()
        .file("low/d/f", "low")
        .dir("low/d/folds")
        .build(disk.path())?;
    fold(low.join("d/folds"))?;
    sys::write(low.join("d/folds/x"), "")?;
    let up = Tree::new().file("d/folds/y", "").file("d/folds2", "");
    let u = cx.union().rw(up).at(&low, "ro").mount()?;
    assert_eq!(names(u.at("d"))?, set(["f", "folds", "folds2"]));
    for _ in 0..2 {
        errno(sys::lstat(u.at("d/folds")), Errno::OPNOTSUPP);
        errno(sys::lstat(u.at("d/folds/X")), Errno::OPNOTSUPP);
    }
    errno(sys::rmdir(u.at("d/folds")), Errno::OPNOTSUPP);
    errno(
        sys::rename(u.at("d/folds2"), u.at("d/folds")),
        Errno::OPNOTSUPP,
    );
    assert_eq!(text(u.at("d/f"))?, "low");
    sys::append(u.at("d/f"), "+")?;
    let said = cx.klog();
    let told = said
        .iter()
        .filter(|line| line.contains("ignores the case of names"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains(&*low.join("d/folds").to_string_lossy()),
        "{told:?}"
    );
    u.umount()?;
    disk.umount()
}
