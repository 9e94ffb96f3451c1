// SPDX-License-Identifier: GPL-2.0

//! `struct export_operations`: file handles of ours.

use crate::bindings;
use crate::compat::errno::ESTALE;
use crate::fs::{
    access::export::{
        TYPE,
        TYPE_WITH_PARENT, //
    },
    objects::{
        dentry::Dentry,
        inode::Inode,
        sb::SuperBlock, //
    },
    operations::mountable::Mountable, //
};
use core::marker::PhantomData;
use kernel::{
    error::from_result,
    prelude::*,
    sync::aref::ARef, //
};

/// `export_operations` of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    /// Directories are always found with their path, so nobody asks for a parent. The names that
    /// are asked for are found by a listing, whose numbers are those of stat(2).
    pub(in crate::fs) const OPERATIONS: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        commit_metadata: Some(Self::commit_metadata),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by exportfs with an inode of ours, a buffer of `*len` words, and the directory or
    /// null.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        words: *mut u32,
        len: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        let encode = || -> Result<(u8, KVec<u32>)> {
            let mut out = KVec::new();
            // SAFETY: Both are inodes of ours by the contract of the callback.
            unsafe {
                let inode = Inode::<T>::from_raw(inode);
                let reading = inode.sb().read();
                let section = reading.section();
                T::encode(section, inode, &mut out)?;
                if parent.is_null() {
                    return Ok((TYPE, out));
                }
                T::encode(section, Inode::from_raw(parent), &mut out)?;
            }
            Ok((TYPE_WITH_PARENT, out))
        };
        match encode() {
            // SAFETY: By the contract of the callback; `*len` is not negative.
            Ok((kind, out)) => unsafe {
                let room = usize::try_from(*len).unwrap_or(0);
                // CAST: A handle is short.
                *len = out.len() as c_int;
                if out.len() > room {
                    return c_int::from(bindings::RUAUFS_FILEID_INVALID);
                }
                core::ptr::copy_nonoverlapping(out.as_ptr(), words, out.len());
                c_int::from(kind)
            },
            Err(error) => error.to_errno(),
        }
    }

    /// The object that the words picked by `part` of a handle stand for.
    ///
    /// # Safety
    ///
    /// `sb` must be a super block of ours, and `fid` have `len` words.
    unsafe fn decode(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
        part: impl FnOnce(&[u32]) -> Option<&[u32]>,
    ) -> *mut bindings::dentry {
        let decode = || -> Result<ARef<Dentry<T>>> {
            if kind != c_int::from(TYPE) && kind != c_int::from(TYPE_WITH_PARENT) {
                return Err(ESTALE.into());
            }
            let len = usize::try_from(len)?;
            // SAFETY: By the caller's contract; a `fid` is made of words.
            let words = unsafe { core::slice::from_raw_parts(fid.cast(), len) };
            // SAFETY: By the caller's contract.
            let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
            let (dentry, _) = T::decode(sb, part(words).ok_or(ESTALE)?)?;
            // The caller shows it through a mount of this super block.
            if !core::ptr::eq(dentry.sb_ptr(), sb.as_ptr()) || dentry.is_negative() {
                return Err(ESTALE.into());
            }
            Ok(dentry)
        };
        match decode() {
            Ok(dentry) => ARef::into_raw(dentry).as_ptr().cast(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by exportfs with a super block of ours and a handle of `len` words.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: Valid by the contract of the callback.
        unsafe { Self::decode(sb, fid, len, kind, |words| Some(words)) }
    }

    /// # Safety
    ///
    /// Called by exportfs with a super block of ours and a handle of `len` words.
    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            Self::decode(sb, fid, len, kind, |words| {
                T::skip(words).filter(|rest| !rest.is_empty())
            })
        }
    }

    /// # Safety
    ///
    /// Called by nfsd with an inode of ours that was changed.
    unsafe extern "C" fn commit_metadata(inode: *mut bindings::inode) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        from_result(|| T::commit_metadata(inode).map(|()| 0))
    }
}
