// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls. All are called on a file or directory of the union.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use logic::uapi::{Ibusy, IBUSY, MVDOWN};
pub use logic::uapi::{Mvdown, MvdownReason};
use rustix::{
    io::Result,
    ioctl::{ioctl, Updater},
};

/// Moves the open file to a lower branch. The argument says afterwards what happened.
pub fn move_down(file: impl AsFd, argument: &mut Mvdown) -> Result<()> {
    let mut bytes = argument.encode();
    // SAFETY: MVDOWN reads and writes a structure of this size.
    let done = unsafe { ioctl(file, Updater::<MVDOWN, _>::new(&mut bytes)) };
    *argument = Mvdown::decode(&bytes);
    done
}

/// The number on the branch of an inode that is in use and keeps this branch from being removed.
pub fn busy_inode(dir: impl AsFd, ino: u64, index: i16) -> Result<Option<u64>> {
    let argument = Ibusy {
        ino,
        index,
        lower_ino: 0,
    };
    let mut bytes = argument.encode();
    // SAFETY: IBUSY reads and writes a structure of this size.
    unsafe { ioctl(dir, Updater::<IBUSY, _>::new(&mut bytes)) }?;
    let lower = Ibusy::decode(&bytes).lower_ino;
    Ok((lower != 0).then_some(lower))
}
