// SPDX-License-Identifier: GPL-2.0

//! The tests, by subject.

mod acl;
mod attr;
mod bad_input;
mod concurrency;
mod copyup;
mod create;
mod file;
mod lookup;
mod mount;
mod readdir;
mod remove;
mod rename;
mod whiteout;
mod xattr;

use crate::harness::run::Case;

/// All tests, cheap and fundamental ones first.
pub(crate) fn all() -> Vec<Case> {
    [
        lookup::cases(),
        readdir::cases(),
        whiteout::cases(),
        create::cases(),
        remove::cases(),
        rename::cases(),
        attr::cases(),
        xattr::cases(),
        acl::cases(),
        file::cases(),
        copyup::cases(),
        mount::cases(),
        bad_input::cases(),
        concurrency::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
