// SPDX-License-Identifier: GPL-2.0

//! A name that a callback got, together with its stable place.

use super::dentry::Dentry;

/// A dentry of ours together with its stable place.
///
/// # Invariants
///
/// The dentry has this name and this parent for `'a`. Only callbacks are given one.
pub(crate) struct Entry<'a, T> {
    pub(in crate::fs) dentry: &'a Dentry<T>,
    pub(in crate::fs) parent: &'a Dentry<T>,
    pub(in crate::fs) name: &'a [u8],
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
