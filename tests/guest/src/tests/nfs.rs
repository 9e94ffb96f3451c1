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
    ONCE: over_squashfs, permission;
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
