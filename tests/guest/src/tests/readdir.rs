// SPDX-License-Identifier: GPL-2.0

//! Directory listings: merging, numbers, types, positions, and listing while things change.

use std::collections::BTreeSet;

use rustix::fs::SeekFrom;

use crate::harness::{dir::DirEntry, prelude::*};

cases! {
    ALL: merged_no_duplicates, d_ino_is_st_ino, d_type_is_the_type, single_branch_directory;
    WIDE: reserved_names_are_hidden, whiteouts_and_opaque_marks;
    BASIC: dots, seek_to_any_position, rewind_sees_changes, small_buffers, buffer_too_small,
        large_merged, large_single, remove_while_listing, unchanged_names_appear_once,
        descriptor_from_before_copy_up, removed_directory, descriptors_are_independent,
        bad_seeks, files_are_not_directories, numbers_after_copy_up;
}

/// Finds an entry of a listing.
fn find<'a>(all: &'a [DirEntry], name: &str) -> &'a DirEntry {
    let found = all.iter().find(|e| e.name == name);
    found.unwrap_or_else(|| panic!("{name} is not listed"))
}

/// Asserts that an entry is listed with the number that stat gives. iso9660 itself does not do so;
/// then the union need not, either.
fn right_number(u: &Union, at: &str, e: &DirEntry) -> Result<()> {
    let stat = sys::lstat(u.at(at).join(&e.name))?;
    if e.ino == stat.st_ino {
        return Ok(());
    }
    let there = u
        .on_branch(&format!("{at}/{}", e.name))
        .context("on no branch")?;
    let bare = dir::rest(dir::open_dir(there.parent().context("a root")?)?, 4096)?;
    let bare = bare
        .iter()
        .find(|b| b.name == e.name)
        .context("not listed")?;
    let excused = bare.ino != sys::lstat(&there)?.st_ino;
    assert!(
        excused,
        "d_ino of {at}/{}: {} but st_ino {}",
        e.name, e.ino, stat.st_ino
    );
    Ok(())
}

fn merged_no_duplicates(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("a", "").file("b", "").file("d/x", ""))
        .ro(Tree::new()
            .file("b", "")
            .file("c", "")
            .file("d/x", "")
            .file("d/y", ""))
        .ro(Tree::new()
            .dir("a")
            .file("c", "")
            .file("e", "")
            .file("d/y", ""))
        .mount()?;
    // `names` itself panics on a name listed twice.
    assert_eq!(names(u.root())?, set(["a", "b", "c", "d", "e"]));
    assert_eq!(names(u.at("d"))?, set(["x", "y"]));
    // A second listing, now from the cache.
    assert_eq!(names(u.at("d"))?, set(["x", "y"]));
    Ok(())
}

fn d_ino_is_st_ino(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .file("both/a", "")
            .file("top/t", "")
            .file("f", ""))
        .ro(Tree::new()
            .file("both/b", "")
            .symlink("both/l", "x")
            .file("low/e/l", ""))
        .ro(Tree::new()
            .file("both/c", "")
            .file("both/sub/s", "")
            .file("low/m", ""))
        .mount()?;
    let check = || -> Result<()> {
        for at in ["", "both", "both/sub", "top", "low", "low/e"] {
            for e in dir::rest(dir::open_dir(u.at(at))?, 4096)? {
                if at.is_empty() && e.name == ".." {
                    continue; // The parent of a mount point is another file system's.
                }
                right_number(&u, at, &e)?;
            }
        }
        Ok(())
    };
    check()?;
    sys::drop_caches();
    check()
}

fn d_type_is_the_type(cx: &Ctx) -> Result<()> {
    let tree = |p: &str| {
        Tree::new()
            .file(&format!("d/{p}file"), "")
            .dir(&format!("d/{p}dir"))
            .symlink(&format!("d/{p}link"), "x")
            .fifo(&format!("d/{p}fifo"))
            .node(
                &format!("d/{p}char"),
                FileType::CharacterDevice,
                sys::dev(1, 5),
            )
            .node(
                &format!("d/{p}block"),
                FileType::BlockDevice,
                sys::dev(7, 99),
            )
            .node(&format!("d/{p}sock"), FileType::Socket, 0)
    };
    let u = cx.union().rw(tree("t")).ro(tree("l")).mount()?;
    let all = dir::list(u.at("d"))?;
    assert_eq!(all.len(), 14);
    for e in all {
        let stat = sys::lstat(u.at("d").join(&e.name))?;
        // iso9660 does not store types in its directories; a type that is given must be right.
        if e.kind != FileType::Unknown {
            assert_eq!(e.kind, sys::kind(&stat), "type of {}", e.name);
        } else {
            assert_eq!(cx.layout, Layout::Iso9660, "no type for {}", e.name);
        }
    }
    Ok(())
}

fn single_branch_directory(cx: &Ctx) -> Result<()> {
    let low = Tree::new().files("d/f", 100).file("d/.hidden", "");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let all = dir::list(u.at("d"))?;
    assert_eq!(dir::unique(&all, &u.at("d")).len(), 101);
    for e in &all {
        right_number(&u, "d", e)?;
    }
    Ok(())
}

fn reserved_names_are_hidden(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/.wh.x", "")
        .file("d/.wh..wh..opq", "")
        .file("d/y", "");
    let u = cx
        .union()
        .rw(Tree::new()
            .file("d/.wh.a", "")
            .file("d/.whb", "")
            .file("one/.wh.c", ""))
        .ro(low.file("two/.wh.e", "").file("two/f", ""))
        .mount()?;
    assert_eq!(
        names(u.root())?,
        set(["d", "one", "two"]),
        "no base files either"
    );
    assert_eq!(names(u.at("d"))?, set([".whb", "y"]));
    assert_eq!(names(u.at("one"))?, set([]), "a directory on one branch");
    assert_eq!(names(u.at("two"))?, set(["f"]));
    Ok(())
}

fn whiteouts_and_opaque_marks(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("d/a").file("d/t", ""))
        .ro_wh(
            Tree::new()
                .file("d/a", "")
                .file("d/b", "")
                .file("o/n", "")
                .opaque("o"),
        )
        .ro(Tree::new()
            .file("d/a", "")
            .file("d/c", "")
            .file("o/hidden", ""))
        .mount()?;
    assert_eq!(names(u.at("d"))?, set(["t", "b", "c"]));
    assert_eq!(names(u.at("o"))?, set(["n"]));
    Ok(())
}

fn dots(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/a", ""))
        .ro(Tree::new().file("d/b", "").dir("single"))
        .mount()?;
    for at in ["", "d", "single"] {
        let all = dir::rest(dir::open_dir(u.at(at))?, 4096)?;
        let count = |name: &str| all.iter().filter(|e| e.name == name).count();
        assert_eq!((count("."), count("..")), (1, 1), "in {at:?}");
        assert_eq!(find(&all, ".").kind, FileType::Directory);
        assert_eq!(find(&all, ".").ino, sys::lstat(u.at(at))?.st_ino);
    }
    let all = dir::rest(dir::open_dir(u.at("d"))?, 4096)?;
    assert_eq!(find(&all, "..").ino, 2);
    Ok(())
}

fn seek_to_any_position(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("merged/t", 40))
        .ro(Tree::new().files("merged/l", 40).files("single/s", 40))
        .mount()?;
    for at in ["merged", "single"] {
        let fd = dir::open_dir(u.at(at))?;
        let all = dir::rest(&fd, 512)?;
        let name = |e: &DirEntry| e.name.clone();
        for (i, e) in all.iter().enumerate().rev() {
            sys::seek(&fd, SeekFrom::Start(e.next))?;
            assert_eq!(sys::seek(&fd, SeekFrom::Current(0))?, e.next, "telldir");
            let from_here: Vec<_> = dir::rest(&fd, 4096)?.iter().map(name).collect();
            let wanted: Vec<_> = all[i + 1..].iter().map(name).collect();
            assert_eq!(from_here, wanted, "{at}: after {}", e.name);
        }
        sys::seek(&fd, SeekFrom::Start(0))?;
        assert_eq!(
            dir::rest(&fd, 4096)?.len(),
            42 + 40 * usize::from(at == "merged")
        );
    }
    Ok(())
}

fn rewind_sees_changes(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/a", ""))
        .ro(Tree::new()
            .file("d/b", "")
            .file("d/c", "")
            .file("single/x", ""))
        .mount()?;
    for (at, gone) in [("d", "b"), ("single", "x")] {
        let fd = dir::open_dir(u.at(at))?;
        let before = dir::unique(&dir::rest(&fd, 4096)?, u.root());
        sys::write(u.at(at).join("new"), "")?;
        sys::unlink(u.at(at).join(gone))?;
        for e in dir::rest(&fd, 4096)? {
            assert!(!before.contains(&e.name), "{} is listed again", e.name);
        }
        sys::seek(&fd, SeekFrom::Start(0))?;
        let after = dir::unique(&dir::rest(&fd, 4096)?, u.root());
        let mut wanted = before;
        wanted.insert("new".to_owned());
        wanted.remove(gone);
        assert_eq!(after, wanted);
        wanted.retain(|n| n != "." && n != "..");
        assert_eq!(names(u.at(at))?, wanted, "a fresh open agrees");
    }
    Ok(())
}

fn small_buffers(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new()
            .files("d/top", 30)
            .file(&format!("d/{}", "n".repeat(200)), ""))
        .ro(Tree::new().files("d/low", 30).files("s/single", 30))
        .mount()?;
    for (at, count) in [("d", 63), ("s", 32)] {
        // 280 bytes hold the longest record and few others.
        let all = dir::rest(dir::open_dir(u.at(at))?, 280)?;
        assert_eq!(dir::unique(&all, u.root()).len(), count);
    }
    Ok(())
}

fn buffer_too_small(cx: &Ctx) -> Result<()> {
    let long = format!("d/{}", "n".repeat(100));
    let u = cx
        .union()
        .rw(Tree::new().file(&long, ""))
        .ro(Tree::new().file("d/low", ""))
        .mount()?;
    let fd = dir::open_dir(u.at("d"))?;
    errno(dir::getdents(&fd, 8), Errno::INVAL);
    // The failed call has not moved the position.
    assert_eq!(dir::rest(&fd, 4096)?.len(), 4);
    Ok(())
}

fn large_merged(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("d/top-", 1250).files("d/both-", 1250))
        .ro(Tree::new().files("d/both-", 2500).files("d/low-", 1250))
        .mount()?;
    assert_eq!(names(u.at("d"))?.len(), 5000);
    let fd = dir::open_dir(u.at("d"))?;
    assert_eq!(dir::unique(&dir::rest(&fd, 1024)?, u.root()).len(), 5002);
    Ok(())
}

fn large_single(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("d/f", 5000))
        .mount()?;
    assert_eq!(names(u.at("d"))?.len(), 5000);
    // The same directory, now merged with a fresh upper one.
    sys::unlink(u.at("d/f77"))?;
    sys::write(u.at("d/new"), "")?;
    let all = names(u.at("d"))?;
    assert_eq!(all.len(), 5000);
    assert!(!all.contains("f77") && all.contains("new"));
    Ok(())
}

fn remove_while_listing(cx: &Ctx) -> Result<()> {
    // What rm -r does: lists with one descriptor, removes what it was told, goes on.
    let u = cx
        .union()
        .rw(Tree::new().files("merged/t", 150))
        .ro(Tree::new().files("merged/l", 150).files("single/s", 300))
        .mount()?;
    for at in ["merged", "single"] {
        let fd = dir::open_dir(u.at(at))?;
        let mut removed = 0;
        loop {
            let some = dir::getdents(&fd, 600)?;
            if some.is_empty() {
                break;
            }
            for e in some.iter().filter(|e| e.name != "." && e.name != "..") {
                sys::unlink(u.at(at).join(&e.name))?;
                removed += 1;
            }
        }
        assert_eq!(removed, 300, "in {at}");
        sys::rmdir(u.at(at))?;
    }
    assert_eq!(names(u.root())?, set([]));
    Ok(())
}

fn unchanged_names_appear_once(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("d/keep-t", 100).files("d/drop-t", 50))
        .ro(Tree::new().files("d/keep-l", 100).files("d/drop-l", 50))
        .mount()?;
    let fd = dir::open_dir(u.at("d"))?;
    let mut seen = Vec::new();
    for i in 0.. {
        let some = dir::getdents(&fd, 400)?;
        if some.is_empty() {
            break;
        }
        seen.extend(some);
        if i < 50 {
            sys::unlink(u.at(&format!("d/drop-t{i}")))?;
            sys::unlink(u.at(&format!("d/drop-l{i}")))?;
            sys::write(u.at(&format!("d/new{i}")), "")?;
        }
    }
    let seen = dir::unique(&seen, u.root());
    for i in 0..100 {
        for name in [format!("keep-t{i}"), format!("keep-l{i}")] {
            assert!(seen.contains(&name), "{name} was not listed");
        }
    }
    Ok(())
}

fn descriptor_from_before_copy_up(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/low", ""))
        .mount()?;
    let old = dir::open_dir(u.at("d"))?;
    let unread = dir::open_dir(u.at("d"))?;
    assert_eq!(dir::rest(&old, 4096)?.len(), 3);
    // Now the directory comes to be on the upper branch too.
    sys::write(u.at("d/new"), "")?;
    sys::seek(&old, SeekFrom::Start(0))?;
    for fd in [old, unread] {
        let mut all = dir::unique(&dir::rest(&fd, 4096)?, u.root());
        all.retain(|n| n != "." && n != "..");
        assert_eq!(all, set(["low", "new"]));
    }
    Ok(())
}

fn removed_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("top"))
        .ro(Tree::new().dir("low"))
        .mount()?;
    for at in ["top", "low"] {
        let fd = dir::open_dir(u.at(at))?;
        sys::rmdir(u.at(at))?;
        errno(dir::getdents(&fd, 4096), Errno::NOENT);
        assert_eq!(sys::fstat(&fd)?.st_nlink, 0);
    }
    Ok(())
}

fn descriptors_are_independent(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("d/t", 20))
        .ro(Tree::new().files("d/l", 20))
        .mount()?;
    let (one, two) = (dir::open_dir(u.at("d"))?, dir::open_dir(u.at("d"))?);
    let first = dir::getdents(&one, 300)?;
    assert_eq!(dir::rest(&two, 4096)?.len(), 42);
    let rest = dir::rest(&one, 4096)?;
    assert_eq!(first.len() + rest.len(), 42);
    Ok(())
}

fn bad_seeks(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/a", ""))
        .ro(Tree::new().file("d/b", "").file("single/c", ""))
        .mount()?;
    for at in ["d", "single"] {
        let fd = dir::open_dir(u.at(at))?;
        errno(
            sys::on_fd("read", rustix::io::read(&fd, &mut [0u8; 8][..])),
            Errno::ISDIR,
        );
        let all = dir::rest(&fd, 4096)?.len();
        errno(sys::seek(&fd, SeekFrom::Current(i64::MIN)), Errno::INVAL);
        sys::seek(&fd, SeekFrom::Start(0))?;
        assert_eq!(dir::rest(&fd, 4096)?.len(), all, "still usable");
        errno(sys::write_fd(&fd, b"x"), Errno::BADF);
    }
    Ok(())
}

fn files_are_not_directories(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("t", ""))
        .ro(Tree::new().file("l", ""))
        .mount()?;
    for name in ["t", "l"] {
        errno(dir::open_dir(u.at(name)), Errno::NOTDIR);
        let fd = sys::open_ro(u.at(name))?;
        errno(dir::getdents(&fd, 4096), Errno::NOTDIR);
    }
    errno(sys::open_rw(u.root()), Errno::ISDIR);
    Ok(())
}

fn numbers_after_copy_up(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d"))
        .ro(Tree::new()
            .file("d/a", "a")
            .file("d/b", "b")
            .file("d/e/f", ""))
        .mount()?;
    let numbers = || -> Result<BTreeSet<(String, u64)>> {
        Ok(dir::list(u.at("d"))?
            .into_iter()
            .map(|e| (e.name, e.ino))
            .collect())
    };
    let before = numbers()?;
    sys::append(u.at("d/a"), "more")?;
    sys::write(u.at("d/e/f"), "more")?;
    assert_eq!(numbers()?, before);
    sys::drop_caches();
    assert_eq!(numbers()?, before, "after eviction");
    for (name, ino) in numbers()? {
        assert_eq!(sys::lstat(u.at("d").join(name))?.st_ino, ino);
    }
    Ok(())
}
