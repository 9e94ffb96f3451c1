// SPDX-License-Identifier: GPL-2.0

//! The tests, one module per module of `logic`.

mod alloc_failure;
mod branch_spec;
mod create;
mod dirren;
mod escape;
mod formats;
mod handle;
mod hash;
mod index;
mod ino;
mod lookup;
mod manual;
mod marks;
mod merge;
mod num;
mod options;
mod plans;
mod plink;
mod reply;
mod settings;
mod uapi;

/// Collects what a `write_to` function writes.
fn written(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> String {
    let mut all = Vec::new();
    write(&mut |bytes: &[u8]| all.extend_from_slice(bytes));
    String::from_utf8(all).unwrap()
}
