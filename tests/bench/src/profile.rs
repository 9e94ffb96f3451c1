// SPDX-License-Identifier: GPL-2.0

//! Where the instructions of an operation go, by kernel function.
//!
//! A timer of the kernel's interrupts the process each [`PERIOD`] instructions and notes where it
//! was. Code that runs with interrupts off is seen where it allows them again.

use std::{cell::RefCell, collections::BTreeMap, fs};

use anyhow::{Context, Result};
use perf_event::{events::Software, Builder, SampleFlag, Sampler};

/// A prime above the shortest that the kernel takes: no loop keeps step with it.
const PERIOD: u64 = 10_007;
const RING: usize = 1 << 20;
const LINES: usize = 30;

pub(crate) struct Profiler {
    /// Start addresses and names of kernel functions.
    symbols: BTreeMap<u64, String>,
    sampler: RefCell<Sampler>,
    hits: RefCell<BTreeMap<String, u64>>,
}

impl Profiler {
    pub(crate) fn new() -> Result<Self> {
        let mut symbols = BTreeMap::new();
        for line in fs::read_to_string("/proc/kallsyms")?.lines() {
            let mut fields = line.split_whitespace();
            let (address, kind, name) = (fields.next(), fields.next(), fields.next());
            let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) = (address, kind, name)
            else {
                continue;
            };
            let module = fields.next().unwrap_or_default();
            let name = format!("{:#} {module}", rustc_demangle::demangle(name));
            symbols.insert(u64::from_str_radix(address, 16)?, name);
        }
        let counter = Builder::new(Software::CPU_CLOCK)
            .sample_period(PERIOD)
            .sample(SampleFlag::IP)
            .include_kernel()
            .build()
            .context("perf_event_open")?;
        Ok(Self {
            symbols,
            sampler: RefCell::new(counter.sampled(RING)?),
            hits: RefCell::default(),
        })
    }

    fn name(&self, address: u64) -> &str {
        // Kernel addresses are in the upper half.
        if address >> 63 == 0 {
            return "user space";
        }
        let found = self.symbols.range(..=address).next_back();
        found.map_or("?", |(_, name)| name)
    }

    /// Runs `body` and adds to the profile.
    pub(crate) fn run(&self, body: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut sampler = self.sampler.borrow_mut();
        sampler.as_counter_mut().enable()?;
        let result = body();
        sampler.as_counter_mut().disable()?;
        let mut hits = self.hits.borrow_mut();
        while let Some(record) = sampler.next_record() {
            let data = record.to_vec();
            let Some((address, _)) = data.split_first_chunk::<8>() else {
                continue;
            };
            let name = self.name(u64::from_ne_bytes(*address));
            *hits.entry(name.to_owned()).or_default() += 1;
        }
        result
    }

    /// Prints the profile and begins another; `count` is what one operation costs.
    pub(crate) fn print(&self, title: &str, count: f64) {
        let hits = self.hits.take();
        let all: u64 = hits.values().sum();
        println!("{title}: {count:.0} instructions each (sampling included), {all} samples");
        let mut sorted: Vec<_> = hits.into_iter().collect();
        sorted.sort_by_key(|(_, hits)| std::cmp::Reverse(*hits));
        for (name, hits) in sorted.into_iter().take(LINES) {
            let share = hits as f64 / all as f64;
            println!("  {:5.1} %  {:9.0}  {name}", share * 100.0, share * count);
        }
    }
}
