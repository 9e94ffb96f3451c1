// SPDX-License-Identifier: GPL-2.0

//! Inode numbers: those of the bottom branch's file system are shown as they are, all others fit
//! into 32 bits, and objects that have equal ones on their branches have different ones.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::harness::{
    handle::Handle,
    prelude::*,
    scratch::{self, Private},
    union::reconfigure,
};

cases! {
    ALL: as_on_the_bottom;
    BASIC: as_on_the_branch, after_a_remount;
    ONCE: two_subvolumes, a_subvolume_in_a_branch, an_overlay_of_two_file_systems,
        many_file_systems, large_numbers, a_window_in_use;
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

/// Asserts that no number in the union needs more than 32 bits, in listings either.
fn fit(u: &Union) -> Result<()> {
    for (path, ino) in numbers(u)? {
        assert!(ino <= u64::from(u32::MAX), "{path:?}: {ino:#x}");
        if path.is_dir() {
            for entry in dir::list(&path)? {
                assert!(entry.ino <= u64::from(u32::MAX), "{path:?}: {entry:?}");
            }
        }
    }
    Ok(())
}

/// Asserts that what `names` lead to in the union has the numbers that it has below `at`.
fn as_at(u: &Union, at: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let (bare, shown) = (sys::lstat(at.join(name))?, sys::lstat(u.at(name))?);
        // The root of the union is 2.
        if bare.st_ino > 2 {
            assert_eq!(shown.st_ino, bare.st_ino, "{name}");
        }
    }
    Ok(())
}

fn tree() -> Tree {
    Tree::new()
        .files("f", 20)
        .file("d/in", "x")
        .file("d/e/deep", "y")
        .symlink("s", "f1")
}

/// git(1) and others remember numbers from outside the union.
fn as_on_the_bottom(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("own", ""))
        .ro(tree())
        .mount()?;
    let names = ["f1", "f19", "d", "d/in", "d/e", "d/e/deep", "s"];
    as_at(&u, &u.br(1, ""), &names)?;
    fit(&u)?;
    let before = numbers(&u)?;
    sys::drop_caches();
    u.again()?;
    as_at(&u, &u.br(1, ""), &names)?;
    assert_eq!(numbers(&u)?, before);
    // A copy keeps the number as long as it is mounted.
    sys::chmod(u.at("d/in"), 0o600)?;
    sys::write(u.at("f1"), "new")?;
    sys::write(u.at("d/made"), "new")?;
    sys::drop_caches();
    as_at(&u, &u.br(1, ""), &names)?;
    fit(&u)
}

/// With one file system nothing is ambiguous.
fn as_on_the_branch(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("own", 20).file("d/up", ""))
        .ro(tree())
        .mount()?;
    as_at(&u, &u.br(0, ""), &["own1", "d", "d/up"])?;
    as_at(&u, &u.br(1, ""), &["f1", "d/in", "d/e"])?;
    sys::write(u.at("d/e/made"), "new")?;
    as_at(&u, &u.br(0, ""), &["d/e/made"])?;
    for entry in dir::list(u.at("d"))? {
        let path = u.at("d").join(&entry.name);
        assert_eq!(entry.ino, sys::lstat(path)?.st_ino, "{entry:?}");
    }
    Ok(())
}

fn after_a_remount(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new().files("own", 5)).mount()?;
    let before = numbers(&u)?;
    let (mut added, mut known) = (Vec::new(), before);
    for (n, kind) in [
        Kind::Squashfs,
        Kind::Xfs,
        Kind::Tmpfs,
        Kind::Ext4,
        Kind::Squashfs,
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{n}");
        let path = cx.branch(kind, "ro", &Tree::new().file(&format!("{name}/in"), ""))?;
        reconfigure(u.root(), &[&format!("append={}=ro", path.display())])?;
        added.push(path);
        fit(&u)?;
        let now = numbers(&u)?;
        for (path, ino) in &known {
            assert_eq!(now.get(path), Some(ino), "{path:?}");
        }
        known = now;
    }
    sys::chmod(u.at("n0/in"), 0o600)?;
    reconfigure(u.root(), &[&format!("del={}", added[1].display())])?;
    sys::drop_caches();
    let now = numbers(&u)?;
    assert!(now.keys().all(|path| known[path] == now[path]));
    assert_eq!(now.len() + 2, known.len());
    // A file system that comes again is another one.
    reconfigure(u.root(), &[&format!("append={}=ro", added[1].display())])?;
    fit(&u)
}

fn many_file_systems(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new().file("own", ""));
    for (n, kind) in [
        Kind::Btrfs,
        Kind::Squashfs,
        Kind::Ext4,
        Kind::Xfs,
        Kind::Iso9660,
        Kind::Squashfs,
        Kind::Nested,
        Kind::Squashfs,
    ]
    .into_iter()
    .enumerate()
    {
        u = u.on(kind, "ro", Tree::new().file(&format!("d/n{n}"), "x"));
    }
    let u = u.mount()?;
    fit(&u)?;
    let before = numbers(&u)?;
    assert_eq!(before.len(), 11);
    for n in 0..8 {
        sys::chmod(u.at(&format!("d/n{n}")), 0o600)?;
    }
    sys::drop_caches();
    assert_eq!(numbers(&u)?, before);
    fit(&u)
}

/// An XFS so large that it has inode numbers of 2^31 and more, and the names of files that have
/// them.
fn large(cx: &Ctx) -> Result<(Private, Vec<String>)> {
    let path = scratch::base()
        .join("images")
        .join(format!("{}.img", cx.name()));
    std::fs::File::create(&path)?.set_len(7 << 39)?;
    let file = path.to_string_lossy();
    scratch::run(
        "mkfs.xfs",
        &[
            "-q",
            "-f",
            "-K",
            "-d",
            "agcount=4",
            "-l",
            "size=64m,lazy-count=1",
            &file,
        ],
    )?;
    let disk = Private::of_image(Kind::Xfs, path)?;
    let mut names = Vec::new();
    for n in 0..8 {
        // Each directory in another group.
        let name = format!("d{n}/f");
        Tree::new().file(&name, "").build(disk.path())?;
        if sys::lstat(disk.path().join(&name))?.st_ino >> 31 == 1 {
            names.push(name);
        }
    }
    assert!(!names.is_empty(), "or this tests nothing");
    Ok((disk, names))
}

/// Where others have their windows nothing is lost but the upper half.
fn large_numbers(cx: &Ctx) -> Result<()> {
    let (disk, names) = large(cx)?;
    let alone = cx.union().at(disk.path(), "ro").mount()?;
    let refs: Vec<_> = names.iter().map(String::as_str).collect();
    as_at(&alone, disk.path(), &refs)?;
    alone.umount()?;
    let mut all = cx.union().rw(Tree::new());
    for n in 0..6 {
        all = all.on(Kind::Squashfs, "ro", Tree::new().file(&format!("s{n}"), ""));
    }
    let u = all.at(disk.path(), "ro").mount()?;
    for name in &names {
        let (bare, shown) = (sys::lstat(disk.path().join(name))?, sys::lstat(u.at(name))?);
        assert_eq!(shown.st_ino as u32, bare.st_ino as u32, "{name}");
    }
    behave(&u, &[&names[0], "s1"])?;
    for n in 0..6 {
        assert!(sys::lstat(u.at(&format!("s{n}")))?.st_ino <= u64::from(u32::MAX));
    }
    u.umount()?;
    disk.umount()
}

/// A window in which numbers were shown is not given away.
fn a_window_in_use(cx: &Ctx) -> Result<()> {
    let (disk, names) = large(cx)?;
    let u = cx.union().at(disk.path(), "rw").mount()?;
    let before = numbers(&u)?;
    let mut count = before.len();
    for n in 0..3 {
        let added = cx.branch(
            Kind::Squashfs,
            "ro",
            &Tree::new().files(&format!("s{n}"), 5),
        )?;
        reconfigure(u.root(), &[&format!("append={}=ro", added.display())])?;
        count += 5;
        let now = numbers(&u)?;
        assert_eq!(now.len(), count);
        assert!(before.iter().all(|(path, ino)| now[path] == *ino));
        assert!(now[&u.at(&format!("s{n}1"))] <= u64::from(u32::MAX));
    }
    let refs: Vec<_> = names.iter().map(String::as_str).collect();
    as_at(&u, disk.path(), &refs)?;
    u.umount()?;
    disk.umount()
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
