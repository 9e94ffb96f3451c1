// SPDX-License-Identifier: GPL-2.0

//! The file systems that branches live on.
//!
//! One way for all: images are sparse files on a tmpfs, mounted through loop devices. So the suite
//! needs nothing from whoever boots the guest, and no test waits for a disk. The writable file
//! systems are made and mounted once, at their first use; each test gets fresh directories on them.
//! squashfs and iso9660 images are made for each branch from a staging directory.
//!
//! Everything is mounted with `noatime`, so that access times belong to a branch's fingerprint.
//! The program has a mount namespace of its own: nothing outlives it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{ensure, Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// A file system that can hold a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
    Squashfs,
    Iso9660,
    /// Another union, of one read-only tmpfs branch.
    Nested,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tmpfs => "tmpfs",
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::Squashfs => "squashfs",
            Kind::Iso9660 => "iso9660",
            Kind::Nested => "ruaufs",
        }
    }
}

/// Below this everything happens; `RUAUFS_TEST_DIR` moves it.
pub(crate) fn base() -> PathBuf {
    std::env::var_os("RUAUFS_TEST_DIR").map_or_else(|| PathBuf::from("/mnt"), PathBuf::from)
}

/// Makes the private mount namespace and the base directory.
pub(crate) fn prepare() -> Result<()> {
    use rustix::thread::{unshare_unsafe, UnshareFlags};
    // SAFETY: no thread was started yet, and no descriptor table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.context("a mount namespace (are we root?)")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).context("making / private")?;
    // Autoloaded in most guests; a failure shows later as a mount error that names the type.
    for module in ["loop", "squashfs", "isofs", "xfs", "btrfs"] {
        let _ = Command::new("modprobe").arg("-q").arg(module).status();
    }
    let base = base();
    fs::create_dir_all(&base)?;
    mount("tmpfs", "tmpfs", &base, "mode=755").context("the base directory")?;
    for dir in ["images", "u", "scratch"] {
        fs::create_dir(base.join(dir))?;
    }
    Ok(())
}

/// `mount(2)` with `noatime`.
pub(crate) fn mount(source: &str, fstype: &str, target: &Path, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount(source, target, fstype, MountFlags::NOATIME, data.as_c_str())
        .with_context(|| format!("mounting {fstype} on {}", target.display()))
}

/// Plain `umount(2)`.
pub(crate) fn umount(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::empty())
        .with_context(|| format!("umount {}", target.display()))
}

/// Runs a tool; its output is shown only when it fails.
pub(crate) fn run(tool: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(tool).args(args).output();
    let output = output.with_context(|| format!("running {tool}"))?;
    ensure!(
        output.status.success(),
        "{tool} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Root of the mounted writable file system of this kind.
pub(crate) fn root(kind: Kind) -> Result<PathBuf> {
    static MOUNTED: Mutex<Option<HashMap<Kind, PathBuf>>> = Mutex::new(None);
    let mut mounted = MOUNTED.lock().unwrap_or_else(|e| e.into_inner());
    let mounted = mounted.get_or_insert_with(HashMap::new);
    if let Some(root) = mounted.get(&kind) {
        return Ok(root.clone());
    }
    let root = base().join(kind.name());
    fs::create_dir_all(&root)?;
    match kind {
        Kind::Tmpfs => mount("tmpfs", "tmpfs", &root, "mode=755")?,
        _ => mount_image(kind, &image(kind, kind.name(), 512 << 20)?, &root)?,
    }
    mounted.insert(kind, root.clone());
    Ok(root)
}

/// A fresh image file with an empty writable file system.
pub(crate) fn image(kind: Kind, name: &str, size: u64) -> Result<PathBuf> {
    let path = base().join("images").join(format!("{name}.img"));
    fs::File::create(&path)?.set_len(size)?;
    let file = path.to_str().context("an image path is text")?;
    match kind {
        Kind::Ext4 => run("mkfs.ext4", &["-q", "-F", "-m", "0", "-J", "size=8", file])?,
        Kind::Xfs => run("mkfs.xfs", &["-q", "-f", file])?,
        Kind::Btrfs => run("mkfs.btrfs", &["-q", "-f", file])?,
        other => anyhow::bail!("{} images are not made empty", other.name()),
    }
    Ok(path)
}

/// Mounts an image through a loop device, which goes away with the mount.
pub(crate) fn mount_image(kind: Kind, image: &Path, target: &Path) -> Result<()> {
    let options = match kind {
        Kind::Squashfs | Kind::Iso9660 => "loop,ro,noatime",
        Kind::Ext4 => "loop,noatime,acl,user_xattr",
        _ => "loop,noatime",
    };
    let (image, target) = (image.to_string_lossy(), target.to_string_lossy());
    run(
        "mount",
        &["-t", kind.name(), "-o", options, &image, &target],
    )
}

/// Packs a directory into a read-only image.
pub(crate) fn pack(kind: Kind, from: &Path, name: &str) -> Result<PathBuf> {
    let image = base().join("images").join(format!("{name}.img"));
    let (source, file) = (from.to_string_lossy(), image.to_string_lossy());
    match kind {
        Kind::Squashfs => run(
            "mksquashfs",
            &[
                &source,
                &file,
                "-noappend",
                "-no-progress",
                "-quiet",
                "-xattrs",
                "-processors",
                "1",
            ],
        )?,
        Kind::Iso9660 => run("genisoimage", &["-quiet", "-R", "-D", "-o", &file, &source])?,
        other => anyhow::bail!("{} has no packing tool", other.name()),
    }
    Ok(image)
}

/// A file system of a test's own, which it can fill or unmount.
pub(crate) struct Private {
    path: PathBuf,
    image: Option<PathBuf>,
}

impl Private {
    pub(crate) fn tmpfs(name: &str, data: &str) -> Result<Self> {
        let path = base().join("scratch").join(name);
        fs::create_dir(&path)?;
        mount("tmpfs", "tmpfs", &path, data)?;
        Ok(Self { path, image: None })
    }

    /// One that knows no ACLs.
    pub(crate) fn without_acls(name: &str) -> Result<Self> {
        let path = base().join("scratch").join(name);
        fs::create_dir(&path)?;
        let image = image(Kind::Btrfs, name, 192 << 20)?;
        let (file, target) = (image.to_string_lossy(), path.to_string_lossy());
        run(
            "mount",
            &["-t", "btrfs", "-o", "loop,noacl", &file, &target],
        )?;
        let image = Some(image.clone());
        Ok(Self { path, image })
    }

    pub(crate) fn disk(kind: Kind, name: &str, size: u64) -> Result<Self> {
        let path = base().join("scratch").join(name);
        fs::create_dir(&path)?;
        let image = image(kind, name, size)?;
        mount_image(kind, &image, &path)?;
        Ok(Self {
            path,
            image: Some(image),
        })
    }

    /// The file system in an image, which goes with it.
    pub(crate) fn of_image(kind: Kind, image: PathBuf) -> Result<Self> {
        let name = image.file_stem().context("an image has a name")?;
        let path = base().join("scratch").join(name);
        fs::create_dir(&path)?;
        mount_image(kind, &image, &path)?;
        let image = Some(image);
        Ok(Self { path, image })
    }

    /// An ext4 of a test's own, made with these options of mkfs.ext4(8) and mount(8).
    pub(crate) fn ext4(name: &str, size: u64, mkfs: &[&str], options: &str) -> Result<Self> {
        let path = base().join("scratch").join(name);
        fs::create_dir(&path)?;
        let image = base().join("images").join(format!("{name}.img"));
        fs::File::create(&image)?.set_len(size)?;
        let (file, target) = (image.to_string_lossy(), path.to_string_lossy());
        let mut args = vec!["-q", "-F", "-m", "0"];
        args.extend(mkfs);
        args.push(&file);
        run("mkfs.ext4", &args)?;
        let options = format!("loop,noatime,{options}");
        run("mount", &["-t", "ext4", "-o", &options, &file, &target])?;
        let image = Some(image.clone());
        Ok(Self { path, image })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts; `EBUSY` means that something still pins the file system.
    pub(crate) fn umount(self) -> Result<()> {
        umount(&self.path)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // After `umount` there is nothing mounted here any more: EINVAL.
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.path);
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}

/// Makes a subvolume of btrfs.
pub(crate) fn subvolume(path: &Path) -> Result<()> {
    let path = path.to_string_lossy();
    run("btrfs", &["-q", "subvolume", "create", &path])
}
