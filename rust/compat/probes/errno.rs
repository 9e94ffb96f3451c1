// SPDX-License-Identifier: GPL-2.0
//! The crate `kernel` names all codes of `compat/errno.rs`.
pub use kernel::error::code::{
    ECANCELED,
    EDQUOT,
    ENAMETOOLONG,
    ENODATA,
    ENOKEY,
    ENOSYS,
    ENOTEMPTY,
    EOPNOTSUPP,
    ESTALE, //
};
