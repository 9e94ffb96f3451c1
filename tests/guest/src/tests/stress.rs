// SPDX-License-Identifier: GPL-2.0

//! Processes at work on one union for a while, while caches are dropped and branches come and go.
//!
//! Each process works in a directory of its own, where it knows what every call must give, and in
//! directories that all share, where a failure is as good as a success. Afterwards the union is in
//! order, and shows the same after a new mount.
//!
//! `MINUTES` says how long (default: 20 seconds), `SEED` (default 1) what is done.

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::harness::{
    prelude::*,
    snapshot::{Scope, Snapshot},
    union::reconfigure,
    watchdog,
};

mod worker;

cases! {
    BASIC: processes_at_work;
}

/// More than the machine has processors.
const PROCESSES: usize = 8;
/// Directories that all share.
const SHARED: usize = 3;

/// Tells the program that it is to be a worker: its number, the union's root, seed and seconds.
const WORKER: &str = "RUAUFS_STRESS_WORKER";

/// If this process was started as a worker: does the work.
pub(crate) fn be_worker() -> Option<ExitCode> {
    let arguments = std::env::var(WORKER).ok()?;
    let result = worker::run(&arguments);
    if let Err(e) = &result {
        eprintln!("worker {arguments}: {e:#}");
    }
    Some(ExitCode::from(u8::from(result.is_err())))
}

fn duration() -> Result<Duration> {
    let seconds = match std::env::var("MINUTES") {
        Ok(text) => {
            60.0 * text
                .parse::<f64>()
                .with_context(|| format!("MINUTES={text}"))?
        }
        Err(_) => 20.0,
    };
    Ok(Duration::from_secs_f64(seconds))
}

/// The lower branch.
fn lower() -> Tree {
    let own = (0..PROCESSES).fold(Tree::new(), |tree, n| {
        let tree = tree.dir(&format!("own{n}"));
        worker::KEPT.iter().fold(tree, |tree, name| {
            tree.file(&format!("own{n}/{name}"), worker::lower_content(name))
        })
    });
    (0..SHARED).fold(own, |tree, n| {
        tree.files(&format!("all{n}/n"), 6)
            .file(&format!("all{n}/d/deep/file"), vec![b'x'; 70_000])
            .xattr("user.k", "v")
            .symlink(&format!("all{n}/link"), "n0")
    })
}

fn processes_at_work(cx: &Ctx) -> Result<()> {
    let duration = duration()?;
    let seed = std::env::var("SEED").unwrap_or_else(|_| "1".to_owned());
    let middle = (0..SHARED).fold(Tree::new(), |tree, n| {
        tree.file(&format!("all{n}/n1"), "middle")
            .whiteout(&format!("all{n}/n2"))
    });
    let mut u = cx
        .union()
        .rw(Tree::new())
        .ro_wh(middle)
        .ro(lower())
        .mount()?;
    let spares = spares(cx)?;
    let (start, ended) = (Instant::now(), AtomicBool::new(false));
    let problems = thread::scope(|scope| -> Result<Vec<String>> {
        scope.spawn(|| {
            for round in 0.. {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let what = ["2", "2", "3", "1"][round % 4];
                std::fs::write("/proc/sys/vm/drop_caches", what).expect("drop_caches");
                let (spent, all) = (start.elapsed().as_secs(), duration.as_secs());
                watchdog::alive_after(spent, all, "seconds");
                thread::sleep(Duration::from_millis(150));
            }
        });
        let changing = scope.spawn(|| change_branches(&u, &spares, &ended));
        let work = || -> Result<Vec<String>> {
            let mut workers = Vec::new();
            for n in 0..PROCESSES {
                let (root, seconds) = (u.root().display(), duration.as_secs_f64());
                let arguments = format!("{n} {root} {seed} {seconds}");
                let mut program = Command::new("/proc/self/exe");
                program.env(WORKER, arguments).stderr(Stdio::piped());
                workers.push(program.spawn()?);
            }
            let mut problems = Vec::new();
            for worker in workers {
                let output = worker.wait_with_output()?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    problems.push(format!("{}: {}", output.status, said.trim()));
                }
            }
            Ok(problems)
        };
        let problems = work();
        ended.store(true, Ordering::Release);
        let changes = changing.join().expect("the thread panicked")?;
        ensure!(changes > 3, "only {changes} changes of branches");
        problems
    })?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));

    let before = consistent(&u)?;
    u.again()?;
    let diff = before.diff(&consistent(&u)?);
    ensure!(diff.is_empty(), "after a new mount: {diff:#?}");
    for n in 0..SHARED {
        std::fs::remove_dir_all(u.at(&format!("all{n}")))?;
    }
    ensure!(names(u.at(""))?.iter().all(|name| name.starts_with("own")));
    Ok(())
}

/// Branches that come and go. They are below directories that all share.
fn spares(cx: &Ctx) -> Result<Vec<PathBuf>> {
    let tree = |n: usize| {
        Tree::new()
            .file(&format!("all0/spare{n}"), "spare")
            .file(&format!("all{n}/d/deep/spare"), "spare")
            .file(&format!("all{n}/n3"), "spare")
    };
    (0..2)
        .map(|n| cx.branch(cx.layout.upper(), "ro", &tree(n)))
        .collect()
}

/// Adds, changes and removes branches until the others have ended; says how often.
fn change_branches(u: &Union, spares: &[PathBuf], ended: &AtomicBool) -> Result<usize> {
    let change = |option: String| match reconfigure(u.root(), &[&option]) {
        Ok(()) => Ok(true),
        Err(refused) if refused.errno == Errno::BUSY => Ok(false),
        Err(refused) => Err(anyhow::anyhow!("{option}: {refused}")),
    };
    let mut changes = 0;
    while !ended.load(Ordering::Acquire) {
        for (at, spare) in spares.iter().map(|spare| spare.display()).enumerate() {
            changes += usize::from(change(format!("add:{}:{spare}=ro", at + 1))?);
            thread::sleep(Duration::from_millis(100));
            changes += usize::from(change(format!("mod:{spare}=ro+wh"))?);
        }
        for spare in spares.iter().map(|spare| spare.display()) {
            // Somebody may hold a file of it; when all have ended, nobody does.
            let start = Instant::now();
            while !change(format!("del:{spare}"))? {
                let over = ended.load(Ordering::Acquire).then(|| start.elapsed());
                ensure!(over < Some(Duration::from_secs(60)), "{spare} stays busy");
                thread::sleep(Duration::from_millis(100));
            }
            changes += 1;
        }
    }
    Ok(changes)
}

/// Fails unless names, numbers and types of all listings are those of the objects.
fn consistent(u: &Union) -> Result<Snapshot> {
    let mut todo = vec![u.root().to_owned()];
    let start = Instant::now();
    while let Some(path) = todo.pop() {
        for entry in dir::list(&path)? {
            let object = path.join(&entry.name);
            let stat = sys::lstat(&object)?;
            ensure!(
                (stat.st_ino, sys::kind(&stat)) == (entry.ino, entry.kind),
                "{}: listed as {entry:?}, but {stat:?}",
                object.display()
            );
            if entry.kind == FileType::Directory {
                todo.push(object);
            }
        }
        if start.elapsed() > Duration::from_secs(5) {
            watchdog::alive();
        }
    }
    Ok(Snapshot::of(u.root(), Scope::Visible)?)
}
