// SPDX-License-Identifier: GPL-2.0

//! `ruaufs commit`

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
};

use anyhow::{bail, ensure, Context, Result};
use clap::Parser;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use ruaufs_user::{
    branch::{Access, Spec},
    commit::{Action, Branches, Commit, Options, Watch},
    names::Show,
    options::Setting,
    plink::Maintenance,
    union::Union,
};

use crate::{change, say, text, warn};

/// Merge a writable branch down into the one below it
///
/// As a snapshot is merged into its origin: the lower branch gets all that the upper one shows, with
/// owners, modes, times, extended attributes, ACLs, hard links and holes; what has a whiteout is
/// removed from it. Then the upper branch is emptied. The union shows the same before, during and
/// after, and so an interrupted commit does no harm: run the same command again, and it goes on.
///
/// The union must not be mounted, or be read-only; --remount sees to that. With --dry-run each step
/// is printed and nothing is changed.
///
/// Where both branches are on one file system, nothing is copied. A whiteout is kept in the lower
/// branch where something of the branches under it would show; it must count there (rw, or the
/// attribute wh).
///
/// Examples: ruaufs commit --remount /mnt; ruaufs commit --upper /changes --lower /base
#[derive(Debug, Parser)]
pub struct Args {
    /// The union: where it is mounted, or a path in it
    #[arg(required_unless_present = "upper", conflicts_with = "upper")]
    union: Option<PathBuf>,
    /// Merge this branch of the union; the topmost one if it is left out
    #[arg(long, value_name = "DIR", requires = "union")]
    branch: Option<PathBuf>,
    /// Make the union read-only meanwhile, and then what it was before
    #[arg(long, requires = "union")]
    remount: bool,
    /// Without a mounted union: merge this directory
    #[arg(long, value_name = "DIR", requires = "lower")]
    upper: Option<PathBuf>,
    /// Without a mounted union: merge it into this one; with =ro or =rr whiteouts in it do not count
    #[arg(long, value_name = "BRANCH", requires = "upper")]
    lower: Option<OsString>,
    /// Without a mounted union: what lies under that, topmost first (repeatable); stays as it is
    #[arg(long, value_name = "BRANCH", requires = "upper")]
    below: Vec<OsString>,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Leave the upper branch as it is; contents are copied then
    #[arg(long)]
    keep: bool,
    /// Keep all whiteouts and opaque marks in the lower branch, needed or not
    #[arg(long)]
    all_marks: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let options = Options {
        keep: args.keep,
        all_marks: args.all_marks,
        look: args.dry_run,
        flushed: args.remount,
    };
    let (union, branches) = match (&args.union, &args.upper, &args.lower) {
        (Some(path), ..) => {
            let union = Union::at(path)?;
            let index = match &args.branch {
                Some(path) => union.branch(path)?.index,
                None => 0,
            };
            let branches = Branches::of(&union, index)?;
            (Some(union), branches)
        }
        (None, Some(upper), Some(lower)) => (None, offline(upper, lower, &args.below)?),
        _ => bail!("give a union, or --upper and --lower"),
    };
    let work = || match args.dry_run {
        true => dry_run(branches.clone(), options),
        false => run_with_bar(branches.clone(), options),
    };
    match union {
        Some(union) if args.remount && !args.dry_run => read_only_meanwhile(&union, work),
        Some(union) if union.is_read_only() && !args.dry_run => {
            let _held = Maintenance::begin(&union)?;
            then_look_again(&union, "ro", work)
        }
        // One that is written is refused.
        _ => work(),
    }
}

fn offline(upper: &Path, lower: &OsString, below: &[OsString]) -> Result<Branches> {
    let spec = |text: &OsString| -> Result<(PathBuf, bool)> {
        let spec = Spec::parse(text)?;
        let honours = spec.access.as_ref().is_none_or(Access::honours_marks);
        Ok((spec.path, honours))
    };
    let (lower, lower_honours) = spec(lower)?;
    let below: Result<Vec<_>> = below.iter().map(spec).collect();
    Ok(Branches {
        upper: upper.to_owned(),
        lower,
        lower_honours,
        below: below?,
    })
}

/// Makes a union read-only, does the work, and makes the union what it was.
pub(crate) fn read_only_meanwhile(union: &Union, work: impl FnOnce() -> Result<()>) -> Result<()> {
    // While its pseudo-links are maintained by us nobody else can remount it.
    if union.is_read_only() {
        let _held = Maintenance::begin(union)?;
        return then_look_again(union, "ro", work);
    }
    let target = union.mount.target.shown();
    // Lasting ones, too: names on lower branches would no longer lead to what is moved.
    change::flush(union, false)?;
    let _held = Maintenance::begin(union)?;
    change::remount_as(union, "ro", Vec::new()).with_context(|| {
        format!("{target} cannot be made read-only; close what is open for writing in it")
    })?;
    then_look_again(union, "rw", work)
}

/// Does the work, which may have gone a part of its way, and remounts the union as `access`, so that
/// it asks its branches for all that it knows of them.
fn then_look_again(union: &Union, access: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = work();
    let udba = union.mount.option("udba").unwrap_or(b"reval");
    let back = change::remount_as(union, access, vec![Setting::new("udba", udba)]);
    let back = back.with_context(|| {
        let target = union.mount.target.shown();
        let udba = String::from_utf8_lossy(udba);
        format!("{target} must be remounted; try: mount -o remount,{access},udba={udba} {target}")
    });
    match (done, back) {
        (Err(done), Err(back)) => Err(done.context(format!("{back:#}"))),
        (done, back) => done.and(back),
    }
}

/// A number of objects, in words.
fn objects(number: u64) -> String {
    format!("{number} object{}", if number == 1 { "" } else { "s" })
}

fn dry_run(branches: Branches, options: Options) -> Result<()> {
    let commit = Commit::new(branches, options)?;
    let survey = commit.survey(&mut Printer)?;
    complain(&survey.problems, survey.more_problems)?;
    let how = if survey.links { "linked" } else { "copied" };
    say(format_args!(
        "{}; {} to be {how}; nothing was changed",
        objects(survey.objects),
        HumanBytes(survey.bytes)
    ))
}

/// Prints steps.
struct Printer;

impl Watch for Printer {
    fn action(&mut self, action: Action, path: &Path) {
        // Whoever reads this may have had enough.
        let _ = say(format_args!("{action:<8}{}", text(path)));
    }

    fn object(&mut self) {}

    fn bytes(&mut self, _: u64) {}

    fn warn(&mut self, text: String) {
        warn(text);
    }

    fn stop(&self) -> bool {
        false
    }
}

/// Looks, and if nothing stands against it, does it, with a bar on a terminal.
pub(crate) fn run_with_bar(branches: Branches, options: Options) -> Result<()> {
    let mut watch = Bar::new()?;
    let commit = Commit::new(branches, options)?;
    let survey = commit.survey(&mut watch)?;
    complain(&survey.problems, survey.more_problems)?;
    watch.begin(survey.bytes, survey.objects);
    let result = commit.run(&mut watch);
    watch.bar.finish_and_clear();
    result?;
    say(format_args!(
        "{}, {} merged",
        objects(survey.objects),
        HumanBytes(survey.bytes)
    ))
}

fn complain(problems: &[String], more: u64) -> Result<()> {
    ensure!(
        problems.is_empty(),
        "nothing was done, since\n  {}{}",
        problems.join("\n  "),
        match more {
            0 => String::new(),
            n => format!("\n  and {n} more like these"),
        }
    );
    Ok(())
}

/// Shows how far it is, and listens for signals.
struct Bar {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    objects: u64,
    all: u64,
}

impl Bar {
    fn new() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ] {
            signal_hook::flag::register(signal, stop.clone()).context("listening for signals")?;
        }
        Ok(Bar {
            bar: ProgressBar::hidden(),
            stop,
            objects: 0,
            all: 0,
        })
    }

    fn begin(&mut self, bytes: u64, objects: u64) {
        self.bar = ProgressBar::new(bytes);
        let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {msg} {eta}");
        if let Ok(style) = style {
            self.bar.set_style(style.progress_chars("=> "));
        }
        (self.objects, self.all) = (0, objects);
    }
}

impl Watch for Bar {
    fn action(&mut self, _: Action, _: &Path) {}

    fn object(&mut self) {
        self.objects += 1;
        self.bar
            .set_message(format!("{} of {} objects", self.objects, self.all));
    }

    fn bytes(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn warn(&mut self, text: String) {
        self.bar.suspend(|| warn(text));
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
