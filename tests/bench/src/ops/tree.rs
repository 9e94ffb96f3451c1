// SPDX-License-Identifier: GPL-2.0

//! Real programs on a tree of 2,000 files. What starting a program costs is part of it.

use std::fs;

use anyhow::{Context, Result};
use rustix::fs::sync;

use crate::{
    fixture::{command, drop_caches, settle},
    run::Session,
};

const ARCHIVE: &str = "/dev/shm/tree.tar";

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    if !["find.cold", "find.warm", "tar", "untar"]
        .iter()
        .any(|op| s.wants(op))
    {
        return Ok(());
    }
    let path = |name: &str| s.path.join(name).display().to_string();
    let (root, tree) = (path(""), path("tree"));
    // A test that makes it ask for the attributes of each.
    let find = || command("find", &[&tree, "-type", "f", "-size", "+9"]);
    let rounds: Vec<usize> = (0..s.plan.trees).collect();
    find()?;
    let cold = |_: &usize| {
        drop_caches()?;
        // The program itself is warm.
        command("find", &["/proc/sys/vm/drop_caches"])
    };
    s.each("find.cold", &rounds, cold, |_| find())?;
    s.each("find.warm", &rounds, |_| Ok(()), |_| find())?;

    // Unlike /dev/null, that is not known to tar, which reads files for it.
    let tar = |to: &str| command("tar", &["-C", &root, "-cf", to, "tree"]);
    tar(ARCHIVE)?;
    s.each("tar", &rounds, |_| Ok(()), |_| tar("/dev/zero"))?;

    let to = |n: &usize| path(&format!("untar-{n}"));
    let before = |n: &usize| {
        fs::create_dir(to(n)).context("making a directory")?;
        sync();
        settle();
        Ok(())
    };
    s.each("untar", &rounds, before, |n| {
        command("tar", &["-C", &to(n), "-xf", ARCHIVE])
    })?;
    fs::remove_file(ARCHIVE)?;
    Ok(())
}
