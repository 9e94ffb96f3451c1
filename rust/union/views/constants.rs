// SPDX-License-Identifier: GPL-2.0

//! Files in sysfs that never change.

#![forbid(unsafe_code)]

use crate::fs::base::sysfs::{
    Attribute,
    Directory,
    Page, //
};
use kernel::prelude::*;

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
