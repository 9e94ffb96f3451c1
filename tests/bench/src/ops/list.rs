// SPDX-License-Identifier: GPL-2.0

//! Listing directories.

use std::{ffi::CStr, mem::MaybeUninit};

use anyhow::{ensure, Result};
use rustix::fs::{chmodat, openat, statat, AtFlags, Mode, OFlags, RawDir};

use crate::{
    fixture::{self, ENTRIES},
    run::Session,
};

/// Opens a directory of so many entries, reads to the end, closes.
pub(super) fn list(
    s: &Session<'_>,
    path: &CStr,
    entries: usize,
    buffer: &mut [MaybeUninit<u8>],
) -> Result<()> {
    let fd = openat(
        &s.root,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    let mut dir = RawDir::new(&fd, buffer);
    let mut count = 0;
    while let Some(entry) = dir.next() {
        entry?;
        count += 1;
    }
    ensure!(count == entries + 2, "{path:?} has {count} entries");
    Ok(())
}

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    // A union in use: something was copied up before.
    chmodat(
        &s.root,
        c"files/copied",
        Mode::from_raw_mode(0o600),
        AtFlags::empty(),
    )?;
    let mut buffer = vec![MaybeUninit::uninit(); 32768];
    for (first, later, path) in [
        ("list.single.first", "list.single.later", c"listed"),
        ("list.merged.first", "list.merged.later", c"merged"),
    ] {
        if !s.wants(first) && !s.wants(later) {
            continue;
        }
        // Reads from the disk.
        list(s, path, ENTRIES, &mut buffer)?;
        let rounds: Vec<usize> = (0..s.plan.trees).collect();
        let before = |_: &usize| {
            fixture::drop_caches()?;
            // The directory is known, what is in it is not.
            statat(&s.root, path, AtFlags::empty())?;
            Ok(())
        };
        s.each(first, &rounds, before, |_| {
            list(s, path, ENTRIES, &mut buffer)
        })?;
        s.repeat_of(later, 1, &mut || list(s, path, ENTRIES, &mut buffer))?;
    }
    Ok(())
}
