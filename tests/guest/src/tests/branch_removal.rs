// SPDX-License-Identifier: GPL-2.0

//! Branches that go while the union is mounted, and what keeps them.

use std::path::Path;

use super::remount::{branches, opt, refused, remount, shown, two};
use crate::harness::{map::Map, prelude::*, scratch};

cases! {
    BASIC: removal_of_a_branch_in_use, removal_of_an_idle_branch, removal_beside_open_objects,
        a_listing_goes_on, a_directory_that_is_read_keeps_its_branch,
        unlinked_open_file_keeps_its_branch, pseudo_links_of_a_removed_branch,
        removed_and_added_in_one_call;
    ONCE: branch_mount_is_free_after_removal, names_in_use_hold_no_branch;
}

fn removal_of_a_branch_in_use(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("a", "a"))?;
    let tree = Tree::new()
        .file("f", "f")
        .file("only/x", "x")
        .symlink("l", "f")
        .fifo("p");
    let b = cx.branch(kind, "ro", &tree)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let delete = opt("del:", &b, "");
    let path_only = OFlags::PATH | OFlags::NOFOLLOW;
    for (name, flags) in [
        ("f", OFlags::RDONLY),
        ("f", path_only),
        ("l", path_only),
        ("p", OFlags::RDWR),
        ("only", OFlags::RDONLY | OFlags::DIRECTORY),
        ("only", path_only),
    ] {
        let held = sys::open(u.at(name), flags)?;
        let said = refused(remount(&u, &[&delete]), Errno::BUSY);
        assert!(
            said.contains(&format!("/{name} is in use")),
            "{name}: {said}"
        );
        assert!(said.contains(&*b.to_string_lossy()), "{said}");
        assert_eq!(names(u.root())?, set(["a", "f", "only", "l", "p"]));
        drop(held);
    }
    let held = sys::open_ro(u.at("f"))?;
    let map = Map::private(&held, 1)?;
    drop(held);
    refused(remount(&u, &[&delete]), Errno::BUSY);
    assert_eq!(map.bytes(), b"f");
    drop(map);
    remount(&u, &[&delete])?;
    assert_eq!(names(u.root())?, set(["a"]));
    for name in ["f", "l", "p", "only/x"] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    u.umount()
}

fn removal_of_an_idle_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/a", "a"))?;
    let tree = Tree::new()
        .files("d/n", 200)
        .files("m", 100)
        .file("d/e/f/g", "g");
    let b = cx.branch(kind, "ro", &tree)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    // All of it in the caches.
    for n in 0..200 {
        sys::lstat(u.at(&format!("d/n{n}")))?;
    }
    assert_eq!(names(u.at("d"))?.len(), 202);
    text(u.at("d/e/f/g"))?;
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(names(u.at("d"))?, set(["a"]));
    errno(sys::lstat(u.at("d/n0")), Errno::NOENT);
    errno(sys::lstat(u.at("d/e")), Errno::NOENT);
    u.umount()
}

fn removal_beside_open_objects(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/a", "a"))?;
    let b = cx.branch(kind, "ro", &Tree::new().file("d/b", "b"))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let file = sys::open_ro(u.at("d/a"))?;
    let writer = sys::open_mode(u.at("d/w"), OFlags::CREATE | OFlags::RDWR, 0o600)?;
    let root = dir::open_dir(u.root())?;
    let merged = dir::open_dir(u.at("d"))?;
    assert!(!dir::getdents(&merged, 4096)?.is_empty());
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(sys::read_fd(&file)?, b"a");
    sys::write_fd(&writer, b"w")?;
    assert_eq!(text(u.at("d/w"))?, "w");
    assert_eq!(
        dir::unique(&dir::rest(&root, 4096)?, u.root()),
        set([".", "..", "d"])
    );
    drop((file, writer, root, merged));
    u.umount()
}

fn a_listing_goes_on(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new().dir("d"), Tree::new().files("d/a", 100))?;
    let b = cx.branch(kind, "ro", &Tree::new().files("d/b", 100))?;
    let dir = dir::open_dir(u.at("d"))?;
    let mut seen = dir::getdents(&dir, 512)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    seen.extend(dir::rest(&dir, 512)?);
    assert_eq!(
        dir::unique(&seen, Path::new("d")).len(),
        102,
        "what it began with"
    );
    assert_eq!(names(u.at("d"))?.len(), 200);
    sys::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
    assert_eq!(dir::rest(&dir, 512)?.len(), 202);
    drop(dir);
    u.umount()
}

fn a_directory_that_is_read_keeps_its_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let b = cx.branch(kind, "ro", &Tree::new().files("d/b", 100))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let dir = dir::open_dir(u.at("d"))?;
    let mut seen = dir::getdents(&dir, 512)?;
    // From here on the directory is on both branches, but its reader goes on with one.
    sys::create(u.at("d/new"))?;
    let said = refused(remount(&u, &[&opt("del:", &b, "")]), Errno::BUSY);
    assert!(said.contains("/d is open for reading"), "{said}");
    seen.extend(dir::rest(&dir, 512)?);
    assert!(seen.len() >= 100);
    drop(dir);
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(names(u.at("d"))?, set(["new"]));
    u.umount()
}

fn unlinked_open_file_keeps_its_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let b = cx.branch(kind, "ro", &Tree::new().file("f", "f"))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let open = sys::open_ro(u.at("f"))?;
    sys::unlink(u.at("f"))?;
    let said = refused(remount(&u, &[&opt("del:", &b, "")]), Errno::BUSY);
    assert!(said.contains("is in use"), "{said}");
    assert_eq!(sys::read_fd(&open)?, b"f");
    drop(open);
    remount(&u, &[&opt("del:", &b, "")])?;
    u.umount()
}

fn pseudo_links_of_a_removed_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let tree = Tree::new()
        .file("a", "a")
        .hardlink("b", "a")
        .hardlink("c", "a");
    let b = cx.branch(kind, "ro", &tree)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    sys::append(u.at("a"), "+")?;
    sys::unlink(u.at("c"))?;
    assert_eq!(text(u.at("b"))?, "a+");
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 2);
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(text(u.at("a"))?, "a+");
    assert_eq!(names(u.root())?, set(["a"]));
    sys::unlink(u.at("a"))?;
    u.umount()
}

fn removed_and_added_in_one_call(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(
        cx,
        Tree::new(),
        Tree::new().file("f", "first").file("a", "a"),
    )?;
    let b = cx.branch(kind, "ro", &Tree::new().file("f", "second").file("b", "b"))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    assert_eq!(text(u.at("f"))?, "first");
    let open = sys::open_ro(u.at("b"))?;
    remount(&u, &[&opt("del:", &b, ""), &opt("add:1:", &b, "")])?;
    assert_eq!(text(u.at("f"))?, "second");
    assert_eq!(
        branches(&u)?[1..],
        [shown(&b, "ro"), shown(&u.br(1, ""), "ro")]
    );
    assert_eq!(sys::read_fd(&open)?, b"b");
    drop(open);
    u.umount()
}

/// A name that nobody finds any more, but somebody has open, does not keep what was looked at on the
/// branch above: its file system can be unmounted.
fn names_in_use_hold_no_branch(cx: &Ctx) -> Result<()> {
    let tree = || Tree::new().file("f", "f").file("d/x", "x");
    // A file that was removed, one that was replaced on its branch, one in a directory that a
    // branch hides.
    for case in ["removed", "replaced", "hidden"] {
        let first = scratch::Private::tmpfs(&cx.name(), "")?;
        let u = cx.union().at(first.path(), "rw").ro(tree()).mount()?;
        let open = [sys::open_ro(u.at("f"))?, sys::open_ro(u.at("d/x"))?];
        let new = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
        match case {
            "removed" => {
                sys::unlink(u.at("f"))?;
                sys::unlink(u.at("d/x"))?;
            }
            "replaced" => {
                for name in ["f", "d/x"] {
                    let name = u.br(1, name);
                    sys::rename(&name, name.with_extension("old"))?;
                    sys::write(&name, "new")?;
                }
                cx.changed_by_hand(&u.br(1, ""))?;
                assert_eq!(
                    (text(u.at("f"))?, text(u.at("d/x"))?),
                    ("new".into(), "new".into())
                );
            }
            _ => {
                sys::write(new.join(".wh.f"), "")?;
                sys::write(new.join(".wh.d"), "")?;
            }
        }
        remount(&u, &[&opt("prepend:", &new, "=rw")])?;
        remount(&u, &[&opt("mod:", first.path(), "=ro")])?;
        remount(&u, &[&opt("del:", first.path(), "")])?;
        first.umount().with_context(|| case.to_owned())?;
        assert_eq!(
            (sys::read_fd(&open[0])?, sys::read_fd(&open[1])?),
            (b"f".into(), b"x".into())
        );
        drop(open);
        u.umount()?;
    }
    Ok(())
}

fn branch_mount_is_free_after_removal(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Squashfs] {
        let b = match kind {
            Kind::Squashfs => {
                let staging = cx.dir(Kind::Tmpfs)?;
                Tree::new().file("d/x", "x").build(&staging)?;
                let image = scratch::pack(kind, &staging, &cx.name())?;
                let mnt = cx.mount_point()?;
                scratch::mount_image(kind, &image, &mnt)?;
                mnt
            }
            _ => {
                let mnt = cx.mount_point()?;
                scratch::mount("none", "tmpfs", &mnt, "")?;
                Tree::new().file("d/x", "x").build(&mnt)?;
                mnt
            }
        };
        remount(&u, &[&opt("add:1:", &b, "=rr+wh")])?;
        assert_eq!(text(u.at("d/x"))?, "x");
        assert_eq!(names(u.at("d"))?, set(["x"]));
        let open = sys::open_ro(u.at("d/x"))?;
        refused(remount(&u, &["verbose", &opt("del:", &b, "")]), Errno::BUSY);
        drop(open);
        remount(&u, &["verbose", &opt("del:", &b, "")])?;
        scratch::umount(&b)?;
    }
    u.umount()
}
