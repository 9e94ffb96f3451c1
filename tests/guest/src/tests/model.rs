// SPDX-License-Identifier: GPL-2.0

//! The model test: whatever is done to a union, it looks like a plain directory that was made with
//! the same visible tree and treated the same.
//!
//! A scenario ([`scenario`]) is two to six branches with random content, whiteouts and opaque marks
//! ([`layer`]), and a sequence of operations ([`op`]). [`merge`] computes, independently of the
//! module, the tree that the union must show; it is laid out on the same kind of file system. Then
//! each operation runs on both sides ([`side`], [`held`]): result and errno must agree, and every
//! few steps the whole trees ([`compare`]), as well after the caches were dropped and after the
//! union was mounted anew. Beside some operations another thread remounts ([`reshape`]): takes a
//! snapshot, adds an empty branch, or removes one, of which a user must see nothing. [`threads`] does it with four threads, in places of their own and in the
//! same place.
//!
//! `SEED` and `STEPS` (operations for each file system) are taken from the environment, and `CASE`,
//! which runs only the scenario of that number. A failing one is made small ([`cut`]) and printed. One
//! thing a union may refuse where a directory would not: renaming a directory that has lower parts
//! (`EXDEV`). Such a step is skipped.

mod compare;
mod cut;
mod held;
pub(crate) mod layer;
mod merge;
pub(crate) mod op;
mod reshape;
pub(crate) mod scenario;
pub(crate) mod side;
mod threads;

use std::{
    cell::Cell,
    fmt, thread,
    time::{Duration, Instant},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use rustix::{
    fs::{Gid, RenameFlags, Uid},
    process::umask,
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use self::{
    compare::Pair,
    cut::Pieces,
    op::{Op, Step},
    reshape::Shape,
    scenario::Scenario,
    side::Side,
};
use crate::harness::{prelude::*, run, watchdog};

cases! {
    WRITABLE: behaves_like_a_directory;
    BASIC: starts_as_merged, threads_apart, threads_together;
}

/// Operations for each file system, unless `STEPS` says otherwise.
const STEPS: u64 = 1000;

/// How a run is divided.
#[derive(Clone, Copy)]
struct Pace {
    /// The longest scenario; the average one is half as long.
    length: usize,
    /// Whole trees are compared after so many steps, and after the last one.
    batch: usize,
}

impl Pace {
    /// In a long run beginnings, ends and comparisons would take most of the time.
    fn of(steps: u64) -> Self {
        match steps {
            0..10_000 => Self {
                length: 160,
                batch: 16,
            },
            10_000..100_000 => Self {
                length: 1200,
                batch: 64,
            },
            _ => Self {
                length: 4000,
                batch: 64,
            },
        }
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(
            text.parse().with_context(|| format!("{name}={text}"))?,
        )),
        Err(_) => Ok(None),
    }
}

/// What was done in a test, and where its time went.
#[derive(Default)]
struct Spent {
    steps: Cell<u64>,
    scenarios: Cell<u64>,
    /// The step of the last scenario that was come to.
    at: Cell<usize>,
    set_up: Cell<Duration>,
    stepping: Cell<Duration>,
    /// Steps beside a remount, and how many remounts were made and refused.
    reshaping: Cell<Duration>,
    remounts: Cell<(usize, usize)>,
    comparing: Cell<Duration>,
    ending: Cell<Duration>,
}

impl Spent {
    fn on<T>(&self, what: &Cell<Duration>, f: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = f();
        what.set(what.get() + start.elapsed());
        value
    }

    fn reshaped(&self, shape: &Shape) {
        let ((done, refused), now) = (self.remounts.get(), shape.counts());
        self.remounts.set((done + now.0, refused + now.1));
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (remounts, refused) = self.remounts.get();
        write!(
            f,
            "{} steps in {} scenarios; {remounts} remounts, {refused} refused; set-up {:.1?}, \
             steps {:.1?}, beside remounts {:.1?}, comparing {:.1?}, ending {:.1?}",
            self.steps.get(),
            self.scenarios.get(),
            self.set_up.get(),
            self.stepping.get(),
            self.reshaping.get(),
            self.comparing.get(),
            self.ending.get(),
        )
    }
}

/// Runs scenarios until the wanted number of steps was made; the first that fails is made small.
fn check<S: fmt::Debug + Pieces>(
    cx: &Ctx,
    scenarios: &impl Strategy<Value = S>,
    steps: u64,
    batch: usize,
    play: impl Fn(&Ctx, &S, usize, &Spent) -> Result<()>,
) -> Result<()> {
    let (seed, only) = (number("SEED")?.unwrap_or(1), number("CASE")?);
    let (spent, start) = (Spent::default(), Instant::now());
    // Grace periods are most of what a mount costs.
    std::fs::write("/sys/kernel/rcu_expedited", "1")?;
    for case in only.unwrap_or(0).. {
        if spent.steps.get() >= steps || only.is_some_and(|only| case > only) {
            break;
        }
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&case.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let tree = scenarios
            .new_tree(&mut runner)
            .map_err(anyhow::Error::msg)?;
        let try_it = |scenario: &S, batch| {
            watchdog::alive_after(spent.steps.get(), steps, "steps");
            spent.at.set(usize::MAX);
            one(cx, |cx| play(cx, scenario, batch, &spent))
        };
        let scenario = tree.current();
        if let Err(e) = try_it(&scenario, batch) {
            let scenario = scenario.until(spent.at.get());
            // First without comparisons in between, which is fast; then with all of them.
            let (scenario, e) = cut::cut(scenario, e, |s| try_it(s, usize::MAX));
            let (scenario, e) = cut::cut(scenario, e, |s| try_it(s, 1));
            anyhow::bail!("SEED={seed} CASE={case}: {e:#}\nwith {scenario:?}");
        }
        spent.scenarios.set(spent.scenarios.get() + 1);
    }
    std::fs::write("/sys/kernel/rcu_expedited", "0")?;
    let (remounts, refused) = spent.remounts.get();
    // Else it would be no test of them.
    anyhow::ensure!(
        remounts + refused < 40 || remounts > refused / 8,
        "SEED={seed}: only {remounts} remounts, {refused} were refused"
    );
    print!("SEED={seed}, {spent}, all {:.1?}; ", start.elapsed());
    Ok(())
}

/// A scenario has a context of its own: what it leaves is checked and removed at once.
fn one(cx: &Ctx, play: impl FnOnce(&Ctx) -> Result<()>) -> Result<()> {
    let cx = Ctx::new(cx.layout)?;
    let result = run::caught(|| play(&cx));
    let problems = cx.finish();
    result?;
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// For other tests: does something with many random values; the first failure is shrunk by
/// proptest.
pub(crate) fn each<T: fmt::Debug>(
    scenarios: impl Strategy<Value = T>,
    cases: u64,
    play: impl Fn(&T) -> Result<()>,
) -> Result<()> {
    let seed = number("SEED")?.unwrap_or(1);
    let config = Config {
        cases: cases.try_into()?,
        max_shrink_iters: 250,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let done = Cell::new(0);
    let result = TestRunner::new_with_rng(config, rng).run(&scenarios, |scenario| {
        watchdog::alive_after(done.replace(done.get() + 1), cases, "cases");
        play(&scenario).map_err(|e| TestCaseError::fail(format!("{e:#}")))
    });
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Abort(reason)) => anyhow::bail!("SEED={seed}: {reason}"),
        Err(TestError::Fail(reason, scenario)) => {
            anyhow::bail!("SEED={seed}: {reason}\nwith {scenario:?}")
        }
    }
}

fn behaves_like_a_directory(cx: &Ctx) -> Result<()> {
    let steps = number("STEPS")?.unwrap_or(STEPS);
    let pace = Pace::of(steps);
    let scenarios = scenario::scenarios(pace.length);
    check(cx, &scenarios, steps, pace.batch, play)
}

/// Many unions to which little is done. Here a step is a scenario.
fn starts_as_merged(cx: &Ctx) -> Result<()> {
    let count = number("STEPS")?.unwrap_or(STEPS) / 50;
    let scenarios = scenario::scenarios(1);
    check(cx, &scenarios, count, 1, |cx, scenario, batch, spent| {
        play(cx, scenario, batch, &Spent::default())?;
        spent.steps.set(spent.steps.get() + 1);
        Ok(())
    })
}

fn threads_apart(cx: &Ctx) -> Result<()> {
    let steps = number("STEPS")?.unwrap_or(STEPS) / 2;
    let pace = Pace::of(steps);
    let scenarios = scenario::disjoint(pace.length / 2);
    check(cx, &scenarios, steps, pace.batch, threads::apart)
}

fn threads_together(cx: &Ctx) -> Result<()> {
    let steps = number("STEPS")?.unwrap_or(STEPS) / 2;
    let pace = Pace::of(steps);
    let scenarios = scenario::shared(pace.length / 2);
    check(
        cx,
        &scenarios,
        steps,
        pace.batch,
        |cx, threads, _, spent| threads::together(cx, threads, spent),
    )
}

/// Plays one scenario on both sides.
fn play(cx: &Ctx, scenario: &Scenario, batch: usize, spent: &Spent) -> Result<()> {
    let kind = cx.layout.upper();
    let contents: Vec<_> = scenario.layers.iter().map(|l| &l.content).collect();
    let (mut u, plain) = spent.on(&spent.set_up, || -> Result<_> {
        let mut builder = cx.union();
        for layer in &scenario.layers {
            builder = builder.on(kind, layer.perm.name(), layer::on_disk(&layer.content));
        }
        let u = builder.mount()?;
        // A scenario may put a whiteout beside the real object.
        for i in 0..scenario.layers.len() {
            cx.messy(&u.br(i, ""));
        }
        let plain = cx.dir(kind)?;
        layer::merged(&contents).build(&plain)?;
        Ok((u, plain))
    })?;

    let union = Side::union(u.root().to_owned());
    let mut both = Both::new(union, Side::plain(plain), Pair::new(kind), spent);
    let mut shape = Shape::new(kind);
    both.compare("before the first step")?;
    for (i, step) in scenario.steps.iter().enumerate() {
        let place = || format!("step {i}, {:?}", step.op);
        spent.at.set(i);
        let remount = match step.beside {
            Some(reshape) => shape.prepare(cx, &u, reshape)?,
            None => None,
        };
        match remount {
            None => spent.on(&spent.stepping, || both.step(step)),
            Some(remount) => {
                let (stepped, outcome) = spent.on(&spent.reshaping, || {
                    thread::scope(|scope| {
                        let remounting = scope.spawn(|| remount.run(&mut u));
                        let stepped = both.step(step);
                        (stepped, remounting.join())
                    })
                });
                let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                shape.settle(cx, remount, outcome?);
                // The VFS drops what nobody uses with each remount.
                both.pair.evicted();
                stepped
            }
        }
        .with_context(place)?;
        spent.steps.set(spent.steps.get() + 1);
        if matches!(step.op, Op::Again) {
            both.release()?;
            u.again()?;
            both.pair.forget();
            both.compare("mounted again")?;
        } else if (i + 1) % batch == 0 || i + 1 == scenario.steps.len() {
            both.compare(&format!("after {}", place()))?;
        }
    }
    spent.reshaped(&shape);
    both.release()?;
    both.compare("after the last step")?;
    spent.on(&spent.ending, || -> Result<()> {
        sys::drop_caches();
        both.pair.evicted();
        both.compare("after eviction")?;
        u.again()?;
        both.pair.forget();
        both.compare("after mounting again")?;
        u.umount()
    })
}

/// As [`sys::drop_caches`], but what is dirty stays.
fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
}

/// A union, the directory that it must look like, and who works there.
struct Both<'s> {
    union: Side,
    plain: Side,
    pair: Pair,
    umask: u32,
    spent: &'s Spent,
}

impl<'s> Both<'s> {
    fn new(union: Side, plain: Side, pair: Pair, spent: &'s Spent) -> Self {
        Self {
            union,
            plain,
            pair,
            umask: 0o022,
            spent,
        }
    }

    /// One operation on both sides.
    fn step(&mut self, step: &Step) -> Result<()> {
        let op = &step.op;
        if step.umask != self.umask {
            umask(Mode::from_raw_mode(step.umask));
            self.umask = step.umask;
        }
        if self.is_moot(op) {
            return Ok(());
        }
        if matches!(op, Op::DropCaches) {
            drop_caches();
            self.pair.evicted();
        }
        let user = AsUser::new(step.user);
        let on_union = self.union.apply(op);
        if let (Err(e), Some((from, to))) = (&on_union, op.renames()) {
            if e.errno == Errno::XDEV {
                drop(user);
                let excused = self.plain.is_dir(from) || self.plain.is_dir(to);
                anyhow::ensure!(excused, "EXDEV for something that is no directory");
                return Ok(());
            }
        }
        let on_plain = self.plain.apply(op);
        drop(user);
        for ino in self.plain.stored() {
            self.pair.stored(ino);
        }
        match (on_union, on_plain) {
            (Ok(a), Ok(b)) if a == b => Ok(()),
            (Err(a), Err(b)) if held::same_error(a.errno, b.errno, op) => Ok(()),
            (Ok(a), Ok(b)) => anyhow::bail!("the union says {a}, a directory {b}"),
            (Err(a), Ok(b)) => anyhow::bail!("the union fails ({a}), a directory says {b}"),
            (Ok(a), Err(b)) => anyhow::bail!("the union says {a}, a directory fails ({b})"),
            (Err(a), Err(b)) => anyhow::bail!("the union fails with {a}, a directory with {b}"),
        }
    }

    /// Whether file systems differ in what the operation does: some take the removal of an ACL that
    /// is not there for a change of the object, and ext4 makes the device node of a whiteout before
    /// it sees that a directory cannot be replaced.
    fn is_moot(&self, op: &Op) -> bool {
        match op {
            Op::RemoveXattr(p, name) if name.starts_with("system.") => {
                let there = sys::get_xattr(self.plain.root().join(p), name);
                there.is_err_and(|e| e.errno == Errno::NODATA)
            }
            Op::Rename(_, to, RenameFlags::WHITEOUT) => self.plain.is_dir(to),
            _ => false,
        }
    }

    fn compare(&mut self, when: &str) -> Result<()> {
        let (union, plain, pair) = (&self.union, &self.plain, &mut self.pair);
        let compare = || pair.compare(plain.root(), union.root());
        let diff = self.spent.on(&self.spent.comparing, compare);
        let diff = diff.with_context(|| when.to_owned())?.join("\n");
        anyhow::ensure!(diff.is_empty(), "{when}, directory -> union:\n{diff}");
        Ok(())
    }

    /// Closes everything and makes everything removable.
    fn release(&mut self) -> Result<()> {
        for side in [&mut self.union, &mut self.plain] {
            side.release();
            side.unflag()?;
        }
        Ok(())
    }
}

impl Drop for Both<'_> {
    fn drop(&mut self) {
        // After a failure, too: the branches must be removable.
        let _ = self.release();
        umask(Mode::from_raw_mode(0o022));
    }
}

/// Acts as another user until it is dropped.
struct AsUser(bool);

impl AsUser {
    fn new(user: op::User) -> Self {
        if user == 0 {
            return AsUser(false);
        }
        let keep = (None::<Uid>, None::<Gid>);
        set_thread_groups(&[Gid::from_raw(4)]).expect("setgroups");
        set_thread_res_gid(keep.1, Gid::from_raw(user + 1), keep.1).expect("setresgid");
        set_thread_res_uid(keep.0, Uid::from_raw(user), keep.0).expect("setresuid");
        AsUser(true)
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        if self.0 {
            set_thread_res_uid(None, Uid::ROOT, None).expect("setresuid");
            set_thread_res_gid(None, Gid::ROOT, None).expect("setresgid");
            set_thread_groups(&[]).expect("setgroups");
        }
    }
}
