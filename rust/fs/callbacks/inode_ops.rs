// SPDX-License-Identifier: GPL-2.0

//! `struct inode_operations`: what the VFS asks of our inodes.
//!
//! # Locking
//!
//! As `Documentation/filesystems/locking.rst` says: creating, removing and
//! renaming callbacks run with the parents' `i_rwsem` held exclusively,
//! look-ups with it held at least shared, so names of the dentries they get are
//! stable; attribute changes run with the inode's own held.

use super::{
    file_ops,
    file_table, //
};
use crate::bindings;
use crate::compat::{
    create,
    errno::ESTALE, //
};
use crate::fs::{
    base::{
        gate::anew,
        ret::to_result,
        seats::Doing, //
    },
    objects::{
        dentry::{
            Dentry,
            Negative, //
        },
        entry::Entry,
        file,
        inode::{
            Inode,
            Kind, //
        },
        ours::New,
        path::IdMap,
        stack::Slot, //
    },
    operations::{
        inode::{
            Make,
            MoveNames,
            Tie, //
        },
        mountable::Mountable, //
    }, //
};
use core::{
    cell::Cell,
    marker::PhantomData,
    ptr, //
};
use kernel::{
    error::from_result,
    prelude::*,
    sync::aref::ARef, //
};

/// Installs the operations for `mode` on a new inode.
///
/// # Safety
///
/// `inode` must be new, of `T`; nobody else uses it yet.
pub(in crate::fs) unsafe fn install<T: Mountable>(
    inode: *mut bindings::inode,
    mode: u16,
    rdev: u32,
) {
    // SAFETY: By the caller's contract.
    unsafe {
        (*inode).i_mode = mode;
        match Kind::of(mode) {
            Kind::Dir => {
                (*inode).i_op = &Table::<T>::DIR;
                (*inode).__bindgen_anon_3.i_fop = &super::dir_ops::Table::<T>::OPERATIONS;
            }
            Kind::Regular => {
                (*inode).i_op = &Table::<T>::FILE;
                (*inode).__bindgen_anon_3.i_fop = &file_table::Table::<T>::OPERATIONS;
                (*(*inode).i_mapping).a_ops = &file_table::Table::<T>::ADDRESS_SPACE;
            }
            Kind::Symlink => (*inode).i_op = &Table::<T>::SYMLINK,
            Kind::Special => {
                (*inode).i_op = &Table::<T>::SPECIAL;
                bindings::init_special_inode(inode, mode, rdev);
            }
        }
    }
}

pub(super) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    /// What all inodes have.
    const COMMON: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(Self::getattr_file),
        setattr: Some(Self::setattr),
        listxattr: Some(Self::listxattr),
        update_time: Some(bindings::ruaufs_helper_update_time),
        ..pin_init::zeroed()
    };

    const SYMLINK: bindings::inode_operations = bindings::inode_operations {
        get_link: Some(Self::get_link),
        ..Self::COMMON
    };

    const SPECIAL: bindings::inode_operations = bindings::inode_operations {
        get_inode_acl: Some(Self::get_inode_acl),
        set_acl: Some(Self::set_acl),
        ..Self::COMMON
    };

    const FILE: bindings::inode_operations = bindings::inode_operations {
        fiemap: Some(Self::fiemap),
        fileattr_get: Some(Self::fileattr_get),
        fileattr_set: Some(Self::fileattr_set),
        ..Self::SPECIAL
    };

    const DIR: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(Self::getattr),
        lookup: Some(Self::lookup),
        create: Some(create::create::<Self>),
        mkdir: Some(Self::mkdir),
        mknod: Some(Self::mknod),
        symlink: Some(Self::symlink),
        link: Some(Self::link),
        unlink: Some(Self::unlink),
        rmdir: Some(Self::rmdir),
        rename: Some(Self::rename),
        tmpfile: Some(Self::tmpfile),
        fileattr_get: Some(Self::fileattr_get),
        fileattr_set: Some(Self::fileattr_set),
        ..Self::SPECIAL
    };

    /// # Safety
    ///
    /// `dentry` must be a dentry of `T` whose name is stable for `'a`. The directory that it is in
    /// now must be referenced for as long.
    unsafe fn entry<'a>(dentry: *mut bindings::dentry) -> Entry<'a, T> {
        // SAFETY: By the caller's contract. Nobody moves it now.
        unsafe {
            let parent = Dentry::from_raw((*dentry).d_parent);
            let dentry = Dentry::from_raw(dentry);
            // INVARIANT: By the caller's contract.
            Entry {
                dentry,
                parent,
                name: dentry.name_unchecked(),
            }
        }
    }

    /// A name is about to be changed. The VFS found it, and then the callback may have waited for
    /// the gate: what a change of the shape let go may lead elsewhere now, and an object that is
    /// made under it would be one without a name.
    ///
    /// # Errors
    ///
    /// `ESTALE`, for which the VFS looks the name up again.
    fn check_named(dentry: &Dentry<T>) -> Result {
        if dentry.is_unhashed() {
            return Err(ESTALE.into());
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called by the VFS with a directory of ours, locked, and a dentry in look-up.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: Valid by the contract of the callback.
        let dir = unsafe { Inode::<T>::from_raw(dir) };
        let tied = Cell::new(None);
        let found = anew(|| {
            // Until the name and what it leads to are tied together.
            let entered = dir.sb().enter(Doing::LookUp);
            // SAFETY: As above; the name is stable, and its directory in use.
            let entry = unsafe { Self::entry(dentry) };
            // INVARIANT: The dentry is in look-up, as it was not tied.
            let tie = Tie {
                dentry: entry.dentry,
                tied: &tied,
            };
            match T::lookup(entered.section(), dir, entry, tie) {
                // What is tied stays so.
                Err(error) if tied.get().is_none() => Err(error),
                _ => Ok(()),
            }
        });
        match (tied.get(), found) {
            (Some(other), _) => other,
            (None, Err(error)) => error.to_ptr(),
            (None, Ok(())) => EIO.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// `dir` and `dentry` must be as a creating callback gets them.
    unsafe fn make(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        make: Make<'_>,
        mode: u16,
    ) -> Result {
        // SAFETY: By the caller's contract; the name is stable as the parent, which is in use, is
        // locked.
        unsafe {
            let dir = Inode::<T>::from_raw(dir);
            let entered = dir.sb().enter(Doing::Make);
            let entry = Self::entry(dentry);
            let this = entry.dentry;
            Self::check_named(this)?;
            let negative = Negative::new(this)?;
            let kind = make.kind();
            let inode = T::make(
                entered.section(),
                dir,
                entry,
                make,
                mode,
                IdMap::from_raw(idmap),
            )?;
            let named = match inode.kind() == kind {
                true => negative.instantiate(inode),
                false => Err(EIO),
            };
            if named.is_err() {
                // The object is there: the name must not go on to say that there is none.
                this.unhash();
            }
            named
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent locked and a negative dentry.
    unsafe extern "C" fn mkdir(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> *mut bindings::dentry {
        // SAFETY: Valid by the contract of the callback.
        match unsafe { Self::make(idmap, dir, dentry, Make::Dir, mode) } {
            Ok(()) => ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent locked and a negative dentry.
    unsafe extern "C" fn mknod(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        rdev: bindings::dev_t,
    ) -> c_int {
        from_result(|| {
            let what = match u32::from(mode) & bindings::S_IFMT {
                bindings::S_IFREG => Make::File,
                bindings::S_IFCHR | bindings::S_IFBLK | bindings::S_IFIFO | bindings::S_IFSOCK => {
                    Make::Node(mode, rdev)
                }
                // Who calls `vfs_mknod()` inside the kernel may ask for anything.
                _ => return Err(EINVAL),
            };
            // SAFETY: Valid by the contract of the callback.
            unsafe { Self::make(idmap, dir, dentry, what, mode).map(|()| 0) }
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent locked, a negative dentry and a string.
    unsafe extern "C" fn symlink(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const c_char,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe {
            let target = CStr::from_char_ptr(target);
            Self::make(idmap, dir, dentry, Make::Symlink(target), 0o777).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent and the inode of `old` locked and a negative dentry.
    unsafe extern "C" fn link(
        old: *mut bindings::dentry,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let old = Dentry::<T>::from_raw(old);
                anew(|| {
                    let entered = old.sb().enter(Doing::Make);
                    Self::check_named(Dentry::from_raw(dentry))?;
                    let negative = Negative::new(Dentry::from_raw(dentry))?;
                    T::link(
                        entered.section(),
                        old,
                        Inode::from_raw(dir),
                        Self::entry(dentry),
                    )?;
                    if !Dentry::<T>::from_raw(dentry).is_unhashed() {
                        negative.instantiate(old.positive()?.into())?;
                    }
                    Ok(0)
                })
            }
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent and the victim locked.
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe {
            let dir = Inode::<T>::from_raw(dir);
            let entered = dir.sb().enter(Doing::Remove);
            Self::check_named(Dentry::from_raw(dentry))?;
            T::unlink(entered.section(), dir, Self::entry(dentry))?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent and the victim locked.
    unsafe extern "C" fn rmdir(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe {
            let dir = Inode::<T>::from_raw(dir);
            let entered = dir.sb().enter(Doing::Remove);
            Self::check_named(Dentry::from_raw(dentry))?;
            T::rmdir(entered.section(), dir, Self::entry(dentry))?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with both parents locked, and the rename mutex if they differ.
    unsafe extern "C" fn rename(
        idmap: *mut bindings::mnt_idmap,
        old_dir: *mut bindings::inode,
        old: *mut bindings::dentry,
        new_dir: *mut bindings::inode,
        new: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        let (moved, begun) = (Cell::new(false), Cell::new(None));
        // SAFETY: Valid by the contract of the callback.
        let rename = || unsafe {
            // INVARIANT: Both parents are locked, and nothing was moved.
            let names = MoveNames {
                old: Dentry::from_raw(old),
                new: Dentry::from_raw(new),
                exchange: flags & bindings::RENAME_EXCHANGE != 0,
                moved: &moved,
                begun: &begun,
            };
            let old_dir = Inode::<T>::from_raw(old_dir);
            let entered = old_dir.sb().enter(Doing::Rename);
            Self::check_named(names.old)?;
            Self::check_named(names.new)?;
            let result = T::rename(
                entered.section(),
                (old_dir, Self::entry(old)),
                (Inode::from_raw(new_dir), Self::entry(new)),
                flags,
                names,
                IdMap::from_raw(idmap),
            );
            match result {
                // What is moved stays so.
                Err(error) if !moved.get() => Err(error),
                _ => Ok(()),
            }
        };
        from_result(|| anew(rename).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS with a file in the making whose dentry is negative and unhashed.
    unsafe extern "C" fn tmpfile(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        file: *mut bindings::file,
        mode: bindings::umode_t,
    ) -> c_int {
        /// # Safety
        ///
        /// Called by `finish_open()`; the file is open already.
        unsafe extern "C" fn opened(_: *mut bindings::inode, _: *mut bindings::file) -> c_int {
            0
        }
        from_result(|| {
            // SAFETY: Valid by the contract of the callback.
            unsafe {
                let this = file::File::<T>::from_raw(file);
                let dir = Inode::<T>::from_raw(dir);
                let entered = dir.sb().enter(Doing::Make);
                // Nobody else knows the dentry, so it stays where it is.
                let entry = Self::entry(this.dentry().as_ptr());
                let (inode, data) = T::tmpfile(
                    entered.section(),
                    dir,
                    entry,
                    this,
                    mode,
                    IdMap::from_raw(idmap),
                )?;
                // What is attached below is what the operations of a regular file expect.
                if !ptr::eq(inode.sb_ptr(), dir.sb_ptr()) || inode.kind() != Kind::Regular {
                    return Err(EIO);
                }
                // `d_tmpfile()` gives a name and drops the link count, which must not be 0 then.
                bindings::set_nlink(inode.as_ptr(), 1);
                bindings::d_tmpfile(file, ARef::into_raw(inode).as_ptr().cast());
                file_ops::attach::<T>(file, data);
                drop(entered);
                let dentry = this.dentry().as_ptr();
                let ret = bindings::finish_open(file, dentry, Some(opened));
                // Only an open file is released by the VFS.
                if (*file).f_mode & bindings::RUAUFS_FMODE_OPENED == 0 {
                    drop(file_ops::detach(file));
                }
                to_result(ret)?;
            }
            Ok(0)
        })
    }

    /// The topmost foreign dentry of `inode`, for use outside a section.
    pub(super) fn top(inode: &Inode<T>) -> Result<Slot<T::Place>> {
        let reading = inode.sb().read();
        Ok(inode.stack(reading.section())?.top().clone())
    }
}

impl<T: Mountable> create::Create for Table<T> {
    #[inline]
    unsafe fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe { Self::make(idmap, dir, dentry, Make::File, mode).map(|()| 0) })
    }
}

impl<T: crate::fs::operations::mountable::Mountable> New<T> {
    /// Copies all attributes of `from`, installs the operations of its type and publishes the
    /// inode.
    pub(crate) fn finish(self, from: &Inode, idmap: IdMap<'_>, nlink: u32) -> ARef<Inode<T>> {
        let inode = self.0.clone();
        let ptr = inode.as_ptr();
        // The change time is not marked as seen: the first write to what was just created would
        // have to note times once more. Whoever looks next refreshes.
        inode.copy_attr(from, idmap);
        inode.copy_flags(from);
        // SAFETY: By the type invariant nobody else uses the inode, so plain writes are fine.
        unsafe {
            install::<T>(ptr, from.mode(), from.rdev());
            bindings::set_nlink(ptr, nlink);
            (*ptr).i_generation = (*from.as_ptr()).i_generation;
            (*ptr).i_blkbits = (*from.as_ptr()).i_blkbits;
            bindings::ruaufs_helper_inode_lockdep(ptr);
            if !from.has_acls() {
                bindings::ruaufs_helper_cache_no_acl(ptr);
            }
            inode.copy_no_acl(from);
            bindings::unlock_new_inode(ptr);
        }
        let this = core::mem::ManuallyDrop::new(self);
        // The inode is not new any more, so `Drop` of `self` must not fail it.
        // SAFETY: `this` is not used again; its only field is moved out.
        drop(unsafe { core::ptr::read(&this.0) });
        inode
    }
}
