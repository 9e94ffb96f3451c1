// SPDX-License-Identifier: GPL-2.0

//! Branches and their order.
//!
//! A branch has an identity ([`BranchId`]); its place is a position in one
//! [`BranchTable`], which never changes once it is made.

#![forbid(unsafe_code)]

use super::{
    claim::Claim,
    notes,
    renamed::Renamed,
    seal::BranchKey, //
};
use crate::compat::errno::EOPNOTSUPP;
use crate::fs::objects::{
    path::{
        Path,
        PathRef,
        PrivatePath,
        WriteAccess, //
    },
    sb::WriteErrors,
    stack, //
};
use crate::logic::{
    branch_spec::Access,
    plink::FsId, //
};
use crate::union::types::{
    LowerDentry,
    LowerInode,
    SuperBlock, //
};
use crate::warn_limited;
use core::array;
use kernel::{
    prelude::*,
    str::BStr,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full, //
        },
        Arc, //
    }, //
};

/// The most branches a union may have: as an aufs built with `AUFS_BRANCH_MAX_511`. The slots of a
/// directory that is in all of them take three pages.
pub(crate) const MAX_BRANCHES: usize = 511;

/// The first identity, as aufs counts them.
const FIRST_ID: u16 = 64;

/// The identity of a branch, not given to another one while anything refers to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BranchId(u16);

impl BranchId {
    /// The identity of the first branch.
    pub(crate) const FIRST: Self = BranchId(FIRST_ID);
    /// The largest one: aufs's tools know it as a signed 16-bit number.
    const LAST: u16 = 0x7fff;

    /// The next one; after the largest it begins anew with 1.
    pub(crate) fn next(self) -> Self {
        match self.0 {
            Self::LAST.. => BranchId(1),
            n => BranchId(n.saturating_add(1)),
        }
    }

    /// Its number, as aufs's interfaces show it.
    pub(crate) fn number(self) -> u16 {
        self.0
    }
}

/// The bookkeeping objects at the root of a writable branch.
#[derive(Clone)]
pub(crate) struct Work {
    /// The file that whiteouts are hard links of; `None` with `nolwh`.
    pub(crate) base: Option<ARef<LowerDentry>>,
    /// The directory of pseudo-links.
    pub(crate) plinks: ARef<LowerDentry>,
    /// The directory for objects in the making and for what is left to remove.
    pub(crate) orphans: ARef<LowerDentry>,
}

/// A directory that is stacked into the union.
///
/// Fields drop from top to bottom: dentries must not outlive the mounts.
pub(crate) struct Branch {
    /// What others are told of its use. A branch whose access was changed shares it with what it
    /// was before, if it is for the same.
    pub(crate) claim: Arc<Claim>,
    /// What a writable branch has at its root.
    pub(crate) work: Option<Work>,
    /// Its pseudo-links.
    pub(crate) plinks: Arc<notes::Index>,
    /// Its renamed directories.
    pub(crate) renamed: Arc<Renamed>,
    /// Its identity.
    pub(crate) id: BranchId,
    /// As the user gave it: for messages, and to keep the mount busy.
    pub(crate) shown: Path,
    /// The same directory through a mount of our own, for all work. A branch whose access was
    /// changed shares it with what it was before.
    pub(crate) root: Arc<PrivatePath>,
    /// What the user allows.
    pub(crate) access: Access,
    /// It is, or was, a writable branch of this union: what was written there may still be on its
    /// way to the disk.
    pub(crate) was_written: bool,
    /// The number of its file system among those of the union.
    pub(crate) fs: u16,
    /// Equal inode numbers on it may be of different objects ([`super::ino`]).
    pub(crate) has_spaces: bool,
    /// The errors of writing back on its file system.
    pub(crate) errors: Arc<WriteErrors>,
    /// The identity of its file system, also at other mounts, if that can be told.
    pub(crate) identity: Option<FsId>,
    /// What handles of its objects are sealed with, if it is writable or was.
    pub(crate) key: Option<Arc<BranchKey>>,
    /// What the log tells of it already.
    pub(crate) told: Told,
}

/// What the log tells of a branch once, however often it is met.
pub(crate) struct Told {
    /// It cannot hold all attributes of what was copied to it.
    pub(crate) loss: Atomic<bool>,
    /// It cannot hold the default ACL of a directory.
    pub(crate) default_acl: Atomic<bool>,
    /// It has a directory that ignores the case of names.
    pub(crate) folding: Atomic<bool>,
}

impl Told {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Told {
            loss: Atomic::new(false),
            default_acl: Atomic::new(false),
            folding: Atomic::new(false),
        }
    }
}

impl Branch {
    /// The same branch with another claim.
    pub(crate) fn with_claim(&self, claim: Arc<Claim>) -> Self {
        Branch {
            claim,
            key: self.key.clone(),
            work: self.work.clone(),
            plinks: self.plinks.clone(),
            renamed: self.renamed.clone(),
            shown: self.shown.clone(),
            root: self.root.clone(),
            errors: self.errors.clone(),
            told: Told::new(),
            ..*self
        }
    }

    /// Whether the union may write to it now.
    #[inline]
    pub(crate) fn writable(&self) -> bool {
        self.work.is_some() && !self.root.mount().sb_is_read_only()
    }

    /// Tells those who have files of `sb`, the union, of errors of writing back on the branch.
    pub(crate) fn tell_errors(&self, sb: &SuperBlock) {
        if let Err(error) = self.errors.check(self.root.mount()) {
            sb.tell_write_error(error);
        }
    }

    /// The inode of its root.
    pub(crate) fn root_inode(&self) -> Result<&LowerInode> {
        self.root.dentry().positive()
    }

    /// Refuses `dir`, a directory of it, if names are looked up there without regard to case: the
    /// union compares them byte by byte.
    #[inline]
    pub(crate) fn check_case(&self, dir: &LowerDentry) -> Result {
        if dir.folds_case() {
            return Err(self.folds_case(dir));
        }
        Ok(())
    }

    #[cold]
    fn folds_case(&self, dir: &LowerDentry) -> Error {
        if !self.told.folding.xchg(true, Full) {
            let path = self
                .shown
                .at(dir)
                .and_then(|path| path.to_owned().to_bytes());
            warn_limited!(
                "directory {:?} of a branch ignores the case of names, the union cannot show it\n",
                BStr::from_bytes(&path.unwrap_or_default())
            );
        }
        EOPNOTSUPP.into()
    }

    /// Its bookkeeping objects. `EROFS` if it is not writable.
    pub(crate) fn work(&self) -> Result<&Work> {
        self.work.as_ref().ok_or(EROFS)
    }

    /// A dentry of the branch as seen through its mount. `ESTALE` for one of another file system.
    #[inline]
    pub(crate) fn at<'a>(&'a self, dentry: &'a LowerDentry) -> Result<PathRef<'a>> {
        self.root.at(dentry)
    }

    /// Keeps the branch writable until the guard is dropped.
    ///
    /// # Errors
    ///
    /// `EROFS` if its file system or mount is read-only.
    pub(crate) fn want_write(&self) -> Result<WriteAccess<'_>> {
        if !self.writable() {
            return Err(EROFS);
        }
        self.root.mount().want_write()
    }

    /// Whether its root is the directory `root`, and objects are made there.
    pub(crate) fn is_written_at(&self, root: &Path) -> bool {
        self.work.is_some() && self.root.dentry().is(root.dentry())
    }

    /// As [`Branch::want_write`], but `None` while its file system is frozen.
    pub(crate) fn try_write(&self) -> Result<Option<WriteAccess<'_>>> {
        if !self.writable() {
            return Err(EROFS);
        }
        self.root.mount().try_write()
    }
}

/// One branch's instance of an object.
pub(crate) type Slot = stack::Slot<Branch>;
/// The instances of an object that were found, topmost first.
pub(crate) type Slots = stack::Slots<Branch>;
/// The instances of an object, topmost first.
pub(crate) type Stack = stack::Stack<Branch>;

impl Slot {
    /// The branch.
    pub(crate) fn branch(&self) -> &Arc<Branch> {
        self.place()
    }

    /// Whether it is the root of the branch.
    pub(crate) fn is_root(&self) -> bool {
        self.dentry().is(self.branch().root.dentry())
    }

    /// The instance as seen through the branch's mount.
    #[inline]
    pub(crate) fn path(&self) -> Result<PathRef<'_>> {
        self.branch().at(self.dentry())
    }
}

impl Stack {
    /// The slot on the branch `id`.
    #[inline(never)]
    pub(crate) fn on(&self, id: BranchId) -> Option<&Slot> {
        self.iter().find(|slot| slot.branch().id == id)
    }

    /// The place of the slot on the branch `id`.
    pub(crate) fn position(&self, id: BranchId) -> Option<usize> {
        self.iter().position(|slot| slot.branch().id == id)
    }

    /// Whether the top slot may be changed.
    #[inline]
    pub(crate) fn writable(&self) -> bool {
        self.top().branch().writable()
    }
}

/// The one of `branches` whose root is `dentry`.
pub(crate) fn at_root<'a>(
    branches: &'a [Arc<Branch>],
    dentry: &LowerDentry,
) -> Option<&'a Arc<Branch>> {
    branches
        .iter()
        .find(|branch| branch.root.dentry().is(dentry))
}

/// The branches of a union, topmost first. A remount makes another one.
pub(crate) struct BranchTable {
    /// The branches.
    pub(crate) order: KVec<Arc<Branch>>,
    /// The identity of the next branch that is added, unless that one is in use.
    pub(crate) next_id: BranchId,
    /// The number of the next file system that gets one.
    pub(crate) next_fs: u16,
}

impl BranchTable {
    /// The position of the branch `id`.
    #[inline(never)]
    pub(crate) fn index_of(&self, id: BranchId) -> Option<usize> {
        self.order.iter().position(|branch| branch.id == id)
    }

    /// Whether the branch `upper` is above the branch `lower`.
    pub(crate) fn is_above(&self, upper: BranchId, lower: BranchId) -> bool {
        let first = self
            .order
            .iter()
            .find(|branch| branch.id == upper || branch.id == lower);
        upper != lower && first.is_some_and(|branch| branch.id == upper)
    }

    /// The branch `id`.
    pub(crate) fn get(&self, id: BranchId) -> Option<&Arc<Branch>> {
        self.order.iter().find(|branch| branch.id == id)
    }

    /// The branch whose root is `dentry`.
    pub(crate) fn at_root(&self, dentry: &LowerDentry) -> Option<&Arc<Branch>> {
        at_root(&self.order, dentry)
    }
}

impl Drop for BranchTable {
    /// A table that goes takes many mounts along: they end together.
    fn drop(&mut self) {
        while !self.order.is_empty() {
            PrivatePath::end_all(array::from_fn(|_| Some(self.order.pop()?.root.clone())));
        }
    }
}

/// The instances of the root: the roots of the branches of `table`, down to an opaque one, as
/// `is_opaque` says.
pub(crate) fn root_slots(
    table: &BranchTable,
    is_opaque: &mut dyn FnMut(&Arc<Branch>) -> Result<bool>,
) -> Result<Slots> {
    let mut slots = Slots::new();
    for branch in table.order.iter() {
        slots.push(Slot::new(branch.clone(), branch.root.dentry().clone()))?;
        if is_opaque(branch)? {
            break;
        }
    }
    Ok(slots)
}
