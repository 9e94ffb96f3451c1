// SPDX-License-Identifier: GPL-2.0

//! A union exported by NFS version 4: what a client holds stays what it is, also when the server
//! forgets all it has cached.

use std::path::PathBuf;

use crate::harness::{
    nfs::{Nfs, Subtree},
    prelude::*,
};

cases! {
    BASIC: copy_up_below_a_client, changed_names, with_subtree_check;
    ONCE: over_squashfs, permission, branches_below, removal_on_a_branch,
        removal_of_what_is_open_on_a_branch, an_acl_becomes_a_mode;
}

/// Makes the server forget; the client has what it holds open.
fn forget() {
    sys::drop_caches();
}

fn copy_up_below_a_client(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "low")
        .file("d/g", "other")
        .file("h", "h");
    let u = cx.union().rw(Tree::new().dir("other")).ro(low).mount()?;
    let nfs = Nfs::new(cx, u.root(), Subtree::Unchecked)?;
    check(&u, &|rel| nfs.at(rel))
}

fn check(u: &Union, at: &dyn Fn(&str) -> PathBuf) -> Result<()> {
    // A reader from before the copy-up.
    let reader = sys::open_ro(at("d/f"))?;
    let ino = sys::fstat(&reader)?.st_ino;
    assert_eq!(sys::pread_fd(&reader)?, b"low");
    forget();
    // By the client.
    let writer = sys::open_rw(at("d/f"))?;
    sys::write_fd(&writer, b"by the client")?;
    sys::on_fd("fsync", rustix::fs::fsync(&writer))?;
    assert_eq!(text(u.at("d/f"))?, "by the client");
    assert!(exists(u.br(0, "d/f")), "it was copied up under its name");
    assert_eq!(sys::pread_fd(&reader)?, b"by the client");
    forget();
    sys::seek(&writer, sys::SeekFrom::Start(0))?;
    sys::write_fd(&writer, b"BY")?;
    sys::on_fd("fsync", rustix::fs::fsync(&writer))?;
    assert_eq!(text(u.at("d/f"))?, "BY the client");
    assert_eq!(sys::fstat(&writer)?.st_ino, ino);
    assert_eq!(sys::lstat(at("d/f"))?.st_ino, ino);
    // By the server, below a client that holds it.
    let other = sys::open_ro(at("d/g"))?;
    sys::append(u.at("d/g"), " and more")?;
    sys::rename(u.at("d/g"), u.at("other/moved"))?;
    forget();
    assert_eq!(sys::pread_fd(&other)?, b"other and more");
    assert_eq!(text(at("other/moved"))?, "other and more");
    // A change of attributes by a handle alone.
    let plain = sys::open_ro(at("h"))?;
    forget();
    sys::on_fd(
        "fchmod",
        rustix::fs::fchmod(&plain, Mode::from_raw_mode(0o600)),
    )?;
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "h"))?), 0o600);
    Ok(())
}

fn names_of(u: &Union, at: &dyn Fn(&str) -> PathBuf) -> Result<()> {
    let dir = dir::open_dir(at("d"))?;
    forget();
    sys::mkdir(at("d/new"))?;
    sys::write(at("d/new/f"), "text")?;
    sys::symlink("f", at("d/new/link"))?;
    sys::link(at("d/new/f"), at("d/hard"))?;
    forget();
    sys::rename(at("d/new/f"), at("d/renamed"))?;
    sys::unlink(at("d/low"))?;
    forget();
    assert_eq!(names(at("d"))?, set(["new", "hard", "renamed", "many"]));
    assert_eq!(names(at("d"))?, names(u.at("d"))?);
    assert_eq!(names(at("d/many"))?.len(), 300);
    for i in 0..300 {
        sys::unlink(at(&format!("d/many/f{i}")))?;
    }
    forget();
    sys::rmdir(at("d/many"))?;
    assert!(!exists(u.at("d/many")));
    assert_eq!(sys::lstat(at("d/hard"))?.st_nlink, 2);
    assert_eq!(sys::fstat(&dir)?.st_ino, sys::lstat(u.at("d"))?.st_ino);
    Ok(())
}

fn changed_names(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/low", "").files("d/many/f", 300);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let nfs = Nfs::new(cx, u.root(), Subtree::Unchecked)?;
    names_of(&u, &|rel| nfs.at(rel))
}

fn with_subtree_check(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/low", "").files("d/many/f", 300);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let nfs = Nfs::new(cx, u.root(), Subtree::Checked)?;
    names_of(&u, &|rel| nfs.at(rel))
}

fn over_squashfs(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "low")
        .file("d/g", "other")
        .file("h", "h");
    let u = cx
        .union()
        .on(Kind::Ext4, "rw", Tree::new().dir("other"))
        .on(Kind::Squashfs, "rr", low)
        .mount()?;
    let nfs = Nfs::new(cx, u.root(), Subtree::Unchecked)?;
    check(&u, &|rel| nfs.at(rel))
}

fn permission(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("mine", "")
        .owner(1001, 1001)
        .mode(0o600)
        .file("closed", "")
        .mode(0o600)
        .dir("shut")
        .mode(0o700)
        .file("shut/f", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let nfs = Nfs::new(cx, u.root(), Subtree::Unchecked)?;
    users::as_user(1001, 1001, || -> Result<()> {
        sys::append(nfs.at("mine"), "x")?;
        errno(sys::append(nfs.at("closed"), "x"), Errno::ACCESS);
        errno(sys::lstat(nfs.at("shut/f")).map(drop), Errno::ACCESS);
        errno(sys::write(nfs.at("new"), ""), Errno::ACCESS);
        Ok(())
    })?;
    assert_eq!(text(u.at("mine"))?, "x");
    Ok(())
}

/// Two directories of one server as branches, and the server.
struct Below {
    nfs: Nfs,
    home: PathBuf,
}

impl Below {
    fn new(cx: &Ctx, low: &Tree) -> Result<Self> {
        let home = cx.dir(Kind::Ext4)?;
        for dir in ["up", "low"] {
            sys::mkdir(home.join(dir))?;
        }
        low.build(&home.join("low"))?;
        // An export is a mount, whose root the server names.
        let exported = cx.mount_point()?;
        rustix::mount::mount_bind(&home, &exported)?;
        let nfs = Nfs::new(cx, &exported, Subtree::Unchecked)?;
        Ok(Self { nfs, home })
    }

    /// What the server's branch `rel` holds, but for what the union keeps there.
    fn holds(&self, rel: &str) -> Result<std::collections::BTreeSet<String>> {
        let mut all = names(self.home.join(rel))?;
        all.retain(|name| !name.starts_with(".wh..wh."));
        Ok(all)
    }

    fn end(self) -> Result<()> {
        let exported = self.nfs.exported().to_owned();
        drop(self.nfs);
        crate::harness::scratch::umount(&exported)
    }
}

/// NFS version 4 shows an ACL of its own kind on everything.
fn branches_below(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "low")
        .file("g", "low")
        .mode(0o640)
        .hardlink("h", "g")
        .symlink("l", "g");
    let below = Below::new(cx, &low)?;
    let local = cx.dir(Kind::Ext4)?;
    let u = cx
        .union()
        .at(&local, "rw")
        .at(&below.nfs.at("low"), "ro")
        .mount()?;
    sys::append(u.at("g"), "+")?;
    sys::chmod(u.at("d/f"), 0o600)?;
    sys::write(u.at("d/new"), "")?;
    sys::chown(u.at("l"), Some(1001), None)?;
    assert_eq!(text(u.at("h"))?, "low+");
    assert_eq!(sys::mode(&sys::lstat(u.at("g"))?), 0o640);
    let said = cx.klog();
    let told: Vec<_> = said
        .iter()
        .filter(|line| line.contains("cannot hold"))
        .collect();
    assert_eq!(told.len(), 1, "{said:?}");
    assert!(told[0].contains("system.nfs4_acl"), "{told:?}");
    u.umount()?;
    // Both on the server, which can hold them.
    let u = cx
        .union()
        .at(&below.nfs.at("up"), "rw")
        .at(&below.nfs.at("low"), "ro")
        .mount()?;
    sys::append(u.at("g"), "+")?;
    sys::chmod(u.at("d/f"), 0o600)?;
    sys::write(u.at("d/new"), "")?;
    sys::rename(u.at("d/new"), u.at("new"))?;
    assert_eq!(text(u.at("g"))?, "low+");
    u.umount()?;
    below.end()
}

/// What nobody has open goes at once, although the union knows it.
fn removal_on_a_branch(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/f", "low").file("d/g", "low");
    let below = Below::new(cx, &low)?;
    let local = cx.dir(Kind::Ext4)?;
    low.build(&local)?;
    let u = cx
        .union()
        .at(&below.nfs.at("up"), "rw")
        .at(&local, "ro")
        .mount()?;
    sys::write(u.at("a"), "a")?;
    assert_eq!(text(u.at("a"))?, "a");
    sys::unlink(u.at("a"))?;
    sys::append(u.at("d/f"), "+")?;
    sys::unlink(u.at("d/f"))?;
    sys::unlink(u.at("d/g"))?;
    assert_eq!(names(u.at("d"))?, set([]));
    assert_eq!(below.holds("up/d")?, set([".wh.f", ".wh.g"]));
    sys::rmdir(u.at("d"))?;
    sys::mkdir(u.at("d"))?;
    assert_eq!(names(u.at("d"))?, set([]));
    // Replaced, and one of several names.
    sys::write(u.at("b"), "b")?;
    sys::write(u.at("c"), "c")?;
    sys::rename(u.at("b"), u.at("c"))?;
    assert_eq!(text(u.at("c"))?, "b");
    sys::link(u.at("c"), u.at("d/c"))?;
    sys::unlink(u.at("c"))?;
    assert_eq!(text(u.at("d/c"))?, "b");
    sys::unlink(u.at("d/c"))?;
    sys::symlink("x", u.at("l"))?;
    sys::unlink(u.at("l"))?;
    sys::rmdir(u.at("d"))?;
    assert_eq!(names(u.root())?, set([]));
    assert_eq!(below.holds("up")?, set([".wh.d"]));
    u.umount()?;
    below.end()
}

/// As on NFS without a union: there is a hidden name as long as the file is open.
fn removal_of_what_is_open_on_a_branch(cx: &Ctx) -> Result<()> {
    let low = Tree::new();
    let below = Below::new(cx, &low)?;
    let u = cx
        .union()
        .at(&below.nfs.at("up"), "rw")
        .at(&below.nfs.at("low"), "ro")
        .mount()?;
    sys::mkdir(u.at("d"))?;
    for how in ["removed", "replaced"] {
        sys::write(u.at("d/f"), "text")?;
        let open = sys::open_rw(u.at("d/f"))?;
        if how == "removed" {
            sys::unlink(u.at("d/f"))?;
        } else {
            sys::write(u.at("d/g"), "")?;
            sys::rename(u.at("d/g"), u.at("d/f"))?;
            sys::unlink(u.at("d/f"))?;
        }
        assert_eq!(sys::fstat(&open)?.st_nlink, 0);
        forget();
        assert_eq!(sys::pread_fd(&open)?, b"text", "{how}");
        sys::pwrite_fd(&open, b"TEXT", 0)?;
        // Also when somebody has looked at it.
        for name in names(u.at("d"))? {
            sys::lstat(u.at("d").join(name))?;
        }
        drop(open);
        let start = std::time::Instant::now();
        while !names(u.at("d"))?.is_empty() {
            anyhow::ensure!(
                start.elapsed().as_secs() < 60,
                "{how}: {:?}",
                names(u.at("d"))?
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    sys::rmdir(u.at("d"))?;
    assert_eq!(below.holds("up")?, set([]));
    u.umount()?;
    below.end()
}

/// Nobody may do more with the copy.
fn an_acl_becomes_a_mode(cx: &Ctx) -> Result<()> {
    use crate::harness::acl::acl;
    const NONE: u32 = u32::MAX;
    let grant = [
        (1, 6, NONE),
        (2, 6, 1001),
        (4, 4, NONE),
        (0x10, 6, NONE),
        (0x20, 0, NONE),
    ];
    let deny = [
        (1, 6, NONE),
        (2, 0, 1001),
        (4, 4, NONE),
        (0x10, 4, NONE),
        (0x20, 4, NONE),
    ];
    let group = [
        (1, 6, NONE),
        (4, 6, NONE),
        (8, 4, 2000),
        (0x10, 6, NONE),
        (0x20, 6, NONE),
    ];
    let low = Tree::new()
        .file("grant", "")
        .xattr("system.posix_acl_access", acl(&grant))
        .file("deny", "")
        .xattr("system.posix_acl_access", acl(&deny))
        .file("group", "")
        .xattr("system.posix_acl_access", acl(&group));
    let below = Below::new(cx, &Tree::new())?;
    let local = cx.dir(Kind::Ext4)?;
    low.build(&local)?;
    let u = cx
        .union()
        .at(&below.nfs.at("up"), "rw")
        .at(&local, "ro")
        .opt("acl")
        .mount()?;
    for (name, mode) in [("grant", 0o640), ("deny", 0o600), ("group", 0o664)] {
        sys::append(u.at(name), "+")?;
        for at in [u.at(name), below.home.join("up").join(name)] {
            assert_eq!(sys::mode(&sys::lstat(&at)?), mode, "{}", at.display());
        }
    }
    u.umount()?;
    below.end()
}
