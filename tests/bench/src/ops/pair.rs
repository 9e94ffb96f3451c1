// SPDX-License-Identifier: GPL-2.0

//! Two processes at once in one directory.
//!
//! The counting clock allows one CPU only, so they share it by time slices: the figure shows what
//! being interrupted and waiting for each other's locks costs, not how well two CPUs work
//! together. It is the cost of one iteration of one process.

use std::{
    env,
    ffi::CString,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{ensure, Context, Result};
use clap::ValueEnum;
use rustix::{
    fs::{open, openat, unlinkat, AtFlags, Mode, OFlags},
    io::pread,
};

use crate::{
    fixture::{settle, ENTRIES},
    run::Session,
};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Work {
    Read,
    Create,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Read => "read",
            Work::Create => "create",
        }
    }

    /// What each does in a sample: many of its time slices, whose number is chance.
    fn iterations(self) -> usize {
        match self {
            Work::Read => 20_000,
            Work::Create => 4000,
        }
    }
}

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    for (op, work) in [("pair.read", Work::Read), ("pair.create", Work::Create)] {
        if !s.wants(op) {
            continue;
        }
        let mut samples = Vec::new();
        for round in 0..s.plan.trees {
            samples.push(pair(s, work, round).context(op)?);
        }
        s.record(op, &samples)?;
    }
    Ok(())
}

fn start(s: &Session<'_>, work: Work, id: usize) -> Result<Child> {
    let child = Command::new(env::current_exe()?)
        .args(["worker", work.name()])
        .arg(&s.path)
        .args([id.to_string(), work.iterations().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// Waits for a byte from the process.
fn hear(child: &mut Child) -> Result<()> {
    let output = child.stdout.as_mut().context("no pipe")?;
    Ok(output.read_exact(&mut [0])?)
}

fn pair(s: &Session<'_>, work: Work, round: usize) -> Result<f64> {
    let mut both = [start(s, work, 2 * round)?, start(s, work, 2 * round + 1)?];
    both.iter_mut().try_for_each(hear)?;
    settle();
    let count = s.count(|| {
        for child in &mut both {
            child.stdin.as_mut().context("no pipe")?.write_all(b"g")?;
        }
        both.iter_mut().try_for_each(hear)
    })?;
    for child in &mut both {
        ensure!(child.wait()?.success(), "a process failed");
    }
    Ok(count / (2 * work.iterations()) as f64)
}

/// One of the two: says when it is ready, waits for the start, works, says when it is done.
pub(crate) fn worker(work: Work, dir: &Path, id: usize, count: usize) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(dir, flags, Mode::empty())?;
    let names: Vec<CString> = (0..count)
        .map(|i| match work {
            // Empty files, half of the time those which the other reads at that moment.
            Work::Read => format!("listed/entry-{:04}", i % ENTRIES),
            Work::Create => format!("change/pair-{id}-{i}"),
        })
        .map(CString::new)
        .collect::<Result<_, _>>()?;
    let mut buffer = vec![0; 4096];
    let mut one = |name: &CString| -> Result<()> {
        match work {
            Work::Read => {
                let fd = openat(&root, name, OFlags::RDONLY, Mode::empty())?;
                pread(&fd, &mut buffer, 0)?;
            }
            Work::Create => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                openat(&root, name, flags, Mode::from_raw_mode(0o644))?;
                unlinkat(&root, name, AtFlags::empty())?;
            }
        }
        Ok(())
    };
    if matches!(work, Work::Read) {
        names.iter().try_for_each(&mut one)?;
    }
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    let mut say = |byte: &[u8]| output.write_all(byte).and_then(|()| output.flush());
    say(b"r")?;
    input.read_exact(&mut [0])?;
    names.iter().try_for_each(&mut one)?;
    say(b"d")?;
    Ok(())
}
