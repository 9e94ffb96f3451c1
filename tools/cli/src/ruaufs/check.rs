// SPDX-License-Identifier: GPL-2.0

//! `ruaufs check`, and the work of `auchk`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{bail, Result};
use clap::Parser;
use ruaufs_user::{
    check::{Check, Finding, What},
    dir::Dir,
    union::{self, Union},
};
use serde::Serialize;

use crate::{say, say_json, text};

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
    path: String,
    what: What,
    text: &'static str,
    repairable: bool,
    repaired: bool,
}

/// Whether all is well, and whether all is now.
pub(crate) fn report(args: &Args) -> Result<(bool, bool)> {
    let mut lines = Vec::new();
    for branch in &args.branches {
        let used_by = users(branch)?;
        if let (Some(union), true) = (&used_by, args.repair) {
            bail!(
                "{} is a branch of the union on {}; unmount that before a repair",
                branch.display(),
                union.mount.target.display()
            );
        }
        let check = Check {
            repair: args.repair,
        };
        for finding in check.branch(&Dir::open(branch)?)? {
            let Finding {
                what,
                path,
                repaired,
            } = finding;
            // Those of a mounted union are in use.
            if used_by.is_some() && matches!(what, What::Plink | What::Orphan) {
                continue;
            }
            lines.push(Line {
                branch: text(branch),
                path: text(&path),
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

fn print(lines: &[Line], repair: bool) -> Result<()> {
    for line in lines {
        let done = if line.repaired { " (repaired)" } else { "" };
        say(format_args!(
            "{}/{}: {}{done}",
            line.branch, line.path, line.text
        ))?;
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
            eprintln!("ruaufs: error: {e:#}");
            8
        }
    }))
}

/// A mounted union that the branch belongs to.
fn users(branch: &Path) -> Result<Option<Union>> {
    let wanted = union::identity(branch)?;
    let has = |union: &Union| {
        let same = |b: &union::Branch| union::identity(&b.path).is_ok_and(|i| i == wanted);
        union.branches.iter().any(same)
    };
    Ok(Union::all()?.into_iter().find(has))
}
