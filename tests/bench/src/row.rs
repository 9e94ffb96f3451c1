// SPDX-License-Identifier: GPL-2.0

//! One result, as a line of CSV.

use std::{fmt, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subject {
    Bare,
    Overlayfs,
    Ruaufs,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Subject::Bare => "bare",
            Subject::Overlayfs => "overlayfs",
            Subject::Ruaufs => "ruaufs",
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `tmpfs`, `ext4`; `none` for what touches no file system.
    pub(crate) fs: String,
    /// 1 for the bare file system.
    pub(crate) layers: u32,
    pub(crate) subject: Subject,
    /// Of the catalogue, `memory.*` in bytes or a constant of the machine.
    pub(crate) op: String,
    /// The median: instructions, or bytes.
    pub(crate) count: f64,
    /// The first and the ninth decile.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) samples: usize,
}

/// All results of a run.
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let rows: Result<_, csv::Error> = csv::Reader::from_path(path)
            .with_context(|| path.display().to_string())?
            .deserialize()
            .collect();
        let rows = rows.with_context(|| path.display().to_string())?;
        Ok(Self { rows })
    }

    pub(crate) fn get(&self, fs: &str, layers: u32, subject: Subject, op: &str) -> Option<&Row> {
        let layers = match subject {
            Subject::Bare => 1,
            _ => layers,
        };
        self.rows
            .iter()
            .find(|r| r.fs == fs && r.layers == layers && r.subject == subject && r.op == op)
    }

    /// File systems in order of appearance.
    pub(crate) fn file_systems(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for row in &self.rows {
            if row.fs != "none" && !all.contains(&row.fs.as_str()) {
                all.push(&row.fs);
            }
        }
        all
    }

    /// Layer counts of unions, ascending.
    pub(crate) fn layer_counts(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .rows
            .iter()
            .filter(|r| r.subject != Subject::Bare && !r.op.starts_with("memory."))
            .map(|r| r.layers)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
