// SPDX-License-Identifier: GPL-2.0

//! `ruaufs status`, and the list of `ruaufs branch list`

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Parser;
use comfy_table::{presets, CellAlignment, Table};
use indicatif::HumanBytes;
use ruaufs_user::{
    dir, mounts,
    names::Show,
    plink,
    stats::{self, Count},
    union::{self, Branch, Origin, Union},
};
use serde::Serialize;

use crate::{say, say_json, text, Exact};

/// Show mounted unions
///
/// Without a path: all of them.
#[derive(Debug, Parser)]
pub struct Args {
    /// The union: where it is mounted, or a path in it
    union: Option<PathBuf>,
    /// Show what each has counted since it was mounted, and what that may mean; for root
    #[arg(long)]
    stats: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status {
    mount_point: String,
    #[serde(rename = "type")]
    fstype: String,
    source: String,
    si: String,
    read_only: bool,
    options: Vec<String>,
    branches: Vec<BranchStatus>,
    branches_from: Origin,
    /// Files whose names are kept together in memory only; `null` if it cannot be seen.
    pseudo_links: Option<usize>,
    /// What was asked for with `--stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<BTreeMap<String, u64>>,
    #[serde(skip)]
    counts: Vec<Count>,
}

#[derive(Serialize)]
struct BranchStatus {
    index: usize,
    id: Option<i64>,
    #[serde(flatten)]
    path: Exact,
    access: String,
    /// `null` if the directory cannot be reached from here.
    file_system: Option<FileSystem>,
}

#[derive(Serialize)]
struct FileSystem {
    #[serde(rename = "type")]
    fstype: String,
    size: u64,
    available: u64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let unions = match &args.union {
        Some(path) => vec![Union::at(path)?],
        None => Union::all()?,
    };
    let mut all: Vec<_> = unions.iter().map(Status::of).collect();
    if args.stats {
        for (union, status) in unions.iter().zip(&mut all) {
            status.count(stats::of(union)?);
        }
    }
    if args.json {
        return say_json(&all);
    }
    // Those that have no place here: of other mount name spaces, or unmounted while in use.
    let mut elsewhere = union::registered()?;
    elsewhere.retain(|union| union.mounted.is_none() && args.union.is_none());
    if all.is_empty() && elsewhere.is_empty() {
        return say("no union is mounted");
    }
    for (i, status) in all.iter().enumerate() {
        if i > 0 {
            say("")?;
        }
        status.print()?;
    }
    for union in elsewhere {
        let branches: Vec<_> = union.branches.iter().map(|b| b.path.shown()).collect();
        say(format_args!(
            "si={}: in another mount name space, or unmounted but in use: {}",
            union.si,
            branches.join(", ")
        ))?;
    }
    Ok(())
}

/// Prints the branches only.
pub(crate) fn branches(union: &Union, json: bool) -> Result<()> {
    let status = Status::of(union);
    match json {
        true => say_json(&status.branches),
        false => say(text_of(&table(&status.branches))),
    }
}

impl Status {
    fn of(union: &Union) -> Self {
        let pending = plink::pending(union).ok();
        Status {
            mount_point: Exact::of(&union.mount.target).path,
            fstype: union.mount.fstype.clone(),
            source: text(Path::new(&union.mount.source)),
            si: union.si.clone(),
            read_only: union.mount.is_read_only(),
            options: options(union),
            branches: union.branches.iter().map(BranchStatus::of).collect(),
            branches_from: union.origin,
            pseudo_links: pending.map(|pending| plink::inodes(&pending).len()),
            stats: None,
            counts: Vec::new(),
        }
    }

    fn count(&mut self, counts: Vec<Count>) {
        let pair = |count: &Count| (count.name.clone(), count.value);
        self.stats = Some(counts.iter().map(pair).collect());
        self.counts = counts;
    }

    fn print(&self) -> Result<()> {
        let access = if self.read_only {
            "read-only"
        } else {
            "writable"
        };
        say(format_args!(
            "{} ({}, {access}, si={})",
            text(self.mount_point.as_ref()),
            self.fstype,
            self.si
        ))?;
        if !self.options.is_empty() {
            say(format_args!("options: {}", self.options.join(",")))?;
        }
        if let Some(count @ 1..) = self.pseudo_links {
            let path = text(self.mount_point.as_ref());
            say(format_args!(
                "pseudo-links: {count} files, `auplink {path} flush` makes hard links of them"
            ))?;
        }
        say(text_of(&table(&self.branches)))?;
        if self.stats.is_some() {
            say(text_of(&super::stats::table(&self.counts)))?;
            for hint in super::stats::hints(&self.counts) {
                say(hint)?;
            }
        }
        Ok(())
    }
}

/// What was set, without what is shown elsewhere.
fn options(union: &Union) -> Vec<String> {
    let elsewhere = |option: &[u8]| {
        matches!(option, b"ro" | b"rw")
            || [&b"si="[..], b"br=", b"br:"]
                .iter()
                .any(|key| option.starts_with(key))
    };
    let all = union.mount.options().filter(|option| !elsewhere(option));
    all.map(|option| String::from_utf8_lossy(option).into_owned())
        .collect()
}

impl BranchStatus {
    fn of(branch: &Branch) -> Self {
        BranchStatus {
            index: branch.index,
            id: branch.id,
            path: Exact::of(&branch.path),
            access: branch.access.to_string(),
            file_system: FileSystem::of(&branch.path),
        }
    }
}

impl FileSystem {
    fn of(path: &Path) -> Option<Self> {
        let space = rustix::fs::statvfs(path).ok()?;
        let id = dir::mount_of(path).ok()?;
        let mount = mounts::table()
            .ok()?
            .into_iter()
            .find(|mount| mount.id == id)?;
        Some(FileSystem {
            fstype: mount.fstype,
            size: space.f_blocks.saturating_mul(space.f_frsize),
            available: space.f_bavail.saturating_mul(space.f_frsize),
        })
    }
}

fn table(branches: &[BranchStatus]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "INDEX",
        "ID",
        "ACCESS",
        "PATH",
        "FILE SYSTEM",
        "AVAILABLE",
        "OF",
    ]);
    for branch in branches {
        let dash = || "-".to_owned();
        let id = branch.id.map_or_else(dash, |id| id.to_string());
        let (fstype, available, size) = match &branch.file_system {
            Some(fs) => (
                fs.fstype.clone(),
                HumanBytes(fs.available).to_string(),
                HumanBytes(fs.size).to_string(),
            ),
            None => (dash(), dash(), dash()),
        };
        let index = branch.index.to_string();
        table.add_row([
            index,
            id,
            branch.access.clone(),
            text(branch.path.path.as_ref()),
            fstype,
            available,
            size,
        ]);
    }
    for right in [0, 1, 5, 6] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The lines of a table, without the padding of the last column.
fn text_of(table: &Table) -> String {
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let row = |index, id, access: &str, path: &str| BranchStatus {
            index,
            id,
            path: Exact::of(path.as_ref()),
            access: access.to_owned(),
            file_system: None,
        };
        let table = table(&[
            row(0, Some(64), "rw", "/changes"),
            row(1, None, "ro+wh", "/base"),
        ]);
        let table = text_of(&table);
        assert!(
            table.lines().all(|line| line.trim_end() == line),
            "{table:?}"
        );
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0][..4], ["INDEX", "ID", "ACCESS", "PATH"]);
        assert_eq!(lines[1][..4], ["0", "64", "rw", "/changes"]);
        assert_eq!(lines[2][..4], ["1", "-", "ro+wh", "/base"]);
    }
}
