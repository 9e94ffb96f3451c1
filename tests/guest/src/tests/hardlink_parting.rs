// SPDX-License-Identifier: GPL-2.0

//! `noplink`: of several names of a lower file each gets a copy of its own.

use std::{sync::Barrier, thread};

use crate::harness::{
    prelude::*,
    union::{mounts_line, reconfigure},
    watchdog,
};

cases! {
    WRITABLE: each_name_gets_its_copy;
    BASIC: who_has_it_open, removed_and_renamed, links_of_one_name, nameless_copies,
        those_that_are_there_hold, switched_by_remount;
    ONCE: without_revalidation, at_the_same_moment;
}

fn lower() -> Tree {
    Tree::new()
        .file("a", "low")
        .hardlink("b", "a")
        .hardlink("d/c", "a")
}

fn parting(cx: &Ctx, udba: &str) -> Result<Union> {
    let u = cx
        .union()
        .opt("noplink")
        .opt(udba)
        .rw(Tree::new())
        .ro(lower())
        .mount()?;
    assert!(mounts_line(u.root())?[3].contains(",noplink"));
    // All of them are in the cache.
    let ino = sys::lstat(u.at("a"))?.st_ino;
    for name in ["b", "d/c"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!((stat.st_ino, stat.st_nlink), (ino, 3), "{name}");
    }
    Ok(u)
}

/// What the three names show.
#[track_caller]
fn shown(u: &Union, a: &str, b: &str, c: &str) {
    for (name, data) in [("a", a), ("b", b), ("d/c", c)] {
        assert_eq!(text(u.at(name)).expect("a name"), data, "{name}");
    }
    let listed = [dir::list(u.root()), dir::list(u.at("d"))].map(|l| l.expect("a directory"));
    for entry in listed.iter().flatten() {
        let path = if entry.name == "c" {
            "d/c"
        } else {
            entry.name.as_str()
        };
        let ino = sys::lstat(u.at(path)).expect("a name").st_ino;
        assert_eq!(entry.ino, ino, "d_ino of {path}");
    }
}

/// Inode number and link count.
fn number(u: &Union, name: &str) -> Result<(u64, u64)> {
    let stat = sys::lstat(u.at(name))?;
    Ok((stat.st_ino, u64::from(stat.st_nlink as u32)))
}

fn copies(cx: &Ctx, udba: &str) -> Result<()> {
    let mut u = parting(cx, udba)?;
    let ino = number(&u, "a")?.0;
    sys::append(u.at("a"), "+a")?;
    let check = |u: &Union| -> Result<()> {
        shown(u, "low+a", "low", "low");
        let rest = number(u, "b")?;
        assert_eq!(number(u, "a")?.1, 1);
        assert_eq!((number(u, "d/c")?, rest.1), (rest, 3));
        assert_ne!(number(u, "a")?.0, rest.0);
        Ok(())
    };
    check(&u)?;
    assert_eq!(number(&u, "a")?.0, ino, "the copy keeps the number");
    let rest = number(&u, "b")?;
    sys::drop_caches();
    check(&u)?;
    assert_eq!((number(&u, "a")?.0, number(&u, "b")?), (ino, rest));
    assert_eq!(names(u.br(0, ".wh..wh.plnk"))?, set([]));
    u.again()?;
    check(&u)?;
    sys::chmod(u.at("b"), 0o600)?;
    sys::append(u.at("d/c"), "+c")?;
    for _ in 0..2 {
        shown(&u, "low+a", "low", "low+c");
        assert_eq!(sys::mode(&sys::lstat(u.at("b"))?), 0o600);
        assert_ne!(sys::mode(&sys::lstat(u.at("d/c"))?), 0o600);
        let all = [number(&u, "a")?, number(&u, "b")?, number(&u, "d/c")?];
        assert_eq!(all.map(|(_, links)| links), [1; 3]);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        u.again()?;
    }
    u.umount()
}

fn each_name_gets_its_copy(cx: &Ctx) -> Result<()> {
    copies(cx, "udba=reval")?;
    copies(cx, "udba=notify")
}

fn without_revalidation(cx: &Ctx) -> Result<()> {
    copies(cx, "udba=none")
}

/// A descriptor stays with the file that it was opened on, which is the copy.
fn who_has_it_open(cx: &Ctx) -> Result<()> {
    let u = parting(cx, "udba=reval")?;
    let (a, b) = (sys::open_ro(u.at("a"))?, sys::open_ro(u.at("b"))?);
    sys::append(u.at("a"), "+")?;
    for fd in [&a, &b] {
        assert_eq!(sys::pread_fd(fd)?, b"low+");
    }
    assert_eq!(text(u.at("b"))?, "low");
    rustix::fs::fchmod(&b, 0o640.into())?;
    assert_eq!(sys::mode(&sys::lstat(u.at("a"))?), 0o640);
    assert_ne!(sys::mode(&sys::lstat(u.at("b"))?), 0o640);
    let b = sys::open_ro(u.at("b"))?;
    sys::append(u.at("a"), "+")?;
    assert_eq!(sys::pread_fd(&b)?, b"low");
    sys::append(u.at("b"), "!")?;
    assert_eq!(sys::pread_fd(&b)?, b"low!", "its own name was copied up");
    shown(&u, "low++", "low!", "low");
    Ok(())
}

fn removed_and_renamed(cx: &Ctx) -> Result<()> {
    let mut u = parting(cx, "udba=reval")?;
    sys::rename(u.at("b"), u.at("e"))?;
    assert_eq!((number(&u, "e")?.1, text(u.at("e"))?), (1, "low".into()));
    sys::append(u.at("e"), "+e")?;
    assert_eq!(
        (text(u.at("a"))?, text(u.at("d/c"))?),
        ("low".into(), "low".into())
    );
    sys::unlink(u.at("a"))?;
    errno(sys::lstat(u.at("a")), Errno::NOENT);
    sys::append(u.at("d/c"), "+c")?;
    for _ in 0..2 {
        assert_eq!(
            (text(u.at("e"))?, text(u.at("d/c"))?),
            ("low+e".into(), "low+c".into())
        );
        assert_eq!(names(u.root())?, set(["d", "e"]));
        u.again()?;
    }
    // Over another name of what was the same file.
    sys::rename(u.at("e"), u.at("d/c"))?;
    assert_eq!(
        (text(u.at("d/c"))?, names(u.at("d"))?),
        ("low+e".into(), set(["c"]))
    );
    u.umount()
}

/// What is made by link(2) are links of the copy.
fn links_of_one_name(cx: &Ctx) -> Result<()> {
    let mut u = parting(cx, "udba=reval")?;
    sys::link(u.at("a"), u.at("x"))?;
    sys::append(u.at("x"), "+x")?;
    for _ in 0..2 {
        shown(&u, "low+x", "low", "low");
        assert_eq!(
            (number(&u, "x")?, number(&u, "a")?.1),
            (number(&u, "a")?, 2)
        );
        u.again()?;
    }
    let (x, a) = (sys::lstat(u.br(0, "x"))?, sys::lstat(u.br(0, "a"))?);
    assert_eq!((x.st_ino, x.st_nlink), (a.st_ino, 2));
    sys::unlink(u.at("a"))?;
    assert_eq!((text(u.at("x"))?, number(&u, "x")?.1), ("low+x".into(), 1));
    u.umount()
}

/// A file without a name is written: its other names are as before.
fn nameless_copies(cx: &Ctx) -> Result<()> {
    let u = parting(cx, "udba=reval")?;
    let fd = sys::open_ro(u.at("a"))?;
    sys::unlink(u.at("a"))?;
    rustix::fs::fchmod(&fd, 0o600.into())?;
    assert_eq!(sys::mode(&sys::fstat(&fd)?), 0o600);
    for name in ["b", "d/c"] {
        assert_ne!(sys::mode(&sys::lstat(u.at(name))?), 0o600, "{name}");
        assert_ne!(number(&u, name)?.0, sys::fstat(&fd)?.st_ino);
    }
    sys::append(u.at("b"), "+")?;
    assert_eq!(sys::pread_fd(&fd)?, b"low");
    assert_eq!(text(u.at("d/c"))?, "low");
    Ok(())
}

/// Pseudo-links of an earlier mount say what the names lead to, whatever the option.
fn those_that_are_there_hold(cx: &Ctx) -> Result<()> {
    let rw = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let ro = cx.branch(
        cx.layout.upper(),
        "ro",
        &lower().file("e", "e").hardlink("f", "e"),
    )?;
    let mount = |option: &str| cx.union().opt(option).at(&rw, "rw").at(&ro, "ro").mount();
    let u = mount("plink")?;
    sys::append(u.at("a"), "+")?;
    u.umount()?;
    let u = mount("noplink")?;
    shown(&u, "low+", "low+", "low+");
    sys::append(u.at("b"), "+")?;
    shown(&u, "low++", "low++", "low++");
    assert_eq!(
        (number(&u, "a")?, number(&u, "a")?.1),
        (number(&u, "d/c")?, 3)
    );
    sys::append(u.at("e"), "+")?;
    assert_eq!(text(u.at("f"))?, "e");
    sys::unlink(u.at("a"))?;
    u.umount()?;
    let u = mount("plink")?;
    assert_eq!(
        (text(u.at("b"))?, text(u.at("d/c"))?),
        ("low++".into(), "low++".into())
    );
    assert_eq!(
        (number(&u, "b")?, number(&u, "b")?.1),
        (number(&u, "d/c")?, 2)
    );
    assert_eq!(
        (text(u.at("e"))?, text(u.at("f"))?),
        ("e+".into(), "e".into())
    );
    u.umount()
}

fn switched_by_remount(cx: &Ctx) -> Result<()> {
    let low = lower().file("e", "e").hardlink("f", "e");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("a"), "+")?;
    sys::lstat(u.at("f"))?;
    reconfigure(u.root(), &["noplink"])?;
    assert!(mounts_line(u.root())?[3].contains(",noplink"));
    shown(&u, "low+", "low+", "low+");
    sys::append(u.at("e"), "+")?;
    assert_eq!(
        (text(u.at("e"))?, text(u.at("f"))?),
        ("e+".into(), "e".into())
    );
    sys::append(u.at("b"), "+")?;
    shown(&u, "low++", "low++", "low++");
    reconfigure(u.root(), &["plink"])?;
    assert!(!mounts_line(u.root())?[3].contains("noplink"));
    assert_eq!(
        (text(u.at("e"))?, text(u.at("f"))?),
        ("e+".into(), "e".into())
    );
    shown(&u, "low++", "low++", "low++");
    u.umount()
}

/// Two names are used for the first time at the same moment: no change gets to the wrong one.
fn at_the_same_moment(cx: &Ctx) -> Result<()> {
    const FILES: usize = 400;
    let mut low = Tree::new();
    for i in 0..FILES {
        low = low
            .file(&format!("a{i}"), "low")
            .hardlink(&format!("b{i}"), &format!("a{i}"))
            .hardlink(&format!("c{i}"), &format!("a{i}"));
    }
    for udba in ["udba=none", "udba=reval"] {
        let u = cx
            .union()
            .opt("noplink")
            .opt(udba)
            .rw(Tree::new())
            .ro(low.clone())
            .mount()?;
        let start = Barrier::new(3);
        thread::scope(|scope| -> Result<()> {
            let with = |name: &'static str, act: fn(&Union, &str, usize) -> Result<()>| {
                let (u, start) = (&u, &start);
                scope.spawn(move || -> Result<()> {
                    let mut all = Ok(());
                    for i in 0..FILES {
                        let path = format!("{name}{i}");
                        let looked = sys::lstat(u.at(&path));
                        // After an error, too: the others wait.
                        start.wait();
                        let done = looked.map_err(Into::into).and_then(|_| act(u, &path, i));
                        all = all.and(done);
                        watchdog::alive();
                    }
                    all
                })
            };
            let all = [
                with("a", |u, name, _| Ok(sys::append(u.at(name), "+a")?)),
                with("b", |u, name, i| match i % 4 {
                    0 => Ok(sys::unlink(u.at(name))?),
                    1 => Ok(sys::rename(u.at(name), u.at(&format!("moved{i}")))?),
                    2 => Ok(sys::link(u.at(name), u.at(&format!("linked{i}")))?),
                    _ => Ok(sys::append(u.at(name), "+b")?),
                }),
                with("c", |u, name, _| {
                    let data = text(u.at(name))?;
                    anyhow::ensure!(
                        data == "low" || data == "low+a" || data == "low+b",
                        "{data}"
                    );
                    Ok(())
                }),
            ];
            all.into_iter()
                .try_for_each(|thread| thread.join().expect("no panic"))
        })?;
        for i in 0..FILES {
            let name = |name: &str| u.at(&format!("{name}{i}"));
            assert_eq!(text(name("a"))?, "low+a", "a{i}");
            assert_eq!(text(name("c"))?, "low", "c{i}");
            match i % 4 {
                0 => assert!(!exists(name("b"))),
                1 => assert_eq!(
                    (exists(name("b")), text(name("moved"))?),
                    (false, "low".into())
                ),
                2 => {
                    assert_eq!(text(name("b"))?, "low", "b{i}");
                    let same = [sys::lstat(name("b"))?, sys::lstat(name("linked"))?];
                    assert_eq!(same[0].st_ino, same[1].st_ino);
                    assert_eq!(same.map(|stat| stat.st_nlink), [2; 2]);
                }
                _ => assert_eq!(text(name("b"))?, "low+b", "b{i}"),
            }
        }
        u.umount()?;
    }
    Ok(())
}
