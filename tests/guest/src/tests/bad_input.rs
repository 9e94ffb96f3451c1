// SPDX-License-Identifier: GPL-2.0

//! Mounts that must be refused: with the right errno, a message that names what is wrong in the
//! mount API's log and in the kernel's, and without a trace afterwards.

use std::{os::unix::process::CommandExt, path::Path};

use rustix::{
    fs::CWD,
    io::Errno as E,
    mount::{
        fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_path,
        fsconfig_set_string, fsmount, fsopen, FsMountFlags, FsOpenFlags, MountAttrFlags,
        MountFlags,
    },
};

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
    union::{mounts_line, reconfigure, remount2, Spec},
};

cases! {
    BASIC: no_branch, empty_list, missing_path, not_a_directory, same_directory_twice,
        one_inside_the_other, unknown_options, wrong_values, wrong_indexes,
        foreign_object_with_a_base_name, part_of_the_union_itself;
    ONCE: pseudo_file_systems, stacked_too_deep, too_many_branches, writable_on_read_only,
        writable_union, removed_directory, unprivileged_mount, too_many_options, in_a_user_namespace, wrong_kinds_of_values,
        contexts_that_are_given_up, nothing_is_pinned, again_and_again, unreadable_paths,
        module_can_be_unloaded, full_before_all_is_made;
}

/// A writable tmpfs of the test's own with two directories, to see that nothing pins it.
fn ground(cx: &Ctx) -> Result<(Private, String, String)> {
    let fs = Private::tmpfs(&cx.name(), "")?;
    Tree::new().dir("rw").file("ro/f", "f").build(fs.path())?;
    let path = |name| fs.path().join(name).display().to_string();
    let (rw, ro) = (path("rw"), path("ro"));
    Ok((fs, rw, ro))
}

/// How long the kernel's log takes to have room for us again.
const LOG_INTERVAL: std::time::Duration = std::time::Duration::from_secs(6);

/// Asserts that both APIs refuse these options with this errno, and that the messages hold one
/// word of each group.
#[track_caller]
pub(crate) fn refused(cx: &Ctx, options: &[&str], errno: E, words: &[&[&str]]) {
    for api in [Api::Mount2, Api::Fsopen] {
        let mut before = cx.klog().len();
        let mnt = cx.mount_point().expect("a mount point");
        let what = format!("{api:?} {options:?}");
        let Err(refusal) = Spec::new(options).api(api).mount(&mnt) else {
            scratch::umount(&mnt).expect("umount");
            panic!("{what} was mounted");
        };
        assert_eq!(refusal.errno, errno, "{what}: {refusal}");
        assert!(mounts_line(&mnt).is_err(), "{what}: something is mounted");
        if cx.klog().len() == before {
            std::thread::sleep(LOG_INTERVAL);
            before = cx.klog().len();
            Spec::new(options)
                .api(api)
                .mount(&mnt)
                .expect_err("once more");
        }
        let said = cx.klog()[before..].join("\n");
        let mut logs = vec![("the kernel log", said)];
        if api == Api::Fsopen {
            logs.push(("the mount API's log", refusal.log.join("\n")));
        }
        for (log, text) in logs {
            for group in words {
                let found = group
                    .iter()
                    .any(|w| text.to_lowercase().contains(&w.to_lowercase()));
                assert!(found, "{what}: {log} has none of {group:?}: {text:?}");
            }
        }
    }
}

fn no_branch(cx: &Ctx) -> Result<()> {
    refused(cx, &[], E::INVAL, &[&["branch"]]);
    refused(cx, &["udba=none", "sum"], E::INVAL, &[&["branch"]]);
    Ok(())
}

fn empty_list(cx: &Ctx) -> Result<()> {
    refused(
        cx,
        &["br="],
        E::INVAL,
        &[&["br"], &["empty", "at least one", "missing"]],
    );
    refused(
        cx,
        &["dirs="],
        E::INVAL,
        &[&["dirs"], &["empty", "at least one", "missing"]],
    );
    Ok(())
}

fn missing_path(cx: &Ctx) -> Result<()> {
    let (fs, rw, _) = ground(cx)?;
    let missing = format!("{rw}/missing");
    refused(
        cx,
        &[&format!("br={missing}")],
        E::NOENT,
        &[&["br"], &[&missing]],
    );
    refused(
        cx,
        &[&format!("br={rw}=rw:{missing}=ro")],
        E::NOENT,
        &[&["br"], &[&missing]],
    );
    refused(
        cx,
        &[&format!("br={rw}"), &format!("append={missing}")],
        E::NOENT,
        &[&["append"], &[&missing]],
    );
    fs.umount()
}

fn not_a_directory(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let file = format!("{ro}/f");
    let reason: &[&str] = &["not a directory", "no directory", "ENOTDIR"];
    refused(
        cx,
        &[&format!("br={file}=rw")],
        E::NOTDIR,
        &[&[&file], reason],
    );
    refused(
        cx,
        &[&format!("br={rw}=rw:{file}=ro")],
        E::NOTDIR,
        &[&[&file], reason],
    );
    refused(
        cx,
        &[&format!("br={rw}=rw:/dev/null=ro")],
        E::NOTDIR,
        &[&["/dev/null"], reason],
    );
    fs.umount()
}

fn same_directory_twice(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let reason: &[&str] = &["duplicat", "twice", "already"];
    refused(
        cx,
        &[&format!("br={rw}=rw:{ro}=ro:{rw}=ro")],
        E::INVAL,
        &[&[&rw], reason],
    );
    refused(cx, &[&format!("br={rw}:{rw}")], E::INVAL, &[&[&rw], reason]);
    refused(
        cx,
        &[&format!("br={rw}=rw"), &format!("br={rw}=ro")],
        E::INVAL,
        &[&[&rw], reason],
    );
    // Also under another name, and through another mount.
    let link = fs.path().join("link");
    sys::symlink(&rw, &link)?;
    let link = link.display().to_string();
    refused(
        cx,
        &[&format!("br={rw}=rw:{link}=ro")],
        E::INVAL,
        &[&[&link]],
    );
    let view = cx.mount_point()?;
    rustix::mount::mount_bind(&rw, &view)?;
    let bound = view.display().to_string();
    refused(
        cx,
        &[&format!("br={rw}=rw:{bound}=ro")],
        E::INVAL,
        &[&[&bound]],
    );
    scratch::umount(&view)?;
    fs.umount()
}

fn one_inside_the_other(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let deep = format!("{ro}/a/b/c");
    std::fs::create_dir_all(&deep)?;
    let reason: &[&str] = &["overlap", "inside", "contains", "ancestor"];
    let top = fs.path().display().to_string();
    refused(
        cx,
        &[&format!("br={ro}=rw:{deep}=ro")],
        E::INVAL,
        &[&[&deep], reason],
    );
    refused(
        cx,
        &[&format!("br={deep}=rw:{ro}=ro")],
        E::INVAL,
        &[&[&ro], reason],
    );
    refused(
        cx,
        &[&format!("br={rw}=rw:{deep}=ro:{top}=ro")],
        E::INVAL,
        &[&[&top], reason],
    );
    refused(
        cx,
        &[&format!("br={top}=rw:{ro}=ro")],
        E::INVAL,
        &[&[&ro], reason],
    );
    let view = cx.mount_point()?;
    rustix::mount::mount_bind(&deep, &view)?;
    let bound = view.display().to_string();
    refused(
        cx,
        &[&format!("br={rw}=rw:{ro}=ro:{bound}=ro")],
        E::INVAL,
        &[&[&bound], reason],
    );
    scratch::umount(&view)?;
    fs.umount()
}

fn unknown_options(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let list = format!("br={rw}=rw:{ro}=ro");
    for option in ["bogus", "bogus=1", "wbr_create=rr", "icexsec", "reorder=1"] {
        let key = option.split('=').next().unwrap_or(option);
        refused(cx, &[&list, option], E::INVAL, &[&[key]]);
        refused(cx, &[option, &list], E::INVAL, &[&[key]]);
    }
    refused(cx, &[&format!("dirs:{rw}")], E::INVAL, &[&["dirs:"]]);
    fs.umount()
}

fn wrong_values(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let list = format!("br={rw}=rw:{ro}=ro");
    let wrong = "\
        udba=bogus create=bogus create=mfs:99999 cpup=bogus diropq=x rdcache=3601 rdcache=x \
        rdblk=100 rdhash=x dirwh=x dirwh=-1 udba= rdcache= udba create create= create=mfsrr \
        create=tdmfs create=tdmfs:x create=pmfsrr: create=mfs:-1 create=pmfs:3601 \
        create=rr:1 create_policy=bogus cpup cpup= copyup=mfs copyup_policy=bogus diropq \
        diropq= rdcache=-1 rdblk rdblk=x rdblk=254 rdblk=4194305 rdhash= rdhash=-1 \
        rdhash=524289 dirwh dirwh=2147483648 fhsm_sec fhsm_sec=x fhsm_sec=-1 \
        fhsm_sec=2147483648 xino xino= trunc_xino= itrunc_xino itrunc_xino=x noxino=1 \
        list_plink=1 plink=1 nodirren=x verbose=1 add append append= prepend= del del= mod \
        mod=";
    for option in wrong.split_whitespace() {
        let key = option.split('=').next().unwrap_or(option);
        refused(cx, &[&list, option], E::INVAL, &[&[key]]);
    }
    fs.umount()
}

fn wrong_indexes(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let list = format!("br={rw}=rw");
    refused(cx, &[&list, &format!("add=2:{ro}")], E::DOM, &[&["add"]]);
    refused(cx, &[&list, &format!("ins=99:{ro}")], E::DOM, &[&["ins"]]);
    refused(cx, &[&list, &format!("add={ro}")], E::INVAL, &[&["add"]]);
    refused(cx, &[&list, &format!("add=x:{ro}")], E::INVAL, &[&["add"]]);
    refused(cx, &[&list, &format!("add=-1:{ro}")], E::DOM, &[&["add"]]);
    refused(cx, &[&list, &format!("mod={rw}")], E::INVAL, &[&["mod"]]);
    fs.umount()
}

fn foreign_object_with_a_base_name(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    for tree in [
        Tree::new().dir(".wh..wh.aufs"),
        Tree::new().file(".wh..wh.aufs", "somebody's"),
        Tree::new().file(".wh..wh.plnk", ""),
        Tree::new().symlink(".wh..wh.orph", "elsewhere"),
    ] {
        let dir = cx.branch(kind, "ro", &tree)?; // It must stay as it is.
        let path = dir.display().to_string();
        refused(
            cx,
            &[&format!("br={path}=rw")],
            E::INVAL,
            &[&[&path], &[".wh..wh."]],
        );
    }
    Ok(())
}

/// The file system has room for one or two of the bookkeeping objects.
fn full_before_all_is_made(cx: &Ctx) -> Result<()> {
    for inodes in [3, 4] {
        let name = format!("{}-{inodes}", cx.name());
        let fs = Private::tmpfs(&name, &format!("nr_inodes={inodes}"))?;
        sys::mkdir(fs.path().join("rw"))?;
        let path = fs.path().join("rw").display().to_string();
        refused(
            cx,
            &[&format!("br={path}=rw")],
            E::NOSPC,
            &[&[&path], &[".wh..wh."]],
        );
        assert_eq!(names(&path)?, set([]), "room for {}", inodes - 2);
        fs.umount()?;
    }
    Ok(())
}

fn part_of_the_union_itself(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("top"))
        .ro(Tree::new().file("d/f", "f"))
        .mount()?;
    for dir in ["", "d", "top"] {
        let own = u.at(dir).display().to_string();
        let data = format!("append:{own}=ro");
        errno(remount2(u.root(), MountFlags::empty(), &data), E::INVAL);
        let refusal = reconfigure(u.root(), &[&format!("append={own}=ro")]);
        let refusal = refusal.expect_err("a union as a branch of itself");
        assert_eq!(refusal.errno, E::INVAL, "{refusal}");
    }
    assert_eq!(names(u.root())?, set(["top", "d"]), "still as it was");
    assert_eq!(text(u.at("d/f"))?, "f");
    Ok(())
}

fn pseudo_file_systems(cx: &Ctx) -> Result<()> {
    let (fs, rw, _) = ground(cx)?;
    for path in [
        "/proc",
        "/sys",
        "/proc/self/task",
        "/sys/kernel",
        "/sys/kernel/debug",
    ] {
        refused(cx, &[&format!("br={path}=ro")], E::INVAL, &[&[path]]);
        refused(
            cx,
            &[&format!("br={rw}=rw:{path}=ro")],
            E::INVAL,
            &[&[path]],
        );
    }
    fs.umount()
}

fn stacked_too_deep(cx: &Ctx) -> Result<()> {
    let one = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "f"))
        .mount()?;
    let two = cx.union().rw(Tree::new()).at(one.root(), "ro").mount()?;
    assert_eq!(text(two.at("f"))?, "f");
    let (fs, rw, _) = ground(cx)?;
    let deep = two.root().display().to_string();
    let reason: &[&str] = &["stack", "deep", "depth", "nest"];
    refused(
        cx,
        &[&format!("br={rw}=rw:{deep}=ro")],
        E::INVAL,
        &[&[&deep], reason],
    );
    fs.umount()?;
    two.umount()?;
    one.umount()
}

fn too_many_branches(cx: &Ctx) -> Result<()> {
    let limit = branch_limit()?;
    let fs = Private::tmpfs(&cx.name(), "")?;
    let path = |i: usize| fs.path().join(i.to_string()).display().to_string();
    let mut options = Vec::new();
    for i in 0..=limit {
        sys::mkdir(path(i))?;
        options.push(format!(
            "br={}={}",
            path(i),
            if i == 0 { "rw" } else { "ro" }
        ));
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let mnt = cx.mount_point()?;
    let refusal = Spec::new(&options)
        .mount(&mnt)
        .expect_err("one branch too many");
    assert_eq!(refusal.errno, E::NOSPC, "{refusal}");
    let said = cx.klog().join("\n");
    let number = limit.to_string();
    for (log, text) in [("kernel", said), ("mount API", refusal.log.join("\n"))] {
        assert!(
            text.contains("branches") && text.contains(&number),
            "{log} log: {text:?}"
        );
    }
    Spec::new(&options[..limit]).mount(&mnt)?;
    let works = sys::write(mnt.join("f"), "x");
    scratch::umount(&mnt)?;
    works?;
    fs.umount()
}

/// How many branches the module says it supports.
fn branch_limit() -> Result<usize> {
    const DEFAULT: usize = 511;
    match std::fs::read_to_string("/sys/module/ruaufs/parameters/max_branches") {
        Ok(text) => Ok(text.trim().parse()?),
        Err(_) => Ok(DEFAULT),
    }
}

fn writable_on_read_only(cx: &Ctx) -> Result<()> {
    let image = cx.branch(Kind::Squashfs, "ro", &Tree::new().file("f", ""))?;
    let path = image.display().to_string();
    refused(
        cx,
        &[&format!("br={path}=rw")],
        E::INVAL,
        &[&[&path], &["read-only", "readonly", "writ"]],
    );
    // A read-only bind mount of something writable.
    let (fs, rw, _) = ground(cx)?;
    let view = cx.mount_point()?;
    rustix::mount::mount_bind(&rw, &view)?;
    remount2(&view, MountFlags::BIND | MountFlags::RDONLY, "")?;
    let bound = view.display().to_string();
    refused(
        cx,
        &[&format!("br={bound}=rw")],
        E::ROFS,
        &[&[&bound], &["read-only", "readonly", "EROFS"]],
    );
    assert!(!exists(Path::new(&rw).join(".wh..wh.aufs")));
    scratch::umount(&view)?;
    fs.umount()
}

fn writable_union(cx: &Ctx) -> Result<()> {
    // The marks that a writable branch needs cannot be made in a union.
    let inner = cx
        .union()
        .rw(Tree::new().dir("d"))
        .ro(Tree::new().file("f", "f"))
        .mount()?;
    for dir in ["", "d"] {
        let path = inner.at(dir).display().to_string();
        refused(cx, &[&format!("br={path}=rw")], E::INVAL, &[&[&path]]);
    }
    assert_eq!(names(inner.root())?, set(["d", "f"]));
    inner.umount()
}

fn removed_directory(cx: &Ctx) -> Result<()> {
    let (fs, rw, _) = ground(cx)?;
    let gone = Path::new(&rw).join("gone");
    let mnt = cx.mount_point()?;
    for api in [Api::Mount2, Api::Fsopen] {
        sys::mkdir(&gone)?;
        let spec = Spec::new(&["br=.=ro"]).api(api);
        let result = users::apart(|| {
            rustix::process::chdir(&gone).expect("chdir");
            sys::rmdir(&gone).expect("rmdir");
            spec.mount(&mnt)
        });
        let refusal = result.expect_err("a removed directory was mounted");
        assert_eq!(refusal.errno, E::INVAL, "{refusal}");
    }
    fs.umount()
}

fn unprivileged_mount(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let mnt = cx.mount_point()?;
    for api in [Api::Mount2, Api::Fsopen] {
        let spec = Spec::new(&[&format!("br={rw}=rw:{ro}=ro")]).api(api);
        let refusal = users::as_user(1001, 1001, || spec.mount(&mnt));
        assert_eq!(refusal.expect_err("a user has mounted").errno, E::PERM);
    }
    fs.umount()
}

/// Nothing is looked at, kept or logged for who may not mount.
fn in_a_user_namespace(cx: &Ctx) -> Result<()> {
    let before = cx.klog().len();
    for fstype in ["ruaufs", "aufs"] {
        // mount(8) by fsopen(2), busybox by mount(2).
        for mount in [&["mount"][..], &["busybox", "mount"]] {
            let options = [
                "-t",
                fstype,
                "-o",
                "br=/tmp,nonsense,create=x",
                "none",
                "/mnt",
            ];
            let output = std::process::Command::new("unshare")
                .args(["-Urm"])
                .args(mount)
                .args(options)
                .uid(1001)
                .gid(1001)
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success(),
                "{mount:?} {fstype}: it was mounted"
            );
            assert!(said.contains("ermi"), "{mount:?} {fstype}: {said}");
        }
    }
    let said = cx.klog()[before..].join("\n");
    assert!(!said.contains("ruaufs:"), "{said}");
    // A context that is handed on does not bring the right along.
    let (fs, rw, _) = ground(cx)?;
    let context = fsopen("ruaufs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let result = users::as_user(1001, 1001, || fsconfig_set_string(&context, "br", &rw));
    errno(sys::on_fd("fsconfig br", result), E::PERM);
    drop(context);
    fs.umount()
}

/// There is an end to what one context keeps, and to what the log takes.
fn too_many_options(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    for (key, value) in [("sum", None), ("append", Some(format!("{ro}=ro")))] {
        let context = fsopen("ruaufs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = || match &value {
            Some(value) => fsconfig_set_string(&context, key, value.as_str()),
            None => fsconfig_set_flag(&context, key),
        };
        for n in 0..4096 {
            sys::on_fd("fsconfig", set()).with_context(|| format!("option {n}"))?;
        }
        errno(sys::on_fd("one more", set()), E::TOOBIG);
    }
    let before = cx.klog().len();
    let context = fsopen("ruaufs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for _ in 0..2000 {
        fsconfig_set_flag(&context, "nonsense").expect_err("an option");
    }
    let lines = cx.klog()[before..]
        .iter()
        .filter(|line| line.contains("nonsense"))
        .count();
    assert!(lines < 1000, "{lines} lines in the log");
    drop(context);
    drop(cx.union().at(Path::new(&rw), "rw").mount()?);
    fs.umount()
}

fn unreadable_paths(cx: &Ctx) -> Result<()> {
    let (fs, rw, _) = ground(cx)?;
    let long = format!("{rw}/{}", "x".repeat(200));
    refused(
        cx,
        &[&format!("br={rw}=rw:{long}=ro")],
        E::NOENT,
        &[&[&long[..100]]],
    );
    sys::symlink("loop", Path::new(&rw).join("loop"))?;
    let turning = format!("{rw}/loop");
    refused(cx, &[&format!("br={turning}=ro")], E::LOOP, &[&[&turning]]);
    sys::unlink(&turning)?;
    fs.umount()
}

fn wrong_kinds_of_values(cx: &Ctx) -> Result<()> {
    let (fs, rw, _) = ground(cx)?;
    let context = fsopen("ruaufs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let dir = dir::open_dir(&rw)?;
    let result = fsconfig_set_fd(&context, "br", &dir);
    errno(sys::on_fd("fsconfig_set_fd br", result), E::INVAL);
    let result = fsconfig_set_path(&context, "br", &rw, CWD);
    errno(sys::on_fd("fsconfig_set_path br", result), E::INVAL);
    let result = rustix::mount::fsconfig_set_binary(&context, "br", b"/x\0y");
    errno(sys::on_fd("fsconfig_set_binary br", result), E::INVAL);
    let result = fsconfig_set_flag(&context, "br");
    errno(sys::on_fd("fsconfig_set_flag br", result), E::INVAL);
    let result = fsconfig_set_string(&context, "sum", "value");
    errno(sys::on_fd("fsconfig_set_string sum", result), E::INVAL);
    let result = fsconfig_set_string(&context, "source", "one");
    sys::on_fd("fsconfig_set_string source", result)?;
    let result = fsconfig_set_string(&context, "source", "two");
    errno(sys::on_fd("a second source", result), E::INVAL);
    drop((context, dir));
    fs.umount()
}

fn contexts_that_are_given_up(cx: &Ctx) -> Result<()> {
    // Closed after each step of the mount API: nothing stays behind.
    let (fs, rw, ro) = ground(cx)?;
    for step in 0..4 {
        let context = fsopen("ruaufs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "none")?;
        fsconfig_set_string(&context, "br", format!("{rw}=rw:{ro}=ro"))?;
        if step == 1 {
            let result = fsconfig_set_string(&context, "br", format!("{rw}/missing"))
                .and_then(|()| fsconfig_create(&context));
            errno(sys::on_fd("fsconfig", result), E::NOENT);
        }
        if step >= 2 {
            fsconfig_create(&context)?;
        }
        if step >= 3 {
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            let mount = fsmount(&context, flags, MountAttrFlags::empty())?;
            drop(context);
            // A detached mount works, and goes with its descriptor.
            let made = rustix::fs::openat(&mount, "f", OFlags::RDONLY, Mode::empty());
            assert_eq!(sys::read_fd(made?)?, b"f");
        }
    }
    fs.umount()
}

fn nothing_is_pinned(cx: &Ctx) -> Result<()> {
    // Good branches on three file systems, then a bad one.
    let list = [
        Private::tmpfs(&cx.name(), "")?,
        Private::disk(Kind::Ext4, &cx.name(), 32 << 20)?,
        Private::tmpfs(&cx.name(), "")?,
    ];
    let path = |i: usize| list[i].path().display().to_string();
    let good = format!("br={}=rw:{}=rw:{}=ro", path(0), path(1), path(2));
    refused(cx, &[&format!("{good}:/proc=ro")], E::INVAL, &[&["/proc"]]);
    refused(cx, &[&good, "bogus"], E::INVAL, &[&["bogus"]]);
    refused(cx, &[&good, "udba=bogus"], E::INVAL, &[&["udba"]]);
    refused(
        cx,
        &[&format!("{good}:{}=ro", path(1))],
        E::INVAL,
        &[&[&path(1)]],
    );
    for fs in list {
        fs.umount()?;
    }
    Ok(())
}

fn again_and_again(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    let mnt = cx.mount_point()?;
    for i in 0..60 {
        let bad = [
            format!("{rw}:{ro}:{rw}"),
            format!("{rw}:/proc"),
            format!("{rw}=rw:{rw}x"),
        ];
        let api = [Api::Mount2, Api::Fsopen][i % 2];
        let refusal = Spec::new(&[&format!("br={}", bad[i % 3])])
            .api(api)
            .mount(&mnt);
        let wanted = [E::INVAL, E::INVAL, E::NOENT][i % 3];
        assert_eq!(refusal.expect_err("bad options").errno, wanted);
    }
    let good = format!("br={rw}=rw:{ro}=ro");
    Spec::new(&[&good]).mount(&mnt)?;
    let read = text(mnt.join("f"));
    scratch::umount(&mnt)?;
    assert_eq!(read?, "f");
    fs.umount()
}

fn module_can_be_unloaded(cx: &Ctx) -> Result<()> {
    let (fs, rw, ro) = ground(cx)?;
    refused(
        cx,
        &[&format!("br={rw}=rw:{ro}=ro:/proc=ro")],
        E::INVAL,
        &[&["/proc"]],
    );
    let mnt = cx.mount_point()?;
    Spec::new(&[&format!("br={rw}=rw:{ro}=ro")]).mount(&mnt)?;
    let early = scratch::run("rmmod", &["ruaufs"]);
    scratch::umount(&mnt)?;
    assert!(early.is_err(), "unloaded while mounted");
    scratch::run("rmmod", &["ruaufs"])?;
    assert!(!exists("/sys/module/ruaufs"));
    scratch::run("modprobe", &["ruaufs"])?;
    Spec::new(&[&format!("br={rw}=rw:{ro}=ro")]).mount(&mnt)?;
    let read = text(mnt.join("f"));
    scratch::umount(&mnt)?;
    assert_eq!(read?, "f");
    fs.umount()
}
