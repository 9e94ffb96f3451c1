// SPDX-License-Identifier: GPL-2.0

//! Error codes that the crate `kernel` of Linux 7.2 does not name.
//!
//! There, an [`Error`] is made of a number when the code runs, never in a constant. So these codes
//! have a type of their own, which `into()` and `?` make an [`Error`]; where the kernel names
//! them, that costs nothing.

use kernel::prelude::*;

/// A code that `kernel` may not name.
#[derive(Clone, Copy)]
pub(crate) struct Errno(
    #[cfg(ruaufs_errno)] Error,
    /// As C functions return it: negative.
    #[cfg(not(ruaufs_errno))]
    c_int,
);

impl Errno {
    /// Returns the code as C functions return it.
    #[inline(always)]
    pub(crate) fn to_errno(self) -> c_int {
        #[cfg(ruaufs_errno)]
        {
            self.0.to_errno()
        }
        #[cfg(not(ruaufs_errno))]
        {
            self.0
        }
    }
}

impl From<Errno> for Error {
    #[inline(always)]
    fn from(code: Errno) -> Self {
        #[cfg(ruaufs_errno)]
        {
            code.0
        }
        #[cfg(not(ruaufs_errno))]
        {
            Error::from_errno(code.0)
        }
    }
}

impl PartialEq<Errno> for Error {
    #[inline(always)]
    fn eq(&self, code: &Errno) -> bool {
        self.to_errno() == code.to_errno()
    }
}

/// Makes the constants.
macro_rules! codes {
    ($($name:ident)*) => {
        $(
            #[cfg(ruaufs_errno)]
            pub(crate) const $name: Errno = Errno(kernel::error::code::$name);
            // CAST: Codes are small.
            #[cfg(not(ruaufs_errno))]
            pub(crate) const $name: Errno = Errno(-(kernel::bindings::$name as c_int));
        )*
    };
}

codes! {
    ECANCELED EDQUOT ENAMETOOLONG ENODATA ENOKEY ENOSYS ENOTEMPTY EOPNOTSUPP ESTALE
}
