// SPDX-License-Identifier: GPL-2.0

//! The operations, by subject. Trees are described in [`crate::fixture`].

pub(crate) mod change;
pub(crate) mod copyup;
pub(crate) mod file;
pub(crate) mod list;
pub(crate) mod lookup;
pub(crate) mod many;
pub(crate) mod pair;
pub(crate) mod tree;

use std::ffi::CString;

/// `PREFIX000`, `PREFIX001`, ...: as the system calls take them, so that making them costs nothing
/// while it is measured.
fn names(prefix: &str, count: usize) -> Vec<CString> {
    (0..count)
        .map(|i| CString::new(format!("{prefix}{i:03}")).expect("no zero byte"))
        .collect()
}
