// SPDX-License-Identifier: GPL-2.0

//! `ruaufs diff`

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use ruaufs_user::{
    branch::{Access, Spec},
    diff::{self, Counts, Kind},
    dir::Dir,
    layers::{Layers, Mounts},
    union::Union,
};
use serde::Serialize;

use crate::{say, say_json, text, Exact};

/// Show what a branch changes
///
/// Each line has a letter and a path in the union: A for what is new, C for what is changed, D for
/// what is gone, with all that was in it. A directory on the branch is changed (C) if it is on lower
/// branches, too. Example: ruaufs diff /mnt
#[derive(Debug, Parser)]
pub struct Args {
    /// The union: where it is mounted, or a path in it
    #[arg(required_unless_present = "upper", conflicts_with = "upper")]
    union: Option<PathBuf>,
    /// Look at this branch of the union; the topmost one if it is left out
    #[arg(long, value_name = "DIR", requires = "union")]
    branch: Option<PathBuf>,
    /// Without a mounted union: look at this directory
    #[arg(long, value_name = "DIR", requires = "lower")]
    upper: Option<PathBuf>,
    /// Without a mounted union: what lies under it, topmost first (repeatable); with =ro or =rr
    /// whiteouts in it do not count
    #[arg(long, value_name = "BRANCH", requires = "upper")]
    lower: Vec<OsString>,
    /// Only count
    #[arg(long)]
    summary: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    kind: Kind,
    #[serde(flatten)]
    path: Exact,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let (branch, honours, below) = stack(&args)?;
    let mut lines = Vec::new();
    let mut counts = Counts::default();
    diff::diff(branch, honours, below, &mut |kind, path| {
        counts.count(kind);
        match (args.summary, args.json) {
            (true, _) => Ok(()),
            (false, true) => {
                let path = Exact::of(path);
                lines.push(Line { kind, path });
                Ok(())
            }
            (false, false) => say(format_args!("{kind} {}", text(path))),
        }
    })?;
    match (args.summary, args.json) {
        (true, true) => say_json(&counts),
        (true, false) => {
            let Counts {
                added,
                changed,
                deleted,
            } = counts;
            say(format_args!(
                "{added} added, {changed} changed, {deleted} deleted"
            ))
        }
        (false, true) => say_json(&lines),
        (false, false) => Ok(()),
    }
}

/// The branch, whether its marks count, and what lies under it.
fn stack(args: &Args) -> Result<(Dir, bool, Layers)> {
    let mut all = Vec::new();
    match (&args.union, &args.upper) {
        (Some(path), _) => {
            let union = Union::at(path)?;
            let from = match &args.branch {
                Some(path) => union.branch(path)?.index,
                None => 0,
            };
            for branch in union.branches.iter().skip(from) {
                all.push((branch.path.clone(), branch.access.honours_marks()));
            }
        }
        (None, Some(upper)) => {
            all.push((upper.clone(), true));
            for text in &args.lower {
                let spec = Spec::parse(text)?;
                let honours = spec.access.as_ref().is_none_or(Access::honours_marks);
                all.push((spec.path, honours));
            }
        }
        (None, None) => anyhow::bail!("give a union, or --upper and --lower"),
    }
    let mut all = all.iter().map(|(path, honours)| (path.as_path(), *honours));
    let (branch, honours) = all.next().context("the union has no branches")?;
    Ok((
        Dir::open(branch)?,
        honours,
        Layers::open(all, 1, Mounts::Shown)?,
    ))
}
