// SPDX-License-Identifier: GPL-2.0

//! Look-up: which object a name means, and what it looks like.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::SeekFrom;

use crate::harness::prelude::*;

cases! {
    ALL: top_wins, directories_merge, attributes_are_the_branchs, symlinks, root_inode_is_two,
        numbers_are_unique_and_stable, special_files_keep_their_kind;
    WIDE: type_mixing_steps_over_files, a_file_hides_lower_directories,
        a_directory_hides_lower_files;
    BASIC: many_branches, two_branches_of_one_file_system, reserved_names_are_refused,
        name_limit, negative_names_become_positive, deep_paths, paths_through_descriptors,
        lower_of_a_nested_union, link_counts_of_directories, statx_tells_birth_and_mount;
    WRITABLE: link_counts_are_not_too_small;
}

fn top_wins(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("f", "top").file("only-top", "t"))
        .ro(Tree::new().file("f", "middle").file("g", "middle"))
        .ro(Tree::new()
            .file("f", "low")
            .file("g", "low")
            .file("h", "low"))
        .mount()?;
    assert_eq!(text(u.at("f"))?, "top");
    assert_eq!(text(u.at("g"))?, "middle");
    assert_eq!(text(u.at("h"))?, "low");
    assert_eq!(text(u.at("only-top"))?, "t");
    errno(sys::lstat(u.at("absent")), Errno::NOENT);
    errno(sys::lstat(u.at("absent/below")), Errno::NOENT);
    errno(sys::lstat(u.at("f/below")), Errno::NOTDIR);
    Ok(())
}

fn directories_merge(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/top", "1").file("d/e/x", "top"))
        .ro(Tree::new().file("d/middle", "2").file("d/e/x", "middle"))
        .ro(Tree::new().file("d/low", "3").file("d/e/y", "low"))
        .mount()?;
    assert_eq!(names(u.at("d"))?, set(["top", "middle", "low", "e"]));
    assert_eq!(names(u.at("d/e"))?, set(["x", "y"]));
    assert_eq!(text(u.at("d/e/x"))?, "top");
    assert_eq!(text(u.at("d/e/y"))?, "low");
    Ok(())
}

/// Programs take a count below 2 plus the number of sub-directories for none; 1 says that the file
/// system does not count, as btrfs.
fn link_counts_are_not_too_small(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d/e"))
        .ro(Tree::new().dir("d/e").dir("d/f").dir("below"))
        .mount()?;
    for (dir, count) in [("", 2), ("d", 2), ("d/e", 0), ("below", 0)] {
        let links = sys::lstat(u.at(dir))?.st_nlink;
        assert!(links == 1 || links >= 2 + count, "{dir:?}: {links} links");
        assert_eq!(
            links == 1,
            cx.layout == Layout::Btrfs,
            "{dir:?}: {links} links"
        );
    }
    Ok(())
}

fn type_mixing_steps_over_files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("x/a", "0"))
        .ro(Tree::new().file("x", "a file in between"))
        .ro(Tree::new().file("x/b", "2"))
        .ro(Tree::new().symlink("x", "nowhere"))
        .ro(Tree::new().file("x/c", "4"))
        .mount()?;
    assert_eq!(names(u.at("x"))?, set(["a", "b", "c"]));
    assert_eq!(text(u.at("x/b"))?, "2");
    assert_eq!(text(u.at("x/c"))?, "4");
    Ok(())
}

fn a_file_hides_lower_directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().symlink("l", "x"))
        .ro(Tree::new().file("x", "file"))
        .ro(Tree::new().file("x/inside", "").file("l/inside", ""))
        .mount()?;
    assert_eq!(text(u.at("x"))?, "file");
    errno(sys::lstat(u.at("x/inside")), Errno::NOTDIR);
    assert_eq!(sys::readlink(u.at("l"))?, "x");
    assert_eq!(text(u.at("l"))?, "file");
    Ok(())
}

fn a_directory_hides_lower_files(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("x"))
        .ro(Tree::new().file("x", "hidden"))
        .mount()?;
    assert_eq!(names(u.at("x"))?, set([]));
    errno(sys::open_rw(u.at("x")), Errno::ISDIR);
    Ok(())
}

fn attributes_are_the_branchs(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "twelve bytes")
        .mode(0o4751)
        .owner(1234, 5678)
        .mtime(1_111_111_111, 987_654_321)
        .dir("d")
        .mode(0o2750)
        .owner(3, 4)
        .symlink("l", "a/b/c")
        .owner(5, 6)
        .sparse("big", (4 << 20) + 5, &[(1 << 20, b"data")]);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    rustix::fs::sync(); // Delayed allocation would change st_blocks in between.
    for name in ["f", "d", "l", "big"] {
        let (ours, theirs) = (sys::lstat(u.at(name))?, sys::lstat(u.br(1, name))?);
        assert_eq!(ours.st_mode, theirs.st_mode, "mode of {name}");
        assert_eq!(ours.st_uid, theirs.st_uid, "uid of {name}");
        assert_eq!(ours.st_gid, theirs.st_gid, "gid of {name}");
        assert_eq!(sys::mtime(&ours), sys::mtime(&theirs), "mtime of {name}");
        assert_eq!(sys::ctime(&ours), sys::ctime(&theirs), "ctime of {name}");
        assert_eq!(sys::atime(&ours), sys::atime(&theirs), "atime of {name}");
        if name != "d" {
            assert_eq!(ours.st_size, theirs.st_size, "size of {name}");
            assert_eq!(ours.st_nlink, theirs.st_nlink, "links of {name}");
            assert_eq!(ours.st_blocks, theirs.st_blocks, "blocks of {name}");
        }
        let root = sys::lstat(u.root())?;
        assert_eq!(ours.st_dev, root.st_dev, "one device number for {name}");
        assert_ne!(ours.st_dev, theirs.st_dev, "a device number of our own");
    }
    let by_fd = sys::fstat(sys::open_ro(u.at("f"))?)?;
    let by_name = sys::lstat(u.at("f"))?;
    assert_eq!(by_fd.st_ino, by_name.st_ino);
    assert_eq!(by_fd.st_dev, by_name.st_dev);
    assert_eq!(by_fd.st_mode, by_name.st_mode);
    Ok(())
}

fn symlinks(cx: &Ctx) -> Result<()> {
    let long = ["x"; 50].join("/"); // genisoimage fails with much more.
    let low = Tree::new()
        .file("d/f", "through")
        .symlink("relative", "d/f")
        .symlink("dir", "d")
        .symlink("dangling", "no/where")
        .symlink("loop", "loop")
        .symlink("long", &long);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    assert_eq!(sys::readlink(u.at("relative"))?, "d/f");
    assert_eq!(text(u.at("relative"))?, "through");
    assert_eq!(text(u.at("dir/f"))?, "through");
    assert_eq!(sys::readlink(u.at("dangling"))?, "no/where");
    errno(sys::open_ro(u.at("dangling")), Errno::NOENT);
    errno(sys::open_ro(u.at("loop")), Errno::LOOP);
    let nofollow = OFlags::NOFOLLOW;
    errno(sys::open(u.at("relative"), nofollow), Errno::LOOP);
    errno(sys::readlink(u.at("d/f")), Errno::INVAL);
    assert_eq!(sys::readlink(u.at("long"))?, long);
    assert_eq!(sys::lstat(u.at("long"))?.st_size, 99);
    Ok(())
}

fn root_inode_is_two(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().mode(0o711).owner(7, 8))
        .ro(Tree::new().mode(0o755))
        .mount()?;
    let root = sys::lstat(u.root())?;
    assert_eq!(root.st_ino, 2);
    assert_eq!(sys::mode(&root), 0o711, "the root looks as branch 0");
    assert_eq!((root.st_uid, root.st_gid), (7, 8));
    assert_eq!(sys::mtime(&root), sys::mtime(&sys::lstat(u.br(0, ""))?));
    Ok(())
}

fn numbers_are_unique_and_stable(cx: &Ctx) -> Result<()> {
    // The same tree three times: on squashfs and fresh file systems the numbers collide.
    let tree = |p: &str| {
        Tree::new()
            .file(&format!("{p}/a"), "")
            .file(&format!("{p}/b"), "")
            .file(&format!("{p}/c/d"), "")
    };
    let u = cx
        .union()
        .rw(tree("0"))
        .ro(tree("1"))
        .ro(tree("2"))
        .mount()?;
    let all = |u: &Union| -> Result<BTreeMap<String, u64>> {
        let mut found = BTreeMap::new();
        for p in ["0", "1", "2"] {
            for name in ["", "/a", "/b", "/c", "/c/d"] {
                let path = format!("{p}{name}");
                let ino = sys::lstat(u.at(&path))?.st_ino;
                found.insert(path, ino);
            }
        }
        Ok(found)
    };
    let first = all(&u)?;
    let distinct: BTreeSet<_> = first.values().collect();
    assert_eq!(
        distinct.len(),
        first.len(),
        "a number is used twice: {first:?}"
    );
    assert!(first.values().all(|i| *i > 2), "0, 1 and 2 are special");
    sys::drop_caches();
    assert_eq!(first, all(&u)?, "numbers after eviction");
    Ok(())
}

fn special_files_keep_their_kind(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .fifo("fifo")
        .node("null", FileType::CharacterDevice, sys::dev(1, 3))
        .node("loop9", FileType::BlockDevice, sys::dev(7, 9))
        .node("socket", FileType::Socket, 0);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let kind = |name: &str| -> Result<(FileType, u64)> {
        let stat = sys::lstat(u.at(name))?;
        Ok((sys::kind(&stat), stat.st_rdev))
    };
    assert_eq!(kind("fifo")?.0, FileType::Fifo);
    assert_eq!(kind("null")?, (FileType::CharacterDevice, sys::dev(1, 3)));
    assert_eq!(kind("loop9")?, (FileType::BlockDevice, sys::dev(7, 9)));
    assert_eq!(kind("socket")?.0, FileType::Socket);
    let null = sys::open_rw(u.at("null"))?;
    sys::write_fd(&null, b"swallowed")?;
    assert_eq!(sys::read_fd(&null)?, b"", "it is /dev/null");
    errno(sys::open_rw(u.at("socket")), Errno::NXIO);
    Ok(())
}

fn many_branches(cx: &Ctx) -> Result<()> {
    // Container drivers stop at 127 or 128.
    const N: usize = 160;
    let mut builder = cx
        .union()
        .rw(Tree::new().file("own0", "0").file("d/own0", ""));
    for i in 1..N {
        let low = Tree::new()
            .file(&format!("own{i}"), i.to_string())
            .file(&format!("d/own{i}"), "")
            .file("same", i.to_string())
            .file(&format!("half{}", i / 2), i.to_string());
        builder = builder.on(cx.layout.upper(), ["ro", "ro+wh"][i % 2], low);
    }
    let u = builder.mount()?;
    for i in 1..N {
        assert_eq!(text(u.at(&format!("own{i}")))?, i.to_string());
    }
    assert_eq!(text(u.at("same"))?, "1");
    assert_eq!(text(u.at("half30"))?, "60");
    assert_eq!(names(u.at("d"))?.len(), N);
    errno(sys::lstat(u.at("nowhere")), Errno::NOENT);
    // A change of the lowest file reaches the top.
    sys::append(u.at("own159"), "!")?;
    assert_eq!(text(u.br(0, "own159"))?, "159!");
    sys::unlink(u.at("d/own159"))?;
    assert_eq!(names(u.at("d"))?.len(), N - 1);
    assert!(exists(u.br(0, "d/.wh.own159")));
    Ok(())
}

fn two_branches_of_one_file_system(cx: &Ctx) -> Result<()> {
    // Sibling directories of one tree, also with a name that is a prefix of the other's.
    let parent = cx.dir(cx.layout.upper())?;
    Tree::new()
        .file("a/f", "a")
        .file("ab/f", "ab")
        .file("ab/g", "g")
        .build(&parent)?;
    let u = cx
        .union()
        .at(&parent.join("a"), "rw")
        .at(&parent.join("ab"), "ro")
        .mount()?;
    assert_eq!(text(u.at("f"))?, "a");
    assert_eq!(text(u.at("g"))?, "g");
    Ok(())
}

fn reserved_names_are_refused(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .file("f", "")
            .dir("d")
            .file("here", "")
            .whiteout("gone"))
        .ro(Tree::new().file("gone", ""))
        .mount()?;
    for name in [
        ".wh.new",
        ".wh.gone",
        ".wh.",
        ".wh..",
        ".wh..wh.aufs",
        ".wh..wh..opq",
        ".wh..wh.plnk",
        "d/.wh.new",
        "d/.wh..wh..opq",
    ] {
        let (p, f) = (u.at(name), u.at("f"));
        let node = |kind| sys::mknod(&p, kind, 0o600, sys::dev(1, 3));
        errno(sys::lstat(&p), Errno::PERM);
        errno(sys::open_ro(&p), Errno::PERM);
        errno(sys::create(&p), Errno::PERM);
        errno(sys::mkdir(&p), Errno::PERM);
        errno(node(FileType::Fifo), Errno::PERM);
        errno(node(FileType::CharacterDevice), Errno::PERM);
        errno(sys::symlink("x", &p), Errno::PERM);
        errno(sys::link(&f, &p), Errno::PERM);
        errno(sys::rename(&f, &p), Errno::PERM);
        errno(sys::rename(&p, &f), Errno::PERM);
        errno(sys::unlink(&p), Errno::PERM);
        errno(sys::rmdir(&p), Errno::PERM);
        errno(sys::readlink(&p), Errno::PERM);
        errno(sys::chmod(&p, 0o777), Errno::PERM);
    }
    // Names that only resemble reserved ones are free.
    for name in [".wh", ".whx", "wh.", ".w", "a.wh.b"] {
        sys::write(u.at(name), name)?;
        assert_eq!(text(u.br(0, name))?, name);
    }
    assert_eq!(text(u.at("here"))?, "", "nothing was removed on the way");
    Ok(())
}

fn name_limit(cx: &Ctx) -> Result<()> {
    let (longest, too_long) = ("n".repeat(242), "n".repeat(243));
    let low = Tree::new().file(&format!("d/{longest}"), "long");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let p = u.at(&format!("d/{longest}"));
    assert_eq!(text(&p)?, "long");
    sys::append(&p, "er")?;
    sys::unlink(&p)?;
    assert!(exists(u.br(0, &format!("d/.wh.{longest}"))));
    sys::mkdir(&p)?;
    sys::rename(&p, u.at(&"m".repeat(242)))?;
    for name in [too_long.as_str(), &"n".repeat(255)] {
        let p = u.at(name);
        errno(sys::lstat(&p), Errno::NAMETOOLONG);
        errno(sys::create(&p), Errno::NAMETOOLONG);
        errno(sys::mkdir(&p), Errno::NAMETOOLONG);
        errno(sys::symlink("x", &p), Errno::NAMETOOLONG);
        errno(sys::rename(u.at("d"), &p), Errno::NAMETOOLONG);
    }
    let statfs = sys::at("statfs", u.root(), rustix::fs::statfs(u.root()))?;
    assert_eq!(statfs.f_namelen, 242);
    Ok(())
}

fn negative_names_become_positive(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d"))
        .mount()?;
    for name in ["n", "d/n"] {
        for _ in 0..3 {
            errno(sys::lstat(u.at(name)), Errno::NOENT);
        }
        sys::write(u.at(name), "now")?;
        assert_eq!(text(u.at(name))?, "now");
        sys::unlink(u.at(name))?;
        errno(sys::lstat(u.at(name)), Errno::NOENT);
        sys::mkdir(u.at(name))?;
        assert_eq!(sys::kind(&sys::lstat(u.at(name))?), FileType::Directory);
        sys::rmdir(u.at(name))?;
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    Ok(())
}

fn deep_paths(cx: &Ctx) -> Result<()> {
    let deep = (0..60)
        .map(|i| format!("d{i}"))
        .collect::<Vec<_>>()
        .join("/");
    let file = format!("{deep}/f");
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("other"))
        .ro(Tree::new().file(&file, "deep"))
        .mount()?;
    assert_eq!(text(u.at(&file))?, "deep");
    let up = format!("{deep}{}", "/..".repeat(60));
    assert_eq!(sys::lstat(u.at(&up))?.st_ino, 2);
    sys::write(u.at(&format!("{deep}/new")), "x")?;
    assert_eq!(names(u.br(0, &deep))?, set(["new"]));
    Ok(())
}

fn paths_through_descriptors(cx: &Ctx) -> Result<()> {
    use rustix::fs::{openat, statat, AtFlags};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/e/f", "data"))
        .mount()?;
    let d = sys::open(u.at("d"), OFlags::PATH | OFlags::DIRECTORY)?;
    let f = sys::on_fd("openat", openat(&d, "e/f", OFlags::RDWR, Mode::empty()))?;
    sys::pwrite_fd(&f, b"D", 0)?;
    sys::seek(&f, SeekFrom::Start(0))?;
    assert_eq!(sys::read_fd(&f)?, b"Data");
    let same = sys::on_fd("fstatat", statat(&d, "e/f", AtFlags::empty()))?;
    assert_eq!(same.st_ino, sys::lstat(u.at("d/e/f"))?.st_ino);
    let up = sys::on_fd("fstatat", statat(&d, "..", AtFlags::empty()))?;
    assert_eq!(up.st_ino, 2);
    Ok(())
}

fn lower_of_a_nested_union(cx: &Ctx) -> Result<()> {
    // A union of two branches as the lower branch of another: its merge and its whiteouts count.
    let inner = cx
        .union()
        .rw(Tree::new().file("d/top", "1").whiteout("gone"))
        .ro(Tree::new()
            .file("d/low", "2")
            .file("gone", "")
            .file("f", "f"))
        .mount()?;
    let outer = cx.union().rw(Tree::new()).at(inner.root(), "ro").mount()?;
    assert_eq!(names(outer.at("d"))?, set(["top", "low"]));
    assert_eq!(names(outer.root())?, set(["d", "f"]));
    errno(sys::lstat(outer.at("gone")), Errno::NOENT);
    sys::append(outer.at("d/low"), "+")?;
    sys::unlink(outer.at("f"))?;
    assert_eq!(text(outer.at("d/low"))?, "2+");
    assert_eq!(
        text(inner.at("d/low"))?,
        "2",
        "the inner union is untouched"
    );
    assert_eq!(text(inner.at("f"))?, "f");
    outer.umount()
}

fn link_counts_of_directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d/a").dir("d/b"))
        .ro(Tree::new().dir("d/b").dir("d/c").dir("d/e"))
        .mount()?;
    // find(1) stops looking for sub-directories after `nlink - 2`; 1 means "unknown".
    let enough = |subdirs: u64| -> Result<()> {
        let links = sys::lstat(u.at("d"))?.st_nlink;
        assert!(
            links == 1 || links >= 2 + subdirs,
            "{links} links, {subdirs} sub-directories"
        );
        Ok(())
    };
    enough(4)?;
    sys::mkdir(u.at("d/new"))?;
    enough(5)?;
    sys::rmdir(u.at("d/c"))?;
    enough(4)?;
    // What is known of hidden sub-directories goes with the inode; a listing tells again.
    sys::drop_caches();
    enough(4)?;
    assert_eq!(names(u.at("d"))?, set(["a", "b", "e", "new"]));
    assert_eq!(sys::lstat(u.at("d"))?.st_nlink, 2 + 4, "right once listed");
    Ok(())
}

fn statx_tells_birth_and_mount(cx: &Ctx) -> Result<()> {
    use rustix::fs::{statx, AtFlags, StatxFlags, CWD};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "abc"))
        .mount()?;
    let all = StatxFlags::ALL | StatxFlags::MNT_ID;
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let ours = sys::at("statx", u.at("f"), statx(CWD, u.at("f"), nofollow, all))?;
    let stat = sys::lstat(u.at("f"))?;
    assert_eq!(ours.stx_ino, stat.st_ino);
    assert_eq!(ours.stx_size, 3);
    assert_eq!(u32::from(ours.stx_mode), stat.st_mode);
    assert!(StatxFlags::from_bits_retain(ours.stx_mask).contains(StatxFlags::BASIC_STATS));
    let theirs = sys::at(
        "statx",
        u.br(1, "f"),
        statx(CWD, u.br(1, "f"), nofollow, all),
    )?;
    assert_ne!(ours.stx_mnt_id, theirs.stx_mnt_id);
    let synced = AtFlags::STATX_FORCE_SYNC | nofollow;
    let synced = sys::at("statx", u.at("f"), statx(CWD, u.at("f"), synced, all))?;
    assert_eq!(synced.stx_mtime.tv_nsec, ours.stx_mtime.tv_nsec);
    Ok(())
}
