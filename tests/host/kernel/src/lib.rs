// SPDX-License-Identifier: GPL-2.0

//! A stand-in for the `kernel` crate, with what `rust/logic/env.rs` takes from it.
//!
//! Signatures are those of Linux 7.3. Any allocation can be made to fail: see
//! [`alloc::fail_after`].

#![forbid(unsafe_code)]

pub mod alloc;

/// Errors, as in the kernel.
pub mod error {
    /// A negative errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);

    impl Error {
        /// Returns the negative errno.
        pub fn to_errno(self) -> i32 {
            self.0
        }
    }

    impl From<crate::alloc::AllocError> for Error {
        fn from(_: crate::alloc::AllocError) -> Self {
            code::ENOMEM
        }
    }

    /// A result with the kernel's defaults.
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    /// The errors there are.
    pub mod code {
        use super::Error;

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
    }
}
