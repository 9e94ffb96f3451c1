// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and ACLs: those of the top instance.
//!
//! Of names that begin with `system.` the VFS leaves it to the file system who may read or change
//! them. They are read with the caller's credentials, so that the branch decides as it does
//! without the union, and changed for the owner of an object, and for who may do what owners may.
//!
//! Names under `trusted.ruaufs.` are our own notes on a branch; they are neither
//! shown nor changed through the union.

#![forbid(unsafe_code)]

use crate::compat::errno::{
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
        xattr::{
            self,
            Setting, //
        }, //
    },
    objects::{
        cred::Cred,
        path::IdMap, //
    }, //
};
use crate::union::{
    branches::branch::Slot,
    copyup::{
        self,
        data::Data,
        meta::OWN,
        promote, //
    },
    types::{
        Dentry,
        Inode,
        Section, //
    }, //
};
use kernel::prelude::*;

/// The beginning of names that belong to the LSM.
const SECURITY: &[u8] = b"security.";
/// The beginning of names about which the VFS asks nobody.
const SYSTEM: &[u8] = b"system.";
/// The beginning of names that only the administrator sees.
const TRUSTED: &[u8] = b"trusted.";

/// Reads an attribute; with an empty buffer gives its size.
pub(crate) fn get(
    section: Section<'_>,
    dentry: &Dentry,
    name: &CStr,
    value: &mut [u8],
) -> Result<usize> {
    if name.to_bytes().starts_with(OWN) {
        return Err(ENODATA.into());
    }
    let inode = dentry.object()?;
    let top = inode.stack(section)?.top();
    let mut get = || xattr::get(top.path()?, name, value);
    if name.to_bytes().starts_with(SYSTEM) {
        return get();
    }
    inode.sb().data().cred.scope(get)
}

/// Sets or removes an attribute for a caller whose mount has `idmap`.
pub(crate) fn set(
    section: Section<'_>,
    dentry: &Dentry,
    name: &CStr,
    setting: Setting<'_>,
    idmap: IdMap<'_>,
) -> Result {
    if name.to_bytes().starts_with(OWN) {
        return Err(EPERM);
    }
    let inode = dentry.object()?;
    if name.to_bytes().starts_with(SYSTEM) && !acl::may_change(inode, idmap) {
        return Err(EPERM);
    }
    let cred = &inode.sb().data().cred;
    let stack = inode.noticed(section)?;
    if !stack.writable() && !cred.scope(|| changes(stack.top(), name, &setting))? {
        return Ok(());
    }
    promote::promote(section, dentry, Data::All)?;
    let result = inode.change_top(section, |top, write| match setting {
        Setting::Value(value, flags) => xattr::set(write.to(top.path()?)?, name, value, flags),
        Setting::Remove => xattr::remove(write.to(top.path()?)?, name),
    });
    inode.refresh(section)?;
    result
}

/// Whether `setting` of the attribute `name` changes the instance `slot`, on a branch that is not
/// written: else no copy is needed. The mounter's credentials are in force.
fn changes(slot: &Slot, name: &CStr, setting: &Setting<'_>) -> Result<bool> {
    let present = match copyup::meta::value(slot.path()?, name) {
        Err(error) if error == ENODATA || error == EOPNOTSUPP => None,
        other => Some(other?),
    };
    // What is read of these may be translated for the reader.
    let translated = name.to_bytes().starts_with(SECURITY);
    Ok(setting.changes(present.as_deref())? || translated)
}

/// Lists the names of all attributes, each ended by NUL; with an empty buffer gives the size that
/// is needed at most.
pub(crate) fn list(section: Section<'_>, dentry: &Dentry, names: &mut [u8]) -> Result<usize> {
    let inode = dentry.object()?;
    let top = inode.stack(section)?.top();
    let cred = &inode.sb().data().cred;
    let used = cred.scope(|| xattr::list(top.dentry(), names))?;
    if names.is_empty() {
        return Ok(used);
    }
    // The mounter, who asked the branch, may see more than the caller.
    let shown = |name: &[u8]| {
        !name.starts_with(OWN) && (!name.starts_with(TRUSTED) || xattr::sees_trusted())
    };
    let (mut from, mut to) = (0, 0);
    while let Some(rest) = names.get(from..used).filter(|rest| !rest.is_empty()) {
        let len = rest
            .iter()
            .position(|&byte| byte == 0)
            .map_or(rest.len(), |nul| nul.saturating_add(1));
        if shown(rest) {
            names.copy_within(from..from.saturating_add(len), to);
            to = to.saturating_add(len);
        }
        from = from.saturating_add(len);
    }
    Ok(to)
}

/// The ACL of the top instance.
pub(crate) fn get_acl(section: Section<'_>, inode: &Inode, which: Which) -> Result<Option<Acl>> {
    let top = inode.stack(section)?.top();
    inode.sb().data().cred.scope(|| Acl::of(top.path()?, which))
}

/// Changes an ACL.
pub(crate) fn set_acl(
    section: Section<'_>,
    dentry: &Dentry,
    request: acl::Request,
    idmap: IdMap<'_>,
) -> Result {
    let inode = dentry.object()?;
    if request.which() == Which::Default && !inode.is_dir() {
        return if request.removes() {
            Ok(())
        } else {
            Err(EACCES)
        };
    }
    inode.noticed(section)?;
    if !acl::may_change(inode, idmap) {
        return Err(EPERM);
    }
    // The mounter would keep the set-group-id bit; it is the caller who asks. When it goes is up to
    // the branch.
    let strip = request.which() == Which::Access && acl::drops_sgid(inode, idmap);
    let asks = request.removes() || !inode.stack(section)?.writable();
    if asks && !strip && !request.changes(get_acl(section, inode, request.which())?.as_ref()) {
        // Neither a copy nor a change is needed.
        return Ok(());
    }
    promote::promote(section, dentry, Data::All)?;
    let result = inode.change_top(section, |top, write| match strip {
        _ if !acl::supported(top.dentry()) => Err(EOPNOTSUPP.into()),
        true => Cred::scope_outside_groups(|| request.apply(write.to(top.path()?)?)),
        false => request.apply(write.to(top.path()?)?),
    });
    inode.forget_acls();
    inode.refresh(section)?;
    result
}
