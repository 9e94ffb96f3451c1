// SPDX-License-Identifier: GPL-2.0

//! Stand-ins for the names of the `kernel` crate, for programs. Signatures are those of Linux 7.3.

extern crate alloc;

use core::{
    fmt,
    ops::{
        Deref,
        DerefMut, //
    },
};

#[cfg(feature = "failing")]
pub mod failing;

/// Memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// Allocation flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(());

/// May sleep.
pub const GFP_KERNEL: Flags = Flags(());
/// As above, charged to the cgroup of the caller.
pub const GFP_KERNEL_ACCOUNT: Flags = Flags(());

/// A negative errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(i32);

impl Error {
    /// Returns the negative errno.
    pub const fn to_errno(self) -> i32 {
        self.0
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory is short")
    }
}

impl core::error::Error for AllocError {}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        ENOMEM
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.0)
    }
}

impl core::error::Error for Error {}

/// A result with the kernel's defaults.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Declares errors.
macro_rules! codes {
    ($($name:ident = $n:literal,)*) => {
        $(#[doc = stringify!($name)] pub const $name: Error = Error(-$n);)*
    };
}

codes! {
    EPERM = 1,
    ENOMEM = 12,
    EINVAL = 22,
    EROFS = 30,
    EDOM = 33,
    ENAMETOOLONG = 36,
    EOVERFLOW = 75,
}

/// Returns `ENAMETOOLONG`.
pub fn name_too_long() -> Error {
    ENAMETOOLONG
}

/// A vector with fallible growth.
#[derive(Debug, PartialEq, Eq)]
pub struct Vec<T>(alloc::vec::Vec<T>);

/// In the kernel, of physically contiguous memory.
pub type KVec<T> = Vec<T>;
/// In the kernel, of memory of either kind.
pub type KVVec<T> = Vec<T>;

impl<T> Vec<T> {
    /// Makes an empty vector without allocation.
    pub const fn new() -> Self {
        Vec(alloc::vec::Vec::new())
    }

    /// Makes an empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.reserve(capacity, flags)?;
        Ok(v)
    }

    /// Makes room for `additional` elements.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result<(), AllocError> {
        #[cfg(feature = "failing")]
        if self.0.capacity().saturating_sub(self.0.len()) < additional {
            failing::allocate()?;
        }
        self.0.try_reserve(additional).map_err(|_| AllocError)
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

impl<T> From<Vec<T>> for alloc::vec::Vec<T> {
    fn from(v: Vec<T>) -> Self {
        v.0
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
    type IntoIter = alloc::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Vec<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
