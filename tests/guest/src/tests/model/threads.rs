// SPDX-License-Identifier: GPL-2.0

//! Four threads in one union.
//!
//! In directories of their own each must see its directory behave as if it were alone, while a fifth
//! thread takes snapshots and lets branches come and go. In one
//! place nobody can tell what comes out; but some things hold whatever the order: no error that a
//! directory would not give, and in the end a tree that stays as it is, through eviction and a new
//! mount, that is what the branches say, and with nothing left behind.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;

use super::{
    compare::{self, Pair},
    drop_caches,
    layer::{self, Layer, Perm},
    merge,
    op::{Op, Step},
    reshape::{self, Outcome},
    scenario::Threads,
    side::Side,
    umask, AsUser, Both, Spent,
};
use crate::harness::{
    context::Ctx,
    sys::{self, Errno, Mode},
    users, watchdog,
};

/// `batch`: steps between two comparisons of a thread's directory.
pub(super) fn apart(cx: &Ctx, threads: &Threads, batch: usize, spent: &Spent) -> Result<()> {
    let kind = cx.layout.upper();
    let perms: Vec<Perm> = threads.parts[0].iter().map(|l| l.perm).collect();
    let contents: Vec<_> = (0..perms.len()).map(|i| side_by_side(threads, i)).collect();
    let mut builder = cx.union();
    for (perm, content) in perms.iter().zip(&contents) {
        builder = builder.on(kind, perm.name(), layer::on_disk(content));
    }
    let mut u = builder.mount()?;
    for i in 0..perms.len() {
        cx.messy(&u.br(i, ""));
    }
    let plain = cx.dir(kind)?;
    layer::merged(&contents.iter().collect::<Vec<_>>()).build(&plain)?;

    let root = u.root().to_owned();
    let work = |name: String, steps: &[Step]| -> Result<()> {
        let spent = Spent::default();
        let union = Side::union(root.join(&name));
        let own = Side::plain(plain.join(&name));
        let mut both = Both::new(union, own, Pair::shared(kind), &spent);
        both.compare("before the first step")?;
        for (i, step) in steps.iter().enumerate() {
            let place = || format!("{name}, step {i}, {:?}", step.op);
            both.step(step).map_err(|e| e.context(place()))?;
            watchdog::alive();
            if (i + 1) % batch == 0 {
                both.compare(&format!("after {}", place()))?;
            }
        }
        both.release()?;
        both.compare(&format!("{name}, after the last step"))
    };
    let (remounts, ended) = (reshape::sequence(cx, kind)?, AtomicBool::new(false));
    let (results, outcomes) = thread::scope(|scope| {
        let remounting = scope.spawn(|| reshape::each(&remounts, &mut u, &ended));
        let results = in_threads(threads, |i, steps| work(format!("t{i}"), steps));
        ended.store(true, Ordering::Release);
        (results, remounting.join())
    });
    spent.steps.set(spent.steps.get() + count(threads));
    results.into_iter().collect::<Result<()>>()?;
    for outcome in outcomes.unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
        let (done, refused) = spent.remounts.get();
        match outcome {
            Outcome::Refused => spent.remounts.set((done, refused + 1)),
            Outcome::Done => spent.remounts.set((done + 1, refused)),
            Outcome::Frozen(old, then) => {
                spent.remounts.set((done + 1, refused));
                cx.stays(&old, then);
            }
        }
    }

    let union = Side::union(u.root().to_owned());
    let mut both = Both::new(union, Side::plain(plain), Pair::new(kind), spent);
    both.compare("after all")?;
    sys::drop_caches();
    both.pair.evicted();
    both.compare("after eviction")?;
    u.again()?;
    Ok(())
}

pub(super) fn together(cx: &Ctx, threads: &Threads, spent: &Spent) -> Result<()> {
    let kind = cx.layout.upper();
    let layers = &threads.parts[0];
    let mut builder = cx.union();
    for layer in layers {
        builder = builder.on(kind, layer.perm.name(), layer::on_disk(&layer.content));
    }
    let mut u = builder.mount()?;
    let work = |steps: &[Step]| -> Result<()> {
        let mut side = Side::union(u.root().to_owned());
        for (i, step) in steps.iter().enumerate() {
            umask(Mode::from_raw_mode(step.umask));
            if matches!(step.op, Op::DropCaches) {
                drop_caches();
            }
            let user = AsUser::new(step.user);
            let result = side.apply(&step.op);
            drop(user);
            if let Err(e) = result {
                let place = format!("step {i}, {:?}", step.op);
                anyhow::ensure!(may_fail_with(e.errno, &step.op), "{place}: {e}");
            }
        }
        side.release();
        Ok(())
    };
    let results = in_threads(threads, |_, steps| work(steps));
    spent.steps.set(spent.steps.get() + count(threads));
    results.into_iter().collect::<Result<()>>()?;
    watchdog::alive();

    let same = |what: &str, diff: Vec<String>| {
        let diff = diff.join("\n");
        anyhow::ensure!(diff.is_empty(), "{what}:\n{diff}");
        Ok(())
    };
    let first = compare::read(u.root(), false)?;
    sys::drop_caches();
    let second = compare::read(u.root(), false)?;
    same("after eviction", compare::changes(&first, &second, true))?;
    let branches: Vec<(PathBuf, bool)> = layers
        .iter()
        .enumerate()
        .map(|(i, layer)| (u.br(i, ""), layer.perm != Perm::Ro))
        .collect();
    let merged = compare::merged(&branches)?;
    same(
        "what the branches say -> the union",
        compare::contents(&merged, &first),
    )?;
    u.again()?;
    let third = compare::read(u.root(), false)?;
    same(
        "after mounting again",
        compare::changes(&first, &third, false),
    )?;
    u.umount()
}

/// What is on one branch: the parts of all threads.
fn side_by_side(threads: &Threads, branch: usize) -> merge::Layer<layer::Item> {
    let part = |(i, part): (usize, &Vec<Layer>)| part[branch].below(&format!("t{i}"));
    let mut parts = threads.parts.iter().enumerate().map(part);
    let mut all = parts.next().expect("there is a thread");
    for part in parts {
        all.items.extend(part.items);
        all.whiteouts.extend(part.whiteouts);
        all.opaque.extend(part.opaque);
    }
    all
}

fn count(threads: &Threads) -> u64 {
    threads.steps.iter().map(|s| s.len() as u64).sum()
}

/// Each thread with its own umask.
fn in_threads(
    threads: &Threads,
    work: impl Fn(usize, &[Step]) -> Result<()> + Sync,
) -> Vec<Result<()>> {
    let work = &work;
    thread::scope(|scope| {
        let handles: Vec<_> = threads
            .steps
            .iter()
            .enumerate()
            .map(|(i, steps)| scope.spawn(move || users::apart(|| work(i, steps))))
            .collect();
        let join = |handle: thread::ScopedJoinHandle<'_, Result<()>>| match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        handles.into_iter().map(join).collect()
    })
}

/// Errors that some order of the operations can give in a directory.
fn may_fail_with(errno: Errno, op: &Op) -> bool {
    match errno {
        // A directory with parts on several branches does not move.
        Errno::XDEV => matches!(op, Op::Rename(..)),
        // Of fallocate, FICLONE and extended attributes.
        Errno::OPNOTSUPP | Errno::NODATA => true,
        // Of what is neither file nor directory; of a lock that another one holds.
        Errno::NXIO | Errno::SPIPE | Errno::AGAIN => true,
        Errno::ACCESS | Errno::PERM | Errno::BADF | Errno::INVAL => true,
        Errno::NOENT | Errno::EXIST | Errno::NOTEMPTY => true,
        Errno::NOTDIR | Errno::ISDIR | Errno::LOOP => true,
        _ => false,
    }
}
