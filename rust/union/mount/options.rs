// SPDX-License-Identifier: GPL-2.0

//! Options, one by one.
//!
//! Branch paths are looked up when their option arrives, with the caller's
//! credentials and in the caller's working directory; everything else is
//! decided when the super block is made or changed, in the order of the options
//! ([`super::draft`], [`super::reconfigure`]).

#![forbid(unsafe_code)]

use super::{
    made::Made,
    wanted::{
        Change,
        Place,
        Wanted, //
    }, //
};
use crate::fs::{
    objects::path::Path,
    operations::context::Context, //
};
use crate::logic::{
    branch_spec::BranchSpec,
    options::Opt, //
};
use crate::mount_error;
use crate::union::{
    branches::branch::Slots,
    plink,
    types::{
        text,
        Section, //
    }, //
};
use kernel::prelude::*;

/// The most options of one call. A string of mount(2) has fewer; through fsconfig(2), where none
/// is longer than 511 bytes, they replace all branches several times over.
const MAX_CHANGES: usize = 4096;

/// The options of one call, in their order.
pub(crate) struct Options {
    pub(super) changes: KVVec<Change>,
    /// What a mount that is not complete has asked the branches for and made on them.
    pub(super) first: Option<First>,
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
    /// That of the walk: `ENOENT`, on which the option `nofail` of mount(8) rests, `ENOTDIR`,
    /// `EACCES`, `ELOOP`. aufs has `EINVAL` for all of them.
    fn branch(context: &Context<'_>, option: &[u8], spec: BranchSpec) -> Result<Wanted> {
        let path = Path::lookup_dir(&spec.path).map_err(|error| {
            mount_error!(
                context,
                error,
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
        Self::branch(context, option, spec)
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
        let wanted = Self::branch(context, option, spec)?;
        self.push(Change::Add(wanted, place))
    }

    /// `list_plink`: the mount, or what it is by now, is what it was to be.
    pub(super) fn list_if_asked(&self, context: &Context<'_>, section: Section<'_>) {
        let asked = |change: &Change| matches!(change, Change::Set(Opt::ListPlink));
        if self.changes.iter().any(asked) {
            if let Err(error) = plink::originals::list(section) {
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
        plink::originals::adopt(section)?;
        self.list_if_asked(context, section);
        Ok(first)
    }

    /// Takes one option.
    pub(super) fn take(&mut self, context: &Context<'_>, key: &[u8], opt: Opt) -> Result {
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
                Change::Modify(Self::branch(context, word, spec)?, access)
            }
            other => Change::Set(other),
        };
        self.push(change)
    }
}
