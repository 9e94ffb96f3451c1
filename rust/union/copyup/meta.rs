// SPDX-License-Identifier: GPL-2.0

//! Copy-up of everything that is not contents.
//!
//! The order matters: a change of the owner takes capabilities away, so
//! extended attributes come after it; a change of data would take them away, too,
//! so contents come before.

#![forbid(unsafe_code)]

use super::super::{
    branch::{
        Branch,
        Slot, //
    },
    xattr::{
        is_acl,
        OWN, //
    },
    Inode,
    LowerDentry, //
};
use crate::fs::{
    acl::{
        self,
        Acl,
        Which, //
    },
    attr::Change,
    inode::Kind,
    path::{
        PathRef,
        WriteAccess, //
    },
    xattr::{
        self,
        CopyUp, //
    }, //
};
use crate::logic::branch_spec::Attrs;
use kernel::prelude::*;

/// Which errors on extended attributes and ACLs do not matter.
pub(super) struct Tolerance {
    /// The `icex*` classes of names whose errors are ignored.
    pub(super) ignored: Attrs,
    /// Whether the log tells of errors (`verbose`).
    pub(super) verbose: bool,
}

/// Copies owner, mode, times, extended attributes and ACLs of `source` to `to`.
pub(super) fn copy(
    source: &Slot,
    target: &Branch,
    to: &LowerDentry,
    tolerance: &Tolerance,
    _write: &WriteAccess<'_>,
) -> Result {
    let inode = source.inode()?;
    let mut change = Change::new()
        .owner_of(inode, source.branch().root.mount.idmap())
        .times_of(inode);
    if inode.kind() != Kind::Symlink {
        change = change.mode(inode.mode());
    }
    change.apply(&target.root.mount, to)?;
    copy_xattrs(source, target, to, tolerance)?;
    if inode.kind() != Kind::Symlink {
        copy_acl(source, target, to, Which::Access, tolerance)?;
    }
    if inode.kind() == Kind::Dir {
        copy_acl(source, target, to, Which::Default, tolerance)?;
    }
    Ok(())
}

/// Copies one ACL. A branch without ACLs takes none, which `icexsys` forgives.
fn copy_acl(
    source: &Slot,
    target: &Branch,
    to: &LowerDentry,
    which: Which,
    tolerance: &Tolerance,
) -> Result {
    let Some(acl) = Acl::of(source.path(), which)? else {
        return Ok(());
    };
    let result = if acl::supported(to) {
        acl.apply(target.at(to), which)
    } else {
        Err(EOPNOTSUPP)
    };
    let name = match which {
        Which::Access => c"system.posix_acl_access",
        Which::Default => c"system.posix_acl_default",
    };
    tolerance.forgive(result, name, Attrs::ICEX_SYS)
}

/// Copies all extended attributes but ACLs.
fn copy_xattrs(source: &Slot, target: &Branch, to: &LowerDentry, tolerance: &Tolerance) -> Result {
    let from = source.path();
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
        let result = value(from, name).and_then(|value| xattr::set(target.at(to), name, &value, 0));
        match result {
            // Gone since it was listed.
            Err(error) if error == ENODATA => {}
            other => tolerance.forgive(other, name, class(name.to_bytes()))?,
        }
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

/// The value of an attribute.
fn value(path: PathRef<'_>, name: &CStr) -> Result<KVVec<u8>> {
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
    fn forgive(&self, result: Result, name: &CStr, class: Attrs) -> Result {
        let Err(error) = result else {
            return Ok(());
        };
        let forgiven = error != ENOMEM && error != EDQUOT && self.ignored.contains(class);
        if self.verbose {
            let what = if forgiven { ", ignored" } else { "" };
            pr_info!("cannot copy attribute {:?} up: {:?}{}\n", name, error, what);
        }
        if forgiven {
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// Something is about to be made in `slot`, an instance of the directory `dir`: sees that it takes
/// over what `dir` shows, the group of a set-group-id directory and the default ACL. Only the top
/// instance follows changes of them.
pub(crate) fn share_inherited(dir: &Inode, slot: &Slot, write: &WriteAccess<'_>) -> Result {
    let shown = dir.stack()?.top();
    if shown.branch().id == slot.branch().id {
        return Ok(());
    }
    let cred = &dir.sb().data().cred;
    cred.scope(|| copy_inherited(shown, slot, write))
}

/// The same for two instances. The mounter's credentials are in force.
fn copy_inherited(shown: &Slot, slot: &Slot, _write: &WriteAccess<'_>) -> Result {
    const SET_GID: u16 = 0o2000;
    let (from, to) = (shown.inode()?, slot.inode()?);
    let bit = from.mode() & SET_GID;
    if to.mode() & SET_GID != bit || (bit != 0 && !to.has_owner_of(from)) {
        Change::new()
            .owner_of(from, shown.branch().root.mount.idmap())
            .mode((to.mode() & !SET_GID) | bit)
            .apply(&slot.branch().root.mount, slot.dentry())?;
    }
    if !acl::supported(slot.dentry()) {
        return Ok(());
    }
    let acl = |slot: &Slot| Acl::of(slot.path(), Which::Default);
    match (acl(shown)?, acl(slot)?) {
        (None, None) => Ok(()),
        (Some(new), Some(old)) if new.is(&old) => Ok(()),
        (Some(new), _) => new.apply(slot.path(), Which::Default),
        (None, Some(_)) => acl::remove(slot.path(), Which::Default),
    }
}

/// The times of a directory, to be restored after a name was put into it for its owner.
pub(crate) struct DirTimes(Change);

impl DirTimes {
    /// Those of `dir`.
    pub(crate) fn of(dir: &Slot) -> Result<Self> {
        Ok(DirTimes(Change::new().times_of(dir.inode()?)))
    }

    /// Restores them. That the copy appeared is no news to anybody; a failure does no harm.
    pub(crate) fn restore(self, dir: &Slot, _write: &WriteAccess<'_>) {
        if let Err(error) = self
            .0
            .apply_regardless(&dir.branch().root.mount, dir.dentry())
        {
            pr_debug!("cannot restore the times of a directory: {:?}\n", error);
        }
    }
}
