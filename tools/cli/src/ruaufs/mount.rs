// SPDX-License-Identifier: GPL-2.0

//! `ruaufs mount`

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use anyhow::{ensure, Context, Result};
use clap::Parser;
use ruaufs_user::{
    branch::{self, Spec},
    mountapi::{self, Request},
    names::Show,
    options::{self, Setting, Sorted},
};

use crate::change;

/// Mount a union of directories
///
/// The first branch is the topmost; it is writable unless it says otherwise, and all others are
/// read-only. Example: ruaufs mount /mnt /changes /base
#[derive(Debug, Parser)]
pub struct Args {
    /// Directory to mount on
    target: PathBuf,
    /// Branches, topmost first: PATH[=PERM[+ATTR...]], such as /changes=rw or /layer=ro+wh
    #[arg(required = true)]
    branches: Vec<OsString>,
    /// Mount options, separated by commas, see ruaufs(5) and mount(8)
    #[arg(short, long, value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// Make the union read-only
    #[arg(short, long)]
    read_only: bool,
    /// Mount it as this type
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = ["ruaufs", "aufs"], default_value = "ruaufs")]
    fstype: String,
    /// What the mount table shows as the source
    #[arg(long, value_name = "WORD", default_value = "none")]
    source: OsString,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut branches = Vec::new();
    for text in &args.branches {
        let spec = Spec::parse(text).with_context(|| format!("branch {}", text.shown()))?;
        branch::check_path(&spec.path)?;
        super::branch::check_directory(&spec.path)?;
        branches.push(Setting::new("br", spec.to_bytes()));
    }
    let mut list = Vec::new();
    if args.read_only {
        list.push(b"ro".to_vec());
    }
    list.extend(
        args.options
            .into_iter()
            .flat_map(|o| options::split(&o.into_vec())),
    );
    let mut sorted = Sorted::of(branches);
    sorted.append(options::sort(&list)?);
    ensure!(
        !sorted.remount,
        "to change a mounted union: ruaufs branch, or mount -o remount,..."
    );
    change::show(mountapi::mount(&Request {
        fstype: &args.fstype,
        source: &args.source,
        target: &args.target,
        options: &sorted,
    })?);
    Ok(())
}
