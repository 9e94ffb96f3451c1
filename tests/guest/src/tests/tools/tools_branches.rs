// SPDX-License-Identifier: GPL-2.0

//! `ruaufs mount`, `status`, `branch`, `diff`, `check`; `auchk`.

use super::{spec, tool};
use crate::harness::{prelude::*, union::mounts_line};

cases! {
    BASIC: mounts_friendly, shows_what_changed, checks_branches, changes_branches;
    ONCE: shows_unions, shows_what_is_counted, refuses_bad_branches, refuses_bad_changes;
}

fn mounts_friendly(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let upper = cx.branch(kind, "rw", &Tree::new())?;
    let low = Tree::new().file("a", "low").whiteout("b");
    let middle = cx.branch(kind, "ro", &low)?;
    let lower = cx.branch(kind, "ro", &Tree::new().file("b", ""))?;
    let mnt = cx.mount_point()?;
    let args: [&dyn AsRef<std::ffi::OsStr>; 6] = [
        &"mount",
        &"-o",
        &"noatime,udba=none",
        &mnt,
        &upper,
        &spec(&middle, "ro+wh"),
    ];
    tool("ruaufs", &[&args[..], &[&lower]].concat())?.good();
    assert_eq!(names(&mnt)?, set(["a"]));
    sys::append(mnt.join("a"), "+")?;
    assert_eq!(text(upper.join("a"))?, "low+");
    let line = mounts_line(&mnt)?;
    assert!(
        line[3].contains("noatime") && line[3].contains("udba=none"),
        "{line:?}"
    );
    tool("umount.ruaufs", &[&mnt])?.good();
    tool(
        "ruaufs",
        &[
            &"mount",
            &"--read-only",
            &"-t",
            &"aufs",
            &"--source",
            &"mine",
            &mnt,
            &upper,
            &lower,
        ],
    )?
    .good();
    let line = mounts_line(&mnt)?;
    assert_eq!((&*line[0], &*line[2]), ("mine", "aufs"));
    errno(sys::write(mnt.join("g"), ""), Errno::ROFS);
    tool("umount.aufs", &[&mnt])?.good();
    Ok(())
}

fn refuses_bad_branches(cx: &Ctx) -> Result<()> {
    let (mnt, dir) = (
        cx.mount_point()?,
        cx.branch(Kind::Tmpfs, "rw", &Tree::new())?,
    );
    let bad = |branch: &str, words: &str| -> Result<()> {
        tool("ruaufs", &[&"mount", &mnt, &branch])?.bad(1, words);
        Ok(())
    };
    bad("/nowhere", "/nowhere: No such file or directory")?;
    bad("/proc/version", "/proc/version: Not a directory")?;
    bad(
        &spec(&dir, "wr"),
        "unknown permission \"wr\": it is rw, ro or rr",
    )?;
    bad(&spec(&dir, "ro+hw"), "unknown attribute \"hw\"")?;
    bad(&spec(&dir, "rw+wh"), "does not fit")?;
    tool("ruaufs", &[&"mount", &mnt])?.bad(2, "Usage");
    tool("ruaufs", &[&"status", &dir])?.bad(1, "is not in a union");
    Ok(())
}

fn shows_unions(cx: &Ctx) -> Result<()> {
    for fstype in ["ruaufs", "aufs"] {
        let u = cx
            .union()
            .rw(Tree::new().dir("d"))
            .ro_wh(Tree::new())
            .opt("udba=none")
            .fstype(fstype)
            .mount()?;
        let out = tool("ruaufs", &[&"status"])?.good();
        assert!(
            out.contains(&format!("{} ({fstype}, writable, si=", u.root().display())),
            "{out}"
        );
        assert!(
            out.contains("options: ") && out.contains("udba=none"),
            "{out}"
        );
        let json = tool("ruaufs", &[&"status", &"--json", &u.at("d")])?.good();
        for (i, access) in [(0, "rw"), (1, "ro+wh")] {
            let path = format!("\"path\": \"{}\"", u.br(i, "").display());
            assert!(
                json.contains(&path) && out.contains(&*u.br(i, "").to_string_lossy()),
                "{json}"
            );
            assert!(
                json.contains(&format!("\"access\": \"{access}\"")),
                "{json}"
            );
        }
        assert!(
            json.contains("\"pseudo_links\": 0") && json.contains("\"type\": \"tmpfs\""),
            "{json}"
        );
        let list = tool("ruaufs", &[&"branch", &"list", &u.root()])?.good();
        let rows: Vec<Vec<&str>> = list
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            (rows.len(), rows[1][0], rows[2][0], rows[2][2]),
            (3, "0", "1", "ro+wh"),
            "{list}"
        );
        u.umount()?;
    }
    let out = tool("ruaufs", &[&"status"])?.good();
    assert_eq!(out, "no union is mounted\n");
    Ok(())
}

fn shows_what_is_counted(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", vec![b'f'; 3 << 20]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("f"), "end")?;
    let out = tool("ruaufs", &[&"status", &"--stats", &u.root()])?.good();
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let row = |name: &str| {
        let row = rows.iter().find(|row| row.first() == Some(&name));
        row.unwrap_or_else(|| panic!("no {name} in {out}"))
    };
    assert_eq!(
        row("copy_ups")[1..],
        ["1", "objects", "that", "were", "copied", "up"]
    );
    assert_eq!(row("copy_up_bytes")[1..3], ["3.00", "MiB"]);
    assert_eq!(row("gate_waits")[1], "0");
    let hints: Vec<_> = out.lines().filter(|line| line.contains(": ")).collect();
    assert!(
        hints.iter().any(|hint| hint.starts_with("copy_up_bytes: ")),
        "{out}"
    );
    assert!(
        !hints.iter().any(|hint| hint.starts_with("gate_waits: ")),
        "{out}"
    );
    let json = tool("ruaufs", &[&"status", &"--stats", &"--json"])?.good();
    assert!(json.contains("\"copy_up_bytes\": 3145728,"), "{json}");
    let json = tool("ruaufs", &[&"status", &"--json"])?.good();
    assert!(!json.contains("stats"), "{json}");
    u.umount()
}

fn shows_what_changed(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("etc/passwd", "root")
        .file("e/a", "")
        .file("e/b", "")
        .file("op/x/y", "")
        .file("op/z", "")
        .file("same/f", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    assert_eq!(tool("ruaufs", &[&"diff", &u.root()])?.good(), "");
    sys::append(u.at("etc/passwd"), "+")?;
    sys::unlink(u.at("e/b"))?;
    sys::write(u.at("w"), "")?;
    std::fs::remove_dir_all(u.at("op"))?;
    sys::mkdir(u.at("op"))?;
    sys::write(u.at("op/z"), "new")?;
    sys::mkdir(u.at("made"))?;
    sys::write(u.at("made/f"), "")?;
    let wanted =
        "C /e\nD /e/b\nC /etc\nC /etc/passwd\nA /made\nA /made/f\nC /op\nD /op/x\nC /op/z\nA /w\n";
    assert_eq!(tool("ruaufs", &[&"diff", &u.root()])?.good(), wanted);
    let (upper, lower) = (u.br(0, ""), u.br(1, ""));
    let summary = tool("ruaufs", &[&"diff", &"--summary", &u.at("etc")])?.good();
    assert_eq!(summary, "3 added, 5 changed, 2 deleted\n");
    u.umount()?;
    let offline = tool("ruaufs", &[&"diff", &"--upper", &upper, &"--lower", &lower])?.good();
    assert_eq!(offline, wanted);
    let json = tool(
        "ruaufs",
        &[&"diff", &"--json", &"--upper", &upper, &"--lower", &lower],
    )?
    .good();
    assert_eq!(json.matches("\"kind\": \"added\"").count(), 3, "{json}");
    Ok(())
}

fn checks_branches(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", ""))
        .ro(Tree::new().file("g", ""))
        .mount()?;
    sys::unlink(u.at("g"))?;
    let branch = u.br(0, "");
    cx.messy(&branch);
    assert_eq!(
        tool("auchk", &[&branch])?.good(),
        "",
        "a union's own marks are sound"
    );
    sys::write(branch.join(".wh.f"), "")?;
    sys::write(branch.join(".wh..wh.left.00ab"), "")?;
    let said = tool("ruaufs", &[&"check", &"--repair", &branch])?;
    said.bad(8, "unmount that before a repair");
    u.umount()?;
    tool("auchk", &[&branch])?.bad(1, "f: beside its own whiteout");
    tool("ruaufs", &[&"check", &branch])?.bad(4, "2 of 2 can be repaired");
    tool("ruaufs", &[&"check", &"--repair", &branch])?.bad(1, "(repaired)");
    tool("ruaufs", &[&"check", &branch])?.good();
    assert!(exists(branch.join(".wh.g")) && !exists(branch.join(".wh.f")));
    tool("ruaufs", &[&"check", &"/nowhere"])?.bad(8, "/nowhere");
    Ok(())
}

/// The branches of a union in order, as `ruaufs branch list` shows them: index, access, path.
fn listed(u: &Union) -> Result<Vec<(String, String)>> {
    let list = tool("ruaufs", &[&"branch", &"list", &u.root()])?.good();
    let rows = list.lines().skip(1).map(|line| {
        let mut words = line.split_whitespace().skip(2);
        let mut next = || words.next().unwrap_or_default().to_owned();
        let access = next();
        (next(), access)
    });
    Ok(rows.collect())
}

fn changes_branches(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("low", ""))
        .mount()?;
    let new = |name: &str| cx.branch(kind, "rw", &Tree::new().file(name, name));
    let (top, middle, bottom) = (new("top")?, new("middle")?, new("bottom")?);
    let shown =
        |path: &std::path::Path, access: &str| (path.display().to_string(), access.to_owned());
    let (first, low) = (u.br(0, ""), u.br(1, ""));
    let held = sys::open_ro(u.at("low"))?;

    tool("ruaufs", &[&"branch", &"add", &u.root(), &top])?.good();
    tool(
        "ruaufs",
        &[
            &"branch",
            &"add",
            &u.root(),
            &"--at",
            &"2",
            &spec(&middle, "ro+wh"),
        ],
    )?
    .good();
    tool(
        "ruaufs",
        &[&"branch", &"add", &u.root(), &"--bottom", &bottom],
    )?
    .good();
    let order = [
        shown(&top, "rw"),
        shown(&first, "rw"),
        shown(&middle, "ro+wh"),
        shown(&low, "ro"),
        shown(&bottom, "ro"),
    ];
    assert_eq!(listed(&u)?, order);
    assert_eq!(names(u.root())?, set(["top", "middle", "low", "bottom"]));

    tool(
        "ruaufs",
        &[&"branch", &"mod", &u.root(), &spec(&bottom, "ro+wh")],
    )?
    .good();
    tool(
        "ruaufs",
        &[&"branch", &"move", &u.root(), &low, &"--to", &"1"],
    )?
    .good();
    tool(
        "ruaufs",
        &[&"branch", &"move", &u.root(), &top, &"--to", &"4"],
    )?
    .good();
    let order = [
        shown(&low, "ro"),
        shown(&first, "rw"),
        shown(&middle, "ro+wh"),
        shown(&bottom, "ro+wh"),
        shown(&top, "rw"),
    ];
    assert_eq!(listed(&u)?, order);
    assert_eq!(sys::pread_fd(&held)?, b"");
    drop(held);

    tool(
        "ruaufs",
        &[&"branch", &"del", &u.root(), &top, &middle, &bottom],
    )?
    .good();
    assert_eq!(listed(&u)?, [shown(&low, "ro"), shown(&first, "rw")]);
    assert_eq!(names(u.root())?, set(["low"]));
    assert!(exists(top.join("top")), "its directory stays");
    u.umount()
}

fn refuses_bad_changes(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "f"))
        .ro(Tree::new().file("low", ""))
        .mount()?;
    let before = listed(&u)?;
    let branch = |args: &[&dyn AsRef<std::ffi::OsStr>], words: &str| -> Result<()> {
        tool(
            "ruaufs",
            &[&[&"branch" as &dyn AsRef<std::ffi::OsStr>], args].concat(),
        )?
        .bad(1, words);
        Ok(())
    };
    let (root, low, other) = (u.root(), u.br(1, ""), cx.dir(Kind::Tmpfs)?);
    branch(&[&"add", &root, &low], "is a branch already")?;
    branch(
        &[&"add", &root, &"/nowhere"],
        "/nowhere: No such file or directory",
    )?;
    branch(&[&"add", &root, &other, &"--at", &"3"], "at most 2")?;
    branch(&[&"add", &root, &spec(&other, "rx")], "unknown permission")?;
    branch(&[&"del", &root, &other], "is no branch of")?;
    branch(&[&"del", &root, &low, &u.br(0, "")], "one branch at least")?;
    branch(&[&"mod", &root, &low], "give the permission, too")?;
    branch(&[&"move", &root, &low, &"--to", &"2"], "at most 1")?;
    branch(&[&"list", &other], "is not in a union")?;
    let held = sys::open_ro(u.at("low"))?;
    branch(&[&"del", &root, &low], "a branch is in use, `aubusy -v")?;
    drop(held);
    assert_eq!(listed(&u)?, before);
    u.umount()
}
