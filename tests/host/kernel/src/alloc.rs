// SPDX-License-Identifier: GPL-2.0

//! Vectors whose allocations can fail.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

/// Memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// Allocation flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(());

/// The values of [`Flags`].
pub mod flags {
    /// May sleep.
    pub const GFP_KERNEL: super::Flags = super::Flags(());
    /// As above, charged to the cgroup of the caller.
    pub const GFP_KERNEL_ACCOUNT: super::Flags = super::Flags(());
}

thread_local! {
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with all allocations of this thread failing after the first `n`; also tells whether
/// one failed.
pub fn fail_after<T>(n: u64, f: impl FnOnce() -> T) -> (T, bool) {
    LEFT.set(Some(n));
    FAILED.set(false);
    let result = f();
    LEFT.set(None);
    (result, FAILED.get())
}

/// Counts one allocation.
fn allocate() -> Result<(), AllocError> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            FAILED.set(true);
            Err(AllocError)
        }
        Some(n) => {
            LEFT.set(Some(n - 1));
            Ok(())
        }
    }
}

/// A vector with fallible growth.
#[derive(Debug, PartialEq, Eq)]
pub struct Vec<T>(std::vec::Vec<T>);

/// In the kernel, of physically contiguous memory.
pub type KVec<T> = Vec<T>;
/// In the kernel, of memory of either kind.
pub type KVVec<T> = Vec<T>;

impl<T> Vec<T> {
    /// Makes an empty vector without allocation.
    pub const fn new() -> Self {
        Vec(std::vec::Vec::new())
    }

    /// Makes an empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.reserve(capacity, flags)?;
        Ok(v)
    }

    /// Makes room for `additional` elements.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result<(), AllocError> {
        if self.0.len() + additional > self.0.capacity() {
            allocate()?;
            self.0.reserve(additional);
        }
        Ok(())
    }

    /// Appends an element.
    pub fn push(&mut self, v: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(v);
        Ok(())
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all elements.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T: Clone> Vec<T> {
    /// Appends copies of `other`.
    pub fn extend_from_slice(&mut self, other: &[T], flags: Flags) -> Result<(), AllocError> {
        self.reserve(other.len(), flags)?;
        self.0.extend_from_slice(other);
        Ok(())
    }

    /// Makes a vector of `n` times `value`.
    pub fn from_elem(value: T, n: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::with_capacity(n, flags)?;
        v.0.resize(n, value);
        Ok(v)
    }
}

impl<T> Default for Vec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Vec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Vec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for Vec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Vec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
