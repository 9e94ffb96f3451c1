// SPDX-License-Identifier: GPL-2.0

//! Inode identity: file handles lead to the same object through copy-up, renames and dropped
//! caches, and to nothing when it is gone.

use std::os::fd::OwnedFd;

use crate::harness::{
    handle::{path_of, Handle},
    prelude::*,
};

cases! {
    ALL: lead_to_the_same_object, survive_copy_up, removed_objects_are_stale;
    XATTRS: numbers_are_unique_and_stable;
    WRITABLE: survive_renames, directories, connectable_ones_have_a_path;
    BASIC: write_without_a_name, open_files_that_were_removed, hard_links, hidden_objects,
        of_another_mount, nonsense_is_refused, unnamed_files, many_at_once;
}

const PATH: OFlags = OFlags::PATH;

fn mount_fd(u: &Union) -> Result<OwnedFd> {
    Ok(dir::open_dir(u.at(""))?)
}

/// Drops what is cached; opens `handle`; asserts that it is the object `ino`.
#[track_caller]
fn found(u: &Union, handle: &Handle, flags: OFlags, ino: u64) -> Result<OwnedFd> {
    sys::drop_caches();
    let fd = handle.open(mount_fd(u)?, flags)?;
    assert_eq!(sys::fstat(&fd)?.st_ino, ino);
    Ok(fd)
}

fn lead_to_the_same_object(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/e/f", "low")
        .file("low", "x")
        .symlink("link", "low")
        .fifo("d/pipe");
    let u = cx
        .union()
        .rw(Tree::new().file("d/top", "top").file("new/g", "g"))
        .ro(low)
        .ro(Tree::new()
            .file("d/e/lowest", "lowest")
            .file("d/only/x", ""))
        .mount()?;
    let objects = [
        "",
        "d",
        "d/e",
        "d/e/f",
        "low",
        "link",
        "d/pipe",
        "d/top",
        "new",
        "new/g",
        "d/e/lowest",
        "d/only",
    ];
    let mut known = Vec::new();
    for name in objects {
        let stat = sys::lstat(u.at(name))?;
        known.push((name, Handle::of(u.at(name))?, stat.st_ino, stat.st_mode));
    }
    for (name, handle, ino, mode) in &known {
        let cached = handle
            .open(mount_fd(&u)?, PATH)
            .with_context(|| format!("{name} in the cache"))?;
        assert_eq!(sys::fstat(&cached)?.st_ino, *ino, "{name} in the cache");
        drop(cached);
        let fd = found(&u, handle, PATH, *ino).with_context(|| name.to_string())?;
        assert_eq!(sys::fstat(&fd)?.st_mode, *mode, "{name}");
        drop(fd);
        assert_eq!(*handle, Handle::of(u.at(name))?, "{name}: the same again");
    }
    for (name, text) in [("d/e/f", "low"), ("d/top", "top"), ("d/e/lowest", "lowest")] {
        let (_, handle, ino, _) = known.iter().find(|k| k.0 == name).expect("known");
        let fd = found(&u, handle, OFlags::RDONLY, *ino)?;
        assert_eq!(sys::read_fd(&fd)?, text.as_bytes());
    }
    let other: std::collections::BTreeSet<_> = known.iter().map(|k| k.1.bytes()).collect();
    assert_eq!(other.len(), known.len(), "each object has its own");
    assert!(!exists(u.br(0, "d/e")), "nothing was copied up");
    Ok(())
}

fn survive_copy_up(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "old")
        .file("d/g", "g")
        .file("h", "h");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("d/f"))?.st_ino;
    let dir_ino = sys::lstat(u.at("d"))?.st_ino;
    let (file, dir) = (Handle::of(u.at("d/f"))?, Handle::of(u.at("d"))?);
    sys::append(u.at("d/f"), " and new")?;
    assert!(exists(u.br(0, "d/f")));
    let fd = file.open(mount_fd(&u)?, OFlags::RDONLY)?;
    assert_eq!(sys::read_fd(&fd)?, b"old and new", "in the cache");
    drop(fd);
    for _ in 0..2 {
        let fd = found(&u, &file, OFlags::RDONLY, ino)?;
        assert_eq!(sys::read_fd(&fd)?, b"old and new");
        drop(fd);
        let fd = found(&u, &dir, OFlags::RDONLY, dir_ino)?;
        assert_eq!(names(path_of(&fd)?)?, set(["f", "g"]));
        drop(fd);
        sys::drop_caches();
        assert_eq!(file, Handle::of(u.at("d/f"))?, "the same as before");
        assert_eq!(dir, Handle::of(u.at("d"))?, "the same as before");
    }
    // Of a file whose origin nobody has seen since it was copied up.
    sys::append(u.at("h"), "h")?;
    let before = Handle::of(u.at("h"))?;
    sys::drop_caches();
    assert_eq!(before, Handle::of(u.at("h"))?);
    Ok(())
}

fn survive_renames(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("a/f", "f").file("a/k", "k").dir("b");
    let u = cx
        .union()
        .rw(Tree::new().file("a/t", "t").dir("b"))
        .ro(low)
        .mount()?;
    for name in ["f", "t"] {
        let from = format!("a/{name}");
        let ino = sys::lstat(u.at(&from))?.st_ino;
        let handle = Handle::of(u.at(&from))?;
        for to in ["b/once", "b/twice", "thrice"] {
            let from = match to {
                "b/once" => from.as_str(),
                "b/twice" => "b/once",
                _ => "b/twice",
            };
            sys::rename(u.at(from), u.at(to))?;
            let fd = found(&u, &handle, OFlags::RDONLY, ino).with_context(|| to.to_string())?;
            assert_eq!(sys::read_fd(&fd)?, name.as_bytes());
            drop(fd);
            assert_eq!(handle, Handle::of(u.at(to))?);
        }
        sys::unlink(u.at("thrice"))?;
        sys::drop_caches();
        handle.assert_stale(mount_fd(&u)?);
    }
    Ok(())
}

fn removed_objects_are_stale(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "")
        .file("again", "1")
        .dir("empty")
        .symlink("l", "x");
    let u = cx
        .union()
        .rw(Tree::new().file("t", "").dir("td"))
        .ro(low)
        .mount()?;
    let root = mount_fd(&u)?;
    for name in ["f", "again", "empty", "l", "t", "td"] {
        let handle = Handle::of(u.at(name))?;
        match name {
            "empty" | "td" => sys::rmdir(u.at(name))?,
            _ => sys::unlink(u.at(name))?,
        }
        handle.assert_stale(&root);
        sys::drop_caches();
        handle.assert_stale(&root);
        if name == "again" {
            sys::write(u.at(name), "2")?;
            handle.assert_stale(&root);
            sys::drop_caches();
            handle.assert_stale(&root);
        }
    }
    Ok(())
}

fn directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("p/top").dir("other"))
        .ro(Tree::new().file("p/low/a/f", "f"))
        .mount()?;
    let deep = Handle::of(u.at("p/low/a"))?;
    let ino = sys::lstat(u.at("p/low/a"))?.st_ino;
    let fd = found(&u, &deep, OFlags::RDONLY, ino)?;
    assert_eq!(path_of(&fd)?, u.at("p/low/a").to_string_lossy());
    // Everything works below it.
    sys::write(format!("{}/new", path_of(&fd)?), "n")?;
    drop(fd);
    let fd = found(&u, &deep, OFlags::RDONLY, ino)?;
    assert_eq!(names(path_of(&fd)?)?, set(["f", "new"]));
    drop(fd);

    let top = Handle::of(u.at("p/top"))?;
    let ino = sys::lstat(u.at("p/top"))?.st_ino;
    sys::rename(u.at("p/top"), u.at("other/moved"))?;
    let fd = found(&u, &top, OFlags::RDONLY, ino)?;
    assert_eq!(path_of(&fd)?, u.at("other/moved").to_string_lossy());
    assert_eq!(top, Handle::of(u.at("other/moved"))?);
    Ok(())
}

fn connectable_ones_have_a_path(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/t", "t").dir("e"))
        .ro(Tree::new()
            .file("d/l", "l")
            .file("d/h", "h")
            .hardlink("d/i", "d/h"))
        .mount()?;
    for name in ["d/t", "d/l", "d", "d/h"] {
        let handle = Handle::connectable(u.at(name))?;
        sys::drop_caches();
        let fd = handle.open(mount_fd(&u)?, OFlags::RDONLY)?;
        let path = path_of(&fd)?;
        let known = [u.at(name), u.at("d/i")].map(|p| p.to_string_lossy().into_owned());
        assert!(
            path == known[0] || (name == "d/h" && path == known[1]),
            "{path}"
        );
    }
    let handle = Handle::connectable(u.at("d/t"))?;
    sys::rename(u.at("d/t"), u.at("e/t"))?;
    sys::drop_caches();
    // The directory in it is not the right one any more: it may be refused, as elsewhere.
    match handle.open(mount_fd(&u)?, OFlags::RDONLY) {
        Ok(fd) => assert_eq!(path_of(&fd)?, u.at("e/t").to_string_lossy()),
        error => errno(error, Errno::STALE),
    }
    Ok(())
}

fn write_without_a_name(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/f", "low").file("d/g", "g");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let (ino, other) = (
        sys::lstat(u.at("d/f"))?.st_ino,
        sys::lstat(u.at("d/g"))?.st_ino,
    );
    let (handle, again) = (Handle::of(u.at("d/f"))?, Handle::of(u.at("d/g"))?);
    // Opened for reading, written by another descriptor, changed by attribute.
    let reader = found(&u, &handle, OFlags::RDONLY, ino)?;
    let writer = handle.open(mount_fd(&u)?, OFlags::RDWR)?;
    sys::write_fd(&writer, b"new")?;
    assert_eq!(sys::pread_fd(&reader)?, b"new");
    assert_eq!(text(u.at("d/f"))?, "new");
    assert_eq!(text(u.br(0, "d/f"))?, "new", "under its name");
    drop((reader, writer));

    let fd = found(&u, &again, OFlags::RDONLY, other)?;
    sys::on_fd(
        "fchmod",
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o600)),
    )?;
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "d/g"))?), 0o600);
    Ok(())
}

fn open_files_that_were_removed(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", "t"))
        .ro(Tree::new().file("l", "l"))
        .mount()?;
    let root = mount_fd(&u)?;
    for name in ["t", "l"] {
        let handle = Handle::of(u.at(name))?;
        let fd = sys::open_rw(u.at(name))?;
        sys::unlink(u.at(name))?;
        let again = handle.open(&root, OFlags::RDONLY)?;
        assert_eq!(sys::read_fd(&again)?, name.as_bytes());
        drop((fd, again));
        handle.assert_stale(&root);
    }
    Ok(())
}

fn hard_links(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a/one", "x")
        .hardlink("b/two", "a/one")
        .file("g", "g")
        .hardlink("h", "g");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("a/one"))?.st_ino;
    let handle = Handle::of(u.at("a/one"))?;
    assert_eq!(handle, Handle::of(u.at("b/two"))?, "one object, one handle");
    let fd = found(&u, &handle, OFlags::RDWR, ino)?;
    sys::write_fd(&fd, b"written")?;
    drop(fd);
    for name in ["a/one", "b/two"] {
        assert_eq!(text(u.at(name))?, "written");
        assert_eq!(sys::lstat(u.at(name))?.st_ino, ino);
        assert_eq!(handle, Handle::of(u.at(name))?);
    }
    sys::unlink(u.at("a/one"))?;
    let fd = found(&u, &handle, OFlags::RDONLY, ino)?;
    assert_eq!(sys::read_fd(&fd)?, b"written");
    drop(fd);

    let handle = Handle::of(u.at("g"))?;
    sys::unlink(u.at("g"))?;
    sys::drop_caches();
    drop(handle.open(mount_fd(&u)?, PATH)?);
    sys::unlink(u.at("h"))?;
    handle.assert_stale(mount_fd(&u)?);
    sys::drop_caches();
    handle.assert_stale(mount_fd(&u)?);
    Ok(())
}

fn hidden_objects(cx: &Ctx) -> Result<()> {
    // Handles that the union gave for a file and a directory which a later union hides.
    let lower = cx.branch(
        cx.layout.upper(),
        "ro",
        &Tree::new()
            .file("f", "hidden")
            .file("d/x", "hidden")
            .file("seen", ""),
    )?;
    let top = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let first = cx.union().at(&top, "rw").at(&lower, "ro").mount()?;
    let handles = ["f", "d", "d/x", "seen"].map(|name| Handle::of(first.at(name)));
    let [file, dir, below, seen] = handles.map(|h| h.expect("a handle"));
    sys::unlink(first.at("f"))?;
    sys::unlink(first.at("d/x"))?;
    sys::rmdir(first.at("d"))?;
    first.umount()?;
    let second = cx.union().at(&top, "rw").at(&lower, "ro").mount()?;
    let root = mount_fd(&second)?;
    for handle in [&file, &dir, &below] {
        handle.assert_stale(&root);
    }
    drop(seen.open(&root, PATH)?);
    Ok(())
}

fn of_another_mount(cx: &Ctx) -> Result<()> {
    let top = cx.branch(cx.layout.upper(), "rw", &Tree::new().file("t", "t"))?;
    let low = cx.branch(cx.layout.upper(), "ro", &Tree::new().file("d/l", "l"))?;
    let last = cx.branch(cx.layout.upper(), "ro", &Tree::new().file("z", "z"))?;
    let first = cx
        .union()
        .at(&top, "rw")
        .at(&low, "ro")
        .at(&last, "ro")
        .mount()?;
    let handles = ["t", "d", "d/l", "z"].map(|name| (name, Handle::of(first.at(name))));
    first.umount()?;
    // In another order, with other identities.
    let second = cx
        .union()
        .at(&top, "rw")
        .at(&last, "ro")
        .at(&low, "ro")
        .mount()?;
    let root = mount_fd(&second)?;
    for (name, handle) in handles {
        let fd = handle?.open(&root, PATH)?;
        assert_eq!(sys::fstat(&fd)?.st_ino, sys::lstat(second.at(name))?.st_ino);
    }
    let third = cx.union().at(&last, "ro").ro(Tree::new()).mount()?;
    Handle::of(second.at("t"))?.assert_stale(mount_fd(&third)?);
    Ok(())
}

fn nonsense_is_refused(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "x")
        .hardlink("d/g", "d/f")
        .file("one", "");
    let u = cx.union().rw(Tree::new().file("t", "")).ro(low).mount()?;
    let root = mount_fd(&u)?;
    let mut x: u64 = 88_172_645_463_325_252;
    let mut random = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    for name in ["d", "d/f", "one", "t"] {
        let good = Handle::of(u.at(name))?;
        for _ in 0..300 {
            let mut bytes = good.bytes().to_vec();
            for _ in 0..=random() % 3 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(bytes.len() - 4 * (random() as usize % 3).min(bytes.len() / 4));
            let kind = match random() % 4 {
                0 => random() as i32 & 0xff,
                _ => good.kind(),
            };
            // It leads somewhere or nowhere; the kernel survives it.
            if let Err(error) = Handle::forged(kind, &bytes).open(&root, PATH) {
                let known = [Errno::STALE, Errno::INVAL, Errno::OVERFLOW];
                assert!(known.contains(&error.errno), "{error}");
            }
        }
    }
    Handle::forged(1, &[0; 8]).assert_stale(&root);
    errno(Handle::forged(99, &[]).open(&root, PATH), Errno::INVAL);
    Ok(())
}

fn unnamed_files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d"))
        .ro(Tree::new())
        .mount()?;
    let fd = sys::open(u.at("d"), OFlags::TMPFILE | OFlags::RDWR)?;
    sys::write_fd(&fd, b"x")?;
    sys::link_fd(&fd, u.at("d/named"))?;
    let handle = Handle::of(u.at("d/named"))?;
    let ino = sys::fstat(&fd)?.st_ino;
    drop(fd);
    let fd = found(&u, &handle, OFlags::RDONLY, ino)?;
    assert_eq!(sys::read_fd(&fd)?, b"x");
    Ok(())
}

fn many_at_once(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("d/f", 40))
        .mount()?;
    let handles: Vec<_> = (0..40)
        .map(|i| Handle::of(u.at(&format!("d/f{i}"))))
        .collect::<Result<_, _>>()?;
    let numbers: Vec<_> = (0..40)
        .map(|i| sys::lstat(u.at(&format!("d/f{i}"))).map(|s| s.st_ino))
        .collect::<Result<_, _>>()?;
    let root = mount_fd(&u)?;
    std::thread::scope(|scope| {
        let resolve = || {
            for round in 0..5 {
                for (handle, number) in handles.iter().zip(&numbers) {
                    let fd = handle.open(&root, OFlags::RDONLY).expect("it is there");
                    let ino = sys::fstat(&fd).expect("fstat").st_ino;
                    assert_eq!(ino, *number, "in round {round}");
                }
                sys::drop_caches();
            }
        };
        scope.spawn(resolve);
        scope.spawn(resolve);
        scope.spawn(|| {
            for i in 0..40 {
                sys::append(u.at(&format!("d/f{i}")), "more").expect("append");
            }
        });
    });
    Ok(())
}

/// Not on iso9660, whose own listings show other numbers of some files than stat(2).
fn numbers_are_unique_and_stable(cx: &Ctx) -> Result<()> {
    use std::collections::BTreeMap;
    let u = cx
        .union()
        .rw(Tree::new().files("t", 10).dir("d/top"))
        .ro(Tree::new().files("d/l", 10).file("d/sub/x", ""))
        .ro(Tree::new().files("d/m", 10).file("e/y", ""))
        .mount()?;
    fn number(u: &Union, name: &str) -> Result<u64> {
        let stat = sys::lstat(u.at(name))?;
        assert_eq!(
            stat.st_dev,
            sys::lstat(u.at(""))?.st_dev,
            "{name}: one device"
        );
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        let entries = dir::list(u.at(dir))?;
        let entry = entries.iter().find(|e| e.name == base).expect("listed");
        assert_eq!(entry.ino, stat.st_ino, "{name}: d_ino is st_ino");
        Ok(stat.st_ino)
    }
    let mut known = BTreeMap::new();
    let mut names: Vec<String> = ["d", "d/top", "d/sub", "d/sub/x", "e", "e/y"]
        .map(str::to_owned)
        .to_vec();
    for i in 0..10 {
        names.extend([format!("t{i}"), format!("d/l{i}"), format!("d/m{i}")]);
    }
    for name in &names {
        assert_eq!(
            known.insert(number(&u, name)?, name.clone()),
            None,
            "unique"
        );
    }
    // Copied up, moved, forgotten: all by turns.
    let mut step = 0;
    for name in known.values_mut() {
        step += 1;
        if name.contains("/l") || name.contains("/m") {
            match step % 3 {
                0 => sys::chmod(u.at(name), 0o600)?,
                1 => sys::append(u.at(name), "x")?,
                _ => {
                    let to = format!("e/moved{step}");
                    sys::rename(u.at(name), u.at(&to))?;
                    *name = to;
                }
            }
        }
        if step % 7 == 0 {
            sys::drop_caches();
        }
    }
    sys::chmod(u.at("d/sub"), 0o700)?;
    for _ in 0..2 {
        sys::drop_caches();
        for (ino, name) in &known {
            assert_eq!(number(&u, name)?, *ino, "{name}");
        }
    }
    // New objects take no number of another one.
    for i in 0..20 {
        sys::write(u.at(&format!("new{i}")), "")?;
        assert!(!known.contains_key(&number(&u, &format!("new{i}"))?));
    }
    Ok(())
}
