// SPDX-License-Identifier: GPL-2.0

//! `auchk`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::ruaufs::check;

/// Check the metadata of a branch
///
/// The same as ruaufs-check(8) without its options; nothing is changed. The exit status is 0 if all
/// is well, 1 if not.
#[derive(Debug, Parser)]
#[command(name = "auchk", version)]
pub struct Args {
    /// The branch's directory
    branch: PathBuf,
}

/// Runs it.
pub fn run(args: Args) -> Result<ExitCode> {
    let args = check::Args {
        branches: vec![args.branch],
        repair: false,
        json: false,
    };
    let (sound, _) = check::report(&args)?;
    Ok(ExitCode::from(u8::from(!sound)))
}
