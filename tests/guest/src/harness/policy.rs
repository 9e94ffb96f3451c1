// SPDX-License-Identifier: GPL-2.0

//! What a directory gives to all that is made in it: a project, a key of fscrypt.

use std::path::Path;

use anyhow::Result;

use super::{dir, ioctl};

/// `struct fsxattr`, and its ioctls.
const FSXATTR: usize = 28;
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`.
const PROJINHERIT: u32 = 0x200;

const ADD_KEY: u32 = 0xc050_6617;
const REMOVE_KEY: u32 = 0xc040_6618;
const SET_POLICY: u32 = 0x800c_6613;
/// `FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER`.
const BY_IDENTIFIER: u8 = 2;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The project of a directory or regular file.
pub(crate) fn project(path: impl AsRef<Path>) -> Result<u32> {
    let mut attr = [0; FSXATTR];
    ioctl::on(super::sys::open_ro(path)?, FS_IOC_FSGETXATTR, &mut attr)?;
    Ok(word(&attr, 12))
}

/// Gives a directory, and all that is made in it from now on, to a project.
pub(crate) fn set_project(path: impl AsRef<Path>, project: u32) -> Result<()> {
    let fd = dir::open_dir(path)?;
    let mut attr = [0; FSXATTR];
    ioctl::on(&fd, FS_IOC_FSGETXATTR, &mut attr)?;
    let flags = word(&attr, 0) | PROJINHERIT;
    attr[..4].copy_from_slice(&flags.to_ne_bytes());
    attr[12..16].copy_from_slice(&project.to_ne_bytes());
    ioctl::on(&fd, FS_IOC_FSSETXATTR, &mut attr)?;
    Ok(())
}

/// A key that a file system knows.
pub(crate) struct Key([u8; 16]);

impl Key {
    /// Tells the file system at `path` a key.
    pub(crate) fn add(path: impl AsRef<Path>) -> Result<Self> {
        let mut arg = [0; 80 + 64];
        arg[0] = BY_IDENTIFIER;
        arg[40] = 64;
        for (n, byte) in arg[80..].iter_mut().enumerate() {
            *byte = n as u8;
        }
        ioctl::on(dir::open_dir(path)?, ADD_KEY, &mut arg)?;
        Ok(Self(arg[8..24].try_into().expect("sixteen bytes")))
    }

    /// Encrypts an empty directory, and all that is made in it.
    pub(crate) fn encrypt(&self, path: impl AsRef<Path>) -> Result<()> {
        // Version 2, AES-256-XTS for contents, AES-256-CTS for names.
        let mut policy = [0; 24];
        policy[..3].copy_from_slice(&[2, 1, 4]);
        policy[8..].copy_from_slice(&self.0);
        ioctl::on(dir::open_dir(path)?, SET_POLICY, &mut policy)?;
        Ok(())
    }

    /// Makes the file system at `path` forget the key, and all that it has decrypted.
    pub(crate) fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut arg = [0; 64];
        arg[0] = BY_IDENTIFIER;
        arg[8..24].copy_from_slice(&self.0);
        ioctl::on(dir::open_dir(path)?, REMOVE_KEY, &mut arg)?;
        Ok(())
    }
}
