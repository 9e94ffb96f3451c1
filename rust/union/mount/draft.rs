// SPDX-License-Identifier: GPL-2.0

//! Branches and options in the making: what a mount begins with, and what a
//! remount is to lead to.
//!
//! A [`Draft`] takes the changes of one call in their order. It touches nothing
//! that is in use: a remount that fails leaves all as it was. What it made on disk
//! for branches that become writable goes again when it is dropped.

#![forbid(unsafe_code)]

use super::{
    options::Change,
    patience::Patience, //
};
use crate::fs::{
    base::once::load_acquire,
    callbacks::context::Context,
    objects::{
        cred::Cred,
        path::{
            Path,
            PrivatePath,
            WriteAccess, //
        },
        sb::{
            WriteErrors,
            MAX_STACK_DEPTH, //
        }, //
    }, //
};
use crate::logic::{
    branch_spec::{
        self,
        Access,
        BranchSpec,
        Perm, //
    },
    ino,
    options::Settings,
    plink::FsId,
    whname, //
};
use crate::mount_error;
use crate::union::{
    branches::{
        askers::Askers,
        branch::{
            Branch,
            BranchId,
            BranchTable,
            Told,
            Work,
            MAX_BRANCHES, //
        },
        claim::{
            Claim,
            Claims,
            Purpose,
            User, //
        },
        ino::HAS_SPACES,
        notes,
        origin,
        seal::BranchKey,
        whiteout::{
            self,
            Refused, //
        }, //
    },
    change::dirren::Renamed,
    plink,
    state::sb::Shape,
    views::global::Global,
    Section,
    SuperBlock, //
};
use kernel::{
    fmt,
    prelude::*,
    str::BStr,
    sync::{
        atomic::{
            Atomic,
            Full,
            Release, //
        },
        Arc, //
    }, //
};

/// Where a branch is to be put.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// At the end of those given by `br=` and `dirs=` in this call.
    Next,
    /// At this index.
    Index(i32),
    /// At the bottom.
    Bottom,
    /// At the top.
    Top,
}

impl Place {
    /// The index among `len` branches, or the bad one that was asked for. `next` is that of the
    /// next branch of `br=`.
    fn among(self, len: usize, next: &mut usize) -> Result<usize, i32> {
        match self {
            Place::Next => {
                let at = usize::min(*next, len);
                *next = at.saturating_add(1);
                Ok(at)
            }
            Place::Top => Ok(0),
            Place::Bottom => Ok(len),
            Place::Index(index) => usize::try_from(index)
                .ok()
                .filter(|&at| at <= len)
                .ok_or(index),
        }
    }
}

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

/// A branch that was asked for, in any way.
pub(crate) struct Wanted {
    /// The option that it was asked for by.
    pub(crate) option: KVec<u8>,
    /// The path and the access that was given.
    pub(crate) spec: BranchSpec,
    /// Where the path led.
    pub(crate) path: Path,
}

impl Wanted {
    /// The path that was given, in memory of its own.
    fn shown(&self) -> Result<KVec<u8>> {
        let mut shown = KVec::new();
        shown.extend_from_slice(&self.spec.path, GFP_KERNEL)?;
        Ok(shown)
    }
}

/// A byte string for a message.
pub(crate) fn text(bytes: &[u8]) -> &BStr {
    BStr::from_bytes(bytes)
}

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
const READ_ONLY_TYPES: [&[u8]; 4] = [b"squashfs", b"iso9660", b"cramfs", b"romfs"];

/// Branches and options in the making.
pub(crate) struct Draft<'a> {
    pub(crate) context: &'a Context<'a>,
    cred: &'a Arc<Cred>,
    /// The identity of the union.
    si: u64,
    claims: &'a Arc<Claims>,
    patience: &'a Patience<'a>,
    askers: &'a Arc<Askers>,
    /// The mounted union, if it is for a remount.
    mounted: Option<&'a SuperBlock>,
    /// A branch on the file system whose inode numbers are shown as they are, if this call says
    /// which that is ([`crate::union::branches::ino`]).
    home: Option<&'a Wanted>,
    pub(crate) table: BranchTable,
    /// Branches that were members before and are not any more.
    removed: KVec<Arc<Branch>>,
    /// Branches that were none before.
    added: KVec<BranchId>,
    /// What was made on disk for it.
    made: Made,
    /// Branches that are not writable any more, as they were.
    given_up: KVec<Arc<Branch>>,
    /// The options that are no branches.
    pub(crate) settings: Settings,
    /// The index of the next branch of `br=`.
    next: usize,
}

/// What a draft leads to.
pub(crate) struct Outcome {
    /// Branches and options.
    pub(crate) shape: Arc<Shape>,
    /// What was made on disk; it goes again unless it is kept.
    pub(crate) made: Made,
    /// Branches that were members before and are not any more.
    pub(crate) removed: KVec<Arc<Branch>>,
    /// Branches that are not writable any more, as they were.
    pub(crate) given_up: KVec<Arc<Branch>>,
}

impl Outcome {
    /// Whether the branch `id` may not be written any more.
    pub(crate) fn takes(&self, id: BranchId) -> bool {
        let mut taken = Iterator::chain(self.removed.iter(), self.given_up.iter());
        taken.any(|branch| branch.id == id)
    }

    /// Whether anything is taken away from what may be done on branches.
    pub(crate) fn takes_away(&self) -> bool {
        !self.removed.is_empty() || !self.given_up.is_empty()
    }
}

impl<'a> Draft<'a> {
    /// For a mount, of the union `si`: no branches.
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
                    text(&wanted.spec.path)
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
                text(&wanted.option),
                text(&wanted.spec.path)
            ));
        }
        Ok(found)
    }

    /// What an option is refused with.
    pub(crate) fn refuse(&self, wanted: &Wanted, errno: Error, why: fmt::Arguments<'_>) -> Error {
        mount_error!(
            self.context,
            errno,
            "option \"{}\": branch {}: {}",
            text(&wanted.option),
            text(&wanted.spec.path),
            why
        )
    }

    /// `old` with another access.
    fn with_access(
        &mut self,
        wanted: &Wanted,
        old: &Arc<Branch>,
        access: Access,
    ) -> Result<Arc<Branch>> {
        if access == old.access {
            return Ok(old.clone());
        }
        self.check_access(wanted, &old.shown, &access)?;
        let claim = if self.purpose(&access) == old.claim.purpose() {
            old.claim.clone()
        } else {
            self.claim(wanted, &old.shown, &access)?
        };
        let linked = |branch: &Branch| branch.access.makes_linked_whiteouts();
        // A mount of our own that was made while the user's was read-only is so, too.
        let root = if access.may_write() && old.work.is_none() {
            Arc::new(self.private(wanted, &old.shown)?, GFP_KERNEL)?
        } else {
            old.root.clone()
        };
        let marks = |access: &Access| access.honours_whiteouts();
        let known =
            marks(&old.access) && marks(&access) && (old.work.is_some() || !access.may_write());
        let plinks = known.then(|| old.plinks.clone());
        let (work, plinks) = match &old.work {
            Some(work) if access.may_write() && linked(old) == access.makes_linked_whiteouts() => {
                (Some(work.clone()), plinks)
            }
            // It goes on to be used meanwhile: what is there is no left-over.
            was => {
                let alone = was.is_none() && claim.purpose() == Purpose::Write;
                self.prepare(wanted, &root, &access, &claim, alone, plinks)?
            }
        };
        let plinks = plinks.map_or_else(|| self.plinks(wanted, &root, &access), Ok)?;
        if old.work.is_some() && work.is_none() {
            self.given_up.push(old.clone(), GFP_KERNEL)?;
        }
        let key = match &old.key {
            Some(key) => Some(key.clone()),
            None => self.ask(wanted, &root, move |root| BranchKey::load(root, &access))??,
        };
        Ok(Arc::new(
            Branch {
                claim,
                key,
                work,
                plinks,
                renamed: old.renamed.clone(),
                id: old.id,
                shown: old.shown.clone(),
                root,
                access,
                was_written: old.was_written || access.may_write(),
                fs: old.fs,
                has_spaces: old.has_spaces,
                errors: old.errors.clone(),
                identity: old.identity,
                told: Told::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// What the union claims a branch with `access` for.
    fn purpose(&self, access: &Access) -> Purpose {
        if access.may_write() && self.settings.claim {
            Purpose::Write
        } else {
            Purpose::Read
        }
    }

    /// Claims a branch. Before anything is done on it.
    fn claim(&self, wanted: &Wanted, path: &Path, access: &Access) -> Result<Arc<Claim>> {
        let purpose = self.purpose(access);
        let (claim, near) = Claim::new(self.claims, User::Union(self.si), purpose, path)
            .map_err(|refused| self.refuse(wanted, refused.errno(), fmt!("{}", refused)))?;
        if let Some(near) = near {
            self.context.warn(fmt!(
                "branch {}: {}; what one does there the other takes for changes by others",
                text(&wanted.spec.path),
                near
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
    fn check_access(&self, wanted: &Wanted, path: &Path, access: &Access) -> Result {
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

    /// A mount of our own of a branch.
    fn private(&self, wanted: &Wanted, path: &Path) -> Result<PrivatePath> {
        path.private().map_err(|error| {
            self.refuse(wanted, error, fmt!("cannot clone its mount: {:?}", error))
        })
    }

    /// Asks the branch with the root `root`, which is `wanted`, with the mounter's credentials. If
    /// it may not answer another task does that, for a limited time.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it does not answer, `EINTR`, `ENOMEM`.
    fn ask<R: Send + 'static>(
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

    /// Makes the bookkeeping objects that a branch with `access` needs. If the union is `alone` on
    /// it and has not used it before, left-overs are removed. Reads its pseudo-links, too, unless
    /// they are known.
    fn prepare(
        &mut self,
        wanted: &Wanted,
        root: &Arc<PrivatePath>,
        access: &Access,
        claim: &Arc<Claim>,
        alone: bool,
        plinks: Option<Arc<notes::Index>>,
    ) -> Result<(Option<Work>, Option<Arc<notes::Index>>)> {
        if !access.may_write() {
            return Ok((None, plinks));
        }
        self.made.0.reserve(1, GFP_KERNEL)?;
        let preparing = Preparing {
            undo: Undo {
                root: root.clone(),
                _claim: claim.clone(),
                cred: self.cred.clone(),
                askers: self.askers.clone(),
                kept: Atomic::new(true),
            },
            access: *access,
            alone,
            plinks,
        };
        match self.prepared(wanted, root, preparing)? {
            Ok(Prepared { work, plinks, undo }) => {
                self.made.0.push(undo, GFP_KERNEL)?;
                let plinks = plinks.map_err(|error| self.unread_plinks(wanted, error))?;
                Ok((Some(work), Some(plinks)))
            }
            Err(Refused::Foreign(object)) => {
                let is_base = object == whname::BASE;
                let article = if is_base { "an" } else { "a" };
                let kind = if is_base { "empty file" } else { "directory" };
                Err(self.refuse(
                    wanted,
                    EINVAL,
                    fmt!(
                        "unknown {} exists, it must be {} {}",
                        text(object),
                        article,
                        kind
                    ),
                ))
            }
            Err(Refused::Error(error)) => Err(self.refuse(
                wanted,
                error,
                fmt!(
                    "cannot make its bookkeeping objects (.wh..wh.*): {:?}",
                    error
                ),
            )),
        }
    }

    /// Prepares the branch with the root `root`, which is `wanted`, in its turn. If that may have
    /// to wait, for an answer or a thaw, another task does it, for a limited time.
    fn prepared(
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

    /// Reads the pseudo-links of a branch.
    fn plinks(
        &self,
        wanted: &Wanted,
        root: &Arc<PrivatePath>,
        access: &Access,
    ) -> Result<Arc<notes::Index>> {
        let access = *access;
        self.ask(wanted, root, move |root| {
            plink::load::load(root, &access, None)
        })?
        .map_err(|error| self.unread_plinks(wanted, error))
    }

    fn unread_plinks(&self, wanted: &Wanted, error: Error) -> Error {
        self.refuse(wanted, error, fmt!("cannot read .wh..wh.plnk: {:?}", error))
    }

    /// Checks a directory that is no branch yet and makes it one.
    fn make(&mut self, wanted: &Wanted, first: bool) -> Result<Arc<Branch>> {
        let path = &wanted.path;
        let members = self.table.order.len();
        if members >= MAX_BRANCHES {
            return Err(self.refuse(
                wanted,
                ENOSPC,
                fmt!("too many branches, the limit is {}", MAX_BRANCHES),
            ));
        }
        self.check_directory(wanted)?;
        let read_only_type = READ_ONLY_TYPES.contains(&path.mount().type_name().to_bytes());
        let access = wanted.spec.access.unwrap_or_else(|| {
            branch_spec::default_access(first, self.context.read_only(), read_only_type)
        });
        self.check_access(wanted, path, &access)?;
        let claim = self.claim(wanted, path, &access)?;
        let root = Arc::new(self.private(wanted, path)?, GFP_KERNEL)?;
        // Who shares it may have need of what is there.
        let alone = claim.purpose() == Purpose::Write;
        let (work, plinks) = self.prepare(wanted, &root, &access, &claim, alone, None)?;
        let plinks = plinks.map_or_else(|| self.plinks(wanted, &root, &access), Ok)?;
        let facts = self.ask(wanted, &root, move |root| Facts::of(root, &access))??;
        let branch = Branch {
            claim,
            key: facts.key,
            work,
            plinks,
            renamed: facts.renamed,
            errors: Arc::new(WriteErrors::of(path.mount()), GFP_KERNEL_ACCOUNT)?,
            identity: facts.identity,
            id: self.new_id(),
            shown: path.clone(),
            fs: self.fs_of(wanted)?,
            has_spaces: HAS_SPACES.contains(&path.mount().type_name().to_bytes()),
            root,
            access,
            told: Told::new(),
            was_written: access.may_write(),
        };
        self.added.push(branch.id, GFP_KERNEL)?;
        Ok(Arc::new(branch, GFP_KERNEL)?)
    }

    /// Refuses a directory that cannot be a branch of any kind.
    fn check_directory(&self, wanted: &Wanted) -> Result {
        let path = &wanted.path;
        let fs_type = path.mount().type_name().to_bytes();
        if REFUSED_TYPES.contains(&fs_type) {
            return Err(self.refuse(
                wanted,
                EINVAL,
                fmt!("unsupported file system type {}", text(fs_type)),
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
                    text(fs_type),
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
                    text(fs_type)
                ),
            ));
        }
        for other in self.table.order.iter() {
            let (a, b) = (path.dentry(), other.root.dentry());
            if a.is_below(b) || b.is_below(a) {
                return Err(self.refuse(
                    wanted,
                    EINVAL,
                    fmt!("is overlapped by branch {}", text(&other.shown.to_bytes()?)),
                ));
            }
        }
        Ok(())
    }

    /// An identity that no branch has, not even one that was removed in this call.
    fn new_id(&mut self) -> BranchId {
        let mut id = self.table.next_id;
        while Iterator::chain(self.table.order.iter(), self.removed.iter())
            .any(|branch| branch.id == id)
        {
            id = id.next();
        }
        self.table.next_id = id.next();
        id
    }

    /// The number of the file system that the directory is on.
    fn fs_of(&mut self, wanted: &Wanted) -> Result<u16> {
        let path = &wanted.path;
        let known = Iterator::chain(self.table.order.iter(), self.removed.iter())
            .find(|branch| core::ptr::eq(branch.root.mount().sb_ptr(), path.mount().sb_ptr()));
        if let Some(other) = known {
            return Ok(other.fs);
        }
        let is_same =
            |home: &Wanted| core::ptr::eq(home.path.mount().sb_ptr(), path.mount().sb_ptr());
        if self.home.is_some_and(is_same) {
            return Ok(ino::HOME);
        }
        let mut fs = self.table.next_fs;
        if let Some(sb) = self.mounted {
            while fs < ino::FURTHER && !sb.data().ino.claim(fs) {
                fs = fs.saturating_add(1);
            }
        }
        if fs >= ino::FURTHER {
            return Err(self.refuse(
                wanted,
                ENOSPC,
                fmt!(
                    "no inode numbers are left, as {} file systems came and went",
                    fs
                ),
            ));
        }
        self.table.next_fs = fs.saturating_add(1);
        Ok(fs)
    }

    /// Reads which directories were renamed, where that is not known yet.
    fn read_renamed(&self) -> Result {
        for branch in self.table.order.iter() {
            if branch.renamed.is_loaded() {
                continue;
            }
            let (root, shown) = (&branch.root, &|| branch.shown.to_bytes());
            let read = |root: &PrivatePath| Renamed::read(root);
            let list = if root.dentry().is_remote() {
                self.patience
                    .apart(self.askers, self.cred, (root, shown), read)?
            } else {
                self.cred.scope(|| read(root))
            };
            let list = list.map_err(|error| {
                let shown = shown().unwrap_or_default();
                mount_error!(
                    self.context,
                    error,
                    "option \"dirren\": branch {}: cannot read .wh..wh.hino: {:?}",
                    text(&shown),
                    error
                )
            })?;
            branch.renamed.load(list);
        }
        Ok(())
    }

    /// Says of which branches that came with this call owner or mode are not those of the first.
    fn compare_roots(&self, top: &Branch) -> Result {
        if !self.settings.warn_perm {
            return Ok(());
        }
        let is_new = |branch: &Branch| !self.remount() || self.added.contains(&branch.id);
        for branch in self.table.order.iter().filter(|branch| is_new(branch)) {
            if !branch.root_inode()?.looks_like(top.root_inode()?) {
                self.context.warn(fmt!(
                    "branch {}: owner or mode differs from the first branch's, \
                    which the union's root has (nowarn_perm hides this)",
                    text(&branch.shown.to_bytes()?)
                ));
            }
        }
        Ok(())
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

/// What a branch says of itself that becomes one.
struct Facts {
    renamed: Arc<Renamed>,
    key: Option<Arc<BranchKey>>,
    identity: Option<FsId>,
}

impl Facts {
    /// Of the branch with the root `root`. The mounter's credentials are in force.
    fn of(root: &PrivatePath, access: &Access) -> Result<Self> {
        Ok(Facts {
            renamed: Arc::new(Renamed::new(root)?, GFP_KERNEL)?,
            key: BranchKey::load(root, access)?,
            identity: origin::identity(root)?,
        })
    }
}

/// What was made on disk for a draft: bookkeeping objects of branches that had none.
pub(crate) struct Made(KVec<Arc<Undo>>);

impl Made {
    /// It is in use now.
    pub(crate) fn keep(self) {
        for undo in self.0.iter() {
            undo.kept.store(true, Release);
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for undo in self.0.drain_all() {
            if load_acquire(&undo.kept) {
                continue;
            }
            let own = undo.clone();
            let tidy = move |_: &PrivatePath| own.undo();
            if let Err(error) = undo.askers.tidy(&undo.cred, &undo.root, tidy) {
                undo.kept.store(true, Release);
                whiteout::cannot_give_up(error);
            }
        }
    }
}

/// Removes the bookkeeping objects of a branch again, unless they are kept: when that is asked for,
/// or when a question that made them was given up, so that nobody has this any more.
struct Undo {
    root: Arc<PrivatePath>,
    /// The branch stays claimed until then: it is changed.
    _claim: Arc<Claim>,
    cred: Arc<Cred>,
    askers: Arc<Askers>,
    kept: Atomic<bool>,
}

impl Undo {
    /// The mounter's credentials are in force.
    fn undo(&self) {
        if !self.kept.xchg(true, Full) {
            whiteout::give_up(&self.root);
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.cred.scope(|| self.undo());
    }
}

/// A branch about to be prepared for being written.
struct Preparing {
    undo: Undo,
    access: Access,
    /// Nobody else uses what is there, nor this union.
    alone: bool,
    /// Its pseudo-links, if they are known.
    plinks: Option<Arc<notes::Index>>,
}

/// A branch that can be written.
struct Prepared {
    work: Work,
    plinks: Result<Arc<notes::Index>>,
    undo: Arc<Undo>,
}

impl Preparing {
    /// Makes or finds the bookkeeping objects. If there were none, and the union is to be alone on
    /// the branch, they are removed unless they are kept. The mounter's credentials are in force.
    fn run(self, write: &WriteAccess<'_>) -> Result<Prepared, Refused> {
        let Preparing {
            undo,
            access,
            alone,
            plinks,
        } = self;
        let had_any = whiteout::has_work(&undo.root)?;
        let undo = Arc::new(undo, GFP_KERNEL).map_err(Error::from)?;
        let work = whiteout::prepare(&undo.root, &access, alone, write)?;
        undo.kept.store(had_any || !alone, Release);
        let load = || plink::load::load(&undo.root, &access, alone.then_some(write));
        Ok(Prepared {
            work,
            plinks: plinks.map_or_else(load, Ok),
            undo,
        })
    }
}
