// SPDX-License-Identifier: GPL-2.0

//! Ioctls of files and directories.

use crate::fs::{
    objects::file::File,
    types::FileSystem, //
};
use kernel::prelude::*;

/// A call of ioctl(2).
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// The command.
    pub(crate) command: u32,
    /// The argument; a pointer of a 32-bit program is one of this machine already.
    pub(crate) arg: usize,
}

/// Callbacks of ioctl(2).
pub(crate) trait Operations: FileSystem {
    /// Carries a command out. Runs outside the gate, since it reads and writes memory of the
    /// caller: what it looks at, it looks at in sections of its own.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if there is no such command for this file.
    fn ioctl(file: &File<Self>, request: Request) -> Result<isize>;
}
