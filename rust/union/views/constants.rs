// SPDX-License-Identifier: GPL-2.0

//! Files in sysfs that never change: what the module is, and what it was loaded with.

#![forbid(unsafe_code)]

use crate::fs::base::sysfs::{
    Attribute,
    Directory,
    Page, //
};
use kernel::prelude::*;

/// What the module was loaded with.
pub(crate) struct Parameters {
    /// The type `aufs` is registered, too.
    pub(crate) aufs_alias: bool,
    /// Branches are shown in sysfs, and not in `/proc/mounts`.
    pub(crate) brs: bool,
}

/// What aufs's configuration would be called that has the same features.
const CONFIG: &[u8] = b"\
CONFIG_AUFS_FS=m
CONFIG_AUFS_BRANCH_MAX_511=y
CONFIG_AUFS_SBILIST=y
CONFIG_AUFS_HNOTIFY=y
CONFIG_AUFS_HFSNOTIFY=y
CONFIG_AUFS_EXPORT=y
CONFIG_AUFS_INO_T_64=y
CONFIG_AUFS_XATTR=y
CONFIG_AUFS_FHSM=y
CONFIG_AUFS_RDU=y
CONFIG_AUFS_DIRREN=y
CONFIG_AUFS_SHWH=y
CONFIG_AUFS_BR_FUSE=y
CONFIG_AUFS_BR_HFSPLUS=y
";

/// A file that never changes.
pub(crate) struct Constant(&'static [u8]);

impl Attribute for Constant {
    fn show(&self, out: &mut Page<'_>) -> Result {
        out.bytes(self.0)
    }
}

/// `/sys/fs/aufs` with `config`.
pub(crate) fn root() -> Result<Directory<Constant>> {
    let mut root = Directory::in_fs(c"aufs")?;
    root.put(c"config", Constant(CONFIG))?;
    Ok(root)
}

/// `/sys/module/ruaufs/parameters`, which the kernel does not make for a Rust module.
pub(crate) fn parameters(
    module: &'static ThisModule,
    given: &Parameters,
) -> Result<Directory<Constant>> {
    let word = |on: bool, yes, no| Constant(if on { yes } else { no });
    let mut dir = Directory::in_module(module, c"parameters")?;
    dir.put(c"brs", word(given.brs, b"1\n", b"0\n"))?;
    dir.put(c"aufs_alias", word(given.aufs_alias, b"Y\n", b"N\n"))?;
    Ok(dir)
}
