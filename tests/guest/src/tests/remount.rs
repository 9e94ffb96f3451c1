// SPDX-License-Identifier: GPL-2.0

//! Branches that come, go and change while the union is mounted and in use.

use std::path::Path;

use rustix::mount::MountFlags;

use crate::harness::{
    map::Map,
    prelude::*,
    scratch,
    union::{mounts_line, reconfigure, remount2, Refused},
};

cases! {
    BASIC: adds_at_each_place, adds_by_mount2, members_are_left_alone, options_come_back_as_shown,
        directories_in_use_get_new_instances, open_files_stay_what_they_are,
        absent_names_appear, a_new_upper_branch_hides, hidden_directory_in_use,
        removal_of_a_branch_in_use, removal_of_an_idle_branch, removal_beside_open_objects,
        a_listing_goes_on, a_directory_that_is_read_keeps_its_branch,
        unlinked_open_file_keeps_its_branch, pseudo_links_of_a_removed_branch,
        removed_and_added_in_one_call, reordering_with_open_files,
        becomes_read_only, becomes_read_only_under_a_writer, mapped_for_writing,
        becomes_writable, whiteouts_begin_to_count, nolwh_and_back,
        all_or_nothing, bookkeeping_of_a_refused_branch, refusals, messages_name_the_culprit,
        mount_points_inside_stay, numbers_are_kept, root_attributes_follow_the_top,
        options_change, revalidation_begins_and_ends, snapshot_pattern, replaces_the_writable_branch;
    ONCE: branch_mount_is_free_after_removal, read_only_file_system_becomes_rw, up_to_the_limit;
}

/// One rw branch, one ro branch.
fn two(cx: &Ctx, upper: Tree, lower: Tree) -> Result<Union> {
    cx.union().rw(upper).ro(lower).mount()
}

fn remount(u: &Union, options: &[&str]) -> Result<(), Refused> {
    reconfigure(u.root(), options)
}

fn opt(word: &str, path: &Path, perm: &str) -> String {
    format!("{word}{}{perm}", path.display())
}

/// The branches as `/proc/mounts` shows them: paths and permissions, topmost first.
fn branches(u: &Union) -> Result<Vec<String>> {
    let line = mounts_line(u.root())?;
    let options = line[3].split(',');
    Ok(options
        .filter_map(|o| o.strip_prefix("br="))
        .map(str::to_owned)
        .collect())
}

fn shown(path: &Path, perm: &str) -> String {
    format!("{}={perm}", path.display())
}

/// Refused with this errno; the messages, as one text.
fn refused(result: Result<(), Refused>, wanted: Errno) -> String {
    let refusal = result.expect_err("the remount should have been refused");
    assert_eq!(refusal.errno, wanted, "{refusal}");
    refusal.log.join("\n")
}

fn adds_at_each_place(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/low", "low"))?;
    let top = cx.branch(kind, "rw", &Tree::new().file("d/top", "top"))?;
    let middle = cx.branch(kind, "ro", &Tree::new().file("d/middle", "middle"))?;
    let bottom = cx.branch(kind, "ro", &Tree::new().file("d/bottom", "bottom"))?;
    assert_eq!(names(u.at("d"))?, set(["low"]));
    remount(&u, &[&opt("append:", &bottom, "")])?;
    assert_eq!(names(u.at("d"))?, set(["low", "bottom"]));
    remount(&u, &[&opt("add:1:", &middle, "=ro+wh")])?;
    assert_eq!(names(u.at("d"))?, set(["low", "bottom", "middle"]));
    remount(&u, &[&opt("prepend:", &top, "")])?;
    assert_eq!(names(u.at("d"))?, set(["low", "bottom", "middle", "top"]));
    let wanted = [
        shown(&top, "rw"),
        shown(&u.br(0, ""), "rw"),
        shown(&middle, "ro+wh"),
        shown(&u.br(1, ""), "ro"),
        shown(&bottom, "ro"),
    ];
    assert_eq!(branches(&u)?, wanted);
    for name in ["low", "bottom", "middle", "top"] {
        assert_eq!(text(u.at(&format!("d/{name}")))?, name);
    }
    sys::write(u.at("d/new"), "new")?;
    assert_eq!(text(top.join("d/new"))?, "new");
    u.umount()
}

fn adds_by_mount2(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("a", "a"))?;
    let b = cx.branch(kind, "ro", &Tree::new().file("b", "b"))?;
    let c = cx.branch(kind, "ro", &Tree::new().file("c", "c"))?;
    // As container engines send it: colons, and a comma at the end.
    let data = format!("append:{}=ro+wh,append:{}=ro+wh,", b.display(), c.display());
    remount2(u.root(), MountFlags::empty(), &data)?;
    assert_eq!(names(u.root())?, set(["a", "b", "c"]));
    let data = format!("del:{},mod={}=ro", b.display(), c.display());
    remount2(u.root(), MountFlags::empty(), &data)?;
    assert_eq!(names(u.root())?, set(["a", "c"]));
    assert_eq!(branches(&u)?[2..], [shown(&c, "ro")]);
    // Counted from 0 in each call, as for a mount.
    let data = format!("br={}:{}=ro", c.display(), b.display());
    remount2(u.root(), MountFlags::empty(), &data)?;
    assert_eq!(branches(&u)?[1], shown(&b, "ro"));
    u.umount()
}

fn members_are_left_alone(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("a", "a"))?;
    let before = branches(&u)?;
    for word in ["append:", "prepend:", "add:1:", "br=", "ins=0:", "dirs="] {
        remount(&u, &[&opt(word, &u.br(1, ""), "=ro")])?;
        remount(&u, &[&opt(word, &u.br(0, ""), "=ro+wh")])?;
        assert_eq!(branches(&u)?, before, "after {word}");
    }
    u.umount()
}

fn options_come_back_as_shown(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("a", "a"))?;
    let b = cx.branch(kind, "ro", &Tree::new().file("b", "b"))?;
    let line = mounts_line(u.root())?;
    // As mount(8) does: first all that is shown, then what is asked for.
    let mut options: Vec<&str> = line[3].split(',').filter(|o| *o != "relatime").collect();
    let append = opt("append:", &b, "=ro");
    options.push(&append);
    remount(&u, &options)?;
    assert_eq!(names(u.root())?, set(["a", "b"]));
    let target = u.root().display().to_string();
    let delete = format!("remount,del:{}", b.display());
    scratch::run("mount", &["-o", &delete, &target])?;
    assert_eq!(names(u.root())?, set(["a"]));
    u.umount()
}

fn directories_in_use_get_new_instances(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(
        cx,
        Tree::new(),
        Tree::new().file("d/e/low", "low").file("only/x", "x"),
    )?;
    let b = cx.branch(
        kind,
        "ro",
        &Tree::new().file("d/e/f/new", "new").dir("only"),
    )?;
    let dir = dir::open_dir(u.at("d/e"))?;
    let only = dir::open_dir(u.at("only"))?;
    let number = sys::fstat(&dir)?.st_ino;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let e = sys::on_fd(
        "openat",
        rustix::fs::openat(&dir, "f/new", OFlags::RDONLY, Mode::empty()),
    )?;
    assert_eq!(sys::read_fd(&e)?, b"new");
    drop(e);
    assert_eq!(sys::fstat(&dir)?.st_ino, number);
    drop(dir);
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(names(u.at("d/e"))?, set(["low"]));
    errno(sys::lstat(u.at("d/e/f/new")), Errno::NOENT);
    assert_eq!(sys::lstat(u.at("only"))?.st_ino, sys::fstat(&only)?.st_ino);
    drop(only);
    u.umount()
}

fn open_files_stay_what_they_are(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("f", "old"))?;
    let top = cx.branch(kind, "rw", &Tree::new().file("f", "new"))?;
    let open = sys::open_ro(u.at("f"))?;
    remount(&u, &[&opt("prepend:", &top, "=rw")])?;
    assert_eq!(text(u.at("f"))?, "new");
    assert_eq!(sys::read_fd(&open)?, b"old");
    assert_ne!(sys::fstat(&open)?.st_ino, sys::lstat(u.at("f"))?.st_ino);
    sys::append(u.at("f"), "+")?;
    assert_eq!(text(top.join("f"))?, "new+");
    remount(&u, &[&opt("del:", &top, "")])?;
    assert_eq!(text(u.at("f"))?, "old");
    assert_eq!(sys::fstat(&open)?.st_ino, sys::lstat(u.at("f"))?.st_ino);
    drop(open);
    u.umount()
}

fn absent_names_appear(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    for udba in ["udba=reval", "udba=none"] {
        let u = cx
            .union()
            .rw(Tree::new())
            .ro(Tree::new().dir("d"))
            .opt(udba)
            .mount()?;
        for path in ["n", "d/n"] {
            errno(sys::lstat(u.at(path)), Errno::NOENT);
        }
        let b = cx.branch(kind, "ro", &Tree::new().file("n", "n").file("d/n", "n"))?;
        remount(&u, &[&opt("append:", &b, "")])?;
        for path in ["n", "d/n"] {
            assert_eq!(text(u.at(path))?, "n");
        }
        u.umount()?;
    }
    Ok(())
}

fn a_new_upper_branch_hides(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let tree = Tree::new()
        .file("f", "f")
        .file("d/x", "x")
        .file("o/y", "y")
        .file("t", "t");
    let u = two(cx, Tree::new(), tree)?;
    let all = ["f", "d", "o", "t"];
    assert_eq!(names(u.root())?, set(all));
    let top = Tree::new().whiteout("f").whiteout("d").opaque("o").dir("t");
    let top = cx.branch(kind, "rw", &top)?;
    remount(&u, &[&opt("prepend:", &top, "=rw")])?;
    assert_eq!(names(u.root())?, set(["o", "t"]));
    assert_eq!(names(u.at("o"))?, set([]));
    assert_eq!(names(u.at("t"))?, set([]));
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    errno(sys::lstat(u.at("d/x")), Errno::NOENT);
    remount(&u, &[&opt("mod:", &top, "=ro")])?;
    assert_eq!(names(u.root())?, set(all), "whiteouts on ro do not count");
    assert_eq!(names(u.at("o"))?, set(["y"]));
    remount(&u, &[&opt("del:", &top, "")])?;
    assert_eq!(text(u.at("t"))?, "t");
    u.umount()
}

fn hidden_directory_in_use(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/e/x", "x"))?;
    let inside = dir::open_dir(u.at("d/e"))?;
    let top = cx.branch(kind, "rw", &Tree::new().file("d", "now a file"))?;
    remount(&u, &[&opt("prepend:", &top, "=rw")])?;
    assert_eq!(text(u.at("d"))?, "now a file");
    let found = rustix::fs::openat(&inside, "x", OFlags::RDONLY, Mode::empty());
    assert_eq!(sys::read_fd(sys::on_fd("openat", found)?)?, b"x");
    let all = dir::unique(&dir::rest(&inside, 4096)?, Path::new("d/e"));
    assert_eq!(all, set([".", "..", "x"]));
    drop(inside);
    sys::unlink(u.at("d"))?;
    errno(sys::lstat(u.at("d")), Errno::NOENT);
    u.umount()
}

fn removal_of_a_branch_in_use(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("a", "a"))?;
    let tree = Tree::new()
        .file("f", "f")
        .file("only/x", "x")
        .symlink("l", "f")
        .fifo("p");
    let b = cx.branch(kind, "ro", &tree)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let delete = opt("del:", &b, "");
    let path_only = OFlags::PATH | OFlags::NOFOLLOW;
    for (name, flags) in [
        ("f", OFlags::RDONLY),
        ("f", path_only),
        ("l", path_only),
        ("p", OFlags::RDWR),
        ("only", OFlags::RDONLY | OFlags::DIRECTORY),
        ("only", path_only),
    ] {
        let held = sys::open(u.at(name), flags)?;
        let said = refused(remount(&u, &[&delete]), Errno::BUSY);
        assert!(
            said.contains(&format!("/{name} is in use")),
            "{name}: {said}"
        );
        assert!(said.contains(&*b.to_string_lossy()), "{said}");
        assert_eq!(names(u.root())?, set(["a", "f", "only", "l", "p"]));
        drop(held);
    }
    let held = sys::open_ro(u.at("f"))?;
    let map = Map::private(&held, 1)?;
    drop(held);
    refused(remount(&u, &[&delete]), Errno::BUSY);
    assert_eq!(map.bytes(), b"f");
    drop(map);
    remount(&u, &[&delete])?;
    assert_eq!(names(u.root())?, set(["a"]));
    for name in ["f", "l", "p", "only/x"] {
        errno(sys::lstat(u.at(name)), Errno::NOENT);
    }
    u.umount()
}

fn removal_of_an_idle_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/a", "a"))?;
    let tree = Tree::new()
        .files("d/n", 200)
        .files("m", 100)
        .file("d/e/f/g", "g");
    let b = cx.branch(kind, "ro", &tree)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    // All of it in the caches.
    for n in 0..200 {
        sys::lstat(u.at(&format!("d/n{n}")))?;
    }
    assert_eq!(names(u.at("d"))?.len(), 202);
    text(u.at("d/e/f/g"))?;
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(names(u.at("d"))?, set(["a"]));
    errno(sys::lstat(u.at("d/n0")), Errno::NOENT);
    errno(sys::lstat(u.at("d/e")), Errno::NOENT);
    u.umount()
}

fn removal_beside_open_objects(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/a", "a"))?;
    let b = cx.branch(kind, "ro", &Tree::new().file("d/b", "b"))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let file = sys::open_ro(u.at("d/a"))?;
    let writer = sys::open_mode(u.at("d/w"), OFlags::CREATE | OFlags::RDWR, 0o600)?;
    let root = dir::open_dir(u.root())?;
    let merged = dir::open_dir(u.at("d"))?;
    assert!(!dir::getdents(&merged, 4096)?.is_empty());
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(sys::read_fd(&file)?, b"a");
    sys::write_fd(&writer, b"w")?;
    assert_eq!(text(u.at("d/w"))?, "w");
    assert_eq!(
        dir::unique(&dir::rest(&root, 4096)?, u.root()),
        set([".", "..", "d"])
    );
    drop((file, writer, root, merged));
    u.umount()
}

fn a_listing_goes_on(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new().dir("d"), Tree::new().files("d/a", 100))?;
    let b = cx.branch(kind, "ro", &Tree::new().files("d/b", 100))?;
    let dir = dir::open_dir(u.at("d"))?;
    let mut seen = dir::getdents(&dir, 512)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    seen.extend(dir::rest(&dir, 512)?);
    assert_eq!(
        dir::unique(&seen, Path::new("d")).len(),
        102,
        "what it began with"
    );
    assert_eq!(names(u.at("d"))?.len(), 200);
    sys::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
    assert_eq!(dir::rest(&dir, 512)?.len(), 202);
    drop(dir);
    u.umount()
}

fn a_directory_that_is_read_keeps_its_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let b = cx.branch(kind, "ro", &Tree::new().files("d/b", 100))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let dir = dir::open_dir(u.at("d"))?;
    let mut seen = dir::getdents(&dir, 512)?;
    // From here on the directory is on both branches, but its reader goes on with one.
    sys::create(u.at("d/new"))?;
    let said = refused(remount(&u, &[&opt("del:", &b, "")]), Errno::BUSY);
    assert!(said.contains("/d is open for reading"), "{said}");
    seen.extend(dir::rest(&dir, 512)?);
    assert!(seen.len() >= 100);
    drop(dir);
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(names(u.at("d"))?, set(["new"]));
    u.umount()
}

fn unlinked_open_file_keeps_its_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let b = cx.branch(kind, "ro", &Tree::new().file("f", "f"))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let open = sys::open_ro(u.at("f"))?;
    sys::unlink(u.at("f"))?;
    let said = refused(remount(&u, &[&opt("del:", &b, "")]), Errno::BUSY);
    assert!(said.contains("is in use"), "{said}");
    assert_eq!(sys::read_fd(&open)?, b"f");
    drop(open);
    remount(&u, &[&opt("del:", &b, "")])?;
    u.umount()
}

fn pseudo_links_of_a_removed_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let tree = Tree::new()
        .file("a", "a")
        .hardlink("b", "a")
        .hardlink("c", "a");
    let b = cx.branch(kind, "ro", &tree)?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    sys::append(u.at("a"), "+")?;
    sys::unlink(u.at("c"))?;
    assert_eq!(text(u.at("b"))?, "a+");
    assert_eq!(sys::lstat(u.at("b"))?.st_nlink, 2);
    remount(&u, &[&opt("del:", &b, "")])?;
    assert_eq!(text(u.at("a"))?, "a+");
    assert_eq!(names(u.root())?, set(["a"]));
    sys::unlink(u.at("a"))?;
    u.umount()
}

fn removed_and_added_in_one_call(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(
        cx,
        Tree::new(),
        Tree::new().file("f", "first").file("a", "a"),
    )?;
    let b = cx.branch(kind, "ro", &Tree::new().file("f", "second").file("b", "b"))?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    assert_eq!(text(u.at("f"))?, "first");
    let open = sys::open_ro(u.at("b"))?;
    remount(&u, &[&opt("del:", &b, ""), &opt("add:1:", &b, "")])?;
    assert_eq!(text(u.at("f"))?, "second");
    assert_eq!(
        branches(&u)?[1..],
        [shown(&b, "ro"), shown(&u.br(1, ""), "ro")]
    );
    assert_eq!(sys::read_fd(&open)?, b"b");
    drop(open);
    u.umount()
}

fn reordering_with_open_files(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(
        cx,
        Tree::new(),
        Tree::new().file("d/f", "low").file("d/l", "l"),
    )?;
    let b = cx.branch(
        kind,
        "ro",
        &Tree::new().file("d/f", "lower").file("d/m", "m"),
    )?;
    remount(&u, &[&opt("append:", &b, "=ro")])?;
    let dir = dir::open_dir(u.at("d"))?;
    let file = sys::open_ro(u.at("d/f"))?;
    let (d, l) = (sys::fstat(&dir)?.st_ino, sys::lstat(u.at("d/l"))?.st_ino);
    for (first, second) in [(&b, &u.br(1, "")), (&u.br(1, ""), &b)] {
        let options = [opt("del:", second, ""), opt("append:", second, "=ro")];
        remount(&u, &[&options[0], &options[1]])?;
        assert_eq!(
            branches(&u)?[1..],
            [shown(first, "ro"), shown(second, "ro")]
        );
        let wanted = if first == &b { "lower" } else { "low" };
        assert_eq!(text(u.at("d/f"))?, wanted);
        assert_eq!(names(u.at("d"))?, set(["f", "l", "m"]));
        assert_eq!(sys::lstat(u.at("d"))?.st_ino, d);
        assert_eq!(sys::lstat(u.at("d/l"))?.st_ino, l);
    }
    assert_eq!(sys::read_fd(&file)?, b"low");
    assert_eq!(sys::fstat(&file)?.st_ino, sys::lstat(u.at("d/f"))?.st_ino);
    drop((dir, file));
    u.umount()
}

const BASES: [&str; 3] = [".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"];

fn becomes_read_only(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f").file("g", "g"))?;
    sys::append(u.at("f"), "+")?;
    sys::unlink(u.at("g"))?;
    let open = sys::open_rw(u.at("f"))?;
    let me = u.br(0, "");
    remount(&u, &[&opt("mod:", &me, "=ro+wh")])?;
    for base in BASES {
        assert!(!sys::exists(me.join(base)), "{base} should be gone");
    }
    assert_eq!(names(u.root())?, set(["f"]));
    errno(sys::create(u.at("n")), Errno::ROFS);
    errno(sys::open_rw(u.at("f")), Errno::ROFS);
    errno(sys::write_fd(&open, b"no"), Errno::ROFS);
    assert_eq!(sys::pread_fd(&open)?, b"f+");
    remount(&u, &[&opt("mod:", &me, "=rw")])?;
    for base in BASES {
        assert!(sys::exists(me.join(base)), "{base} should be back");
    }
    sys::write_fd(&open, b"y")?;
    assert_eq!(text(u.at("f"))?, "y+");
    drop(open);
    u.umount()
}

fn becomes_read_only_under_a_writer(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/f", "f"))?;
    let writer = sys::open_mode(u.at("d/w"), OFlags::CREATE | OFlags::RDWR, 0o644)?;
    sys::write_fd(&writer, b"one ")?;
    let reader = sys::open_ro(u.at("d/w"))?;
    let unnamed = sys::open_mode(u.at("d"), OFlags::TMPFILE | OFlags::RDWR, 0o600)?;
    sys::write_fd(&unnamed, b"un")?;
    let new = cx.branch(kind, "rw", &Tree::new())?;
    let options = [
        opt("prepend:", &new, "=rw"),
        opt("mod:", &u.br(0, ""), "=ro"),
    ];
    remount(&u, &[&options[0], &options[1]])?;
    sys::write_fd(&writer, b"two")?;
    sys::write_fd(&unnamed, b"named")?;
    assert_eq!(
        text(u.br(0, "d/w"))?,
        "one ",
        "the old branch is not written"
    );
    assert_eq!(text(new.join("d/w"))?, "one two");
    assert_eq!(sys::read_fd(&reader)?, b"one two");
    assert_eq!(sys::pread_fd(&unnamed)?, b"unnamed");
    // What was opened on the old branch is still open there.
    let said = refused(remount(&u, &[&opt("del:", &u.br(0, ""), "")]), Errno::BUSY);
    assert!(said.contains("is in use"), "{said}");
    drop((writer, reader, unnamed));
    remount(&u, &[&opt("del:", &u.br(0, ""), "")])?;
    assert_eq!(text(u.at("d/w"))?, "one two");
    u.umount()
}

fn mapped_for_writing(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    let open = sys::open_rw(u.at("f"))?;
    let mut map = Map::shared(&open, 1)?;
    drop(open);
    let said = refused(
        remount(&u, &[&opt("mod:", &u.br(0, ""), "=ro")]),
        Errno::BUSY,
    );
    assert!(said.contains("/f is mapped for writing"), "{said}");
    for base in BASES {
        assert!(sys::exists(u.br(0, base)), "{base}");
    }
    map.bytes_mut()[0] = b'g';
    drop(map);
    assert_eq!(text(u.at("f"))?, "g");
    remount(&u, &[&opt("mod:", &u.br(0, ""), "=ro")])?;
    u.umount()
}

fn becomes_writable(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let b = cx.branch(kind, "rw", &Tree::new().file("d/f", "f"))?;
    let u = cx.union().at(&b, "ro").mount()?;
    errno(sys::create(u.at("n")), Errno::ROFS);
    let open = sys::open_ro(u.at("d/f"))?;
    let number = sys::fstat(&open)?.st_ino;
    remount(&u, &[&opt("mod:", &b, "=rw")])?;
    sys::append(u.at("d/f"), "+")?;
    sys::create(u.at("n"))?;
    assert_eq!(text(b.join("d/f"))?, "f+");
    assert_eq!(sys::read_fd(&open)?, b"f+");
    assert_eq!(sys::lstat(u.at("d/f"))?.st_ino, number);
    drop(open);
    u.umount()
}

fn whiteouts_begin_to_count(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("f", "f").file("d/x", "x"))?;
    let b = cx.branch(kind, "ro", &Tree::new().whiteout("f").opaque("d"))?;
    remount(&u, &[&opt("add:1:", &b, "=ro")])?;
    let dir = dir::open_dir(u.at("d"))?;
    assert_eq!(text(u.at("f"))?, "f");
    remount(&u, &[&opt("mod:", &b, "=ro+wh")])?;
    errno(sys::lstat(u.at("f")), Errno::NOENT);
    errno(sys::lstat(u.at("d/x")), Errno::NOENT);
    remount(&u, &[&opt("mod=", &b, "=rr")])?;
    assert_eq!(text(u.at("d/x"))?, "x");
    let found = rustix::fs::openat(&dir, "x", OFlags::RDONLY, Mode::empty());
    sys::on_fd("openat", found)?;
    drop(dir);
    u.umount()
}

fn nolwh_and_back(cx: &Ctx) -> Result<()> {
    let tree = Tree::new().file("a", "a").file("b", "b").file("c", "c");
    let u = two(cx, Tree::new(), tree)?;
    let links = |name: &str| -> Result<u64> { Ok(sys::lstat(u.br(0, name))?.st_nlink as u64) };
    sys::unlink(u.at("a"))?;
    assert!(links(".wh.a")? > 1);
    remount(&u, &[&opt("mod:", &u.br(0, ""), "=rw+nolwh")])?;
    assert!(!sys::exists(u.br(0, BASES[0])));
    sys::unlink(u.at("b"))?;
    assert_eq!(links(".wh.b")?, 1);
    remount(&u, &[&opt("mod:", &u.br(0, ""), "=rw")])?;
    sys::unlink(u.at("c"))?;
    assert!(links(".wh.c")? > 1);
    assert_eq!(names(u.root())?, set([]));
    u.umount()
}

fn all_or_nothing(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    let good = cx.branch(kind, "ro", &Tree::new().file("g", "g"))?;
    let before = (branches(&u)?, mounts_line(u.root())?[3].clone());
    let open = sys::open_ro(u.at("f"))?;
    let lower = u.br(1, "");
    let (append, delete) = (opt("append:", &good, "=ro"), opt("del:", &lower, ""));
    refused(
        remount(&u, &["diropq=a", "sum", &append, &delete]),
        Errno::BUSY,
    );
    refused(remount(&u, &["verbose", &append, "add:9:/"]), Errno::DOM);
    refused(
        remount(&u, &["nosum", &append, "add:1:/proc"]),
        Errno::INVAL,
    );
    assert_eq!((branches(&u)?, mounts_line(u.root())?[3].clone()), before);
    assert_eq!(names(u.root())?, set(["f"]));
    drop(open);
    u.umount()
}

fn bookkeeping_of_a_refused_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let open = sys::open_ro(u.at("f"))?;
    let options = [opt("prepend:", &rw, "=rw"), opt("del:", &u.br(1, ""), "")];
    refused(remount(&u, &[&options[0], &options[1]]), Errno::BUSY);
    assert_eq!(
        names(&rw)?,
        set([]),
        "nothing is left of what was made for it"
    );
    drop(open);
    remount(&u, &[&options[0], &options[1]])?;
    assert_eq!(names(&rw)?, set(BASES));
    u.umount()
}

fn refusals(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/f", "f"))?;
    let before = branches(&u)?;
    let inside = u.br(1, "d");
    refused(remount(&u, &["append:/no/such=ro"]), Errno::INVAL);
    refused(remount(&u, &["del:/no/such"]), Errno::NOENT);
    refused(remount(&u, &["mod:/no/such=ro"]), Errno::NOENT);
    refused(remount(&u, &["append:/proc=ro"]), Errno::INVAL);
    refused(remount(&u, &["add:-1:/=ro"]), Errno::DOM);
    refused(
        remount(&u, &[&opt("append:", &inside, "=ro")]),
        Errno::INVAL,
    );
    let said = refused(
        remount(&u, &[&opt("append:", &u.at("d"), "=ro")]),
        Errno::INVAL,
    );
    assert!(said.contains("must be outside"), "{said}");
    refused(remount(&u, &["br=", "x"]), Errno::INVAL);
    refused(remount(&u, &["reorder=1"]), Errno::INVAL);
    // No member: fine, as in aufs.
    let other = cx.branch(kind, "ro", &Tree::new())?;
    remount(&u, &[&opt("del:", &other, ""), &opt("mod:", &other, "=rw")])?;
    assert_eq!(branches(&u)?, before);
    remount(&u, &[&opt("del:", &u.br(1, ""), "")])?;
    let said = refused(remount(&u, &[&opt("del:", &u.br(0, ""), "")]), Errno::BUSY);
    assert!(said.contains("last one"), "{said}");
    u.umount()
}

fn messages_name_the_culprit(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("a/b/some file", "x"))?;
    let open = sys::open_ro(u.at("a/b/some file"))?;
    let said = refused(remount(&u, &[&opt("del:", &u.br(1, ""), "")]), Errno::BUSY);
    assert!(said.contains("/a/b/some file is in use"), "{said}");
    let logged = cx.klog().join("\n");
    assert!(logged.contains("/a/b/some file is in use"), "{logged}");
    drop(open);
    u.umount()
}

fn mount_points_inside_stay(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().dir("mnt").file("file", "f"))?;
    let outside = cx.branch(kind, "ro", &Tree::new().file("o", "o"))?;
    rustix::mount::mount_bind(&outside, u.at("mnt"))?;
    rustix::mount::mount_bind(outside.join("o"), u.at("file"))?;
    let top = cx.branch(kind, "rw", &Tree::new().whiteout("mnt").whiteout("file"))?;
    remount(&u, &[&opt("prepend:", &top, "=rw")])?;
    assert_eq!(text(u.at("mnt/o"))?, "o");
    assert_eq!(text(u.at("file"))?, "o");
    scratch::umount(&u.at("mnt"))?;
    scratch::umount(&u.at("file"))?;
    u.umount()
}

fn numbers_are_kept(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("d/e/f", "f"))?;
    let held = [dir::open_dir(u.at("d/e"))?, sys::open_ro(u.at("d/e/f"))?];
    let number = |path: &str| -> Result<u64> { Ok(sys::lstat(u.at(path))?.st_ino) };
    let before = [number("d")?, number("d/e")?, number("d/e/f")?];
    let top = cx.branch(kind, "rw", &Tree::new().dir("d/e"))?;
    remount(&u, &[&opt("prepend:", &top, "=rw")])?;
    assert_eq!([number("d")?, number("d/e")?, number("d/e/f")?], before);
    sys::append(u.at("d/e/f"), "+")?;
    assert_eq!(number("d/e/f")?, before[2]);
    assert_eq!(sys::fstat(&held[0])?.st_ino, before[1]);
    drop(held);
    sys::drop_caches();
    assert_eq!([number("d")?, number("d/e")?, number("d/e/f")?], before);
    u.umount()
}

fn root_attributes_follow_the_top(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new())?;
    let top = cx.branch(kind, "rw", &Tree::new())?;
    sys::chmod(&top, 0o710)?;
    sys::chown(&top, Some(7), Some(8))?;
    let before = sys::lstat(u.root())?;
    remount(&u, &[&opt("prepend:", &top, "=rw")])?;
    let now = sys::lstat(u.root())?;
    assert_eq!((sys::mode(&now), now.st_uid, now.st_gid), (0o710, 7, 8));
    assert_eq!(now.st_ino, 2);
    remount(&u, &[&opt("del:", &top, "")])?;
    let now = sys::lstat(u.root())?;
    assert_eq!(
        (sys::mode(&now), now.st_uid),
        (sys::mode(&before), before.st_uid)
    );
    u.umount()
}

fn options_change(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    let has = |word: &str| -> Result<bool> {
        Ok(mounts_line(u.root())?[3].split(',').any(|o| o == word))
    };
    for (on, off, word) in [
        ("sum", "nosum", "sum"),
        ("verbose", "noverbose", "verbose"),
        ("diropq=a", "diropq=w", "diropq=a"),
        ("nowarn_perm", "warn_perm", "nowarn_perm"),
        ("udba=none", "udba=reval", "udba=none"),
    ] {
        assert!(!has(word)?);
        remount(&u, &[on])?;
        assert!(has(word)?, "{on}");
        remount(&u, &[])?;
        assert!(has(word)?, "{on} stays");
        remount(&u, &[off])?;
        assert!(!has(word)?, "{off}");
    }
    remount(&u, &["diropq=a"])?;
    sys::mkdir(u.at("d"))?;
    assert!(sys::exists(u.br(0, "d/.wh..wh..opq")));
    u.umount()
}

fn revalidation_begins_and_ends(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d"))
        .ro(Tree::new())
        .opt("udba=none")
        .mount()?;
    let inside = dir::open_dir(u.at("d"))?;
    errno(sys::lstat(u.at("d/n")), Errno::NOENT);
    sys::write(u.br(0, "d/n"), "n")?;
    errno(sys::lstat(u.at("d/n")), Errno::NOENT);
    remount(&u, &["udba=reval"])?;
    assert_eq!(text(u.at("d/n"))?, "n");
    sys::unlink(u.br(0, "d/n"))?;
    errno(sys::lstat(u.at("d/n")), Errno::NOENT);
    sys::rename(u.br(0, "d"), u.br(0, "e"))?;
    errno(sys::lstat(u.at("d")), Errno::NOENT);
    drop(inside);
    u.umount()
}

/// `mod:/rw0=ro+wh,prepend:/rw1=rw`: the writable branch becomes a layer under a new one.
fn snapshot_pattern(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(
        cx,
        Tree::new(),
        Tree::new().file("a", "a").file("b", "b").file("d/x", "x"),
    )?;
    sys::append(u.at("a"), "1")?;
    sys::unlink(u.at("b"))?;
    sys::unlink(u.at("d/x"))?;
    let new = cx.branch(kind, "rw", &Tree::new())?;
    let options = [
        opt("mod:", &u.br(0, ""), "=ro+wh"),
        opt("prepend:", &new, "=rw"),
    ];
    remount(&u, &[&options[0], &options[1]])?;
    assert_eq!(names(u.root())?, set(["a", "d"]));
    sys::append(u.at("a"), "2")?;
    sys::write(u.at("b"), "again")?;
    sys::write(u.at("d/x"), "again")?;
    assert_eq!(text(u.br(0, "a"))?, "a1");
    assert_eq!(text(new.join("a"))?, "a12");
    assert_eq!(names(u.at("d"))?, set(["x"]));
    u.umount()
}

/// Puppy's: the writable branch is replaced in one call, with a file open below.
fn replaces_the_writable_branch(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let u = two(cx, Tree::new(), Tree::new().file("low", "low"))?;
    sys::write(u.at("tmp"), "tmp")?;
    let save = cx.branch(kind, "rw", &Tree::new().file("saved", "saved"))?;
    let open = sys::open_ro(u.at("low"))?;
    let old = u.br(0, "");
    let data = format!(
        "prepend:{}=rw,mod:{}=ro,del:{}",
        save.display(),
        old.display(),
        old.display()
    );
    remount2(u.root(), MountFlags::empty(), &data)?;
    assert_eq!(names(u.root())?, set(["low", "saved"]));
    sys::append(u.at("low"), "+")?;
    assert_eq!(sys::read_fd(&open)?, b"low+");
    assert_eq!(text(save.join("low"))?, "low+");
    drop(open);
    u.umount()
}

fn branch_mount_is_free_after_removal(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f", "f"))?;
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Squashfs] {
        let b = match kind {
            Kind::Squashfs => {
                let staging = cx.dir(Kind::Tmpfs)?;
                Tree::new().file("d/x", "x").build(&staging)?;
                let image = scratch::pack(kind, &staging, &cx.name())?;
                let mnt = cx.mount_point()?;
                scratch::mount_image(kind, &image, &mnt)?;
                mnt
            }
            _ => {
                let mnt = cx.mount_point()?;
                scratch::mount("none", "tmpfs", &mnt, "")?;
                Tree::new().file("d/x", "x").build(&mnt)?;
                mnt
            }
        };
        remount(&u, &[&opt("add:1:", &b, "=rr+wh")])?;
        assert_eq!(text(u.at("d/x"))?, "x");
        assert_eq!(names(u.at("d"))?, set(["x"]));
        let open = sys::open_ro(u.at("d/x"))?;
        refused(remount(&u, &["verbose", &opt("del:", &b, "")]), Errno::BUSY);
        drop(open);
        remount(&u, &["verbose", &opt("del:", &b, "")])?;
        scratch::umount(&b)?;
    }
    u.umount()
}

fn read_only_file_system_becomes_rw(cx: &Ctx) -> Result<()> {
    let fs = scratch::Private::tmpfs(&cx.name(), "")?;
    let dir = fs.path().join("b");
    sys::mkdir(&dir)?;
    remount2(fs.path(), MountFlags::RDONLY, "")?;
    let u = cx.union().rw(Tree::new()).at(&dir, "ro").mount()?;
    let said = refused(remount(&u, &[&opt("mod:", &dir, "=rw")]), Errno::INVAL);
    assert!(said.contains("read-only file system"), "{said}");
    remount2(fs.path(), MountFlags::empty(), "")?;
    remount(&u, &[&opt("mod:", &dir, "=rw")])?;
    remount(&u, &[&opt("del:", &u.br(0, ""), "")])?;
    sys::create(u.at("n"))?;
    u.umount()?;
    fs.umount()
}

fn up_to_the_limit(cx: &Ctx) -> Result<()> {
    let u = two(cx, Tree::new(), Tree::new().file("f0", "f"))?;
    let base = cx.dir(Kind::Tmpfs)?;
    let mut count = 2;
    let refusal = loop {
        let dir = base.join(format!("b{count}"));
        sys::mkdir(&dir)?;
        Tree::new().file(&format!("f{count}"), "f").build(&dir)?;
        match remount(&u, &[&opt("append:", &dir, "=ro+wh")]) {
            Ok(()) => count += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.errno, Errno::NOSPC, "{refusal}");
    assert!(count >= 127, "{count}");
    assert_eq!(names(u.root())?.len(), count - 1);
    assert_eq!(branches(&u)?.len(), count);
    u.umount()
}
