// SPDX-License-Identifier: GPL-2.0

//! What the tools ask before they act, and what they leave as it was: unions that are mounted
//! elsewhere, mounts in branches, set-user-id bits, odd paths; and what their output can do.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::mount::UnmountFlags;

use super::{command, run, spec, tool, Said};
use crate::harness::{prelude::*, scratch};

cases! {
    BASIC: unions_elsewhere, set_ids_survive, what_cannot_be_removed;
    ONCE: mounts_in_branches, paths_are_exact, output_is_harmless, nobody_reads, others_come_and_go,
        words_of_all_mounts;
}

/// A union that this mount name space does not show is in use all the same.
fn unions_elsewhere(cx: &Ctx) -> Result<()> {
    let commit = |upper: &Path, lower: &Path| {
        tool(
            "ruaufs",
            &[&"commit", &"--upper", &upper, &"--lower", &lower],
        )
    };
    let (upper, lower) = (cx.dir(cx.layout.upper())?, cx.dir(cx.layout.upper())?);
    sys::write(lower.join("log"), "")?;
    let mnt = cx.mount_point()?;
    // In another mount name space, where it is written.
    let script = format!(
        "mount -i -t ruaufs -o br={}=rw:{}=ro none {m} && echo before >>{m}/log && echo ready && \
         read go && echo after >>{m}/log && umount -i {m}",
        upper.display(),
        lower.display(),
        m = mnt.display()
    );
    let mut child = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().context("stdout")?, &mut ready)?;
    commit(&upper, &lower)?.bad(1, "in use by the union si_");
    let repair = |dir: &Path| tool("ruaufs", &[&"check", &"--repair", &dir]);
    repair(&upper)?.bad(8, "unmount that before a repair");
    let parent = upper.parent().context("a parent")?;
    repair(parent)?.bad(8, "unmount that before a repair");
    let status = tool("ruaufs", &[&"status"])?.good();
    assert!(status.contains("in another mount name space"), "{status}");
    std::io::Write::write_all(child.stdin.as_mut().context("stdin")?, b"go\n")?;
    assert!(child.wait()?.success());
    assert_eq!(text(upper.join("log"))?, "before\nafter\n");
    // Unmounted, but a file is open.
    let mut u = cx.union().at(&upper, "rw").at(&lower, "ro").mount()?;
    let held = sys::open(u.at("log"), OFlags::WRONLY | OFlags::APPEND)?;
    rustix::mount::unmount(u.root(), UnmountFlags::DETACH)?;
    u.was_unmounted();
    commit(&upper, &lower)?.bad(1, "in use by the union si_");
    sys::write_fd(&held, b"lost?\n")?;
    drop(held);
    u.settle()?;
    assert_eq!(text(upper.join("log"))?, "before\nafter\nlost?\n");
    Ok(())
}

/// `cap_net_raw+ep` as setcap(8) stores it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Copying up the other names of a file leaves all of it as it was, also while it runs.
fn set_ids_survive(cx: &Ctx) -> Result<()> {
    type Flush = fn(&Union) -> Result<Said>;
    let ways: &[Flush] = &[
        |u| tool("auplink", &[&u.root(), &"flush"]),
        |u| tool("auplink", &[&u.root(), &"cpup"]),
        |u| tool("ruaufs", &[&"commit", &"--remount", &u.root()]),
    ];
    for flush in ways {
        let low = Tree::new()
            .file("s", fs::read("/bin/sleep")?)
            .mode(0o6755)
            .hardlink("s2", "s")
            .file("c", "c")
            .xattr("security.capability", CAPABILITY)
            .hardlink("c2", "c")
            .symlink("l", "s")
            .hardlink("l2", "l");
        let u = cx.union().rw(Tree::new()).ro(low).mount()?;
        for name in ["s", "c"] {
            sys::utimens(u.at(name), (1_000, 1), (2_000, 2))?;
        }
        let mut running = Command::new(u.at("s2")).arg("1000").spawn()?;
        let done = flush(&u);
        running.kill()?;
        running.wait()?;
        done?.good();
        cx.changed_by_hand(&u.br(1, ""))?;
        for name in ["s", "s2"] {
            let stat = sys::lstat(u.at(name))?;
            assert_eq!((sys::mode(&stat), stat.st_nlink), (0o6755, 2), "{name}");
            assert_eq!(sys::mtime(&stat), (2_000, 2), "{name}");
        }
        for name in ["c", "c2"] {
            let value = sys::get_xattr(u.at(name), "security.capability")?;
            assert_eq!(value, CAPABILITY, "{name}");
        }
        u.umount()?;
    }
    Ok(())
}

/// All that would stop a commit on its way is found before it begins.
fn what_cannot_be_removed(cx: &Ctx) -> Result<()> {
    if cx.layout.upper() == Kind::Tmpfs {
        return Ok(());
    }
    let kind = cx.layout.upper();
    let chattr = |how: &str, path: &Path| scratch::run("chattr", &[how, &path.to_string_lossy()]);
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&[".wh.d", "aaa"], &["d/sub/fixed"], "d/sub/fixed"),
        (&["d/new", "aaa"], &["d/old"], "d"),
        (&["d/.wh..wh..opq", "aaa"], &["d/sub/fixed"], "d/sub"),
    ];
    for (up, low, fixed) in cases {
        let (upper, lower) = (cx.dir(kind)?, cx.dir(kind)?);
        for (root, files) in [(&upper, up), (&lower, low)] {
            for file in *files {
                fs::create_dir_all(root.join(file).parent().context("a parent")?)?;
                sys::write(root.join(file), "")?;
            }
        }
        let fixed = lower.join(fixed);
        chattr("+i", &fixed)?;
        let args: &[&dyn AsRef<_>] = &[&"commit", &"--upper", &upper, &"--lower", &lower];
        let said = tool("ruaufs", args)?;
        chattr("-i", &fixed)?;
        said.bad(1, &format!("{} is immutable", fixed.display()));
        assert!(exists(upper.join("aaa")) && !exists(lower.join("aaa")));
        tool("ruaufs", args)?.good();
    }
    // A mount in what is to be removed.
    let (upper, lower) = (cx.dir(kind)?, cx.dir(kind)?);
    sys::write(upper.join(".wh.d"), "")?;
    sys::write(upper.join("aaa"), "")?;
    fs::create_dir_all(lower.join("d/mnt"))?;
    scratch::mount("tmpfs", "tmpfs", &lower.join("d/mnt"), "")?;
    let args: &[&dyn AsRef<_>] = &[&"commit", &"--upper", &upper, &"--lower", &lower];
    let said = tool("ruaufs", args)?;
    scratch::umount(&lower.join("d/mnt"))?;
    said.bad(1, "something is mounted there");
    assert!(exists(upper.join("aaa")) && !exists(lower.join("aaa")));
    Ok(())
}

/// A repair stays on the branch.
fn mounts_in_branches(cx: &Ctx) -> Result<()> {
    let branch = cx.dir(Kind::Tmpfs)?;
    let sub = branch.join("sub");
    sys::mkdir(&sub)?;
    scratch::mount("tmpfs", "tmpfs", &sub, "")?;
    sys::mkdir(sub.join(".wh..wh.x.0001"))?;
    let said = tool("ruaufs", &[&"check", &"--repair", &branch])?;
    let kept = exists(sub.join(".wh..wh.x.0001"));
    scratch::umount(&sub)?;
    assert!(
        kept && said.err.contains("something is mounted there"),
        "{}",
        said.err
    );
    said.good();
    // What another union has in it is that union's.
    let inner = branch.join("inner");
    sys::mkdir(&inner)?;
    let u = cx.union().at(&inner, "rw").mount()?;
    sys::mkdir(inner.join(".wh..wh.t.00aa"))?;
    let said = tool("ruaufs", &[&"check", &"--repair", &branch])?;
    said.bad(8, "unmount that before a repair");
    assert!(exists(inner.join(".wh..wh.t.00aa")));
    u.umount()
}

/// What a path is made of means nothing to the tools.
fn paths_are_exact(cx: &Ctx) -> Result<()> {
    let base = cx.dir(Kind::Tmpfs)?;
    for (odd, other) in [
        ("x\"y", "xy"),
        ("b\\", "b"),
        ("q\\ \"", "q"),
        ("\"z\"", "z"),
    ] {
        let [top, odd, other] = ["top", odd, other].map(|name| base.join(name));
        for dir in [&top, &odd, &other] {
            fs::create_dir_all(dir)?;
        }
        sys::write(odd.join("in-odd"), "")?;
        sys::write(other.join("in-other"), "")?;
        let mnt = cx.mount_point()?;
        tool("ruaufs", &[&"mount", &mnt, &top, &other, &odd])?.good();
        assert_eq!(names(&mnt)?, set(["in-odd", "in-other"]));
        tool("ruaufs", &[&"branch", &"del", &mnt, &odd])?.good();
        assert_eq!(names(&mnt)?, set(["in-other"]), "{}", odd.display());
        tool("ruaufs", &[&"branch", &"add", &"--bottom", &mnt, &odd])?.good();
        tool("ruaufs", &[&"branch", &"move", &mnt, &odd, &"--to", &"1"])?.good();
        tool("ruaufs", &[&"branch", &"mod", &mnt, &spec(&odd, "ro+wh")])?.good();
        let json = tool("ruaufs", &[&"branch", &"list", &"--json", &mnt])?.good();
        let text = odd
            .to_string_lossy()
            .replace('\\', "\\\\")
            .replace('"', "\\\"");
        assert!(json.contains(&format!("\"path\": \"{text}\"")), "{json}");
        assert!(json.contains("ro+wh"), "{json}");
        tool("umount.ruaufs", &[&mnt])?.good();
        // As an option that mount(8) hands over.
        let list = format!("br={}:{}", spec(&top, "rw"), spec(&other, "ro"));
        tool(
            "mount.ruaufs",
            &[&"none", &mnt, &"-o", &format!("{list},noatime")],
        )?
        .good();
        tool("umount.ruaufs", &[&mnt])?.good();
    }
    Ok(())
}

/// Nothing that a user can name controls a terminal, and two names are never shown alike.
fn output_is_harmless(cx: &Ctx) -> Result<()> {
    let (upper, lower) = (cx.dir(Kind::Tmpfs)?, cx.dir(Kind::Tmpfs)?);
    let odd: &[&[u8]] = &[
        b"n\nl",
        b"n\\012l",
        "\u{202e}gpj".as_bytes(),
        b"\xff\x1b]0;x\x07",
    ];
    for name in odd {
        sys::write(upper.join(std::ffi::OsStr::from_bytes(name)), "")?;
    }
    sys::mkdir(upper.join(std::ffi::OsStr::from_bytes(b".wh.a\x1b[2J")))?;
    let harmless = |text: &str| {
        let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(
            !text.contains(bad) && !text.contains(char::REPLACEMENT_CHARACTER),
            "{text:?}"
        );
    };
    for args in [
        &[
            &"diff" as &dyn AsRef<_>,
            &"--upper",
            &upper,
            &"--lower",
            &lower,
        ][..],
        &[&"commit", &"--upper", &upper, &"--lower", &lower],
        &[&"check", &upper],
        &[&"status", &upper.join("\x1b[2J")],
    ] {
        let said = tool("ruaufs", args)?;
        assert_ne!(said.status, 0);
        harmless(&said.out);
        harmless(&said.err);
    }
    sys::rmdir(upper.join(std::ffi::OsStr::from_bytes(b".wh.a\x1b[2J")))?;
    let args: &[&dyn AsRef<_>] = &[&"diff", &"--upper", &upper, &"--lower", &lower];
    let lines = tool("ruaufs", args)?.good();
    harmless(&lines);
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let json = tool("ruaufs", &[args, &[&"--json"]].concat())?.good();
    harmless(&json);
    for exact in [
        r#""/n\nl""#,
        r#""/n\\012l""#,
        r#""/\u202egpj""#,
        "\"path_bytes\": [",
    ] {
        assert!(json.contains(exact), "{exact} is not in {json}");
    }
    Ok(())
}

/// That the output was not read is no success.
fn nobody_reads(cx: &Ctx) -> Result<()> {
    let branch = cx.dir(Kind::Tmpfs)?;
    for name in ["a", ".wh.a"] {
        sys::write(branch.join(name), "")?;
    }
    let ended = |args: &[&dyn AsRef<std::ffi::OsStr>], name: &str, out: Stdio, err: Stdio| {
        let mut tool = command(name);
        tool.args(args.iter().map(|arg| (*arg).as_ref()));
        tool.stdout(out)
            .stderr(err)
            .status()
            .map(|status| status.code())
    };
    let closed = || -> Result<Stdio> { Ok(rustix::pipe::pipe()?.1.into()) };
    assert_eq!(
        ended(&[&branch], "auchk", closed()?, Stdio::null())?,
        Some(141)
    );
    assert_eq!(
        ended(&[&"check", &branch], "ruaufs", closed()?, Stdio::null())?,
        Some(8)
    );
    let both = ended(&[&"check", &"/nowhere"], "ruaufs", closed()?, closed()?)?;
    assert_eq!(both, Some(8));
    let full = fs::File::options().write(true).open("/dev/full")?;
    assert_eq!(
        ended(&[&"check", &branch], "ruaufs", full.into(), Stdio::null())?,
        Some(8)
    );
    Ok(())
}

/// Unions that are mounted and unmounted meanwhile are no reason to fail.
fn others_come_and_go(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).mount()?;
    let (branch, mnt) = (cx.dir(Kind::Tmpfs)?, cx.mount_point()?);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let other = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                scratch::mount(
                    "none",
                    "ruaufs",
                    &mnt,
                    &format!("br={}", spec(&branch, "rw")),
                )?;
                scratch::umount(&mnt)?;
            }
            Ok(())
        });
        let asked = (0..40).try_for_each(|_| {
            let out = tool("ruaufs", &[&"status"])?.good();
            assert!(out.contains(&*u.root().to_string_lossy()), "{out}");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        other.join().expect("no panic")?;
        asked
    })?;
    u.umount()
}

/// Words that mount(8) takes for every file system.
fn words_of_all_mounts(cx: &Ctx) -> Result<()> {
    let (branch, mnt) = (cx.dir(Kind::Tmpfs)?, cx.mount_point()?);
    for word in [
        "loud",
        "silent",
        "iversion",
        "noiversion",
        "nofail,x-a=b",
        "comment=x,user=me",
    ] {
        let options = format!("br={},{word}", spec(&branch, "rw"));
        for force in ["auto", "always"] {
            let mut mount = command("mount.ruaufs");
            mount.env("LIBMOUNT_FORCE_MOUNT2", force);
            run(mount.arg("none").arg(&mnt).args(["-o", &options]))?.good();
            tool("umount.ruaufs", &[&mnt])?.good();
        }
    }
    Ok(())
}
