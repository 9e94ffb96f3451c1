// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls ([`crate::logic::uapi`]).
//!
//! Each reads a structure from user space, answers it, and writes it back. None is
//! inside a section while it does the one or the other: memory of users may take any
//! time. Branches are looked at in sections of their own. What
//! lists a directory is in [`super::rdu`], what moves a file in [`crate::union::copyup`].
//! Who may give which command, and through which mount, is in
//! `Documentation/ruaufs/security.rst`.

#![forbid(unsafe_code)]

use super::{
    argument,
    mvdown,
    rdu, //
};
use crate::fs::{
    access::{
        descriptor::{
            self,
            WritableFile, //
        },
        io::KernelFile, //
    },
    base::{
        seats::Doing,
        task, //
    },
    objects::file::File,
    operations::ioctl::{
        Operations,
        Request, //
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
use crate::union::{
    branches::branch::Branch,
    state::fhsm,
    types::{
        Inode,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Operations for Union {
    fn ioctl(file: &File<Union>, request: Request) -> Result<isize> {
        let Request { command, arg } = request;
        // Before anything is locked or waited for.
        let for_admins = matches!(
            command,
            uapi::WBR_FD | uapi::MVDOWN | uapi::IBUSY | uapi::FHSM_FD
        );
        if for_admins && !task::is_admin() {
            return Err(EPERM);
        }
        match (command, file.inode().is_dir()) {
            (uapi::RDU, true) => rdu::list(file, arg),
            (uapi::RDU_INO, true) => rdu::numbers(file, arg),
            (uapi::WBR_FD, _) => open_branch(file, arg),
            (uapi::MVDOWN, _) => mvdown::mvdown(file, arg),
            (uapi::IBUSY, true) => busy(file.inode(), arg),
            (uapi::FHSM_FD, true) => fhsm::open(file, arg),
            (uapi::BRINFO, true) => branches(file.inode(), arg),
            _ => Err(ENOTTY),
        }
    }
}

/// [`uapi::BRINFO`]: how many branches there are, or all of them.
fn branches(inode: &Inode, arg: usize) -> Result<isize> {
    let mut slots: KVVec<u8> = KVVec::new();
    {
        let reading = inode.sb().read();
        let section = reading.section();
        let table = section.table();
        if arg == 0 {
            return isize::try_from(table.order.len()).map_err(|_| EOVERFLOW);
        }
        for branch in table.order.iter() {
            describe(branch, &mut slots)?;
        }
    }
    argument::write(arg, &slots)?;
    Ok(0)
}

/// Appends what [`uapi::BRINFO`] tells of `branch`.
fn describe(branch: &Branch, slots: &mut KVVec<u8>) -> Result {
    let end = slots.len().checked_add(uapi::BRINFO_SIZE).ok_or(E2BIG)?;
    let head = BrInfo {
        id: i16::try_from(branch.id.number())?,
        access: branch.access.bits(),
    };
    let path = branch.shown.to_bytes()?;
    slots.extend_from_slice(&head.encode(), GFP_KERNEL_ACCOUNT)?;
    let mut whole = Ok(());
    escape::write(&path, &mut |part| {
        if whole.is_ok() {
            whole = slots.extend_from_slice(part, GFP_KERNEL_ACCOUNT);
        }
    });
    whole?;
    if slots.len() >= end {
        return Err(E2BIG);
    }
    Ok(slots.resize(end, 0, GFP_KERNEL_ACCOUNT)?)
}

/// [`uapi::IBUSY`]: the number which an inode has on a branch, if it keeps the branch busy.
fn busy(inode: &Inode, arg: usize) -> Result<isize> {
    let sb = inode.sb();
    let mut query = Ibusy::decode(&argument::read(arg)?);
    // Not beside a remount, which takes stacks out of what inodes remember.
    let reading = sb.enter(Doing::Look);
    let section = reading.section();
    let index = usize::try_from(query.index).map_err(|_| EINVAL)?;
    let branch = section.table().order.get(index).ok_or(EINVAL)?;
    query.lower_ino = 0;
    if query.ino != ino::ROOT {
        if let Some(inode) = Inode::cached(sb, query.ino) {
            // A directory with another instance does without this one; an open file needs those
            // that it had before a promotion, too.
            let slot = if inode.is_dir() {
                let alone = Some(inode.stack(section)?).filter(|stack| stack.len() == 1);
                alone.and_then(|stack| stack.on(branch.id))
            } else {
                inode.history(section).find_map(|stack| stack.on(branch.id))
            };
            if let Some(slot) = slot {
                query.lower_ino = slot.inode()?.ino();
            }
        }
    }
    drop(reading);
    argument::write(arg, &query.encode())?;
    Ok(0)
}

/// The branch with the number `id`, that of the top one if it is negative; without a number the
/// topmost that is writable. `ENOENT` if it is not writable.
fn writable_branch(inode: &Inode, id: Option<i16>) -> Result<Arc<Branch>> {
    let reading = inode.sb().read();
    let section = reading.section();
    let order = &section.table().order;
    let branch = match id {
        None => order.iter().find(|branch| branch.writable()),
        Some(..0) => Some(order.first().ok_or(EINVAL)?),
        Some(id) => {
            let has_id = |branch: &&Arc<Branch>| {
                i16::try_from(branch.id.number()).is_ok_and(|number| number == id)
            };
            Some(order.iter().find(has_id).ok_or(EINVAL)?)
        }
    };
    branch
        .filter(|branch| branch.writable())
        .cloned()
        .ok_or(ENOENT)
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
    let (flags, id) = if arg == 0 {
        (0, None)
    } else {
        let wanted = WbrFd::decode(&argument::read(arg)?);
        (wanted.flags, Some(wanted.id))
    };
    if flags & !descriptor::DIR_FLAGS != 0 {
        return Err(EINVAL);
    }
    let branch = writable_branch(file.inode(), id)?;
    if !file.allows_all_of(branch.root.mount()) {
        return Err(EPERM);
    }
    // The private mount ends at the branch's root: `..` leads nowhere, not even for somebody who
    // has nothing but this union.
    descriptor::give(flags, || {
        KernelFile::dir_for_user(branch.root.here(), flags)
    })
}
