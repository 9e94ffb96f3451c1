// SPDX-License-Identifier: GPL-2.0

//! Ends the program when a test hangs, with the kernel stacks of what hangs.
//!
//! A task that is stuck in the kernel cannot be killed, so the watchdog does not try to go on: it
//! prints the name of the test, the stacks, the kernel's list of blocked tasks and the log, and
//! exits with [`EXIT`].

use std::{
    fs,
    io::Write,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// Exit status after a hang.
pub(crate) const EXIT: i32 = 3;
/// How often a long test says how far it is.
const NEWS: Duration = Duration::from_secs(60);

struct Armed {
    name: String,
    limit: Duration,
    last_sign: Instant,
    last_news: Instant,
}

static ARMED: Mutex<Option<Armed>> = Mutex::new(None);
/// Tests that ended before, for the last line: passed, failed.
static ENDED: Mutex<(usize, usize)> = Mutex::new((0, 0));

/// Starts the thread.
pub(crate) fn start() {
    thread::spawn(|| loop {
        thread::sleep(Duration::from_secs(1));
        let armed = ARMED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(armed) = armed.as_ref() {
            if armed.last_sign.elapsed() > armed.limit {
                give_up(armed);
            }
        }
    });
}

/// A test begins: it must show a sign of life within `limit`.
pub(crate) fn arm(name: &str, limit: Duration) {
    *ARMED.lock().unwrap_or_else(|e| e.into_inner()) = Some(Armed {
        name: name.to_owned(),
        limit,
        last_sign: Instant::now(),
        last_news: Instant::now(),
    });
}

/// A sign of life from inside a long test.
pub(crate) fn alive() {
    if let Some(armed) = ARMED.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
        armed.last_sign = Instant::now();
    }
}

/// A sign of life from a test that has done `done` of `all`, which are `what`. It is printed once a
/// minute.
pub(crate) fn alive_after(done: u64, all: u64, what: &str) {
    if let Some(armed) = ARMED.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
        armed.last_sign = Instant::now();
        if armed.last_news.elapsed() >= NEWS {
            armed.last_news = Instant::now();
            print!("{done} of {all} {what}, ");
            let _ = std::io::stdout().flush();
        }
    }
}

/// The test ended.
pub(crate) fn disarm(passed: bool) {
    *ARMED.lock().unwrap_or_else(|e| e.into_inner()) = None;
    let mut ended = ENDED.lock().unwrap_or_else(|e| e.into_inner());
    if passed {
        ended.0 += 1;
    } else {
        ended.1 += 1;
    }
}

fn give_up(armed: &Armed) -> ! {
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "\nHANG: {} gave no sign of life for {:?}",
        armed.name, armed.limit
    );
    for task in stacks() {
        let _ = writeln!(out, "{task}");
    }
    let klog = super::klog::Klog::from_now();
    let _ = fs::write("/proc/sys/kernel/sysrq", "1");
    // Who waits, and what the CPUs do.
    let _ = fs::write("/proc/sysrq-trigger", "w");
    let _ = fs::write("/proc/sysrq-trigger", "l");
    thread::sleep(Duration::from_secs(1));
    if let Ok(klog) = klog {
        for line in klog.read() {
            let _ = writeln!(out, "kernel: {line}");
        }
    }
    let (passed, failed) = *ENDED.lock().unwrap_or_else(|e| e.into_inner());
    // As libtest says it, for programs that read along; then our last line.
    let failed = failed + 1;
    let _ = writeln!(
        out,
        "test result: FAILED. {passed} passed; {failed} failed;"
    );
    let _ = writeln!(out, "{passed} passed, {failed} failed");
    let _ = out.flush();
    std::process::exit(EXIT)
}

/// Stacks of this program's threads and children, and of every task in uninterruptible sleep.
fn stacks() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        for task in fs::read_dir(process.path().join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let read = |what: &str| fs::read_to_string(task.path().join(what)).unwrap_or_default();
            let status = read("status");
            let field = |key: &str| {
                let line = status.lines().find(|l| l.starts_with(key));
                line.unwrap_or_default().to_owned()
            };
            let ours = process.file_name().to_string_lossy() == own
                || field("PPid:").ends_with(&format!("\t{own}"));
            if ours || field("State:").contains("D (") {
                found.push(format!(
                    "{} {} {}\n{}",
                    task.path().display(),
                    field("Name:"),
                    field("State:"),
                    read("stack")
                ));
            }
        }
    }
    found
}
