// SPDX-License-Identifier: GPL-2.0

//! A write that has begun: counted at its inode until it ends.

use crate::fs::{
    base::{
        gate::own_mark,
        once::{
            store,
            store_release, //
        },
        seats::Doing, //
    },
    objects::{
        inode::Locked,
        section::{
            Entered,
            Reading, //
        },
        writes::Writes, //
    },
    operations::file::Operations, //
};

/// A write that is under way by who holds `i_rwsem`.
pub(in crate::fs) struct Writing<'a>(&'a Writes);

impl<'a> Writing<'a> {
    /// To be called in the read section in which the instance was found.
    #[inline]
    pub(in crate::fs) fn new<T: Operations>(
        locked: &'a Locked<'_, T>,
        entered: &Entered<'_, T>,
    ) -> Self {
        let writes = T::writes(locked.inode());
        // The section makes it visible to who closes the gate.
        store(&writes.locked, entered.mark());
        Writing(writes)
    }

    /// As [`Writing::new`], in a section that nobody sees.
    #[inline]
    pub(in crate::fs) fn pass<T: Operations>(
        locked: &'a Locked<'_, T>,
        _: &Reading<'_, T>,
    ) -> Self {
        let writes = T::writes(locked.inode());
        store(&writes.locked, own_mark(Doing::Write));
        Writing(writes)
    }
}

impl Drop for Writing<'_> {
    #[inline]
    fn drop(&mut self) {
        store_release(&self.0.locked, 0);
    }
}
