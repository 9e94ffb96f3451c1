// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs of foreign objects.

use crate::bindings;
use crate::fs::{
    base::ret::{
        from_err_ptr,
        to_result, //
    },
    objects::{
        dentry::Dentry,
        inode::Inode,
        path::{
            IdMap,
            PathRef,
            Writable, //
        }, //
    },
    types::FileSystem, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// Which ACL of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that decides about access.
    Access,
    /// The one that new objects in a directory get.
    Default,
}

impl Which {
    /// From the `ACL_TYPE_*` of C.
    pub(in crate::fs) fn from_raw(raw: c_int) -> Self {
        if raw == bindings::RUAUFS_ACL_TYPE_DEFAULT {
            Which::Default
        } else {
            Which::Access
        }
    }

    fn as_raw(self) -> c_int {
        match self {
            Which::Access => bindings::RUAUFS_ACL_TYPE_ACCESS,
            Which::Default => bindings::RUAUFS_ACL_TYPE_DEFAULT,
        }
    }

    fn name(self) -> *const c_char {
        // SAFETY: Always callable with one of the two types.
        unsafe { bindings::ruaufs_helper_acl_name(self.as_raw()) }
    }
}

/// A reference to `struct posix_acl`.
///
/// # Invariants
///
/// It owns the reference.
pub(crate) struct Acl(NonNull<bindings::posix_acl>);

impl Acl {
    /// The ACL of the object at `path`, `None` if it has none or its file system knows no ACLs.
    pub(crate) fn of(path: PathRef<'_>, which: Which) -> Result<Option<Acl>> {
        let raw = path.raw();
        // SAFETY: The path is valid.
        let acl = unsafe { bindings::ruaufs_helper_real_acl(&raw, which.as_raw()) };
        let acl = from_err_ptr(acl)?;
        // INVARIANT: The call gave a reference.
        Ok(NonNull::new(acl).map(Acl))
    }

    /// Whether both say the same.
    pub(crate) fn is(&self, other: &Acl) -> bool {
        // SAFETY: By the type invariant both are alive; they do not change once they are shared.
        unsafe { bindings::ruaufs_helper_same_acl(self.0.as_ptr(), other.0.as_ptr()) }
    }

    /// Its entries: the tag, as in `system.posix_acl_access`, and which of `rwx` it allows.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u16, u16)> + Clone + use<'_> {
        (0..).map_while(|i| {
            let (mut tag, mut perm) = (0, 0);
            // SAFETY: By the type invariant it is alive; it does not change once it is shared.
            let found = unsafe {
                bindings::ruaufs_helper_acl_entry(self.0.as_ptr(), i, &mut tag, &mut perm)
            };
            found.then_some((tag, perm))
        })
    }

    /// Gives the reference to C.
    pub(in crate::fs) fn into_raw(self) -> *mut bindings::posix_acl {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// Sets it on the object at `path`.
    pub(crate) fn apply(&self, path: Writable<'_>, which: Which) -> Result {
        // SAFETY: All are valid; the call takes and drops the inode lock.
        unsafe { set_raw(path, which, self.0.as_ptr()) }
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ruaufs_helper_posix_acl_release(self.0.as_ptr()) };
    }
}

/// # Safety
///
/// `acl` must be valid.
unsafe fn set_raw(path: Writable<'_>, which: Which, acl: *mut bindings::posix_acl) -> Result {
    // SAFETY: All are valid; the call takes and drops the inode lock.
    to_result(unsafe {
        bindings::vfs_set_acl(path.idmap(), path.dentry().as_ptr(), which.name(), acl)
    })
}

/// Takes an ACL away from the object at `path`.
pub(crate) fn remove(path: Writable<'_>, which: Which) -> Result {
    // SAFETY: All are valid; the call takes and drops the inode lock.
    to_result(unsafe {
        bindings::vfs_remove_acl(path.idmap(), path.dentry().as_ptr(), which.name())
    })
}

/// A change of an ACL, as a callback gets it.
pub(crate) struct Request(*mut bindings::posix_acl, Which);

impl Request {
    /// # Safety
    ///
    /// `acl` must be null or valid for the lifetime of the value.
    pub(in crate::fs) unsafe fn from_raw(acl: *mut bindings::posix_acl, which: c_int) -> Self {
        Request(acl, Which::from_raw(which))
    }

    /// Which ACL is changed.
    pub(crate) fn which(&self) -> Which {
        self.1
    }

    /// Whether it is removed.
    pub(crate) fn removes(&self) -> bool {
        self.0.is_null()
    }

    /// Whether it changes an object that has `present`.
    pub(crate) fn changes(&self, present: Option<&Acl>) -> bool {
        match present {
            None => !self.removes(),
            Some(_) if self.removes() => true,
            // SAFETY: Not null, so valid by the type's contract; `present` is alive.
            Some(acl) => !unsafe { bindings::ruaufs_helper_same_acl(self.0, acl.0.as_ptr()) },
        }
    }

    /// Makes the change on the object at `path`.
    pub(crate) fn apply(&self, path: Writable<'_>) -> Result {
        if self.removes() {
            return remove(path, self.1);
        }
        // SAFETY: Not null, so valid by the type's contract.
        unsafe { set_raw(path, self.1, self.0) }
    }
}

/// Whether the caller may change ACLs of `inode`.
pub(crate) fn may_change<T: FileSystem>(inode: &Inode<T>, idmap: IdMap<'_>) -> bool {
    // SAFETY: All are valid.
    unsafe { bindings::inode_owner_or_capable(idmap.as_ptr(), inode.as_ptr()) }
}

/// Whether a change of the access ACL by the caller takes the set-group-id bit away.
pub(crate) fn drops_sgid<T: FileSystem>(inode: &Inode<T>, idmap: IdMap<'_>) -> bool {
    // SAFETY: All are valid.
    unsafe { bindings::ruaufs_helper_sgid_must_go(idmap.as_ptr(), inode.as_ptr()) }
}

/// Whether objects like the one `dentry` leads to can carry ACLs.
pub(crate) fn supported(dentry: &Dentry) -> bool {
    dentry.inode().is_some_and(|inode| {
        // SAFETY: An inode's operations are set before it is published.
        inode.has_acls() && unsafe { (*(*inode.as_ptr()).i_op).set_acl.is_some() }
    })
}
