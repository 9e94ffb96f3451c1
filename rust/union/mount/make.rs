// SPDX-License-Identifier: GPL-2.0

//! Making a branch of a draft: its mount, its bookkeeping, what it left for us.

#![forbid(unsafe_code)]

use super::{
    check::READ_ONLY_TYPES,
    draft::Draft,
    facts::Facts,
    made::{
        Prepared,
        Preparing,
        Undo, //
    },
    wanted::Wanted, //
};
use crate::fs::objects::{
    inode::Kind,
    path::{
        Path,
        PrivatePath, //
    },
    sb::WriteErrors, //
};
use crate::logic::{
    branch_spec::{
        self,
        Access, //
    },
    dirren as stored,
    ino, //
};
use crate::mount_error;
use crate::union::{
    branches::{
        branch::{
            Branch,
            BranchId,
            Told,
            Work,
            MAX_BRANCHES, //
        },
        claim::{
            Claim,
            Purpose, //
        },
        ino::HAS_SPACES,
        notes,
        renamed::Renamed,
        seal::BranchKey,
        whiteout,
        work::{
            Objects,
            Refused, //
        }, //
    },
    plink,
    types, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    }, //
};

impl<'a> Draft<'a> {
    /// `old` with another access.
    pub(super) fn with_access(
        &mut self,
        wanted: &Wanted,
        old: &Arc<Branch>,
        access: Access,
    ) -> Result<Arc<Branch>> {
        // What this call gave up before, and is to be written again, goes on as it was.
        let given_up = self.given_up.iter().position(|other| other.id == old.id);
        let again = match given_up.filter(|_| access.may_write()) {
            Some(at) => Some(self.given_up.remove(at).map_err(|_| EIO)?),
            None => None,
        };
        let old = again.as_ref().unwrap_or(old);
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

    /// A mount of our own of a branch.
    fn private(&self, wanted: &Wanted, path: &Path) -> Result<PrivatePath> {
        path.private().map_err(|error| {
            self.refuse(wanted, error, fmt!("cannot clone its mount: {:?}", error))
        })
    }

    /// Whether the union that is being changed writes to the directory `root` now.
    fn is_written(&self, root: &Path) -> bool {
        let before = Iterator::chain(self.removed.iter(), self.given_up.iter());
        Iterator::chain(before, self.table.order.iter()).any(|branch| branch.is_written_at(root))
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
        let alone = alone && !self.is_written(root);
        self.made.0.reserve(1, GFP_KERNEL)?;
        let preparing = Preparing {
            undo: Undo {
                root: root.clone(),
                _claim: claim.clone(),
                cred: self.cred.clone(),
                askers: self.askers.clone(),
                unwanted: Atomic::new(Objects::NONE.0),
                needless: Atomic::new(Objects::NONE.0),
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
            Err(Refused::Foreign(object, kind)) => {
                let (article, kind) = match kind {
                    Kind::Dir => ("a", "directory"),
                    _ => ("an", "empty file"),
                };
                Err(self.refuse(
                    wanted,
                    EINVAL,
                    fmt!(
                        "unknown {} exists, it must be {} {}",
                        types::text(object),
                        article,
                        kind
                    ),
                ))
            }
            Err(Refused::Error(error)) => Err(self.refuse(
                wanted,
                error,
                fmt!(
                    "cannot make its bookkeeping objects ({}): {:?}",
                    whiteout::BOOKKEEPING,
                    error
                ),
            )),
        }
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

    /// Checks a directory that is no branch yet and makes it one.
    pub(super) fn make(&mut self, wanted: &Wanted, first: bool) -> Result<Arc<Branch>> {
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
    pub(super) fn read_renamed(&self) -> Result {
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
                    "option \"dirren\": branch {}: cannot read {}: {:?}",
                    types::text(&shown),
                    types::text(stored::LIST),
                    error
                )
            })?;
            branch.renamed.load(list);
        }
        Ok(())
    }
}
