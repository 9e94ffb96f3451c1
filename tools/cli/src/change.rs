// SPDX-License-Identifier: GPL-2.0

//! Changing a mounted union: pseudo-links first, where the change needs it.

use std::collections::HashSet;

use anyhow::{Context, Result};
use ruaufs_user::{
    dir::Dir,
    mountapi::{self, Warnings},
    names::Show,
    options::{self, Setting, Sorted},
    plink,
    union::Union,
};

use crate::{complain, warn};

/// Remounts with these options. What is to be flushed is flushed.
pub fn remount(union: &Union, sorted: &Sorted, verbose: bool) -> Result<()> {
    if options::needs_flush(sorted, union.is_read_only()) {
        flush_fleeting(union, verbose)?;
    }
    mountapi::remount(&union.mount, sorted).map(show)
}

/// Shows what the kernel said of a change that it made.
pub fn show(warnings: Warnings) {
    warnings.iter().for_each(warn);
}

/// Remounts with options of the union.
pub fn remount_with(union: &Union, settings: Vec<Setting>) -> Result<()> {
    remount(union, &Sorted::of(settings), false)
}

/// Makes the union read-only, or writable.
pub fn remount_as(union: &Union, access: &str, mut settings: Vec<Setting>) -> Result<()> {
    let mut sorted = options::sort(&[access.into()])?;
    sorted.fs.append(&mut settings);
    remount(union, &sorted, false)
}

/// As [`flush`], if there are pseudo-links that would not outlast the mount.
pub fn flush_fleeting(union: &Union, verbose: bool) -> Result<()> {
    for pending in plink::pending(union)? {
        let lasting = plink::lasting(&Dir::open(&pending.branch)?)?;
        let lasting: HashSet<_> = lasting.into_iter().collect();
        if pending
            .entries
            .iter()
            .any(|(_, name)| !lasting.contains(name))
        {
            return flush(union, verbose);
        }
    }
    Ok(())
}

/// Makes hard links of all pseudo-links. A union that is read-only cannot, and loses them when it is
/// unmounted; it says so.
pub fn flush(union: &Union, verbose: bool) -> Result<()> {
    let target = union.mount.target.shown();
    if union.mount.is_read_only() {
        let pending = plink::pending(union)?;
        if !pending.is_empty() {
            warn(format_args!(
                "{target} is read-only, so {} pseudo-links cannot be made hard links",
                plink::inodes(&pending).len()
            ));
        }
        return Ok(());
    }
    let count = plink::flush(union).with_context(|| {
        format!(
            "{target}: the pseudo-links must be flushed first (`auplink {target} list` shows them)"
        )
    })?;
    if verbose && count > 0 {
        complain(format_args!(
            "{target}: {count} pseudo-links are hard links now"
        ));
    }
    Ok(())
}
