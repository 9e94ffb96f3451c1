// SPDX-License-Identifier: GPL-2.0

//! The mount table, from `/proc/self/mountinfo`.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use anyhow::{Context, Result};

use crate::{names::unescape, system};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// The number of the file system's device: major, minor.
    pub dev: (u32, u32),
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Options of the mount: `rw`, `relatime`.
    pub mount_options: Vec<String>,
    /// Type of the file system.
    pub fstype: String,
    /// What was given as the device.
    pub source: OsString,
    /// Options of the file system, not yet unescaped.
    pub fs_options: Vec<u8>,
}

impl Mount {
    /// Whether it is a union.
    pub fn is_union(&self) -> bool {
        matches!(self.fstype.as_str(), "aufs" | "ruaufs")
    }

    /// Whether the file system has this option, a word.
    pub fn has_option(&self, word: &str) -> bool {
        self.options().any(|option| option == word.as_bytes())
    }

    /// The value of an option of the file system.
    pub fn option(&self, key: &str) -> Option<&[u8]> {
        self.options()
            .find_map(|option| option.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }

    /// The options of the file system, one by one.
    pub fn options(&self) -> impl Iterator<Item = &[u8]> {
        self.fs_options.split(|b| *b == b',')
    }

    /// Whether mount or file system are read-only.
    pub fn is_read_only(&self) -> bool {
        self.has_option("ro") || self.mount_options.iter().any(|o| o == "ro")
    }
}

/// Reads the table.
pub fn table() -> Result<Vec<Mount>> {
    let path = "/proc/self/mountinfo";
    let text =
        system::read(path.as_ref()).with_context(|| format!("{path} (is /proc mounted?)"))?;
    Ok(parse(&text))
}

/// Parses a table; lines that are none are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    let lines = text.split(|b| *b == b'\n');
    lines.filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let mut next = || fields.next();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let id = number(next()?)?;
    next()?; // The parent.
    let dev = std::str::from_utf8(next()?).ok()?.split_once(':')?;
    let dev = (dev.0.parse().ok()?, dev.1.parse().ok()?);
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    let (root, target) = (path(next()?), path(next()?));
    let mount_options = String::from_utf8_lossy(next()?);
    let mount_options = mount_options.split(',').map(str::to_owned).collect();
    // Optional fields, up to a dash.
    while next()? != b"-" {}
    Some(Mount {
        id,
        dev,
        root,
        target,
        mount_options,
        fstype: String::from_utf8_lossy(next()?).into_owned(),
        source: OsString::from_vec(unescape(next()?)),
        fs_options: next().unwrap_or_default().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TABLE: &[u8] = b"\
21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro\n\
bad line\n\
40 21 0:38 / /mnt/a\\040b rw,noatime shared:7 master:2 - aufs none rw,si=9650c472b032d502,dirperm1,br:/u=rw:/l=ro+wh\n\
41 21 0:39 /sub /mnt/c ro,relatime - ruaufs my\\011src ro,si=1,br=/a\\054b=rw\n";

    #[test]
    fn lines() {
        let table = parse(TABLE);
        assert_eq!(table.len(), 3);
        assert!(!table[0].is_union());
        let a = &table[1];
        assert!(a.is_union() && !a.is_read_only());
        assert_eq!(a.target, Path::new("/mnt/a b"));
        assert_eq!(a.dev, (0, 38));
        assert_eq!(a.option("si"), Some(&b"9650c472b032d502"[..]));
        assert_eq!(a.option("s"), None);
        assert!(a.has_option("dirperm1") && !a.has_option("dirperm"));
        let c = &table[2];
        assert_eq!(
            (c.root.as_path(), c.source.to_str()),
            (Path::new("/sub"), Some("my\tsrc"))
        );
        assert!(c.is_read_only());
    }

    #[test]
    fn this_machine() {
        let table = table().unwrap();
        let id = crate::dir::mount_of(Path::new("/proc/self")).unwrap();
        let proc = table.iter().find(|m| m.id == id).unwrap();
        assert_eq!(proc.fstype, "proc");
    }
}
