// SPDX-License-Identifier: GPL-2.0

//! `struct inode_operations`: what the VFS asks of our inodes.
//!
//! # Locking
//!
//! As `Documentation/filesystems/locking.rst` says: creating, removing and
//! renaming callbacks run with the parents' `i_rwsem` held exclusively,
//! look-ups with it held at least shared, so names of the dentries they get are
//! stable; attribute changes run with the inode's own held.

use super::file_ops;
use crate::bindings;
use crate::fs::{
    access::{
        acl,
        attr,
        backing::OpenFile,
        xattr::Setting, //
    },
    base::{
        gate::{
            anew,
            Doing, //
        },
        ret::to_result, //
    },
    objects::{
        dentry::{
            self,
            Dentry,
            Negative, //
        },
        inode::{
            Inode,
            Kind, //
        },
        path::{
            IdMap,
            PathRef,
            Writable, //
        },
        section::Section,
        stack::Slot, //
    },
    Mountable, //
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

/// A dentry of ours together with its stable place.
///
/// # Invariants
///
/// The dentry has this name and this parent for `'a`. Only callbacks are given one.
pub(crate) struct Entry<'a, T> {
    dentry: &'a Dentry<T>,
    parent: &'a Dentry<T>,
    name: &'a [u8],
}

impl<'a, T> Entry<'a, T> {
    /// The dentry.
    #[inline]
    pub(crate) fn dentry(&self) -> &'a Dentry<T> {
        self.dentry
    }

    /// The dentry of the directory.
    #[inline]
    pub(crate) fn parent(&self) -> &'a Dentry<T> {
        self.parent
    }

    /// The name.
    #[inline]
    pub(crate) fn name(&self) -> &'a [u8] {
        self.name
    }
}

/// What to make.
#[derive(Clone, Copy)]
pub(crate) enum Make<'a> {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A device node, named pipe or socket: type bits and device number.
    Node(u16, u32),
    /// A symbolic link.
    Symlink(&'a CStr),
}

impl Make<'_> {
    /// The kind of the object that is made.
    fn kind(self) -> Kind {
        match self {
            Make::File => Kind::Regular,
            Make::Dir => Kind::Dir,
            Make::Node(..) => Kind::Special,
            Make::Symlink(_) => Kind::Symlink,
        }
    }
}

/// The two names of a rename, to be moved once.
///
/// # Invariants
///
/// The callback that the value is for runs with both parents locked. `moved` is set once they were
/// moved, and there is no other value for this rename then.
pub(crate) struct MoveNames<'a, T> {
    old: &'a Dentry<T>,
    new: &'a Dentry<T>,
    exchange: bool,
    moved: &'a Cell<bool>,
}

impl<T: crate::fs::FileSystem> MoveNames<'_, T> {
    /// Moves them.
    pub(crate) fn commit(self) {
        self.moved.set(true);
        self.old.break_seal();
        self.new.break_seal();
        // SAFETY: By the type invariant both parents are locked, and the rename mutex is if they
        // differ, as `d_move()` and `d_exchange()` demand.
        unsafe {
            if self.exchange {
                bindings::d_exchange(self.old.as_ptr(), self.new.as_ptr());
            } else {
                bindings::d_move(self.old.as_ptr(), self.new.as_ptr());
            }
        }
        if !self.old.sb().shows_real() {
            self.settle_reals();
        }
    }

    /// Files may have come below a directory that an overlayfs writes to, or from there.
    #[cold]
    fn settle_reals(&self) {
        for moved in [self.old, self.new] {
            if moved.inode().is_some_and(|inode| !inode.is_dir()) {
                moved.settle_file();
            }
        }
    }
}

/// A name in look-up that is to be tied to what it leads to, once.
///
/// # Invariants
///
/// The dentry is in look-up: unhashed and negative. What became of it is noted, and there is no
/// other value for this look-up then.
pub(crate) struct Tie<'a, T: crate::fs::FileSystem> {
    dentry: &'a Dentry<T>,
    /// What the VFS is to be told.
    tied: &'a Cell<Option<*mut bindings::dentry>>,
}

/// Proof that the name of a look-up was tied.
pub(crate) struct Tied(());

impl<T: crate::fs::FileSystem> Tie<'_, T> {
    /// Ties it to `inode`, or notes that it is absent. From here on others find it.
    pub(crate) fn to(self, inode: Option<ARef<Inode<T>>>) -> Tied {
        let is_foreign = |inode: &ARef<Inode<T>>| !ptr::eq(inode.sb_ptr(), self.dentry.sb_ptr());
        if inode.as_ref().is_some_and(is_foreign) {
            self.tied.set(Some(EIO.to_ptr()));
            return Tied(());
        }
        if let Some(inode) = &inode {
            self.dentry.settle_real(inode);
        }
        let inode = inode.map_or(ptr::null_mut(), |inode| {
            ARef::into_raw(inode).as_ptr().cast()
        });
        // SAFETY: The call consumes the inode reference; by the type invariant the dentry is in
        // look-up, as `d_splice_alias()` demands. What it gives is null, a dentry or an error.
        unsafe {
            let other = bindings::d_splice_alias(inode, self.dentry.as_ptr());
            if !other.is_null() && crate::fs::base::ret::from_err_ptr(other).is_ok() {
                Dentry::<T>::from_raw(other).take_guard(self.dentry);
            }
            self.tied.set(Some(other));
        }
        Tied(())
    }
}

/// An inode just made, and its open file.
pub(crate) type Opened<T> = (ARef<Inode<T>>, OpenFile);

/// Callbacks on inodes.
pub(crate) trait Operations: dentry::Operations {
    /// Looks a name up and ties it to the inode, or to none if the name is absent.
    fn lookup(
        section: Section<'_, Self>,
        dir: &Inode<Self>,
        entry: Entry<'_, Self>,
        tie: Tie<'_, Self>,
    ) -> Result<Tied>;

    /// Makes an object under a name that is absent and gives its inode.
    fn make(
        section: Section<'_, Self>,
        dir: &Inode<Self>,
        entry: Entry<'_, Self>,
        make: Make<'_>,
        mode: u16,
        idmap: IdMap<'_>,
    ) -> Result<ARef<Inode<Self>>>;

    /// Makes an unnamed file and opens it. `entry` is its dentry, which bears no real name.
    fn tmpfile(
        section: Section<'_, Self>,
        dir: &Inode<Self>,
        entry: Entry<'_, Self>,
        file: &file_ops::File<Self>,
        mode: u16,
        idmap: IdMap<'_>,
    ) -> Result<Opened<Self>>;

    /// Makes another name for the inode of `old`.
    fn link(
        section: Section<'_, Self>,
        old: &Dentry<Self>,
        dir: &Inode<Self>,
        entry: Entry<'_, Self>,
    ) -> Result;

    /// Removes a name of a non-directory.
    fn unlink(section: Section<'_, Self>, dir: &Inode<Self>, entry: Entry<'_, Self>) -> Result;

    /// Removes an empty directory.
    fn rmdir(section: Section<'_, Self>, dir: &Inode<Self>, entry: Entry<'_, Self>) -> Result;

    /// Renames, with the flags of renameat2(2). `names` moves our dentries; it is called after
    /// the foreign names have moved, and nothing fails after it.
    fn rename(
        section: Section<'_, Self>,
        from: (&Inode<Self>, Entry<'_, Self>),
        to: (&Inode<Self>, Entry<'_, Self>),
        flags: u32,
        names: MoveNames<'_, Self>,
        idmap: IdMap<'_>,
    ) -> Result;

    /// stat(2) of what is no directory: the foreign object that
    /// [`attr::Stat::fill_plain`](crate::fs::access::attr::Stat::fill_plain) may ask, if any; our
    /// attributes are fresh then.
    fn plain_source<'a>(
        section: Section<'a, Self>,
        inode: &'a Inode<Self>,
    ) -> Result<Option<PathRef<'a>>>;

    /// stat(2) of the rest.
    fn getattr(
        section: Section<'_, Self>,
        inode: &Inode<Self>,
        stat: attr::Stat<'_>,
        idmap: IdMap<'_>,
    ) -> Result;

    /// chmod(2), chown(2), truncate(2), utimensat(2).
    fn setattr(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        request: attr::Request<'_>,
        idmap: IdMap<'_>,
    ) -> Result;

    /// Reads an extended attribute; with an empty buffer gives its size.
    fn get_xattr(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        name: &CStr,
        value: &mut [u8],
    ) -> Result<usize>;

    /// Sets or removes an extended attribute.
    fn set_xattr(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        name: &CStr,
        setting: Setting<'_>,
    ) -> Result;

    /// Lists extended attributes; with an empty buffer gives the size that is needed.
    fn list_xattrs(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        names: &mut [u8],
    ) -> Result<usize>;

    /// The ACL of an inode; the VFS caches it.
    fn get_acl(
        section: Section<'_, Self>,
        inode: &Inode<Self>,
        which: acl::Which,
    ) -> Result<Option<acl::Acl>>;

    /// Changes an ACL.
    fn set_acl(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        request: acl::Request,
        idmap: IdMap<'_>,
    ) -> Result;

    /// Runs `f` on the foreign path whose file flags (chattr) an inode shows.
    fn show_flags(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        f: &mut dyn FnMut(PathRef<'_>) -> Result,
    ) -> Result;

    /// Runs `f`, which changes file flags, on one that may be changed, unless that can be spared as
    /// `has` says of a path that has them already.
    fn change_flags(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        has: &mut dyn FnMut(PathRef<'_>) -> bool,
        f: &mut dyn FnMut(Writable<'_>) -> Result,
    ) -> Result;
}

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
                (*inode).__bindgen_anon_3.i_fop = &crate::fs::access::dir::Table::<T>::OPERATIONS;
            }
            Kind::Regular => {
                (*inode).i_op = &Table::<T>::FILE;
                (*inode).__bindgen_anon_3.i_fop = &file_ops::Table::<T>::OPERATIONS;
                (*(*inode).i_mapping).a_ops = &file_ops::Table::<T>::ADDRESS_SPACE;
            }
            Kind::Symlink => (*inode).i_op = &Table::<T>::SYMLINK,
            Kind::Special => {
                (*inode).i_op = &Table::<T>::SPECIAL;
                bindings::init_special_inode(inode, mode, rdev);
            }
        }
    }
}

struct Table<T>(PhantomData<T>);

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
        create: Some(Self::create),
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
            return Err(ESTALE);
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
            if inode.kind() != kind {
                return Err(EIO);
            }
            negative.instantiate(inode)?;
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called by the VFS with the parent locked and a negative dentry.
    unsafe extern "C" fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        from_result(|| unsafe { Self::make(idmap, dir, dentry, Make::File, mode).map(|()| 0) })
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
        let moved = Cell::new(false);
        // SAFETY: Valid by the contract of the callback.
        let rename = || unsafe {
            // INVARIANT: Both parents are locked, and nothing was moved.
            let names = MoveNames {
                old: Dentry::from_raw(old),
                new: Dentry::from_raw(new),
                exchange: flags & bindings::RENAME_EXCHANGE != 0,
                moved: &moved,
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
                let this = file_ops::File::<T>::from_raw(file);
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

    /// # Safety
    ///
    /// Called by the VFS with a path of ours and a buffer to fill.
    unsafe extern "C" fn getattr(
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
    unsafe extern "C" fn getattr_file(
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
    unsafe extern "C" fn setattr(
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

    /// The topmost foreign dentry of `inode`, for use outside a section.
    fn top(inode: &Inode<T>) -> Result<Slot<T::Place>> {
        let reading = inode.sb().read();
        Ok(inode.stack(reading.section())?.top().clone())
    }

    /// # Safety
    ///
    /// Called by the VFS with a symbolic link of ours; `dentry` is null in RCU walk.
    unsafe extern "C" fn get_link(
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
    unsafe extern "C" fn listxattr(
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
    unsafe extern "C" fn get_inode_acl(
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
    unsafe extern "C" fn set_acl(
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
    unsafe extern "C" fn fiemap(
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
    unsafe extern "C" fn fileattr_get(
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
    unsafe extern "C" fn fileattr_set(
        _idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        fa: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let change = || unsafe {
            if bindings::ruaufs_helper_sets_casefold(fa.cast()) {
                // Names of ours are compared byte by byte.
                return Err(EOPNOTSUPP);
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
