// SPDX-License-Identifier: GPL-2.0

//! `aumvdown`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{ensure, Result};
use clap::Parser;
use ruaufs_user::{
    dir,
    ioctl::{self, Mvdown},
};
use rustix::io::Errno;

use crate::{complain, say, text};

/// Move a file to the next lower writable branch
///
/// The opposite of copy-up, done by the kernel: from the topmost branch that has the file to the
/// next writable one below it. The file must not be in use and must have one name only.
#[derive(Debug, Parser)]
#[command(name = "aumvdown", version)]
pub struct Args {
    /// Move it to the branch with this number (`ruaufs branch list` shows them)
    #[arg(short = 'b', long, value_name = "ID")]
    lower_branch_id: Option<i16>,
    /// Move it from the branch with this number
    #[arg(short = 'B', long, value_name = "ID")]
    upper_branch_id: Option<i16>,
    /// Ask before each file
    #[arg(short, long)]
    interactive: bool,
    /// Keep the upper file
    #[arg(short, long)]
    keep_upper: bool,
    /// Overwrite an existing lower file
    #[arg(short, long)]
    overwrite_lower: bool,
    /// Allow a lower branch that is ro in the union
    #[arg(short = 'r', long)]
    allow_ro_lower: bool,
    /// Allow an upper branch that is ro in the union
    #[arg(short = 'R', long)]
    allow_ro_upper: bool,
    /// Say what was moved where
    #[arg(short, long)]
    verbose: bool,
    /// Make the kernel log why it refuses
    #[arg(short = 'd', long)]
    dmsg: bool,
    /// Files in a union
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs it: files that cannot be moved do not keep others from it.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut failed = false;
    for file in &args.files {
        if args.interactive && !confirmed(file)? {
            continue;
        }
        if let Err(e) = move_down(&args, file) {
            failed = true;
            complain(format_args!("aumvdown: error: {e:#}"));
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn request(args: &Args) -> Mvdown {
    let mut request = Mvdown::default();
    let switches = [
        (args.dmsg, Mvdown::DMSG),
        (args.overwrite_lower, Mvdown::OWLOWER),
        (args.keep_upper, Mvdown::KUPPER),
        (args.allow_ro_lower, Mvdown::ROLOWER),
        (args.allow_ro_upper, Mvdown::ROUPPER),
        (args.upper_branch_id.is_some(), Mvdown::BRID_UPPER),
        (args.lower_branch_id.is_some(), Mvdown::BRID_LOWER),
    ];
    for (given, flag) in switches {
        request.flags |= if given { flag } else { 0 };
    }
    request.upper_id = args.upper_branch_id.unwrap_or_default();
    request.lower_id = args.lower_branch_id.unwrap_or_default();
    request
}

fn move_down(args: &Args, file: &Path) -> Result<()> {
    // A named pipe must not make us wait, and a device not do anything.
    let object = dir::object_at(file)?;
    ensure!(!object.meta().is_dir(), "{}: it is a directory", text(file));
    let open = object.open_file(&mut || Ok(()))?;
    let mut request = request(args);
    ioctl::move_down(&open, &mut request).map_err(|e| {
        let advice = match (e, request.reason()) {
            (_, Some(reason)) => reason.text(),
            (Errno::NOTTY, _) => "it is in no union, or the kernel module cannot do this",
            (Errno::PERM, _) => "only root may",
            (Errno::ISDIR, _) => "it is a directory",
            (Errno::ROFS, _) => "its branch is not writable; -R allows that if its file system is",
            (Errno::BUSY, _) => "it is in use, or has several names",
            (Errno::EXIST, _) => "the lower branch has it, too; -o overwrites it",
            _ => "the kernel refused",
        };
        anyhow::Error::from(e).context(format!("{}: {advice}", text(file)))
    })?;
    if args.verbose {
        say(format_args!(
            "'{}' b{}(brid{}) --> b{}(brid{})",
            text(file),
            request.upper_index,
            request.upper_id,
            request.lower_index,
            request.lower_id
        ))?;
    }
    Ok(())
}

fn confirmed(file: &Path) -> Result<bool> {
    write!(std::io::stdout(), "move down '{}'? ", text(file))?;
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim_start().starts_with(['y', 'Y']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_become_flags() {
        let args = |list: &str| {
            Args::try_parse_from(format!("aumvdown {list} f").split_whitespace()).unwrap()
        };
        assert_eq!(request(&args("")).flags, 0);
        let all = request(&args("-i -k -o -r -R -v -b 65 -B 64"));
        assert_eq!(all.flags, 0x4 | 0x2 | 0x8 | 0x20 | 0x80 | 0x100);
        assert_eq!((all.upper_id, all.lower_id), (64, 65));
    }
}
