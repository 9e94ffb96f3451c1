// SPDX-License-Identifier: GPL-2.0

//! No memory: the first allocation of an operation fails, then the second one, and so on until
//! none is left to fail. On the debug kernel only, as others cannot be told to.

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

/// Lets each allocation of `op` fail once; says how many there were.
fn sweep(cx: &Ctx, lowers: &Lowers, injector: &Injector, op: &Op) -> Result<u32> {
    let start = ops::now();
    let expected = {
        let u = fresh(cx, lowers)?;
        (op.run)(u.root())?;
        let state = State::of(&u)?;
        u.umount()?;
        state
    };
    let mut u = fresh(cx, lowers)?;
    let mut before = State::of(&u)?;
    for nth in 1..MOST {
        forget_names()?;
        let (result, failed) = injector.fail(nth, || (op.run)(u.root()))?;
        let at = || format!("allocation {nth} failed, {result:?}");
        let now = State::of(&u)?;
        match &result {
            Ok(()) => now.check_done(&expected, start),
            Err(_) if !failed => anyhow::bail!("without a fault: {result:?}"),
            Err(_) => now.check_undone(&before, start),
        }
        .with_context(at)?;
        // What is on disk is the same; seldom after a failure, since it takes long.
        if result.is_ok() || nth % 16 == 0 {
            u.again()?;
            let now = State::of(&u)?;
            match result {
                Ok(()) => now.check_done_and_mounted(&expected, start),
                Err(_) => now.check_undone(&before, start),
            }
            .with_context(at)
            .context("after a new mount")?;
        }
        if !failed {
            u.umount()?;
            return Ok(nth - 1);
        }
        if result.is_ok() {
            u.umount()?;
            u = fresh(cx, lowers)?;
            before = State::of(&u)?;
        }
        watchdog::alive();
    }
    anyhow::bail!("it has no end")
}

fn sweep_all(cx: &Ctx, which: &[Op]) -> Result<()> {
    let injector = Injector::new()?;
    let lowers = Lowers::new(cx, cx.layout.upper())?;
    for op in which {
        let count = sweep(cx, &lowers, &injector, op).context(op.name)?;
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
