// SPDX-License-Identifier: GPL-2.0

//! Those of `struct inode_operations` that read and change attributes, ACLs, links and flags.

use super::inode_ops::Table;
use crate::bindings;
use crate::compat::errno::EOPNOTSUPP;
use crate::fs::{
    access::{
        acl,
        attr, //
    },
    base::{
        gate::anew,
        ret::to_result,
        seats::Doing, //
    },
    objects::{
        dentry::Dentry,
        inode::Inode,
        path::IdMap, //
    },
    operations::mountable::Mountable, //
};
use core::ptr;
use kernel::{
    error::from_result,
    prelude::*, //
};

impl<T: Mountable> Table<T> {
    /// # Safety
    ///
    /// Called by the VFS with a path of ours and a buffer to fill.
    pub(super) unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        request: u32,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback; a looked-up path is positive.
        from_result(|| unsafe {
            let inode = Inode::<T>::from_raw((*(*path).dentry).d_inode);
            let reading = inode.sb().read();
            let stat = attr::Stat::from_raw(stat, request, flags);
            T::getattr(reading.section(), inode, stat, IdMap::from_raw(idmap))?;
            Ok(0)
        })
    }

    /// As `getattr`, for what is no directory.
    ///
    /// # Safety
    ///
    /// As for `getattr`.
    pub(super) unsafe extern "C" fn getattr_file(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        request: u32,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback; a looked-up path is positive.
        from_result(|| unsafe {
            let inode = Inode::<T>::from_raw((*(*path).dentry).d_inode);
            let reading = inode.sb().read();
            let section = reading.section();
            let idmap = IdMap::from_raw(idmap);
            // What is hot keeps its arguments in registers.
            match T::plain_source(section, inode)? {
                Some(source) => {
                    attr::Stat::from_raw(stat, request, flags).fill_plain(source, inode, idmap)?
                }
                None => T::getattr(
                    section,
                    inode,
                    attr::Stat::from_raw(stat, request, flags),
                    idmap,
                )?,
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the inode locked.
    pub(super) unsafe extern "C" fn setattr(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        attr: *mut bindings::iattr,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let change = || unsafe {
            let dentry = Dentry::<T>::from_raw(dentry);
            let entered = dentry.sb().enter(Doing::Attributes);
            T::setattr(
                entered.section(),
                dentry,
                attr::Request::from_raw(attr),
                IdMap::from_raw(idmap),
            )
        };
        from_result(|| anew(change).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS with a symbolic link of ours; `dentry` is null in RCU walk.
    pub(super) unsafe extern "C" fn get_link(
        dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        done: *mut bindings::delayed_call,
    ) -> *const c_char {
        if dentry.is_null() {
            return ECHILD.to_ptr::<c_char>().cast_const();
        }
        // SAFETY: Valid by the contract of the callback. The text stays with the page cache of the
        // branch, to which `done` holds a reference, or with the foreign inode, which is lent: the
        // walk refers to our dentry until it needs the text no more.
        unsafe {
            let inode = Inode::<T>::from_raw(inode);
            let source = {
                let reading = inode.sb().read();
                inode.lend(reading.section())
            };
            match source {
                Some(source) => T::cred(inode.sb()).scope(|| bindings::vfs_get_link(source, done)),
                None => EIO.to_ptr::<c_char>().cast_const(),
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with a dentry of ours and a buffer of `size` bytes.
    pub(super) unsafe extern "C" fn listxattr(
        dentry: *mut bindings::dentry,
        list: *mut c_char,
        size: usize,
    ) -> isize {
        // SAFETY: Valid by the contract of the callback; the buffer may be null for size 0.
        let result = unsafe {
            let names: &mut [u8] = if size == 0 {
                &mut []
            } else {
                core::slice::from_raw_parts_mut(list.cast(), size)
            };
            let dentry = Dentry::<T>::from_raw(dentry);
            let _sitting = dentry.sb().sit(Doing::Look);
            let reading = dentry.sb().read();
            T::list_xattrs(reading.section(), dentry, names)
        };
        match result {
            // The VFS copies as much out of the buffer.
            Ok(len) if size != 0 && len > size => ERANGE.to_errno() as isize,
            Ok(len) => isize::try_from(len).unwrap_or(isize::MAX),
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS when no ACL is cached.
    pub(super) unsafe extern "C" fn get_inode_acl(
        inode: *mut bindings::inode,
        which: c_int,
        rcu: bool,
    ) -> *mut bindings::posix_acl {
        if rcu {
            return ECHILD.to_ptr();
        }
        // SAFETY: Valid by the contract of the callback.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        let _sitting = inode.sb().sit(Doing::Look);
        let reading = inode.sb().read();
        match T::get_acl(reading.section(), inode, acl::Which::from_raw(which)) {
            Ok(acl) => acl.map_or(ptr::null_mut(), acl::Acl::into_raw),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with the inode locked.
    pub(super) unsafe extern "C" fn set_acl(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        acl: *mut bindings::posix_acl,
        which: c_int,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let change = || unsafe {
            let dentry = Dentry::<T>::from_raw(dentry);
            let entered = dentry.sb().enter(Doing::Attributes);
            T::set_acl(
                entered.section(),
                dentry,
                acl::Request::from_raw(acl, which),
                IdMap::from_raw(idmap),
            )
        };
        from_result(|| anew(change).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS with a regular file of ours.
    pub(super) unsafe extern "C" fn fiemap(
        inode: *mut bindings::inode,
        info: *mut bindings::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe {
            let inode = Inode::<T>::from_raw(inode);
            // It writes to memory of the user.
            let source = Self::top(inode)?;
            let lower = source.inode()?;
            to_result(
                T::cred(inode.sb())
                    .scope(|| bindings::ruaufs_helper_fiemap(lower.as_ptr(), info, start, len)),
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with a dentry of ours and a buffer to fill.
    pub(super) unsafe extern "C" fn fileattr_get(
        dentry: *mut bindings::dentry,
        fa: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe {
            let dentry = Dentry::<T>::from_raw(dentry);
            let _sitting = dentry.sb().sit(Doing::Look);
            let reading = dentry.sb().read();
            T::show_flags(reading.section(), dentry, &mut |path| {
                to_result(bindings::ruaufs_helper_fileattr_get(&path.raw(), fa.cast()))
            })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the inode locked.
    pub(super) unsafe extern "C" fn fileattr_set(
        _idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        fa: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let change = || unsafe {
            if bindings::ruaufs_helper_sets_casefold(fa.cast()) {
                // Names of ours are compared byte by byte.
                return Err(EOPNOTSUPP.into());
            }
            let dentry = Dentry::<T>::from_raw(dentry);
            let entered = dentry.sb().enter(Doing::Attributes);
            T::change_flags(
                entered.section(),
                dentry,
                &mut |path| bindings::ruaufs_helper_has_fileattr(&path.raw(), fa.cast()),
                &mut |path| to_result(bindings::ruaufs_helper_fileattr_set(&path.raw(), fa.cast())),
            )
        };
        from_result(|| anew(change).map(|()| 0))
    }
}
