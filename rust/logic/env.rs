// SPDX-License-Identifier: GPL-2.0

//! The few names which this layer takes from outside.
//!
//! In the kernel they come from the `kernel` crate. In programs they are the stand-ins in
//! `env/host.rs`, with the same names and signatures, so that no other module needs a `cfg` for
//! them.

#![forbid(unsafe_code)]

#[cfg(CONFIG_RUST)]
pub use kernel::{
    alloc::{
        flags::{
            GFP_KERNEL,
            GFP_KERNEL_ACCOUNT, //
        },
        AllocError,
        KVVec,
        KVec, //
    },
    error::{
        code::{
            EDOM,
            EINVAL,
            ENOMEM,
            EOVERFLOW,
            EPERM,
            EROFS, //
        },
        Error,
        Result, //
    },
};

/// Returns `ENAMETOOLONG`, which is no constant in every kernel.
#[cfg(CONFIG_RUST)]
pub fn name_too_long() -> Error {
    crate::compat::errno::ENAMETOOLONG.into()
}

#[cfg(not(CONFIG_RUST))]
mod host;
#[cfg(not(CONFIG_RUST))]
pub use host::*;

/// Text for people that the manuals show and the kernel does not: empty there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Help(#[cfg(not(CONFIG_RUST))] &'static str);

impl Help {
    /// Makes one of a text.
    #[cfg_attr(
        CONFIG_RUST,
        expect(unused_variables, reason = "the kernel shows no help")
    )]
    pub const fn new(text: &'static str) -> Self {
        Help(
            #[cfg(not(CONFIG_RUST))]
            text,
        )
    }

    /// Returns the text.
    #[cfg(not(CONFIG_RUST))]
    pub const fn text(self) -> &'static str {
        self.0
    }
}
