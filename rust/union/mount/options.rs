// SPDX-License-Identifier: GPL-2.0

//! From options to a mounted union.
//!
//! Branch paths are looked up when their option arrives, with the caller's
//! credentials and in the caller's working directory; everything else is
//! decided when the super block is made or changed, in the order of the options
//! ([`super::draft`], [`super::reconfigure`]).

#![forbid(unsafe_code)]

use super::{
    draft::{
        text,
        Draft,
        Made,
        Place,
        Wanted, //
    },
    patience::Patience,
    reconfigure, //
};
use crate::fs::{
    callbacks::context::{
        Context,
        Operations,
        Param, //
    },
    objects::{
        cred::Cred,
        path::Path,
        sb::{
            Mounted,
            State, //
        },
        section::Alone, //
    }, //
};
use crate::logic::{
    branch_spec::{
        Access,
        BranchSpec, //
    },
    options::{
        self,
        Bad,
        Flag,
        Opt,
        Udba, //
    }, //
};
use crate::mount_error;
use crate::union::{
    branches::{
        branch::Slots,
        stats, //
    },
    plink,
    state::sb::{
        root_slots,
        SbInfo, //
    },
    views::{
        debugfs,
        global::Global,
        plink_maint::Registered,
        sysfs::Views, //
    },
    Section,
    Union, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// One change that a call asks for.
pub(crate) enum Change {
    /// A branch is added.
    Add(Wanted, Place),
    /// A branch is removed.
    Remove(Wanted),
    /// A branch gets another access.
    Modify(Wanted, Access),
    /// The table of a branch's inode numbers, which it does not have, is cut short.
    Truncate(Wanted),
    /// An option that is no branch.
    Set(Opt),
}

/// The most options of one call. A string of mount(2) has fewer; through fsconfig(2), where none
/// is longer than 511 bytes, they replace all branches several times over.
const MAX_CHANGES: usize = 4096;

/// The options of one call, in their order.
pub(crate) struct Options {
    changes: KVVec<Change>,
    /// What a mount that is not complete has asked the branches for and made on them.
    first: Option<First>,
}

/// What the branches were asked for, and what was made on them, before there is a root.
pub(crate) struct First {
    /// The instances of the root.
    pub(crate) slots: Slots,
    /// Bookkeeping objects. They go again with this value, unless they are kept.
    pub(crate) made: Made,
}

impl Options {
    /// Looks the path of a branch up.
    ///
    /// # Errors
    ///
    /// For one that is to be added `EINVAL`, whatever is wrong: aufs, and programs made for it,
    /// know no other error there. For the others that of the walk.
    fn branch(
        context: &Context<'_>,
        option: &[u8],
        spec: BranchSpec,
        errno: Option<Error>,
    ) -> Result<Wanted> {
        let path = Path::lookup_dir(&spec.path).map_err(|error| {
            mount_error!(
                context,
                errno.unwrap_or(error),
                "option \"{}\": branch {}: not a directory that can be used: {:?}",
                text(option),
                text(&spec.path),
                error
            )
        })?;
        for note in spec.notes.iter() {
            let mut line: KVec<u8> = KVec::new();
            let mut whole = Ok(());
            note.write_to(&mut |part| {
                if whole.is_ok() {
                    whole = line.extend_from_slice(part, GFP_KERNEL);
                }
            });
            whole?;
            context.warn(fmt!("branch {}: {}", text(&spec.path), text(&line)));
        }
        let mut word = KVec::new();
        word.extend_from_slice(option, GFP_KERNEL_ACCOUNT)?;
        Ok(Wanted {
            option: word,
            spec,
            path,
        })
    }

    /// Looks the path of a branch up that is a member.
    fn member(context: &Context<'_>, option: &[u8], path: KVec<u8>) -> Result<Wanted> {
        let spec = BranchSpec {
            path,
            access: None,
            notes: KVec::new(),
        };
        Self::branch(context, option, spec, None)
    }

    /// Takes one more change.
    fn push(&mut self, change: Change) -> Result {
        Ok(self.changes.push(change, GFP_KERNEL_ACCOUNT)?)
    }

    /// Refuses a change that is one too many, before it costs anything.
    fn check_room(&self, context: &Context<'_>) -> Result {
        if self.changes.len() < MAX_CHANGES {
            return Ok(());
        }
        Err(mount_error!(
            context,
            E2BIG,
            "too many options in one call, the limit is {}",
            MAX_CHANGES
        ))
    }

    /// Takes a branch that is to be added.
    fn add(
        &mut self,
        context: &Context<'_>,
        option: &[u8],
        place: Place,
        spec: BranchSpec,
    ) -> Result {
        self.check_room(context)?;
        let wanted = Self::branch(context, option, spec, Some(EINVAL))?;
        self.push(Change::Add(wanted, place))
    }

    /// `list_plink`: the mount, or what it is by now, is what it was to be.
    fn list_if_asked(&self, context: &Context<'_>, section: Section<'_>) {
        let asked = |change: &Change| matches!(change, Change::Set(Opt::ListPlink));
        if self.changes.iter().any(asked) {
            if let Err(error) = plink::list(section) {
                context.warn(fmt!("option \"list_plink\": {:?}", error));
            }
        }
    }

    /// Completes a mount: its state is in place, but nobody else can reach it.
    pub(crate) fn begin(&mut self, context: &Context<'_>, section: Section<'_>) -> Result<First> {
        let first = self.first.take().ok_or(EIO)?;
        let data = section.data();
        data.views.update(section.table())?;
        data.debug.update(section.table())?;
        data.ino.begin(section.table())?;
        plink::adopt(section)?;
        self.list_if_asked(context, section);
        Ok(first)
    }

    /// Takes one option.
    fn take(&mut self, context: &Context<'_>, key: &[u8], opt: Opt) -> Result {
        // A colon option carries the path in its key.
        let word = key.split(|&byte| byte == b':').next().unwrap_or(key);
        // Those that are accepted for the sake of old scripts say nothing: they are in each mount.
        if let Opt::Obsolete(word) = &opt {
            context.warn(fmt!("option \"{}\" is obsolete and ignored", word));
        }
        self.check_room(context)?;
        let change = match opt {
            Opt::Branches(specs) => {
                for spec in specs {
                    self.add(context, word, Place::Next, spec)?;
                }
                return Ok(());
            }
            Opt::Add { index, spec } => return self.add(context, word, Place::Index(index), spec),
            Opt::Append(spec) => return self.add(context, word, Place::Bottom, spec),
            Opt::Prepend(spec) => return self.add(context, word, Place::Top, spec),
            Opt::Del(path) => Change::Remove(Self::member(context, word, path)?),
            Opt::TruncXinoBranch(path) => Change::Truncate(Self::member(context, word, path)?),
            Opt::Mod(spec) => {
                let access = spec.access.ok_or(EINVAL)?;
                Change::Modify(Self::branch(context, word, spec, None)?, access)
            }
            other => Change::Set(other),
        };
        self.push(change)
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

impl Operations for Union {
    type Options = Options;

    fn options(_context: &Context<'_>) -> Result<KBox<Options>> {
        let changes = KVVec::new();
        Ok(KBox::new(
            Options {
                changes,
                first: None,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    fn parse(
        context: &Context<'_>,
        options: &mut Options,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Param> {
        match options::parse(key, value) {
            Ok(opt) => {
                options.take(context, key, opt)?;
                Ok(Param::Taken)
            }
            // Handled by the VFS.
            Err(Bad::Unknown) if key == b"source" => Ok(Param::Unknown),
            Err(Bad::Unknown) => Err(mount_error!(
                context,
                EINVAL,
                "unknown option \"{}\"",
                text(key)
            )),
            Err(Bad::NoMemory) => Err(ENOMEM),
            Err(Bad::Invalid { errno, why }) => Err(mount_error!(
                context,
                errno,
                "option \"{}\": {}",
                text(key),
                why
            )),
        }
    }

    fn mount(
        context: &Context<'_>,
        global: &Arc<Global>,
        options: &mut Options,
    ) -> Result<Mounted<Union>> {
        let cred = Arc::new(Cred::mounter()?, GFP_KERNEL)?;
        // It names the mount, nothing else.
        let si = crate::fs::objects::sb::random_id();
        let patience = Patience::new(context);
        let mut draft = Draft::new(context, &patience, &cred, si, global);
        draft.find_home(&options.changes)?;
        draft.take(&options.changes)?;
        let outcome = draft.finish()?;
        let slots = root_slots(&outcome.shape.table, &mut |branch| {
            patience.ask_root(&global.askers, &cred, branch)
        })?;
        let made = outcome.made;

        let order = &outcome.shape.table.order;
        let top = order.first().ok_or(EINVAL)?;
        let depth = order
            .iter()
            .map(|branch| branch.root.mount().stack_depth())
            .max()
            .unwrap_or(0)
            .saturating_add(1);
        let limits = top.root.mount().limits();
        let revalidate = outcome.shape.settings.udba != Udba::None;
        let as_aufs = context.type_name().to_bytes() == b"aufs";
        let maintenance = Registered::new(global, si)?;
        let views = Views::new(global, si)?;
        let debug = debugfs::Files::new(global, si, maintenance.links.clone())?;
        let waits = debug.stats().waits.clone();
        let data = SbInfo::new(
            &outcome.shape,
            cred,
            as_aufs,
            depth,
            (views, debug),
            maintenance,
        );
        let state = State::new(depth, waits, outcome.shape.clone(), data)?;
        options.first = Some(First { slots, made });
        Ok(Mounted {
            state,
            stack_depth: depth,
            limits,
            revalidate,
        })
    }

    fn reconfigure(
        context: &Context<'_>,
        options: &mut Options,
        alone: &mut Alone<'_, Union>,
    ) -> Result {
        stats::remount(alone, |alone| {
            reconfigure::reconfigure(context, &options.changes, alone)
        })?;
        options.list_if_asked(context, alone.section());
        Ok(())
    }
}
