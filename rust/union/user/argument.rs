// SPDX-License-Identifier: GPL-2.0

//! Arguments of ioctls, in the memory of the program.

#![forbid(unsafe_code)]

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Reads a structure from user space.
pub(crate) fn read<const N: usize>(arg: usize) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    read_into(arg, &mut bytes)?;
    Ok(bytes)
}

/// Reads bytes from user space.
pub(crate) fn read_into(arg: usize, bytes: &mut [u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), bytes.len())
        .reader()
        .read_slice(bytes)
}

/// Writes bytes to user space.
pub(crate) fn write(arg: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), bytes.len())
        .writer()
        .write_slice(bytes)
}
