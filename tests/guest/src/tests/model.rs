// SPDX-License-Identifier: GPL-2.0

//! The model test: whatever is done to a union, it looks like a plain directory that was made with
//! the same visible tree and treated the same.
//!
//! A scenario ([`scenario`]) is two to four branches with random content, whiteouts and opaque
//! marks, and a sequence of operations. [`merge`] computes, independently of the module, the tree
//! that the union must show; it is laid out on the same kind of file system. Then each operation
//! runs on both sides ([`side`]): result, errno and, every few steps, the whole trees must agree,
//! as well after the caches were dropped and after the union was mounted anew.
//!
//! `SEED` and `STEPS` (operations for each file system) are taken from the environment; a failure
//! is shrunk by proptest and printed with its seed. One thing a union may refuse where a directory
//! would not: renaming a directory that has lower parts (`EXDEV`). Such a step is skipped.

mod merge;
pub(crate) mod scenario;
pub(crate) mod side;

use std::fmt::Debug;

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use self::{
    scenario::{Op, Scenario},
    side::Side,
};
use crate::harness::{
    prelude::*,
    snapshot::{Scope, Snapshot},
    watchdog,
};

cases! {
    WRITABLE: behaves_like_a_directory;
    BASIC: starts_as_merged;
}

/// The longest scenario; the average one is half as long.
const LENGTH: usize = 60;
/// What was changed by an operation has a later time; what the scenario made has an earlier one.
const START: sys::Time = (1_700_000_000, 0);

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// Runs many scenarios.
fn check(scenarios: impl Strategy<Value = Scenario>, cases: u64, cx: &Ctx) -> Result<()> {
    each(scenarios, cases, |scenario| play(cx, scenario))
}

/// Does something with many scenarios; the first failure is shrunk.
pub(crate) fn each<T: Debug>(
    scenarios: impl Strategy<Value = T>,
    cases: u64,
    play: impl Fn(&T) -> Result<()>,
) -> Result<()> {
    let seed = number("SEED", 1)?;
    let config = Config {
        cases: cases.try_into()?,
        max_shrink_iters: 250,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let result = TestRunner::new_with_rng(config, rng).run(&scenarios, |scenario| {
        watchdog::alive();
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
    let steps = number("STEPS", 2000)?;
    check(
        scenario::scenarios(LENGTH),
        steps.div_ceil(LENGTH as u64),
        cx,
    )
}

fn starts_as_merged(cx: &Ctx) -> Result<()> {
    check(scenario::scenarios(0), number("STEPS", 2000)? / 40, cx)
}

/// Plays one scenario on both sides.
fn play(cx: &Ctx, scenario: &Scenario) -> Result<()> {
    let kind = cx.layout.upper();
    let mut builder = cx.union();
    for layer in &scenario.layers {
        builder = builder.on(kind, layer.perm.name(), layer.tree());
    }
    let mut u = builder.mount()?;
    // A scenario may put a whiteout beside the real object.
    for i in 0..scenario.layers.len() {
        cx.messy(&u.br(i, ""));
    }
    let plain = cx.dir(kind)?;
    merge::merge(&scenario.layers).build(&plain)?;

    let mut union = Side::new(u.root().to_owned());
    let mut model = Side::new(plain.clone());
    same_trees(&u, &plain, "before the first step")?;
    for (i, op) in scenario.ops.iter().enumerate() {
        let step = || format!("step {i}, {op:?}");
        step_both(op, &mut union, &mut model).with_context(step)?;
        if i % 8 == 7 {
            same_trees(&u, &plain, &format!("after {}", step()))?;
        }
    }
    drop(union);
    same_trees(&u, &plain, "after the last step")?;
    sys::drop_caches();
    same_trees(&u, &plain, "after eviction")?;
    // Links between branches live as long as the mount does.
    if !scenario.links {
        let before = Snapshot::of(u.root(), Scope::Visible)?;
        u.again()?;
        let diff = before.diff(&Snapshot::of(u.root(), Scope::Visible)?);
        anyhow::ensure!(
            diff.is_empty(),
            "after mounting again:\n{}",
            diff.join("\n")
        );
    }
    u.umount()
}

/// One operation on both sides.
fn step_both(op: &Op, union: &mut Side, model: &mut Side) -> Result<()> {
    let on_union = union.apply(op);
    if let (Err(e), Some((from, to))) = (&on_union, op.renames()) {
        if e.errno == Errno::XDEV {
            let both = matches!(op, Op::Exchange(..));
            let excused = model.is_dir(from) || (both && model.is_dir(to));
            anyhow::ensure!(excused, "EXDEV for something that is no directory");
            return Ok(());
        }
    }
    match (on_union, model.apply(op)) {
        (Ok(a), Ok(b)) if a == b => Ok(()),
        (Err(a), Err(b)) if a.errno == b.errno => Ok(()),
        // POSIX allows both for a directory that is to be replaced; XFS has its own taste.
        (Err(a), Err(b)) if (a.errno, b.errno) == (Errno::NOTEMPTY, Errno::EXIST) => {
            anyhow::ensure!(matches!(op, Op::Rename(..)), "{a}, but in a directory {b}");
            Ok(())
        }
        (Ok(a), Ok(b)) => anyhow::bail!("the union says {a}, a directory {b}"),
        (Err(a), Ok(b)) => anyhow::bail!("the union fails ({a}), a directory says {b}"),
        (Ok(a), Err(b)) => anyhow::bail!("the union says {a}, a directory fails ({b})"),
        (Err(a), Err(b)) => anyhow::bail!("the union fails with {a}, a directory with {b}"),
    }
}

fn same_trees(u: &Union, plain: &std::path::Path, when: &str) -> Result<()> {
    let wanted = Snapshot::of(plain, Scope::Visible)?;
    let seen = Snapshot::of(u.root(), Scope::Visible)?;
    let diff = wanted.diff_since(&seen, START);
    let diff = diff.join("\n");
    anyhow::ensure!(diff.is_empty(), "{when}, directory -> union:\n{diff}");
    Ok(())
}
