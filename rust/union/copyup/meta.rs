// SPDX-License-Identifier: GPL-2.0

//! Copy-up of everything that is not contents.
//!
//! The order matters: a change of the owner takes capabilities away, so
//! extended attributes come after it; a change of data would take them away, too,
//! so contents come before.

#![forbid(unsafe_code)]

use crate::compat::errno::{
    EDQUOT,
    ENODATA,
    EOPNOTSUPP, //
};
use crate::fs::{
    access::{
        acl::{
            self,
            Acl,
            Which, //
        },
        attr::Change,
        dirop::LockedDir,
        xattr::{
            self,
            CopyUp, //
        }, //
    },
    objects::{
        inode::Kind,
        path::{
            PathRef,
            Writable,
            WriteAccess, //
        },
        time::ChangeTime, //
    }, //
};
use crate::logic::{
    branch_spec::Attrs,
    copyup::mode_without_acl, //
};
use crate::union::{
    branches::branch::{
        Branch,
        Slot, //
    },
    types::{
        text,
        Inode,
        LowerDentry,
        Section, //
    }, //
};
use crate::{
    inform_limited,
    warn_limited, //
};
use kernel::{
    prelude::*,
    sync::atomic::Full, //
};

/// Which errors on extended attributes and ACLs do not matter.
pub(super) struct Tolerance {
    /// The `icex*` classes of names whose errors are ignored.
    pub(super) ignored: Attrs,
    /// Whether the original is removed afterwards: then all must arrive.
    pub(super) moves: bool,
    /// Whether the log tells of all errors (`verbose`).
    pub(super) verbose: bool,
}

/// Copies owner, mode, times, extended attributes and ACLs of `source` to `to`.
///
/// The copy may have a temporary name in a directory of users, so nobody may do more with it at any
/// moment than in the end: what it inherited goes while its mode lets nobody in, and until it has
/// its ACL its mode is the one for who has none.
pub(super) fn copy(
    source: &Slot,
    target: &Branch,
    to: &LowerDentry,
    tolerance: &Tolerance,
    write: &WriteAccess<'_>,
) -> Result {
    let inode = source.inode()?;
    let to = write.to(target.at(to)?)?;
    let mut change = Change::new()
        .owner_of(inode, source.branch().root.mount().idmap())
        .times_of(inode);
    let has_mode = inode.kind() != Kind::Symlink;
    let access = match has_mode {
        true => Acl::of(source.path()?, Which::Access)?,
        false => None,
    };
    if has_mode {
        drop_inherited(target, to)?;
        let mode = inode.mode();
        change = change.mode(match &access {
            Some(acl) => mode_without_acl(mode, acl.entries()),
            None => mode,
        });
    }
    change.apply(to)?;
    copy_xattrs(source, target, to, tolerance)?;
    if let Some(acl) = access {
        // The group's bits of the mode follow it.
        let copied = set_acl(&acl, to, Which::Access);
        tolerance.forgive(target, copied, ACCESS, Attrs::ICEX_SYS)?;
    }
    if inode.kind() == Kind::Dir {
        if let Some(acl) = Acl::of(source.path()?, Which::Default)? {
            let copied = set_acl(&acl, to, Which::Default);
            tolerance.forgive_default(target, copied)?;
        }
    }
    Ok(())
}

/// The name of the access ACL.
const ACCESS: &CStr = c"system.posix_acl_access";
/// The name of the default ACL.
const DEFAULT: &CStr = c"system.posix_acl_default";

/// Takes the ACLs away from `to` that it inherited from the directory it was made in.
fn drop_inherited(target: &Branch, to: Writable<'_>) -> Result {
    if !acl::supported(to.dentry()) {
        return Ok(());
    }
    for which in [Which::Access, Which::Default] {
        let applies = which == Which::Access || to.dentry().is_dir();
        if applies && Acl::of(target.at(to.dentry())?, which)?.is_some() {
            acl::remove(to, which)?;
        }
    }
    Ok(())
}

/// Sets an ACL; `EOPNOTSUPP` if the file system knows none.
fn set_acl(acl: &Acl, to: Writable<'_>, which: Which) -> Result {
    match acl::supported(to.dentry()) {
        true => acl.apply(to, which),
        false => Err(EOPNOTSUPP.into()),
    }
}

/// Capabilities of a program.
const CAPABILITY: &[u8] = b"security.capability";

/// Copies all extended attributes but ACLs.
fn copy_xattrs(source: &Slot, target: &Branch, to: Writable<'_>, tolerance: &Tolerance) -> Result {
    let from = source.path()?;
    let names = match list(source.dentry()) {
        // A branch that knows none has none.
        Err(error) if error == EOPNOTSUPP => return Ok(()),
        other => other?,
    };
    for name in names.split_inclusive(|&byte| byte == 0) {
        // A list that does not end with NUL is broken.
        let name = CStr::from_bytes_with_nul(name).map_err(|_| EIO)?;
        if is_acl(name.to_bytes())
            // What is noted of an instance is true of no other.
            || name.to_bytes().starts_with(OWN)
            || xattr::copy_up_verdict(source.dentry(), name)? == CopyUp::Discard
        {
            continue;
        }
        let value = match value(from, name) {
            // Gone since it was listed.
            Err(error) if error == ENODATA => continue,
            // One that is malformed grants nothing, and cannot be read.
            Err(error) if error == EINVAL && name.to_bytes() == CAPABILITY => continue,
            other => other,
        };
        let result = value.and_then(|value| xattr::set(to, name, &value, 0));
        tolerance.forgive(target, result, name, class(name.to_bytes()))?;
    }
    Ok(())
}

/// The names of all attributes, each ended by NUL.
fn list(dentry: &LowerDentry) -> Result<KVVec<u8>> {
    loop {
        let size = xattr::list(dentry, &mut [])?;
        let mut names = KVVec::new();
        names.resize(size, 0u8, GFP_KERNEL)?;
        if size == 0 {
            return Ok(names);
        }
        match xattr::list(dentry, &mut names) {
            // It grew meanwhile.
            Err(error) if error == ERANGE => {}
            Err(error) => return Err(error),
            Ok(used) => {
                names.truncate(used);
                return Ok(names);
            }
        }
    }
}

/// The value of an extended attribute.
pub(crate) fn value(path: PathRef<'_>, name: &CStr) -> Result<KVVec<u8>> {
    loop {
        let size = xattr::get(path, name, &mut [])?;
        let mut value = KVVec::new();
        value.resize(size, 0u8, GFP_KERNEL)?;
        if size == 0 {
            return Ok(value);
        }
        match xattr::get(path, name, &mut value) {
            // It grew meanwhile.
            Err(error) if error == ERANGE => {}
            Err(error) => return Err(error),
            Ok(used) => {
                value.truncate(used);
                return Ok(value);
            }
        }
    }
}

/// The `icex*` attribute that speaks of an extended attribute's name.
fn class(name: &[u8]) -> Attrs {
    const CLASSES: [(&[u8], Attrs); 4] = [
        (b"security.", Attrs::ICEX_SEC),
        (b"system.", Attrs::ICEX_SYS),
        (b"trusted.", Attrs::ICEX_TR),
        (b"user.", Attrs::ICEX_USR),
    ];
    CLASSES
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map_or(Attrs::ICEX_OTH, |&(_, class)| class)
}

impl Tolerance {
    /// Ignores an error on the attribute `name` of a class whose errors are to be ignored.
    /// `ENOMEM` and `EDQUOT` are never ignored.
    ///
    /// That `target` knows no such attributes is no error, unless it is one of an LSM: what a file
    /// system keeps for itself (`system.nfs4_acl`, `btrfs.*`) is at home there only. The log tells
    /// of the first.
    fn forgive(&self, target: &Branch, result: Result, name: &CStr, class: Attrs) -> Result {
        let Err(error) = result else {
            return Ok(());
        };
        let ignored = error != ENOMEM && error != EDQUOT && self.ignored.contains(class);
        let foreign = error == EOPNOTSUPP && class != Attrs::ICEX_SEC && !self.moves;
        if foreign && !ignored && !target.told.loss.xchg(true, Full) {
            warn_limited!(
                "branch {}: cannot hold attribute {:?} and maybe others, copies lack them\n",
                text(&target.shown.to_bytes().unwrap_or_default()),
                name
            );
        }
        if self.verbose {
            let what = if ignored || foreign { ", ignored" } else { "" };
            inform_limited!("cannot copy attribute {:?} up: {:?}{}\n", name, error, what);
        }
        if ignored || foreign {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Ignores an error on a default ACL if it is to be ignored: no mode stands for one, and what
    /// is made in the directory would be open to more users than the ACL lets in. The log tells of
    /// the first on each branch.
    fn forgive_default(&self, target: &Branch, result: Result) -> Result {
        if result.is_err_and(|error| error == EOPNOTSUPP) && !self.ignored.contains(Attrs::ICEX_SYS)
        {
            return Err(lacks_default_acl(target));
        }
        self.forgive(target, result, DEFAULT, Attrs::ICEX_SYS)
    }
}

/// The error for a directory with a default ACL that `branch` cannot hold. The log tells of the
/// first.
fn lacks_default_acl(branch: &Branch) -> Error {
    if !branch.told.default_acl.xchg(true, Full) {
        pr_warn!(
            "branch {}: cannot hold the default ACL of a directory, which is an error (+icexsys: \
             goes without)\n",
            text(&branch.shown.to_bytes().unwrap_or_default())
        );
    }
    EOPNOTSUPP.into()
}

/// Something is about to be made in `slot`, an instance of the directory `dir`: sees that it takes
/// over what `dir` shows, the group of a set-group-id directory and the default ACL. Only the top
/// instance follows changes of them.
pub(crate) fn share_inherited(
    section: Section<'_>,
    dir: &Inode,
    slot: &Slot,
    write: &WriteAccess<'_>,
) -> Result {
    let shown = dir.stack(section)?.top();
    if shown.branch().id == slot.branch().id {
        return Ok(());
    }
    let cred = &dir.sb().data().cred;
    cred.scope(|| copy_inherited(shown, slot, write))
}

/// The same for two instances. The mounter's credentials are in force.
fn copy_inherited(shown: &Slot, slot: &Slot, write: &WriteAccess<'_>) -> Result {
    const SET_GID: u16 = 0o2000;
    let (from, to) = (shown.inode()?, slot.inode()?);
    let bit = from.mode() & SET_GID;
    if to.mode() & SET_GID != bit || (bit != 0 && !to.has_owner_of(from)) {
        Change::new()
            .owner_of(from, shown.branch().root.mount().idmap())
            .mode((to.mode() & !SET_GID) | bit)
            .apply(write.to(slot.path()?)?)?;
    }
    let acl = |slot: &Slot| Acl::of(slot.path()?, Which::Default);
    if !acl::supported(slot.dentry()) {
        let ignored = slot.branch().access.attrs.contains(Attrs::ICEX_SYS);
        return match ignored || acl(shown)?.is_none() {
            true => Ok(()),
            false => Err(lacks_default_acl(slot.branch())),
        };
    }
    match (acl(shown)?, acl(slot)?) {
        (None, None) => Ok(()),
        (Some(new), Some(old)) if new.is(&old) => Ok(()),
        (Some(new), _) => new.apply(write.to(slot.path()?)?, Which::Default),
        (None, Some(_)) => acl::remove(write.to(slot.path()?)?, Which::Default),
    }
}

/// Access and modification time of a directory of a branch, to be restored after a name was put
/// into it for its owner.
#[derive(Clone)]
pub(crate) struct Times(Change);

impl Times {
    /// Those of `dir`.
    #[inline(never)]
    pub(super) fn of(dir: &LowerDentry) -> Result<Self> {
        Ok(Times(Change::new().times_of(dir.positive()?)))
    }

    /// Restores those of `dir` on `branch`. That the copy appeared is no news to anybody; a failure
    /// does no harm.
    pub(super) fn restore(self, branch: &Branch, dir: &LowerDentry, write: &WriteAccess<'_>) {
        let restored = branch
            .at(dir)
            .and_then(|dir| self.0.apply_regardless(write.to(dir)?));
        if let Err(error) = restored {
            pr_debug!("cannot restore the times of a directory: {:?}\n", error);
        }
    }

    /// The same for one that is locked.
    fn restore_locked(self, dir: &LockedDir<'_>) {
        if let Err(error) = self.0.apply_locked(dir) {
            pr_debug!("cannot restore the times of a directory: {:?}\n", error);
        }
    }
}

/// The times of a directory, with the change time that the union shows of it.
pub(crate) struct DirTimes<'a> {
    times: Times,
    /// The object whose top instance the directory is, what counts its changes by users, and the
    /// change time that it showed after those.
    shown: Option<(&'a Inode, u64, ChangeTime)>,
}

impl<'a> DirTimes<'a> {
    /// Those of `slot`, an instance of `dir`.
    pub(crate) fn of(section: Section<'_>, dir: &'a Inode, slot: &Slot) -> Result<Self> {
        let is_top = dir.stack(section)?.top().dentry().is(slot.dentry());
        let shown = match is_top {
            true => Some((dir, dir.changes(), dir.shown_change_time(section)?)),
            false => None,
        };
        Ok(DirTimes {
            shown,
            ..Self::of_slot(slot)?
        })
    }

    /// Those of `slot`, which are not shown.
    #[inline(never)]
    pub(crate) fn of_slot(slot: &Slot) -> Result<Self> {
        Ok(DirTimes {
            times: Times::of(slot.dentry())?,
            shown: None,
        })
    }

    /// With the times that it had when its changes were so many as `before` says, if no user
    /// changed it since then.
    pub(super) fn from(self, before: Option<(u64, Times)>) -> Self {
        let unchanged = |count| self.shown.is_none_or(|(_, changes, _)| changes == count);
        let times = match before {
            Some((count, times)) if unchanged(count) => times,
            _ => self.times,
        };
        DirTimes {
            times,
            shown: self.shown,
        }
    }

    /// Restores them, where the directory was locked since they were taken: no change by a user
    /// came in between.
    pub(crate) fn restore_locked(self, section: Section<'_>, dir: &LockedDir<'_>) {
        self.times.restore_locked(dir);
        if let Some((dir, _, time)) = self.shown {
            dir.keep_change_time(section, time);
        }
    }

    /// Restores them, unless a user changed the directory meanwhile: what has the time of that
    /// stays as it is.
    pub(crate) fn restore(self, section: Section<'_>, slot: &Slot, write: &WriteAccess<'_>) {
        let overtaken = |(dir, changes, _): (&Inode, u64, _)| dir.changes() != changes;
        if self.shown.is_some_and(overtaken) {
            return;
        }
        self.times.restore(slot.branch(), slot.dentry(), write);
        if let Some((dir, changes, time)) = self.shown {
            dir.keep_change_time_of(section, changes, time);
        }
    }
}

/// The beginning of our own names.
pub(crate) const OWN: &[u8] = crate::logic::plink::OWN_XATTRS;

/// Whether `name` stands for an ACL.
pub(crate) fn is_acl(name: &[u8]) -> bool {
    matches!(
        name,
        b"system.posix_acl_access" | b"system.posix_acl_default"
    )
}
