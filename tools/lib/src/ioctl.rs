// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls. All are called on a file or directory of the union.

#![allow(unsafe_code)]

use std::{
    ffi::{c_void, OsString},
    mem,
    os::{fd::AsFd, unix::ffi::OsStringExt},
    path::PathBuf,
};

use rustix::{
    io::{Errno, Result},
    ioctl::{ioctl, Ioctl, IoctlOutput, Opcode, Updater},
};

const IBUSY: Opcode = 0xc018_4103;
const MVDOWN: Opcode = 0xc060_4104;
const BRINFO: Opcode = 0x5000_4105;

/// Argument of IBUSY.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
struct RawBusy {
    ino: u64,
    h_ino: u64,
    bindex: i16,
}

/// Figures of a file system, as [`MoveDown`] gives them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All blocks.
    pub blocks: u64,
    /// Blocks that are free for users.
    pub available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub free_files: u64,
}

/// A branch, as [`MoveDown`] names it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchRef {
    /// Its number.
    pub id: i16,
    /// Its position.
    pub index: i16,
    /// Its file system, if asked for.
    pub space: Space,
}

/// Argument and result of [`move_down`].
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveDown {
    /// Bits of [`flags`].
    pub flags: u32,
    /// From here.
    pub upper: BranchRef,
    /// To here.
    pub lower: BranchRef,
    /// Why it was refused with EINVAL, see [`MoveDown::reason`].
    pub au_errno: i8,
}

const _: () = {
    assert!(mem::size_of::<RawBusy>() == 24 && mem::offset_of!(RawBusy, bindex) == 16);
    assert!(mem::size_of::<BranchRef>() == 40 && mem::offset_of!(BranchRef, space) == 8);
    assert!(mem::size_of::<MoveDown>() == 96 && mem::offset_of!(MoveDown, lower) == 48);
    assert!(mem::offset_of!(MoveDown, upper) == 8 && mem::offset_of!(MoveDown, au_errno) == 88);
    assert!(mem::size_of::<RawInfo>() == 4096);
};

/// Bits of [`MoveDown::flags`].
pub mod flags {
    /// Log reasons.
    pub const LOG: u32 = 0x1;
    /// Overwrite an existing lower file.
    pub const OVERWRITE_LOWER: u32 = 0x2;
    /// Keep the upper file.
    pub const KEEP_UPPER: u32 = 0x4;
    /// The lower branch may be `ro`.
    pub const RO_LOWER: u32 = 0x8;
    /// The upper branch may be `ro`.
    pub const RO_UPPER: u32 = 0x20;
    /// The upper branch is given.
    pub const UPPER_GIVEN: u32 = 0x80;
    /// The lower branch is given.
    pub const LOWER_GIVEN: u32 = 0x100;
    /// Return the figures of both file systems.
    pub const SPACE: u32 = 0x400;
    /// Result: the figures are not there.
    pub const NO_SPACE: u32 = 0x800;
}

impl MoveDown {
    /// Why the kernel refused, if it said so.
    pub fn reason(&self) -> Option<&'static str> {
        Some(match self.au_errno {
            1 => "a directory on its path is opaque between the two branches",
            2 => "a whiteout lies between the two branches",
            3 => "another instance lies between the two branches",
            4 => "there is no writable branch below",
            5 => "it is not on the upper branch that was given",
            6 => "the lower branch that was given does not exist, or is not below the upper one",
            _ => return None,
        })
    }
}

/// Moves the open file to a lower branch. The argument says afterwards what happened.
pub fn move_down(file: impl AsFd, argument: &mut MoveDown) -> Result<()> {
    // SAFETY: MVDOWN reads and writes a structure of this size and layout, as checked above.
    unsafe { ioctl(file, Updater::<MVDOWN, _>::new(argument)) }
}

/// The number on the branch of an inode that is in use and keeps this branch from being removed.
pub fn busy_inode(dir: impl AsFd, ino: u64, index: i16) -> Result<Option<u64>> {
    let mut argument = RawBusy {
        ino,
        h_ino: 0,
        bindex: index,
    };
    // SAFETY: IBUSY reads and writes a structure of this size and layout, as checked above.
    unsafe { ioctl(dir, Updater::<IBUSY, _>::new(&mut argument)) }?;
    Ok((argument.h_ino != 0).then_some(argument.h_ino))
}

/// One slot of BRINFO.
#[repr(C, align(8))]
struct RawInfo {
    id: i16,
    perm: i32,
    path: [u8; 4088],
}

/// A branch as BRINFO shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its number.
    pub id: i16,
    /// Bits of permission and attributes.
    pub perm: u32,
    /// Its path.
    pub path: PathBuf,
}

impl Info {
    /// Whether the union may write to it.
    pub fn may_write(&self) -> bool {
        self.perm & 1 != 0
    }
}

/// BRINFO with no buffer returns a count.
struct Count;

// SAFETY: BRINFO without a buffer touches no memory; its result is the value of the call.
unsafe impl Ioctl for Count {
    type Output = usize;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        BRINFO
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<usize> {
        usize::try_from(output).map_err(|_| Errno::OVERFLOW)
    }
}

/// BRINFO with a buffer.
struct Fill<'a>(&'a mut [RawInfo]);

// SAFETY: BRINFO fills one slot for each branch, and `infos` makes as many slots as a union can
// have branches.
unsafe impl Ioctl for Fill<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        BRINFO
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

/// Most branches that any build of aufs has.
const MAX_BRANCHES: usize = 1023;

/// The branches of the union that this directory is in.
pub fn infos(dir: impl AsFd) -> Result<Vec<Info>> {
    // SAFETY: See `Count`.
    let count = unsafe { ioctl(&dir, Count) }?;
    // The call has no size, so a branch that is added in between must find room: there are as many
    // slots as a union can have branches.
    let slots = count.max(MAX_BRANCHES);
    let empty = || RawInfo {
        id: 0,
        perm: 0,
        path: [0; 4088],
    };
    let mut raw: Vec<_> = std::iter::repeat_with(empty).take(slots).collect();
    // SAFETY: See `Fill`.
    unsafe { ioctl(&dir, Fill(&mut raw)) }?;
    // SAFETY: See `Count`.
    let count = unsafe { ioctl(&dir, Count) }?;
    raw.truncate(count);
    Ok(raw.into_iter().map(info).collect())
}

fn info(raw: RawInfo) -> Info {
    let len = raw
        .path
        .iter()
        .position(|b| *b == 0)
        .unwrap_or(raw.path.len());
    Info {
        id: raw.id,
        perm: u32::from_ne_bytes(raw.perm.to_ne_bytes()),
        path: PathBuf::from(OsString::from_vec(crate::names::unescape(&raw.path[..len]))),
    }
}
