// SPDX-License-Identifier: GPL-2.0

//! mount.ruaufs, mount.aufs, umount.ruaufs, umount.aufs; called by hand and by mount(8).

use std::{os::unix::fs::symlink, path::PathBuf, process::Command};

use super::{command, run, spec, tool};
use crate::harness::{prelude::*, scratch, union::mounts_line};

cases! {
    BASIC: mounts_and_unmounts, long_lists;
    ONCE: types, flags_and_levels, says_what_is_wrong, old_interface, by_mount_8, remounts,
        only_unions_are_unmounted;
}

/// Two branches and a place to mount on.
fn two(cx: &Ctx) -> Result<(PathBuf, PathBuf, PathBuf)> {
    let kind = cx.layout.upper();
    let upper = cx.branch(kind, "rw", &Tree::new())?;
    let lower = cx.branch(kind, "ro", &Tree::new().file("f", "low"))?;
    Ok((upper, lower, cx.mount_point()?))
}

fn mounts_and_unmounts(cx: &Ctx) -> Result<()> {
    let (upper, lower, mnt) = two(cx)?;
    let options = format!(
        "rw,br={}:{},udba=none",
        spec(&upper, "rw"),
        spec(&lower, "ro")
    );
    tool("mount.ruaufs", &[&"src", &mnt, &"-o", &options])?.good();
    assert_eq!(text(mnt.join("f"))?, "low");
    sys::append(mnt.join("f"), "+")?;
    let line = mounts_line(&mnt)?;
    assert_eq!((&*line[0], &*line[2]), ("src", "ruaufs"));
    assert!(line[3].contains("udba=none"), "{}", line[3]);
    tool("umount.ruaufs", &[&mnt])?.good();
    assert!(mounts_line(&mnt).is_err());
    assert_eq!(text(upper.join("f"))?, "low+");
    Ok(())
}

fn types(cx: &Ctx) -> Result<()> {
    let (upper, lower, mnt) = two(cx)?;
    let list = format!("{}:{}", spec(&upper, "rw"), spec(&lower, "ro"));
    for (name, args, wanted) in [
        ("mount.ruaufs", &[][..], "ruaufs"),
        ("/sbin/mount.aufs", &[], "aufs"),
        ("mount.ruaufs", &["-t", "aufs"], "aufs"),
    ] {
        // Colons as aufs's users write them.
        for list in [format!("br:{list}"), format!("dirs={list}")] {
            run(command(name)
                .arg("none")
                .arg(&mnt)
                .args(args)
                .args(["-o", &list]))?
            .good();
            assert_eq!(mounts_line(&mnt)?[2], wanted);
            assert_eq!(names(&mnt)?, set(["f"]));
            run(command(&format!("umount.{wanted}")).arg(&mnt))?.good();
        }
    }
    Ok(())
}

/// Paths so long that 40 of them fill a page.
fn many(cx: &Ctx, count: usize) -> Result<(Vec<PathBuf>, String)> {
    let base = cx.dir(cx.layout.upper())?;
    let mut paths = Vec::new();
    let mut specs = Vec::new();
    for i in 0..count {
        let path = base.join(format!("{i:03}-{}", "x".repeat(80)));
        sys::mkdir(&path)?;
        sys::write(path.join(format!("f{i}")), "")?;
        let perm = if i == 0 { "rw" } else { "ro+wh" };
        specs.push(spec(&path, perm));
        paths.push(path);
    }
    Ok((paths, specs.join(":")))
}

fn long_lists(cx: &Ctx) -> Result<()> {
    let mnt = cx.mount_point()?;
    for fstype in ["ruaufs", "aufs"] {
        let (paths, list) = many(cx, 100)?;
        assert!(list.len() > 8192);
        tool(
            &format!("mount.{fstype}"),
            &[&"none", &mnt, &"-o", &format!("br:{list}")],
        )?
        .good();
        assert_eq!(names(&mnt)?.len(), 100);
        let list = tool("ruaufs", &[&"branch", &"list", &mnt])?.good();
        assert_eq!(list.matches(" ro+wh ").count(), 99, "{list}");
        let first = list.find(&*paths[1].to_string_lossy());
        let last = list.find(&*paths[99].to_string_lossy());
        assert!(first.is_some() && first < last, "in order");
        tool(&format!("umount.{fstype}"), &[&mnt])?.good();
    }
    Ok(())
}

fn flags_and_levels(cx: &Ctx) -> Result<()> {
    let (upper, lower, mnt) = two(cx)?;
    let list = format!("br:{}:{}", spec(&upper, "rw"), spec(&lower, "ro"));
    let with = |options: &str| -> Result<String> {
        let options = format!("{list},{options}");
        tool("mount.ruaufs", &[&"none", &mnt, &"-v", &"-o", &options])?.good();
        let line = mounts_line(&mnt)?.remove(3);
        tool("umount.ruaufs", &[&mnt, &"-v"])?.good();
        Ok(format!(",{line},"))
    };
    for (options, wanted) in [
        (
            "nosuid,nodev,noexec,noatime",
            &["nosuid", "nodev", "noexec", "noatime"][..],
        ),
        ("ro", &["ro"]),
        ("user,_netdev,x-foo=bar,noauto", &["rw"]),
        ("droplvl=1", &["noatime", "dirperm1", "udba=none"]),
        ("droplvl=1,droplvl=-1", &["relatime"]),
    ] {
        let shown = with(options)?;
        for word in wanted {
            assert!(
                shown.contains(&format!(",{word},")),
                "{options}: no {word} in {shown}"
            );
        }
    }
    let fake = format!("{list},ro");
    tool("mount.ruaufs", &[&"none", &mnt, &"-f", &"-o", &fake])?.good();
    assert!(mounts_line(&mnt).is_err());
    Ok(())
}

fn says_what_is_wrong(cx: &Ctx) -> Result<()> {
    let (upper, _, mnt) = two(cx)?;
    let bad = |options: &str, words: &str| -> Result<()> {
        tool("mount.ruaufs", &[&"none", &mnt, &"-o", &options])?.bad(32, words);
        Ok(())
    };
    bad("rw", "no branches")?;
    bad("br=/nowhere", "/nowhere")?;
    bad(
        &format!("br={},frobnicate", upper.display()),
        "unknown option \"frobnicate\"",
    )?;
    bad(&format!("br={},droplvl=9", upper.display()), "from -3 to 3")?;
    bad("bind", "mount -i")?;
    bad(&format!("br=/{}", "x".repeat(5000)), "bind-mount")?;
    let nowhere = mnt.join("nowhere");
    tool(
        "mount.ruaufs",
        &[&"none", &nowhere, &"-o", &spec(&upper, "rw")],
    )?
    .bad(32, "");
    tool("mount.ruaufs", &[&"none", &mnt, &"-s", &"-o", &"br=/"])?.bad(32, "-s");
    tool("mount.ruaufs", &[])?.bad(2, "Usage: mount.ruaufs");
    Ok(())
}

fn old_interface(cx: &Ctx) -> Result<()> {
    let (upper, lower, mnt) = two(cx)?;
    let old = |args: &[&str]| {
        let mut command = command("mount.aufs");
        command
            .env("LIBMOUNT_FORCE_MOUNT2", "always")
            .arg("none")
            .arg(&mnt)
            .args(args);
        run(&mut command)
    };
    let list = format!("br:{}:{},noatime", spec(&upper, "rw"), spec(&lower, "ro"));
    old(&["-o", &list])?.good();
    assert!(mounts_line(&mnt)?[3].starts_with("rw,noatime"));
    tool("umount.aufs", &[&mnt])?.good();
    old(&["-o", "br:/nowhere"])?.bad(32, "dmesg");
    // A path that fits into a page but not into one value.
    let deep = upper.join("x".repeat(200)).join("y".repeat(200));
    std::fs::create_dir_all(&deep)?;
    sys::write(deep.join("here"), "")?;
    tool(
        "mount.ruaufs",
        &[&"none", &mnt, &"-o", &format!("br={}", spec(&deep, "ro"))],
    )?
    .good();
    assert_eq!(names(&mnt)?, set(["here"]));
    tool("umount.ruaufs", &[&mnt])?.good();
    // More than a page goes on in remounts, and all of it is there or nothing is.
    let (paths, list) = many(cx, 100)?;
    old(&["-o", &format!("br:{list},noatime")])?.good();
    assert_eq!(names(&mnt)?.len(), 100);
    assert!(mounts_line(&mnt)?[3].starts_with("rw,noatime"));
    tool("umount.aufs", &[&mnt])?.good();
    sys::unlink(paths[99].join("f99"))?;
    sys::rmdir(&paths[99])?;
    old(&["-o", &format!("br:{list}")])?.bad(32, "dmesg");
    assert!(mounts_line(&mnt).is_err());
    Ok(())
}

/// Puts the helpers where mount(8) looks for them, while it lives.
struct Installed(Vec<PathBuf>);

impl Installed {
    fn new() -> Result<Self> {
        let names = ["mount.ruaufs", "mount.aufs", "umount.ruaufs", "umount.aufs"];
        let mut installed = Installed(Vec::new());
        for name in names {
            let path = PathBuf::from("/sbin").join(name);
            symlink(super::PROGRAM, &path)?;
            installed.0.push(path);
        }
        Ok(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn by_mount_8(cx: &Ctx) -> Result<()> {
    let mnt = cx.mount_point()?;
    let (_, list) = many(cx, 60)?;
    let list = format!("br:{list}");
    let mount = |fstype: &str| {
        let mut command = Command::new("mount");
        run(command.args(["-t", fstype, "-o", &list, "none"]).arg(&mnt))
    };
    assert_ne!(
        mount("ruaufs")?.status,
        0,
        "without the helper the list is too long"
    );
    let _installed = Installed::new()?;
    for fstype in ["ruaufs", "aufs"] {
        mount(fstype)?.good();
        assert_eq!(names(&mnt)?.len(), 60);
        run(Command::new("umount").arg(&mnt))?.good();
        assert!(mounts_line(&mnt).is_err());
    }
    Ok(())
}

fn remounts(cx: &Ctx) -> Result<()> {
    let _installed = Installed::new()?;
    let (upper, lower, mnt) = two(cx)?;
    let list = format!("br:{}:{},nosuid", spec(&upper, "rw"), spec(&lower, "ro"));
    let mount = |args: &[&str]| run(Command::new("mount").args(args).arg(&mnt));
    mount(&["-t", "ruaufs", "-o", &list, "none"])?.good();
    mount(&["-o", "remount,ro"])?.good();
    assert!(mounts_line(&mnt)?[3].starts_with("ro,nosuid"));
    errno(sys::write(mnt.join("g"), ""), Errno::ROFS);
    mount(&["-o", "remount,rw"])?.good();
    assert!(mounts_line(&mnt)?[3].starts_with("rw,nosuid"));
    sys::write(mnt.join("g"), "")?;
    let said = tool("mount.ruaufs", &[&"none", &lower, &"-o", &"remount,ro"])?;
    said.bad(32, "not in a union");
    run(Command::new("umount").arg(&mnt))?.good();
    Ok(())
}

fn only_unions_are_unmounted(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new().dir("d")).mount()?;
    tool("umount.ruaufs", &[&u.at("d")])?.bad(32, "it lies in the union on");
    tool("umount.ruaufs", &[&scratch::base()])?.bad(32, "not in a union");
    let held = sys::open_ro(u.at("d"))?;
    tool("umount.ruaufs", &[&u.root()])?.bad(32, "it is in use");
    tool("umount.ruaufs", &[&u.root(), &"-r"])?.good();
    errno(sys::write(u.at("f"), ""), Errno::ROFS);
    drop(held);
    Ok(())
}
