// SPDX-License-Identifier: GPL-2.0

//! Branches and options in the making: what a mount begins with, and what a
//! remount is to lead to.
//!
//! A [`Draft`] takes the changes of one call in their order. It touches nothing
//! that is in use: a remount that fails leaves all as it was. What it made on disk
//! for branches that become writable goes again when it is dropped.

#![forbid(unsafe_code)]

use super::{
    made::{
        Made,
        Prepared,
        Preparing, //
    },
    outcome::Outcome,
    patience::Patience,
    wanted::{
        Change,
        Place,
        Wanted, //
    }, //
};
use crate::fs::{
    objects::{
        cred::Cred,
        path::PrivatePath, //
    },
    operations::context::Context, //
};
use crate::logic::{
    branch_spec::{
        Access,
        Perm, //
    },
    ino,
    options::{
        Flag,
        Opt,
        Settings, //
    }, //
};
use crate::mount_error;
use crate::union::{
    branches::{
        askers::Askers,
        branch::{
            Branch,
            BranchId,
            BranchTable, //
        },
        claim::Claims,
        whiteout,
        work::Refused, //
    },
    state::sb::Shape,
    types::{
        self,
        Section,
        SuperBlock, //
    },
    views::global::Global, //
};
use kernel::{
    fmt,
    prelude::*,
    sync::Arc, //
};

/// The branch that will be the lowest one after `changes`, which mount a union. What is wrong with
/// them is found when they are taken.
fn bottom(changes: &[Change]) -> Result<Option<&Wanted>> {
    let mut order: KVec<&Wanted> = KVec::new();
    let mut next = 0;
    for change in changes {
        match change {
            Change::Add(wanted, place) => {
                let at = place.among(order.len(), &mut next).unwrap_or(order.len());
                order.reserve(1, GFP_KERNEL)?;
                order.insert_within_capacity(at, wanted).map_err(|_| EIO)?;
            }
            Change::Remove(wanted) => {
                order.retain(|other| !other.path.dentry().is(wanted.path.dentry()));
            }
            _ => {}
        }
    }
    Ok(order.last().copied())
}

/// Branches and options in the making.
pub(crate) struct Draft<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(super) cred: &'a Arc<Cred>,
    /// The identity of the union.
    pub(super) si: u64,
    pub(super) claims: &'a Arc<Claims>,
    pub(super) patience: &'a Patience<'a>,
    pub(super) askers: &'a Arc<Askers>,
    /// The mounted union, if it is for a remount.
    pub(super) mounted: Option<&'a SuperBlock>,
    /// A branch on the file system whose inode numbers are shown as they are, if this call says
    /// which that is ([`crate::union::branches::ino`]).
    pub(super) home: Option<&'a Wanted>,
    pub(crate) table: BranchTable,
    /// Branches that were members before and are not any more.
    pub(super) removed: KVec<Arc<Branch>>,
    /// Branches that were none before.
    pub(super) added: KVec<BranchId>,
    /// What was made on disk for it.
    pub(super) made: Made,
    /// Branches that are not writable any more, as they were.
    pub(super) given_up: KVec<Arc<Branch>>,
    /// The options that are no branches.
    pub(crate) settings: Settings,
    /// The index of the next branch of `br=`.
    next: usize,
}

impl<'a> Draft<'a> {
    /// For a mount, of the union `si`: no branches.
    #[inline(never)]
    pub(crate) fn new(
        context: &'a Context<'a>,
        patience: &'a Patience<'a>,
        cred: &'a Arc<Cred>,
        si: u64,
        global: &'a Global,
    ) -> Self {
        Draft {
            context,
            cred,
            si,
            claims: &global.claims,
            patience,
            askers: &global.askers,
            mounted: None,
            home: None,
            table: BranchTable {
                order: KVec::new(),
                next_id: BranchId::FIRST,
                next_fs: ino::HOME + 1,
            },
            removed: KVec::new(),
            added: KVec::new(),
            made: Made(KVec::new()),
            given_up: KVec::new(),
            settings: Settings::DEFAULT,
            next: 0,
        }
    }

    /// Finds the file system whose inode numbers are shown as they are, for a mount by `changes`,
    /// which are yet to be taken.
    pub(crate) fn find_home(&mut self, changes: &'a [Change]) -> Result {
        self.home = bottom(changes)?;
        Ok(())
    }

    /// For a remount: the branches and options that there are.
    pub(crate) fn of(
        context: &'a Context<'a>,
        patience: &'a Patience<'a>,
        section: Section<'a>,
    ) -> Result<Self> {
        let (sb, info) = (section.sb(), section.data());
        let table = section.table();
        let mut order = KVec::with_capacity(table.order.len(), GFP_KERNEL)?;
        for branch in table.order.iter() {
            order.push(branch.clone(), GFP_KERNEL)?;
        }
        Ok(Draft {
            mounted: Some(sb),
            table: BranchTable {
                order,
                next_id: table.next_id,
                next_fs: table.next_fs,
            },
            settings: *section.settings(),
            ..Self::new(
                context,
                patience,
                &info.cred,
                info.si,
                &info.maintenance.global,
            )
        })
    }

    /// Whether it is for a mounted union.
    pub(crate) fn remount(&self) -> bool {
        self.mounted.is_some()
    }

    /// Adds a branch. One that is a member of a mounted union is left as it is.
    pub(crate) fn add(&mut self, wanted: &Wanted, place: Place) -> Result {
        let at = self.position(wanted, place)?;
        if let Some(member) = self.table.at_root(wanted.path.dentry()) {
            if !self.remount() {
                return Err(self.refuse(
                    wanted,
                    EINVAL,
                    fmt!("duplicated, it is a branch already"),
                ));
            }
            // What `/proc/mounts` shows comes back with each remount.
            if wanted
                .spec
                .access
                .is_some_and(|access| access != member.access)
            {
                self.context.inform(fmt!(
                    "branch {}: is a branch already, its permission stays; change it with mod=",
                    types::text(&wanted.spec.path)
                ));
            }
            return Ok(());
        }
        // `append` is never the first, whatever the list holds.
        let first = at == 0 && !matches!(place, Place::Bottom);
        // One that was taken out in the same call moves.
        let moved = self
            .removed
            .iter()
            .position(|branch| branch.root.dentry().is(wanted.path.dentry()));
        let branch = match moved {
            Some(n) => {
                let old = self.removed.get(n).ok_or(EIO)?.clone();
                let branch = match wanted.spec.access {
                    Some(access) => self.with_access(wanted, &old, access)?,
                    None => old,
                };
                self.table.order.reserve(1, GFP_KERNEL)?;
                let _ = self.removed.remove(n);
                branch
            }
            None => {
                let branch = self.make(wanted, first)?;
                self.table.order.reserve(1, GFP_KERNEL)?;
                branch
            }
        };
        self.table
            .order
            .insert_within_capacity(at, branch)
            .map_err(|_| EIO)
    }

    /// The index that a branch is to get.
    fn position(&mut self, wanted: &Wanted, place: Place) -> Result<usize> {
        let len = self.table.order.len();
        place.among(len, &mut self.next).map_err(|index| {
            self.refuse(
                wanted,
                EDOM,
                fmt!("bad index {}, there are {} branches", index, len),
            )
        })
    }

    /// Removes a branch. For a mounted union it is fine if it is no member.
    pub(crate) fn remove(&mut self, wanted: &Wanted) -> Result {
        let Some(at) = self.member(wanted)? else {
            return Ok(());
        };
        if self.table.order.len() == 1 {
            return Err(self.refuse(wanted, EBUSY, fmt!("it is the last one")));
        }
        self.removed.reserve(1, GFP_KERNEL)?;
        let branch = self.table.order.remove(at).map_err(|_| EIO)?;
        if let Some(sb) = self.mounted {
            branch.tell_errors(sb);
        }
        Ok(self.removed.push(branch, GFP_KERNEL)?)
    }

    /// Changes what is allowed on a branch. For a mounted union it is fine if it is no member.
    pub(crate) fn modify(&mut self, wanted: &Wanted, access: Access) -> Result {
        let Some(at) = self.member(wanted)? else {
            return Ok(());
        };
        let old = self.table.order.get(at).ok_or(EIO)?.clone();
        let branch = self.with_access(wanted, &old, access)?;
        let slot = self.table.order.get_mut(at).ok_or(EIO)?;
        *slot = branch;
        Ok(())
    }

    /// The index of a branch that must be there when mounting.
    fn member(&self, wanted: &Wanted) -> Result<Option<usize>> {
        let found = self
            .table
            .order
            .iter()
            .position(|branch| branch.root.dentry().is(wanted.path.dentry()));
        if found.is_none() {
            if !self.remount() {
                return Err(self.refuse(wanted, EINVAL, fmt!("is no branch")));
            }
            self.context.inform(fmt!(
                "option \"{}\": branch {}: is no branch",
                types::text(&wanted.option),
                types::text(&wanted.spec.path)
            ));
        }
        Ok(found)
    }

    /// What an option is refused with.
    #[cold]
    pub(crate) fn refuse(&self, wanted: &Wanted, errno: Error, why: fmt::Arguments<'_>) -> Error {
        mount_error!(
            self.context,
            errno,
            "option \"{}\": branch {}: {}",
            types::text(&wanted.option),
            types::text(&wanted.spec.path),
            why
        )
    }

    /// Asks the branch with the root `root`, which is `wanted`, with the mounter's credentials. If
    /// it may not answer another task does that, for a limited time.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it does not answer, `EINTR`, `ENOMEM`.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        wanted: &Wanted,
        root: &Arc<PrivatePath>,
        f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
    ) -> Result<R> {
        if !root.dentry().is_remote() {
            return Ok(self.cred.scope(|| f(root)));
        }
        let shown = || wanted.shown();
        self.patience
            .apart(self.askers, self.cred, (root, &shown), f)
    }

    /// Prepares the branch with the root `root`, which is `wanted`, in its turn. If that may have
    /// to wait, for an answer or a thaw, another task does it, for a limited time.
    pub(super) fn prepared(
        &self,
        wanted: &Wanted,
        root: &Arc<PrivatePath>,
        preparing: Preparing,
    ) -> Result<Result<Prepared, Refused>> {
        let turn = self.patience.change(self.askers, root, &wanted.shown()?)?;
        if !root.dentry().is_remote() {
            match root.mount().try_write() {
                // It is not frozen as long as this is held.
                Ok(Some(write)) => return Ok(self.cred.scope(|| preparing.run(&write))),
                Ok(None) => {}
                Err(error) => return Ok(Err(error.into())),
            }
        }
        let prepare = move |root: &PrivatePath| -> Result<Prepared, Refused> {
            preparing.run(&root.mount().want_write()?)
        };
        let shown = || wanted.shown();
        self.patience
            .apart_in_turn(self.askers, turn, self.cred, (root, &shown), prepare)
    }

    pub(super) fn unread_plinks(&self, wanted: &Wanted, error: Error) -> Error {
        self.refuse(
            wanted,
            error,
            fmt!(
                "cannot read {}: {:?}",
                types::text(whiteout::PLINK_DIR),
                error
            ),
        )
    }

    /// Ends it: says what is unusual about the branches.
    pub(crate) fn finish(self) -> Result<Outcome> {
        if self.settings.dirren {
            self.read_renamed()?;
        }
        let order = &self.table.order;
        let Some(top) = order.first() else {
            return Err(mount_error!(
                self.context,
                EINVAL,
                "no branches: give some with br=PATH=rw:PATH=ro"
            ));
        };
        if top.access.perm != Perm::Rw && !self.context.read_only() {
            self.context.warn(fmt!(
                "the first branch should be rw: nothing can be made at the top"
            ));
        }
        if self.settings.shwh && !self.context.read_only() {
            self.context.warn(fmt!(
                "option \"shwh\": whiteouts are shown of a union that is not read-only"
            ));
        }
        self.compare_roots(top)?;
        let Draft {
            table,
            removed,
            made,
            given_up,
            settings,
            ..
        } = self;
        Ok(Outcome {
            shape: Arc::new(Shape { table, settings }, GFP_KERNEL)?,
            made,
            removed,
            given_up,
        })
    }
}

impl Draft<'_> {
    /// Takes the changes of a call, in their order.
    pub(crate) fn take(&mut self, changes: &[Change]) -> Result {
        // It counts for all branches of the call, wherever it stands.
        for change in changes {
            if let Change::Set(opt @ Opt::Flag(Flag::Claim, _)) = change {
                self.settings.apply(opt);
            }
        }
        self.claim_again()?;
        changes.iter().try_for_each(|change| match change {
            Change::Add(wanted, place) => self.add(wanted, *place),
            Change::Remove(wanted) => self.remove(wanted),
            Change::Modify(wanted, access) => self.modify(wanted, *access),
            Change::Truncate(wanted) => self.truncate(wanted),
            Change::Set(Opt::TruncXinoIndex(index)) => self.truncate_at(*index),
            Change::Set(opt) => {
                self.settings.apply(opt);
                Ok(())
            }
        })
    }

    /// `trunc_xino=`: there is no table, but the branch must be one.
    fn truncate(&self, wanted: &Wanted) -> Result {
        self.only_mounted("trunc_xino")?;
        if self.table.at_root(wanted.path.dentry()).is_none() {
            return Err(self.refuse(wanted, EINVAL, fmt!("is no branch")));
        }
        Ok(())
    }

    /// `itrunc_xino=`: the same for the branch with this index.
    fn truncate_at(&self, index: i32) -> Result {
        self.only_mounted("itrunc_xino")?;
        let known = usize::try_from(index).is_ok_and(|at| at < self.table.order.len());
        if !known {
            return Err(mount_error!(
                self.context,
                EINVAL,
                "option \"itrunc_xino\": bad index {}, there are {} branches",
                index,
                self.table.order.len()
            ));
        }
        Ok(())
    }

    /// `EINVAL` unless it is for a mounted union.
    fn only_mounted(&self, option: &str) -> Result {
        if self.remount() {
            return Ok(());
        }
        Err(mount_error!(
            self.context,
            EINVAL,
            "option \"{}\": only with remount",
            option
        ))
    }
}
