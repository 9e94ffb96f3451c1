// SPDX-License-Identifier: GPL-2.0

//! `auplink`, and pseudo-links at unmounts, remounts and commits; `aubusy`, `auibusy`; `aumvdown`.

use super::{command, run, tool};
use crate::harness::prelude::*;

cases! {
    BASIC: lists_and_flushes, unmounting_keeps_them, commit_flushes, moves_down;
    ONCE: busy_objects, without_pseudo_links;
}

/// `a`, `b` and `d/c` are one lower file, which was copied up as `a`.
fn linked(cx: &Ctx) -> Result<Union> {
    let low = Tree::new()
        .file("a", "low")
        .hardlink("b", "a")
        .hardlink("d/c", "a");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("a"), "+")?;
    assert!(!exists(u.br(0, "b")));
    Ok(u)
}

/// All names are hard links of one file on the branch now, and nothing is left to be flushed.
fn check_flushed(u: &Union) -> Result<()> {
    let first = sys::lstat(u.br(0, "a"))?;
    assert_eq!(first.st_nlink, 3);
    for name in ["b", "d/c"] {
        assert_eq!(sys::lstat(u.br(0, name))?.st_ino, first.st_ino, "{name}");
        assert_eq!(text(u.br(0, name))?, "low+");
    }
    assert_eq!(names(u.br(0, ".wh..wh.plnk"))?, set([]));
    Ok(())
}

fn lists_and_flushes(cx: &Ctx) -> Result<()> {
    let mut u = linked(cx)?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    let out = tool("auplink", &[&u.root(), &"list"])?.good();
    let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
    lines[1..].sort();
    let path = |name: &str| u.at(name).display().to_string();
    assert_eq!(
        lines,
        [format!("{ino} "), path("a"), path("b"), path("d/c")]
    );
    tool("auplink", &[&u.root(), &"flush"])?.good();
    check_flushed(&u)?;
    assert_eq!(tool("auplink", &[&u.root(), &"list"])?.good(), "");
    for name in ["a", "b", "d/c"] {
        assert_eq!(sys::lstat(u.at(name))?.st_nlink, 3, "{name}");
    }
    u.again()?;
    sys::append(u.at("b"), "!")?;
    assert_eq!(text(u.at("d/c"))?, "low+!");
    u.umount()
}

/// What has a note holds at the next mount, so there is nothing to do before.
fn unmounting_keeps_them(cx: &Ctx) -> Result<()> {
    let mut u = linked(cx)?;
    tool("mount.ruaufs", &[&"none", &u.root(), &"-o", &"remount,ro"])?.good();
    tool("umount.ruaufs", &[&u.root()])?.good();
    u.was_unmounted();
    assert!(!exists(u.br(0, "b")));
    u.again()?;
    assert_eq!(text(u.at("b"))?, "low+");
    u.umount()
}

fn commit_flushes(cx: &Ctx) -> Result<()> {
    let u = linked(cx)?;
    let (upper, lower) = (u.br(0, ""), u.br(1, ""));
    tool("mount.ruaufs", &[&"none", &u.root(), &"-o", &"remount,ro"])?.good();
    tool("ruaufs", &[&"commit", &u.root()])?.bad(1, "has pseudo-links");
    tool("mount.ruaufs", &[&"none", &u.root(), &"-o", &"remount,rw"])?.good();
    tool("ruaufs", &[&"commit", &"--remount", &u.root()])?.good();
    cx.changed_by_hand(&lower)?;
    let first = sys::lstat(lower.join("a"))?;
    for name in ["a", "b", "d/c"] {
        assert_eq!(sys::lstat(lower.join(name))?.st_ino, first.st_ino, "{name}");
        assert_eq!(
            (text(lower.join(name))?, text(u.at(name))?),
            ("low+".into(), "low+".into())
        );
        assert!(!exists(upper.join(name)));
    }
    u.umount()?;
    // Nor is it done while nothing is mounted.
    let u = linked(cx)?;
    let (upper, lower) = (u.br(0, ""), u.br(1, ""));
    u.umount()?;
    tool(
        "ruaufs",
        &[&"commit", &"--upper", &upper, &"--lower", &lower],
    )?
    .bad(1, "1 pseudo-links");
    Ok(())
}

fn without_pseudo_links(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new().file("f", "")).mount()?;
    for action in ["list", "cpup", "flush"] {
        assert_eq!(tool("auplink", &[&u.root(), &action])?.good(), "");
    }
    tool("auplink", &[&u.root(), &"frob"])?.bad(2, "frob");
    tool("auplink", &[&"/nowhere", &"flush"])?.bad(Errno::NOENT.raw_os_error(), "/nowhere");
    u.umount()
}

fn busy_objects(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("held", "").file("free", ""))
        .mount()?;
    let low = u.br(1, "");
    assert_eq!(tool("aubusy", &[&u.root(), &low])?.good(), "");
    let held = sys::open_ro(u.at("held"))?;
    let (ino, on_branch) = (
        sys::lstat(u.at("held"))?.st_ino,
        sys::lstat(u.br(1, "held"))?.st_ino,
    );
    let said = tool("aubusy", &[&u.root(), &low])?;
    assert_eq!(said.status, 1);
    let pid = std::process::id();
    assert!(
        said.out.contains(&format!("({pid})")) && said.out.contains("/held\n"),
        "{}",
        said.out
    );
    let line = tool("auibusy", &[&u.root(), &"1", &ino.to_string()])?.good();
    assert_eq!(line, format!("i{ino} b1 hi{on_branch}\n"));
    assert_eq!(
        tool("auibusy", &[&u.root(), &"0", &ino.to_string()])?.good(),
        ""
    );
    drop(held);
    u.umount()
}

fn moves_down(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/f", "up").file("g", ""))
        .rw(Tree::new())
        .mount()?;
    let out = tool("aumvdown", &[&"-v", &u.at("d/f")])?.good();
    let id = |text: &str| out.contains(text);
    assert!(id("/d/f' b0(brid") && id("--> b1(brid"), "{out}");
    assert!(!exists(u.br(0, "d/f")));
    assert_eq!(
        (text(u.br(1, "d/f"))?, text(u.at("d/f"))?),
        ("up".into(), "up".into())
    );
    tool("aumvdown", &[&u.at("d/f")])?.bad(1, "no writable branch below");
    let held = sys::open_rw(u.at("g"))?;
    let said = run(command("aumvdown").arg(u.at("g")))?;
    said.bad(1, "it is in use");
    drop(held);
    u.umount()
}
