// SPDX-License-Identifier: GPL-2.0

//! What mount(8) and umount(8) run for unions.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{ensure, Context, Result};
use clap::Parser;
use ruaufs_user::{
    mountapi::{self, Request},
    mounts,
    names::Show,
    options,
    union::Union,
};
use rustix::{
    io::Errno,
    mount::UnmountFlags,
    thread::{move_into_link_name_space, LinkNameSpaceType},
};

use crate::change;

/// Mount a union; run by mount(8)
///
/// mount(8) runs this program for the types ruaufs and aufs if it is installed. Beyond what mount(8)
/// would do itself it cuts long lists of branches into pieces that the kernel takes, flushes
/// pseudo-links before a remount that needs it, translates droplvl=N and ephemeral, and prints the
/// kernel's messages.
///
/// fsopen(2) is used where it is there and allowed, else mount(2). LIBMOUNT_FORCE_MOUNT2=always in
/// the environment asks for the latter.
#[derive(Debug, Parser)]
#[command(name = "mount.ruaufs", version)]
pub struct MountArgs {
    /// Any word; the mount table shows it
    source: OsString,
    /// Directory to mount on
    target: PathBuf,
    /// Mount options, see ruaufs(5), and mount(8) for those of all file systems
    ///
    /// droplvl=N, N from 1 to 3, leaves out more and more of what costs time: 1 is
    /// noatime,dirperm1,udba=none,nodirren; 2 adds notrunc_xino,notrunc_xib; 3 adds noplink,noxino.
    /// Negative values undo that: -1 is relatime,nodirperm1,udba=reval; -3 adds
    /// plink,xino=/tmp/.aufs.xino. ephemeral is droplvl=3.
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// Type: ruaufs or aufs; the name of the helper tells it if it is left out
    #[arg(short = 't', value_name = "TYPE")]
    fstype: Option<String>,
    /// Do everything but the mount
    #[arg(short = 'f')]
    fake: bool,
    /// Accepted, as mount(8) passes it on: nothing is written to /etc/mtab anyway
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Refused: the kernel cannot ignore options it does not know
    #[arg(short = 's')]
    sloppy: bool,
    /// Say what is done
    #[arg(short = 'v')]
    verbose: bool,
    /// Mount in this name space: a process id, or a file of a name space
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,
}

/// Unmount a union; run by umount(8)
///
/// umount(8) runs this program for the types ruaufs and aufs if it is installed. It makes hard links
/// of those pseudo-links that would not outlast the mount, see auplink(8), unless the union was
/// mounted with noplink. If that fails the union stays mounted; umount -i leaves it out.
#[derive(Debug, Parser)]
#[command(name = "umount.ruaufs", version)]
pub struct UmountArgs {
    /// Where the union is mounted
    target: PathBuf,
    /// Force it; what cannot be flushed is a warning
    #[arg(short = 'f')]
    force: bool,
    /// Detach it now, end it when nobody uses it; what cannot be flushed is a warning
    #[arg(short = 'l')]
    lazy: bool,
    /// Accepted, as umount(8) passes it on: nothing is written to /etc/mtab anyway
    #[arg(short = 'n')]
    no_mtab: bool,
    /// If it is busy, make it read-only instead
    #[arg(short = 'r')]
    read_only: bool,
    /// Say what is done
    #[arg(short = 'v')]
    verbose: bool,
    /// Type, as umount(8) passes it on
    #[arg(short = 't', value_name = "TYPE")]
    fstype: Option<String>,
    /// Unmount in this name space: a process id, or a file of a name space
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,
}

/// `mount.ruaufs`, `mount.aufs`.
pub fn mount(name: &str, args: MountArgs) -> Result<ExitCode> {
    ensure!(
        !args.sloppy,
        "option -s: the kernel cannot ignore options that it does not know"
    );
    let fstype = args.fstype.clone().unwrap_or_else(|| match name {
        "mount.aufs" => "aufs".to_owned(),
        _ => "ruaufs".to_owned(),
    });
    if let Some(code) = as_user("mount", &args.target, args.namespace.as_deref())? {
        return Ok(code);
    }
    enter(args.namespace.as_deref())?;
    let list: Vec<_> = args
        .options
        .into_iter()
        .flat_map(|o| options::split(&o.into_vec()))
        .collect();
    let sorted = options::sort(&list)?;
    // What cannot be passed on is an error before anything is done, also with -f.
    if args.fake {
        options::settings(&sorted.fs)?;
        return Ok(ExitCode::SUCCESS);
    }
    if sorted.remount {
        let union = mounted(&args.target)?;
        change::remount(&union, &sorted, args.verbose)?;
    } else {
        change::show(mountapi::mount(&Request {
            fstype: &fstype,
            source: &args.source,
            target: &args.target,
            options: &sorted,
        })?);
    }
    if args.verbose {
        let verb = if sorted.remount {
            "remounted"
        } else {
            "mounted"
        };
        crate::say(format_args!(
            "{name}: {} {verb} on {}",
            args.source.shown(),
            args.target.shown()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `umount.ruaufs`, `umount.aufs`.
pub fn umount(args: UmountArgs) -> Result<ExitCode> {
    if let Some(code) = as_user("umount", &args.target, args.namespace.as_deref())? {
        return Ok(code);
    }
    enter(args.namespace.as_deref())?;
    let union = mounted(&args.target)?;
    let others = mounts::table()?;
    let last = others.iter().filter(|m| m.dev == union.mount.dev).count() == 1;
    if last {
        match change::flush_fleeting(&union, args.verbose) {
            Err(e) if args.force || args.lazy => crate::warn(format_args!("{e:#}")),
            other => other.context("to unmount without that: umount -i")?,
        }
    }
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::FORCE, args.force);
    flags.set(UnmountFlags::DETACH, args.lazy);
    match mountapi::unmount(&union.mount.target, flags) {
        Err(e) if args.read_only && ruaufs_user::errno_of(&e) == Some(Errno::BUSY) => {
            change::remount_as(&union, "ro", Vec::new())?;
            let target = args.target.shown();
            crate::complain(format_args!("{target} is busy and is read-only now"));
        }
        other => other?,
    }
    if args.verbose {
        crate::say(format_args!("{} unmounted", args.target.shown()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// mount(8) and umount(8) let users do what fstab allows, but run helpers without privileges. Then
/// the same program does it by itself, for which it looks into fstab again: `-i` means without
/// helper. Returns its exit status, or `None` for root.
fn as_user(program: &str, target: &Path, namespace: Option<&Path>) -> Result<Option<ExitCode>> {
    if rustix::process::geteuid().is_root() || namespace.is_some() {
        return Ok(None);
    }
    // Not by PATH, which is the user's.
    let places = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(program));
    let Some(program) = places.iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    let status = Command::new(program)
        .arg("-i")
        .arg("--")
        .arg(target)
        .status()
        .with_context(|| program.shown())?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(ExitCode::from(code.unwrap_or(32))))
}

/// The union that is mounted exactly here.
fn mounted(target: &Path) -> Result<Union> {
    let union = Union::at(target)?;
    let here = target.canonicalize().with_context(|| target.shown())?;
    ensure!(
        union.mount.target == here,
        "nothing is mounted on {}; it lies in the union on {}",
        target.shown(),
        union.mount.target.shown()
    );
    Ok(union)
}

fn enter(namespace: Option<&Path>) -> Result<()> {
    let Some(namespace) = namespace else {
        return Ok(());
    };
    let is_pid = namespace
        .to_str()
        .is_some_and(|text| text.parse::<u32>().is_ok());
    let path = match is_pid {
        true => Path::new("/proc").join(namespace).join("ns/mnt"),
        false => namespace.to_owned(),
    };
    let file =
        std::fs::File::open(&path).with_context(|| format!("name space {}", path.shown()))?;
    use std::os::fd::AsFd;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))
        .with_context(|| format!("entering the name space {}", path.shown()))
}
