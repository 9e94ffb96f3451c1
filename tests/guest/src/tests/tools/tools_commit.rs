// SPDX-License-Identifier: GPL-2.0

//! `ruaufs commit`, `aubrsync`: after it the branches that are left show what the union showed.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{kill_process, Pid, Signal};

use super::{command, spec, tool, Said};
use crate::{
    harness::{
        prelude::*,
        snapshot::{Scope, Snapshot},
        watchdog,
    },
    tests::model::{
        self,
        layer::{self, Perm},
        op::Op,
        scenario::{self, Scenario},
        side::Side,
    },
};

cases! {
    WRITABLE: shows_the_same_afterwards, keeps_all_attributes;
    BASIC: under_a_read_only_union, a_union_that_is_written_is_refused, interrupted;
    ONCE: says_what_it_would_do, marks_that_would_not_count;
}

/// Random branches, random changes; then a commit of the topmost branch.
fn shows_the_same_afterwards(cx: &Ctx) -> Result<()> {
    model::each(scenario::without_links(60), 25, |scenario| {
        play(cx, scenario)
    })
}

fn play(cx: &Ctx, scenario: &Scenario) -> Result<()> {
    let kind = cx.layout.upper();
    let mut builder = cx.union();
    for layer in &scenario.layers {
        builder = builder.on(kind, layer.perm.name(), layer::on_disk(&layer.content));
    }
    let mut u = builder.mount()?;
    let branches: Vec<_> = (0..scenario.layers.len()).map(|i| u.br(i, "")).collect();
    branches.iter().for_each(|branch| cx.messy(branch));
    let mut side = Side::union(u.root().to_owned());
    for step in &scenario.steps {
        // Of what may not be changed nothing can be merged. What fails changes nothing.
        if !matches!(step.op, Op::Flags(..)) {
            let _ = side.apply(&step.op);
        }
    }
    drop(side);
    tool("auplink", &[&u.root(), &"flush"])?.good();
    // What is only in memory ends with the mount.
    u.again()?;
    let before = Snapshot::of(u.root(), Scope::Visible)?;
    u.umount()?;

    let perm = |i: usize| scenario.layers[i].perm;
    let mut commit = command("ruaufs");
    commit.arg("commit").arg("--upper").arg(&branches[0]);
    commit
        .arg("--lower")
        .arg(spec(&branches[1], perm(1).name()));
    for (i, branch) in branches.iter().enumerate().skip(2) {
        commit.arg("--below").arg(spec(branch, perm(i).name()));
    }
    let said = super::run(&mut commit)?;
    if said.status != 0 && said.err.contains("marks do not count there") {
        anyhow::ensure!(perm(1) == Perm::Ro && branches.len() > 2, "{}", said.err);
        return Ok(());
    }
    anyhow::ensure!(said.status == 0, "{}", said.err);
    cx.changed_by_hand(&branches[1])?;
    let left = crate::harness::dir::names(&branches[0])?;
    let own = |name: &String| name.starts_with(".wh..wh.");
    anyhow::ensure!(left.iter().all(own), "left in the branch: {left:?}");

    let mut rest = cx.union();
    for (i, branch) in branches.iter().enumerate().skip(1) {
        rest = rest.at(branch, perm(i).name());
    }
    let rest = rest.mount()?;
    let diff = before.diff(&Snapshot::of(rest.root(), Scope::Visible)?);
    anyhow::ensure!(diff.is_empty(), "after the commit:\n{}", diff.join("\n"));
    rest.umount()
}

/// Branches on two file systems: all is copied.
fn keeps_all_attributes(cx: &Ctx) -> Result<()> {
    let other = match cx.layout.upper() {
        Kind::Tmpfs => Kind::Ext4,
        _ => Kind::Tmpfs,
    };
    let up = Tree::new()
        .file("f", "text")
        .mode(0o4751)
        .owner(7, 8)
        .xattr("user.k", "v")
        .xattr(
            "security.capability",
            [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        )
        .mtime(1_300_000_000, 123_456_789)
        .hardlink("d/g", "f")
        .sparse(
            "sparse",
            64 << 20,
            &[(1 << 20, b"data"), (63 << 20, b"end")],
        )
        .symlink("l", "target")
        .fifo("p")
        .node("n", FileType::CharacterDevice, sys::dev(1, 3))
        .dir("d/sticky")
        .mode(0o1777)
        .whiteout("gone")
        .opaque("d/o")
        .file("d/o/new", "");
    let low = Tree::new()
        .file("f", "old")
        .file("gone/with/all", "")
        .file("d/o/old", "")
        .file("stays", "s");
    let upper = cx.branch(cx.layout.upper(), "rw", &up)?;
    let lower = cx.branch(other, "ro", &low)?;
    let acl = [("-m", "u:11:rwx,g:12:r", "f"), ("-dm", "u:13:rx", "d")];
    for (how, entry, path) in acl {
        crate::harness::scratch::run(
            "setfacl",
            &[how, entry, &upper.join(path).to_string_lossy()],
        )?;
    }
    sys::utimens(
        upper.join("f"),
        (1_200_000_000, 1),
        (1_300_000_000, 123_456_789),
    )?;
    let u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
    let before = Snapshot::of(u.root(), Scope::Visible)?;
    u.umount()?;
    let out = tool(
        "ruaufs",
        &[&"commit", &"--upper", &upper, &"--lower", &lower],
    )?
    .good();
    assert!(out.contains("merged"), "{out}");
    cx.changed_by_hand(&lower)?;
    // No union: the lower directory alone is what the union was.
    let diff = before.diff(&Snapshot::of(&lower, Scope::Visible)?);
    assert!(diff.is_empty(), "{}", diff.join("\n"));
    assert!(
        sys::lstat(lower.join("sparse"))?.st_blocks < 4096,
        "holes are holes"
    );
    assert_eq!(
        sys::lstat(lower.join("f"))?.st_ino,
        sys::lstat(lower.join("d/g"))?.st_ino
    );
    assert_eq!(
        sys::atime(&sys::lstat(lower.join("f"))?),
        (1_200_000_000, 1)
    );
    Ok(())
}

fn changed(cx: &Ctx) -> Result<Union> {
    changed_with(cx, "udba=reval")
}

fn changed_with(cx: &Ctx, udba: &str) -> Result<Union> {
    let low = Tree::new()
        .file("d/a", "a")
        .file("d/b", "b")
        .file("e/f", "")
        .file("x", "x");
    let u = cx.union().opt(udba).rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("d/a"), "+")?;
    sys::unlink(u.at("d/b"))?;
    std::fs::remove_dir_all(u.at("e"))?;
    sys::mkdir(u.at("e"))?;
    sys::write(u.at("e/new"), "new")?;
    sys::rename(u.at("x"), u.at("y"))?;
    Ok(u)
}

fn under_a_read_only_union(cx: &Ctx) -> Result<()> {
    for udba in ["udba=reval", "udba=notify", "udba=none"] {
        merged_while_mounted(cx, udba)?;
    }
    Ok(())
}

fn merged_while_mounted(cx: &Ctx, udba: &str) -> Result<()> {
    for merge in [
        &|u: &Union| tool("ruaufs", &[&"commit", &"--remount", &u.root()]),
        &|u: &Union| {
            tool(
                "aubrsync",
                &[&"move", &u.root(), &u.br(0, ""), &u.br(1, "")],
            )
        },
    ] as [&dyn Fn(&Union) -> Result<Said>; 2]
    {
        let u = changed_with(cx, udba)?;
        let reader = sys::open_ro(u.at("d/a"))?;
        let before = Snapshot::of(u.root(), Scope::Visible)?;
        merge(&u)?.good();
        cx.changed_by_hand(&u.br(1, ""))?;
        let diff = before.diff(&Snapshot::of(u.root(), Scope::Visible)?);
        assert!(diff.is_empty(), "{}", diff.join("\n"));
        assert_eq!(sys::pread_fd(&reader)?, b"a+", "an open file stays");
        drop(reader);
        assert_eq!(text(u.br(1, "d/a"))?, "a+");
        assert!(!exists(u.br(1, "d/b")) && !exists(u.br(0, "d")));
        assert_eq!(names(u.br(1, "e"))?, set(["new"]));
        // It is writable again.
        sys::append(u.at("d/a"), "++")?;
        assert_eq!(
            (text(u.br(0, "d/a"))?, text(u.br(1, "d/a"))?),
            ("a+++".into(), "a+".into())
        );
        assert_eq!(
            tool("ruaufs", &[&"diff", &u.root()])?.good(),
            "C /d\nC /d/a\n"
        );
        u.umount()?;
    }
    Ok(())
}

fn a_union_that_is_written_is_refused(cx: &Ctx) -> Result<()> {
    let u = changed(cx)?;
    let before = Snapshot::of(&u.br(0, ""), Scope::Everything)?;
    tool("ruaufs", &[&"commit", &u.root()])?.bad(1, "mount -o remount,ro");
    let offline = tool(
        "ruaufs",
        &[
            &"commit",
            &"--upper",
            &u.br(0, ""),
            &"--lower",
            &u.br(1, ""),
        ],
    )?;
    offline.bad(1, "may be written");
    // Another union has the lower branch.
    let other = cx.dir(Kind::Tmpfs)?;
    let offline = tool(
        "ruaufs",
        &[&"commit", &"--upper", &other, &"--lower", &u.br(1, "")],
    )?;
    offline.bad(1, "may be written");
    // A writer keeps the union from becoming read-only, and nothing is done.
    let writer = sys::open_rw(u.at("d/a"))?;
    tool("ruaufs", &[&"commit", &"--remount", &u.root()])?.bad(1, "close what is open for writing");
    drop(writer);
    let diff = before.diff(&Snapshot::of(&u.br(0, ""), Scope::Everything)?);
    assert!(diff.is_empty(), "{}", diff.join("\n"));
    u.umount()
}

fn says_what_it_would_do(cx: &Ctx) -> Result<()> {
    let u = changed(cx)?;
    let (upper, lower) = (u.br(0, ""), u.br(1, ""));
    // Of a union that is in use it is said, too, and nothing is flushed or remounted.
    let writer = sys::open_rw(u.at("d/a"))?;
    for remount in [&["--dry-run"][..], &["--dry-run", "--remount"]] {
        let said = super::run(command("ruaufs").arg("commit").args(remount).arg(u.root()))?;
        let out = said.good();
        assert!(
            out.contains("replace d/a") && out.contains("nothing was changed"),
            "{out}"
        );
    }
    drop(writer);
    u.umount()?;
    let before = Snapshot::of(&upper, Scope::Everything)?;
    let out = tool(
        "ruaufs",
        &[
            &"commit",
            &"--dry-run",
            &"--upper",
            &upper,
            &"--lower",
            &lower,
        ],
    )?
    .good();
    for line in [
        "remove  d/b",
        "replace d/a",
        "remove  e/f",
        "add     e/new",
        "remove  x",
        "add     y",
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} is not in:\n{out}");
    }
    assert!(out.contains("nothing was changed"), "{out}");
    let diff = before.diff(&Snapshot::of(&upper, Scope::Everything)?);
    assert!(diff.is_empty(), "{}", diff.join("\n"));
    Ok(())
}

fn marks_that_would_not_count(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("a", ""))
        .ro(Tree::new().file("b", ""))
        .mount()?;
    sys::unlink(u.at("b"))?;
    tool("ruaufs", &[&"commit", &"--remount", &u.root()])?.bad(1, "ro+wh");
    sys::write(u.at("b"), "it is writable again")?;
    u.umount()
}

/// Copies much from one file system to another and is interrupted; then it goes on.
fn interrupted(cx: &Ctx) -> Result<()> {
    let other = match cx.layout.upper() {
        Kind::Tmpfs => Kind::Ext4,
        _ => Kind::Tmpfs,
    };
    let mut up = Tree::new();
    for i in 0..60 {
        up = up.file(&format!("d{}/f{i}", i % 5), vec![i as u8; 1 << 20]);
    }
    let upper = cx.branch(cx.layout.upper(), "rw", &up)?;
    let lower = cx.branch(other, "ro", &Tree::new().file("d1/old", ""))?;
    let shown = |cx: &Ctx| -> Result<Snapshot> {
        let u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
        let shown = Snapshot::of(u.root(), Scope::Visible)?;
        u.umount()?;
        Ok(shown)
    };
    let before = shown(cx)?;
    let mut commit = command("ruaufs");
    commit
        .args(["commit", "--upper"])
        .arg(&upper)
        .arg("--lower")
        .arg(&lower);
    let mut interruptions = 0;
    let start = Instant::now();
    let said = loop {
        let child = commit
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_child(&child);
        wait_for_a_copy(&lower, interruptions);
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::INT);
        let said = Said::of(child.wait_with_output()?);
        if said.status == 0 {
            break said;
        }
        interruptions += 1;
        said.bad(130, "run the same command again");
        let diff = before.diff(&shown(cx)?);
        let diff: Vec<_> = diff
            .into_iter()
            .filter(|d| !d.starts_with("\"\": mtime"))
            .collect();
        assert!(
            diff.is_empty(),
            "after {interruptions} interruptions:\n{}",
            diff.join("\n")
        );
        assert!(
            start.elapsed() < Duration::from_secs(100),
            "it does not come to an end"
        );
        watchdog::alive();
    };
    said.good();
    assert!(interruptions > 0, "it was too fast to be interrupted");
    cx.changed_by_hand(&lower)?;
    let diff = before.diff(&Snapshot::of(&lower, Scope::Visible)?);
    assert!(diff.is_empty(), "{}", diff.join("\n"));
    Ok(())
}

/// Waits until there are more files than after the last run.
fn wait_for_a_copy(lower: &Path, round: usize) {
    let start = Instant::now();
    let files = || {
        let dirs = (0..5).filter_map(|i| std::fs::read_dir(lower.join(format!("d{i}"))).ok());
        dirs.map(Iterator::count).sum::<usize>()
    };
    while files() < 5 + 20 * round && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(2));
    }
}
