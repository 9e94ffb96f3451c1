// SPDX-License-Identifier: GPL-2.0

//! Writes manual pages and shell completion of all tools below a directory.

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: ruaufs-manuals DIRECTORY");
        return ExitCode::from(2);
    };
    match ruaufs_tools::manual::write_all(&PathBuf::from(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ruaufs-manuals: error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
