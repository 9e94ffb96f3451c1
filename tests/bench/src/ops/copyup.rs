// SPDX-License-Identifier: GPL-2.0

//! The first write to lower files: open, one byte, close.

use std::ffi::CString;

use anyhow::Result;
use rustix::{
    fs::{openat, sync, Mode, OFlags},
    io::{pread, pwrite},
};

use super::names;
use crate::{fixture, run::Session};

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for (op, prefix, count) in [
        ("copyup.4k", "used/4k-", s.plan.counts.small),
        ("copyup.1m", "used/1m-", s.plan.counts.medium),
        ("copyup.64m", "used/64m-", s.plan.counts.large),
        ("copyup.sparse", "used/sparse-", s.plan.counts.large),
    ] {
        let before = |name: &CString| {
            // What is copied comes from the page cache (of the sparse one, the blocks).
            let fd = openat(&s.root, name, OFlags::RDONLY, Mode::empty())?;
            let sparse = op == "copyup.sparse";
            let mut at = 0;
            while pread(&fd, &mut buffer, at)? > 0 {
                at += if sparse { 512 << 20 } else { 1 << 20 };
            }
            if op != "copyup.4k" {
                sync();
                fixture::settle();
            }
            Ok(())
        };
        s.each(op, &names(prefix, count), before, |name| {
            let fd = openat(&s.root, name, OFlags::RDWR, Mode::empty())?;
            pwrite(&fd, b"!", 0)?;
            Ok(())
        })?;
    }
    Ok(())
}
