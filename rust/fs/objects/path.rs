// SPDX-License-Identifier: GPL-2.0

//! Paths, mounts and what they allow.
//!
//! # Terms
//!
//! - *private mount*: a clone of a mount that is in no namespace, so that what
//!   happens to the user's mount (move, unmount, read-only bind) does not reach it.
//! - [`IdMap`]: how a mount shows owners.
//! - [`WriteAccess`]: a promise of the mount and its super block to stay writable.
//! - [`Writable`]: a path with write access to its mount. All that changes a foreign object takes
//!   one, or the two that it is made of.

use super::{
    dentry::Dentry,
    sb::Limits, //
};
use crate::bindings;
use crate::compat::errno::ESTALE;
use crate::fs::base::{
    name::CBytes,
    ret::{
        from_err_ptr,
        to_result, //
    }, //
};
use core::{
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc, //
    },
    types::Opaque, //
};

/// `struct vfsmount`.
///
/// # Invariants
///
/// Instances are refcounted by `mntget()`/`mntput()`.
#[repr(transparent)]
pub(crate) struct Mount(Opaque<bindings::vfsmount>);

// SAFETY: Mounts are shared between CPUs by design.
unsafe impl Send for Mount {}

// SAFETY: As above.
unsafe impl Sync for Mount {}

// SAFETY: `mntget()`/`mntput()` count references.
unsafe impl AlwaysRefCounted for Mount {
    fn inc_ref(&self) {
        // SAFETY: `&self` shows that there is a reference.
        unsafe { bindings::mntget(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference of its own.
        unsafe { bindings::mntput(obj.as_ptr().cast()) };
    }
}

impl Mount {
    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::vfsmount {
        self.0.get()
    }

    /// How the mount shows owners.
    pub(crate) fn idmap(&self) -> IdMap<'_> {
        // SAFETY: The mount is valid. An idmap is set before a mount is visible, or the mount is
        // private and never gets another.
        let idmap = unsafe { bindings::ruaufs_helper_mnt_idmap(self.as_ptr()) };
        IdMap(idmap, PhantomData)
    }

    /// Whether the super block is read-only right now.
    #[inline]
    pub(crate) fn sb_is_read_only(&self) -> bool {
        // SAFETY: The mount and its super block are valid; a racy read of one word, as
        // `sb_rdonly()` is.
        let flags = unsafe { (&raw const (*(*self.as_ptr()).mnt_sb).s_flags).read_volatile() };
        flags & bindings::RUAUFS_SB_RDONLY != 0
    }

    /// Whether it shows other owners than its super block has.
    pub(crate) fn is_idmapped(&self) -> bool {
        // SAFETY: The mount is valid.
        unsafe { bindings::ruaufs_helper_is_idmapped(self.as_ptr()) }
    }

    /// The super block, for comparison.
    pub(crate) fn sb_ptr(&self) -> *mut bindings::super_block {
        // SAFETY: `mnt_sb` never changes.
        unsafe { (*self.as_ptr()).mnt_sb }
    }

    /// How many file systems are stacked in the super block.
    pub(crate) fn stack_depth(&self) -> i32 {
        // SAFETY: Set when the super block was made.
        unsafe { (*self.sb_ptr()).s_stack_depth }
    }

    /// What the super block says about its files.
    pub(crate) fn limits(&self) -> Limits {
        // SAFETY: All set when the super block was made.
        unsafe {
            let sb = self.sb_ptr();
            Limits {
                max_bytes: (*sb).s_maxbytes,
                time_granularity: (*sb).s_time_gran,
                block_bits: (*sb).s_blocksize_bits,
            }
        }
    }

    /// The numbers, major and minor, of the device that the file system is on.
    pub(crate) fn device(&self) -> (u32, u32) {
        // SAFETY: Set when the super block was made.
        let dev = unsafe { (*self.sb_ptr()).s_dev };
        (
            dev >> bindings::MINORBITS,
            dev & ((1 << bindings::MINORBITS) - 1),
        )
    }

    /// The identity of the file system; zeros if it has none.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        // SAFETY: Set when the super block was made.
        unsafe { (*self.sb_ptr()).s_uuid.b }
    }

    /// The name of the file system type.
    pub(crate) fn type_name(&self) -> &CStr {
        // SAFETY: `s_type` outlives the super block, its name is a string.
        unsafe { CStr::from_char_ptr((*(*self.sb_ptr()).s_type).name) }
    }

    /// Keeps the mount writable until the guard is dropped. `EROFS` if it is not.
    ///
    /// Includes freeze protection: no data is copied while it is held
    /// (`Documentation/filesystems/locking.rst`, `sb_start_write()` does not nest).
    pub(crate) fn want_write(&self) -> Result<WriteAccess<'_>> {
        // SAFETY: The mount is valid.
        to_result(unsafe { bindings::mnt_want_write(self.as_ptr()) })?;
        // INVARIANT: Just taken.
        Ok(WriteAccess(self))
    }

    /// As [`Mount::want_write`], but `None` while the file system is frozen: for what can be done
    /// later, by who must not wait for the thaw.
    pub(crate) fn try_write(&self) -> Result<Option<WriteAccess<'_>>> {
        // SAFETY: The mount is valid.
        to_result(unsafe { bindings::mnt_get_write_access(self.as_ptr()) })?;
        // SAFETY: The mount and its super block are valid.
        if unsafe { bindings::ruaufs_helper_sb_start_write_trylock(self.sb_ptr()) } {
            // INVARIANT: These two are what `mnt_want_write()` takes.
            return Ok(Some(WriteAccess(self)));
        }
        // SAFETY: Taken above.
        unsafe { bindings::mnt_put_write_access(self.as_ptr()) };
        Ok(None)
    }

    /// Keeps mount and super block from being made read-only until the guard is dropped. Write
    /// access is still to be taken: the file system may be frozen meanwhile.
    ///
    /// # Errors
    ///
    /// `EROFS` if one of them is read-only.
    pub(crate) fn keep_writable(&self) -> Result<KeptWritable<'_>> {
        // SAFETY: The mount is valid.
        to_result(unsafe { bindings::mnt_get_write_access(self.as_ptr()) })?;
        // INVARIANT: Just taken.
        Ok(KeptWritable(self))
    }
}

/// `struct mnt_idmap` of a mount.
#[derive(Clone, Copy)]
pub(crate) struct IdMap<'a>(*mut bindings::mnt_idmap, PhantomData<&'a Mount>);

impl IdMap<'_> {
    /// # Safety
    ///
    /// `ptr` must be a valid idmap for the lifetime of the value.
    pub(crate) unsafe fn from_raw(ptr: *mut bindings::mnt_idmap) -> Self {
        IdMap(ptr, PhantomData)
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::mnt_idmap {
        self.0
    }
}

/// A write count of a mount, with freeze protection of its super block.
///
/// # Invariants
///
/// `mnt_want_write()` succeeded and was not undone.
pub(crate) struct WriteAccess<'a>(&'a Mount);

impl WriteAccess<'_> {
    /// `path`, to be changed.
    ///
    /// # Errors
    ///
    /// `EROFS` if this is write access to another mount. That of one branch is of no use for
    /// another: the other one may be read-only, or frozen.
    #[inline]
    pub(crate) fn to<'p>(&'p self, path: PathRef<'p>) -> Result<Writable<'p>> {
        if !ptr::eq(self.0, path.mount) {
            return Err(EROFS);
        }
        // INVARIANT: It is this mount.
        Ok(Writable(path))
    }
}

/// A path with write access to its mount.
///
/// # Invariants
///
/// There is a [`WriteAccess`] to the mount as long as the value lives.
#[derive(Clone, Copy)]
pub(crate) struct Writable<'a>(PathRef<'a>);

impl<'a> Writable<'a> {
    /// The dentry.
    pub(crate) fn dentry(&self) -> &'a Dentry {
        self.0.dentry
    }

    /// How the mount shows owners.
    pub(in crate::fs) fn idmap(&self) -> *mut bindings::mnt_idmap {
        self.0.mount.idmap().as_ptr()
    }

    /// The C form, valid as long as `self`.
    pub(in crate::fs) fn raw(&self) -> bindings::path {
        self.0.raw()
    }
}

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::mnt_drop_write(self.0.as_ptr()) };
    }
}

/// A write count of a mount.
///
/// # Invariants
///
/// `mnt_get_write_access()` succeeded and was not undone.
pub(crate) struct KeptWritable<'a>(&'a Mount);

impl Drop for KeptWritable<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::mnt_put_write_access(self.0.as_ptr()) };
    }
}

/// `struct path`: a dentry as seen through a mount.
///
/// Fields drop from top to bottom: the dentry must not outlive the mount.
#[derive(Clone)]
///
/// # Invariants
///
/// The dentry is positive, and of the mount's super block.
pub(crate) struct Path {
    dentry: ARef<Dentry>,
    mount: ARef<Mount>,
}

impl Path {
    /// Looks up `name`, following symbolic links, with the caller's credentials; it must be a
    /// directory.
    ///
    /// # Errors
    ///
    /// Those of a path walk: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, ...
    pub(crate) fn lookup_dir(name: &[u8]) -> Result<Path> {
        let name = CBytes::new(name)?;
        let mut path = MaybeUninit::<bindings::path>::zeroed();
        let flags = bindings::RUAUFS_LOOKUP_FOLLOW | bindings::RUAUFS_LOOKUP_DIRECTORY;
        // SAFETY: `name` is a string, `path` is valid for writes.
        to_result(unsafe { bindings::kern_path(name.as_char_ptr(), flags, path.as_mut_ptr()) })?;
        // SAFETY: `kern_path()` succeeded: both are set and the references are ours.
        Ok(unsafe { Self::from_raw(path.assume_init()) })
    }

    /// The directory that a descriptor of the caller is of.
    ///
    /// # Errors
    ///
    /// `EBADF`, `ENOTDIR`.
    pub(crate) fn of_descriptor(fd: u32) -> Result<Path> {
        let mut path = MaybeUninit::<bindings::path>::zeroed();
        // SAFETY: `path` is valid for writes.
        to_result(unsafe { bindings::ruaufs_helper_dir_of_descriptor(fd, path.as_mut_ptr()) })?;
        // SAFETY: The call succeeded: both are set and the references are ours.
        Ok(unsafe { Self::from_raw(path.assume_init()) })
    }

    /// The dentry.
    pub(crate) fn dentry(&self) -> &ARef<Dentry> {
        &self.dentry
    }

    /// The mount.
    pub(crate) fn mount(&self) -> &ARef<Mount> {
        &self.mount
    }

    /// The path, borrowed.
    pub(crate) fn here(&self) -> PathRef<'_> {
        // INVARIANT: That of `Path`.
        PathRef {
            mount: &self.mount,
            dentry: &self.dentry,
        }
    }

    /// `dentry` as seen through the same mount.
    ///
    /// # Errors
    ///
    /// As for [`PathRef::new`].
    #[inline]
    pub(crate) fn at<'a>(&'a self, dentry: &'a Dentry) -> Result<PathRef<'a>> {
        PathRef::new(&self.mount, dentry)
    }

    /// # Safety
    ///
    /// `path` must be set, and the references the caller's to give.
    unsafe fn from_raw(path: bindings::path) -> Path {
        // INVARIANT: The kernel makes no other paths.
        // SAFETY: By the caller's contract.
        unsafe {
            Path {
                mount: ARef::from_raw(NonNull::new_unchecked(path.mnt).cast()),
                dentry: ARef::from_raw(NonNull::new_unchecked(path.dentry).cast()),
            }
        }
    }

    /// The same directory through a private mount. Submounts are not cloned.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the mount cannot be cloned (for example because it is locked), `ENOMEM`.
    pub(crate) fn private(&self) -> Result<PrivatePath> {
        let raw = self.raw();
        // SAFETY: The path is valid.
        let mount = from_err_ptr(unsafe { bindings::clone_private_mount(&raw) })?;
        // SAFETY: The call succeeded, the reference is ours.
        let mount: ARef<Mount> = unsafe { ARef::from_raw(NonNull::new_unchecked(mount).cast()) };
        // INVARIANT: Just cloned.
        Ok(PrivatePath {
            path: ManuallyDrop::new(Path {
                mount,
                dentry: self.dentry.clone(),
            }),
            ended: false,
        })
    }

    /// The C form, valid as long as `self`.
    pub(in crate::fs) fn raw(&self) -> bindings::path {
        bindings::path {
            mnt: self.mount.as_ptr(),
            dentry: self.dentry.as_ptr(),
        }
    }

    /// The path as seen from the caller's root, in memory of its own.
    pub(crate) fn to_bytes(&self) -> Result<KVec<u8>> {
        const PATH_MAX: usize = bindings::PATH_MAX as usize;
        let mut buffer = KVec::with_capacity(PATH_MAX, GFP_KERNEL)?;
        buffer.resize(PATH_MAX, 0u8, GFP_KERNEL)?;
        let raw = self.raw();
        // SAFETY: The path is valid, the buffer has the given length.
        let start = from_err_ptr(unsafe {
            bindings::d_path(&raw, buffer.as_mut_ptr().cast(), PATH_MAX as c_int)
        })?;
        let mut bytes = KVec::new();
        // SAFETY: `d_path()` returns a string inside the buffer.
        bytes.extend_from_slice(unsafe { CStr::from_char_ptr(start) }.to_bytes(), GFP_KERNEL)?;
        Ok(bytes)
    }
}

/// A path through a private mount, which ends with it.
///
/// # Invariants
///
/// The mount comes from `clone_private_mount()`: a long-term mount, for which `mntput()` only
/// counts (`fs/namespace.c`), until `kern_unmount_array()` ends it. `path` is valid until `ended`
/// is set.
pub(crate) struct PrivatePath {
    path: ManuallyDrop<Path>,
    ended: bool,
}

impl PrivatePath {
    /// How many paths [`PrivatePath::end_all`] takes.
    pub(crate) const BATCH: usize = 32;

    /// Gives up `paths`. The mounts of those that nobody else holds end together: the kernel
    /// waits once for all that still look at them.
    pub(crate) fn end_all(paths: [Option<Arc<Self>>; Self::BATCH]) {
        let mut mounts = [ptr::null_mut(); Self::BATCH];
        let mut count = 0;
        let last = paths.into_iter().flatten();
        let last = last.filter_map(Arc::into_unique_or_drop);
        for (place, mut path) in mounts.iter_mut().zip(last) {
            // SAFETY: Its memory goes at the end of this turn.
            *place = unsafe { path.give_up() };
            count += 1;
        }
        if count > 0 {
            // SAFETY: By the type invariant; the references are given up.
            unsafe { bindings::kern_unmount_array(mounts.as_mut_ptr(), count) };
        }
    }

    /// Puts the dentry, which must not outlive its super block's last mount, and hands the mount
    /// to the caller, who ends it.
    ///
    /// # Safety
    ///
    /// The path is only dropped after this.
    unsafe fn give_up(&mut self) -> *mut bindings::vfsmount {
        self.ended = true;
        // SAFETY: By the type invariant it was valid; by the caller it is not used again.
        let Path { mount, dentry } = unsafe { ManuallyDrop::take(&mut self.path) };
        drop(dentry);
        ARef::into_raw(mount).as_ptr().cast()
    }
}

impl Deref for PrivatePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivatePath {
    #[inline(never)]
    fn drop(&mut self) {
        if !self.ended {
            // SAFETY: It is being dropped.
            let mut mounts = [unsafe { self.give_up() }];
            // SAFETY: By the type invariant; the reference is given up. Of the calls that end
            // such a mount this one waits for an expedited grace period only.
            unsafe { bindings::kern_unmount_array(mounts.as_mut_ptr(), 1) };
        }
    }
}

/// A dentry as seen through a mount, borrowed.
///
/// # Invariants
///
/// The dentry is positive, and of the mount's super block.
#[derive(Clone, Copy)]
pub(crate) struct PathRef<'a> {
    mount: &'a Mount,
    dentry: &'a Dentry,
}

impl<'a> PathRef<'a> {
    /// `dentry` as seen through `mount`.
    ///
    /// # Errors
    ///
    /// `ESTALE` if it is of another super block, or negative.
    #[inline]
    pub(crate) fn new(mount: &'a Mount, dentry: &'a Dentry) -> Result<Self> {
        if !ptr::eq(mount.sb_ptr(), dentry.sb_ptr()) || dentry.is_negative() {
            return Err(ESTALE.into());
        }
        // INVARIANT: Just compared; neither ever changes. A positive dentry stays so, see
        // `Dentry::inode()`.
        Ok(PathRef { mount, dentry })
    }

    /// The mount.
    pub(crate) fn mount(&self) -> &'a Mount {
        self.mount
    }

    /// The dentry.
    pub(crate) fn dentry(&self) -> &'a Dentry {
        self.dentry
    }

    /// `dentry` as seen through the same mount.
    ///
    /// # Errors
    ///
    /// As for [`PathRef::new`].
    pub(crate) fn at(&self, dentry: &'a Dentry) -> Result<Self> {
        Self::new(self.mount, dentry)
    }

    /// An owned copy.
    pub(crate) fn to_owned(self) -> Path {
        // INVARIANT: That of `PathRef`.
        Path {
            dentry: self.dentry.into(),
            mount: self.mount.into(),
        }
    }

    /// The C form, valid as long as `self`.
    pub(in crate::fs) fn raw(&self) -> bindings::path {
        bindings::path {
            mnt: self.mount.as_ptr(),
            dentry: self.dentry.as_ptr(),
        }
    }
}
