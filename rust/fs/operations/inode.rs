// SPDX-License-Identifier: GPL-2.0

//! Inodes: looking names up, making, removing and moving them, attributes.

use super::dentry;
use crate::bindings;
use crate::fs::{
    access::{
        acl,
        attr,
        backing::OpenFile,
        xattr::Setting, //
    },
    objects::{
        dentry::Dentry,
        entry::Entry,
        file,
        inode::{
            Inode,
            Kind, //
        },
        path::{
            IdMap,
            PathRef,
            Writable, //
        },
        section::Section, //
    }, //
};
use core::{
    cell::Cell,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef,
    time::{
        Instant,
        Monotonic, //
    }, //
};

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
    pub(in crate::fs) fn kind(self) -> Kind {
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
    pub(in crate::fs) old: &'a Dentry<T>,
    pub(in crate::fs) new: &'a Dentry<T>,
    pub(in crate::fs) exchange: bool,
    pub(in crate::fs) moved: &'a Cell<bool>,
    /// When the first try began, if somebody asked.
    pub(in crate::fs) begun: &'a Cell<Option<Instant<Monotonic>>>,
}

impl<T: crate::fs::types::FileSystem> MoveNames<'_, T> {
    /// When the rename began: the first try, if a change of the shape overtook others.
    pub(crate) fn begun(&self) -> Instant<Monotonic> {
        let begun = self.begun.get().unwrap_or_else(Instant::now);
        self.begun.set(Some(begun));
        begun
    }

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
pub(crate) struct Tie<'a, T: crate::fs::types::FileSystem> {
    pub(in crate::fs) dentry: &'a Dentry<T>,
    /// What the VFS is to be told.
    pub(in crate::fs) tied: &'a Cell<Option<*mut bindings::dentry>>,
}

/// Proof that the name of a look-up was tied.
pub(crate) struct Tied(());

impl<T: crate::fs::types::FileSystem> Tie<'_, T> {
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
        file: &file::File<Self>,
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

    /// Sets or removes an extended attribute. `idmap` is that of the caller's mount. For names that
    /// begin with `system.` the VFS asks nobody whether the caller may (`xattr_permission()`).
    fn set_xattr(
        section: Section<'_, Self>,
        dentry: &Dentry<Self>,
        name: &CStr,
        setting: Setting<'_>,
        idmap: IdMap<'_>,
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
