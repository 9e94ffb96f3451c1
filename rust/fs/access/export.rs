// SPDX-License-Identifier: GPL-2.0

//! File handles of foreign objects, and finding our objects that are in memory.

use crate::bindings;
use crate::compat::errno::{
    EOPNOTSUPP,
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
        dentry::Dentry,
        inode::Inode,
        ours::Candidate,
        path::PathRef,
        sb::SuperBlock, //
    },
    types::{
        FileSystem,
        Foreign, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// The type of a handle of ours: aufs's, though what is in it differs.
pub(in crate::fs) const TYPE: u8 = 99;
/// The same with the handle of the directory behind it.
pub(in crate::fs) const TYPE_WITH_PARENT: u8 = 100;

/// The handle that a foreign file system gives `inode`, written to `words`: its type and length.
///
/// # Errors
///
/// `EOPNOTSUPP` if the file system has no handles that it can resolve, `EOVERFLOW` if `words` is
/// too short.
pub(crate) fn encode(inode: &Inode, words: &mut [u32]) -> Result<(u8, usize)> {
    let mut len = c_int::try_from(words.len())?;
    // SAFETY: The inode is valid, the buffer has `len` words.
    let kind = unsafe {
        bindings::exportfs_encode_inode_fh(
            inode.as_ptr(),
            words.as_mut_ptr().cast(),
            &mut len,
            core::ptr::null_mut(),
            0,
        )
    };
    // FILEID_ROOT is 0 and stands for no handle here.
    match u8::try_from(kind) {
        Ok(0 | bindings::RUAUFS_FILEID_INVALID) => Err(EOVERFLOW),
        Ok(kind) => Ok((kind, usize::try_from(len)?.min(words.len()))),
        Err(_) => Err(EOPNOTSUPP.into()),
    }
}

/// Finds the foreign object that a handle of type `kind` stands for, with the credentials in force.
/// A directory is below the directory `root`. Where a non-directory is, and whether the root leads
/// to it, the file system need not know: the caller finds out. Nothing but the object itself, and
/// the directories that lead to a directory, are looked up for it.
///
/// # Errors
///
/// `ESTALE` if it is gone, or a directory elsewhere.
pub(crate) fn decode(root: PathRef<'_>, kind: u8, words: &[u32]) -> Result<ARef<Dentry>> {
    /// # Safety
    ///
    /// Called by `exportfs_decode_fh_raw()` with our context and a positive dentry.
    unsafe extern "C" fn acceptable(root: *mut c_void, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the contract.
        let dentry: &Dentry = unsafe { Dentry::from_raw(dentry) };
        if !dentry.is_dir() {
            // At once: the directory that a forged handle may name is not searched.
            return 1;
        }
        // SAFETY: By the contract; the root outlives the call.
        let below = dentry.is_below(unsafe { Dentry::<Foreign>::from_raw(root.cast()) });
        // The root of a file system is never hashed.
        c_int::from(below && (!dentry.is_unhashed() || dentry.is_root()))
    }

    let len = c_int::try_from(words.len())?;
    // SAFETY: The mount is valid; the callback fits its context, which outlives the call. File
    // systems only read the words, whose number they check.
    let dentry = unsafe {
        bindings::exportfs_decode_fh_raw(
            root.mount().as_ptr(),
            words.as_ptr().cast_mut().cast(),
            len,
            c_int::from(kind),
            0,
            Some(acceptable),
            root.dentry().as_ptr().cast(),
        )
    };
    let dentry = from_err_ptr(dentry).map_err(|error| {
        if error == ENOMEM {
            error
        } else {
            ESTALE.into()
        }
    })?;
    let dentry = NonNull::new(dentry).ok_or(ESTALE)?;
    // SAFETY: The reference that the call returned is ours.
    Ok(unsafe { ARef::from_raw(dentry.cast()) })
}

impl Inode {
    /// Names of a foreign object that are in the cache, some if there are many. Not those that lead
    /// to no directory.
    pub(crate) fn names(&self) -> Result<KVec<ARef<Dentry>>> {
        const MOST: usize = 32;
        let mut names = KVec::with_capacity(MOST, GFP_KERNEL)?;
        let mut found = [core::ptr::null_mut(); MOST];
        // SAFETY: The inode is valid, the array has room for that many.
        let count = unsafe {
            bindings::ruaufs_helper_names(self.as_ptr(), found.as_mut_ptr(), MOST as c_int)
        };
        for name in found.into_iter().take(usize::try_from(count)?) {
            // SAFETY: The helper filled it with a reference, which is ours.
            let name = unsafe { ARef::from_raw(NonNull::new_unchecked(name).cast()) };
            names.push_within_capacity(name)?;
        }
        Ok(names)
    }
}

/// Brings the attributes of a foreign object to disk.
pub(crate) fn commit(inode: &Inode) -> Result {
    // SAFETY: The inode is valid.
    to_result(unsafe { bindings::ruaufs_helper_commit_metadata(inode.as_ptr()) })
}

/// What tells one directory from others, and stays the same when its file system is mounted anew:
/// the file system's type and UUID, as far as it has one, the directory's number and generation.
pub(crate) fn identity(dir: &Inode) -> [u8; 36] {
    let mut identity = [0; 36];
    let inode = dir.as_ptr();
    // SAFETY: The inode is valid; all of this is set when super block and inode are made.
    let (uuid, magic, ino, generation) = unsafe {
        let sb = (*inode).i_sb;
        (
            (*sb).s_uuid.b,
            (*sb).s_magic as u64,
            (*inode).i_ino,
            (*inode).i_generation,
        )
    };
    let parts: [&[u8]; 4] = [
        &uuid,
        &magic.to_le_bytes(),
        &ino.to_le_bytes(),
        &generation.to_le_bytes(),
    ];
    for (to, from) in identity.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    identity
}

impl<T: FileSystem> Inode<T> {
    /// The cached inode with the number `ino` for which `matches` holds. That runs under the lock
    /// of the inode hash: it does not sleep.
    pub(crate) fn find_cached<F: Fn(Candidate<'_, T>) -> bool>(
        sb: &SuperBlock<T>,
        ino: u64,
        matches: F,
    ) -> Option<ARef<Inode<T>>> {
        struct Key<F> {
            ino: u64,
            matches: F,
        }
        /// # Safety
        ///
        /// Called by `ilookup5()` with an inode of our super block and our key.
        unsafe extern "C" fn test<T: FileSystem, F: Fn(Candidate<'_, T>) -> bool>(
            inode: *mut bindings::inode,
            key: *mut c_void,
        ) -> c_int {
            // SAFETY: By the contract. The inode may be about to go, but not as long as the lock
            // of the hash is held.
            unsafe {
                let key = &*key.cast::<Key<F>>();
                c_int::from((*inode).i_ino == key.ino && (key.matches)(Candidate::from_raw(inode)))
            }
        }
        let mut key = Key { ino, matches };
        // SAFETY: `sb` is valid; the callback fits the key, which outlives the call.
        let inode = unsafe {
            bindings::ilookup5(sb.as_ptr(), ino, Some(test::<T, F>), (&raw mut key).cast())
        };
        // SAFETY: The reference that the call returned is ours.
        NonNull::new(inode).map(|inode| unsafe { ARef::from_raw(inode.cast()) })
    }

    /// A cached name of the inode. A directory has one at most.
    pub(crate) fn alias(&self) -> Option<ARef<Dentry<T>>> {
        // SAFETY: The inode is valid.
        let dentry = unsafe { bindings::d_find_any_alias(self.as_ptr()) };
        // SAFETY: The reference that the call returned is ours; same file system as the inode.
        NonNull::new(dentry).map(|dentry| unsafe { ARef::from_raw(dentry.cast()) })
    }
}

impl<T: FileSystem> Dentry<T> {
    /// A dentry of `inode`, which is no directory: a cached name, or one that is connected to
    /// nothing.
    pub(crate) fn of(inode: ARef<Inode<T>>) -> Result<ARef<Dentry<T>>> {
        // SAFETY: The call consumes the reference to the inode.
        let dentry = unsafe { bindings::d_obtain_alias(ARef::into_raw(inode).as_ptr().cast()) };
        let dentry = NonNull::new(from_err_ptr(dentry)?).ok_or(ENOMEM)?;
        // SAFETY: The reference that the call returned is ours; same file system as the inode.
        Ok(unsafe { ARef::from_raw(dentry.cast()) })
    }

    /// Looks up `name` in this directory of ours, as a path walk does, without asking whether
    /// anybody may.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is absent, `ENOTDIR` if this is no directory.
    pub(crate) fn child(&self, name: &[u8]) -> Result<ARef<Dentry<T>>> {
        let dir = self.dir()?;
        let mut qstr = name::qstr(name);
        // SAFETY: `dir` is a directory that names can be looked up in, the name outlives the call.
        let child = from_err_ptr(unsafe {
            bindings::lookup_noperm_positive_unlocked(&mut qstr, dir.dentry().as_ptr())
        })?;
        let child = NonNull::new(child).ok_or(ENOENT)?;
        // SAFETY: The reference that the call returned is ours; nothing is mounted inside a file
        // system, so the child belongs to the same one.
        Ok(unsafe { ARef::from_raw(child.cast()) })
    }

    /// The directory that it is in, or the root, if it was found by a file handle and not by a
    /// name.
    pub(crate) fn directory(&self) -> ARef<Dentry<T>> {
        if self.is_root() {
            self.sb().root().unwrap_or_else(|| self.into())
        } else {
            self.parent()
        }
    }

    /// Whether no directory leads to it: its name was removed, or it was found by a file handle
    /// and not by a name.
    pub(crate) fn is_nameless(&self) -> bool {
        self.is_unhashed()
            || (self.is_root() && !self.sb().root().is_some_and(|root| self.is(&*root)))
    }
}
