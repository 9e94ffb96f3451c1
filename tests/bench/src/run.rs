// SPDX-License-Identifier: GPL-2.0

//! The measuring half: what is run on what, and how samples become rows.

use std::{
    fs,
    io::{stdout, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use rustix::fs::{open, Mode, OFlags};

use crate::{
    catalogue,
    clock::Clock,
    fixture::{self, Counts, Disk, Union},
    memory, ops,
    profile::Profiler,
    row::{Row, Subject},
    sample,
};

#[derive(Args)]
pub(crate) struct Options {
    /// 2 and 64 layers, fewer operations and samples.
    #[arg(long)]
    quick: bool,
    /// File systems of the branches.
    #[arg(long, value_delimiter = ',', default_value = "tmpfs,ext4")]
    fs: Vec<String>,
    /// Numbers of layers, the writable one included.
    #[arg(long, value_delimiter = ',')]
    layers: Vec<u32>,
    /// Only operations whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Further mount options for ruaufs.
    #[arg(long, default_value = "")]
    options: String,
    /// Instead of counting, show in which functions of the kernel the instructions are.
    #[arg(long)]
    profile: bool,
    /// Take any clock: figures are times.
    #[arg(long)]
    any_clock: bool,
}

/// How often things are done.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Samples of an operation that can be repeated, and repetitions in one.
    pub(crate) samples: usize,
    pub(crate) batch: usize,
    /// Samples with cold caches.
    pub(crate) cold: usize,
    /// Samples of runs over a whole tree.
    pub(crate) trees: usize,
    pub(crate) counts: Counts,
    /// Names that are looked up to see what memory they take.
    pub(crate) names: usize,
}

const FULL: Plan = Plan {
    samples: 41,
    batch: 32,
    cold: 9,
    trees: 3,
    counts: Counts {
        small: 96,
        medium: 11,
        large: 3,
    },
    names: 100_000,
};

const QUICK: Plan = Plan {
    samples: 25,
    batch: 16,
    cold: 7,
    trees: 3,
    counts: Counts {
        small: 48,
        medium: 7,
        large: 2,
    },
    names: 20_000,
};

const FULL_LAYERS: &[u32] = &[2, 8, 32, 64, 128];
const QUICK_LAYERS: &[u32] = &[2, 64];

/// Some operations on one subject.
type Group = fn(&Session<'_>) -> Result<()>;

/// One subject, mounted.
pub(crate) struct Session<'a> {
    pub(crate) clock: Clock,
    pub(crate) plan: Plan,
    options: &'a Options,
    fs: String,
    pub(crate) layers: u32,
    pub(crate) subject: Subject,
    /// Root of the tree.
    pub(crate) path: PathBuf,
    pub(crate) root: OwnedFd,
    problems: &'a mut Vec<String>,
    profiler: Option<&'a Profiler>,
}

pub(crate) fn print(row: &Row) -> Result<()> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    writer.serialize(row)?;
    print!("csv,{}", String::from_utf8(writer.into_inner()?)?);
    stdout().flush()?;
    Ok(())
}

impl Options {
    fn selects(&self, op: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| op.contains(part.as_str()))
    }
}

impl Session<'_> {
    pub(crate) fn wants(&self, op: &str) -> bool {
        let known = catalogue::find(op);
        debug_assert!(known.is_some(), "{op} is not in the catalogue");
        (!self.options.quick || known.is_some_and(|op| op.quick)) && self.options.selects(op)
    }

    /// Instructions that `body` executes.
    pub(crate) fn count(&self, body: impl FnOnce() -> Result<()>) -> Result<f64> {
        match self.profiler {
            None => self.clock.count(body),
            Some(profiler) => {
                let mut count = Ok(0.0);
                profiler.run(|| {
                    count = self.clock.count(body);
                    Ok(())
                })?;
                count
            }
        }
    }

    /// Makes a row of samples.
    pub(crate) fn record(&self, op: &str, samples: &[f64]) -> Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        if let Some(profiler) = self.profiler {
            let title = format!(
                "{op}, {}, {} layers, {}",
                self.fs, self.layers, self.subject
            );
            profiler.print(&title, sample::median(samples));
            return Ok(());
        }
        print(&Row {
            fs: self.fs.clone(),
            layers: self.layers,
            subject: self.subject,
            op: op.to_owned(),
            count: sample::median(samples).round(),
            low: sample::decile(samples, 1).round(),
            high: sample::decile(samples, 9).round(),
            samples: samples.len(),
        })
    }

    /// An operation that leaves all as it was: samples of `batch` repetitions.
    pub(crate) fn repeat(&self, op: &str, mut body: impl FnMut() -> Result<()>) -> Result<()> {
        self.repeat_of(op, self.plan.batch, &mut body)
    }

    /// The same with a batch of its own.
    pub(crate) fn repeat_of(
        &self,
        op: &str,
        batch: usize,
        body: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        if !self.wants(op) {
            return Ok(());
        }
        let mut many = || (0..batch).try_for_each(|_| body());
        many().with_context(|| op.to_owned())?;
        fixture::settle();
        let mut samples = Vec::with_capacity(self.plan.samples);
        // A profile needs enough to see.
        let rounds = if self.profiler.is_some() { 50 } else { 1 };
        for _ in 0..rounds * self.plan.samples {
            let count = self.count(&mut many);
            samples.push(count.with_context(|| op.to_owned())? / batch as f64);
        }
        self.record(op, &samples)
    }

    /// An operation that is done once on each item.
    pub(crate) fn each<T>(
        &self,
        op: &str,
        items: &[T],
        mut before: impl FnMut(&T) -> Result<()>,
        mut body: impl FnMut(&T) -> Result<()>,
    ) -> Result<()> {
        if !self.wants(op) {
            return Ok(());
        }
        let mut samples = Vec::with_capacity(items.len());
        for item in items {
            before(item).with_context(|| op.to_owned())?;
            let count = self.count(|| body(item));
            samples.push(count.with_context(|| op.to_owned())?);
        }
        self.record(op, &samples)
    }

    /// Whether what [`fixture::build_many`] makes is there.
    pub(crate) fn has_many(&self) -> bool {
        self.layers <= 2 && !self.options.quick
    }

    /// All groups of operations; one that fails does not keep the others from being run.
    fn measure(&mut self) {
        // In this order: what comes first needs caches that later ones fill.
        let groups: [(&str, Group); 8] = [
            ("look-up", ops::lookup::run),
            ("listing", ops::list::run),
            ("tree", ops::tree::run),
            ("files", ops::file::run),
            ("changes", ops::change::run),
            ("copy-up", ops::copyup::run),
            ("many", ops::many::run),
            ("two processes", ops::pair::run),
        ];
        for (name, group) in groups {
            rustix::fs::sync();
            fixture::settle();
            if let Err(error) = group(self) {
                let place = format!("{}, {} layers, {}", self.fs, self.layers, self.subject);
                self.problems.push(format!("{place}: {name}: {error:#}"));
            }
        }
    }
}

struct Run<'a> {
    clock: Clock,
    plan: Plan,
    options: &'a Options,
    problems: Vec<String>,
    profiler: Option<Profiler>,
}

impl Run<'_> {
    fn subject(&mut self, subject: Subject, fs: &str, layers: u32, path: PathBuf) -> Result<()> {
        let root = open(&path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        fixture::all_cold()?;
        Session {
            clock: self.clock,
            plan: self.plan,
            options: self.options,
            fs: fs.to_owned(),
            layers,
            subject,
            path,
            root,
            problems: &mut self.problems,
            profiler: self.profiler.as_ref(),
        }
        .measure();
        Ok(())
    }

    /// What only full runs need, and only with two layers.
    fn build_many(&self, dir: &Path, n: usize, layers: u32) -> Result<()> {
        if self.options.quick || layers > 2 {
            return Ok(());
        }
        fixture::build_many(dir, n)
    }

    fn bare(&mut self, fs: &str) -> Result<()> {
        let disk = Disk::new(fs)?;
        let all = disk.path("0");
        for n in [1, 0] {
            fixture::build_layer(&all, n, 2, self.plan.counts)?;
            self.build_many(&all, n, 2)?;
        }
        self.subject(Subject::Bare, fs, 1, all)?;
        println!("{fs}, bare: done");
        Ok(())
    }

    fn unions(&mut self, fs: &str, layers: u32) -> Result<()> {
        let disk = Disk::new(fs)?;
        for n in (1..layers).rev() {
            let dir = disk.path(&n.to_string());
            fixture::build_layer(&dir, n as usize, layers as usize, self.plan.counts)?;
            self.build_many(&dir, n as usize, layers)?;
        }
        for subject in [Subject::Overlayfs, Subject::Ruaufs] {
            let top = disk.path("0");
            fixture::build_layer(&top, 0, layers as usize, self.plan.counts)?;
            self.build_many(&top, 0, layers)?;
            let union = Union::mount(subject, &disk, layers, &self.options.options)?;
            self.subject(subject, fs, layers, union.path().to_owned())?;
            drop(union);
            fs::remove_dir_all(top)?;
            println!("{fs}, {layers} layers, {subject}: done");
        }
        Ok(())
    }

    fn memory(&mut self, fs: &str) -> Result<()> {
        if self.profiler.is_some() || !self.options.selects("memory") {
            return Ok(());
        }
        let disk = Disk::new(fs)?;
        memory::build(&disk.path("1"), self.plan.names)?;
        for subject in [Subject::Bare, Subject::Overlayfs, Subject::Ruaufs] {
            let union = match subject {
                Subject::Bare => None,
                _ => {
                    fs::create_dir_all(disk.path("0"))?;
                    Some(Union::mount(subject, &disk, 2, &self.options.options)?)
                }
            };
            let path = union
                .as_ref()
                .map_or_else(|| disk.path("1"), |union| union.path().to_owned());
            fixture::all_cold()?;
            for row in memory::measure(&path, self.plan.names, fs, subject)? {
                print(&row)?;
            }
            drop(union);
            if subject != Subject::Bare {
                fs::remove_dir_all(disk.path("0"))?;
            }
        }
        println!("{fs}, memory: done");
        Ok(())
    }

    /// What belongs to no file system.
    fn machine(&self) -> Result<()> {
        let constant = |op: &str, count: f64| {
            print(&Row {
                fs: "none".to_owned(),
                layers: 1,
                subject: Subject::Bare,
                op: op.to_owned(),
                count,
                low: count,
                high: count,
                samples: 1,
            })
        };
        constant("machine.instructions-per-ns", self.clock.factor())?;
        constant("machine.clock", self.clock.overhead().round())?;
        let mut samples = Vec::new();
        for _ in 0..101 {
            samples.push(self.clock.count(|| {
                for _ in 0..100 {
                    std::hint::black_box(rustix::process::getppid());
                }
                Ok(())
            })?);
        }
        constant(
            "machine.syscall",
            (sample::median(&samples) / 100.0).round(),
        )?;
        samples.clear();
        for _ in 0..11 {
            samples.push(self.clock.count(|| fixture::command("true", &[]))?);
        }
        constant("machine.spawn", sample::median(&samples).round())
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let clock = Clock::calibrate(options.any_clock)?;
    println!("csv,fs,layers,subject,op,count,low,high,samples");
    fixture::prepare()?;
    let (plan, default_layers) = match options.quick {
        true => (QUICK, QUICK_LAYERS),
        false => (FULL, FULL_LAYERS),
    };
    let layers = match options.layers.as_slice() {
        [] => default_layers,
        some => some,
    };
    ensure!(
        layers.iter().all(|n| *n >= 2),
        "a union has 2 layers at least"
    );
    let names: Vec<&str> = catalogue::OPS.iter().map(|op| op.name).collect();
    for part in &options.only {
        ensure!(
            names.iter().any(|name| name.contains(part.as_str())),
            "--only {part}: no operation has this in its name; there are {}",
            names.join(" ")
        );
    }
    let mut run = Run {
        clock,
        plan,
        options,
        problems: Vec::new(),
        profiler: None,
    };
    if options.profile {
        // Operations that can be done once on a name: on many names.
        run.plan.counts.small = 500;
        run.profiler = Some(Profiler::new()?);
    }
    run.machine()?;
    for fs in &options.fs {
        let mut failed = Vec::new();
        let mut note = |what: String, result: Result<()>| {
            if let Err(error) = result {
                failed.push(format!("{fs}, {what}: {error:#}"));
            }
        };
        note("bare".to_owned(), run.bare(fs));
        for n in layers {
            note(format!("{n} layers"), run.unions(fs, *n));
        }
        note("memory".to_owned(), run.memory(fs));
        run.problems.append(&mut failed);
    }
    for problem in &run.problems {
        println!("error: {problem}");
    }
    ensure!(run.problems.is_empty(), "not all could be measured");
    Ok(())
}
