// SPDX-License-Identifier: GPL-2.0

//! What container engines do with a file system called `aufs`: option strings of their own by
//! mount(2), layers that other programs unpack. The outcomes are those of aufs, or better.

use rustix::mount::MountFlags;

use crate::harness::{
    prelude::*,
    scratch,
    union::{mounts_line, remount2},
};

cases! {
    ONCE: docker_probe, docker_many_layers, docker_read_only_in_the_string, containerd_views, lxc,
        oci_layers_of_others;
}

/// mount(2) as the Go programs call it.
fn go_mount(target: &std::path::Path, flags: MountFlags, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount("none", target, "aufs", flags, data.as_c_str())
        .with_context(|| format!("mount(2) with {data:?}"))
}

fn docker_probe(cx: &Ctx) -> Result<()> {
    let base = cx.branch(Kind::Ext4, "rw", &Tree::new())?;
    let mnt = cx.mount_point()?;
    for _ in 0..2 {
        let data = format!("br:{},dirperm1,xino=/dev/shm/aufs.xino", base.display());
        go_mount(&mnt, MountFlags::empty(), &data)?;
        let stat = rustix::fs::statfs(&mnt)?;
        assert_eq!(stat.f_type as u64, 0x6175_6673);
        assert_eq!(stat.f_namelen, 242);
        scratch::umount(&mnt)?;
    }
    assert!(!sys::exists("/dev/shm/aufs.xino"));
    Ok(())
}

fn docker_many_layers(cx: &Ctx) -> Result<()> {
    const LAYERS: usize = 60;
    let mnt = cx.mount_point()?;
    let base = cx.dir(Kind::Ext4)?;
    let id = |n: usize| base.join(format!("{n:0>64}"));
    let mut made = Vec::new();
    for n in 0..=LAYERS {
        sys::mkdir(id(n))?;
        let tree = Tree::new()
            .file(&format!("f{n}"), n.to_string())
            .file("same", n.to_string())
            .whiteout(&format!("f{}", n + 1));
        if n > 0 {
            tree.build(&id(n))?;
        }
        made.push(id(n));
    }
    // What fits into a page with the options that follow; the rest comes by remounts.
    let mut data = format!("br:{}=rw", id(0).display());
    let mut n = 1;
    while n <= LAYERS && data.len() + 200 < 4096 {
        data += &format!(":{}=ro+wh", id(n).display());
        n += 1;
    }
    anyhow::ensure!(n <= LAYERS, "too few layers to need a remount");
    data += ",dio,xino=/dev/shm/aufs.xino,dirperm1";
    go_mount(&mnt, MountFlags::empty(), &data)?;
    let mut data = String::new();
    for n in n..=LAYERS {
        let item = format!("append:{}=ro+wh,", id(n).display());
        if data.len() + item.len() > 4000 {
            remount2(&mnt, MountFlags::empty(), &data)?;
            data.clear();
        }
        data += &item;
    }
    remount2(&mnt, MountFlags::empty(), &data)?;
    // As the runtime does: private, bound onto itself, then entered.
    rustix::mount::mount_change(&mnt, rustix::mount::MountPropagationFlags::PRIVATE)?;
    let line = mounts_line(&mnt)?;
    assert_eq!(line[2], "aufs");
    let shown: Vec<_> = line[3]
        .split(',')
        .filter(|o| !o.starts_with("si="))
        .collect();
    assert_eq!(shown, ["rw", "relatime", "dirperm1"]);
    // Each layer's whiteout hides the file of the next.
    assert_eq!(names(&mnt)?, set(["f1", "same"]));
    assert_eq!(text(mnt.join("same"))?, "1");
    sys::append(mnt.join("same"), "+")?;
    sys::unlink(mnt.join("f1"))?;
    sys::mkdir(mnt.join("op"))?;
    // The engine reads the branch while the union is mounted.
    let upper = names(id(0))?;
    let wanted = [
        ".wh..wh.aufs",
        ".wh..wh.orph",
        ".wh..wh.plnk",
        ".wh.f1",
        "op",
        "same",
    ];
    assert_eq!(upper, set(wanted));
    assert_eq!(text(id(0).join("same"))?, "1+");
    scratch::umount(&mnt)?;
    // Removal renames first.
    for dir in made {
        let removing = dir.with_extension("removing");
        sys::rename(&dir, &removing)?;
        std::fs::remove_dir_all(removing)?;
    }
    Ok(())
}

/// containers/storage puts the caller's `ro` into the string; original aufs refuses that.
fn docker_read_only_in_the_string(cx: &Ctx) -> Result<()> {
    let kind = Kind::Ext4;
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let lower = cx.branch(kind, "ro", &Tree::new().file("f", "f"))?;
    let mnt = cx.mount_point()?;
    let data = format!(
        "br:{}=rw:{}=ro+wh,dio,xino=/dev/shm/aufs.xino,ro,dirperm1",
        rw.display(),
        lower.display()
    );
    go_mount(&mnt, MountFlags::empty(), &data)?;
    assert_eq!(text(mnt.join("f"))?, "f");
    errno(sys::create(mnt.join("n")), Errno::ROFS);
    scratch::umount(&mnt)
}

fn containerd_views(cx: &Ctx) -> Result<()> {
    let kind = Kind::Ext4;
    let six = cx.branch(kind, "rw", &Tree::new())?;
    let five = cx.branch(
        kind,
        "ro",
        &Tree::new().file("etc/passwd", "p").whiteout("gone"),
    )?;
    let four = cx.branch(
        kind,
        "ro",
        &Tree::new().file("gone", "g").file("bin/sh", "s"),
    )?;
    let (mnt, other) = (cx.mount_point()?, cx.mount_point()?);
    // `br:` comes last.
    let data = format!(
        "dio,xino=/dev/shm/aufs.xino,dirperm1,br:{}=rw:{}=ro+wh:{}=ro+wh",
        six.display(),
        five.display(),
        four.display()
    );
    // Read-only first, to read user names, though its first branch is rw.
    go_mount(&mnt, MountFlags::RDONLY, &data)?;
    assert_eq!(text(mnt.join("etc/passwd"))?, "p");
    errno(sys::create(mnt.join("n")), Errno::ROFS);
    scratch::umount(&mnt)?;
    go_mount(&mnt, MountFlags::empty(), &data)?;
    sys::write(mnt.join("etc/passwd"), "changed")?;
    sys::unlink(mnt.join("bin/sh"))?;
    // A view has no writable branch; both are compared by walking.
    let data = format!(
        "dio,xino=/dev/shm/aufs.xino,dirperm1,br:{}=ro+wh:{}=ro+wh",
        five.display(),
        four.display()
    );
    go_mount(&other, MountFlags::empty(), &data)?;
    assert_eq!(names(&other)?, set(["etc", "bin"]));
    errno(sys::create(other.join("n")), Errno::ROFS);
    assert_eq!(text(other.join("etc/passwd"))?, "p");
    assert_eq!(text(mnt.join("etc/passwd"))?, "changed");
    assert_eq!(names(six.join("bin"))?, set([".wh.sh"]));
    scratch::umount(&other)?;
    scratch::umount(&mnt)
}

fn lxc(cx: &Ctx) -> Result<()> {
    let kind = Kind::Tmpfs;
    let upper = cx.branch(kind, "rw", &Tree::new())?;
    let lower = cx.branch(kind, "ro", &Tree::new().file("f", "f"))?;
    let mnt = cx.mount_point()?;
    let data = std::ffi::CString::new(format!(
        "br={}=rw:{}=ro,xino=/dev/shm/aufs.xino",
        upper.display(),
        lower.display()
    ))?;
    // MS_MGC_VAL, as old programs add it; the source is the lower directory.
    let flags = MountFlags::from_bits_retain(0xC0ED_0000);
    rustix::mount::mount(&lower, &mnt, "aufs", flags, data.as_c_str())?;
    assert_eq!(mounts_line(&mnt)?[0], lower.display().to_string());
    sys::append(mnt.join("f"), "+")?;
    assert_eq!(text(upper.join("f"))?, "f+");
    scratch::umount(&mnt)
}

/// Whiteouts of any mode and owner, as other programs unpack them.
fn oci_layers_of_others(cx: &Ctx) -> Result<()> {
    let kind = Kind::Ext4;
    let base = Tree::new()
        .files("n", 3)
        .file("d/x", "x")
        .file("keep/y", "y")
        .file("replaced/old", "old");
    let base = cx.branch(kind, "ro", &base)?;
    let layer = Tree::new()
        .file(".wh.n0", "")
        .mode(0o644)
        .file(".wh.n1", "")
        .mode(0)
        .owner(1000, 1000)
        .file(".wh.n2", "not empty")
        .file(".wh.d", "")
        .file("replaced/.wh..wh..opq", "")
        .mode(0o600)
        .file("replaced/new", "new")
        .file("keep/.wh.y", "")
        .file("keep/y", "beside its whiteout");
    let layer = cx.branch(kind, "ro", &layer)?;
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let u = cx
        .union()
        .at(&rw, "rw")
        .at(&layer, "ro+wh")
        .at(&base, "ro+wh")
        .fstype("aufs")
        .mount()?;
    assert_eq!(names(u.root())?, set(["keep", "replaced"]));
    assert_eq!(names(u.at("replaced"))?, set(["new"]));
    assert_eq!(text(u.at("keep/y"))?, "beside its whiteout");
    errno(sys::create(u.at(".wh.z")), Errno::PERM);
    u.umount()
}
