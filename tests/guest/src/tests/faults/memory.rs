// SPDX-License-Identifier: GPL-2.0

//! No memory: the first allocation of an operation fails, then the second one, and so on until
//! none is left to fail. On the debug kernel only, as others cannot be told to.
//!
//! Each operation of [`ops`] is a test of its own, as `faults::memory::rename_of_a_directory`.

use std::sync::Arc;

use anyhow::ensure;

use super::ops::{self, Lowers, Op, State};
use crate::harness::{
    context::{Layout, BASIC},
    inject::Injector,
    map::Map,
    prelude::*,
    run::Case,
    snapshot::{Scope, Snapshot},
    union::{reconfigure, Spec},
    watchdog,
};

cases! {
    BASIC: open_files, mounts;
    ONCE: remounts;
}

/// A test for each operation that allocates something.
pub(crate) fn sweeps() -> impl Iterator<Item = Case> {
    let all = ops::CHANGES.iter().chain(ops::READS);
    all.filter(|op| op.name != "statfs").map(|op| Case {
        name: format!("memory::{}", op.name.replace(' ', "_")),
        layouts: BASIC,
        run: Arc::new(|cx: &Ctx| sweep(cx, op)),
    })
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

/// ext4 logs as an error of its own that it got no memory.
fn tolerate_ext4(cx: &Ctx) {
    if cx.layout == Layout::Ext4 {
        cx.tolerate("Out of memory");
    }
}

/// What the caches hold when an operation begins.
#[derive(Clone, Copy, PartialEq)]
enum Caches {
    /// Every object of the union.
    All,
    /// Nothing of it.
    Nothing,
}

/// One operation, time and again. Most of the time goes into looking at the whole union, so that
/// is done no more often than needed.
struct Sweep<'a> {
    cx: &'a Ctx,
    lowers: &'a Lowers,
    injector: &'a Injector,
    op: &'a Op,
    start: sys::Time,
    /// A new union.
    before: State,
    /// After the operation, without faults.
    expected: State,
}

impl<'a> Sweep<'a> {
    fn new(cx: &'a Ctx, lowers: &'a Lowers, injector: &'a Injector, op: &'a Op) -> Result<Self> {
        let start = ops::now();
        let mut u = fresh(cx, lowers)?;
        let before = State::of(&u)?;
        (op.run)(u.root())?;
        let expected = State::of(&u)?;
        u.again()?;
        State::of(&u)?
            .check_done_and_mounted(&expected, start)
            .context("without faults, after a new mount")?;
        u.umount()?;
        Ok(Self {
            cx,
            lowers,
            injector,
            op,
            start,
            before,
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

    /// A new union, on which the operation was never done.
    fn union(&self, caches: Caches) -> Result<Union> {
        let u = fresh(self.cx, self.lowers)?;
        if caches == Caches::All {
            Snapshot::of(u.root(), Scope::Visible)?;
        }
        Ok(u)
    }

    /// Lets the first allocation fail, then the second one and so on, until none is left or `most`
    /// did; says how many did.
    fn run(&self, caches: Caches, most: u32) -> Result<u32> {
        let mut u = self.union(caches)?;
        for nth in 1..=most {
            if caches == Caches::Nothing {
                forget_names()?;
            }
            let (result, failed) = self.injector.fail(nth, || (self.op.run)(u.root()))?;
            ensure!(failed || result.is_ok(), "without a fault: {result:?}");
            let at = || format!("allocation {nth} failed, {result:?}");
            let now = State::of(&u)?;
            let done = self.check(&now, &result).with_context(at)?;
            // What is on disk is the same.
            let start = match result {
                Ok(()) => self.start,
                Err(_) => ops::EVER, // Its time of change would have come after it was opened.
            };
            let look_again = match done {
                true => !now.on_disk_as(&self.expected, start),
                false => nth % 16 == 0,
            };
            if look_again {
                u.again()?;
                let now = State::of(&u)?;
                match done {
                    true => now.check_done_and_mounted(&self.expected, start),
                    false => now.check_undone(&self.before, self.start),
                }
                .with_context(at)
                .context("after a new mount")?;
            }
            if !failed {
                u.umount()?;
                return Ok(nth - 1);
            }
            if done && !now.is(&self.before) {
                u.umount()?;
                u = self.union(caches)?;
            }
            watchdog::alive();
        }
        u.umount()?;
        Ok(most)
    }

    /// Fails unless the operation was done or not, as `result` says; says whether it was.
    fn check(&self, now: &State, result: &sys::Res<()>) -> Result<bool> {
        let Err(error) = result else {
            // After the new mount none may be left.
            now.check_done_but_orphans(&self.expected, self.start)?;
            return Ok(true);
        };
        match now.check_undone(&self.before, self.start) {
            Err(_) if self.op.opens_last() || self.written_on_ext4(error) => {
                now.check_done(&self.expected, ops::EVER)?;
                Ok(true)
            }
            undone => undone.map(|()| false),
        }
    }

    /// Whether `error` is that of a write(2) on ext4 that may have been done: ext4 sets the new
    /// size, then says that there is no memory to note it on the disk (`ext4_da_do_write_end()`).
    fn written_on_ext4(&self, error: &sys::SysError) -> bool {
        self.cx.layout == Layout::Ext4 && error.call == "write" && error.errno == Errno::NOMEM
    }
}

fn sweep(cx: &Ctx, op: &Op) -> Result<()> {
    let injector = Injector::new()?;
    tolerate_ext4(cx);
    let lowers = Lowers::new(cx, cx.layout.upper())?;
    let count = Sweep::new(cx, &lowers, &injector, op)?.all()?;
    ensure!(count > 0, "nothing to fail");
    print!("{count} allocations, ");
    Ok(())
}

/// Repeats `f` on a new union until no allocation of the calls that `f` passes to its argument
/// fails.
fn until_none_fails(
    cx: &Ctx,
    f: impl Fn(&Union, &dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<bool>) -> Result<()>,
) -> Result<()> {
    let injector = Injector::new()?;
    tolerate_ext4(cx);
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
    tolerate_ext4(cx);
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
