// SPDX-License-Identifier: GPL-2.0

//! Acting with other credentials.
//!
//! A scope is a closure call, not a guard: a guard could be leaked, which would
//! leave the task privileged.

use super::{
    dentry::Dentry,
    entry::Entry,
    inode::Inode,
    path::IdMap, //
};
use crate::bindings;
use crate::fs::{
    base::ret::to_result,
    types::FileSystem, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// A reference to credentials that are not changed any more.
///
/// # Invariants
///
/// It owns a reference to a committed `struct cred`.
pub(crate) struct Cred(NonNull<bindings::cred>);

// SAFETY: Credentials are immutable once they are shared.
unsafe impl Send for Cred {}

// SAFETY: As above.
unsafe impl Sync for Cred {}

impl Cred {
    /// A copy of the caller's credentials for work on branches, without the right to exceed
    /// quotas (`CAP_SYS_RESOURCE`).
    pub(crate) fn mounter() -> Result<Cred> {
        // SAFETY: Always callable from process context.
        let cred = NonNull::new(unsafe { bindings::ruaufs_helper_cred_for_mounter() });
        // INVARIANT: A reference of our own; it is not changed from here on.
        Ok(Cred(cred.ok_or(ENOMEM)?))
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *const bindings::cred {
        self.0.as_ptr()
    }

    /// Runs `f` with these credentials.
    pub(crate) fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` keeps the credentials alive during the call.
        let old = unsafe { bindings::ruaufs_helper_override_creds(self.as_ptr()) };
        let ret = f();
        // SAFETY: `old` are the task's credentials from before.
        unsafe { bindings::ruaufs_helper_revert_creds(old) };
        ret
    }

    /// Runs `f` as the mounter (`self`) who creates `name` with `mode` below `dir` for the
    /// caller: files get the caller's fsuid and fsgid, as seen through `idmap`, and the security
    /// label that the LSM wants for it.
    pub(crate) fn scope_for_creation<T: FileSystem, R>(
        &self,
        dir: &Inode<T>,
        entry: &Entry<'_, T>,
        mode: u16,
        idmap: IdMap<'_>,
        f: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let dentry = entry.dentry();
        // SAFETY: `self` keeps the credentials alive; `caller` are reverted to below.
        let caller = unsafe { bindings::ruaufs_helper_override_creds(self.as_ptr()) };
        // SAFETY: `caller` are the task's own, so alive; `dir` is valid; the mounter's are in
        // force.
        let creator = NonNull::new(unsafe {
            bindings::ruaufs_helper_cred_for_creator(caller, idmap.as_ptr(), dir.as_ptr())
        });
        let ret = creator.ok_or(ENOMEM).and_then(|creator| {
            // INVARIANT: A reference of our own, dropped at the end of this closure. The LSM may
            // still change it below, before it is used.
            let creator = Cred(creator);
            // SAFETY: All are valid; name and parent are stable as long as there is an `Entry`.
            to_result(unsafe {
                bindings::security_dentry_create_files_as(
                    dentry.as_ptr(),
                    c_int::from(mode),
                    &raw const (*dentry.as_ptr()).__bindgen_anon_1.d_name,
                    caller,
                    creator.0.as_ptr(),
                )
            })?;
            creator.scope(f)
        });
        // SAFETY: `caller` are the task's credentials from before.
        unsafe { bindings::ruaufs_helper_revert_creds(caller) };
        ret
    }

    /// Runs `f` with the credentials in force, but as a member of no group and without
    /// `CAP_FSETID`: what a stranger's change takes the set-group-id bit away from loses it.
    pub(crate) fn scope_outside_groups<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
        // SAFETY: Always callable from process context.
        let cred = NonNull::new(unsafe { bindings::ruaufs_helper_cred_outside_groups() });
        // INVARIANT: A reference of our own; it is not changed from here on.
        Cred(cred.ok_or(ENOMEM)?).scope(f)
    }

    /// Runs `f` with the credentials that the LSM wants for a copy of `source`, which are the
    /// ones in force unless it says otherwise.
    pub(crate) fn scope_for_copy_up<R>(
        source: &Dentry,
        f: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let mut new: *mut bindings::cred = core::ptr::null_mut();
        source.positive()?;
        // SAFETY: `source` is a positive dentry, `new` is valid for writes.
        to_result(unsafe { bindings::security_inode_copy_up(source.as_ptr(), &mut new) })?;
        match NonNull::new(new) {
            None => f(),
            // INVARIANT: The LSM made them for us.
            Some(new) => Cred(new).scope(f),
        }
    }
}

impl Drop for Cred {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::ruaufs_helper_put_cred(self.0.as_ptr()) };
    }
}
