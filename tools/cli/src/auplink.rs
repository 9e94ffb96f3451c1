// SPDX-License-Identifier: GPL-2.0

//! `auplink`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use ruaufs_user::{plink, union::Union};

use crate::{change, say, text};

/// List or flush the pseudo-links of a union
///
/// When a file with several names is copied up by one of them, the union keeps the names together by
/// a pseudo-link. This program copies up the other names, too, as hard links, so that the branch does
/// without. mount.ruaufs(8) and umount.ruaufs(8) do so where a pseudo-link would not last. Without any pseudo-link,
/// or if the union was mounted with noplink, nothing is done.
///
/// If a system call fails the exit status is its errno.
#[derive(Debug, Parser)]
#[command(name = "auplink", version)]
pub struct Args {
    /// The union: where it is mounted, or a path in it
    union: PathBuf,
    /// What to do
    action: Action,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    /// Print the inode numbers, and all names of these files
    List,
    /// Copy up all names
    Cpup,
    /// Copy up all names, and make the union forget its pseudo-links
    Flush,
}

/// Runs it.
pub fn run(args: Args) -> Result<ExitCode> {
    let union = Union::at(&args.union)?;
    match args.action {
        Action::List => list(&union)?,
        Action::Cpup => {
            plink::copy_up(&union, &plink::pending(&union)?)?;
        }
        Action::Flush => change::flush(&union, false)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(union: &Union) -> Result<()> {
    let inodes = plink::inodes(&plink::pending(union)?);
    if inodes.is_empty() {
        return Ok(());
    }
    let numbers: Vec<_> = inodes.iter().map(|ino| format!("{ino} ")).collect();
    say(numbers.concat())?;
    for path in plink::names_of(union, &inodes)?.values().flatten() {
        say(text(path))?;
    }
    Ok(())
}
