// SPDX-License-Identifier: GPL-2.0

//! The list of a branch: which of its directories have records ([`crate::logic::dirren`]).

#![forbid(unsafe_code)]

use crate::fs::{
    access::{
        dirop,
        io::KernelFile,
        statfs::Statfs, //
    },
    base::{
        once::load_acquire,
        task, //
    },
    objects::{
        inode::Kind,
        path::Path, //
    }, //
};
use crate::logic::dirren as stored;
use crate::union::types::LowerDentry;
use core::pin::Pin;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{
            Atomic,
            Release, //
        },
        Mutex, //
    }, //
};

/// The attribute of a record with the path of the old parent, which begins with a slash.
pub(crate) const PARENT: &CStr = c"trusted.ruaufs.parent";

/// The longest such path.
pub(crate) const PATH_MAX: usize = 4095;

/// The mode of records and lists.
pub(crate) const MODE: u16 = 0o600;

/// Bytes of the longest list: 131,072 directories.
pub(crate) const LIST_MAX: usize = 1 << 20;

/// The renamed directories of a branch.
pub(crate) struct Renamed {
    /// The name of a record about this branch.
    pub(crate) record_name: KVec<u8>,
    /// Whether the list was read.
    loaded: Atomic<bool>,
    /// Whether there are any.
    pub(crate) used: Atomic<bool>,
    pub(crate) numbers: Pin<KBox<Mutex<Numbers>>>,
}

/// A list that was read.
pub(crate) struct List(RBTree<u64, ()>);

/// What is in the list.
pub(crate) struct Numbers {
    pub(crate) set: RBTree<u64, ()>,
    /// The stored list has more.
    pub(crate) stale: bool,
}

impl Renamed {
    /// Those of the branch with the root `root`. The mounter's credentials are in force.
    pub(crate) fn new(root: &Path) -> Result<Renamed> {
        let ino = root.dentry().positive()?.ino();
        let record_name =
            stored::record_name(Statfs::of(root.here())?.fsid, root.mount().device(), ino)?;
        let numbers = Numbers {
            set: RBTree::new(),
            stale: false,
        };
        Ok(Renamed {
            record_name,
            loaded: Atomic::new(false),
            used: Atomic::new(false),
            numbers: KBox::pin_init(new_mutex!(numbers, "ruaufs_renamed"), GFP_KERNEL)?,
        })
    }

    /// Reads the list of the branch with the root `root`. The mounter's credentials are in force.
    ///
    /// # Errors
    ///
    /// `EIO` if it is no regular file, `EFBIG` if it is too long, `EINTR` if the task was killed;
    /// what the branch gives.
    pub(crate) fn read(root: &Path) -> Result<List> {
        let mut set = RBTree::new();
        let found = match dirop::lookup_positive(root.dentry().dir()?, stored::LIST) {
            // A union has no such names.
            Err(error) if error == EPERM => None,
            other => other?,
        };
        if let Some(list) = &found {
            for number in stored::numbers(&read(root, list, LIST_MAX)?) {
                if task::killed() {
                    return Err(EINTR);
                }
                set.try_create_and_insert(number, (), GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(List(set))
    }

    /// Whether the list was read.
    pub(crate) fn is_loaded(&self) -> bool {
        load_acquire(&self.loaded)
    }

    /// Begins with `list`, which was just read, unless there is one. The list on the branch only
    /// changes after that.
    pub(crate) fn load(&self, list: List) {
        let List(mut set) = list;
        let mut numbers = self.numbers.lock();
        if !load_acquire(&self.loaded) {
            self.used.store(!set.is_empty(), Release);
            core::mem::swap(&mut numbers.set, &mut set);
            self.loaded.store(true, Release);
        }
        drop(numbers);
        drop(set);
    }

    /// Whether the directory with the number `ino` may have records.
    #[inline(never)]
    pub(crate) fn has(&self, ino: u64) -> bool {
        load_acquire(&self.used) && self.numbers.lock().set.get(&ino).is_some()
    }

    /// The directory with the number `ino` has no records any more.
    pub(crate) fn forget(&self, ino: u64) {
        if load_acquire(&self.used) {
            let mut numbers = self.numbers.lock();
            if numbers.set.remove(&ino).is_some() {
                numbers.stale = true;
            }
        }
    }
}

/// The contents of a small file. `EFBIG` if it has more than `max` bytes, `EIO` if it is no
/// regular file.
pub(crate) fn read(root: &Path, file: &LowerDentry, max: usize) -> Result<KVVec<u8>> {
    let inode = file.positive()?;
    if inode.kind() != Kind::Regular {
        return Err(EIO);
    }
    let size = usize::try_from(inode.size())?;
    if size > max {
        return Err(EFBIG);
    }
    let mut bytes = KVVec::new();
    bytes.resize(size, 0u8, GFP_KERNEL_ACCOUNT)?;
    let len = KernelFile::read(root.at(file)?)?.read_start(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}
