// SPDX-License-Identifier: GPL-2.0

//! Copy-ups and other changes that fail or are interrupted: nothing of them stays.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::harness::{
    prelude::*,
    scratch::Private,
    snapshot::{Scope, Snapshot},
};

cases! {
    BASIC: nothing_when_refused, killed_in_between;
    ONCE: no_space_on_tmpfs, no_space_on_ext4;
}

fn nothing_when_refused(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/f", "x").mode(0o644).dir("d/e");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    errno(sys::create(u.at("d/f")), Errno::EXIST);
    errno(sys::mkdir(u.at("d/e")), Errno::EXIST);
    errno(sys::rmdir(u.at("d")), Errno::NOTEMPTY);
    errno(sys::rename(u.at("d/f"), u.at("d/e")), Errno::ISDIR);
    errno(sys::link(u.at("d/f"), u.at("d/e")), Errno::EXIST);
    users::as_user(1001, 1001, || {
        errno(sys::open_rw(u.at("d/f")), Errno::ACCESS);
        errno(sys::chmod(u.at("d/f"), 0o666), Errno::PERM);
        errno(sys::unlink(u.at("d/f")), Errno::ACCESS);
    });
    assert!(!exists(u.br(0, "d")));
    Ok(())
}

fn no_space_on_tmpfs(cx: &Ctx) -> Result<()> {
    no_space(cx, Private::tmpfs(&cx.name(), "size=1m")?)
}

fn no_space_on_ext4(cx: &Ctx) -> Result<()> {
    no_space(cx, Private::disk(Kind::Ext4, &cx.name(), 32 << 20)?)
}

/// A copy-up that does not fit fails and leaves everything as it was.
fn no_space(cx: &Ctx, full: Private) -> Result<()> {
    let data = vec![b'x'; 32 << 20];
    let low = cx.branch(
        Kind::Tmpfs,
        "ro",
        &Tree::new().file("d/big", &data).file("d/small", "s"),
    )?;
    let rw = full.path().join("rw");
    sys::mkdir(&rw)?;
    let u = cx.union().at(&rw, "rw").at(&low, "ro").mount()?;
    let before = Snapshot::of(u.root(), Scope::Visible)?;
    for _ in 0..3 {
        errno(sys::append(u.at("d/big"), "+"), Errno::NOSPC);
        errno(sys::chmod(u.at("d/big"), 0o600), Errno::NOSPC);
        errno(sys::rename(u.at("d/big"), u.at("moved")), Errno::NOSPC);
        errno(sys::link(u.at("d/big"), u.at("linked")), Errno::NOSPC);
    }
    assert_eq!(
        before.diff(&Snapshot::of(u.root(), Scope::Visible)?),
        [""; 0]
    );
    let held: Vec<_> = Snapshot::of(&rw, Scope::Visible)?
        .paths()
        .map(str::to_owned)
        .collect();
    let allowed = ["", ".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", "d"];
    for path in &held {
        assert!(allowed.contains(&path.as_str()), "left behind: {path}");
    }
    // The space is free again: what fits, works.
    sys::append(u.at("d/small"), "+")?;
    sys::write(u.at("new"), vec![1; 200_000])?;
    assert_eq!(text(u.at("d/small"))?, "s+");
    u.umount()?;
    full.umount()
}

/// A copy-up ends with its caller: done or undone, nothing in between.
fn killed_in_between(cx: &Ctx) -> Result<()> {
    const SIZE: usize = 48 << 20;
    let low = Tree::new().file("d/f", vec![b'x'; SIZE]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let path = u.at("d/f");
    let mut interrupted = 0;
    for i in 0..12 {
        let mut child = Command::new("dd")
            .arg(format!("of={}", path.display()))
            .args(["if=/dev/zero", "bs=1", "count=1", "conv=notrunc"])
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(5 + 15 * i));
        child.kill()?;
        let ended = child.wait()?;
        let stat = sys::lstat(&path)?;
        assert_eq!((stat.st_size as usize, sys::mode(&stat)), (SIZE, 0o644));
        if exists(u.br(0, "d/f")) {
            let copy = sys::read(u.br(0, "d/f"))?;
            assert!(
                copy[1..].iter().all(|b| *b == b'x') && copy.len() == SIZE,
                "a torn copy"
            );
            // By hand, so that the lower file is there for the next attempt.
            sys::unlink(u.br(0, "d/f"))?;
            sys::drop_caches();
        } else {
            interrupted += usize::from(!ended.success());
        }
        let held = names(u.br(0, ""))?;
        let allowed = set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", "d"]);
        assert!(held.is_subset(&allowed), "left behind: {held:?}");
    }
    assert!(interrupted > 0, "no attempt was early enough");
    assert!(sys::read(&path)?.iter().all(|b| *b == b'x'));
    Ok(())
}
