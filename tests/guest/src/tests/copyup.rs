// SPDX-License-Identifier: GPL-2.0

//! Copy-up: what moves to the writable branch, what stays, and what happens when it fails.

use std::collections::BTreeMap;

use rustix::fs::SeekFrom;

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
    snapshot::{Scope, Snapshot},
};

cases! {
    WRITABLE: everything_of_a_file, holes_stay_holes, sizes_around_blocks,
        open_readers_see_later_writes;
    WIDE: only_what_is_written, numbers_are_stable;
    BASIC: by_every_trigger, truncation_copies_little, into_a_tree_of_missing_parents,
        from_a_middle_branch, parent_that_the_caller_cannot_write, by_a_member_of_the_group,
        under_a_file_size_limit, symbolic_links_and_nodes, with_many_open_descriptors,
        of_a_running_programs_data, descriptor_for_writing_from_before, after_remount,
        an_empty_file, a_large_file, directories_only_by_attribute;
    ONCE: between_file_systems, into_a_subvolume;
}

fn everything_of_a_file(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "0123456789")
        .mode(0o6751)
        .owner(1234, 5678)
        .mtime(1_333_333_333, 123_456_789)
        .xattr("user.u", "u")
        .xattr("trusted.t", "t");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let before = sys::lstat(u.at("f"))?;
    // The least that copies up: nothing about the file changes.
    sys::chown(u.at("f"), None, None)?;
    let (seen, copy) = (sys::lstat(u.at("f"))?, sys::lstat(u.br(0, "f"))?);
    for stat in [&seen, &copy] {
        assert_eq!(stat.st_mode & 0o777, before.st_mode & 0o777);
        assert_eq!((stat.st_uid, stat.st_gid), (1234, 5678));
        assert_eq!(sys::mtime(stat), (1_333_333_333, 123_456_789));
        assert_eq!(sys::atime(stat), sys::atime(&before));
        assert_eq!((stat.st_size, stat.st_nlink), (10, 1));
    }
    assert_eq!(seen.st_ino, before.st_ino);
    assert_eq!(sys::list_xattr(u.br(0, "f"))?, set(["user.u", "trusted.t"]));
    assert_eq!(text(u.br(0, "f"))?, "0123456789");
    Ok(())
}

fn only_what_is_written(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/a", "a")
        .file("d/b", "b")
        .file("e/c", "c")
        .symlink("l", "d/a");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    // Reading, listing, stat, access: nothing moves.
    assert_eq!(text(u.at("l"))?, "a");
    names(u.at("e"))?;
    sys::access(u.at("d/b"), sys::Access::WRITE_OK)?;
    sys::stat_follow(u.at("l"))?;
    assert_eq!(
        names(u.br(0, ""))?,
        set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph"])
    );
    sys::append(u.at("d/b"), "+")?;
    assert_eq!(names(u.br(0, "d"))?, set(["b"]));
    assert!(!exists(u.br(0, "e")));
    assert_eq!(text(u.br(1, "d/b"))?, "b");
    Ok(())
}

fn by_every_trigger(cx: &Ctx) -> Result<()> {
    type Act = fn(&std::path::Path) -> Result<()>;
    let acts: [(&str, Act); 11] = [
        ("write", |p| Ok(sys::append(p, "+")?)),
        ("truncate", |p| Ok(sys::truncate(p, 3)?)),
        ("open-trunc", |p| Ok(sys::write(p, "new")?)),
        ("chmod", |p| Ok(sys::chmod(p, 0o600)?)),
        ("chown", |p| Ok(sys::chown(p, Some(1), None)?)),
        ("utimens", |p| Ok(sys::utimens(p, (1, 1), (2, 2))?)),
        ("setxattr", |p| Ok(sys::set_xattr(p, "user.a", "b")?)),
        ("link", |p| Ok(sys::link(p, p.with_extension("linked"))?)),
        ("rename", |p| {
            Ok(sys::rename(p, p.with_extension("renamed"))?)
        }),
        ("fallocate", |p| {
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(sys::open_rw(p)?, flags, 0, 100)?)
        }),
        ("mmap", |p| {
            let fd = sys::open_rw(p)?;
            crate::harness::map::Map::shared(&fd, 5)?.bytes_mut()[0] = b'M';
            Ok(())
        }),
    ];
    let low = acts
        .iter()
        .fold(Tree::new(), |t, (name, _)| t.file(name, "12345"));
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for (name, act) in acts {
        act(&u.at(name)).with_context(|| name.to_owned())?;
        let copied = match name {
            "rename" => "rename.renamed",
            "link" => "link.linked",
            _ => name,
        };
        assert!(exists(u.br(0, copied)), "{name} copies up");
        assert_eq!(text(u.br(1, name))?, "12345");
    }
    assert_eq!(text(u.at("mmap"))?, "M2345");
    assert_eq!(text(u.at("truncate"))?, "123");
    assert_eq!(text(u.at("link.linked"))?, "12345");
    Ok(())
}

fn holes_stay_holes(cx: &Ctx) -> Result<()> {
    const MB: u64 = 1 << 20;
    let low = Tree::new()
        .sparse(
            "middle",
            64 * MB,
            &[(0, b"start"), (20 * MB, &[7; 8192]), (64 * MB - 3, b"end")],
        )
        .sparse("all", 64 * MB, &[])
        .sparse("tail", 64 * MB, &[(0, b"only the start")]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for name in ["middle", "all", "tail"] {
        sys::chmod(u.at(name), 0o600)?;
        rustix::fs::sync();
        let copy = sys::lstat(u.br(0, name))?;
        assert_eq!(copy.st_size as u64, 64 * MB, "{name}");
        assert!(
            copy.st_blocks < 1024,
            "{name}: {} blocks on the branch",
            copy.st_blocks
        );
        let hash = |p| -> Result<u64> { Ok(crate::harness::snapshot::hash(sys::open_ro(p)?)?) };
        assert_eq!(hash(u.at(name))?, hash(u.br(1, name))?, "{name}");
    }
    let fd = sys::open_ro(u.br(0, "all"))?;
    errno(sys::seek(&fd, SeekFrom::Data(0)), Errno::NXIO);
    let mut buf = [0u8; 8];
    let fd = sys::open_ro(u.at("middle"))?;
    assert_eq!(rustix::io::pread(&fd, &mut buf[..], 64 * MB - 3)?, 3);
    assert_eq!(&buf[..3], b"end");
    Ok(())
}

fn sizes_around_blocks(cx: &Ctx) -> Result<()> {
    let sizes = [
        1, 511, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 1_000_003,
    ];
    let data = |n: usize| -> Vec<u8> { (0..n).map(|i| (i % 251) as u8 + 1).collect() };
    let low = sizes
        .iter()
        .fold(Tree::new(), |t, n| t.file(&format!("f{n}"), data(*n)));
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for n in sizes {
        let name = format!("f{n}");
        sys::append(u.at(&name), "!")?;
        let mut wanted = data(n);
        wanted.push(b'!');
        assert!(sys::read(u.at(&name))? == wanted, "{n} bytes");
    }
    sys::drop_caches();
    for n in sizes {
        let copy = sys::read(u.br(0, &format!("f{n}")))?;
        assert!(
            copy[..n] == data(n)[..] && copy.len() == n + 1,
            "{n} bytes on the branch"
        );
    }
    Ok(())
}

fn open_readers_see_later_writes(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/f", "0123456789"))
        .mount()?;
    let readers = [sys::open_ro(u.at("d/f"))?, sys::open_ro(u.at("d/f"))?];
    let mut buf = [0u8; 4];
    rustix::io::read(&readers[1], &mut buf[..])?;
    sys::seek(&readers[1], SeekFrom::Start(6))?;
    let writer = sys::open_rw(u.at("d/f"))?;
    sys::pwrite_fd(&writer, b"ABCDEFGHIJKL", 0)?;
    assert_eq!(sys::read_fd(&readers[1])?, b"GHIJKL", "position kept");
    for reader in &readers {
        assert_eq!(sys::pread_fd(reader)?, b"ABCDEFGHIJKL");
        assert_eq!(sys::fstat(reader)?.st_size, 12);
        assert_eq!(sys::fstat(reader)?.st_ino, sys::fstat(&writer)?.st_ino);
    }
    sys::on_fd("ftruncate", rustix::fs::ftruncate(&writer, 2))?;
    assert_eq!(sys::pread_fd(&readers[0])?, b"AB");
    sys::unlink(u.at("d/f"))?;
    sys::pwrite_fd(&writer, b"ZZZ", 0)?;
    assert_eq!(sys::pread_fd(&readers[0])?, b"ZZZ");
    Ok(())
}

fn descriptor_for_writing_from_before(cx: &Ctx) -> Result<()> {
    // Two descriptors for writing, each opened before the other has written.
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "------"))
        .mount()?;
    let (one, two) = (sys::open_rw(u.at("f"))?, sys::open_rw(u.at("f"))?);
    sys::pwrite_fd(&one, b"1", 0)?;
    sys::pwrite_fd(&two, b"2", 1)?;
    sys::pwrite_fd(&one, b"1", 2)?;
    for fd in [&one, &two] {
        assert_eq!(sys::pread_fd(fd)?, b"121---");
    }
    sys::chmod(u.at("f"), 0o600)?;
    sys::pwrite_fd(&two, b"2", 3)?;
    assert_eq!(text(u.at("f"))?, "1212--");
    Ok(())
}

fn numbers_are_stable(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "x").dir("d/e").file("d/g", "x");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let numbers = || -> Result<BTreeMap<&str, u64>> {
        let all = ["f", "d", "d/e", "d/g"];
        all.into_iter()
            .map(|n| Ok((n, sys::lstat(u.at(n))?.st_ino)))
            .collect()
    };
    let before = numbers()?;
    sys::append(u.at("f"), "+")?;
    sys::append(u.at("d/g"), "+")?;
    sys::create(u.at("d/e/new"))?;
    assert_eq!(numbers()?, before);
    sys::drop_caches();
    assert_eq!(numbers()?, before, "after eviction");
    // Numbers of new objects do not collide with them.
    for i in 0..50 {
        let name = format!("n{i}");
        let ino = sys::fstat(sys::create(u.at(&name))?)?.st_ino;
        assert!(
            before.values().all(|old| *old != ino),
            "{name} has a number in use"
        );
    }
    Ok(())
}

fn truncation_copies_little(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", vec![b'x'; 8 << 20])
        .file("g", vec![b'x'; 8 << 20]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::truncate(u.at("f"), 10)?;
    assert_eq!(text(u.at("f"))?, "x".repeat(10));
    sys::write(u.at("g"), "new")?;
    assert_eq!(text(u.br(0, "g"))?, "new");
    for name in ["f", "g"] {
        assert!(sys::lstat(u.br(0, name))?.st_blocks <= 16, "{name}");
        assert_eq!(sys::lstat(u.br(1, name))?.st_size, 8 << 20);
    }
    Ok(())
}

fn into_a_tree_of_missing_parents(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("a")
        .mode(0o711)
        .owner(1, 2)
        .mtime(1, 100)
        .dir("a/b")
        .mode(0o1777)
        .owner(3, 4)
        .mtime(2, 200)
        .dir("a/b/c")
        .mode(0o500)
        .owner(5, 6)
        .mtime(3, 300)
        .file("a/b/c/f", "x")
        .file("a/b/beside", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("a/b/c/f"), "+")?;
    for (name, mode, owner, mtime) in [
        ("a", 0o711, (1, 2), (1, 100)),
        ("a/b", 0o1777, (3, 4), (2, 200)),
        ("a/b/c", 0o500, (5, 6), (3, 300)),
    ] {
        for at in [u.at(name), u.br(0, name)] {
            let stat = sys::lstat(&at)?;
            assert_eq!(sys::mode(&stat), mode, "{name}");
            assert_eq!((stat.st_uid, stat.st_gid), owner, "{name}");
            assert_eq!(sys::mtime(&stat), mtime, "{}", at.display());
        }
    }
    assert_eq!(names(u.br(0, "a/b"))?, set(["c"]));
    assert_eq!(names(u.at("a/b"))?, set(["c", "beside"]));
    Ok(())
}

fn from_a_middle_branch(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "middle"))
        .ro(Tree::new().file("f", "lowest").file("g", "g"))
        .mount()?;
    sys::append(u.at("f"), "+")?;
    assert_eq!(text(u.at("f"))?, "middle+");
    sys::unlink(u.at("f"))?;
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    assert_eq!(names(u.root())?, set(["g"]));
    Ok(())
}

fn parent_that_the_caller_cannot_write(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("d")
        .mode(0o555)
        .file("d/own", "x")
        .owner(1001, 1001)
        .mode(0o600)
        .file("d/open", "x")
        .mode(0o666);
    let u = cx.union().rw(Tree::new().mode(0o755)).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        sys::append(u.at("d/own"), "+")?;
        sys::chmod(u.at("d/own"), 0o640)?;
        sys::append(u.at("d/open"), "+")?;
        errno(sys::create(u.at("d/new")), Errno::ACCESS);
        Ok(())
    })?;
    let own = sys::lstat(u.br(0, "d/own"))?;
    assert_eq!(
        (own.st_uid, own.st_gid, sys::mode(&own)),
        (1001, 1001, 0o640)
    );
    let open = sys::lstat(u.br(0, "d/open"))?;
    assert_eq!(
        (open.st_uid, sys::mode(&open)),
        (0, 0o666),
        "root's stays root's"
    );
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "d"))?), 0o555);
    Ok(())
}

fn by_a_member_of_the_group(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "x").owner(500, 2000).mode(0o2664);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_member(1001, 1001, &[2000], || sys::append(u.at("f"), "+"))?;
    let stat = sys::lstat(u.br(0, "f"))?;
    assert_eq!((stat.st_uid, stat.st_gid), (500, 2000));
    assert_eq!(text(u.at("f"))?, "x+");
    Ok(())
}

fn under_a_file_size_limit(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", vec![b'x'; 1 << 20]))
        .mount()?;
    // The limit is about what the caller writes, not about the copy; otherwise SIGXFSZ.
    let path = u.at("f");
    scratch::run(
        "prlimit",
        &["--fsize=4096", "chmod", "0600", &path.to_string_lossy()],
    )?;
    let stat = sys::lstat(u.br(0, "f"))?;
    assert_eq!((stat.st_size, sys::mode(&stat)), (1 << 20, 0o600));
    Ok(())
}

fn symbolic_links_and_nodes(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .symlink("l", "t")
        .owner(1, 2)
        .xattr("trusted.x", "l")
        .fifo("p")
        .mode(0o642)
        .owner(3, 4)
        .node("c", FileType::CharacterDevice, sys::dev(1, 3))
        .mode(0o600);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for name in ["l", "p", "c"] {
        let before = sys::lstat(u.at(name))?;
        sys::utimens(u.at(name), (9, 9), (8, 8))?;
        let copy = sys::lstat(u.br(0, name))?;
        assert_eq!(
            (copy.st_mode, copy.st_rdev),
            (before.st_mode, before.st_rdev),
            "{name}"
        );
        assert_eq!(
            (copy.st_uid, copy.st_gid),
            (before.st_uid, before.st_gid),
            "{name}"
        );
        assert_eq!(sys::lstat(u.at(name))?.st_ino, before.st_ino, "{name}");
    }
    assert_eq!(sys::get_xattr(u.br(0, "l"), "trusted.x")?, b"l");
    assert_eq!(sys::readlink(u.br(0, "l"))?, "t");
    Ok(())
}

fn with_many_open_descriptors(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "0"))
        .mount()?;
    let readers: Vec<_> = (0..200)
        .map(|_| sys::open_ro(u.at("f")))
        .collect::<Result<_, _>>()?;
    sys::append(u.at("f"), "1")?;
    for reader in &readers {
        assert_eq!(sys::pread_fd(reader)?, b"01");
    }
    Ok(())
}

fn of_a_running_programs_data(cx: &Ctx) -> Result<()> {
    // A private mapping from before the copy-up keeps what it showed.
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", vec![b'a'; 8192]))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let map = crate::harness::map::Map::private(&fd, 8192)?;
    assert_eq!(map.bytes()[5000], b'a');
    sys::write(u.at("f"), vec![b'b'; 8192])?;
    assert_eq!(map.bytes()[5000], b'a', "the lower file has not changed");
    assert_eq!(sys::pread_fd(&fd)?[5000], b'b');
    Ok(())
}

fn after_remount(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "f")
        .file("d/g", "g")
        .symlink("d/l", "f")
        .file("e/x", "x")
        .dir("empty");
    let mut u = cx
        .union()
        .rw(Tree::new().file("top", "t"))
        .ro(low)
        .mount()?;
    sys::append(u.at("d/f"), "+")?;
    sys::chmod(u.at("e/x"), 0o600)?;
    sys::unlink(u.at("d/g"))?;
    sys::set_xattr(u.at("e"), "user.e", "e")?;
    sys::rename(u.at("empty"), u.at("d/empty"))?;
    sys::symlink("new", u.at("d/m"))?;
    let before = Snapshot::of(u.root(), Scope::Visible)?;
    sys::drop_caches();
    assert_eq!(
        before.diff(&Snapshot::of(u.root(), Scope::Visible)?),
        [""; 0]
    );
    u.again()?;
    assert_eq!(
        before.diff(&Snapshot::of(u.root(), Scope::Visible)?),
        [""; 0]
    );
    Ok(())
}

fn an_empty_file(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "").mode(0o604))
        .mount()?;
    let fd = sys::open_rw(u.at("f"))?;
    sys::write_fd(&fd, b"first")?;
    assert_eq!(text(u.br(0, "f"))?, "first");
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "f"))?), 0o604);
    Ok(())
}

fn a_large_file(cx: &Ctx) -> Result<()> {
    let data: Vec<u8> = (0..20u32 << 20)
        .map(|i| (i >> 12) as u8 ^ i as u8)
        .collect();
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", &data))
        .mount()?;
    sys::append(u.at("f"), "end")?;
    let copy = sys::read(u.br(0, "f"))?;
    assert!(copy[..data.len()] == data[..] && copy.ends_with(b"end"));
    Ok(())
}

fn directories_only_by_attribute(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/f", "").file("d/e/g", "").dir("d/h");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::chmod(u.at("d/e"), 0o700)?;
    sys::set_xattr(u.at("d/h"), "user.h", "h")?;
    assert_eq!(names(u.br(0, "d"))?, set(["e", "h"]));
    assert_eq!(
        names(u.br(0, "d/e"))?,
        set([]),
        "the directory alone, not opaque"
    );
    assert_eq!(names(u.at("d/e"))?, set(["g"]));
    Ok(())
}

fn between_file_systems(cx: &Ctx) -> Result<()> {
    let kinds = [Kind::Tmpfs, Kind::Ext4, Kind::Xfs, Kind::Btrfs];
    let low = || {
        Tree::new()
            .file("f", vec![b'x'; 100_000])
            .mode(0o4751)
            .owner(7, 8)
            .xattr("user.a", "b")
            .sparse("s", 10 << 20, &[(5 << 20, b"data")])
    };
    for from in kinds {
        for to in kinds.iter().filter(|to| **to != from) {
            let pair = format!("{} to {}", from.name(), to.name());
            let u = cx
                .union()
                .on(*to, "rw", Tree::new())
                .on(from, "ro", low())
                .mount()?;
            sys::utimens(u.at("s"), (1, 1), (2, 2))?;
            sys::append(u.at("f"), "+")?;
            let stat = sys::lstat(u.br(0, "f"))?;
            assert_eq!((stat.st_uid, stat.st_size), (7, 100_001), "{pair}");
            assert_eq!(sys::mode(&stat), 0o4751, "{pair}");
            assert_eq!(sys::get_xattr(u.br(0, "f"), "user.a")?, b"b", "{pair}");
            rustix::fs::sync();
            assert!(sys::lstat(u.br(0, "s"))?.st_blocks < 512, "{pair}: holes");
        }
    }
    Ok(())
}

/// What is copied cannot get from the root of the branch to its place: it is made there.
fn into_a_subvolume(cx: &Ctx) -> Result<()> {
    let disk = Private::disk(Kind::Btrfs, &cx.name(), 256 << 20)?;
    let sub = disk.path().join("sub");
    scratch::subvolume(&sub)?;
    sys::write(sub.join("own"), "o")?;
    let tree = Tree::new().file("sub/f", "f").file("sub/d/g", "g");
    let low = cx.branch(Kind::Tmpfs, "ro", &tree)?;
    let u = cx.union().at(disk.path(), "rw").at(&low, "ro").mount()?;
    sys::append(u.at("sub/f"), "+")?;
    sys::write(u.at("sub/d/new"), "")?;
    assert_eq!(text(u.at("sub/f"))?, "f+");
    assert_eq!(text(u.at("sub/d/g"))?, "g");
    sys::append(u.at("sub/own"), "+")?;
    sys::write(u.at("sub/new"), "n")?;
    sys::unlink(u.at("sub/f"))?;
    assert_eq!(names(u.at("sub"))?, set(["d", "new", "own"]));
    let left = names(disk.path().join(".wh..wh.orph"))?;
    assert!(left.is_empty(), "{left:?}");
    u.umount()?;
    disk.umount()
}
