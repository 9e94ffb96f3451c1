// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls ([`crate::logic::uapi`]).
//!
//! Each reads a structure from user space, answers it, and writes it back. What
//! lists a directory is in [`super::rdu`], what moves a file in [`super::copyup`].
//! Who may give which command, and through which mount, is in
//! `Documentation/ruaufs/security.rst`.

#![forbid(unsafe_code)]

use super::{
    copyup,
    fhsm,
    rdu,
    Inode,
    Union, //
};
use crate::fs::{
    file::File,
    io::KernelFile,
    ioctl::{
        self,
        Needs,
        Operations,
        Request,
        WritableFile, //
    }, //
};
use crate::logic::{
    escape,
    ino,
    uapi::{
        self,
        BrInfo,
        Ibusy,
        WbrFd, //
    }, //
};
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Reads a structure from user space.
pub(super) fn read<const N: usize>(arg: usize) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    read_into(arg, &mut bytes)?;
    Ok(bytes)
}

/// Reads bytes from user space.
pub(super) fn read_into(arg: usize, bytes: &mut [u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), bytes.len())
        .reader()
        .read_slice(bytes)
}

/// Writes bytes to user space.
pub(super) fn write(arg: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), bytes.len())
        .writer()
        .write_slice(bytes)
}

impl Operations for Union {
    fn needs(command: u32) -> Result<Needs> {
        match command {
            uapi::WBR_FD | uapi::MVDOWN | uapi::IBUSY | uapi::FHSM_FD if !ioctl::is_admin() => {
                Err(EPERM)
            }
            uapi::MVDOWN => Ok(Needs::Changing),
            _ => Ok(Needs::Reading),
        }
    }

    fn ioctl(file: &File<Union>, request: Request) -> Result<isize> {
        let Request { command, arg } = request;
        match (command, file.inode().is_dir()) {
            (uapi::RDU, true) => rdu::list(file, arg),
            (uapi::RDU_INO, true) => rdu::numbers(file, arg),
            (uapi::WBR_FD, _) => open_branch(file, arg),
            (uapi::MVDOWN, _) => copyup::mvdown(file, arg),
            (uapi::IBUSY, true) => busy(file.inode(), arg),
            (uapi::FHSM_FD, true) => fhsm::open(file, arg),
            (uapi::BRINFO, true) => branches(file.inode(), arg),
            _ => Err(ENOTTY),
        }
    }
}

/// [`uapi::BRINFO`]: how many branches there are, or all of them.
fn branches(inode: &Inode, arg: usize) -> Result<isize> {
    let table = inode.sb().data().table();
    if arg == 0 {
        return isize::try_from(table.order.len()).map_err(|_| EOVERFLOW);
    }
    let mut at = arg;
    for branch in table.order.iter() {
        let head = BrInfo {
            id: i16::try_from(branch.id.number())?,
            access: branch.access.bits(),
        };
        let path = branch.shown.to_bytes()?;
        let mut slot: KVec<u8> = KVec::with_capacity(uapi::BRINFO_SIZE, GFP_KERNEL)?;
        slot.extend_from_slice(&head.encode(), GFP_KERNEL)?;
        let mut whole = Ok(());
        escape::write(&path, &mut |part| {
            if whole.is_ok() {
                whole = slot.extend_from_slice(part, GFP_KERNEL);
            }
        });
        whole?;
        if slot.len() >= uapi::BRINFO_SIZE {
            return Err(E2BIG);
        }
        slot.resize(uapi::BRINFO_SIZE, 0, GFP_KERNEL)?;
        write(at, &slot)?;
        at = at.wrapping_add(uapi::BRINFO_SIZE);
    }
    Ok(0)
}

/// [`uapi::IBUSY`]: the number which an inode has on a branch, if it keeps the branch busy.
fn busy(inode: &Inode, arg: usize) -> Result<isize> {
    let sb = inode.sb();
    let mut query = Ibusy::decode(&read(arg)?);
    let index = usize::try_from(query.index).map_err(|_| EINVAL)?;
    let branch = sb.data().table().order.get(index).ok_or(EINVAL)?;
    query.lower_ino = 0;
    if query.ino != ino::ROOT {
        if let Some(inode) = Inode::cached(sb, query.ino) {
            // A directory with another instance does without this one; an open file needs those
            // that it had before a promotion, too.
            let slot = if inode.is_dir() {
                let alone = Some(inode.stack()?).filter(|stack| stack.len() == 1);
                alone.and_then(|stack| stack.on(branch.id))
            } else {
                inode.history().find_map(|stack| stack.on(branch.id))
            };
            if let Some(slot) = slot {
                query.lower_ino = slot.inode()?.ino();
            }
        }
    }
    write(arg, &query.encode())?;
    Ok(0)
}

/// [`uapi::WBR_FD`]: opens the root of a writable branch, which leads to all that is there: what
/// the union hides, and what it shows elsewhere or with other owners.
///
/// # Errors
///
/// `EPERM` if the mount that `file` came through, or the caller's root directory, shows less than
/// the whole union, or if it allows less than the branch; `EROFS` if it is read-only; `EINVAL` for
/// flags that are not for reading, or an unknown branch; `ENOENT` if that is not writable.
fn open_branch(file: &File<Union>, arg: usize) -> Result<isize> {
    if !file.shows_all() {
        return Err(EPERM);
    }
    drop(WritableFile::new(file)?);
    let table = file.inode().sb().data().table();
    let (flags, branch) = if arg == 0 {
        let writable = table.order.iter().find(|branch| branch.writable());
        (0, writable)
    } else {
        let wanted = WbrFd::decode(&read(arg)?);
        if wanted.flags & !ioctl::DIR_FLAGS != 0 {
            return Err(EINVAL);
        }
        let branch = if wanted.id < 0 {
            table.order.first()
        } else {
            let has_id = |id| i16::try_from(id).is_ok_and(|id| id == wanted.id);
            table.order.iter().find(|branch| has_id(branch.id.number()))
        };
        let branch = branch.ok_or(EINVAL)?;
        (
            wanted.flags,
            Some(branch).filter(|branch| branch.writable()),
        )
    };
    let branch = branch.ok_or(ENOENT)?;
    if !file.allows_all_of(&branch.root.mount) {
        return Err(EPERM);
    }
    // The private mount ends at the branch's root: `..` leads nowhere, not even for somebody who
    // has nothing but this union.
    ioctl::give(flags, || {
        KernelFile::dir_for_user(branch.at(&branch.root.dentry), flags)
    })
}
