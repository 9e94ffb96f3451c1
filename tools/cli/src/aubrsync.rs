// SPDX-License-Identifier: GPL-2.0

//! `aubrsync`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{ensure, Result};
use clap::{Parser, ValueEnum};
use ruaufs_user::{
    commit::{Branches, Options},
    names::Show,
    union::Union,
};

use crate::ruaufs::commit;

/// Copy or move the contents of a branch into the one below it
///
/// The union is read-only meanwhile, and then what it was before. Whiteouts and opaque marks of the
/// source become removals in the destination. Unlike aufs's program this needs no rsync and takes no
/// options of it; the destination must be the branch directly below the source, since the union
/// would show something else otherwise. See ruaufs-commit(8) for more.
#[derive(Debug, Parser)]
#[command(name = "aubrsync", version)]
pub struct Args {
    /// What to do
    action: Action,
    /// The union: where it is mounted, or a path in it
    union: PathBuf,
    /// The branch to take from
    source: PathBuf,
    /// The branch to give to
    destination: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// The source stays as it is
    Copy,
    /// The source is empty afterwards
    Move,
    /// As move, and the destination gets all whiteouts and opaque marks, needed or not
    #[value(name = "move_with_wh")]
    MoveWithWh,
}

/// Runs it.
pub fn run(args: Args) -> Result<ExitCode> {
    let union = Union::at(&args.union)?;
    let source = union.branch(&args.source)?.index;
    let destination = union.branch(&args.destination)?.index;
    ensure!(
        destination == source + 1,
        "{} must be the branch directly below {} (indexes {source} and {destination})",
        args.destination.shown(),
        args.source.shown()
    );
    let options = Options {
        keep: args.action == Action::Copy,
        all_marks: args.action == Action::MoveWithWh,
        flushed: true,
        look: false,
    };
    commit::read_only_meanwhile(&union, || {
        commit::run_with_bar(Branches::of(&union, source)?, options)
    })?;
    Ok(ExitCode::SUCCESS)
}
