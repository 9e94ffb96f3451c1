// SPDX-License-Identifier: GPL-2.0

//! Several names of one lower file, when the union is unmounted and mounted again.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{prelude::*, union::Change, watchdog};

cases! {
    XATTRS: names_lead_to_the_copy;
    WRITABLE: random_links;
    BASIC: notes_on_what_others_made, hidden_names_are_not_counted, hidden_names_of_a_file_that_is_written, each_order_of_removal, special_files,
        a_changed_original_is_another_file, other_branches, marks_of_others, through_two_copies,
        a_branch_that_is_read_only_now, a_removed_pseudo_link, without_attributes,
        many_hard_links, numbers_of_forged_notes, names_removed_after_snapshots;
}

/// All of `names` are one file, with `links` links and `data`.
#[track_caller]
fn one_file(u: &Union, names: &[&str], links: u64, data: &str) {
    let first = sys::lstat(u.at(names[0])).expect("the first name");
    for name in names {
        let stat = sys::lstat(u.at(name)).expect("a name");
        assert_eq!(stat.st_ino, first.st_ino, "{name}");
        assert_eq!(u64::from(stat.st_nlink as u32), links, "links of {name}");
        assert_eq!(text(u.at(name)).expect("its data"), data, "{name}");
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        let listed = dir::list(u.at(dir)).expect("its directory");
        let entry = listed.iter().find(|e| e.name == base).expect("its entry");
        assert_eq!(entry.ino, first.st_ino, "d_ino of {name}");
    }
}

/// The files in the directory of pseudo-links of the first branch.
fn plinks(u: &Union) -> Result<usize> {
    Ok(names(u.br(0, ".wh..wh.plnk"))?.len())
}

fn lower() -> Tree {
    Tree::new()
        .file("a", "low")
        .hardlink("b", "a")
        .hardlink("d/c", "a")
        .file("other", "")
}

fn names_lead_to_the_copy(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::append(u.at("a"), "+")?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    u.again()?;
    // The name that is only below comes first.
    assert_eq!(text(u.at("d/c"))?, "low+");
    one_file(&u, &["d/c", "b", "a"], 3, "low+");
    assert_eq!(sys::lstat(u.at("a"))?.st_ino, ino, "the number, too");
    sys::drop_caches();
    one_file(&u, &["a", "b", "d/c"], 3, "low+");
    u.again()?;
    let reader = sys::open_ro(u.at("a"))?;
    sys::append(u.at("b"), "b")?;
    assert_eq!(sys::pread_fd(&reader)?, b"low+b");
    drop(reader);
    sys::link(u.at("d/c"), u.at("e"))?;
    one_file(&u, &["e", "a", "b", "d/c"], 4, "low+b");
    u.again()?;
    one_file(&u, &["d/c", "e", "a", "b"], 4, "low+b");
    sys::rename(u.at("d/c"), u.at("d/f"))?;
    sys::rename(u.at("other"), u.at("b"))?;
    one_file(&u, &["d/f", "e", "a"], 3, "low+b");
    u.again()?;
    one_file(&u, &["d/f", "e", "a"], 3, "low+b");
    sys::unlink(u.at("a"))?;
    sys::unlink(u.at("e"))?;
    u.again()?;
    one_file(&u, &["d/f"], 1, "low+b");
    sys::unlink(u.at("d/f"))?;
    assert_eq!(plinks(&u)?, 0, "nothing is left of it");
    u.again()?;
    assert_eq!(names(u.root())?, set(["b", "d"]));
    Ok(())
}

fn hidden_names_are_not_counted(cx: &Ctx) -> Result<()> {
    let mut u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::unlink(u.at("a"))?;
    one_file(&u, &["b", "d/c"], 2, "low");
    sys::drop_caches();
    one_file(&u, &["d/c", "b"], 2, "low");
    u.again()?;
    one_file(&u, &["b", "d/c"], 2, "low");
    sys::write(u.at("new"), "new")?;
    sys::rename(u.at("new"), u.at("b"))?;
    one_file(&u, &["d/c"], 1, "low");
    u.again()?;
    one_file(&u, &["d/c"], 1, "low");
    sys::append(u.at("d/c"), "+")?;
    one_file(&u, &["d/c"], 1, "low+");
    sys::link(u.at("d/c"), u.at("a"))?;
    u.again()?;
    one_file(&u, &["a", "d/c"], 2, "low+");
    sys::unlink(u.at("d/c"))?;
    u.again()?;
    one_file(&u, &["a"], 1, "low+");
    sys::unlink(u.at("a"))?;
    assert_eq!(plinks(&u)?, 0);
    Ok(())
}

/// The copy is on a branch that became a layer, which cannot be told that a name is gone.
fn names_removed_after_snapshots(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    let snapshot = |u: &mut Union| -> Result<()> {
        let new = cx.branch(kind, "rw", &Tree::new())?;
        Ok(u.change(&Change::Snapshot(new))?)
    };
    sys::append(u.at("a"), "+")?;
    snapshot(&mut u)?;
    sys::unlink(u.at("a"))?;
    one_file(&u, &["b", "d/c"], 2, "low+");
    sys::drop_caches();
    one_file(&u, &["d/c", "b"], 2, "low+");
    u.again()?;
    one_file(&u, &["d/c", "b"], 2, "low+");
    snapshot(&mut u)?;
    sys::unlink(u.at("b"))?;
    u.again()?;
    one_file(&u, &["d/c"], 1, "low+");
    sys::append(u.at("d/c"), "+")?;
    sys::link(u.at("d/c"), u.at("e"))?;
    u.again()?;
    one_file(&u, &["e", "d/c"], 2, "low++");
    sys::unlink(u.at("e"))?;
    sys::unlink(u.at("d/c"))?;
    assert_eq!(
        plinks(&u)?,
        0,
        "nothing is left of it on the branch that is written"
    );
    u.umount()
}

/// The file is on a writable branch: its contents change there, and names come and go.
fn hidden_names_of_a_file_that_is_written(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .rw(Tree::new())
        .on(kind, "ro", Tree::new().file("other", "other"))
        .on(kind, "rw", lower())
        .mount()?;
    // It is copied up, and hides a name.
    sys::rename(u.at("other"), u.at("a"))?;
    one_file(&u, &["b", "d/c"], 2, "low");
    sys::append(u.at("b"), "+")?;
    for again in [false, true] {
        match again {
            true => u.again()?,
            false => sys::drop_caches(),
        }
        one_file(&u, &["b", "d/c"], 2, "low+");
    }
    sys::link(u.at("b"), u.at("d/e"))?;
    one_file(&u, &["b", "d/c", "d/e"], 3, "low+");
    u.again()?;
    one_file(&u, &["b", "d/c", "d/e"], 3, "low+");
    sys::unlink(u.at("b"))?;
    one_file(&u, &["d/c", "d/e"], 2, "low+");
    sys::drop_caches();
    one_file(&u, &["d/c", "d/e"], 2, "low+");
    assert!(exists(u.br(2, "d/e")), "it was not copied");
    sys::unlink(u.at("d/c"))?;
    sys::unlink(u.at("d/e"))?;
    assert_eq!(plinks(&u)?, 0);
    assert_eq!(text(u.at("a"))?, "other");
    Ok(())
}

fn each_order_of_removal(cx: &Ctx) -> Result<()> {
    let all = ["a", "b", "d/c"];
    for copied in [None, Some("a"), Some("d/c")] {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
            let mut data = "low".to_owned();
            if let Some(name) = copied {
                sys::append(u.at(name), "+")?;
                data.push('+');
            }
            for (n, gone) in order.into_iter().enumerate() {
                if n % 2 == 0 {
                    u.again()?;
                }
                sys::unlink(u.at(all[gone]))?;
                let left: Vec<_> = order[n + 1..].iter().map(|&i| all[i]).collect();
                if !left.is_empty() {
                    one_file(&u, &left, left.len() as u64, &data);
                    sys::drop_caches();
                    one_file(&u, &left, left.len() as u64, &data);
                }
            }
            assert_eq!(names(u.root())?, set(["d", "other"]));
            assert_eq!(plinks(&u)?, 0, "{copied:?} {order:?}");
        }
    }
    Ok(())
}

fn special_files(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .symlink("s", "target")
        .hardlink("s2", "s")
        .fifo("p")
        .hardlink("p2", "p");
    let mut u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::chown(u.at("s"), Some(7), None)?;
    sys::chmod(u.at("p"), 0o600)?;
    for _ in 0..2 {
        for (one, two) in [("s", "s2"), ("p", "p2")] {
            let (one, two) = (sys::lstat(u.at(one))?, sys::lstat(u.at(two))?);
            assert_eq!((one.st_ino, one.st_nlink), (two.st_ino, 2));
            assert_eq!(one.st_mode, two.st_mode);
            assert_eq!(one.st_uid, two.st_uid);
        }
        assert_eq!(sys::lstat(u.at("s2"))?.st_uid, 7);
        assert_eq!(sys::readlink(u.at("s2"))?, "target");
        assert_eq!(sys::mode(&sys::lstat(u.at("p2"))?), 0o600);
        u.again()?;
    }
    Ok(())
}

fn a_changed_original_is_another_file(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::append(u.at("a"), "+")?;
    let (top, low) = (u.br(0, ""), u.br(1, ""));
    u.umount()?;
    // Written in place: the copy was made of something else.
    sys::append(low.join("b"), " changed below")?;
    cx.changed_by_hand(&low)?;
    let again = || cx.union().at(&top, "rw").at(&low, "ro").mount();
    let u = again()?;
    assert_eq!(text(u.at("a"))?, "low+");
    assert_eq!(text(u.at("b"))?, "low changed below");
    assert_eq!(text(u.at("d/c"))?, "low changed below");
    u.umount()?;
    // Another file of the same name.
    std::fs::remove_file(low.join("b"))?;
    sys::write(low.join("b"), "new")?;
    cx.changed_by_hand(&low)?;
    let u = again()?;
    assert_eq!(text(u.at("a"))?, "low+");
    assert_eq!(text(u.at("b"))?, "new");
    assert_eq!(text(u.at("d/c"))?, "low changed below");
    u.umount()
}

fn other_branches(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::append(u.at("a"), "+")?;
    let (top, low) = (u.br(0, ""), u.br(1, ""));
    u.umount()?;
    let kinds = [Kind::Tmpfs, Kind::Ext4, Kind::Xfs];
    let mut others = Vec::new();
    for kind in kinds {
        let mut tree = Tree::new();
        // The numbers of the original's file system come again here.
        for i in 0..40 {
            tree = tree
                .file(&format!("{}-{i}", kind.name()), "other")
                .hardlink(
                    &format!("{}-{i}-too", kind.name()),
                    &format!("{}-{i}", kind.name()),
                );
        }
        others.push(cx.branch(kind, "ro", &tree)?);
    }
    let check = |u: &Union| -> Result<()> {
        one_file(u, &["b", "a", "d/c"], 3, "low+");
        for kind in kinds {
            for i in 0..40 {
                let name = format!("{}-{i}", kind.name());
                one_file(u, &[&name, &format!("{name}-too")], 2, "other");
            }
        }
        Ok(())
    };
    // Above the original, below it, and with the copy below its original.
    let mut union = cx.union().at(&top, "rw");
    for other in &others {
        union = union.at(other, "ro");
    }
    let u = union.at(&low, "ro").mount()?;
    check(&u)?;
    u.umount()?;
    let mut union = cx.union().at(&top, "rw").at(&low, "ro");
    for other in others.iter().rev() {
        union = union.at(other, "ro");
    }
    let u = union.mount()?;
    check(&u)?;
    u.umount()?;
    let u = cx.union().at(&low, "ro").at(&top, "rw").mount()?;
    for name in ["a", "b", "d/c"] {
        assert_eq!(text(u.at(name))?, "low");
    }
    u.umount()?;
    // Without the original its other names are gone, with it they are back.
    let u = cx.union().at(&top, "rw").mount()?;
    assert_eq!(names(u.root())?, set(["a"]));
    assert_eq!(text(u.at("a"))?, "low+");
    u.umount()?;
    let u = cx.union().at(&top, "rw").at(&low, "ro").mount()?;
    one_file(&u, &["b", "a", "d/c"], 3, "low+");
    u.umount()
}

fn marks_of_others(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    let ino = sys::lstat(u.at("a"))?.st_ino;
    let (top, low) = (u.br(0, ""), u.br(1, ""));
    u.umount()?;
    // What aufs leaves says nothing of a file; nor does nonsense.
    let dir = top.join(".wh..wh.plnk");
    sys::write(top.join("wrong"), "wrong")?;
    let wrong = sys::lstat(top.join("wrong"))?.st_ino;
    sys::link(top.join("wrong"), dir.join(format!("{ino}.{wrong}")))?;
    sys::write(dir.join("nonsense"), "")?;
    sys::write(dir.join(format!("{ino}.12345")), "")?;
    let note = "trusted.ruaufs.plink";
    sys::set_xattr(dir.join(format!("{ino}.12345")), note, [0xff; 56])?;
    sys::write(dir.join("1.2"), "")?;
    sys::set_xattr(dir.join("1.2"), note, "short")?;
    let u = cx.union().at(&top, "rw").at(&low, "ro").mount()?;
    one_file(&u, &["a", "b", "d/c"], 3, "low");
    assert_eq!(text(u.at("wrong"))?, "wrong");
    assert_eq!(sys::lstat(u.at("wrong"))?.st_nlink, 1);
    assert_eq!(
        names(&dir)?,
        set(["nonsense"]),
        "left-overs are removed, and nothing else"
    );
    sys::unlink(dir.join("nonsense"))?;
    sys::append(u.at("a"), "+")?;
    let link = names(&dir)?.pop_first().expect("the pseudo-link");
    errno(sys::get_xattr(u.at("a"), note), Errno::NODATA);
    errno(sys::set_xattr(u.at("a"), note, "x"), Errno::PERM);
    assert!(!sys::list_xattr(u.at("a"))?.contains(note));
    u.umount()?;
    // The note of one file on another.
    let value = sys::get_xattr(dir.join(&link), note)?;
    let mut other = value.clone();
    other[39] ^= 1;
    sys::set_xattr(dir.join(&link), note, other)?;
    let u = cx.union().at(&top, "rw").at(&low, "ro").mount()?;
    assert_eq!(text(u.at("a"))?, "low+");
    assert_eq!(text(u.at("b"))?, "low");
    u.umount()
}

fn through_two_copies(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::append(u.at("a"), "+")?;
    let (old, low) = (u.br(0, ""), u.br(1, ""));
    u.umount()?;
    let top = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let mount = || {
        cx.union()
            .at(&top, "rw")
            .at(&old, "ro+wh")
            .at(&low, "ro")
            .mount()
    };
    let mut u = mount()?;
    one_file(&u, &["b", "a", "d/c"], 3, "low+");
    sys::append(u.at("b"), "+")?;
    one_file(&u, &["a", "d/c", "b"], 3, "low++");
    u.again()?;
    one_file(&u, &["d/c", "a", "b"], 3, "low++");
    sys::unlink(u.at("a"))?;
    u.again()?;
    one_file(&u, &["d/c", "b"], 2, "low++");
    for name in ["d/c", "b"] {
        sys::unlink(u.at(name))?;
    }
    assert_eq!(plinks(&u)?, 0);
    u.umount()
}

fn a_branch_that_is_read_only_now(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::append(u.at("d/c"), "+")?;
    let (top, low) = (u.br(0, ""), u.br(1, ""));
    u.umount()?;
    let u = cx.union().at(&top, "ro+wh").at(&low, "ro").mount()?;
    one_file(&u, &["a", "b", "d/c"], 3, "low+");
    u.umount()
}

fn a_removed_pseudo_link(cx: &Ctx) -> Result<()> {
    // What auplink does: each name is copied, then the pseudo-links go.
    let mut u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
    sys::append(u.at("a"), "+")?;
    for name in ["a", "b", "d/c"] {
        sys::chown(u.at(name), None, None)?;
    }
    let dir = u.br(0, ".wh..wh.plnk");
    for link in names(&dir)? {
        sys::unlink(dir.join(link))?;
    }
    one_file(&u, &["a", "b", "d/c"], 3, "low+");
    for _ in 0..2 {
        u.again()?;
        one_file(&u, &["b", "d/c", "a"], 3, "low+");
    }
    sys::unlink(u.at("b"))?;
    one_file(&u, &["d/c", "a"], 2, "low+");
    Ok(())
}

fn without_attributes(cx: &Ctx) -> Result<()> {
    // A union of unions has no identity: names part at unmount, as in aufs, and not before.
    let inner = cx.branch(Kind::Nested, "ro", &lower())?;
    let top = cx.branch(cx.layout.upper(), "rw", &Tree::new())?;
    let u = cx.union().at(&top, "rw").at(&inner, "ro").mount()?;
    sys::append(u.at("a"), "+")?;
    sys::drop_caches();
    one_file(&u, &["a", "b", "d/c"], 3, "low+");
    sys::unlink(u.at("b"))?;
    sys::drop_caches();
    one_file(&u, &["a", "d/c"], 2, "low+");
    u.umount()?;
    let u = cx.union().at(&top, "rw").at(&inner, "ro").mount()?;
    assert_eq!(text(u.at("a"))?, "low+");
    assert_eq!(text(u.at("d/c"))?, "low");
    u.umount()
}

fn many_hard_links(cx: &Ctx) -> Result<()> {
    // All that is done to hard links, for many files with two names and one file with many. What
    // it costs is measured by `make bench` (links.few, links.many).
    const COUNT: usize = 1200;
    let mut low = Tree::new().file("farm/0", "x");
    for i in 0..COUNT {
        low = low
            .file(&format!("d/{i}"), "y")
            .hardlink(&format!("e/{i}"), &format!("d/{i}"))
            .hardlink(&format!("farm/{}", i + 1), "farm/0");
    }
    let mut u = cx.union().rw(Tree::new()).ro(low).mount()?;
    for i in 0..COUNT {
        sys::append(u.at(&format!("d/{i}")), "+")?;
        sys::append(u.at(&format!("farm/{i}")), "+")?;
    }
    watchdog::alive();
    u.again()?;
    for i in 0..COUNT {
        assert_eq!(sys::lstat(u.at(&format!("e/{i}")))?.st_nlink, 2);
        sys::unlink(u.at(&format!("farm/{i}")))?;
        sys::unlink(u.at(&format!("e/{i}")))?;
    }
    watchdog::alive();
    assert_eq!(sys::lstat(u.at(&format!("farm/{COUNT}")))?.st_nlink, 1);
    let all = "x".to_owned() + &"+".repeat(COUNT);
    assert_eq!(text(u.at(&format!("farm/{COUNT}")))?, all);
    Ok(())
}

/// Random operations on few names; `model` has the file of each name, `files` their data.
fn random_links(cx: &Ctx) -> Result<()> {
    let seed: u64 = std::env::var("SEED").map_or(Ok(1), |seed| seed.parse())?;
    let steps: usize = std::env::var("STEPS").map_or(Ok(600), |steps| steps.parse())?;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    const NAMES: [&str; 10] = [
        "a", "b", "c", "d/a", "d/b", "d/c", "e/a", "e/b", "e/c", "e/f/a",
    ];
    let tree = |names: [&str; 4], other: &str| {
        let mut tree = Tree::new().file(names[0], names[0]).file(other, other);
        for name in &names[1..] {
            tree = tree.hardlink(name, names[0]);
        }
        tree
    };
    for round in 0..steps.div_ceil(60) {
        watchdog::alive();
        let mut u = cx
            .union()
            .rw(Tree::new().dir("e"))
            .ro(tree(["a", "d/a", "e/b", "e/f/a"], "b"))
            .ro(tree(["c", "d/b", "e/a", "e/c"], "d/c"))
            .mount()?;
        let mut model: BTreeMap<&str, usize> = BTreeMap::new();
        let mut files = vec!["a".to_owned(), "b".into(), "c".into(), "d/c".into()];
        for (name, file) in NAMES.into_iter().zip([0, 1, 2, 0, 2, 3, 2, 0, 2, 0]) {
            model.insert(name, file);
        }
        let mut log = Vec::new();
        for _ in 0..60 {
            let (one, two) = (NAMES[random(NAMES.len())], NAMES[random(NAMES.len())]);
            let has = |name| model.contains_key(name);
            match random(9) {
                0 if has(one) && !has(two) => {
                    log.push(format!("link {one} {two}"));
                    sys::link(u.at(one), u.at(two))?;
                    model.insert(two, model[one]);
                }
                1 | 2 if has(one) => {
                    log.push(format!("unlink {one}"));
                    sys::unlink(u.at(one))?;
                    model.remove(one);
                }
                3 | 4 if has(one) => {
                    log.push(format!("rename {one} {two}"));
                    sys::rename(u.at(one), u.at(two))?;
                    let file = model[one];
                    // Of one name over another of the same file nothing comes.
                    if model.get(two) != Some(&file) {
                        model.remove(one);
                        model.insert(two, file);
                    }
                }
                5 if has(one) => {
                    log.push(format!("append {one}"));
                    sys::append(u.at(one), ".")?;
                    files[model[one]].push('.');
                }
                6 if !has(one) => {
                    log.push(format!("create {one}"));
                    sys::write(u.at(one), one)?;
                    model.insert(one, files.len());
                    files.push(one.to_owned());
                }
                7 => {
                    log.push("drop_caches".into());
                    sys::drop_caches();
                }
                8 if random(2) == 0 => {
                    log.push("remount".into());
                    u.again()?;
                }
                _ => continue,
            }
            let mut numbers = BTreeMap::new();
            for name in NAMES {
                let Some(&file) = model.get(name) else {
                    errno(sys::lstat(u.at(name)), Errno::NOENT);
                    continue;
                };
                let stat = sys::lstat(u.at(name)).with_context(|| format!("{log:?}"))?;
                let links = model.values().filter(|&&other| other == file).count();
                let context = || format!("SEED={seed}, round {round}, {name} after {log:?}");
                assert_eq!(stat.st_nlink as usize, links, "links: {}", context());
                assert_eq!(text(u.at(name))?, files[file], "data: {}", context());
                let number = *numbers.entry(file).or_insert(stat.st_ino);
                assert_eq!(stat.st_ino, number, "number: {}", context());
            }
            let distinct: std::collections::BTreeSet<_> = numbers.values().collect();
            assert_eq!(distinct.len(), numbers.len(), "SEED={seed} {log:?}");
        }
        for name in NAMES.into_iter().filter(|name| model.contains_key(name)) {
            sys::unlink(u.at(name))?;
        }
        assert_eq!(plinks(&u)?, 0, "SEED={seed}, round {round}: {log:?}");
    }
    Ok(())
}

/// A note that speaks of the number of another object, and not of that: no two have one number.
fn numbers_of_forged_notes(cx: &Ctx) -> Result<()> {
    let low = lower().file("victim", "v").file("dir/f", "f");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("a"), "+")?;
    let (top, low) = (u.br(0, ""), u.br(1, ""));
    let plinks = top.join(".wh..wh.plnk");
    u.umount()?;
    let link = plinks.join(names(&plinks)?.pop_first().context("the pseudo-link")?);
    let note = sys::get_xattr(&link, "trusted.ruaufs.plink")?;
    for victim in ["victim", "dir"] {
        let mut forged = note.clone();
        forged[32..40].copy_from_slice(&sys::lstat(low.join(victim))?.st_ino.to_be_bytes());
        sys::set_xattr(&link, "trusted.ruaufs.plink", &forged)?;
        for first in ["a", victim] {
            let u = cx.union().at(&top, "rw").at(&low, "ro").mount()?;
            sys::lstat(u.at(first))?;
            let number = |name| -> Result<u64> { Ok(sys::lstat(u.at(name))?.st_ino) };
            let of = [number("a")?, number("victim")?, number("dir")?];
            assert_eq!(
                BTreeSet::from(of).len(),
                3,
                "{victim}, {first} first: {of:?}"
            );
            sys::drop_caches();
            assert_eq!([number("a")?, number("victim")?, number("dir")?], of);
            assert_eq!(text(u.at("victim"))?, "v");
            assert_eq!(text(u.at("a"))?, "low+");
            u.umount()?;
        }
    }
    Ok(())
}

/// The note of a copy, on an object of another type: a regular file is none of these. They are put
/// there before the mount, and while it is mounted.
fn notes_on_what_others_made(cx: &Ctx) -> Result<()> {
    let types = [
        FileType::Directory,
        FileType::Fifo,
        FileType::Symlink,
        FileType::CharacterDevice,
        FileType::Socket,
    ];
    for kind in types {
        for mounted in [false, true] {
            let u = cx.union().rw(Tree::new()).ro(lower()).mount()?;
            sys::append(u.at("a"), "+")?;
            let (top, low) = (u.br(0, ""), u.br(1, ""));
            let dir = top.join(".wh..wh.plnk");
            let link = dir.join(names(&dir)?.pop_first().context("the pseudo-link")?);
            let u = match mounted {
                true => Some(u),
                false => {
                    u.umount()?;
                    None
                }
            };
            let note = sys::get_xattr(&link, "trusted.ruaufs.plink")?;
            sys::unlink(&link)?;
            // It is called by its own number.
            let other = dir.join("other");
            match kind {
                FileType::Directory => sys::mkdir(&other)?,
                FileType::Symlink => sys::symlink("/etc/passwd", &other)?,
                kind => sys::mknod(&other, kind, 0o600, sys::dev(1, 3))?,
            }
            let number = sys::lstat(&other)?.st_ino;
            let name = link.file_name().context("its name")?.to_string_lossy();
            let (ino, _) = name.split_once('.').context("two numbers")?;
            let forged = dir.join(format!("{ino}.{number}"));
            sys::rename(&other, &forged)?;
            rustix::fs::lsetxattr(
                &forged,
                "trusted.ruaufs.plink",
                &note,
                rustix::fs::XattrFlags::empty(),
            )?;
            if mounted {
                // Under the name that the union looks for.
                sys::rename(&forged, &link)?;
            }
            sys::drop_caches();
            let u = match u {
                Some(u) => u,
                None => cx.union().at(&top, "rw").at(&low, "ro").mount()?,
            };
            for name in ["b", "d/c"] {
                let stat = sys::lstat(u.at(name))?;
                assert_eq!(sys::kind(&stat), FileType::RegularFile, "{kind:?}: {name}");
            }
            assert_eq!(text(u.at("a"))?, "low+");
            u.umount()?;
            let left = names(&dir)?;
            for name in left {
                let path = dir.join(name);
                let _ = sys::unlink(&path).or_else(|_| sys::rmdir(&path));
            }
        }
    }
    Ok(())
}
