// SPDX-License-Identifier: GPL-2.0

//! Attributes: reading them, changing them.

use super::dirop::LockedDir;
use crate::bindings;
use crate::fs::{
    base::ret::to_result,
    objects::{
        dentry::Dentry,
        inode::{
            Inode,
            Lifted, //
        },
        path::{
            IdMap,
            PathRef,
            Writable, //
        },
        time::ChangeTime, //
    },
    types::FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::prelude::*;

/// `struct kstat` that a getattr callback fills.
///
/// # Invariants
///
/// The pointer is valid for `'a`.
pub(crate) struct Stat<'a> {
    stat: *mut bindings::kstat,
    request: u32,
    flags: u32,
    _p: PhantomData<&'a mut ()>,
}

/// A helper that fills in what stat(2) shows: path, `kstat`, request, flags, inode and ID map.
type Getattr = unsafe extern "C" fn(
    *const bindings::path,
    *mut bindings::kstat,
    u32,
    c_uint,
    *mut bindings::inode,
    *mut bindings::mnt_idmap,
) -> c_int;

impl Stat<'_> {
    /// # Safety
    ///
    /// `stat` must be valid for the lifetime of the value and used by nobody else.
    pub(in crate::fs) unsafe fn from_raw(
        stat: *mut bindings::kstat,
        request: u32,
        flags: u32,
    ) -> Self {
        Stat {
            stat,
            request,
            flags,
            _p: PhantomData,
        }
    }

    /// Whether nothing is asked for beyond what stat(2) knows.
    #[inline]
    pub(crate) fn is_basic(&self) -> bool {
        self.request & !bindings::STATX_BASIC_STATS == 0
    }

    /// Fills in what our inode knows.
    pub(crate) fn fill<T: FileSystem>(&mut self, inode: &Inode<T>, idmap: IdMap<'_>) {
        // SAFETY: By the type invariant; `inode` and `idmap` are valid.
        unsafe {
            bindings::generic_fillattr(idmap.as_ptr(), self.request, inode.as_ptr(), self.stat);
            bindings::generic_fill_statx_attr(inode.as_ptr(), self.stat);
        }
    }

    /// Takes over the times of the foreign inode `from`, which our inode copied, as seen: its next
    /// change gets a time of its own.
    pub(crate) fn mark_times(&mut self, from: &Inode) {
        // SAFETY: By the type invariant; `from` is valid.
        unsafe {
            bindings::ruaufs_helper_fill_mgtime(self.stat, self.request, from.as_ptr());
        }
    }

    /// Shows the change time that `f` makes of the one that was filled in.
    pub(crate) fn show_change_time(&mut self, f: impl FnOnce(ChangeTime) -> ChangeTime) {
        // SAFETY: By the type invariant.
        let ctime = unsafe { &mut (*self.stat).ctime };
        let shown = f(ChangeTime {
            seconds: ctime.tv_sec,
            // CAST: Less than a second.
            nanoseconds: ctime.tv_nsec as u32,
        });
        ctime.tv_sec = shown.seconds;
        // CAST: Less than a second.
        ctime.tv_nsec = shown.nanoseconds as c_long;
    }

    /// As [`Stat::fill_from`], for what is no block device.
    #[inline]
    pub(in crate::fs) fn fill_plain<T: FileSystem>(
        mut self,
        path: PathRef<'_>,
        inode: &Inode<T>,
        idmap: IdMap<'_>,
    ) -> Result {
        self.ask(bindings::ruaufs_helper_getattr_plain, path, inode, idmap)
    }

    /// Fills in what the foreign file system says of `path`, then puts what is ours over it:
    /// device, number, link count and owner of `inode`.
    pub(crate) fn fill_from<T: FileSystem>(
        &mut self,
        path: PathRef<'_>,
        inode: &Inode<T>,
        idmap: IdMap<'_>,
    ) -> Result {
        self.ask(bindings::ruaufs_helper_getattr, path, inode, idmap)
    }

    #[inline(always)] // The helper is known where it is called.
    fn ask<T: FileSystem>(
        &mut self,
        helper: Getattr,
        path: PathRef<'_>,
        inode: &Inode<T>,
        idmap: IdMap<'_>,
    ) -> Result {
        let raw = path.raw();
        // SAFETY: By the type invariant; all others are valid. The LSM was asked about our inode.
        let ret = unsafe {
            helper(
                &raw,
                self.stat.cast(),
                self.request,
                self.flags,
                inode.as_ptr(),
                idmap.as_ptr(),
            )
        };
        match ret {
            0 => Ok(()),
            error => to_result(error),
        }
    }
}

/// The device that stat(2) shows for `path`, which differs between objects of some file systems.
pub(crate) fn device(path: PathRef<'_>) -> Result<u32> {
    path.dentry().positive()?;
    let raw = path.raw();
    let mut device = 0;
    // SAFETY: The path is valid; its dentry, to which there is a reference, is not negative and so
    // never becomes it.
    to_result(unsafe { bindings::ruaufs_helper_device(&raw, &mut device) })?;
    Ok(device)
}

/// Sees that what is cached of the foreign object at `path` is what its file system says.
pub(crate) fn sync(path: PathRef<'_>) -> Result {
    path.dentry().positive()?;
    // SAFETY: As above.
    to_result(unsafe { bindings::ruaufs_helper_sync_attr(&path.raw()) })
}

/// `struct iattr`: a change of attributes.
#[derive(Clone)]
pub(crate) struct Change(bindings::iattr);

impl Change {
    /// A change of nothing.
    #[inline(never)]
    pub(crate) fn new() -> Self {
        Change(pin_init::zeroed())
    }

    /// Sets the permission bits.
    pub(crate) fn mode(mut self, mode: u16) -> Self {
        self.0.ia_valid |= bindings::ATTR_MODE;
        self.0.ia_mode = mode;
        self
    }

    /// Sets the size.
    pub(crate) fn size(mut self, size: i64) -> Self {
        self.0.ia_valid |= bindings::ATTR_SIZE;
        self.0.ia_size = size;
        self
    }

    /// Sets the owner to that of `inode`, as seen through the mount of `idmap`.
    pub(crate) fn owner_of(mut self, inode: &Inode, idmap: IdMap<'_>) -> Self {
        // SAFETY: All are valid.
        unsafe {
            bindings::ruaufs_helper_set_owner(&mut self.0, inode.as_ptr(), idmap.as_ptr());
        }
        self
    }

    /// Sets access and modification time to those of `inode`.
    pub(crate) fn times_of(mut self, inode: &Inode) -> Self {
        // SAFETY: All are valid.
        unsafe { bindings::ruaufs_helper_set_times(&mut self.0, inode.as_ptr()) };
        self
    }

    /// Sets modification and change time to now.
    pub(crate) fn modified(mut self) -> Self {
        self.0.ia_valid |= bindings::ATTR_MTIME | bindings::ATTR_CTIME;
        self
    }

    /// Sets the change time to now.
    pub(crate) fn changed(mut self) -> Self {
        self.0.ia_valid |= bindings::ATTR_CTIME;
        self
    }

    /// Applies the change to a foreign object. Its `i_rwsem` is taken here.
    #[inline(never)]
    pub(crate) fn apply(self, path: Writable<'_>) -> Result {
        let inode = path.dentry().positive()?;
        let _locked = inode.lock();
        self.notify(path, inode)
    }

    /// As [`Change::apply`], also to an object whose flags forbid changes.
    pub(crate) fn apply_regardless(self, path: Writable<'_>) -> Result {
        let inode = path.dentry().positive()?;
        let _locked = inode.lock();
        // SAFETY: The inode stays locked until `_locked` is dropped, which comes after this.
        let _lifted = unsafe { Lifted::new(NonNull::from(inode).cast()) };
        self.notify(path, inode)
    }

    /// As [`Change::apply_regardless`], to a directory that is locked.
    pub(crate) fn apply_locked(self, dir: &LockedDir<'_>) -> Result {
        let inode = dir.0.dentry().positive()?;
        // SAFETY: By its invariant the directory stays locked as long as `dir` is borrowed.
        let _lifted = unsafe { Lifted::new(NonNull::from(inode).cast()) };
        self.notify(dir.0, inode)
    }

    /// `inode`, that of `path`, is locked.
    fn notify(mut self, path: Writable<'_>, inode: &Inode) -> Result {
        // The mode of an object includes its type, and file systems store what they are given.
        let kind = inode.mode() & bindings::S_IFMT as u16;
        self.0.ia_mode = kind | (self.0.ia_mode & !(bindings::S_IFMT as u16));
        // SAFETY: All are valid, the inode is locked; no delegation is waited for.
        to_result(unsafe {
            bindings::notify_change(
                path.idmap(),
                path.dentry().as_ptr(),
                &mut self.0,
                core::ptr::null_mut(),
            )
        })
    }
}

/// Copies the flags that bind users (append-only, immutable, ...) from one foreign object to
/// another, as far as their file systems know them.
pub(crate) fn copy_flags(from: PathRef<'_>, to: Writable<'_>) -> Result {
    // SAFETY: Both paths are valid.
    to_result(unsafe { bindings::ruaufs_helper_copy_fileattr(&from.raw(), &to.raw()) })
}

/// Takes the flags that forbid changes (append-only, immutable) away from a foreign object.
pub(crate) fn unbind(path: Writable<'_>) -> Result {
    path.dentry().positive()?;
    // SAFETY: The path is valid; its dentry, to which there is a reference, is not negative and so
    // never becomes it.
    to_result(unsafe { bindings::ruaufs_helper_unbind(&path.raw()) })
}

/// `struct iattr` as a setattr callback gets it.
pub(crate) struct Request<'a>(&'a mut bindings::iattr);

impl Request<'_> {
    /// # Safety
    ///
    /// `attr` must be valid for the lifetime of the value and used by nobody else.
    pub(in crate::fs) unsafe fn from_raw(attr: *mut bindings::iattr) -> Self {
        // SAFETY: By the caller's contract.
        Request(unsafe { &mut *attr })
    }

    /// Checks whether the caller may do it, from the attributes of our inode.
    pub(crate) fn prepare<T: FileSystem>(
        &mut self,
        dentry: &Dentry<T>,
        idmap: IdMap<'_>,
    ) -> Result {
        // SAFETY: All are valid; the VFS holds the inode locked.
        to_result(unsafe {
            bindings::setattr_prepare(idmap.as_ptr(), dentry.as_ptr(), &mut *self.0)
        })
    }

    /// The new size, if the size is changed.
    pub(crate) fn size(&self) -> Option<i64> {
        (self.0.ia_valid & bindings::ATTR_SIZE != 0).then_some(self.0.ia_size)
    }

    /// Whether it changes more of `inode`, whose instance is `from`, than the change time. To be
    /// asked after [`Request::prepare`].
    pub(crate) fn changes<T: FileSystem>(
        &self,
        inode: &Inode<T>,
        from: &Inode,
        idmap: IdMap<'_>,
    ) -> bool {
        // SAFETY: All are valid.
        unsafe {
            bindings::ruaufs_helper_changes_attr(
                idmap.as_ptr(),
                inode.as_ptr(),
                from.as_ptr(),
                &raw const *self.0,
            )
        }
    }

    /// Whether the permission bits are changed.
    pub(crate) fn changes_mode(&self) -> bool {
        self.0.ia_valid & bindings::ATTR_MODE != 0
    }

    /// The same change for a foreign object: owners as the file system sees them, without what
    /// belongs to our file.
    pub(crate) fn for_branch<T: FileSystem>(&self, inode: &Inode<T>, idmap: IdMap<'_>) -> Change {
        let mut attr = *self.0;
        // SAFETY: All are valid.
        unsafe {
            bindings::ruaufs_helper_rebase_owner(idmap.as_ptr(), inode.as_ptr(), &mut attr);
        }
        // `notify_change()` computes the mode again from these; both at once are refused.
        if attr.ia_valid & (bindings::ATTR_KILL_SUID | bindings::ATTR_KILL_SGID) != 0 {
            attr.ia_valid &= !bindings::ATTR_MODE;
        }
        // The file is ours, not the branch's, and so was the open that truncates.
        attr.ia_valid &= !(bindings::ATTR_FILE | bindings::ATTR_OPEN);
        attr.ia_file = core::ptr::null_mut();
        Change(attr)
    }
}
