// SPDX-License-Identifier: GPL-2.0

//! Who may use a directory as a branch: two unions that write one, and `/proc/fs/aufs/claim`.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Command,
};

use rustix::mount::UnmountFlags;

use crate::harness::{
    prelude::*,
    scratch,
    union::{mounts_line, reconfigure, Refused, Spec},
};

cases! {
    BASIC: two_writers, at_a_remount, one_below_the_other, lazily_unmounted, shared_on_purpose,
        by_programs;
    ONCE: refused_mounts_claim_nothing, in_another_namespace, bad_commands, limits,
        module_goes_while_claimed, only_administrators;
    EXT4: overlayfs;
}

/// An overlay with `index=on` wants file handles.
const EXT4: &[Layout] = &[Layout::Ext4];

const FILE: &str = "/proc/fs/aufs/claim";

fn open() -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(FILE).context(FILE)
}

/// Claims the directory that a descriptor is of.
fn claim(mut file: &File, dir: &OwnedFd) -> sys::Res<()> {
    let result = file.write_all(format!("{}\n", dir.as_raw_fd()).as_bytes());
    let errno = |e: std::io::Error| Errno::from_raw_os_error(e.raw_os_error().unwrap_or(0));
    sys::at("write", FILE, result.map_err(errno))
}

/// What the file says about the last claim.
fn said(mut file: &File) -> Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn dir_fd(path: &Path) -> sys::Res<OwnedFd> {
    sys::open(path, OFlags::PATH | OFlags::DIRECTORY)
}

/// `si=...` of a union.
fn si(u: &Union) -> Result<String> {
    let options = mounts_line(u.root())?[3].clone();
    let si = options.split(',').find(|o| o.starts_with("si="));
    Ok(si.context("no si= in /proc/mounts")?.to_owned())
}

/// A mount that must be refused with `EBUSY`.
fn busy(cx: &Ctx, options: &[&str]) -> Result<Refused> {
    let mnt = cx.mount_point()?;
    let refused = |api| match Spec::new(options).api(api).mount(&mnt) {
        Err(refused) => {
            assert_eq!(refused.errno, Errno::BUSY, "{refused}");
            Ok(refused)
        }
        Ok(()) => {
            scratch::umount(&mnt)?;
            anyhow::bail!("{options:?} was mounted")
        }
    };
    refused(Api::Mount2)?;
    refused(Api::Fsopen)
}

/// What a refusal says must name the union and the branch.
fn names(refused: &Refused, u: &Union, branch: &Path) -> Result<()> {
    let (said, si) = (refused.log.concat(), si(u)?);
    assert!(said.contains(&si), "{said}");
    assert!(said.contains(&*branch.to_string_lossy()), "{said}");
    Ok(())
}

fn two_writers(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "low"))
        .mount()?;
    let (rw, ro) = (u.br(0, ""), u.br(1, ""));
    sys::append(u.at("f"), "+")?;
    // What is being made there is not taken for a left-over.
    let staged = rw.join(".wh..wh.orph/staged");
    sys::write(&staged, "")?;
    for options in [
        vec![format!("br={}=rw", rw.display())],
        vec![format!("br={}=rw+nolwh:{}=ro", rw.display(), ro.display())],
        vec![
            format!("br={}=ro", ro.display()),
            format!("append={}=rw", rw.display()),
        ],
    ] {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        names(&busy(cx, &options)?, &u, &rw)?;
    }
    assert!(exists(&staged), "the second mount removed it");
    assert!(exists(rw.join(".wh..wh.aufs")));
    sys::unlink(&staged)?;

    // Any number may read it.
    let second = cx.union().at(&rw, "ro+wh").at(&ro, "ro").mount()?;
    let third = cx.union().at(&rw, "rr").mount()?;
    assert_eq!(text(second.at("f"))?, "low+");
    drop((second, third));
    u.umount()?;
    let u = cx.union().at(&rw, "rw").at(&ro, "ro").mount()?;
    assert_eq!(text(u.at("f"))?, "low+");
    Ok(())
}

fn at_a_remount(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("a", ""))
        .rw(Tree::new().file("b", ""))
        .mount()?;
    let other = cx.union().rw(Tree::new().file("c", "")).mount()?;
    let (a, b) = (u.br(0, ""), u.br(1, ""));
    let (a, b) = (a.display(), b.display());
    let refused = |change: &str| -> Result<()> {
        let refused = reconfigure(other.root(), &[change]).expect_err(change);
        assert_eq!(refused.errno, Errno::BUSY, "{refused}");
        names(&refused, &u, &u.br(1, ""))
    };
    refused(&format!("append={b}=rw"))?;
    // To read it is fine, to write it from then on is not.
    reconfigure(other.root(), &[&format!("append={b}=ro")])?;
    refused(&format!("mod={b}=rw"))?;
    assert_eq!(dir::names(other.root())?, set(["b", "c"]));
    sys::write(u.at("b"), "b")?;

    // It is given back by a branch that becomes read-only, and by one that leaves.
    reconfigure(u.root(), &[&format!("mod={b}=ro")])?;
    reconfigure(other.root(), &[&format!("mod={b}=rw")])?;
    let back = reconfigure(u.root(), &[&format!("mod={b}=rw")]).expect_err("it is taken");
    assert_eq!(back.errno, Errno::BUSY, "{back}");
    names(&back, &other, &u.br(1, ""))?;
    reconfigure(other.root(), &[&format!("del={b}")])?;
    reconfigure(u.root(), &[&format!("mod={b}=rw")])?;
    refused(&format!("append={b}=rw"))?;

    // A remount that fails later gives back what it took, and keeps what it had.
    reconfigure(u.root(), &[&format!("mod={b}=ro")])?;
    let failed = [&*format!("append={b}=rw"), &*format!("append={a}=rw")];
    reconfigure(other.root(), &failed).expect_err("the first branch is taken");
    reconfigure(u.root(), &[&format!("mod={b}=rw")])?;
    let moved = [&*format!("mod={b}=ro"), &*format!("mod={b}=rw")];
    reconfigure(u.root(), &moved)?;
    reconfigure(u.root(), &[&format!("del={b}"), &format!("prepend={b}=rw")])?;
    refused(&format!("append={b}=rw"))?;
    sys::write(u.at("b"), "bb")?;
    Ok(())
}

/// As bilibop-lockfs has it: each has bookkeeping of its own.
fn one_below_the_other(cx: &Ctx) -> Result<()> {
    let rw = cx.dir(cx.layout.upper())?;
    Tree::new().dir("d").file("d/f", "f").build(&rw)?;
    let u = cx.union().at(&rw, "rw").ro(Tree::new()).mount()?;
    let below = cx.union().at(&u.br(0, "d"), "rw").mount()?;
    let said = cx.klog().concat();
    assert!(said.contains(&si(&u)?), "no warning: {said}");
    sys::write(below.at("g"), "g")?;
    assert_eq!(text(u.at("d/g"))?, "g");
    drop(below);
    Ok(())
}

fn lazily_unmounted(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", ""))
        .mount()?;
    let (rw, si) = (u.br(0, ""), si(&u)?);
    let option = format!("br={}=rw", rw.display());
    let file = sys::open_ro(u.at("f"))?;
    rustix::mount::unmount(u.root(), UnmountFlags::DETACH)?;
    u.was_unmounted();
    let refused = busy(cx, &[&option])?;
    assert!(refused.log.concat().contains(&si), "{refused}");
    drop(file);
    drop(cx.union().at(&rw, "rw").mount()?);
    Ok(())
}

fn shared_on_purpose(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).mount()?;
    let rw = u.br(0, "");
    let staged = rw.join(".wh..wh.orph/staged");
    sys::write(&staged, "")?;
    let second = cx.union().at(&rw, "rw").opt("noclaim").mount()?;
    assert!(exists(&staged), "what another one is making was removed");
    assert!(mounts_line(second.root())?[3].contains(",noclaim"));
    sys::write(second.at("f"), "f")?;
    assert_eq!(text(u.at("f"))?, "f");
    // It may not stop to share what is taken.
    let refused = reconfigure(second.root(), &["claim"]).expect_err("it is taken");
    assert_eq!(refused.errno, Errno::BUSY, "{refused}");
    names(&refused, &u, &rw)?;
    reconfigure(u.root(), &["noclaim"])?;
    reconfigure(second.root(), &["claim"])?;
    assert!(!mounts_line(second.root())?[3].contains("noclaim"));
    busy(cx, &[&format!("br={}=rw", rw.display())])?;
    // Who shares it leaves what the other needs.
    sys::write(u.at("g"), "")?;
    drop(u);
    assert!(exists(&staged));
    sys::unlink(&staged)?;
    sys::unlink(second.at("g"))?;
    assert!(exists(rw.join(".wh..wh.aufs")));
    Ok(())
}

fn refused_mounts_claim_nothing(cx: &Ctx) -> Result<()> {
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let base = cx.branch(Kind::Tmpfs, "rw", &Tree::new().dir(".wh..wh.aufs"))?;
    let mnt = cx.mount_point()?;
    for bad in [
        vec![
            format!("br={}=rw", rw.display()),
            format!("br={}=rw", rw.display()),
        ],
        // It is not taken for bookkeeping.
        vec![
            format!("br={}=rw", rw.display()),
            format!("br={}=rw", base.display()),
        ],
    ] {
        let bad: Vec<_> = bad.iter().map(String::as_str).collect();
        let refused = Spec::new(&bad).mount(&mnt).expect_err("a bad mount");
        assert_eq!(refused.errno, Errno::INVAL, "{refused}");
    }
    let file = open()?;
    claim(&file, &dir_fd(&rw)?)?;
    claim(&file, &dir_fd(&base)?)?;
    sys::rmdir(base.join(".wh..wh.aufs"))?;
    Ok(())
}

fn in_another_namespace(cx: &Ctx) -> Result<()> {
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let mnt = cx.mount_point()?;
    let script = format!(
        "mount --make-rprivate / && mount -t ruaufs -o br={}=rw none {} && echo done && read end",
        rw.display(),
        mnt.display()
    );
    let mut child = Command::new("unshare")
        .args(["-m", "bash", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut done = [0; 5];
    child
        .stdout
        .take()
        .context("its output")?
        .read_exact(&mut done)?;
    let option = format!("br={}=rw", rw.display());
    let refused = busy(cx, &[&option])?;
    assert!(refused.log.concat().contains("si="), "{refused}");
    let file = open()?;
    errno(claim(&file, &dir_fd(&rw)?), Errno::BUSY);
    assert!(said(&file)?.contains("si="));
    drop(child.stdin.take());
    child.wait()?;
    // The namespace goes some time after its last process.
    let start = std::time::Instant::now();
    while claim(&file, &dir_fd(&rw)?).is_err() {
        assert!(start.elapsed().as_secs() < 60, "still claimed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

fn by_programs(cx: &Ctx) -> Result<()> {
    let tree = || Tree::new().dir("d").dir("d/e");
    let u = cx.union().rw(tree()).ro(tree()).mount()?;
    let (rw, ro) = (u.br(0, ""), u.br(1, ""));
    let file = open()?;
    for path in [
        &*rw,
        &*ro,
        &rw.join("d/e"),
        &ro.join("d"),
        rw.parent().context("/")?,
    ] {
        errno(claim(&file, &dir_fd(path)?), Errno::BUSY);
        let said = said(&file)?;
        let branch = if path.starts_with(&ro) { &ro } else { &rw };
        let named = said.contains(&*branch.to_string_lossy());
        assert!(
            named || path.ends_with(rw.parent().context("/")?),
            "{path:?}: {said}"
        );
        assert!(said.contains(&si(&u)?) && said.ends_with('\n'), "{said}");
    }
    u.umount()?;

    let dir = dir_fd(&rw.join("d"))?;
    claim(&file, &dir)?;
    assert_eq!(said(&file)?, "");
    drop(dir);
    claim(&file, &sys::open_ro(&ro)?)?;
    // Others, and the same one, are kept away from it, from what is above and what is below.
    let other = open()?;
    for path in [&*rw, &rw.join("d"), &rw.join("d/e"), &ro] {
        for file in [&file, &other] {
            errno(claim(file, &dir_fd(path)?), Errno::BUSY);
            let said = said(file)?;
            let pid = format!("process {} ", std::process::id());
            assert!(said.contains(&pid), "{said}");
        }
        for perm in ["ro", "rr+wh", "rw"] {
            let refused = busy(cx, &[&format!("br={}={perm}", path.display())])?;
            let said = refused.log.concat();
            let pid = format!("process {} (", std::process::id());
            assert!(said.contains(&pid), "{said}");
        }
    }
    assert!(!exists(rw.join(".wh..wh.orph")) || dir::names(rw.join(".wh..wh.orph"))?.is_empty());
    let u = cx.union().rw(Tree::new()).mount()?;
    let refused = reconfigure(u.root(), &[&format!("append={}=ro", ro.display())]);
    assert_eq!(refused.expect_err("claimed").errno, Errno::BUSY);
    drop((u, file));
    let u = cx.union().at(&rw, "rw").at(&ro, "ro").mount()?;
    errno(claim(&other, &dir_fd(&rw)?), Errno::BUSY);
    drop(u);
    Ok(())
}

fn bad_commands(cx: &Ctx) -> Result<()> {
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new().file("f", ""))?;
    let mut file = open()?;
    let dir = dir_fd(&rw)?.as_raw_fd();
    for bad in [
        "\n",
        "x\n",
        "-1\n",
        " 1\n",
        "1 \n",
        "1\n\n",
        "0x1\n",
        "4294967296\n",
        &dir.to_string(),
    ] {
        let error = file.write_all(bad.as_bytes()).expect_err(bad);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{bad:?}");
    }
    let error = file
        .write_all(b"1000000\n")
        .expect_err("no such descriptor");
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    errno(claim(&file, &sys::open_ro(rw.join("f"))?), Errno::NOTDIR);
    assert!(!said(&file)?.is_empty());
    assert_eq!(said(&file)?, "", "it is said once");
    claim(&file, &dir_fd(&rw)?).and_then(|()| sys::rmdir(rw.join("x")).or(Ok(())))?;
    Ok(())
}

fn limits(cx: &Ctx) -> Result<()> {
    let dir = cx.dir(Kind::Tmpfs)?;
    let file = open()?;
    for n in 0..512 {
        let path = dir.join(n.to_string());
        sys::mkdir(&path)?;
        claim(&file, &dir_fd(&path)?)?;
    }
    let more = dir.join("more");
    sys::mkdir(&more)?;
    errno(claim(&file, &dir_fd(&more)?), Errno::NOSPC);
    claim(&open()?, &dir_fd(&more)?)?;
    drop(file);
    claim(&open()?, &dir_fd(&dir)?)?;
    Ok(())
}

fn module_goes_while_claimed(cx: &Ctx) -> Result<()> {
    let dir = cx.dir(Kind::Tmpfs)?;
    let file = open()?;
    claim(&file, &dir_fd(&dir)?)?;
    scratch::run("modprobe", &["-r", "ruaufs"])?;
    assert!(claim(&file, &dir_fd(&dir)?).is_err());
    scratch::run("modprobe", &["ruaufs"])?;
    claim(&open()?, &dir_fd(&dir)?)?;
    Ok(())
}

/// What counts are the rights at open.
fn only_administrators(cx: &Ctx) -> Result<()> {
    let dir = cx.dir(Kind::Tmpfs)?;
    let fd = dir_fd(&dir)?;
    let file = open()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::open_rw(FILE), Errno::ACCESS);
        claim(&file, &fd)?;
        Ok(())
    })
}

/// Both keep out of each other's way.
fn overlayfs(cx: &Ctx) -> Result<()> {
    let dir = cx.dir(Kind::Ext4)?;
    for name in ["upper", "work", "lower"] {
        sys::mkdir(dir.join(name))?;
    }
    let d = dir.display();
    let data = format!("lowerdir={d}/lower,upperdir={d}/upper,workdir={d}/work,index=on");
    let mnt = cx.mount_point()?;
    scratch::mount("overlay", "overlay", &mnt, &data)?;
    let refused = busy(cx, &[&format!("br={d}/upper=rw")])?;
    assert!(refused.log.concat().contains("overlayfs"), "{refused}");
    errno(claim(&open()?, &dir_fd(&dir.join("upper"))?), Errno::BUSY);
    drop(cx.union().at(&dir.join("upper"), "ro").mount()?);
    scratch::umount(&mnt)?;

    let u = cx.union().at(&dir.join("upper"), "rw").mount()?;
    let both = scratch::mount("overlay", "overlay", &mnt, &data);
    assert!(both.is_err(), "overlayfs does not see the mark");
    drop(u);
    scratch::mount("overlay", "overlay", &mnt, &data)?;
    scratch::umount(&mnt)?;
    Ok(())
}
