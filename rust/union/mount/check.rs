// SPDX-License-Identifier: GPL-2.0

//! What a branch must be: type, place, access, and who else has it.

#![forbid(unsafe_code)]

use super::{
    draft::Draft,
    wanted::Wanted, //
};
use crate::fs::objects::{
    path::Path,
    sb::MAX_STACK_DEPTH, //
};
use crate::logic::branch_spec::{
    Access,
    BranchSpec, //
};
use crate::union::{
    branches::{
        branch::Branch,
        claim::{
            Claim,
            Purpose,
            User, //
        }, //
    },
    types::{
        self,
        SuperBlock, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Types of file systems that cannot be branches, as they make up their contents.
const REFUSED_TYPES: [&[u8]; 8] = [
    b"proc",
    b"sysfs",
    b"configfs",
    b"debugfs",
    b"securityfs",
    b"xenfs",
    b"ecryptfs",
    b"ramfs",
];
/// Types of unions.
const UNION_TYPES: [&[u8]; 2] = [b"aufs", b"ruaufs"];
/// Types of file systems that nobody can write.
pub(super) const READ_ONLY_TYPES: [&[u8]; 4] = [b"squashfs", b"iso9660", b"cramfs", b"romfs"];

impl<'a> Draft<'a> {
    /// What the union claims a branch with `access` for.
    pub(super) fn purpose(&self, access: &Access) -> Purpose {
        if access.may_write() && self.settings.claim {
            Purpose::Write
        } else {
            Purpose::Read
        }
    }

    /// Claims a branch. Before anything is done on it.
    pub(super) fn claim(
        &self,
        wanted: &Wanted,
        path: &Path,
        access: &Access,
    ) -> Result<Arc<Claim>> {
        let purpose = self.purpose(access);
        let (claim, near) = Claim::new(self.claims, User::Union(self.si), purpose, path)
            .map_err(|refused| self.refuse(wanted, refused.errno(), fmt!("{}", refused.told())))?;
        if let Some(near) = near {
            self.context.warn(fmt!(
                "branch {}: {}; what one does there the other takes for changes by others",
                types::text(&wanted.spec.path),
                near.told()
            ));
        }
        Ok(Arc::new(claim, GFP_KERNEL_ACCOUNT)?)
    }

    /// After a remount with `claim` or `noclaim`: the branches that were there before.
    pub(crate) fn claim_again(&mut self) -> Result {
        for at in 0..self.table.order.len() {
            let old = self.table.order.get(at).ok_or(EIO)?.clone();
            if self.purpose(&old.access) == old.claim.purpose() {
                continue;
            }
            let mut option = KVec::new();
            option.extend_from_slice(b"claim", GFP_KERNEL)?;
            let wanted = Wanted {
                option,
                spec: BranchSpec {
                    path: old.shown.to_bytes()?,
                    access: Some(old.access),
                    notes: KVec::new(),
                },
                path: old.shown.clone(),
            };
            let claim = self.claim(&wanted, &old.shown, &old.access)?;
            let branch = Arc::new(old.with_claim(claim), GFP_KERNEL_ACCOUNT)?;
            *self.table.order.get_mut(at).ok_or(EIO)? = branch;
        }
        Ok(())
    }

    /// Refuses an access that the directory `path` cannot have.
    pub(super) fn check_access(&self, wanted: &Wanted, path: &Path, access: &Access) -> Result {
        if !access.may_write() {
            return Ok(());
        }
        if path.mount().sb_is_read_only() {
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!("write permission for a read-only file system; use =ro"),
            ));
        }
        if UNION_TYPES.contains(&path.mount().type_name().to_bytes()) {
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!("a union cannot be a writable branch, it has no names for whiteouts; use =ro"),
            ));
        }
        // A file system that is frozen is none that cannot be written.
        path.mount()
            .try_write()
            .map(drop)
            .map_err(|error| self.refuse(wanted, error, fmt!("its mount is read-only; use =ro")))
    }

    /// Refuses a directory that cannot be a branch of any kind.
    pub(super) fn check_directory(&self, wanted: &Wanted) -> Result {
        let path = &wanted.path;
        let fs_type = path.mount().type_name().to_bytes();
        if REFUSED_TYPES.contains(&fs_type) {
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!("unsupported file system type {}", types::text(fs_type)),
            ));
        }
        if self
            .mounted
            .is_some_and(|sb| core::ptr::eq(sb.as_ptr(), path.mount().sb_ptr()))
        {
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!("is part of the union itself, it must be outside"),
            ));
        }
        let depth = path.mount().stack_depth();
        if depth
            >= self
                .mounted
                .map_or(MAX_STACK_DEPTH, SuperBlock::stack_depth)
        {
            let why = if depth >= MAX_STACK_DEPTH {
                ""
            } else {
                "; those who stack upon the union rely on its depth, so give it at mount"
            };
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!(
                    "too many stacked file systems ({} already, type {}){}",
                    depth,
                    types::text(fs_type),
                    why
                ),
            ));
        }
        if path.dentry().is_unhashed() && !path.dentry().is_root() {
            return Err(self.refuse(wanted, EINVAL, fmt!("the directory was removed")));
        }
        if path.mount().is_idmapped() {
            return Err(self.refuse(wanted, EINVAL, fmt!("the mount is idmapped")));
        }
        if path.dentry().folds_case() {
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!(
                    "the directory ignores the case of names (type {})",
                    types::text(fs_type)
                ),
            ));
        }
        for other in self.table.order.iter() {
            let (a, b) = (path.dentry(), other.root.dentry());
            if a.is_below(b) || b.is_below(a) {
                return Err(self.refuse(
                    wanted,
                    EINVAL,
                    fmt!(
                        "is overlapped by branch {}",
                        types::text(&other.shown.to_bytes()?)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Says of which branches that came with this call owner or mode are not those of the first.
    pub(super) fn compare_roots(&self, top: &Branch) -> Result {
        if !self.settings.warn_perm {
            return Ok(());
        }
        let is_new = |branch: &Branch| !self.remount() || self.added.contains(&branch.id);
        for branch in self.table.order.iter().filter(|branch| is_new(branch)) {
            if !branch.root_inode()?.looks_like(top.root_inode()?) {
                self.context.warn(fmt!(
                    "branch {}: owner or mode differs from the first branch's, \
                    which the union's root has (nowarn_perm hides this)",
                    types::text(&branch.shown.to_bytes()?)
                ));
            }
        }
        Ok(())
    }
}
