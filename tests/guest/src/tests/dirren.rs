// SPDX-License-Identifier: GPL-2.0

//! `dirren`: directories with parts on lower branches are renamed.

use std::path::Path;

use crate::harness::{
    prelude::*,
    snapshot::{Scope, Snapshot},
    sys::RenameFlags,
    union::Refused,
    watchdog,
};

cases! {
    WIDE: there_and_back;
    WRITABLE: random_renames;
    BASIC: records_of_others, a_list_of_others, what_is_stored, what_aufs_stored, damaged_records, changes_below_it, to_other_parents,
        one_in_another, exchanged, over_other_names, several_lower_branches, removed, is_off,
        lower_writable_branch, unprivileged, long_names;
}

fn low() -> Tree {
    Tree::new()
        .file("d/f", "f")
        .file("d/sub/g", "g")
        .file("d/sub/deep/h", "h")
        .dir("other")
}

/// What the test changes has a later time, what it began with an earlier one.
const START: sys::Time = (1_700_000_000, 0);

/// All that [`low`] has in `d`.
#[track_caller]
fn whole(u: &Union, at: &str) {
    assert_eq!(names(u.at(at)).expect(at), set(["f", "sub"]));
    assert_eq!(text(u.at(&format!("{at}/f"))).expect("f"), "f");
    assert_eq!(text(u.at(&format!("{at}/sub/g"))).expect("g"), "g");
    assert_eq!(text(u.at(&format!("{at}/sub/deep/h"))).expect("h"), "h");
}

fn list_of(branch: &Path) -> Option<Vec<u8>> {
    std::fs::read(branch.join(".wh..wh.hino")).ok()
}

fn records(dir: &Path) -> Result<Vec<String>> {
    let all = names(dir)?;
    Ok(all
        .into_iter()
        .filter(|name| name.starts_with(".wh..wh..dr."))
        .collect())
}

fn there_and_back(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(low()).opt("dirren").mount()?;
    let ino = sys::lstat(u.at("d"))?.st_ino;
    let fd = sys::open_ro(u.at("d/f"))?;
    sys::rename(u.at("d"), u.at("new"))?;
    assert_eq!(sys::pread_fd(&fd)?, b"f");
    drop(fd);
    assert_eq!(sys::lstat(u.at("new"))?.st_ino, ino);
    for n in 0..3 {
        whole(&u, "new");
        errno(sys::lstat(u.at("d")), Errno::NOENT);
        assert_eq!(names(u.root())?, set(["new", "other"]));
        for entry in dir::list(u.root())? {
            assert_eq!(
                entry.ino,
                sys::lstat(u.at(&entry.name))?.st_ino,
                "{}",
                entry.name
            );
        }
        match n {
            0 => sys::drop_caches(),
            _ => u.again()?,
        }
    }
    assert!(exists(u.br(0, ".wh.d")));
    sys::rename(u.at("new"), u.at("newer"))?;
    u.again()?;
    whole(&u, "newer");
    sys::rename(u.at("newer"), u.at("d"))?;
    assert_eq!(records(&u.br(0, "d"))?.len(), 0, "back to the name it had");
    for _ in 0..2 {
        whole(&u, "d");
        assert_eq!(names(u.root())?, set(["d", "other"]));
        assert!(!exists(u.br(0, ".wh.d")));
        u.again()?;
    }
    assert_eq!(
        list_of(&u.br(0, "")),
        None,
        "an empty list is removed at unmount"
    );
    Ok(())
}

/// The name of the record about the branch `path`, as aufs computes it.
fn record_name(path: &Path) -> Result<String> {
    let fsid = rustix::fs::statfs(path)?.f_fsid;
    // SAFETY: It is two words, which only the kernel's own headers name.
    let fsid: [u32; 2] = unsafe { std::mem::transmute(fsid) };
    let root = sys::lstat(path)?.st_ino;
    Ok(format!(
        ".wh..wh..dr.2_{:08x}-{:08x}_{root}",
        fsid[0], fsid[1]
    ))
}

fn record_of(part: &Path, name: &str) -> Result<Vec<u8>> {
    let mut record = vec![0x61, 0x64, 0x72, 1, 0, 0, 0, 0];
    record.extend(sys::lstat(part)?.st_ino.to_be_bytes());
    record.extend([name.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
    record.extend(name.as_bytes());
    Ok(record)
}

fn what_is_stored(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(low()).opt("dirren").mount()?;
    sys::rename(u.at("d"), u.at("new"))?;
    let name = record_name(&u.br(1, ""))?;
    let record = u.br(0, "new").join(&name);
    assert_eq!(sys::read(&record)?, record_of(&u.br(1, "d"), "d")?);
    assert_eq!(sys::mode(&sys::lstat(&record)?), 0o600);
    let ino = sys::lstat(u.br(0, "new"))?.st_ino;
    assert_eq!(list_of(&u.br(0, "")), Some(ino.to_be_bytes().to_vec()));
    // The parts below it need none of their own.
    sys::rename(u.at("new/sub"), u.at("new/moved"))?;
    let record = u.br(0, "new/moved").join(&name);
    assert_eq!(sys::read(record)?, record_of(&u.br(1, "d/sub"), "sub")?);
    assert!(exists(u.br(0, "new/.wh.sub")));
    errno(sys::lstat(u.at(&format!("new/{name}"))), Errno::PERM);
    let top = u.br(0, "");
    u.umount()?;
    assert_eq!(
        list_of(&top).map(|list| list.len()),
        Some(16),
        "it stays after unmount"
    );
    Ok(())
}

fn what_aufs_stored(cx: &Ctx) -> Result<()> {
    let lower = cx.branch(cx.layout.upper(), "ro", &low())?;
    let tree = Tree::new()
        .file("new/mine", "m")
        .whiteout("new/f")
        .whiteout("d");
    let upper = cx.branch(cx.layout.upper(), "rw", &tree)?;
    sys::write(
        upper.join("new").join(record_name(&lower)?),
        record_of(&lower.join("d"), "d")?,
    )?;
    let ino = sys::lstat(upper.join("new"))?.st_ino;
    let mut list = 0xdead_beef_u64.to_be_bytes().to_vec();
    list.extend(ino.to_be_bytes());
    sys::write(upper.join(".wh..wh.hino"), &list)?;
    let u = cx
        .union()
        .at(&upper, "rw")
        .at(&lower, "ro")
        .opt("dirren")
        .mount()?;
    assert_eq!(names(u.at("new"))?, set(["mine", "sub"]));
    assert_eq!(text(u.at("new/sub/deep/h"))?, "h");
    u.umount()?;
    assert_eq!(list_of(&upper), Some(list), "nothing was renamed");
    // Without the option it is a directory like any other.
    let u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
    assert_eq!(names(u.at("new"))?, set(["mine"]));
    u.umount()?;
    // The instance is another one by now.
    let moved = lower.join("x");
    sys::rename(lower.join("d"), &moved)?;
    sys::mkdir(lower.join("d"))?;
    sys::write(lower.join("d/wrong"), "")?;
    cx.changed_by_hand(&lower)?;
    let u = cx
        .union()
        .at(&upper, "rw")
        .at(&lower, "ro")
        .opt("dirren")
        .mount()?;
    assert_eq!(names(u.at("new"))?, set(["mine"]));
    u.umount()
}

fn damaged_records(cx: &Ctx) -> Result<()> {
    let lower = cx.branch(cx.layout.upper(), "ro", &low())?;
    let upper = cx.branch(cx.layout.upper(), "rw", &Tree::new().dir("new").dir("link"))?;
    let record = upper.join("new").join(record_name(&lower)?);
    let mut list = sys::lstat(upper.join("new"))?.st_ino.to_be_bytes().to_vec();
    list.extend(sys::lstat(upper.join("link"))?.st_ino.to_be_bytes());
    list.extend([1, 2, 3]);
    sys::write(upper.join(".wh..wh.hino"), &list)?;
    let good = record_of(&lower.join("d"), "d")?;
    let mut cases: Vec<Vec<u8>> = vec![Vec::new(), good[..20].into(), vec![0xff; 100]];
    for name in ["..", "d/sub", "", ".", ".wh.d", ".wh..wh.plnk"] {
        cases.push(record_of(&lower.join("d"), name)?);
    }
    for bytes in cases {
        sys::write(&record, &bytes)?;
        let u = cx
            .union()
            .at(&upper, "rw")
            .at(&lower, "ro")
            .opt("dirren")
            .mount()?;
        assert_eq!(names(u.at("new"))?, set([]), "{bytes:?}");
        u.umount()?;
        sys::unlink(&record)?;
    }
    // A record that is no file is an error of this directory, not of the mount.
    sys::mkdir(upper.join("link").join(record_name(&lower)?))?;
    let u = cx
        .union()
        .at(&upper, "rw")
        .at(&lower, "ro")
        .opt("dirren")
        .mount()?;
    errno(sys::lstat(u.at("link")), Errno::IO);
    assert_eq!(names(u.at("new"))?, set([]));
    u.umount()
}

fn changes_below_it(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(low()).opt("dirren").mount()?;
    sys::rename(u.at("d"), u.at("new"))?;
    sys::append(u.at("new/sub/g"), "+")?;
    sys::write(u.at("new/sub/deep/made"), "made")?;
    sys::unlink(u.at("new/f"))?;
    sys::mkdir(u.at("new/dir"))?;
    sys::rename(u.at("new/sub/deep/h"), u.at("new/dir/h"))?;
    sys::mkdir(u.at("d"))?;
    sys::write(u.at("d/another"), "")?;
    for _ in 0..2 {
        assert_eq!(names(u.at("new"))?, set(["dir", "sub"]));
        assert_eq!(text(u.at("new/sub/g"))?, "g+");
        assert_eq!(names(u.at("new/sub/deep"))?, set(["made"]));
        assert_eq!(text(u.at("new/dir/h"))?, "h");
        assert_eq!(names(u.at("d"))?, set(["another"]));
        u.again()?;
    }
    Ok(())
}

fn to_other_parents(cx: &Ctx) -> Result<()> {
    let lower = low().file("p/q/r/file", "r").file("p/q/x", "x").dir("both");
    let upper = Tree::new().dir("mine").dir("both");
    let mut u = cx.union().rw(upper).ro(lower).opt("dirren").mount()?;
    let steps = [
        ("d", "mine/d"),
        ("mine/d", "both/d"),
        ("both/d", "mine/e"),
        ("mine/e", "p/q/e"),
        ("p/q", "mine/q"),
        ("mine/q/e", "mine/d"),
        ("mine", "other/m"),
        ("other/m/d", "d"),
    ];
    let mut at = "d".to_owned();
    for (from, to) in steps {
        sys::rename(u.at(from), u.at(to))?;
        if at == from || at.starts_with(&format!("{from}/")) {
            at = format!("{to}{}", &at[from.len()..]);
        }
        for _ in 0..2 {
            whole(&u, &at);
            u.again()?;
        }
    }
    assert_eq!(at, "d");
    assert_eq!(records(&u.br(0, "d"))?.len(), 0);
    assert_eq!(names(u.at("other/m"))?, set(["q"]));
    assert_eq!(names(u.at("other/m/q"))?, set(["r", "x"]));
    assert_eq!(text(u.at("other/m/q/r/file"))?, "r");
    assert_eq!(names(u.at("p"))?, set([]));
    Ok(())
}

fn one_in_another(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(low()).opt("dirren").mount()?;
    sys::rename(u.at("d/sub/deep"), u.at("d/sub/1"))?;
    sys::rename(u.at("d/sub"), u.at("d/2"))?;
    sys::rename(u.at("d"), u.at("3"))?;
    sys::rename(u.at("3/2/1"), u.at("3/2/4"))?;
    for _ in 0..2 {
        assert_eq!(names(u.at("3"))?, set(["f", "2"]));
        assert_eq!(names(u.at("3/2"))?, set(["g", "4"]));
        assert_eq!(text(u.at("3/2/4/h"))?, "h");
        u.again()?;
    }
    sys::rename(u.at("3/2/4"), u.at("3/2/deep"))?;
    sys::rename(u.at("3/2"), u.at("3/sub"))?;
    u.again()?;
    sys::rename(u.at("3"), u.at("d"))?;
    u.again()?;
    whole(&u, "d");
    u.again()?;
    assert_eq!(list_of(&u.br(0, "")), None);
    Ok(())
}

fn exchanged(cx: &Ctx) -> Result<()> {
    let lower = low().file("e/x", "x").file("file", "file");
    let mut u = cx.union().rw(Tree::new()).ro(lower).opt("dirren").mount()?;
    let exchange = |a: &Path, b: &Path| sys::rename_with(a, b, RenameFlags::EXCHANGE);
    exchange(&u.at("d"), &u.at("e"))?;
    for _ in 0..2 {
        whole(&u, "e");
        assert_eq!(names(u.at("d"))?, set(["x"]));
        u.again()?;
    }
    exchange(&u.at("e"), &u.at("file"))?;
    for _ in 0..2 {
        whole(&u, "file");
        assert_eq!(text(u.at("e"))?, "file");
        u.again()?;
    }
    exchange(&u.at("e"), &u.at("file"))?;
    exchange(&u.at("d"), &u.at("e"))?;
    u.again()?;
    whole(&u, "d");
    assert_eq!(names(u.at("e"))?, set(["x"]));
    assert_eq!(text(u.at("file"))?, "file");
    Ok(())
}

fn over_other_names(cx: &Ctx) -> Result<()> {
    let lower = low()
        .file("gone/wrong", "")
        .dir("empty")
        .file("hidden/wrong", "")
        .file("file", "");
    let upper = Tree::new().whiteout("gone").whiteout("hidden/wrong");
    let mut u = cx.union().rw(upper).ro(lower).opt("dirren").mount()?;
    let mut at = "d";
    errno(sys::rename(u.at("d"), u.at("file")), Errno::NOTDIR);
    sys::write(u.at("other/x"), "")?;
    errno(sys::rename(u.at("d"), u.at("other")), Errno::NOTEMPTY);
    errno(
        sys::rename_with(u.at("d"), u.at("empty"), RenameFlags::NOREPLACE),
        Errno::EXIST,
    );
    for to in ["gone", "empty", "hidden", "plain", "empty", "d"] {
        sys::rename(u.at(at), u.at(to))?;
        at = to;
        for _ in 0..2 {
            whole(&u, at);
            u.again()?;
        }
    }
    assert_eq!(names(u.root())?, set(["d", "file", "other"]));
    Ok(())
}

fn several_lower_branches(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().file("d/0", "0").whiteout("d/gone"))
        .ro(Tree::new().file("d/1", "1").file("x/1", "wrong"))
        .ro(Tree::new()
            .file("d/gone", "")
            .file("d/1", "hidden")
            .file("x/2", "wrong"))
        .ro(Tree::new().dir("nothing"))
        .ro(Tree::new().file("d/4", "4"))
        .opt("dirren")
        .mount()?;
    sys::unlink(u.at("x/1"))?;
    sys::unlink(u.at("x/2"))?;
    sys::rmdir(u.at("x"))?;
    for to in ["x", "y", "nothing", "d"] {
        let from = ["d", "x", "y", "nothing"]
            .into_iter()
            .find(|name| exists(u.at(&format!("{name}/0"))))
            .context("it is somewhere")?;
        sys::rename(u.at(from), u.at(to))?;
        for _ in 0..2 {
            assert_eq!(names(u.at(to))?, set(["0", "1", "4"]), "{to}");
            assert_eq!(text(u.at(&format!("{to}/1")))?, "1");
            u.again()?;
        }
    }
    Ok(())
}

fn removed(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(low()).opt("dirren").mount()?;
    sys::rename(u.at("d"), u.at("new"))?;
    errno(sys::rmdir(u.at("new")), Errno::NOTEMPTY);
    std::fs::remove_dir_all(u.at("new"))?;
    u.settle()?;
    for _ in 0..2 {
        assert_eq!(names(u.root())?, set(["other"]));
        assert_eq!(names(u.br(0, ".wh..wh.orph"))?, set([]));
        u.again()?;
    }
    assert_eq!(list_of(&u.br(0, "")), None);
    for name in ["d", "new"] {
        sys::mkdir(u.at(name))?;
        assert_eq!(names(u.at(name))?, set([]));
    }
    u.again()?;
    assert_eq!(names(u.at("d"))?, set([]));
    // Replaced by another one.
    sys::mkdir(u.at("d/x"))?;
    sys::rename(u.at("d"), u.at("new"))?;
    assert_eq!(names(u.root())?, set(["other", "new"]));
    Ok(())
}

fn is_off(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro(low())
        .opt("nodirren")
        .mount()?;
    errno(sys::rename(u.at("d"), u.at("new")), Errno::XDEV);
    whole(&u, "d");
    u.again()?;
    errno(
        sys::rename_with(u.at("other"), u.at("d"), RenameFlags::EXCHANGE),
        Errno::XDEV,
    );
    assert_eq!(list_of(&u.br(0, "")), None);
    Ok(())
}

fn lower_writable_branch(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new().dir("d").dir("there"))
        .rw(low())
        .ro(Tree::new().file("d/sub/bottom", "b").file("e/x", "x"))
        .opt("dirren")
        .mount()?;
    // In its parent it moves; the path of another one might not hold on a writable branch.
    sys::rename(u.at("d"), u.at("new"))?;
    errno(sys::rename(u.at("new"), u.at("there/new")), Errno::XDEV);
    sys::rename(u.at("new/sub"), u.at("new/moved"))?;
    for _ in 0..2 {
        assert_eq!(names(u.at("new"))?, set(["f", "moved"]));
        assert_eq!(names(u.at("new/moved"))?, set(["bottom", "deep", "g"]));
        assert_eq!(text(u.at("new/moved/deep/h"))?, "h");
        u.again()?;
    }
    sys::rename(u.at("e"), u.at("there/e"))?;
    u.again()?;
    assert_eq!(text(u.at("there/e/x"))?, "x");
    Ok(())
}

fn unprivileged(cx: &Ctx) -> Result<()> {
    let lower = Tree::new()
        .file("d/f", "f")
        .dir("mine")
        .mode(0o777)
        .file("mine/d/f", "f");
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro(lower.mode(0o600))
        .opt("dirren")
        .mount()?;
    sys::chown(u.at("mine/d"), Some(1000), None)?;
    users::as_user(1000, 1000, || {
        errno(sys::rename(u.at("d"), u.at("x")), Errno::ACCESS);
        sys::rename(u.at("mine/d"), u.at("mine/x"))
    })?;
    for _ in 0..2 {
        assert_eq!(names(u.at("mine/x"))?, set(["f"]));
        u.again()?;
    }
    Ok(())
}

fn long_names(cx: &Ctx) -> Result<()> {
    let (old, new) = ("o".repeat(242), "n".repeat(242));
    let lower = Tree::new().file(&format!("{old}/f"), "f").dir("p");
    let mut u = cx.union().rw(Tree::new()).ro(lower).opt("dirren").mount()?;
    for (from, to) in [(&old, &new), (&new, &format!("p/{new}"))] {
        sys::rename(u.at(from), u.at(to))?;
        for _ in 0..2 {
            assert_eq!(text(u.at(to).join("f"))?, "f");
            u.again()?;
        }
    }
    Ok(())
}

/// Random renames, with some other changes, on a union and on a directory of the same contents.
fn random_renames(cx: &Ctx) -> Result<()> {
    let seed: u64 = std::env::var("SEED").map_or(Ok(1), |seed| seed.parse())?;
    let steps: usize = std::env::var("STEPS").map_or(Ok(300), |steps| steps.parse())?;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    for round in 0..steps.div_ceil(50) {
        watchdog::alive();
        let middle = Tree::new().file("a/b/1", "m1").dir("c").file("b/a", "m");
        let lowest = Tree::new()
            .file("a/b/c/2", "l2")
            .file("a/b/1", "hidden")
            .file("b/c/3", "l3")
            .file("c/a/b/4", "l4");
        let all = Tree::new()
            .file("a/b/1", "m1")
            .file("a/b/c/2", "l2")
            .file("b/a", "m")
            .file("b/c/3", "l3")
            .file("c/a/b/4", "l4");
        let mut u = cx
            .union()
            .rw(Tree::new())
            .ro(middle)
            .ro(lowest)
            .opt("dirren")
            .mount()?;
        let plain = cx.dir(cx.layout.upper())?;
        all.build(&plain)?;
        let mut log = Vec::new();
        for _ in 0..50 {
            let mut path = || {
                let mut path = ["a", "b", "c"][random(3)].to_owned();
                for _ in 0..random(4) {
                    path = format!("{path}/{}", ["a", "b", "c"][random(3)]);
                }
                path
            };
            let (one, two) = (path(), path());
            let kind = random(12);
            log.push(format!("{kind} {one} {two}"));
            let apply = |root: &Path| {
                let (one, two) = (root.join(&one), root.join(&two));
                match kind {
                    0..=4 => sys::rename(one, two),
                    5 => sys::rename_with(one, two, RenameFlags::EXCHANGE),
                    6 => sys::mkdir(one),
                    7 => sys::rmdir(one),
                    8 => sys::unlink(one),
                    9 => sys::append(one, "+"),
                    _ => Ok(()),
                }
                .map_err(|e| e.errno)
            };
            match kind {
                10 => sys::drop_caches(),
                11 => u.again()?,
                _ => {}
            }
            let (ours, theirs) = (apply(u.root()), apply(&plain));
            let same = match (ours, theirs) {
                (Err(a), Err(b)) => a == b || (a, b) == (Errno::NOTEMPTY, Errno::EXIST),
                (a, b) => a.is_ok() == b.is_ok(),
            };
            anyhow::ensure!(
                same,
                "SEED={seed}, {round}: {ours:?}, {theirs:?} after {log:#?}"
            );
            let wanted = Snapshot::of(&plain, Scope::Visible)?;
            let seen = Snapshot::of(u.root(), Scope::Visible)?;
            let diff = wanted.diff_since(&seen, START);
            anyhow::ensure!(
                diff.is_empty(),
                "SEED={seed}, {round}: {diff:#?} after {log:#?}"
            );
        }
    }
    Ok(())
}

/// A record counts if it is of who owns the list, and is where it was made.
fn records_of_others(cx: &Ctx) -> Result<()> {
    let lower = cx.branch(cx.layout.upper(), "ro", &low())?;
    let upper = cx.branch(cx.layout.upper(), "rw", &Tree::new().dir("new").dir("more"))?;
    let record = upper.join("new").join(record_name(&lower)?);
    let number = sys::lstat(upper.join("new"))?.st_ino;
    sys::write(upper.join(".wh..wh.hino"), number.to_be_bytes())?;
    sys::write(&record, record_of(&lower.join("d"), "d")?)?;
    let shown = || -> Result<usize> {
        let u = cx
            .union()
            .at(&upper, "rw")
            .at(&lower, "ro")
            .opt("dirren")
            .mount()?;
        let shown = names(u.at("new"))?.len();
        u.umount()?;
        Ok(shown)
    };
    assert_ne!(shown()?, 0);
    sys::chown(&record, Some(1000), None)?;
    assert_eq!(shown()?, 0, "of somebody else");
    sys::chown(&record, Some(0), Some(1000))?;
    assert_ne!(shown()?, 0, "the group does not matter");
    sys::link(&record, upper.join("more/link"))?;
    assert_eq!(shown()?, 0, "with another name");
    sys::unlink(upper.join("more/link"))?;
    Ok(())
}

/// Without `dirren` nobody looks at the list. With it, what is none is refused.
fn a_list_of_others(cx: &Ctx) -> Result<()> {
    let lower = cx.branch(cx.layout.upper(), "ro", &low())?;
    let upper = cx.dir(cx.layout.upper())?;
    let list = upper.join(".wh..wh.hino");
    let long = |path: &Path| -> Result<()> {
        sys::write(path, "")?;
        Ok(sys::truncate(path, 16 << 20)?)
    };
    type Make<'a> = &'a dyn Fn(&Path) -> Result<()>;
    let makes: [(Make<'_>, Errno); 4] = [
        (&|path| Ok(sys::mkdir(path)?), Errno::IO),
        (&|path| Ok(sys::symlink("d", path)?), Errno::IO),
        (
            &|path| Ok(sys::mknod(path, FileType::Fifo, 0o600, 0)?),
            Errno::IO,
        ),
        (&long, Errno::FBIG),
    ];
    for (make, wanted) in makes {
        make(&list)?;
        let u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
        sys::append(u.at("d/f"), "+")?;
        u.umount()?;
        let refused = cx
            .union()
            .at(&upper, "rw")
            .at(&lower, "ro")
            .opt("dirren")
            .mount();
        let error = refused.err().context("it was mounted")?;
        let refusal = error.downcast::<Refused>()?;
        assert_eq!(refusal.errno, wanted, "{refusal}");
        if sys::kind(&sys::lstat(&list)?) == FileType::Directory {
            sys::rmdir(&list)?;
        } else {
            sys::unlink(&list)?;
        }
    }
    Ok(())
}
