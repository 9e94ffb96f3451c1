// SPDX-License-Identifier: GPL-2.0

//! Mounting and remounting unions.
//!
//! fsopen(2) and its kin come first: they give the kernel's messages and have no limit for the
//! whole. mount(2) is taken where these are not there or not allowed, where one option is too long
//! for them, and if `LIBMOUNT_FORCE_MOUNT2=always` says so, as for mount(8).

use std::{
    ffi::{CString, OsStr},
    os::fd::AsFd,
    path::Path,
};

use anyhow::{anyhow, bail, Context, Error, Result};
use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        self, FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountFlags, MoveMountFlags,
        UnmountFlags,
    },
};

use crate::{
    dir,
    mounts::Mount,
    names::Show,
    options::{self, Setting, Sorted},
};

/// What is to be mounted where.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `ruaufs` or `aufs`.
    pub fstype: &'a str,
    /// Anything; shown in the mount table.
    pub source: &'a OsStr,
    /// The directory to mount on.
    pub target: &'a Path,
    /// The options.
    pub options: &'a Sorted,
}

/// Why the new interface is not taken.
fn old_interface_wanted(sorted: &Sorted) -> Option<&'static str> {
    let forced = std::env::var_os("LIBMOUNT_FORCE_MOUNT2").is_some_and(|v| v == "always");
    if forced {
        return Some("LIBMOUNT_FORCE_MOUNT2=always");
    }
    let fits = options::settings(&sorted.fs).is_ok();
    let goes = || options::strings(&sorted.fs).is_ok_and(|strings| strings.len() == 1);
    (!fits && goes()).then_some("an option has more than 255 bytes")
}

/// What the kernel said of a change that it made all the same. mount(2) leaves that to its log.
pub type Warnings = Vec<String>;

/// Mounts a union.
pub fn mount(request: &Request<'_>) -> Result<Warnings> {
    if old_interface_wanted(request.options).is_some() {
        return mount_by_string(request).map(|()| Warnings::new());
    }
    let fs = match mount::fsopen(request.fstype, FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NOSYS | Errno::PERM) => {
            return mount_by_string(request).map(|()| Warnings::new());
        }
        other => other.map_err(|e| cannot_mount(request, e, Vec::new()))?,
    };
    let refused = |e| cannot_mount(request, e, messages(&fs));
    mount::fsconfig_set_string(&fs, "source", request.source).map_err(refused)?;
    configure(&fs, request.options)?.map_err(refused)?;
    mount::fsconfig_create(&fs).map_err(refused)?;
    let warnings = warnings(&fs);
    let attributes = attributes(request.options.flags(MountFlags::empty()));
    let mount = mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mount::move_mount(&mount, "", CWD, request.target, flags).map_err(refused)?;
    Ok(warnings)
}

/// The outer error: an option cannot be passed; the inner one: the kernel refused it.
fn configure(fs: impl AsFd, sorted: &Sorted) -> Result<rustix::io::Result<()>> {
    let settings = options::settings(&sorted.fs)?;
    Ok((|| {
        for word in &sorted.super_flags {
            mount::fsconfig_set_flag(&fs, *word)?;
        }
        for Setting { key, value } in settings {
            match value {
                None => mount::fsconfig_set_flag(&fs, &key[..])?,
                Some(value) => mount::fsconfig_set_string(&fs, &key[..], &value[..])?,
            }
        }
        Ok(())
    })())
}

/// Flags of mount(2) as those of fsmount(2).
fn attributes(flags: MountFlags) -> MountAttrFlags {
    let table = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (
            MountFlags::STRICTATIME,
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        ),
        (
            MountFlags::NODIRATIME,
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        ),
        (
            MountFlags::from_bits_retain(0x100),
            MountAttrFlags::from_bits_retain(0x0020_0000), // nosymfollow
        ),
    ];
    let given = table.iter().filter(|(flag, _)| flags.contains(*flag));
    given.fold(MountAttrFlags::empty(), |all, (_, attr)| all | *attr)
}

/// What the kernel has to say about a file system that is being set up.
fn messages(fs: impl AsFd) -> Vec<String> {
    said(fs).into_iter().map(|(_, text)| text).collect()
}

/// The warnings among these messages.
fn warnings(fs: impl AsFd) -> Warnings {
    let all = said(fs).into_iter();
    all.filter(|(kind, _)| *kind == 'w')
        .map(|(_, text)| text)
        .collect()
}

/// The messages, each with the letter of its kind: error, warning, information.
fn said(fs: impl AsFd) -> Vec<(char, String)> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = rustix::io::read(&fs, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..n]);
        all.push(kind_and_text(text.trim_end()));
    }
    all
}

/// Divides `w text`.
fn kind_and_text(message: &str) -> (char, String) {
    match message.split_once(' ') {
        Some((kind @ ("e" | "w" | "i"), text)) => {
            (kind.chars().next().unwrap_or('e'), text.to_owned())
        }
        _ => ('e', message.to_owned()),
    }
}

fn mount_by_string(request: &Request<'_>) -> Result<()> {
    let strings = options::strings(&request.options.fs)?;
    let flags = request.options.flags(MountFlags::empty());
    for (i, string) in strings.iter().enumerate() {
        let data = CString::new(&string[..]).context("an option has a NUL byte")?;
        let done = match i {
            0 => mount::mount(
                request.source,
                request.target,
                request.fstype,
                flags,
                data.as_c_str(),
            ),
            _ => mount::mount_remount(request.target, flags, data.as_c_str()),
        };
        if let Err(e) = done {
            if i > 0 {
                // Not a union with some of its branches.
                let _ = mount::unmount(request.target, UnmountFlags::empty());
            }
            return Err(cannot_mount(request, e, Vec::new()));
        }
    }
    Ok(())
}

fn cannot_mount(request: &Request<'_>, errno: Errno, messages: Vec<String>) -> Error {
    let target = request.target.shown();
    let advice = match errno {
        Errno::NODEV => format!(
            "the kernel knows no file system type {0}; load the module: modprobe {0}",
            request.fstype
        ),
        Errno::PERM if messages.is_empty() => "the kernel refused it".to_owned(),
        Errno::NOENT | Errno::NOTDIR
            if messages.is_empty() && dir::Dir::open(request.target).is_err() =>
        {
            format!("is {target} a directory?")
        }
        _ if messages.is_empty() => "the kernel's log says why: dmesg | tail".to_owned(),
        _ => messages.join("; "),
    };
    Error::from(errno).context(format!("mounting a union on {target}: {advice}"))
}

/// Changes a mounted union.
pub fn remount(mounted: &Mount, options: &Sorted) -> Result<Warnings> {
    let target = &mounted.target;
    let refused = |errno: Errno, messages: Vec<String>| {
        let advice = match messages.is_empty() {
            true => "the kernel's log says why: dmesg | tail".to_owned(),
            false => messages.join("; "),
        };
        Error::from(errno).context(format!("remounting {}: {advice}", target.shown()))
    };
    // What was looked at is changed, whatever its path leads to now.
    let (pinned, path) = dir::mount_point(target, mounted.id)?;
    // All flags of a mount are replaced, so those that are not mentioned are given again.
    let flags = options.flags(flags_of(mounted));
    let by_string = || -> Result<()> {
        let strings = options::strings(&options.fs)?;
        let [string] = &strings[..] else {
            bail!("the options of a remount are longer than mount(2) takes");
        };
        let data = CString::new(&string[..]).context("an option has a NUL byte")?;
        mount::mount_remount(&path, flags, data.as_c_str()).map_err(|e| refused(e, Vec::new()))
    };
    let by_string = || by_string().map(|()| Warnings::new());
    if old_interface_wanted(options).is_some() {
        return by_string();
    }
    let pick = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let fs = match mount::fspick(&pinned, "", pick) {
        Err(Errno::NOSYS | Errno::PERM) => return by_string(),
        other => other.map_err(|e| refused(e, Vec::new()))?,
    };
    configure(&fs, options)?.map_err(|e| refused(e, messages(&fs)))?;
    mount::fsconfig_reconfigure(&fs).map_err(|e| refused(e, messages(&fs)))?;
    let warnings = warnings(&fs);
    if options.has_flags() {
        mount::mount_remount(&path, flags | MountFlags::BIND, c"")
            .map_err(|e| refused(e, Vec::new()))?;
    }
    Ok(warnings)
}

/// The flags of a mount, from its words in the mount table.
fn flags_of(mounted: &Mount) -> MountFlags {
    let words: Vec<_> = mounted
        .mount_options
        .iter()
        .map(|o| o.clone().into_bytes())
        .collect();
    let sorted = options::sort(&words).unwrap_or_default();
    sorted.flags(MountFlags::empty())
}

/// Unmounts.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<()> {
    mount::unmount(target, flags).map_err(|e| {
        let advice = match e {
            Errno::BUSY => format!(
                "it is in use; `aubusy {0} BRANCH` or `fuser -vm {0}` shows by whom",
                target.shown()
            ),
            Errno::INVAL => "nothing is mounted there".to_owned(),
            _ => "it was refused".to_owned(),
        };
        anyhow!(e).context(format!("unmounting {}: {advice}", target.shown()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_back() {
        let line = b"40 21 0:38 / /m ro,nosuid,nodev,noatime - ruaufs none rw,si=1,br=/a=rw\n";
        let mounted = &crate::mounts::parse(line)[0];
        let flags = flags_of(mounted);
        let all = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        assert_eq!(flags, all);
        let attributes = attributes(flags);
        assert!(attributes
            .contains(MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_RDONLY));
        assert!(!attributes.contains(MountAttrFlags::MOUNT_ATTR_NOEXEC));
    }

    #[test]
    fn kinds_of_messages() {
        let message = "w ruaufs: branch /a: no such permission \"wr\"";
        let (kind, text) = kind_and_text(message);
        assert_eq!((kind, &text[..]), ('w', &message[2..]));
        assert_eq!(kind_and_text("e no"), ('e', "no".to_owned()));
        assert_eq!(kind_and_text("what else"), ('e', "what else".to_owned()));
    }

    #[test]
    fn which_interface() {
        let sorted = |list: &str| options::sort(&options::split(list.as_bytes())).unwrap();
        assert_eq!(old_interface_wanted(&sorted("br=/a:/b,noxino")), None);
        let long = format!("br=/a:/{}", "x".repeat(300));
        assert!(old_interface_wanted(&sorted(&long)).is_some());
        // Neither takes this one, and the new interface says so better.
        let longer = format!("br=/a:/{}", "x".repeat(5000));
        assert_eq!(old_interface_wanted(&sorted(&longer)), None);
    }
}
