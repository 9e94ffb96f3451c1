// SPDX-License-Identifier: GPL-2.0

//! Copy on open (`coo_reg`, `coo_all`) and move on open (`moo`).

use std::{collections::BTreeSet, path::Path, sync::mpsc, thread, time::Duration};

use rustix::mount::MountFlags;

use super::remount::{opt, remount};
use crate::harness::{
    hold::Gap,
    prelude::*,
    scratch::{self, Private},
    union::{mounts_line, remount2},
};

cases! {
    BASIC: files_are_copied_when_opened, directories_are_copied_when_opened,
        nearest_writable_branch, nothing_above, the_last_attribute_counts,
        files_are_moved_when_opened, moved_files_keep_their_numbers, moved_hard_links,
        opened_for_writing, written_meanwhile, attributes_change, no_room_above,
        changed_while_moving, opened_by_many, written_for_long, who_only_reads_changes_nothing;
}

/// What stat(2) says and a copy must keep.
fn facts(path: impl AsRef<Path>) -> Result<(u64, u32, u32, i64, sys::Time)> {
    let stat = sys::lstat(path)?;
    let mode = sys::mode(&stat);
    Ok((
        stat.st_ino,
        mode,
        stat.st_uid,
        stat.st_size,
        sys::mtime(&stat),
    ))
}

fn low() -> Tree {
    Tree::new()
        .file("f", "data")
        .mode(0o640)
        .owner(7, 8)
        .xattr("user.a", "b")
        .file("d/e/f", "deep")
        .symlink("link", "f")
        .fifo("fifo")
}

/// Through a read-only mount, and in a read-only union, nothing is copied or moved.
fn who_only_reads_changes_nothing(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    for perm in ["rw+moo", "rw+coo_all", "ro+coo_reg"] {
        let u = cx.union().rw(Tree::new()).on(kind, perm, low()).mount()?;
        let before = names(u.br(0, ""))?;
        let view = cx.mount_point()?;
        rustix::mount::mount_bind(u.root(), &view)?;
        rustix::mount::mount_remount(&view, MountFlags::BIND | MountFlags::RDONLY, c"")?;
        assert_eq!(text(view.join("f"))?, "data");
        dir::list(view.join("d"))?;
        assert_eq!(names(u.br(0, ""))?, before, "{perm}");
        scratch::umount(&view)?;
        remount(&u, &["ro"])?;
        assert_eq!(text(u.at("f"))?, "data");
        assert_eq!(names(u.br(0, ""))?, before, "{perm}");
        remount(&u, &["rw"])?;
        assert_eq!(text(u.at("f"))?, "data");
        assert!(exists(u.br(0, "f")), "{perm}");
        u.umount()?;
    }
    Ok(())
}

fn files_are_copied_when_opened(cx: &Ctx) -> Result<()> {
    for perm in ["ro+coo_reg", "ro+coo_all"] {
        let kind = cx.layout.upper();
        let mut u = cx.union().rw(Tree::new()).on(kind, perm, low()).mount()?;
        let before = facts(u.at("f"))?;
        // Looking is not opening.
        sys::open(u.at("f"), OFlags::PATH)?;
        sys::readlink(u.at("link"))?;
        sys::get_xattr(u.at("f"), "user.a")?;
        dir::list(u.root())?;
        drop(sys::open(u.at("fifo"), OFlags::RDONLY | OFlags::NONBLOCK)?);
        assert_eq!(names(u.br(0, ""))?.len(), 3, "nothing but the bases");

        let fd = sys::open_ro(u.at("f"))?;
        assert_eq!(sys::read_fd(&fd)?, b"data");
        assert_eq!(text(u.br(0, "f"))?, "data");
        assert_eq!(facts(u.at("f"))?, before);
        assert_eq!(sys::get_xattr(u.br(0, "f"), "user.a")?, b"b");
        // Through a link, and with the parents.
        assert_eq!(text(u.at("d/e/f"))?, "deep");
        assert_eq!(text(u.br(0, "d/e/f"))?, "deep");
        assert!(!exists(u.br(0, "link")));
        drop(fd);
        u.again()?;
        assert_eq!(text(u.at("link"))?, "data");
    }
    Ok(())
}

fn directories_are_copied_when_opened(cx: &Ctx) -> Result<()> {
    for (perm, copied) in [("ro+coo_reg", false), ("ro+coo_all", true)] {
        let kind = cx.layout.upper();
        let u = cx.union().rw(Tree::new()).on(kind, perm, low()).mount()?;
        let ino = sys::lstat(u.at("d/e"))?.st_ino;
        assert_eq!(names(u.at("d/e"))?, set(["f"]));
        assert_eq!(exists(u.br(0, "d/e")), copied, "{perm}");
        assert!(!exists(u.br(0, "d/e/f")), "what is in it stays");
        assert_eq!(sys::lstat(u.at("d/e"))?.st_ino, ino);
        assert_eq!(names(u.at("d/e"))?, set(["f"]));
    }
    Ok(())
}

fn nearest_writable_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("d/e"))
        .on(kind, "rw", Tree::new())
        .on(kind, "ro", Tree::new())
        .on(kind, "ro+coo_reg", low())
        .mount()?;
    text(u.at("d/e/f"))?;
    assert!(exists(u.br(1, "d/e/f")) && !exists(u.br(0, "d/e/f")));
    Ok(())
}

fn nothing_above(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "ro+coo_all", low())
        .on(kind, "rw", Tree::new())
        .mount()?;
    assert_eq!(text(u.at("f"))?, "data");
    assert_eq!(names(u.at("d"))?, set(["e"]));
    assert!(!exists(u.br(1, "f")) && !exists(u.br(1, "d")));
    // A writable branch that is the first has nothing above, either.
    let u = cx
        .union()
        .on(kind, "rw+moo", low())
        .on(kind, "ro", Tree::new())
        .mount()?;
    assert_eq!(text(u.at("f"))?, "data");
    assert_eq!(text(u.br(0, "f"))?, "data");
    Ok(())
}

fn the_last_attribute_counts(cx: &Ctx) -> Result<()> {
    for (perm, dirs) in [
        ("rw+coo_all+coo_reg", false),
        ("rw+moo+coo_reg+coo_all", true),
    ] {
        let kind = cx.layout.upper();
        let u = cx
            .union()
            .on(kind, "rw", Tree::new())
            .on(kind, perm, low())
            .mount()?;
        let line = mounts_line(u.root())?[3].clone();
        let shown = if dirs { "=rw+coo_all" } else { "=rw+coo_reg" };
        assert!(line.contains(shown) && !line.contains("moo"), "{line}");
        text(u.at("f"))?;
        assert!(exists(u.br(0, "f")) && exists(u.br(1, "f")), "{perm}");
        names(u.at("d"))?;
        assert_eq!(exists(u.br(0, "d")), dirs, "{perm}");
    }
    Ok(())
}

fn files_are_moved_when_opened(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "rw+moo", low())
        .on(kind, "ro", Tree::new().file("f", "lower"))
        .mount()?;
    let before = facts(u.at("f"))?;
    let dir = sys::mtime(&sys::lstat(u.br(1, "d/e"))?);
    for name in ["f", "d/e/f"] {
        let fd = sys::open_ro(u.at(name))?;
        assert!(exists(u.br(0, name)) && !exists(u.br(1, name)), "{name}");
        assert!(!sys::read_fd(&fd)?.is_empty());
    }
    assert_eq!(facts(u.at("f"))?, before);
    assert_eq!(sys::mtime(&sys::lstat(u.br(1, "d/e"))?), dir);
    names(u.at("d/e"))?;
    assert!(exists(u.br(1, "d/e")), "directories do not move");
    for _ in 0..2 {
        assert_eq!(text(u.at("f"))?, "data");
        assert_eq!(text(u.at("d/e/f"))?, "deep");
        assert_eq!(names(u.at("d/e"))?, set(["f"]));
        u.again()?;
    }
    // What is below stays hidden when the moved file goes.
    sys::unlink(u.at("f"))?;
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    u.again()?;
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    Ok(())
}

/// A moved file keeps its number, also when the branch gives it to a file that is made there.
fn moved_files_keep_their_numbers(cx: &Ctx) -> Result<()> {
    const FILES: usize = 20;
    let kind = cx.layout.upper();
    let mut tree = Tree::new();
    for n in 0..FILES {
        tree = tree.file(&format!("f{n}"), "x");
    }
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "rw+moo", tree)
        .mount()?;
    let mut numbers = Vec::new();
    for n in 0..FILES {
        let path = u.at(&format!("f{n}"));
        numbers.push(sys::lstat(&path)?.st_ino);
        text(&path)?;
    }
    for round in 0..3 {
        // The originals leave the disk with the cache.
        sys::drop_caches();
        let name = |n: usize| format!("new{round}-{n}");
        for n in 0..FILES {
            sys::write(u.br(1, &name(n)), "x")?;
        }
        let mut seen = BTreeSet::new();
        for (n, number) in numbers.iter().enumerate() {
            assert_eq!(sys::lstat(u.at(&format!("f{n}")))?.st_ino, *number);
            assert!(seen.insert(*number));
        }
        for n in 0..FILES {
            let number = sys::lstat(u.at(&name(n)))?.st_ino;
            assert!(seen.insert(number), "number {number} twice");
        }
        for n in 0..FILES {
            sys::unlink(u.at(&name(n)))?;
        }
    }
    Ok(())
}

fn moved_hard_links(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(
            kind,
            "rw+moo",
            Tree::new().file("a", "one").hardlink("b", "a"),
        )
        .mount()?;
    let before = sys::lstat(u.at("a"))?;
    assert_eq!(text(u.at("a"))?, "one");
    assert!(exists(u.br(0, "a")) && !exists(u.br(1, "a")));
    sys::append(u.at("a"), "+")?;
    for name in ["a", "b"] {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!((stat.st_ino, stat.st_nlink), (before.st_ino, 2), "{name}");
        assert_eq!(text(u.at(name))?, "one+", "{name}");
    }
    Ok(())
}

fn opened_for_writing(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let lower = || Tree::new().file("f", "data").file("g", "data");
    for perm in ["ro+coo_reg", "rw+coo_reg", "rw+moo"] {
        let mut u = cx
            .union()
            .on(kind, "rw", Tree::new())
            .on(kind, perm, lower())
            .mount()?;
        sys::append(u.at("f"), "+")?;
        sys::write(u.at("g"), "new")?;
        assert_eq!(text(u.br(0, "f"))?, "data+");
        assert_eq!(text(u.br(0, "g"))?, "new");
        assert_eq!(exists(u.br(1, "f")), perm != "rw+moo", "{perm}");
        if perm != "rw+moo" {
            assert_eq!(text(u.br(1, "f"))?, "data", "{perm}");
        }
        u.again()?;
        assert_eq!(
            (text(u.at("f"))?, text(u.at("g"))?),
            ("data+".into(), "new".into())
        );
    }
    Ok(())
}

/// What somebody is writing on its branch is neither copied nor moved.
fn written_meanwhile(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    for perm in ["rw+coo_reg", "rw+moo"] {
        let u = cx
            .union()
            .on(kind, "rw", Tree::new())
            .on(kind, perm, Tree::new().file("f", "data"))
            .mount()?;
        let writer = sys::open(u.br(1, "f"), OFlags::WRONLY | OFlags::APPEND)?;
        assert_eq!(text(u.at("f"))?, "data");
        assert!(!exists(u.br(0, "f")), "{perm}");
        sys::write_fd(&writer, b"+")?;
        assert_eq!(text(u.at("f"))?, "data+");
        drop(writer);
        assert_eq!(text(u.at("f"))?, "data+");
        assert!(exists(u.br(0, "f")), "{perm}");
    }
    Ok(())
}

/// A reader is served where the file is, if there is no room for the copy.
/// The attribute may come and go with a remount.
fn attributes_change(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "ro", Tree::new().file("a", "a").file("b", "b"))
        .mount()?;
    let low = u.br(1, "").display().to_string();
    text(u.at("a"))?;
    assert!(!exists(u.br(0, "a")));
    remount2(
        u.root(),
        MountFlags::empty(),
        &format!("mod={low}=ro+coo_reg"),
    )?;
    text(u.at("a"))?;
    assert!(exists(u.br(0, "a")));
    remount2(u.root(), MountFlags::empty(), &format!("mod={low}=ro"))?;
    text(u.at("b"))?;
    assert!(!exists(u.br(0, "b")));
    Ok(())
}

fn no_room_above(cx: &Ctx) -> Result<()> {
    let small = Private::tmpfs(&cx.name(), "size=1m")?;
    let kind = cx.layout.upper();
    for perm in ["ro+coo_reg", "rw+moo"] {
        let u = cx
            .union()
            .at(small.path(), "rw")
            .on(kind, perm, Tree::new().file("f", vec![9u8; 3 << 20]))
            .mount()?;
        assert_eq!(sys::read(u.at("f"))?, vec![9u8; 3 << 20]);
        assert_eq!(sys::lstat(u.br(1, "f"))?.st_size, 3 << 20);
        assert!(!exists(u.br(0, "f")));
        assert_eq!(names(u.br(0, ".wh..wh.orph"))?, set([]));
        if perm == "ro+coo_reg" {
            errno(sys::open_rw(u.at("f")), Errno::NOSPC);
        }
        u.umount()?;
    }
    small.umount()
}

/// Changes of attributes and contents go on while files are moved: none is lost.
fn changed_while_moving(cx: &Ctx) -> Result<()> {
    const FILES: usize = 24;
    let kind = cx.layout.upper();
    let data = vec![5u8; 200_000];
    let mut tree = Tree::new();
    for n in 0..FILES {
        tree = tree.file(&format!("f{n}"), &data);
    }
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "rw+moo", tree)
        .mount()?;
    std::thread::scope(|scope| {
        let u = &u;
        scope.spawn(move || {
            for n in 0..FILES {
                sys::read(u.at(&format!("f{n}"))).expect("read");
            }
        });
        scope.spawn(move || {
            for n in (0..FILES).rev() {
                sys::chmod(u.at(&format!("f{n}")), 0o600).expect("chmod");
                sys::append(u.at(&format!("f{n}")), "+").expect("append");
            }
        });
        scope.spawn(move || {
            for n in 0..FILES {
                sys::set_xattr(u.at(&format!("f{n}")), "user.a", "b").expect("setxattr");
            }
        });
    });
    for n in 0..FILES {
        let path = u.at(&format!("f{n}"));
        let stat = sys::lstat(&path)?;
        assert_eq!((sys::mode(&stat), stat.st_size), (0o600, 200_001), "f{n}");
        assert_eq!(sys::get_xattr(&path, "user.a")?, b"b", "f{n}");
        assert!(!exists(u.br(1, &format!("f{n}"))), "f{n} has moved");
    }
    Ok(())
}

fn opened_by_many(cx: &Ctx) -> Result<()> {
    for perm in ["ro+coo_reg", "rw+moo"] {
        let kind = cx.layout.upper();
        let data = vec![5u8; 300_000];
        let mut tree = Tree::new();
        for n in 0..12 {
            tree = tree.file(&format!("d/f{n}"), &data);
        }
        let mut u = cx
            .union()
            .on(kind, "rw", Tree::new())
            .on(kind, perm, tree)
            .mount()?;
        std::thread::scope(|scope| -> Result<()> {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        for n in 0..12 {
                            anyhow::ensure!(sys::read(u.at(&format!("d/f{n}")))? == data);
                        }
                        Ok(())
                    })
                })
                .collect();
            for reader in readers {
                reader.join().expect("no panic")?;
            }
            Ok(())
        })?;
        for n in 0..12 {
            let name = format!("d/f{n}");
            assert!(exists(u.br(0, &name)), "{name}");
            assert_eq!(exists(u.br(1, &name)), perm != "rw+moo", "{name}");
        }
        u.again()?;
        assert_eq!(names(u.at("d"))?.len(), 12);
    }
    Ok(())
}

/// A write that does not end keeps nobody from opening the file: it stays where it is written.
fn written_for_long(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    for perm in ["ro+coo_all", "rw+coo_all", "rw+moo"] {
        let (before, name) = match perm.starts_with("rw") {
            true => ("rw", "low"),
            false => (perm, "up"),
        };
        let u = cx
            .union()
            .on(kind, "rw", Tree::new().file("up", "data"))
            .on(kind, before, Tree::new().file("low", "data"))
            .mount()?;
        let gap = Gap::new(8192, b'A')?;
        let writer = sys::open(u.at(name), OFlags::WRONLY)?;
        remount(&u, &[&opt("mod:", &u.br(1, ""), &format!("={perm}"))])?;
        thread::scope(|scope| -> Result<()> {
            let writer = scope.spawn(|| sys::pwrite_fd(&writer, gap.memory().bytes(), 0));
            gap.wait()?;
            let (say, hear) = mpsc::channel();
            let path = u.at(name);
            scope.spawn(move || say.send(sys::open_ro(path).map(drop)));
            let opened = hear.recv_timeout(Duration::from_secs(20));
            gap.fill(b'B')?;
            writer.join().expect("the writer")?;
            opened.with_context(|| format!("{perm}: open(2) waits for the writer"))??;
            Ok(())
        })?;
        assert!(!exists(u.br(0, "low")), "{perm}");
    }
    Ok(())
}
