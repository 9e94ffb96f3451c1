// SPDX-License-Identifier: GPL-2.0

//! Branches whose permissions and attributes change while the union is mounted and in use.

use rustix::mount::MountFlags;

use super::remount::{opt, refused, remount, two, BASES};
use crate::harness::{map::Map, prelude::*, scratch, union::remount2};

cases! {
    BASIC: becomes_read_only, becomes_read_only_under_a_writer, mapped_for_writing, becomes_writable,
        whiteouts_begin_to_count, nolwh_and_back, nolwh_of_a_refused_remount;
    ONCE: read_only_file_system_becomes_rw;
}

fn becomes_read_only(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f").file("g", "g"))?;
    sys::append(u.at("f"), "+")?;
    sys::unlink(u.at("g"))?;
    let open = sys::open_rw(u.at("f"))?;
    let me = u.br(0, "");
    remount(&u, &[&opt("mod:", &me, "=ro+wh")])?;
    for base in BASES {
        assert!(!sys::exists(me.join(base)), "{base} should be gone");
    }
    assert_eq!(names(u.root())?, set(["f"]));
    errno(sys::create(u.at("n")), Errno::ROFS);
    errno(sys::open_rw(u.at("f")), Errno::ROFS);
    errno(sys::write_fd(&open, b"no"), Errno::ROFS);
    assert_eq!(sys::pread_fd(&open)?, b"f+");
    remount(&u, &[&opt("mod:", &me, "=rw")])?;
    for base in BASES {
        assert!(sys::exists(me.join(base)), "{base} should be back");
    }
    sys::write_fd(&open, b"y")?;
    assert_eq!(text(u.at("f"))?, "y+");
    drop(open);
    u.umount()
}

fn becomes_read_only_under_a_writer(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/f", "f"))?;
    let writer = sys::open_mode(u.at("d/w"), OFlags::CREATE | OFlags::RDWR, 0o644)?;
    sys::write_fd(&writer, b"one ")?;
    let reader = sys::open_ro(u.at("d/w"))?;
    let unnamed = sys::open_mode(u.at("d"), OFlags::TMPFILE | OFlags::RDWR, 0o600)?;
    sys::write_fd(&unnamed, b"un")?;
    let new = cx.branch(kind, "rw", &Tree::new())?;
    let options = [
        opt("prepend:", &new, "=rw"),
        opt("mod:", &u.br(0, ""), "=ro"),
    ];
    remount(&u, &[&options[0], &options[1]])?;
    sys::write_fd(&writer, b"two")?;
    sys::write_fd(&unnamed, b"named")?;
    assert_eq!(
        text(u.br(0, "d/w"))?,
        "one ",
        "the old branch is not written"
    );
    assert_eq!(text(new.join("d/w"))?, "one two");
    assert_eq!(sys::read_fd(&reader)?, b"one two");
    assert_eq!(sys::pread_fd(&unnamed)?, b"unnamed");
    // What was opened on the old branch is still open there.
    let said = refused(remount(&u, &[&opt("del:", &u.br(0, ""), "")]), Errno::BUSY);
    assert!(said.contains("is in use"), "{said}");
    drop((writer, reader, unnamed));
    remount(&u, &[&opt("del:", &u.br(0, ""), "")])?;
    assert_eq!(text(u.at("d/w"))?, "one two");
    u.umount()
}

fn mapped_for_writing(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    let open = sys::open_rw(u.at("f"))?;
    let mut map = Map::shared(&open, 1)?;
    drop(open);
    let said = refused(
        remount(&u, &[&opt("mod:", &u.br(0, ""), "=ro")]),
        Errno::BUSY,
    );
    assert!(said.contains("/f is mapped for writing"), "{said}");
    for base in BASES {
        assert!(sys::exists(u.br(0, base)), "{base}");
    }
    map.bytes_mut()[0] = b'g';
    drop(map);
    assert_eq!(text(u.at("f"))?, "g");
    remount(&u, &[&opt("mod:", &u.br(0, ""), "=ro")])?;
    u.umount()
}

fn becomes_writable(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let b = cx.branch(kind, "rw", &Tree::new().file("d/f", "f"))?;
    let u = cx.union().at(&b, "ro").mount()?;
    errno(sys::create(u.at("n")), Errno::ROFS);
    let open = sys::open_ro(u.at("d/f"))?;
    let number = sys::fstat(&open)?.st_ino;
    remount(&u, &[&opt("mod:", &b, "=rw")])?;
    sys::append(u.at("d/f"), "+")?;
    sys::create(u.at("n"))?;
    assert_eq!(text(b.join("d/f"))?, "f+");
    assert_eq!(sys::read_fd(&open)?, b"f+");
    assert_eq!(sys::lstat(u.at("d/f"))?.st_ino, number);
    drop(open);
    u.umount()
}

fn whiteouts_begin_to_count(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("f", "f").file("d/x", "x"))?;
    let b = cx.branch(kind, "ro", &Tree::new().whiteout("f").opaque("d"))?;
    remount(&u, &[&opt("add:1:", &b, "=ro")])?;
    let dir = dir::open_dir(u.at("d"))?;
    assert_eq!(text(u.at("f"))?, "f");
    remount(&u, &[&opt("mod:", &b, "=ro+wh")])?;
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    errno(sys::lstat(u.at("d/x")), Errno::NOENT);
    remount(&u, &[&opt("mod=", &b, "=rr")])?;
    assert_eq!(text(u.at("d/x"))?, "x");
    let found = rustix::fs::openat(&dir, "x", OFlags::RDONLY, Mode::empty());
    sys::on_fd("openat", found)?;
    drop(dir);
    u.umount()
}

fn nolwh_and_back(cx: &Ctx) -> Result<()> {
    let tree = Tree::new().file("a", "a").file("b", "b").file("c", "c");
    let u = two(cx, Tree::new(), tree)?;
    let links = |name: &str| -> Result<u64> { Ok(sys::lstat(u.br(0, name))?.st_nlink as u64) };
    sys::unlink(u.at("a"))?;
    assert!(links(".wh.a")? > 1);
    remount(&u, &[&opt("mod:", &u.br(0, ""), "=rw+nolwh")])?;
    assert!(!sys::exists(u.br(0, BASES[0])));
    sys::unlink(u.at("b"))?;
    assert_eq!(links(".wh.b")?, 1);
    remount(&u, &[&opt("mod:", &u.br(0, ""), "=rw")])?;
    sys::unlink(u.at("c"))?;
    assert!(links(".wh.c")? > 1);
    assert_eq!(names(u.root())?, set([]));
    u.umount()
}

/// The base of whiteouts is there, or not, as before. What comes last in one remount counts.
fn nolwh_of_a_refused_remount(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("a", "a"))?;
    let rw = u.br(0, "");
    let base = rw.join(BASES[0]);
    let ways = [opt("mod:", &rw, "=rw+nolwh"), opt("mod:", &rw, "=rw")];
    let [nolwh, plain] = ways.each_ref().map(String::as_str);
    for (way, back, linked) in [(nolwh, plain, true), (plain, nolwh, false)] {
        assert_eq!(sys::exists(&base), linked);
        remount(&u, &[way, "append:/proc=ro"]).expect_err("procfs as a branch");
        assert_eq!(sys::exists(&base), linked, "{way}: refused");
        remount(&u, &[way, back])?;
        assert_eq!(sys::exists(&base), linked, "{way}, {back}");
        remount(&u, &[way, back, way])?;
        assert_eq!(sys::exists(&base), !linked, "{way}");
    }
    sys::unlink(u.at("a"))?;
    assert!(sys::lstat(u.br(0, ".wh.a"))?.st_nlink as u64 > 1);
    u.umount()
}

fn read_only_file_system_becomes_rw(cx: &Ctx) -> Result<()> {
    let fs = scratch::Private::tmpfs(&cx.name(), "")?;
    let dir = fs.path().join("b");
    sys::mkdir(&dir)?;
    remount2(fs.path(), MountFlags::RDONLY, "")?;
    let u = cx.union().rw(Tree::new()).at(&dir, "ro").mount()?;
    let said = refused(remount(&u, &[&opt("mod:", &dir, "=rw")]), Errno::INVAL);
    assert!(said.contains("read-only file system"), "{said}");
    remount2(fs.path(), MountFlags::empty(), "")?;
    remount(&u, &[&opt("mod:", &dir, "=rw")])?;
    remount(&u, &[&opt("del:", &u.br(0, ""), "")])?;
    sys::create(u.at("n"))?;
    u.umount()?;
    fs.umount()
}
