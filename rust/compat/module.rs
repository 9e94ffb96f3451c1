// SPDX-License-Identifier: GPL-2.0

//! The module itself, in a constant: the owner of tables of callbacks.

use crate::bindings;

/// Returns `THIS_MODULE` of C.
#[cfg(ruaufs_this_module)]
pub(crate) const fn this_module() -> *mut bindings::module {
    kernel::module::this_module::<crate::Ruaufs>().as_ptr()
}

/// Returns `THIS_MODULE` of C: `module!` makes a static of it in Linux 7.2.
#[cfg(not(ruaufs_this_module))]
pub(crate) const fn this_module() -> *mut bindings::module {
    crate::THIS_MODULE.as_ptr()
}
