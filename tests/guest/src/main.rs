// SPDX-License-Identifier: GPL-2.0

//! Guest test suite of ruaufs. It runs as root inside a virtual machine, never on a machine that
//! matters: it mounts, loads file systems and drops caches.
//!
//! ```text
//! tests/*     one module for each subject; a test sets up branches, mounts, acts, checks
//!   |
//! harness     run       matrix of layouts, frame around each run (panics, module uses, kernel log)
//!   |         context   directories of a test; checks after it (branches untouched, no leftovers)
//!   |         union     mounting through both APIs; a guard that insists on a clean umount
//!   |         tree      declarative description of a branch;  snapshot  a tree as a value
//!   |         scratch   the file systems branches live on;    klog      defects in the kernel log
//!   |         users     other credentials and umasks;         watchdog  hangs become reports
//!   v
//! dir, sys    directory listings and system calls with errors that name call, path and place
//! ```
//!
//! Arguments are libtest's: `ruaufs-guest-tests rename::`, `--list`, `--exact NAME`. Environment:
//! `RUAUFS_TESTS` a file with the names of the tests to run, `RUAUFS_TEST_TIMEOUT` seconds until a
//! silent test counts as hung, `RUAUFS_TEST_DIR` where everything is mounted, `RUAUFS_DEBUG` to list
//! the tests of the debug kernel, too, `SEED` for what is random, `STEPS` for the model test, `SOAK`
//! for changes of branches, `FUZZ` for random calls, `CUTS` for power cuts, `MINUTES` for the stress
//! test.
//! Tests run one after the other, since each is held responsible for the kernel log and the
//! module's use count.
//!
//! The last line is `N passed, N failed`. Exit status: 0 passed, 1 failures, 2 no module,
//! 3 a test hung.

mod harness;
mod tests;

use std::{collections::HashSet, process::ExitCode};

use harness::{nfs, run, scratch, watchdog};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(status) = tests::be_worker() {
        return status;
    }
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    if !args.list {
        if let Err(e) = prepare() {
            eprintln!("ruaufs-guest-tests: {e:#}");
            return ExitCode::from(2);
        }
    }
    let trials = match trials() {
        Ok(trials) => trials,
        Err(e) => {
            eprintln!("ruaufs-guest-tests: RUAUFS_TESTS: {e}");
            return ExitCode::from(2);
        }
    };
    let conclusion = libtest_mimic::run(&args, trials);
    if let Err(e) = nfs::stop() {
        eprintln!("ruaufs-guest-tests: the NFS server cannot be stopped: {e:#}");
        return ExitCode::FAILURE;
    }
    if !args.list {
        println!(
            "{} passed, {} failed",
            conclusion.num_passed, conclusion.num_failed
        );
    }
    match conclusion.has_failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// All tests, or those that a file names, one in a line.
fn trials() -> std::io::Result<Vec<Trial>> {
    let mut trials: Vec<_> = tests::all().into_iter().flat_map(run::trials).collect();
    if let Some(path) = std::env::var_os("RUAUFS_TESTS") {
        let names = std::fs::read_to_string(path)?;
        let names: HashSet<_> = names.lines().collect();
        trials.retain(|trial| names.contains(trial.name()));
    }
    Ok(trials)
}

fn prepare() -> anyhow::Result<()> {
    // A failure shows in the next line.
    let _ = std::process::Command::new("modprobe")
        .args(["-q", "ruaufs"])
        .status();
    let known = std::fs::read_to_string("/proc/filesystems")?;
    anyhow::ensure!(
        known.lines().any(|l| l.ends_with("\truaufs")),
        "no file system type ruaufs: load the module first (insmod ruaufs.ko)"
    );
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    scratch::prepare()?;
    run::catch_panics();
    watchdog::start();
    Ok(())
}
