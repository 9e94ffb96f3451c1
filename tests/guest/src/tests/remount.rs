// SPDX-License-Identifier: GPL-2.0

//! Branches and options that change while the union is mounted and in use: what is added, moved and
//! refused. See also `branch_removal` and `branch_permission`.

use std::path::Path;

use rustix::mount::MountFlags;

use crate::harness::{
    prelude::*,
    scratch,
    union::{mounts_line, reconfigure, remount2, Refused},
};

cases! {
    BASIC: adds_at_each_place, adds_by_mount2, members_are_left_alone, options_come_back_as_shown,
        directories_in_use_get_new_instances, open_files_stay_what_they_are, absent_names_appear,
        a_new_upper_branch_hides, hidden_directory_in_use, reordering_with_open_files,
        all_or_nothing, bookkeeping_of_a_refused_branch, refusals, messages_name_the_culprit,
        mount_points_inside_stay, numbers_are_kept, root_attributes_follow_the_top, options_change,
        revalidation_begins_and_ends, snapshot_pattern, replaces_the_writable_branch;
    ONCE: up_to_the_limit;
}

/// What a writable branch has beside the user's files.
pub(super) const BASES: [&str; 3] = [".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"];

/// One rw branch, one ro branch.
pub(super) fn two(cx: &Ctx, upper: Tree, lower: Tree) -> Result<Union> {
    cx.union().rw(upper).ro(lower).mount()
}

pub(super) fn remount(u: &Union, options: &[&str]) -> Result<(), Refused> {
    reconfigure(u.root(), options)
}

pub(super) fn opt(word: &str, path: &Path, perm: &str) -> String {
    format!("{word}{}{perm}", path.display())
}

/// The branches as `/proc/mounts` shows them: paths and permissions, topmost first.
pub(super) fn branches(u: &Union) -> Result<Vec<String>> {
    let line = mounts_line(u.root())?;
    let options = line[3].split(',');
    Ok(options
        .filter_map(|o| o.strip_prefix("br="))
        .map(str::to_owned)
        .collect())
}

pub(super) fn shown(path: &Path, perm: &str) -> String {
    format!("{}={perm}", path.display())
}

/// Refused with this errno; the messages, as one text.
pub(super) fn refused(result: Result<(), Refused>, wanted: Errno) -> String {
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
    refused(remount(&u, &["append:/no/such=ro"]), Errno::NOENT);
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
        ("noclaim", "claim", "noclaim"),
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
