// SPDX-License-Identifier: GPL-2.0

//! What the memory of cached names is: slab memory before and after many empty files were looked
//! up. On a union it includes what the branch's file system keeps for them, unless (as tmpfs) it
//! keeps that in any case.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use rustix::fs::{openat, statat, AtFlags, Mode, OFlags, CWD};

use crate::{
    fixture,
    row::{Row, Subject},
};

const PER_DIR: usize = 1000;

pub(crate) fn build(dir: &Path, names: usize) -> Result<()> {
    for d in 0..names.div_ceil(PER_DIR) {
        let sub = dir.join(format!("dir-{d:03}"));
        fs::create_dir_all(&sub)?;
        let fd = openat(CWD, &sub, OFlags::PATH, Mode::empty())?;
        for f in 0..PER_DIR {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            openat(
                &fd,
                format!("file-{f:03}"),
                flags,
                Mode::from_raw_mode(0o644),
            )?;
        }
    }
    Ok(())
}

/// Bytes in all slabs, and objects in use with their size, by cache.
struct Slabs {
    total: f64,
    caches: BTreeMap<String, (f64, f64)>,
}

impl Slabs {
    fn now() -> Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let kib = meminfo
            .lines()
            .find_map(|l| {
                l.strip_prefix("Slab:")?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(f64::NAN);
        let text = fs::read_to_string("/proc/slabinfo").context("/proc/slabinfo")?;
        let mut caches = BTreeMap::new();
        for line in text.lines().skip(2) {
            let mut fields = line.split_whitespace();
            let name = fields.next().unwrap_or_default();
            let mut number = || fields.next().and_then(|f| f.parse().ok()).unwrap_or(0.0);
            let (_active, all, size) = (number(), number(), number());
            caches.insert(name.to_owned(), (all, size));
        }
        Ok(Self {
            total: kib * 1024.0,
            caches,
        })
    }
}

/// Rows in bytes per name: `memory.total`, and `memory.CACHE` of each that grew.
pub(crate) fn measure(path: &Path, names: usize, fs: &str, subject: Subject) -> Result<Vec<Row>> {
    fixture::drop_caches()?;
    let before = Slabs::now()?;
    for d in 0..names.div_ceil(PER_DIR) {
        let sub = path.join(format!("dir-{d:03}"));
        let fd = openat(CWD, &sub, OFlags::PATH, Mode::empty())?;
        for f in 0..PER_DIR {
            statat(&fd, format!("file-{f:03}"), AtFlags::empty())?;
        }
    }
    let after = Slabs::now()?;
    let row = |op: String, bytes: f64| Row {
        fs: fs.to_owned(),
        layers: if subject == Subject::Bare { 1 } else { 2 },
        subject,
        op,
        count: bytes.round(),
        low: bytes.round(),
        high: bytes.round(),
        samples: names,
    };
    let per_name = |bytes: f64| bytes / names as f64;
    let mut rows = vec![row(
        "memory.total".to_owned(),
        per_name(after.total - before.total),
    )];
    for (cache, (count, size)) in after.caches {
        let old = before.caches.get(&cache).map_or(0.0, |(count, _)| *count);
        let bytes = per_name((count - old) * size);
        if bytes >= 8.0 {
            rows.push(row(format!("memory.{cache}"), bytes));
        }
    }
    Ok(rows)
}
