// SPDX-License-Identifier: GPL-2.0

//! Probes of user space on programs of a union: they are on the file that is mapped.

#![cfg(target_arch = "x86_64")]

use std::{
    fs,
    os::fd::AsRawFd,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::harness::{prelude::*, scratch};

cases! {
    BASIC:
        they_fire,
        an_overlay_writes_to_a_union,
        an_overlay_finds_what_is_cached,
        attributes_of_an_overlay_take_no_walk;
}

const TRACING: &str = "/sys/kernel/tracing";

/// `nop`, `mov eax, 42`, `ret`.
const CODE: [u8; 7] = [0x90, 0xb8, 42, 0, 0, 0, 0xc3];

/// A probe at the beginning of a file.
struct Probe(&'static str);

fn control(file: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    let mut file = fs::OpenOptions::new().append(true).open(&path)?;
    std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())
        .with_context(|| format!("{text:?} to {}", path.display()))
}

impl Probe {
    fn set(name: &'static str, path: &Path) -> Result<Self> {
        if !Path::new(TRACING).join("uprobe_events").exists() {
            scratch::mount("tracefs", "tracefs", Path::new(TRACING), "")?;
        }
        control(
            "uprobe_events",
            &format!("p:union/{name} {}:0x0", path.display()),
        )?;
        let probe = Probe(name);
        control(&format!("events/union/{name}/enable"), "1")?;
        Ok(probe)
    }

    fn hits(&self) -> Result<u64> {
        let profile = fs::read_to_string(Path::new(TRACING).join("uprobe_profile"))?;
        let mut lines = profile.lines().map(|line| line.split_whitespace());
        let mut line = lines
            .find(|line| line.clone().nth(1) == Some(self.0))
            .with_context(|| format!("no {} in {profile:?}", self.0))?;
        Ok(line.nth(2).context("no count")?.parse()?)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = control(&format!("events/union/{}/enable", self.0), "0");
        let _ = control("uprobe_events", &format!("-:union/{}", self.0));
    }
}

/// Calls what is at the beginning of a file.
fn call(path: impl AsRef<Path>, times: u64) -> Result<()> {
    let fd = sys::open_ro(path)?;
    // SAFETY: A fresh mapping, and below a function that takes nothing and touches nothing.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE,
            fd.as_raw_fd(),
            0,
        )
    };
    ensure!(start != libc::MAP_FAILED, "mmap: {}", sys::last_errno());
    for _ in 0..times {
        // SAFETY: As above.
        let code: extern "C" fn() -> i32 = unsafe { std::mem::transmute(start) };
        assert_eq!(code(), 42);
    }
    // SAFETY: The mapping is ours.
    unsafe { libc::munmap(start, 4096) };
    Ok(())
}

fn they_fire(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("d/low", CODE).file("d/copied", CODE);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("d/copied"), "+")?;
    assert!(exists(u.br(0, "d/copied")));
    for (name, path) in [("low", "d/low"), ("copied", "d/copied")] {
        let probe = Probe::set(name, &u.at(path))?;
        call(u.at(path), 3)?;
        assert_eq!(probe.hits()?, 3, "{path}");
        // What the path leads to goes on to work while there is a probe.
        sys::append(u.at(path), "+")?;
    }
    // Of a copy, once it is made.
    let probe = Probe::set("again", &u.at("d/low"))?;
    call(u.at("d/low"), 2)?;
    assert_eq!(probe.hits()?, 2);
    drop(probe);
    u.umount()
}

/// It wants a directory, and files, behind which there is nothing.
fn an_overlay_writes_to_a_union(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("u/cached", "low")
        .file("u/later", CODE)
        .dir("w")
        .dir("l")
        .file("seen", CODE)
        .file("d/unseen", CODE);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::lstat(u.at("seen"))?;
    assert_eq!(text(u.at("u/cached"))?, "low");
    sys::write(u.at("u/new"), "new")?;
    let mnt = cx.mount_point()?;
    let root = u.root().display();
    let data = format!("lowerdir={root}/l,upperdir={root}/u,workdir={root}/w");
    scratch::mount("overlay", "overlay", &mnt, &data)?;
    // Files elsewhere are as before.
    let fires = |path: &str| -> Result<()> {
        let probe = Probe::set("beside", &u.at(path))?;
        call(u.at(path), 1)?;
        assert_eq!(probe.hits()?, 1, "{path}");
        Ok(())
    };
    let used = || -> Result<()> {
        assert_eq!(names(&mnt)?, set(["cached", "later", "new"]));
        assert_eq!(text(mnt.join("cached"))?, "low");
        sys::append(mnt.join("cached"), "+")?;
        assert_eq!(text(mnt.join("new"))?, "new");
        sys::write(mnt.join("d"), "")?;
        sys::rename(mnt.join("d"), mnt.join("new"))?;
        fires("seen")?;
        fires("d/unseen")?;
        sys::write(u.at("made"), CODE)?;
        fires("made")?;
        assert_eq!(sys::read(mnt.join("later"))?, CODE);
        Ok(())
    };
    let result = used();
    scratch::umount(&mnt)?;
    result?;
    // What it wrote to is as the rest, when it is looked up again.
    sys::drop_caches();
    fires("u/later")?;
    assert_eq!(text(u.at("u/cached"))?, "low+");
    u.umount()
}

fn fires(path: &Path) -> Result<()> {
    let probe = Probe::set("one", path)?;
    call(path, 1)?;
    assert_eq!(probe.hits()?, 1, "{}", path.display());
    Ok(())
}

/// In directories that are cached too, in what is moved there, and when another one was there
/// before.
fn an_overlay_finds_what_is_cached(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("u/top", CODE)
        .file("u/d/file", CODE)
        .file("u/d/e/file", CODE)
        .file("l/d/e/below", "below")
        .dir("w");
    let top = Tree::new().file("moved", CODE).file("m/n/moved", CODE);
    let u = cx.union().rw(top).ro(low).mount()?;
    let mnt = cx.mount_point()?;
    let root = u.root().display();
    let data = format!("lowerdir={root}/l,upperdir={root}/u,workdir={root}/w");
    // Their inodes stay.
    let _held = [sys::open_ro(u.at("u/d"))?, sys::open_ro(u.at("u/d/e"))?];
    for _ in 0..2 {
        for path in ["u/top", "u/d/file", "u/d/e/file", "moved", "m/n/moved"] {
            fires(&u.at(path))?;
        }
        scratch::mount("overlay", "overlay", &mnt, &data)?;
        let used = || -> Result<()> {
            for path in ["d/e/file", "top", "d/file"] {
                assert_eq!(sys::read(mnt.join(path))?, CODE, "{path}");
            }
            assert_eq!(text(mnt.join("d/e/below"))?, "below");
            sys::rename(u.at("moved"), u.at("u/d/moved"))?;
            sys::rename(u.at("m"), u.at("u/d/m"))?;
            assert_eq!(sys::read(mnt.join("d/moved"))?, CODE);
            assert_eq!(sys::read(mnt.join("d/m/n/moved"))?, CODE);
            Ok(())
        };
        let result = used();
        scratch::umount(&mnt)?;
        result?;
        sys::rename(u.at("u/d/moved"), u.at("moved"))?;
        fires(&u.at("moved"))?;
        sys::rename(u.at("u/d/m"), u.at("m"))?;
        sys::drop_caches();
    }
    drop(_held);
    u.umount()
}

/// Whoever may set one would have all inodes of the union looked at.
fn attributes_of_an_overlay_take_no_walk(cx: &Ctx) -> Result<()> {
    let mut low = Tree::new().dir("w").dir("l");
    for number in 0..4000 {
        low = low.file(&format!("many/{number}"), "");
    }
    let top = Tree::new().file("u/file", "").file("plain/file", "");
    let u = cx.union().rw(top).ro(low).mount()?;
    for number in 0..4000 {
        sys::lstat(u.at(&format!("many/{number}")))?;
    }
    let mnt = cx.mount_point()?;
    let root = u.root().display();
    let data = format!("lowerdir={root}/l,upperdir={root}/u,workdir={root}/w");
    scratch::mount("overlay", "overlay", &mnt, &data)?;
    let taken = |path: &str| -> Result<Duration> {
        let (path, start) = (u.at(path), Instant::now());
        for number in 0..20 {
            sys::set_xattr(&path, "user.overlay.mine", format!("{number}"))?;
            sys::get_xattr(path.parent().context("no parent")?, "user.overlay.mine")
                .expect_err("it is the file's");
        }
        Ok(start.elapsed())
    };
    let used = || -> Result<()> {
        let least = |path| -> Result<Duration> {
            let mut least = Duration::MAX;
            for _ in 0..10 {
                least = least.min(taken(path)?);
            }
            Ok(least)
        };
        let (inside, elsewhere) = (least("u/file")?, least("plain/file")?);
        ensure!(
            inside < elsewhere * 4,
            "{inside:?}, elsewhere {elsewhere:?}"
        );
        Ok(())
    };
    let result = used();
    scratch::umount(&mnt)?;
    result?;
    u.umount()
}
