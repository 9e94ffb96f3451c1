// SPDX-License-Identifier: GPL-2.0

//! The one door to C: the kernel's own bindings, completed by ours.

pub(crate) use kernel::bindings::*;

pub(crate) use generated::*;

#[allow(
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
mod generated {
    #[allow(unused_imports)]
    use kernel::{
        bindings::*,
        ffi, //
    };
    #[allow(unused_imports)]
    use pin_init::MaybeZeroable;

    include!("bindings_generated.rs");
}
