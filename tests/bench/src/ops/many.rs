// SPDX-License-Identifier: GPL-2.0

//! How the cost of one item grows with the number of items.

use std::{ffi::CString, mem::MaybeUninit};

use anyhow::Result;
use rustix::{
    fs::{openat, statat, unlinkat, AtFlags, Mode, OFlags},
    io::write,
};

use super::{list::list, names};
use crate::{
    fixture::{self, ENTRIES, HUGE, LINKS},
    run::Session,
};

/// The first write to a file with two names, and the removal of the other name: per file.
fn links(s: &Session<'_>, op: &str, name: &str, count: usize) -> Result<()> {
    let path = |which: &str| names(&format!("links/{name}/{which}-"), count);
    let files: Vec<(CString, CString)> = path("one").into_iter().zip(path("two")).collect();
    s.each(
        op,
        &files,
        |_| Ok(()),
        |(one, two)| {
            let fd = openat(&s.root, one, OFlags::WRONLY | OFlags::APPEND, Mode::empty())?;
            write(&fd, b"+")?;
            drop(fd);
            Ok(unlinkat(&s.root, two, AtFlags::empty())?)
        },
    )
}

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    if !s.has_many() {
        return Ok(());
    }
    if s.wants("list.huge.first") {
        let mut buffer = vec![MaybeUninit::uninit(); 32768];
        list(s, c"huge", HUGE, &mut buffer)?;
        let mut samples = Vec::new();
        for _ in 0..s.plan.trees {
            fixture::drop_caches()?;
            statat(&s.root, c"huge", AtFlags::empty())?;
            let count = s.count(|| list(s, c"huge", HUGE, &mut buffer))?;
            samples.push(count * ENTRIES as f64 / HUGE as f64);
        }
        s.record("list.huge.first", &samples)?;
    }
    for ((name, count), op) in LINKS.into_iter().zip(["links.few", "links.many"]) {
        links(s, op, name, count)?;
    }
    Ok(())
}
