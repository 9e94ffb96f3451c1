// SPDX-License-Identifier: GPL-2.0

//! Failing allocations, by the kernel's fault injection (`/proc/PID/fail-nth`).
//!
//! Only allocations that the module makes, or others make below it, are counted: those with a
//! frame of the module in their stack. Those of kmemleak's notes, one for each object, are not:
//! it has a reserve, and nothing would follow. The debug kernel has all that is needed.

use std::fs;

use anyhow::{Context, Result};

const DEBUGFS: &str = "/sys/kernel/debug";

/// Whether this is the debug kernel, or tests for it are listed on another one. There, fault
/// injection must work.
pub(crate) fn debug_kernel() -> bool {
    if std::env::var_os("RUAUFS_DEBUG").is_some() {
        return true;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.is_ok_and(|release| release.contains("ruaufs-debug"))
}

/// Makes failures possible, for the calling thread.
pub(crate) struct Injector(());

impl Injector {
    pub(crate) fn new() -> Result<Self> {
        let (start, end) = module_text()?;
        let (notes, notes_end) = function("__alloc_object")?;
        for facility in ["failslab", "fail_page_alloc"] {
            let set = |file: &str, value: &str| {
                let path = format!("{DEBUGFS}/{facility}/{file}");
                fs::write(&path, value).with_context(|| path)
            };
            // No trace in the kernel's log for each of them.
            set("verbose", "0")?;
            set("ignore-gfp-wait", "N")?;
            set("stacktrace-depth", "32")?;
            set("require-start", &start)?;
            set("require-end", &end)?;
            set("reject-start", &notes)?;
            set("reject-end", &notes_end)?;
        }
        for (file, value) in [("ignore-gfp-highmem", "N"), ("min-order", "0")] {
            fs::write(format!("{DEBUGFS}/fail_page_alloc/{file}"), value)?;
        }
        Ok(Self(()))
    }

    /// Runs `f` with its `nth` allocation failing; says whether there was one.
    pub(crate) fn fail<T>(&self, nth: u32, f: impl FnOnce() -> T) -> Result<(T, bool)> {
        let (result, count) = self.count(nth, f)?;
        Ok((result, count == nth))
    }

    /// Runs `f` with its allocation number `most` failing; says how many it made, up to that one.
    pub(crate) fn count<T>(&self, most: u32, f: impl FnOnce() -> T) -> Result<(T, u32)> {
        const PATH: &str = "/proc/thread-self/fail-nth";
        fs::write(PATH, most.to_string()).context(PATH)?;
        let result = f();
        let left: u32 = fs::read_to_string(PATH)?.trim().parse()?;
        fs::write(PATH, "0")?;
        Ok((result, most - left))
    }
}

/// Where the module's code lies.
fn module_text() -> Result<(String, String)> {
    let modules = fs::read_to_string("/proc/modules")?;
    let line = modules.lines().find(|line| line.starts_with("ruaufs "));
    let fields: Vec<_> = line.context("no module")?.split(' ').collect();
    let size: u64 = fields[1].parse()?;
    let text = fs::read_to_string("/sys/module/ruaufs/sections/.text")?;
    let start = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)?;
    Ok((format!("{start:#x}"), format!("{:#x}", start + size)))
}

/// Where a function of the kernel lies.
fn function(name: &str) -> Result<(String, String)> {
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    let (mut start, mut all) = (None, Vec::new());
    for line in symbols.lines() {
        let mut fields = line.split_ascii_whitespace();
        let address = u64::from_str_radix(fields.next().unwrap_or_default(), 16)?;
        if fields.nth(1) == Some(name) {
            start = Some(address);
        }
        all.push(address);
    }
    let start = start.with_context(|| format!("the kernel has no function {name}"))?;
    let end = all.iter().filter(|address| **address > start).min();
    let end = end.context("it is the last one")?;
    Ok((format!("{start:#x}"), format!("{end:#x}")))
}
