// SPDX-License-Identifier: GPL-2.0

//! `ruaufs branch`

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::{Parser, Subcommand};
use ruaufs_user::{
    branch::{self, Access, Spec},
    dir::Dir,
    errno_of,
    names::Show,
    options::Setting,
    union::Union,
};
use rustix::io::Errno;

use crate::{change, ruaufs::status};

/// Show or change the branches of a mounted union
///
/// All changes of one call are made together, or none is. Files may be open meanwhile; a branch that
/// is in use itself cannot be removed (aubusy(8) shows by whom).
#[derive(Debug, Parser)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the branches, topmost first
    List {
        /// The union: where it is mounted, or a path in it
        union: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a branch
    Add {
        /// The union: where it is mounted, or a path in it
        union: PathBuf,
        /// PATH[=PERM[+ATTR...]]; without PERM it is rw at the top and ro elsewhere
        branch: OsString,
        /// Give it this index; the topmost is 0
        #[arg(long, value_name = "INDEX", conflicts_with = "bottom")]
        at: Option<usize>,
        /// Add it under all others instead of at the top
        #[arg(long)]
        bottom: bool,
    },
    /// Remove branches; their directories stay as they are
    Del {
        /// The union: where it is mounted, or a path in it
        union: PathBuf,
        /// The branches: their directories, or their indexes
        #[arg(required = true)]
        branches: Vec<PathBuf>,
    },
    /// Change what the union may do with a branch
    Mod {
        /// The union: where it is mounted, or a path in it
        union: PathBuf,
        /// The branch, and what it is to be: all attributes are replaced
        #[arg(value_name = "PATH=PERM[+ATTR...]")]
        branch: OsString,
    },
    /// Move a branch to another place in the order
    Move {
        /// The union: where it is mounted, or a path in it
        union: PathBuf,
        /// The branch: its directory, or its index
        branch: PathBuf,
        /// Its new index; the topmost is 0
        #[arg(long, value_name = "INDEX")]
        to: usize,
    },
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List { union, json } => status::branches(&Union::at(&union)?, json),
        Command::Add {
            union,
            branch,
            at,
            bottom,
        } => add(&Union::at(&union)?, &branch, at, bottom),
        Command::Del { union, branches } => del(&Union::at(&union)?, &branches),
        Command::Mod { union, branch } => modify(&Union::at(&union)?, &branch),
        Command::Move { union, branch, to } => move_to(&Union::at(&union)?, &branch, to),
    }
}

fn add(union: &Union, text: &OsString, at: Option<usize>, bottom: bool) -> Result<()> {
    let spec = Spec::parse(text)?;
    branch::check_path(&spec.path)?;
    check_directory(&spec.path)?;
    ensure!(
        !is_member(union, &spec.path),
        "{} is a branch already; `ruaufs branch mod` changes it, `move` moves it",
        spec.path.shown()
    );
    let last = union.branches.len();
    let at = at.unwrap_or(if bottom { last } else { 0 });
    ensure!(
        at <= last,
        "the index is at most {last}: the union has {last} branches"
    );
    let option = match at {
        n if n == last => Setting::new("append", spec.to_bytes()),
        n => Setting::new(
            "add",
            [format!("{n}:").as_bytes(), &spec.to_bytes()].concat(),
        ),
    };
    change(union, vec![option], &spec.path)
}

/// Refuses a branch that is no directory, or not there.
pub(super) fn check_directory(path: &Path) -> Result<()> {
    let opened = Dir::open(path).map(drop);
    opened.context("a branch must be a directory")
}

fn del(union: &Union, paths: &[PathBuf]) -> Result<()> {
    ensure!(
        paths.len() < union.branches.len(),
        "a union needs one branch at least"
    );
    let mut list = Vec::new();
    for path in paths {
        let branch = union.branch_or_index(path)?;
        list.push(Setting::new("del", bytes(&branch.path)));
    }
    change(union, list, &paths[0])
}

fn modify(union: &Union, text: &OsString) -> Result<()> {
    let spec = Spec::parse(text)?;
    let access = spec
        .access
        .context("give the permission, too: PATH=rw, PATH=ro, PATH=ro+wh, ...")?;
    let path = &union.branch(&spec.path)?.path;
    let option = Setting::new("mod", with_access(bytes(path), &access));
    change(union, vec![option], path)
}

fn move_to(union: &Union, path: &Path, to: usize) -> Result<()> {
    let branch = union.branch_or_index(path)?;
    let last = union.branches.len() - 1;
    ensure!(to <= last, "the index is at most {last}");
    if branch.index == to {
        return Ok(());
    }
    // One remount: the union never shows itself without the branch.
    let add = [format!("{to}:").as_bytes(), &bytes(&branch.path)].concat();
    let list = vec![
        Setting::new("del", bytes(&branch.path)),
        Setting::new("add", with_access(add, &branch.access)),
    ];
    change(union, list, &branch.path)
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn with_access(value: Vec<u8>, access: &Access) -> Vec<u8> {
    [&value[..], b"=", access.as_str().as_bytes()].concat()
}

fn is_member(union: &Union, path: &Path) -> bool {
    union.branch(path).is_ok()
}

fn change(union: &Union, list: Vec<Setting>, branch: &Path) -> Result<()> {
    change::remount_with(union, list).map_err(|e| match errno_of(&e) {
        Some(Errno::BUSY) => {
            let (target, branch) = (union.mount.target.shown(), branch.shown());
            e.context(format!(
                "a branch is in use, `aubusy -v {target} {branch}` shows by whom"
            ))
        }
        _ => e,
    })
}
