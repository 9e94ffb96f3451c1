// SPDX-License-Identifier: GPL-2.0

//! `/proc/fs/aufs/plink_maint`: what aufs's auplink does before an unmount.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    process::{Child, Command, Stdio},
};

use crate::harness::{
    prelude::*,
    scratch,
    union::{mounts_line, reconfigure},
};

cases! {
    BASIC: flush, others_make_no_links;
    ONCE: bad_commands, unmounted_while_held, module_goes_while_open, only_administrators;
}

const FILE: &str = "/proc/fs/aufs/plink_maint";

fn open() -> Result<File> {
    OpenOptions::new().write(true).open(FILE).context(FILE)
}

fn si(u: &Union) -> Result<String> {
    let options = mounts_line(u.root())?[3].clone();
    let si = options.split(',').find(|o| o.starts_with("si="));
    Ok(si.context("no si= in /proc/mounts")?.to_owned())
}

fn command(mut file: &File, text: &str) -> sys::Res<()> {
    let result = file.write_all(text.as_bytes());
    let errno = |e: std::io::Error| Errno::from_raw_os_error(e.raw_os_error().unwrap_or(0));
    sys::at("write", FILE, result.map_err(errno))
}

/// Three names of one file below a writable branch.
fn linked(cx: &Ctx) -> Result<Union> {
    let tree = Tree::new()
        .file("a", "one")
        .dir("d")
        .hardlink("b", "a")
        .hardlink("d/c", "a")
        .file("other", "");
    cx.union().rw(Tree::new()).ro(tree).mount()
}

/// The inode numbers of pseudo-links in the first branch.
fn pseudo_links(u: &Union) -> Result<Vec<u64>> {
    let names = dir::names(u.br(0, ".wh..wh.plnk"))?;
    let first = |name: &String| name.split('.').next()?.parse().ok();
    Ok(names.iter().filter_map(first).collect())
}

fn flush(cx: &Ctx) -> Result<()> {
    let mut u = linked(cx)?;
    sys::append(u.at("a"), "+two")?;
    let listed = pseudo_links(&u)?;
    assert_eq!(listed, [sys::lstat(u.at("b"))?.st_ino]);
    assert!(!exists(u.br(0, "b")));

    let file = open()?;
    command(&file, &si(&u)?)?;
    for name in ["a", "b", "d/c", "other"] {
        if listed.contains(&sys::lstat(u.at(name))?.st_ino) {
            sys::chown(u.at(name), None, None)?;
        }
    }
    command(&file, "clean")?;
    for name in dir::names(u.br(0, ".wh..wh.plnk"))? {
        sys::unlink(u.br(0, ".wh..wh.plnk").join(name))?;
    }
    drop(file);

    let check = |u: &Union| -> Result<()> {
        let inode = std::fs::metadata(u.br(0, "a"))?.ino();
        let number = sys::lstat(u.at("a"))?.st_ino;
        for name in ["a", "b", "d/c"] {
            let lower = std::fs::metadata(u.br(0, name))?;
            assert_eq!((lower.ino(), lower.nlink()), (inode, 3), "{name}");
            let stat = sys::lstat(u.at(name))?;
            assert_eq!((stat.st_ino, stat.st_nlink as u64), (number, 3), "{name}");
            assert_eq!(text(u.at(name))?, "one+two", "{name}");
        }
        assert!(!exists(u.br(0, "other")), "it is none of them");
        Ok(())
    };
    check(&u)?;
    sys::drop_caches();
    check(&u)?;
    u.again()?;
    check(&u)?;
    sys::append(u.at("d/c"), "!")?;
    assert_eq!(text(u.at("a"))?, "one+two!");
    Ok(())
}

/// Another process that maintains a union until it is told to end.
struct Holder(Child);

impl Holder {
    fn of(u: &Union) -> Result<Self> {
        let script = format!("exec 3>{FILE}; echo {} >&3; echo held; read end", si(u)?);
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        assert_eq!(line, "held\n");
        Ok(Self(child))
    }

    fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        assert!(self.0.wait()?.success() || self.0.wait()?.code() == Some(1));
        Ok(())
    }
}

fn others_make_no_links(cx: &Ctx) -> Result<()> {
    let u = linked(cx)?;
    let holder = Holder::of(&u)?;
    errno(sys::append(u.at("a"), "x"), Errno::AGAIN);
    errno(sys::chmod(u.at("b"), 0o600), Errno::AGAIN);
    errno(sys::rename(u.at("d/c"), u.at("d/e")), Errno::AGAIN);
    let refused = reconfigure(u.root(), &["udba=none"]).expect_err("remount");
    assert_eq!(refused.errno, Errno::AGAIN, "{refused}");
    assert!(refused.log.concat().contains("plink_maint"), "{refused}");
    assert_eq!(text(u.at("a"))?, "one");
    assert!(pseudo_links(&u)?.is_empty());
    // What makes none goes on.
    sys::append(u.at("other"), "x")?;
    sys::write(u.at("new"), "")?;
    sys::unlink(u.at("d/c"))?;
    let second = open()?;
    errno(command(&second, &si(&u)?), Errno::BUSY);
    holder.end()?;
    sys::append(u.at("a"), "+")?;
    assert_eq!(text(u.at("b"))?, "one+");
    command(&second, &si(&u)?)?;
    // Who holds it may go on.
    sys::append(u.at("a"), "+")?;
    reconfigure(u.root(), &[])?;
    Ok(())
}

fn bad_commands(cx: &Ctx) -> Result<()> {
    let u = linked(cx)?;
    let good = si(&u)?;
    let file = open()?;
    for text in [
        "",
        "si=",
        "si",
        "si=xyz",
        "si=1",
        "si=0x1",
        "clean",
        "clean\n",
        "si=ffffffffffffffffff",
        "nothing",
        &format!("{good} "),
        &format!("{good}\n\n"),
        &format!(" {good}"),
        &"s".repeat(65),
        &"s".repeat(100_000),
    ] {
        if !text.is_empty() {
            errno(command(&file, text), Errno::INVAL);
        }
    }
    command(&file, &format!("{good}\n"))?;
    errno(command(&file, "clean\n"), Errno::INVAL);
    errno(command(&file, &good), Errno::BUSY);
    errno(command(&open()?, &good), Errno::BUSY);
    command(&file, "clean")?;
    command(&file, "clean")?;
    drop(file);
    command(&open()?, &good)?;
    // SAFETY: The kernel checks the address.
    let ret = unsafe {
        use std::os::fd::AsRawFd;
        libc::write(open()?.as_raw_fd(), 0x10 as *const libc::c_void, 8)
    };
    assert_eq!((ret, sys::last_errno()), (-1, Errno::FAULT));
    Ok(())
}

fn unmounted_while_held(cx: &Ctx) -> Result<()> {
    let u = linked(cx)?;
    sys::append(u.at("a"), "x")?;
    let (file, si) = (open()?, si(&u)?);
    command(&file, &si)?;
    u.umount()?;
    errno(command(&open()?, &si), Errno::INVAL);
    command(&file, "clean")?;
    errno(command(&file, &si), Errno::BUSY);
    drop(file);
    errno(command(&open()?, &si), Errno::INVAL);
    Ok(())
}

fn module_goes_while_open(_: &Ctx) -> Result<()> {
    let file = open()?;
    scratch::run("modprobe", &["-r", "ruaufs"])?;
    let result = command(&file, "si=1");
    scratch::run("modprobe", &["ruaufs"])?;
    errno(result, Errno::IO);
    errno(command(&file, "si=1"), Errno::IO);
    errno(command(&open()?, "si=1"), Errno::INVAL);
    Ok(())
}

fn only_administrators(cx: &Ctx) -> Result<()> {
    let u = linked(cx)?;
    let (file, si) = (open()?, si(&u)?);
    assert_eq!(std::fs::metadata(FILE)?.mode() & 0o7777, 0o200);
    users::as_user(1000, 1000, || {
        errno(sys::open(FILE, OFlags::WRONLY), Errno::ACCESS);
        errno(command(&file, &si), Errno::ACCESS);
    });
    errno(sys::open_ro(FILE).and_then(sys::read_fd), Errno::IO);
    // Root without the capability cannot open it, so nobody else is made to write to it.
    let script = format!("exec 3>{FILE}");
    let powerless = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
        .args(["bash", "-c", &script])
        .output()?;
    let said = String::from_utf8_lossy(&powerless.stderr);
    assert!(
        !powerless.status.success() && said.contains("denied"),
        "{said}"
    );
    Ok(())
}
