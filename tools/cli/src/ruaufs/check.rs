// SPDX-License-Identifier: GPL-2.0

//! `ruaufs check`, and the work of `auchk`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{bail, Context, Result};
use clap::Parser;
use ruaufs_user::{
    check::{Check, Finding, What},
    claim::{self, Claim},
    dir::Dir,
};
use serde::Serialize;

use crate::{complain, say, say_json, text, warn, Exact};

/// Check the metadata of branches, and repair it
///
/// Looks for objects beside their own whiteout, whiteouts and opaque marks that are no regular
/// files, left-over pseudo-links, orphans and temporary objects, and unknown names beginning with
/// .wh..wh. With --repair, left-overs are removed, and so is the whiteout of an object that is
/// there (a directory gets an opaque mark instead); the rest is for you to decide.
///
/// The exit status is 0 if all is well, 1 if all that was found was repaired, 4 if something is left,
/// 8 if the check could not be made.
#[derive(Debug, Parser)]
pub struct Args {
    /// The branches' directories
    #[arg(required = true)]
    pub branches: Vec<PathBuf>,
    /// Repair what can be; no union may use the branch
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Line {
    branch: String,
    #[serde(flatten)]
    path: Exact,
    what: What,
    text: &'static str,
    repairable: bool,
    repaired: bool,
    #[serde(skip)]
    shown: String,
}

/// Whether all is well, and whether all is now.
pub(crate) fn report(args: &Args) -> Result<(bool, bool)> {
    let mut lines = Vec::new();
    for branch in &args.branches {
        let root = Dir::open(branch)?;
        let used = claim::users(&[&root])?.iter().any(|user| user.is.is_some());
        let _claim = args.repair.then(|| ours(&root)).transpose()?;
        let check = Check {
            repair: args.repair,
        };
        let found = check.branch(root)?;
        for path in &found.mounts {
            warn(format_args!(
                "{}: something is mounted there; what is in it and under it was not looked at",
                text(&branch.join(path))
            ));
        }
        for finding in found.findings {
            let Finding {
                what,
                path,
                repaired,
            } = finding;
            // Those of a mounted union are in use.
            if used && matches!(what, What::Plink | What::Orphan) {
                continue;
            }
            lines.push(Line {
                branch: Exact::of(branch).path,
                shown: format!("{}/{}", text(branch), text(&path)),
                path: Exact::of(&path),
                what,
                text: what.text(),
                repairable: what.is_repairable(),
                repaired,
            });
        }
    }
    match args.json {
        true => say_json(&lines)?,
        false => print(&lines, args.repair)?,
    }
    Ok((lines.is_empty(), lines.iter().all(|line| line.repaired)))
}

/// A repair is made where no union has the branch, or a directory above or below it.
fn ours(root: &Dir) -> Result<Claim> {
    if let Some(user) = claim::users(&[root])?.first() {
        bail!(
            "{} is a branch of the union on {}; unmount that before a repair",
            text(&user.path),
            user.union.shown()
        );
    }
    Claim::new(&[root]).context("nothing was repaired")
}

fn print(lines: &[Line], repair: bool) -> Result<()> {
    for line in lines {
        let done = if line.repaired { " (repaired)" } else { "" };
        say(format_args!("{}: {}{done}", line.shown, line.text))?;
    }
    let repairable = lines
        .iter()
        .filter(|line| line.repairable && !line.repaired)
        .count();
    if repairable > 0 && !repair {
        say(format_args!(
            "{repairable} of {} can be repaired: ruaufs check --repair",
            lines.len()
        ))?;
    }
    Ok(())
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    Ok(ExitCode::from(match report(&args) {
        Ok((true, _)) => 0,
        Ok((false, true)) => 1,
        Ok((false, false)) => 4,
        Err(e) => {
            complain(format_args!("ruaufs: error: {e:#}"));
            8
        }
    }))
}
