// SPDX-License-Identifier: GPL-2.0

//! `aubusy` and `auibusy`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use ruaufs_user::{
    busy::{self, Use},
    names::Show,
    union::Union,
};

use crate::{say, text};

/// Show what keeps a branch from being removed
///
/// Prints each object of the union that is in use on the branch, and the processes that use it, in
/// three columns: process, what it is there (cwd, exe, map, or the number of a descriptor), path.
/// Objects that the kernel holds for another reason have a dash for the process.
///
/// The exit status is 0 if nothing was found, 1 if something was.
#[derive(Debug, Parser)]
#[command(name = "aubusy", version)]
pub struct Args {
    /// The union: where it is mounted, or a path in it
    union: PathBuf,
    /// The branch: its directory, or its index
    branch: PathBuf,
    /// Also look for what no process uses but the kernel holds: takes long in a large union
    #[arg(short, long)]
    verbose: bool,
}

/// Show the inodes that keep a branch from being removed
///
/// Prints one line for each: i and the number in the union, b and the index of the branch, hi and
/// the number on the branch.
#[derive(Debug, Parser)]
#[command(name = "auibusy", version)]
pub struct InodeArgs {
    /// The union: where it is mounted, or a path in it
    union: PathBuf,
    /// Index of the branch; the topmost is 0
    index: usize,
    /// Inode numbers in the union; all that can be found if none are given
    inodes: Vec<u64>,
}

/// `aubusy`
pub fn run(args: Args) -> Result<ExitCode> {
    let union = Union::at(&args.union)?;
    let index = union.branch_or_index(&args.branch)?.index;
    // Who may not ask sees no process of others either, and would find nothing.
    busy::may_ask(&union, index)?;
    let mut users: BTreeMap<u64, Vec<Use>> = BTreeMap::new();
    // A shell may have handed a descriptor on to this program.
    let others = |used: &Use| used.pid != std::process::id();
    for used in busy::uses(union.mount.dev)?.into_iter().filter(others) {
        users.entry(used.ino).or_default().push(used);
    }
    let mut inodes: Vec<u64> = users.keys().copied().collect();
    if args.verbose {
        inodes.extend(busy::inodes(&union)?);
        inodes.sort_unstable();
        inodes.dedup();
    }
    let mut found = false;
    for ino in inodes {
        if busy::on_branch(&union, ino, index)?.is_none() {
            continue;
        }
        found = true;
        match users.get(&ino) {
            Some(users) => {
                for used in users {
                    let process = format!("{}({})", used.command.shown(), used.pid);
                    say(format_args!(
                        "{process}\t{}\t{}",
                        used.how,
                        text(&used.path)
                    ))?;
                }
            }
            None => say(format_args!("-\t-\tinode {ino}"))?,
        }
    }
    Ok(ExitCode::from(u8::from(found)))
}

/// `auibusy`
pub fn run_inodes(args: InodeArgs) -> Result<ExitCode> {
    let union = Union::at(&args.union)?;
    let inodes = match args.inodes.is_empty() {
        true => busy::inodes(&union)
            .context("looking for inodes")?
            .into_iter()
            .collect(),
        false => args.inodes,
    };
    for ino in inodes {
        if let Some(on_branch) = busy::on_branch(&union, ino, args.index)? {
            say(format_args!("i{ino} b{} hi{on_branch}", args.index))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
