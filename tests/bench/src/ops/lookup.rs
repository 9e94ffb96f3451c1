// SPDX-License-Identifier: GPL-2.0

//! Looking names up.

use std::ffi::CStr;

use anyhow::{ensure, Result};
use rustix::{
    fs::{fstat, openat, statat, AtFlags, Mode, OFlags},
    io::Errno,
};

use super::names;
use crate::{fixture, run::Session};

const ABSENT: &CStr = c"absent/x/y/file";

fn stat(s: &Session<'_>, path: &CStr) -> Result<()> {
    statat(&s.root, path, AtFlags::empty())?;
    Ok(())
}

fn absent(s: &Session<'_>, path: &CStr) -> Result<()> {
    let found = statat(&s.root, path, AtFlags::empty());
    ensure!(matches!(found, Err(Errno::NOENT)), "{path:?} is there");
    Ok(())
}

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    cold(s)?;
    let one_layer = c"single/x/y/file";
    s.repeat("walk.warm.top", || stat(s, c"top/x/y/file"))?;
    s.repeat("walk.warm.bottom", || stat(s, c"bottom/x/y/file"))?;
    s.repeat("walk.warm.single", || stat(s, one_layer))?;
    s.repeat("neg.warm", || absent(s, ABSENT))?;

    fixture::drop_caches()?;
    let old = names("new/old-", s.plan.counts.small);
    let new = names("new/new-", s.plan.counts.small);
    stat(s, c"new")?;
    // The first one reads what belongs to the directory.
    stat(s, &old[0])?;
    absent(s, &new[0])?;
    s.each("walk.new", &old[1..], |_| Ok(()), |name| stat(s, name))?;
    s.each("neg.new", &new[1..], |_| Ok(()), |name| absent(s, name))?;

    let file = openat(&s.root, c"bottom/x/y/file", OFlags::RDONLY, Mode::empty())?;
    s.repeat("fstat", || {
        fstat(&file)?;
        Ok(())
    })
}

/// Each path has directories of its own, so that one drop of the caches serves all.
fn cold(s: &Session<'_>) -> Result<()> {
    const PATHS: [(&str, &CStr); 4] = [
        ("walk.cold.top", c"top/x/y/file"),
        ("walk.cold.bottom", c"bottom/x/y/file"),
        ("walk.cold.single", c"single/x/y/file"),
        ("neg.cold", ABSENT),
    ];
    if !PATHS.iter().any(|(op, _)| s.wants(op)) {
        return Ok(());
    }
    let mut samples = [const { Vec::new() }; 4];
    // The first round, which reads from the disk, does not count.
    for round in 0..=s.plan.cold {
        fixture::drop_caches()?;
        // The root's own are warm.
        absent(s, c"nothing")?;
        for ((op, path), samples) in PATHS.iter().zip(&mut samples) {
            if !s.wants(op) {
                continue;
            }
            let count = s.count(|| match *op {
                "neg.cold" => absent(s, path),
                _ => stat(s, path),
            })?;
            if round > 0 {
                samples.push(count);
            }
        }
    }
    PATHS
        .iter()
        .zip(&samples)
        .try_for_each(|((op, _), samples)| s.record(op, samples))
}
