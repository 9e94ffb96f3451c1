// SPDX-License-Identifier: GPL-2.0

//! `ruaufs`.

pub mod branch;
pub mod check;
pub mod commit;
pub mod diff;
pub mod mount;
mod stats;
pub mod status;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Work with unions of directories
///
/// A union shows several directories, its branches, as one; what is changed goes to a writable
/// branch. ruaufs(5) describes branches and options.
#[derive(Debug, Parser)]
#[command(name = "ruaufs", version, propagate_version = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::Args),
    Branch(branch::Args),
    Status(status::Args),
    Diff(diff::Args),
    Commit(commit::Args),
    Check(check::Args),
}

/// Runs it.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Mount(args) => mount::run(args)?,
        Command::Branch(args) => branch::run(args)?,
        Command::Status(args) => status::run(args)?,
        Command::Diff(args) => diff::run(args)?,
        Command::Commit(args) => commit::run(args)?,
        Command::Check(args) => return check::run(args),
    }
    Ok(ExitCode::SUCCESS)
}
