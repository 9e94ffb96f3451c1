// SPDX-License-Identifier: GPL-2.0

//! The few names which this layer takes from outside.
//!
//! In the kernel they come from the `kernel` crate. On the host, `tests/host` provides a crate of
//! the same name with the same interface (vectors whose n-th allocation can be made to fail), so
//! the text needs no `cfg`.

#![forbid(unsafe_code)]

pub(crate) use kernel::{
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
            ENAMETOOLONG,
            ENOMEM,
            EOVERFLOW,
            EPERM,
            EROFS, //
        },
        Error,
        Result, //
    },
};
