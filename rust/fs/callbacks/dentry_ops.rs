// SPDX-License-Identifier: GPL-2.0

//! `struct dentry_operations`: revalidation inside RCU walk and outside of it, `d_real()`.

use crate::bindings;
use crate::fs::{
    base::{
        once::load_acquire,
        seats::Doing, //
    },
    objects::{
        dentry::Dentry,
        inode::{
            Inode,
            Kind,
            SeenInode, //
        },
        section::Entered,
        walk::{
            Seal,
            Walk, //
        }, //
    },
    operations::{
        dentry::Validity,
        mountable::Mountable, //
    }, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
};
use kernel::prelude::*;

/// `dentry_operations` of `T`.
pub(in crate::fs) struct Table<T>(PhantomData<T>);

impl<T: Mountable> Table<T> {
    /// Whether walks ask `d_revalidate()` is said by a flag of each dentry
    /// ([`SuperBlock::set_checked`](crate::fs::objects::sb::SuperBlock::set_checked),
    /// [`Dentry::set_checked`]).
    pub(in crate::fs) const OPERATIONS: bindings::dentry_operations = bindings::dentry_operations {
        d_revalidate: Some(Self::d_revalidate),
        d_iput: Some(Self::d_iput),
        d_release: Some(Self::d_release),
        d_real: Some(Self::d_real),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the path walk with a dentry of ours, its name and `LOOKUP_*` flags; under
    /// `LOOKUP_RCU` nothing is referenced and nothing may sleep.
    unsafe extern "C" fn d_revalidate(
        dir: *mut bindings::inode,
        name: *const bindings::qstr,
        dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        unsafe {
            if flags & bindings::RUAUFS_LOOKUP_RCU != 0
                && Self::is_sealed(Inode::from_raw(dir), Dentry::from_raw(dentry))
            {
                return 1;
            }
            Self::check(dir, name, dentry, flags)
        }
    }

    /// Whether a name holds by its seal, its guard and unchanged attributes. In RCU walk.
    ///
    /// # Safety
    ///
    /// The caller must be in a path walk under RCU.
    #[inline]
    unsafe fn is_sealed(dir: &Inode<T>, dentry: &Dentry<T>) -> bool {
        let Some(inode) = dentry.inode() else {
            let absent = Seal(load_acquire(dentry.seal_slot())) == Seal::ABSENT;
            return absent && Seal::ABSENT.is_one() && dentry.guard_holds(None);
        };
        // SAFETY: By the caller's contract; nothing of it leaves this function.
        let (inode, stacks) = unsafe {
            let stacks = (inode.cell().rcu(), dir.cell().rcu());
            (SeenInode::<T>::from_raw(inode.as_ptr()), stacks)
        };
        let (Some(stack), Some(dirs)) = stacks else {
            return false;
        };
        let top = stack.top_inode();
        Seal::now(&stack, &dirs).0 == load_acquire(dentry.seal_slot())
            && !inode.attr_moved(top)
            && dentry.guard_holds(Some(top))
    }

    /// Checks a name in full.
    ///
    /// # Safety
    ///
    /// As for `d_revalidate()`.
    #[cold]
    #[inline(never)]
    unsafe fn check(
        dir: *mut bindings::inode,
        name: *const bindings::qstr,
        dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: Valid by the contract of the callback.
        let directory = unsafe { Inode::<T>::from_raw(dir) };
        // A name that is looked at again may get other instances.
        let entered =
            (flags & bindings::RUAUFS_LOOKUP_RCU == 0).then(|| directory.sb().enter(Doing::LookUp));
        // SAFETY: As above; `d_inode_rcu()` is a single read.
        let walk = unsafe {
            let inode = (&raw const (*dentry).d_inode).read_volatile();
            Walk {
                dir: directory,
                dentry: Dentry::<T>::from_raw(dentry),
                inode: (!inode.is_null()).then(|| Inode::from_raw(inode)),
                name: &*name,
                section: entered.as_ref().map(Entered::section),
                left: load_acquire(Dentry::<T>::from_raw(dentry).seal_slot()),
            }
        };
        match T::revalidate(&walk) {
            Validity::Valid => {}
            // What is seen while branches change may be half of it, and what is mounted on a stale
            // name goes.
            Validity::Stale if walk.section.is_some() => return walk.is_stale(),
            Validity::Stale | Validity::NeedRef => return ECHILD.to_errno(),
        }
        let Some(stack) = walk.stack().filter(|stack| stack.is_remote()) else {
            return 1;
        };
        for lower in stack.dentries() {
            // SAFETY: `RcuStack` shows dentries that are alive at least until the end of this
            // walk.
            let ret = unsafe { revalidate_foreign(lower, flags) };
            match ret {
                0 => return walk.is_stale(),
                ..0 => return ret,
                _ => {}
            }
        }
        1
    }

    /// The foreign dentry whose file has the contents that ours shows: what is mapped is that file,
    /// so that is where uprobes are set. As for overlayfs, it may be another one after a promotion.
    ///
    /// # Safety
    ///
    /// Called with a reference to a dentry of ours; it may sleep.
    unsafe extern "C" fn d_real(
        dentry: *mut bindings::dentry,
        wanted: bindings::d_real_type,
    ) -> *mut bindings::dentry {
        // SAFETY: A dentry of ours by the contract of the callback.
        let ours = unsafe { Dentry::<T>::from_raw(dentry) };
        let Some(inode) = ours.inode().filter(|inode| inode.kind() == Kind::Regular) else {
            return dentry;
        };
        let reading = ours.sb().read();
        match inode.lend(reading.section()) {
            // SAFETY: The dentry is valid, as is what is given, as long as the caller refers to
            // ours.
            Some(real) => unsafe { bindings::ruaufs_helper_d_real(real, wanted) },
            None => dentry,
        }
    }

    /// # Safety
    ///
    /// Called with a dentry of ours that loses its reference to `inode`; it may sleep.
    unsafe extern "C" fn d_iput(dentry: *mut bindings::dentry, inode: *mut bindings::inode) {
        // SAFETY: A dentry of ours by the contract of the callback, which gives a reference to the
        // inode away.
        unsafe {
            // The last reference to an inode may wait for its branch. A guard is of another branch,
            // which may be taken out meanwhile; of a name that only becomes absent it stays.
            if bindings::ruaufs_helper_is_dying(dentry) {
                Dentry::<T>::from_raw(dentry).set_guard(None);
            }
            bindings::iput(inode);
        }
    }

    /// # Safety
    ///
    /// Called once, when the dentry dies; it may sleep.
    unsafe extern "C" fn d_release(dentry: *mut bindings::dentry) {
        // SAFETY: A dentry of ours by the contract of the callback.
        unsafe { Dentry::<T>::from_raw(dentry) }.set_guard(None);
    }
}

/// Asks a foreign file system whether its dentry is still valid, if it wants to be asked.
///
/// # Safety
///
/// `dentry` must be valid for the call, by a reference or by RCU as `flags` say.
unsafe fn revalidate_foreign(dentry: *mut bindings::dentry, flags: c_uint) -> c_int {
    // SAFETY: Valid by the caller's contract; `d_op` never changes.
    unsafe {
        if (*dentry).d_flags & bindings::dentry_flags_DCACHE_OP_REVALIDATE == 0 {
            return 1;
        }
        let Some(revalidate) = (*dentry).d_op.as_ref().and_then(|op| op.d_revalidate) else {
            return 1;
        };
        if flags & bindings::RUAUFS_LOOKUP_RCU != 0 {
            // The name snapshot below is RCU-safe, but network file systems leave RCU walk
            // anyway; one rule for all keeps this simple.
            return ECHILD.to_errno();
        }
        let parent = bindings::dget_parent(dentry);
        let mut snapshot = MaybeUninit::<bindings::name_snapshot>::uninit();
        bindings::take_dentry_name_snapshot(snapshot.as_mut_ptr(), dentry);
        let ret = revalidate(
            (*parent).d_inode,
            &raw const (*snapshot.as_ptr()).name,
            dentry,
            flags,
        );
        bindings::release_dentry_name_snapshot(snapshot.as_mut_ptr());
        bindings::dput(parent);
        if ret == 0 {
            bindings::d_invalidate(dentry);
        }
        ret
    }
}
