// SPDX-License-Identifier: GPL-2.0

//! Mounting: both APIs and both names, the grammar of options, what is read back, remounting.

use rustix::{fs::statfs, mount::MountFlags};

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
    union::{mounts_line, reconfigure, remount2, Spec},
};

cases! {
    BASIC: every_api_and_name, statfs_magic, sum_of_file_systems, shown_options_mount_again,
        two_unions_at_once, read_only_and_back, bind_mounts, busy_umount, nested_twice;
    ONCE: types_are_registered, si_is_hex_and_ignored, branch_file_systems_stay_busy,
        helper_mount_8, aufs_shell_use, on_top_of_its_own_branch, read_only_root_branch_alone;
}

const MAGIC: u64 = 0x6175_6673;

/// A writable and a read-only branch, the latter with a file `low`.
pub(crate) fn two(cx: &Ctx) -> Result<(String, String)> {
    let kind = cx.layout.upper();
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let ro = cx.branch(kind, "ro", &Tree::new().file("low", "low"))?;
    Ok((rw.display().to_string(), ro.display().to_string()))
}

/// The union has a writable branch on top and `low` below.
pub(crate) fn usable(u: &Union) -> Result<()> {
    assert_eq!(text(u.at("low"))?, "low");
    sys::write(u.at("new"), "")?;
    sys::append(u.at("low"), "+")?;
    assert_eq!(text(u.at("low"))?, "low+");
    sys::write(u.at("low"), "low")?;
    sys::unlink(u.at("new"))?;
    Ok(())
}

/// Mounts options at a fresh mount point.
pub(crate) fn mounted(cx: &Ctx, options: &[&str], api: Api) -> Result<Union> {
    let spec = Spec::new(options).api(api);
    Union::mount(cx, spec, Vec::new()).with_context(|| format!("{api:?} {options:?}"))
}

fn types_are_registered(_: &Ctx) -> Result<()> {
    let known = std::fs::read_to_string("/proc/filesystems")?;
    for name in ["ruaufs", "aufs"] {
        let line = format!("nodev\t{name}");
        assert!(
            known.lines().any(|l| l == line),
            "{line:?} is not in /proc/filesystems"
        );
    }
    // What clients do before they mount.
    for name in ["aufs", "ruaufs", "fs-aufs", "fs-ruaufs"] {
        scratch::run("modprobe", &[name])?;
    }
    Ok(())
}

fn every_api_and_name(cx: &Ctx) -> Result<()> {
    for api in [Api::Mount2, Api::Fsopen] {
        for name in ["ruaufs", "aufs"] {
            let u = cx
                .union()
                .fstype(name)
                .api(api)
                .rw(Tree::new())
                .ro(Tree::new().file("low", "low"))
                .mount()?;
            usable(&u)?;
            let line = mounts_line(u.root())?;
            assert_eq!((line[0].as_str(), line[2].as_str()), ("none", name));
            assert_eq!(statfs(u.root())?.f_type as u64, MAGIC);
        }
    }
    Ok(())
}

fn statfs_magic(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
    let (ours, theirs) = (statfs(u.root())?, statfs(u.br(0, ""))?);
    assert_eq!(ours.f_type as u64, MAGIC);
    assert_eq!(ours.f_namelen, 242);
    assert_eq!(
        (ours.f_blocks, ours.f_bsize),
        (theirs.f_blocks, theirs.f_bsize)
    );
    assert_eq!(ours.f_files, theirs.f_files);
    Ok(())
}

fn sum_of_file_systems(cx: &Ctx) -> Result<()> {
    let (a, b) = (
        Private::tmpfs(&cx.name(), "size=8m,nr_inodes=1000")?,
        Private::tmpfs(&cx.name(), "size=16m,nr_inodes=500")?,
    );
    for (fs, dirs) in [(&a, ["1", "2"]), (&b, ["3", "4"])] {
        for dir in dirs {
            sys::mkdir(fs.path().join(dir))?;
        }
    }
    let mount = |opt: &str| {
        cx.union()
            .at(&a.path().join("1"), "rw")
            .at(&a.path().join("2"), "ro")
            .at(&b.path().join("3"), "ro")
            .at(&b.path().join("4"), "ro")
            .opt(opt)
            .mount()
    };
    let bytes = |u: &Union| -> Result<(u64, u64)> {
        let s = statfs(u.root())?;
        Ok((s.f_blocks * s.f_bsize as u64, s.f_files))
    };
    let u = mount("sum")?;
    assert_eq!(bytes(&u)?, (24 << 20, 1500), "each file system once");
    assert_eq!(statfs(u.root())?.f_type as u64, MAGIC);
    u.umount()?;
    let u = mount("nosum")?;
    assert_eq!(bytes(&u)?, (8 << 20, 1000), "branch 0 alone");
    u.umount()?;
    a.umount()?;
    b.umount()
}

fn shown_options_mount_again(cx: &Ctx) -> Result<()> {
    const GENERIC: [&str; 6] = ["rw", "ro", "relatime", "noatime", "seclabel", "nosuid"];
    let kind = cx.layout.upper();
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let wh = cx.branch(kind, "ro+wh", &Tree::new().whiteout("gone"))?;
    let low = cx.branch(kind, "ro", &Tree::new().file("low", "low").file("gone", ""))?;
    let list = format!(
        "br={}=rw:{}=ro+wh:{}=ro",
        rw.display(),
        wh.display(),
        low.display()
    );
    let spec = Spec::new(&[&list, "sum", "udba=none", "dirperm1"]).api(Api::Mount2);
    let u = Union::mount(cx, spec, Vec::new())?;
    let shown = mounts_line(u.root())?[3].clone();
    u.umount()?;
    let own: Vec<_> = shown.split(',').filter(|o| !GENERIC.contains(o)).collect();
    assert!(
        own.iter().any(|o| o.starts_with("si=")),
        "si= is always shown: {shown}"
    );
    for wanted in ["sum", "udba=none"] {
        assert!(own.contains(&wanted), "{wanted} is not shown: {shown}");
    }
    for api in [Api::Mount2, Api::Fsopen] {
        let u = mounted(cx, &own, api)?;
        usable(&u)?;
        errno(sys::lstat(u.at("gone")), Errno::NOENT);
        // And once more: the second mount shows the same, but for its identity.
        let again = mounts_line(u.root())?[3].clone();
        let plain = |s: &str| -> Vec<String> {
            s.split(',')
                .filter(|o| !o.starts_with("si="))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(plain(&again), plain(&shown));
    }
    Ok(())
}

fn si_is_hex_and_ignored(cx: &Ctx) -> Result<()> {
    let si = |u: &Union| -> Result<String> {
        let options = mounts_line(u.root())?[3].clone();
        let si = options
            .split(',')
            .find_map(|o| o.strip_prefix("si=").map(str::to_owned));
        si.context(options)
    };
    let (one, two) = (
        cx.union().rw(Tree::new()).ro(Tree::new()).mount()?,
        cx.union().rw(Tree::new()).ro(Tree::new()).mount()?,
    );
    let (a, b) = (si(&one)?, si(&two)?);
    assert_ne!(a, b, "it identifies a mount");
    for si in [&a, &b] {
        assert!(
            u64::from_str_radix(si, 16).is_ok(),
            "{si} is not a hexadecimal number"
        );
        assert!(!si.starts_with('0') && *si == si.to_lowercase());
    }
    assert_eq!(si(&one)?, a, "it stays");
    Ok(())
}

fn two_unions_at_once(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let shared = cx.branch(
        kind,
        "ro",
        &Tree::new().file("d/f", "shared").file("g", "g"),
    )?;
    let mount = || cx.union().rw(Tree::new()).at(&shared, "ro").mount();
    let (one, two) = (mount()?, mount()?);
    sys::append(one.at("d/f"), " one")?;
    sys::append(two.at("d/f"), " two")?;
    sys::unlink(one.at("g"))?;
    assert_eq!(text(one.at("d/f"))?, "shared one");
    assert_eq!(text(two.at("d/f"))?, "shared two");
    assert!(!exists(one.at("g")) && exists(two.at("g")));
    let (a, b) = (sys::lstat(one.root())?, sys::lstat(two.root())?);
    assert_ne!(a.st_dev, b.st_dev);
    errno(sys::rename(one.at("d/f"), two.at("x")), Errno::XDEV);
    errno(sys::link(one.at("d/f"), two.at("x")), Errno::XDEV);
    one.umount()?;
    assert_eq!(text(two.at("d/f"))?, "shared two");
    Ok(())
}

fn read_only_and_back(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "f"))
        .mount()?;
    let open = sys::open_rw(u.at("f"))?;
    errno(remount2(u.root(), MountFlags::RDONLY, ""), Errno::BUSY);
    drop(open);
    remount2(u.root(), MountFlags::RDONLY, "")?;
    errno(sys::create(u.at("n")), Errno::ROFS);
    errno(sys::open_rw(u.at("f")), Errno::ROFS);
    assert!(mounts_line(u.root())?[3].starts_with("ro"));
    remount2(u.root(), MountFlags::empty(), "")?;
    sys::append(u.at("f"), "+")?;
    reconfigure(u.root(), &["ro"])?;
    errno(sys::append(u.at("f"), "+"), Errno::ROFS);
    reconfigure(u.root(), &["rw"])?;
    sys::append(u.at("f"), "+")?;
    assert_eq!(text(u.at("f"))?, "f++");
    Ok(())
}

fn bind_mounts(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/f", "f"))
        .mount()?;
    let view = cx.mount_point()?;
    rustix::mount::mount_bind(u.at("d"), &view)?;
    sys::append(view.join("f"), "+")?;
    assert_eq!(text(u.at("d/f"))?, "f+");
    assert_eq!(sys::lstat(&view)?.st_ino, sys::lstat(u.at("d"))?.st_ino);
    errno(sys::rename(view.join("f"), u.at("g")), Errno::XDEV);
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    remount2(&view, flags, "")?;
    errno(sys::append(view.join("f"), "+"), Errno::ROFS);
    sys::append(u.at("d/f"), "+")?;
    scratch::umount(&view)
}

fn busy_umount(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "f").dir("d"))
        .mount()?;
    let umount = || {
        let flags = rustix::mount::UnmountFlags::empty();
        sys::at("umount", u.root(), rustix::mount::unmount(u.root(), flags))
    };
    let held = [sys::open_ro(u.at("f"))?, dir::open_dir(u.at("d"))?];
    for fd in held {
        errno(umount(), Errno::BUSY);
        drop(fd);
    }
    u.umount()
}

fn branch_file_systems_stay_busy(cx: &Ctx) -> Result<()> {
    let (a, b) = (
        Private::tmpfs(&cx.name(), "")?,
        Private::tmpfs(&cx.name(), "")?,
    );
    Tree::new().file("low", "low").build(b.path())?;
    let u = cx.union().at(a.path(), "rw").at(b.path(), "ro").mount()?;
    for fs in [&a, &b] {
        let flags = rustix::mount::UnmountFlags::empty();
        let result = rustix::mount::unmount(fs.path(), flags);
        errno(sys::at("umount", fs.path(), result), Errno::BUSY);
    }
    usable(&u)?;
    u.umount()?;
    a.umount()?;
    b.umount()
}

fn helper_mount_8(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    let mnt = cx.mount_point()?;
    let (list, at) = (format!("br={rw}=rw:{ro}=ro"), mnt.to_string_lossy());
    for (fstype, options) in [
        ("ruaufs", list.clone()),
        ("aufs", format!("br:{rw}:{ro}=ro")),
        ("aufs", format!("dirs={rw}=rw:{ro}=rr+wh,noatime,noxino")),
    ] {
        scratch::run("mount", &["-t", fstype, "-o", &options, "none", &at])?;
        assert_eq!(text(mnt.join("low"))?, "low");
        scratch::run("mount", &["-o", "remount,ro", &at])?;
        errno(sys::create(mnt.join("n")), Errno::ROFS);
        scratch::run("mount", &["-o", "remount,rw", &at])?;
        sys::write(mnt.join("n"), "")?;
        sys::unlink(mnt.join("n"))?;
        scratch::run("umount", &[&at])?;
    }
    Ok(())
}

fn aufs_shell_use(cx: &Ctx) -> Result<()> {
    // The tools of an ordinary system, working in a union.
    let (rw, ro) = two(cx)?;
    let u = mounted(cx, &[&format!("br={rw}=rw:{ro}=ro")], Api::Mount2)?;
    let script = r#"
        set -e
        cd "$1"
        cp -a low copy; mv copy moved; ln moved hard; ln -s moved soft
        mkdir -p a/b/c; echo x > a/b/c/f; cp -r a b; rm -r a
        sed -i s/low/LOW/ low; test "$(cat low)" = LOW
        tar cf t.tar b moved hard; mkdir x; tar xf t.tar -C x; diff -r b x/b
        find . -name f | grep -q x/b/b/c/f; touch -d @1 x; rm -rf x b t.tar soft hard moved
        test "$(ls -A)" = low; echo -n low > low
    "#;
    scratch::run("sh", &["-c", script, "sh", &u.root().to_string_lossy()])?;
    Ok(())
}

fn on_top_of_its_own_branch(cx: &Ctx) -> Result<()> {
    // Mounting over a directory whose sub-directories are branches is common and works.
    let parent = cx.dir(Kind::Tmpfs)?;
    Tree::new().dir("rw").file("ro/low", "low").build(&parent)?;
    let list = format!("br={0}/rw=rw:{0}/ro=ro", parent.display());
    Spec::new(&[&list]).mount(&parent)?;
    let seen = names(&parent);
    let wrote = sys::write(parent.join("new"), "x");
    scratch::umount(&parent)?;
    assert_eq!(seen?, set(["low"]));
    wrote?;
    assert_eq!(text(parent.join("rw/new"))?, "x");
    Ok(())
}

fn read_only_root_branch_alone(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .on(Kind::Squashfs, "", Tree::new().file("f", "f"))
        .mount()?;
    assert_eq!(text(u.at("f"))?, "f");
    errno(sys::create(u.at("n")), Errno::ROFS);
    u.umount()?;
    // A file system that cannot be written is `rr` when nothing is said, even as the first.
    let u = cx
        .union()
        .on(Kind::Squashfs, "", Tree::new().file("f", "f"))
        .on(Kind::Tmpfs, "", Tree::new().file("g", "g"))
        .mount()?;
    assert_eq!(names(u.root())?, set(["f", "g"]));
    errno(sys::create(u.at("n")), Errno::ROFS);
    Ok(())
}

fn nested_twice(cx: &Ctx) -> Result<()> {
    let inner = cx
        .union()
        .rw(Tree::new().file("a", "a"))
        .ro(Tree::new().file("b", "b"))
        .mount()?;
    let outer = cx.union().rw(Tree::new()).at(inner.root(), "ro").mount()?;
    assert_eq!(names(outer.root())?, set(["a", "b"]));
    sys::append(outer.at("b"), "+")?;
    assert_eq!(text(inner.at("b"))?, "b");
    // overlayfs may lie on a union, too, as deep as the kernel allows.
    let work = cx.dir(cx.layout.upper())?;
    sys::mkdir(work.join("u"))?;
    sys::mkdir(work.join("w"))?;
    let mnt = cx.mount_point()?;
    let data = format!(
        "lowerdir={},upperdir={1}/u,workdir={1}/w",
        inner.root().display(),
        work.display()
    );
    scratch::mount("overlay", "overlay", &mnt, &data)?;
    let read = text(mnt.join("a"));
    scratch::umount(&mnt)?;
    assert_eq!(read?, "a");
    outer.umount()
}
