// SPDX-License-Identifier: GPL-2.0

//! Inode numbers where the branches have equal ones for different objects.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::harness::{
    handle::Handle,
    prelude::*,
    scratch::{self, Private},
};

cases! {
    ONCE: two_subvolumes, a_subvolume_in_a_branch, an_overlay_of_two_file_systems;
}

/// The numbers of all objects of the union, by path. No two objects have the same.
fn numbers(u: &Union) -> Result<BTreeMap<PathBuf, u64>> {
    fn walk(dir: &Path, all: &mut BTreeMap<PathBuf, u64>) -> Result<()> {
        for name in names(dir)? {
            let path = dir.join(name);
            let stat = sys::lstat(&path)?;
            if sys::kind(&stat) == FileType::Directory {
                walk(&path, all)?;
            }
            all.insert(path, stat.st_ino);
        }
        Ok(())
    }
    let mut all = BTreeMap::from([(u.root().to_owned(), sys::lstat(u.root())?.st_ino)]);
    walk(u.root(), &mut all)?;
    let mut paths: BTreeMap<u64, &Path> = BTreeMap::new();
    for (path, ino) in &all {
        let other = paths.insert(*ino, path);
        assert_eq!(other, None, "{path:?} has the same number, {ino}");
    }
    Ok(all)
}

/// Numbers are those of one object, and stay through eviction, copy-up and by handles.
fn behave(u: &Union, changed: &[&str]) -> Result<()> {
    let before = numbers(u)?;
    sys::drop_caches();
    assert_eq!(numbers(u)?, before);
    let root = sys::open(u.root(), OFlags::RDONLY)?;
    let handles: Vec<_> = before
        .keys()
        .map(|path| Ok((path, Handle::of(path)?)))
        .collect::<Result<_>>()?;
    let resolve = || -> Result<()> {
        for (path, handle) in &handles {
            let file = handle
                .open(&root, OFlags::PATH)
                .with_context(|| path.display().to_string())?;
            assert_eq!(sys::fstat(&file)?.st_ino, before[*path], "{path:?}");
        }
        Ok(())
    };
    sys::drop_caches();
    resolve()?;
    for name in changed {
        sys::chmod(u.at(name), 0o700)?;
    }
    assert_eq!(numbers(u)?, before);
    sys::drop_caches();
    assert_eq!(numbers(u)?, before);
    resolve()
}

fn btrfs(cx: &Ctx) -> Result<Private> {
    Private::disk(Kind::Btrfs, &cx.name(), 256 << 20)
}

fn two_subvolumes(cx: &Ctx) -> Result<()> {
    let disk = btrfs(cx)?;
    let tree = |name: &str| {
        Tree::new()
            .file("d/in", name)
            .file(&format!("{name}/f"), "")
    };
    for name in ["a", "b", "c"] {
        let path = disk.path().join(name);
        scratch::subvolume(&path)?;
        tree(name).build(&path)?;
    }
    let (a, b, c) = (
        disk.path().join("a"),
        disk.path().join("b"),
        disk.path().join("c"),
    );
    let same = |name: &str| -> Result<u64> {
        Ok(sys::lstat(disk.path().join(name).join(name).join("f"))?.st_ino)
    };
    assert_eq!(same("a")?, same("b")?, "or this tests nothing");
    let mut u = cx.union().at(&a, "rw").at(&b, "ro").at(&c, "ro").mount()?;
    behave(&u, &["b/f", "b", "c/f"])?;
    for entry in dir::list(u.at("b"))?.iter().filter(|e| e.name == "f") {
        assert_eq!(entry.ino, sys::lstat(u.at("b/f"))?.st_ino);
    }
    u.again()?;
    numbers(&u)?;
    u.umount()?;
    disk.umount()
}

fn a_subvolume_in_a_branch(cx: &Ctx) -> Result<()> {
    let disk = btrfs(cx)?;
    let low = disk.path().join("low");
    sys::mkdir(&low)?;
    for name in ["one", "two"] {
        scratch::subvolume(&low.join(name))?;
        Tree::new().files("f", 10).build(&low.join(name))?;
    }
    Tree::new().files("g", 10).build(&low)?;
    for merged in [false, true] {
        let mut u = cx.union().rw(Tree::new().file("top", ""));
        if merged {
            u = u.ro(Tree::new().file("one/h", ""));
        }
        let u = u.at(&low, "ro").mount()?;
        behave(&u, &["one/f3", "two/f3", "g3"])?;
        u.umount()?;
    }
    disk.umount()
}

fn an_overlay_of_two_file_systems(cx: &Ctx) -> Result<()> {
    let mut lower = Vec::new();
    for name in ["a", "b"] {
        let disk = Private::ext4(&cx.name(), 32 << 20, &["-J", "size=4"], "defaults")?;
        Tree::new().files(name, 10).build(disk.path())?;
        lower.push(disk);
    }
    let same = |n: usize, name: &str| -> Result<u64> {
        Ok(sys::lstat(lower[n].path().join(name))?.st_ino)
    };
    assert_eq!(same(0, "a3")?, same(1, "b3")?, "or this tests nothing");
    let mnt = cx.mount_point()?;
    let data = format!(
        "lowerdir={}:{}",
        lower[0].path().display(),
        lower[1].path().display()
    );
    scratch::mount("overlay", "overlay", &mnt, &data)?;
    let u = cx.union().rw(Tree::new()).at(&mnt, "ro").mount()?;
    let result = behave_in_part(&u);
    u.umount()?;
    scratch::umount(&mnt)?;
    for disk in lower {
        disk.umount()?;
    }
    result
}

/// An overlay like this one gives out no file handles, and its directories get other numbers when
/// they come into memory again.
fn behave_in_part(u: &Union) -> Result<()> {
    let numbers = || -> Result<BTreeMap<PathBuf, u64>> {
        let mut all = numbers(u)?;
        all.retain(|path, _| !path.is_dir());
        Ok(all)
    };
    let before = numbers()?;
    sys::chmod(u.at("a3"), 0o700)?;
    sys::drop_caches();
    assert_eq!(numbers()?, before);
    Ok(())
}
