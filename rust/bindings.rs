// SPDX-License-Identifier: GPL-2.0

//! The one door to C: the kernel's own bindings, completed by ours.
//!
//! `bindings_generated.rs` is made by our own bindgen step and holds only what
//! `bindgen_parameters` lists. A type that both know is the generated one here,
//! as items of a module win over glob imports; all others stay the kernel
//! crate's own types, so that its abstractions take them.

#[allow(unused_imports)]
use kernel::ffi;
#[allow(unused_imports)]
use pin_init::MaybeZeroable;

pub(crate) use kernel::bindings::*;

include!(concat!(env!("RUAUFS_OBJ"), "/bindings_generated.rs"));
