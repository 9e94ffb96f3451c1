// SPDX-License-Identifier: GPL-2.0

//! Changing a directory of a foreign file system: the only way to do it.
//!
//! Each guard stands for one locked look-up in a directory (`start_creating()`,
//! `start_removing()`, `start_renaming()`), and its methods consume it, so that
//! at most one change is made under one lock. All of them act with the
//! credentials in force and need [`WriteAccess`] to the mount of the directory: with that of
//! another one they fail with `EROFS`.
//!
//! The methods `..._regardless` are for names that the union makes or removes for itself: to its
//! user the directory stays as it is, so flags that forbid changes do not count.
//!
//! # Locking
//!
//! A guard holds the `i_rwsem` of one or two directories of one foreign file
//! system. At most one guard is alive in a task; nothing is allocated in a loop
//! and nothing is promoted while it is.

use crate::bindings;
use crate::compat::errno::{
    ENAMETOOLONG,
    ESTALE, //
};
use crate::fs::{
    base::{
        name,
        ret::{
            from_err_ptr,
            to_result, //
        }, //
    },
    objects::{
        dentry::{
            Dentry,
            Dir, //
        },
        inode::{
            Inode,
            Lifted, //
        },
        path::{
            PathRef,
            Writable,
            WriteAccess, //
        }, //
    }, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

/// A directory of a foreign file system, locked as long as the value lives: an operation that has
/// made its change lends it.
///
/// # Invariants
///
/// The directory is positive, and this task holds its `i_rwsem` exclusively.
pub(crate) struct LockedDir<'a>(pub(in crate::fs) Writable<'a>);

/// A locked directory and one name in it.
///
/// # Invariants
///
/// `child` is what `start_creating()` or `start_removing()` returned, not ended yet.
struct DirOp<'a> {
    parent: Writable<'a>,
    child: NonNull<bindings::dentry>,
    _p: NotThreadSafe,
}

impl<'a> DirOp<'a> {
    /// # Safety
    ///
    /// `start` must lock `parent` and give a dentry for `end_dirop()`.
    unsafe fn start(
        parent: Writable<'a>,
        name: &[u8],
        start: unsafe extern "C" fn(
            *mut bindings::dentry,
            *mut bindings::qstr,
        ) -> *mut bindings::dentry,
    ) -> Result<Self> {
        // ENOTDIR: the call looks the name up.
        parent.dentry().dir()?;
        let mut qstr = name::qstr(name);
        // SAFETY: The parent is such a directory, the name outlives the call.
        let child = from_err_ptr(unsafe { start(parent.dentry().as_ptr(), &mut qstr) })?;
        // INVARIANT: The call succeeded.
        Ok(DirOp {
            parent,
            // SAFETY: The call never returns null.
            child: unsafe { NonNull::new_unchecked(child) },
            _p: NotThreadSafe,
        })
    }

    fn child(&self) -> &Dentry {
        // SAFETY: By the type invariant there is a reference.
        unsafe { Dentry::from_raw(self.child.as_ptr()) }
    }

    fn idmap(&self) -> *mut bindings::mnt_idmap {
        self.parent.idmap()
    }

    fn dir(&self) -> *mut bindings::inode {
        inode_of(self.parent)
    }
}

/// The inode of a locked directory, which is positive.
fn inode_of(dir: Writable<'_>) -> *mut bindings::inode {
    // SAFETY: The dentry is valid.
    unsafe { (*dir.dentry().as_ptr()).d_inode }
}

/// Lifts the flags of a directory.
///
/// # Safety
///
/// As [`Lifted::new`].
unsafe fn lift(dir: *mut bindings::inode) -> Option<Lifted> {
    // SAFETY: By the caller's contract.
    NonNull::new(dir).and_then(|dir| unsafe { Lifted::new(dir) })
}

impl Drop for DirOp<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::end_dirop(self.child.as_ptr()) };
    }
}

/// A locked directory and a name to be made in it.
pub(crate) struct Creating<'a>(DirOp<'a>);

impl<'a> Creating<'a> {
    /// Locks the directory `parent` and looks `name` up.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is there, `ENOTDIR` if there can be none, `ENAMETOOLONG`, `ENOENT` if
    /// the directory was removed, and what the look-up gives.
    pub(crate) fn new(
        parent: PathRef<'a>,
        name: &[u8],
        write: &'a WriteAccess<'_>,
    ) -> Result<Self> {
        let parent = write.to(parent)?;
        // SAFETY: `start_creating_noperm()` is such a function.
        let op = unsafe { DirOp::start(parent, name, bindings::start_creating_noperm) }?;
        if !op.child().is_negative() {
            return Err(EEXIST);
        }
        Ok(Creating(op))
    }

    /// The new dentry. `EIO` if the file system left it negative.
    fn done(&self) -> Result<ARef<Dentry>> {
        let child = self.0.child();
        if child.is_negative() {
            return Err(EIO);
        }
        Ok(child.into())
    }

    /// Makes a regular file.
    pub(crate) fn create(self, mode: u16) -> Result<ARef<Dentry>> {
        // SAFETY: The child is negative, its parent is locked.
        to_result(unsafe {
            bindings::vfs_create(self.0.idmap(), self.0.child.as_ptr(), mode, ptr::null_mut())
        })?;
        self.done()
    }

    /// Makes a directory.
    pub(crate) fn mkdir(mut self, mode: u16) -> Result<ARef<Dentry>> {
        // SAFETY: The child is negative, its parent is locked. The call takes the child and gives
        // another or the same; on error it has unlocked and dropped it.
        let child = unsafe {
            bindings::vfs_mkdir(
                self.0.idmap(),
                self.0.dir(),
                self.0.child.as_ptr(),
                mode,
                ptr::null_mut(),
            )
        };
        match from_err_ptr(child) {
            Ok(child) => {
                // INVARIANT: The lock and the reference went over to this dentry.
                // SAFETY: The call never returns null.
                self.0.child = unsafe { NonNull::new_unchecked(child) };
                self.done()
            }
            Err(error) => {
                // `end_dirop()` was called already.
                core::mem::forget(self);
                Err(error)
            }
        }
    }

    /// Makes a device node, named pipe or socket.
    pub(crate) fn mknod(self, mode: u16, rdev: u32) -> Result<ARef<Dentry>> {
        // SAFETY: The child is negative, its parent is locked.
        to_result(unsafe {
            bindings::vfs_mknod(
                self.0.idmap(),
                self.0.dir(),
                self.0.child.as_ptr(),
                mode,
                rdev,
                ptr::null_mut(),
            )
        })?;
        self.done()
    }

    /// Makes a symbolic link to `target`.
    pub(crate) fn symlink(self, target: &CStr) -> Result<ARef<Dentry>> {
        // SAFETY: The child is negative, its parent is locked, `target` is a string.
        to_result(unsafe {
            bindings::vfs_symlink(
                self.0.idmap(),
                self.0.dir(),
                self.0.child.as_ptr(),
                target.as_char_ptr(),
                ptr::null_mut(),
            )
        })?;
        self.done()
    }

    /// Makes another name for `old`, of the same file system.
    pub(crate) fn link(self, old: &Dentry) -> Result<ARef<Dentry>> {
        self.make_link(old)
    }

    /// As [`Creating::link`], also in a directory that is immutable. Before anybody else changes
    /// that, `then` is called.
    pub(crate) fn link_regardless(
        self,
        old: &Dentry,
        then: impl FnOnce(&LockedDir<'_>),
    ) -> Result<ARef<Dentry>> {
        // SAFETY: The directory stays locked until `self` is dropped, which comes after this.
        let _lifted = unsafe { lift(self.0.dir()) };
        let new = self.make_link(old)?;
        // INVARIANT: Unlocked when `self` is dropped.
        then(&LockedDir(self.0.parent));
        Ok(new)
    }

    fn make_link(&self, old: &Dentry) -> Result<ARef<Dentry>> {
        // SAFETY: The child is negative, its parent is locked, `old` is valid.
        to_result(unsafe {
            bindings::vfs_link(
                old.as_ptr(),
                self.0.idmap(),
                self.0.dir(),
                self.0.child.as_ptr(),
                ptr::null_mut(),
            )
        })?;
        self.done()
    }
}

/// A locked directory and a name to be removed from it.
pub(crate) struct Removing<'a>(DirOp<'a>);

impl<'a> Removing<'a> {
    /// Locks the directory `parent` and looks `name` up.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the name is not there, `ENOTDIR` if there can be none, and what the look-up
    /// gives.
    #[inline(never)]
    pub(crate) fn new(
        parent: PathRef<'a>,
        name: &[u8],
        write: &'a WriteAccess<'_>,
    ) -> Result<Self> {
        let parent = write.to(parent)?;
        // SAFETY: `start_removing_noperm()` is such a function.
        unsafe { DirOp::start(parent, name, bindings::start_removing_noperm) }.map(Removing)
    }

    /// What the name leads to.
    pub(crate) fn child(&self) -> &Dentry {
        self.0.child()
    }

    /// Removes a non-directory.
    pub(crate) fn unlink(self) -> Result {
        self.remove_file()
    }

    /// As [`Removing::unlink`]. Before anybody else changes the directory, `then` is called.
    pub(crate) fn unlink_then(self, then: impl FnOnce(&LockedDir<'_>)) -> Result {
        self.remove_file()?;
        // INVARIANT: Unlocked when `self` is dropped.
        then(&LockedDir(self.0.parent));
        Ok(())
    }

    /// As [`Removing::unlink`], also from a directory that is append-only or immutable.
    pub(crate) fn unlink_regardless(self) -> Result {
        // SAFETY: The directory stays locked until `self` is dropped, which comes after this.
        let _lifted = unsafe { lift(self.0.dir()) };
        self.remove_file()
    }

    fn remove_file(&self) -> Result {
        // SAFETY: The child is positive, its parent is locked.
        to_result(unsafe {
            bindings::vfs_unlink(
                self.0.idmap(),
                self.0.dir(),
                self.0.child.as_ptr(),
                ptr::null_mut(),
            )
        })
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(self) -> Result {
        // SAFETY: The child is positive, its parent is locked.
        to_result(unsafe {
            bindings::vfs_rmdir(
                self.0.idmap(),
                self.0.dir(),
                self.0.child.as_ptr(),
                ptr::null_mut(),
            )
        })
    }
}

/// Two locked directories of one mount, and a name in each.
///
/// # Invariants
///
/// `rd` is what `start_renaming()` filled, not ended yet.
pub(crate) struct Renaming<'a> {
    rd: bindings::renamedata,
    parents: [Writable<'a>; 2],
    _p: NotThreadSafe,
}

impl<'a> Renaming<'a> {
    /// Locks both directories and looks the names up. `flags` are those of renameat2(2).
    ///
    /// # Errors
    ///
    /// `ENOENT` if the old name is not there, `EROFS` for two mounts, `EINVAL` and `ENOTEMPTY` if
    /// one lies below the other, and what the look-ups give.
    pub(crate) fn new(
        from: (PathRef<'a>, &[u8]),
        to: (PathRef<'a>, &[u8]),
        flags: u32,
        write: &'a WriteAccess<'_>,
    ) -> Result<Self> {
        let parents = [write.to(from.0)?, write.to(to.0)?];
        for parent in &parents {
            parent.dentry().dir()?;
        }
        let mut rd: bindings::renamedata = pin_init::zeroed();
        rd.mnt_idmap = parents[0].idmap();
        rd.old_parent = parents[0].dentry().as_ptr();
        rd.new_parent = parents[1].dentry().as_ptr();
        rd.flags = flags;
        let (mut old, mut new) = (name::qstr(from.1), name::qstr(to.1));
        // SAFETY: Both are directories that names can be looked up in, of one mount; the names
        // outlive the call.
        to_result(unsafe { bindings::start_renaming(&mut rd, 0, &mut old, &mut new) })?;
        // INVARIANT: The call succeeded.
        Ok(Renaming {
            rd,
            parents,
            _p: NotThreadSafe,
        })
    }

    /// What the old name leads to.
    pub(crate) fn source(&self) -> &Dentry {
        // SAFETY: By the type invariant there is a reference.
        unsafe { Dentry::from_raw(self.rd.old_dentry) }
    }

    /// The same, if the old name leads to `inode`.
    ///
    /// # Errors
    ///
    /// `ESTALE` if somebody has put something else there.
    pub(crate) fn of(self, inode: &Inode) -> Result<Self> {
        if same_inode(self.source(), inode) {
            Ok(self)
        } else {
            Err(ESTALE.into())
        }
    }

    /// What the new name leads to; it may be negative.
    pub(crate) fn target(&self) -> &Dentry {
        // SAFETY: By the type invariant there is a reference.
        unsafe { Dentry::from_raw(self.rd.new_dentry) }
    }

    /// Renames, and gives the dentry that was the source.
    pub(crate) fn commit(mut self) -> Result<ARef<Dentry>> {
        self.rename()
    }

    /// As [`Renaming::commit`], also if the new directory is immutable. Before anybody else changes
    /// that, `then` is called.
    pub(crate) fn commit_regardless(
        mut self,
        then: impl FnOnce(&LockedDir<'_>),
    ) -> Result<ARef<Dentry>> {
        // SAFETY: The directory stays locked until `self` is dropped, which comes after this.
        let _lifted = unsafe { lift(inode_of(self.parents[1])) };
        let moved = self.rename()?;
        // INVARIANT: Unlocked when `self` is dropped.
        then(&LockedDir(self.parents[1]));
        Ok(moved)
    }

    fn rename(&mut self) -> Result<ARef<Dentry>> {
        // That the target is absent was seen under the lock; not all file systems know the flag.
        self.rd.flags &= !bindings::RENAME_NOREPLACE;
        // SAFETY: By the type invariant everything is locked.
        to_result(unsafe { bindings::vfs_rename(&mut self.rd) })?;
        Ok(self.source().into())
    }
}

impl Drop for Renaming<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::end_renaming(&mut self.rd) };
    }
}

/// Looks `name` up in a foreign directory, without a lock held.
///
/// Gives a positive or negative dentry. Names that are too long for the file system are absent:
/// the answer is `None`.
///
/// # Errors
///
/// What the file system gives: `EIO`, `ESTALE`, `EACCES`, `ENOMEM`, ...
pub(crate) fn lookup(dir: Dir<'_>, name: &[u8]) -> Result<Option<ARef<Dentry>>> {
    let mut qstr = name::qstr(name);
    // SAFETY: `dir` is a directory that names can be looked up in, the name outlives the call.
    let dentry = unsafe { bindings::lookup_noperm_unlocked(&mut qstr, dir.dentry().as_ptr()) };
    match from_err_ptr(dentry) {
        // SAFETY: Never null; the reference is ours.
        Ok(dentry) => Ok(Some(unsafe {
            ARef::from_raw(NonNull::new_unchecked(dentry).cast())
        })),
        Err(error) if error == ENAMETOOLONG => Ok(None),
        Err(error) => Err(error),
    }
}

/// Like [`lookup`], but `None` for a negative dentry, too.
#[inline(never)]
pub(crate) fn lookup_positive(dir: Dir<'_>, name: &[u8]) -> Result<Option<ARef<Dentry>>> {
    Ok(lookup(dir, name)?.filter(|dentry| !dentry.is_negative()))
}

/// Whether both lead to the same inode.
pub(crate) fn same_inode(a: &Dentry, b: &Inode) -> bool {
    a.inode().is_some_and(|inode| ptr::eq(inode, b))
}
