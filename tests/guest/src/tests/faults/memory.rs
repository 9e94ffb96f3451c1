// SPDX-License-Identifier: GPL-2.0

//! No memory: the first allocation of an operation fails, then the second one, and so on until
//! none is left to fail. On the debug kernel only, as others cannot be told to.
//!
//! `OPS=rename,mkdir` does only operations with one of these in their names.

use anyhow::ensure;

use super::ops::{self, Lowers, Op, State};
use crate::harness::{
    inject::Injector,
    map::Map,
    prelude::*,
    union::{reconfigure, Spec},
    watchdog,
};

cases! {
    BASIC: changes, reads, open_files, mounts;
    ONCE: remounts;
}

/// What is more than any operation allocates.
const MOST: u32 = 5000;

/// A new union with a new writable branch.
fn fresh(cx: &Ctx, lowers: &Lowers) -> Result<Union> {
    let rw = cx.dir(cx.layout.upper())?;
    ops::upper().build(&rw)?;
    lowers.union(cx, &rw)
}

/// Nothing is known of any name, so that all of it is allocated again.
fn forget_names() -> Result<()> {
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "2")?)
}

/// What the caches hold when an operation begins.
#[derive(Clone, Copy, PartialEq)]
enum Caches {
    /// Every object of the union.
    All,
    /// Nothing of it. It takes long to reach this.
    Nothing,
}

/// One operation, time and again.
struct Sweep<'a> {
    cx: &'a Ctx,
    lowers: &'a Lowers,
    injector: &'a Injector,
    op: &'a Op,
    start: sys::Time,
    /// After the operation, without faults.
    expected: State,
}

impl<'a> Sweep<'a> {
    fn new(cx: &'a Ctx, lowers: &'a Lowers, injector: &'a Injector, op: &'a Op) -> Result<Self> {
        let start = ops::now();
        let u = fresh(cx, lowers)?;
        (op.run)(u.root())?;
        let expected = State::of(&u)?;
        u.umount()?;
        Ok(Self {
            cx,
            lowers,
            injector,
            op,
            start,
            expected,
        })
    }

    /// Lets each allocation of the operation fail once; says how many there were.
    fn all(&self) -> Result<u32> {
        let own = self.run(Caches::All, MOST).context("all cached")?;
        ensure!(own < MOST, "it has no end");
        let u = fresh(self.cx, self.lowers)?;
        forget_names()?;
        let (result, count) = self.injector.count(MOST, || (self.op.run)(u.root()))?;
        result?;
        u.umount()?;
        // What comes first then are look-ups; the rest is as above.
        let finding = count.saturating_sub(own);
        self.run(Caches::Nothing, finding)
            .context("nothing cached")?;
        Ok(count.max(own))
    }

    /// Lets the first allocation fail, then the second one and so on, until none is left or `most`
    /// did; says how many did.
    fn run(&self, caches: Caches, most: u32) -> Result<u32> {
        let mut u = fresh(self.cx, self.lowers)?;
        let mut before = State::of(&u)?;
        for nth in 1..=most {
            if caches == Caches::Nothing {
                forget_names()?;
            }
            let (result, failed) = self.injector.fail(nth, || (self.op.run)(u.root()))?;
            let at = || format!("allocation {nth} failed, {result:?}");
            let now = State::of(&u)?;
            let done = match &result {
                Ok(()) => {
                    // After the new mount below none may be left.
                    now.check_done_but_orphans(&self.expected, self.start)
                        .with_context(at)?;
                    true
                }
                Err(_) if !failed => anyhow::bail!("without a fault: {result:?}"),
                Err(_) => match now.check_undone(&before, self.start) {
                    Err(_) if self.op.opens_what_is_new() => {
                        now.check_done(&self.expected, self.start)
                            .with_context(at)?;
                        true
                    }
                    undone => undone.with_context(at).map(|()| false)?,
                },
            };
            // What is on disk is the same; seldom after a failure, since it takes long.
            if done || nth % 16 == 0 {
                u.again()?;
                let now = State::of(&u)?;
                match done {
                    true => now.check_done_and_mounted(&self.expected, self.start),
                    false => now.check_undone(&before, self.start),
                }
                .with_context(at)
                .context("after a new mount")?;
            }
            if !failed {
                u.umount()?;
                return Ok(nth - 1);
            }
            if done {
                u.umount()?;
                u = fresh(self.cx, self.lowers)?;
                before = State::of(&u)?;
            }
            watchdog::alive();
        }
        u.umount()?;
        Ok(most)
    }
}

fn sweep_all(cx: &Ctx, which: &[Op]) -> Result<()> {
    let injector = Injector::new()?;
    let lowers = Lowers::new(cx, cx.layout.upper())?;
    let wanted = std::env::var("OPS").unwrap_or_default();
    let wanted = |op: &&Op| wanted.split(',').any(|part| op.name.contains(part));
    for op in which.iter().filter(wanted) {
        let count = Sweep::new(cx, &lowers, &injector, op).and_then(|sweep| sweep.all());
        let count = count.context(op.name)?;
        ensure!(count > 0, "{}: nothing to fail", op.name);
        println!("    {}: {count} allocations", op.name);
    }
    Ok(())
}

fn changes(cx: &Ctx) -> Result<()> {
    sweep_all(cx, ops::CHANGES)
}

fn reads(cx: &Ctx) -> Result<()> {
    sweep_all(cx, ops::READS)
}

/// Repeats `f` on a new union until no allocation of the calls that `f` passes to its argument
/// fails.
fn until_none_fails(
    cx: &Ctx,
    f: impl Fn(&Union, &dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<bool>) -> Result<()>,
) -> Result<()> {
    let injector = Injector::new()?;
    let lowers = Lowers::new(cx, cx.layout.upper())?;
    for nth in 1..MOST {
        let u = fresh(cx, &lowers)?;
        let hit = std::cell::Cell::new(false);
        // Whether the call succeeded; it must, unless a fault was injected.
        let call = |g: &mut dyn FnMut() -> Result<()>| -> Result<bool> {
            let (result, failed) = injector.fail(nth, g)?;
            hit.set(hit.get() || failed);
            match result {
                Ok(()) => Ok(true),
                Err(_) if failed => Ok(false),
                Err(e) => Err(e.context("without a fault")),
            }
        };
        f(&u, &call).with_context(|| format!("allocation {nth} failed"))?;
        u.umount()?;
        if !hit.get() {
            return Ok(());
        }
        watchdog::alive();
    }
    anyhow::bail!("it has no end")
}

/// Descriptors that were opened before a copy-up, and go on after it.
fn open_files(cx: &Ctx) -> Result<()> {
    let content = [vec![b'd'; 10_000], vec![b'+']].concat();
    until_none_fails(cx, |u, call| {
        let path = u.at("e/f/g/deep");
        let reading = sys::open_ro(&path)?;
        sys::append(&path, "+")?;
        call(&mut || {
            ensure!(
                sys::pread_fd(&reading)? == content,
                "it reads the old content"
            );
            Ok(())
        })?;
        // Whatever happened before, it can be read now.
        ensure!(sys::pread_fd(&reading)? == content);
        Ok(())
    })
    .context("read")?;
    until_none_fails(cx, |u, call| {
        let path = u.at("e/f/g/deep");
        let reading = sys::open_ro(&path)?;
        sys::append(&path, "+")?;
        call(&mut || {
            let map = Map::shared_ro(&reading, 10_001)?;
            ensure!(map.bytes()[10_000] == b'+', "it maps the old content");
            Ok(())
        })?;
        Ok(())
    })
    .context("mmap")?;
    until_none_fails(cx, |u, call| {
        let fd = sys::open_rw(u.at("d/up"))?;
        call(&mut || Ok(sys::write_fd(&fd, &[b'w'; 20_000])?))?;
        let now = sys::read(u.at("d/up"))?;
        ensure!(now == b"up" || now.iter().all(|b| *b == b'w'));
        ensure!(sys::fstat(&fd)?.st_size as usize == now.len());
        Ok(())
    })
    .context("write")?;
    until_none_fails(cx, |u, call| {
        let fd = dir::open_dir(u.at("d"))?;
        let all = names(u.at("d"))?;
        call(&mut || {
            let listed = dir::unique(&dir::rest(&fd, 200)?, u.root());
            ensure!(all.iter().all(|name| listed.contains(name)), "{listed:?}");
            Ok(())
        })?;
        Ok(())
    })
    .context("list")
}

/// Mounts: refused without a trace, or done.
fn mounts(cx: &Ctx) -> Result<()> {
    let injector = Injector::new()?;
    let lowers = Lowers::new(cx, cx.layout.upper())?;
    for api in [Api::Fsopen, Api::Mount2] {
        let u = fresh(cx, &lowers)?;
        let expected = State::of(&u)?;
        let (rw, target) = (u.br(0, ""), cx.mount_point()?);
        let spec: Spec = u.spec().clone().api(api);
        u.umount()?;
        let mut nth = 0;
        loop {
            nth += 1;
            forget_names()?;
            let (result, failed) = injector.fail(nth, || spec.mount(&target))?;
            let mounted = result.is_ok();
            if mounted {
                let shown = State::between(&target, &rw)?;
                crate::harness::scratch::umount(&target)?;
                shown
                    .check_undone(&expected, ops::NEVER)
                    .with_context(|| format!("allocation {nth}"))?;
            }
            if !failed {
                result?;
                break;
            }
            ensure!(nth < MOST, "it has no end");
            watchdog::alive();
        }
        println!("    mount by {api:?}: {} allocations", nth - 1);
        ensure!(nth > 20, "only {nth} allocations");
    }
    Ok(())
}

/// Remounts that change nothing but read-only and back.
fn remounts(cx: &Ctx) -> Result<()> {
    let injector = Injector::new()?;
    let lowers = Lowers::new(cx, cx.layout.upper())?;
    let u = fresh(cx, &lowers)?;
    let before = State::of(&u)?;
    for options in [&["ro"][..], &["rw"]] {
        for nth in 1..MOST {
            forget_names()?;
            let (result, failed) = injector.fail(nth, || reconfigure(u.root(), options))?;
            State::of(&u)?.check_undone(&before, ops::NEVER)?;
            if !failed {
                result?;
                break;
            }
            watchdog::alive();
        }
    }
    sys::append(u.at("e/f/g/deep"), "+")?;
    u.umount()
}
