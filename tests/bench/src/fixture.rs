// SPDX-License-Identifier: GPL-2.0

//! Trees and mounts.
//!
//! Branches are on one file system, mounted on [`DISK`]. ext4 is on a RAM disk: its I/O completes
//! at once and costs instructions, so that no waiting, during which the counting clock would jump
//! to its next timer, is part of a figure.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use rustix::{
    fs::CWD,
    mount::{
        fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    },
};

use crate::row::Subject;

/// Where the file system with the branches is mounted. Short: 128 paths below it must fit into
/// the one page that mount(2) takes.
const DISK: &str = "/b";
const UNION: &str = "/u";
const RAM_DISK: &str = "/dev/ram0";
const RAM_DISK_KIB: u32 = 1 << 20;

pub(crate) const ENTRIES: usize = 1000;
/// How many names a directory of very many has, in all of two layers.
pub(crate) const HUGE: usize = 50_000;
/// How many files with two names there are where there are few, and where there are many.
pub(crate) const LINKS: [(&str, usize); 2] = [("few", 100), ("many", 1200)];
pub(crate) const TREE_DIRS: usize = 100;
pub(crate) const TREE_FILES: usize = 20;
pub(crate) const MIB: u64 = 1 << 20;

/// How many of the files that can be used once there are.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) small: usize,
    pub(crate) medium: usize,
    pub(crate) large: usize,
}

pub(crate) fn command(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .context(program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
    );
    Ok(())
}

/// Once per run: modules and settings.
pub(crate) fn prepare() -> Result<()> {
    command("modprobe", &["overlay"])?;
    command("modprobe", &["ruaufs"])?;
    let size = format!("rd_size={RAM_DISK_KIB}");
    command("modprobe", &["brd", "rd_nr=1", &size])?;
    fs::create_dir_all(DISK)?;
    fs::create_dir_all(UNION)?;
    // Write-back only when it is asked for (the counterpart of the journal is in `Disk::new`).
    fs::write("/proc/sys/vm/dirty_writeback_centisecs", "0")?;
    fs::write("/proc/sys/vm/dirty_background_ratio", "70")?;
    fs::write("/proc/sys/vm/dirty_ratio", "80")?;
    // No message about each drop.
    fs::write("/proc/sys/vm/drop_caches", "4")?;
    Ok(())
}

/// Lets RCU callbacks and kernel threads finish.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(40));
}

/// Forgets all dentries and inodes that nobody uses; file data stays.
pub(crate) fn drop_caches() -> Result<()> {
    // The first round only takes the mark "used" from what was used since the last.
    for _ in 0..3 {
        fs::write("/proc/sys/vm/drop_caches", "2")?;
    }
    settle();
    Ok(())
}

/// The file system with the branches.
pub(crate) struct Disk(());

impl Disk {
    pub(crate) fn new(kind: &str) -> Result<Self> {
        let (source, options) = match kind {
            "ext4" => {
                // The same hash seed each time: it decides on the order of names.
                const UUID: &str = "52554155-4653-4265-a6e3-681b00000001";
                let extended =
                    format!("lazy_itable_init=0,lazy_journal_init=0,hash_seed={UUID},discard");
                let arguments = [
                    "-q", "-F", "-m", "0", "-N", "180000", "-U", UUID, "-E", &extended, RAM_DISK,
                ];
                command("mkfs.ext4", &arguments)?;
                (RAM_DISK, c"commit=300")
            }
            _ => ("none", c"size=3g"),
        };
        mount(source, DISK, kind, MountFlags::empty(), options)
            .with_context(|| format!("mounting {kind}"))?;
        Ok(Self(()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(DISK).join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(DISK, UnmountFlags::empty()) {
            println!("error: {DISK} cannot be unmounted: {error}");
            let _ = unmount(DISK, UnmountFlags::DETACH);
        }
    }
}

/// A union over `0` (writable) to `layers - 1` of a [`Disk`].
pub(crate) struct Union(());

impl Union {
    pub(crate) fn mount(
        subject: Subject,
        disk: &Disk,
        layers: u32,
        ruaufs_options: &str,
    ) -> Result<Self> {
        let layer = |n: u32| disk.path(&n.to_string()).display().to_string();
        match subject {
            Subject::Bare => {}
            Subject::Overlayfs => {
                let work = disk.path("work");
                fs::create_dir_all(&work)?;
                let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
                for n in 1..layers {
                    fsconfig_set_string(&fs, "lowerdir+", layer(n))?;
                }
                fsconfig_set_string(&fs, "upperdir", layer(0))?;
                fsconfig_set_string(&fs, "workdir", work)?;
                fsconfig_create(&fs).context("mounting overlayfs")?;
                let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&mount, "", CWD, UNION, flags)?;
            }
            Subject::Ruaufs => {
                let mut options = format!("br={}=rw", layer(0));
                for n in 1..layers {
                    // Whiteouts are looked for wherever overlayfs looks for them.
                    let perm = if n + 1 == layers { "ro" } else { "ro+wh" };
                    options += &format!(":{}={perm}", layer(n));
                }
                if !ruaufs_options.is_empty() {
                    options += &format!(",{ruaufs_options}");
                }
                let options = CString::new(options)?;
                mount("none", UNION, "ruaufs", MountFlags::empty(), &*options)
                    .context("mounting ruaufs")?;
            }
        }
        Ok(Self(()))
    }

    pub(crate) fn path(&self) -> &'static Path {
        Path::new(UNION)
    }
}

impl Drop for Union {
    fn drop(&mut self) {
        if let Err(error) = unmount(UNION, UnmountFlags::empty()) {
            println!("error: {UNION} cannot be unmounted: {error}");
            let _ = unmount(UNION, UnmountFlags::DETACH);
        }
    }
}

fn file(path: &Path, size: u64) -> Result<()> {
    const CHUNK: u64 = MIB;
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let data = vec![0x5a; size.min(CHUNK) as usize];
    let mut left = size;
    while left > 0 {
        let some = left.min(CHUNK);
        file.write_all(&data[..some as usize])?;
        left -= some;
    }
    Ok(())
}

fn sparse(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(size)?;
    for at in [0, size / 2, size - 4096] {
        file.write_all_at(&[0x5a; 4096], at)?;
    }
    Ok(())
}

/// Builds layer `n` of `layers` (0 is the writable one) in `dir`. All of them built into one
/// directory make the merged tree.
pub(crate) fn build_layer(dir: &Path, n: usize, layers: usize, counts: Counts) -> Result<()> {
    let make = |name: &str| fs::create_dir_all(dir.join(name));
    let (top, bottom) = (n == 0, n + 1 == layers);
    for name in [
        "top/x/y",
        "bottom/x/y",
        "absent/x/y",
        "new",
        "change",
        "used",
        "merged",
        "files",
    ] {
        make(name)?;
    }
    for entry in (0..ENTRIES).filter(|entry| entry % layers == n) {
        file(&dir.join(format!("merged/entry-{entry:04}")), 0)?;
    }
    for d in 0..TREE_DIRS {
        let here = d % layers;
        if !bottom && here != n {
            continue;
        }
        let sub = dir.join(format!("tree/dir-{d:02}"));
        fs::create_dir_all(&sub)?;
        for f in 0..TREE_FILES {
            if n == if f % 2 == 0 { layers - 1 } else { here } {
                file(&sub.join(format!("file-{f:02}")), 2048)?;
            }
        }
    }
    if top {
        file(&dir.join("top/x/y/file"), 4096)?;
        file(&dir.join("files/upper"), MIB)?;
    }
    if bottom {
        file(&dir.join("bottom/x/y/file"), 4096)?;
        make("single/x/y")?;
        file(&dir.join("single/x/y/file"), 4096)?;
        file(&dir.join("files/lower"), MIB)?;
        file(&dir.join("files/copied"), 4096)?;
        make("listed")?;
        for entry in 0..ENTRIES {
            file(&dir.join(format!("listed/entry-{entry:04}")), 0)?;
        }
        for i in 0..counts.small {
            file(&dir.join(format!("new/old-{i:03}")), 0)?;
            file(&dir.join(format!("used/unlink-{i:03}")), 4096)?;
            file(&dir.join(format!("used/chmod-{i:03}")), 4096)?;
            file(&dir.join(format!("used/4k-{i:03}")), 4096)?;
        }
        for i in 0..counts.medium {
            file(&dir.join(format!("used/1m-{i:03}")), MIB)?;
        }
        for i in 0..counts.large {
            file(&dir.join(format!("used/64m-{i:03}")), 64 * MIB)?;
            sparse(&dir.join(format!("used/sparse-{i:03}")), 1024 * MIB)?;
        }
    }
    Ok(())
}

/// What is there in two layers only: very many names of one file in each, and hard links in the
/// bottom one.
pub(crate) fn build_many(dir: &Path, n: usize) -> Result<()> {
    let huge = dir.join("huge");
    fs::create_dir_all(&huge)?;
    let one = dir.join(format!("files/huge-{n}"));
    file(&one, 0)?;
    for i in (n..HUGE).step_by(2) {
        fs::hard_link(&one, huge.join(format!("entry-{i:05}")))?;
    }
    if n == 0 {
        return Ok(());
    }
    for (name, count) in LINKS {
        let links = dir.join("links").join(name);
        fs::create_dir_all(&links)?;
        for i in 0..count {
            let first = links.join(format!("one-{i:03}"));
            file(&first, 1)?;
            fs::hard_link(&first, links.join(format!("two-{i:03}")))?;
        }
    }
    Ok(())
}

/// All is on disk, nothing is cached. Branches are not as new as ours: a directory that was changed
/// within the last two seconds is looked at more often (coarse times may not show the next change).
pub(crate) fn all_cold() -> Result<()> {
    std::thread::sleep(Duration::from_secs(4));
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    drop_caches()
}
