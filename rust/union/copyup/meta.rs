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

/// Copies owner, mode, times, extended attributes and ACLs of `source` to `to`.
pub(super) fn copy(
    source: &Slot,
    target: &Branch,
    to: &LowerDentry,
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
    copy_xattrs(source, target, to)?;
    if inode.kind() != Kind::Symlink {
        copy_acl(source, target, to, Which::Access)?;
    }
    if inode.kind() == Kind::Dir {
        copy_acl(source, target, to, Which::Default)?;
    }
    Ok(())
}

/// Copies one ACL. A branch without ACLs takes none, which `icexsys` forgives.
fn copy_acl(source: &Slot, target: &Branch, to: &LowerDentry, which: Which) -> Result {
    let Some(acl) = Acl::of(source.path(), which)? else {
        return Ok(());
    };
    let result = if acl::supported(to) {
        acl.apply(target.at(to), which)
    } else {
        Err(EOPNOTSUPP)
    };
    forgive(result, target, Attrs::ICEX_SYS)
}

/// Copies all extended attributes but ACLs.
fn copy_xattrs(source: &Slot, target: &Branch, to: &LowerDentry) -> Result {
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
            other => forgive(other, target, class(name.to_bytes()))?,
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

/// Ignores an error on an attribute of a class that the target branch is to ignore (`icex*`).
/// `ENOMEM` and `EDQUOT` are never ignored.
fn forgive(result: Result, target: &Branch, class: Attrs) -> Result {
    match result {
        Err(error) if error != ENOMEM && error != EDQUOT && target.access.attrs.contains(class) => {
            Ok(())
        }
        other => other,
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
        if let Err(error) = self.0.apply(&dir.branch().root.mount, dir.dentry()) {
            pr_debug!("cannot restore the times of a directory: {:?}\n", error);
        }
    }
}
