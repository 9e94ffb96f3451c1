// SPDX-License-Identifier: GPL-2.0

//! What file operations cost on ruaufs, on overlayfs and on the bare file system, in one boot.
//!
//! ```text
//! run     in the guest: builds trees, mounts, measures; prints rows of CSV   run, fixture, ops/
//! report  on the host: tables, targets, comparison with a base, plot         report, plot
//! worker  one process of the two-process run, started by `run`               ops/pair
//! ```
//!
//! The guest's clock counts instructions (QEMU `-icount shift=0`), so a figure is the number of
//! instructions that the one CPU executed, kernel threads and interrupts included: see [`clock`].
//! [`catalogue`] lists the operations with their targets.

mod catalogue;
mod clock;
mod fixture;
mod memory;
mod ops;
mod plot;
mod profile;
mod report;
mod row;
mod run;
mod sample;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure (in the guest, as root); lines that begin with `csv,` are the result.
    Run(run::Options),
    /// Show what `run` measured.
    Report {
        /// Rows of `run`.
        csv: PathBuf,
        /// Rows of an earlier run, to show what has changed.
        #[arg(long)]
        base: Option<PathBuf>,
        /// Draw cost against layer count into this SVG file.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// One of two processes (internal).
    #[command(hide = true)]
    Worker {
        what: ops::pair::Work,
        dir: PathBuf,
        id: usize,
        count: usize,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Report { csv, base, plot } => {
            report::report(&csv, base.as_deref())?;
            plot.map_or(Ok(()), |file| plot::plot(&csv, &file))
        }
        Command::Worker {
            what,
            dir,
            id,
            count,
        } => ops::pair::worker(what, &dir, id, count),
    }
}
