// SPDX-License-Identifier: GPL-2.0

//! From test functions to libtest-mimic trials: the matrix, and the frame around every run.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};

use super::{
    context::{Ctx, Layout},
    klog::{self, Klog},
    watchdog,
};

/// What a test does.
pub(crate) type Run = dyn Fn(&Ctx) -> anyhow::Result<()> + Send + Sync;

/// A test and the layouts it runs on.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) layouts: &'static [Layout],
    pub(crate) run: Arc<Run>,
}

/// Declares `cases()` of a test module: `cases! { BASIC: one, two; WIDE: three; }`.
macro_rules! cases {
    ($($layouts:ident: $($test:ident),+ $(,)?;)+) => {
        /// The tests of this module.
        pub(crate) fn cases() -> Vec<$crate::harness::run::Case> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$($($crate::harness::run::Case {
                name: format!("{module}::{}", stringify!($test)),
                layouts: $layouts,
                run: ::std::sync::Arc::new($test),
            }),+),+]
        }
    };
}
pub(crate) use cases;

/// One trial for each layout.
pub(crate) fn trials(case: Case) -> impl Iterator<Item = Trial> {
    let Case { name, layouts, run } = case;
    layouts.iter().map(move |layout| {
        let full = format!("{name} [{}]", layout.name());
        let run = run.clone();
        Trial::test(full.clone(), move || framed(&full, *layout, &*run))
    })
}

/// Panic messages of the running test, its threads included.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps panics for the report of the test instead of printing them in between.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let mut panics = PANICS.lock().unwrap_or_else(|e| e.into_inner());
        panics.push(info.to_string());
    }));
}

/// Seconds without a sign of life that count as a hang; emulation is slow, so the default is long.
fn limit() -> Duration {
    let given = std::env::var("RUAUFS_TEST_TIMEOUT").ok();
    Duration::from_secs(given.and_then(|s| s.parse().ok()).unwrap_or(240))
}

fn framed(name: &str, layout: Layout, run: &Run) -> Result<(), Failed> {
    watchdog::arm(name, limit());
    let problems = match guarded(layout, run) {
        Ok(problems) => problems,
        Err(e) => vec![format!("the harness failed: {e:#}")],
    };
    watchdog::disarm(problems.is_empty());
    if problems.is_empty() {
        return Ok(());
    }
    let report = problems.join("\n");
    // At once, too: the report at the end is lost if a later test hangs, or somebody stops the run.
    println!("\n{report}");
    Err(Failed::from(report))
}

/// Runs a test; returns everything that is wrong.
fn guarded(layout: Layout, run: &Run) -> anyhow::Result<Vec<String>> {
    let log = Klog::from_now()?;
    let uses = module_uses()?;
    let cx = Ctx::new(layout)?;
    PANICS.lock().unwrap_or_else(|e| e.into_inner()).clear();

    let mut problems = Vec::new();
    if let Err(e) = caught(|| run(&cx)) {
        problems.push(format!("{e:#}"));
    }
    let shared = cx.shared();
    problems.extend(cx.finish());
    if let Err(now) = settles_at(uses) {
        problems.push(format!("module use count: {uses} before, {now} after"));
    }
    let mut said = log.read();
    said.retain(|line| !shared.tolerated().iter().any(|text| line.contains(text)));
    if let Some(excerpt) = klog::defects(&said) {
        problems.push(format!("the kernel complained:\n{excerpt}"));
    }
    Ok(problems)
}

/// Makes an error of a panic of `f`, or of its threads.
pub(crate) fn caught(f: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(|e| e.into_inner()));
        Err(anyhow::anyhow!("{}", panics.join("\n")))
    })
}

fn module_uses() -> anyhow::Result<i64> {
    use anyhow::Context;
    let text = std::fs::read_to_string("/sys/module/ruaufs/refcnt").context("is ruaufs loaded?")?;
    Ok(text.trim().parse()?)
}

/// Waits until the module use count is back; super blocks are freed after a grace period.
fn settles_at(wanted: i64) -> Result<(), i64> {
    let start = Instant::now();
    loop {
        let now = module_uses().unwrap_or(-1);
        if now == wanted {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(5) {
            return Err(now);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
