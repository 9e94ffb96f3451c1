// SPDX-License-Identifier: GPL-2.0

//! Signals during a copy-up. One that the process handles does not disturb it: `chmod` and `rename`
//! cannot say that they were interrupted, and with a timer that fires all the time a copy that
//! begins again each time would never end. (Kills are in `below`.)

use std::{
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::ensure;

use crate::harness::prelude::*;

cases! {
    BASIC: handled_signals;
}

/// Long enough for many signals.
const SIZE: usize = 16 << 20;
/// How often the handler was called.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handler(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Lets `SIGUSR1` interrupt calls: without `SA_RESTART` they fail with `EINTR`.
fn handle() -> Result<()> {
    // SAFETY: All zeroes is a valid action, without flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: The handler touches nothing but an atomic.
    let ret = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    ensure!(ret == 0, "sigaction: {}", sys::last_errno());
    Ok(())
}

/// Runs `f` in a thread that gets signals all the time; says how many came meanwhile.
fn under_signals(f: impl FnOnce() -> sys::Res<()> + Send) -> Result<u32> {
    let ended = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    let (result, sent) = thread::scope(|scope| -> Result<_> {
        let calling = scope.spawn(|| {
            // SAFETY: The call takes nothing.
            let _ = tell.send(unsafe { libc::gettid() });
            let result = f();
            ended.store(true, Ordering::Release);
            result
        });
        let task = told.recv()?;
        let mut sent = 0;
        while !ended.load(Ordering::Acquire) {
            // SAFETY: The thread is not joined yet; the signal has a handler.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), task, libc::SIGUSR1) };
            sent += 1;
            thread::sleep(Duration::from_millis(1));
        }
        Ok((calling.join().expect("the thread panicked"), sent))
    })?;
    result?;
    Ok(sent)
}

/// Each call that copies a whole file.
fn handled_signals(cx: &Ctx) -> Result<()> {
    let content: Vec<u8> = (0..SIZE).map(|n| (n / 4096) as u8).collect();
    let names = ["open", "chmod", "rename", "link", "cut"];
    let low = names
        .iter()
        .fold(Tree::new(), |tree, name| tree.file(name, &content));
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    handle()?;
    HANDLED.store(0, Ordering::Relaxed);
    for name in names {
        let path = u.at(name);
        let sent = under_signals(|| match name {
            "open" => sys::open_rw(&path).map(drop),
            "chmod" => sys::chmod(&path, 0o640),
            "rename" => sys::rename(&path, u.at("renamed")),
            "link" => sys::link(&path, u.at("linked")),
            _ => sys::truncate(&path, SIZE as u64 - 1),
        })
        .with_context(|| name)?;
        ensure!(sent > 2, "{name}: only {sent} signals");
        let (now, len) = match name {
            "rename" => ("renamed", SIZE),
            "cut" => (name, SIZE - 1),
            _ => (name, SIZE),
        };
        ensure!(sys::read(u.at(now))? == content[..len], "{name}");
        ensure!(exists(u.br(0, now)), "{name}: not copied up");
    }
    ensure!(HANDLED.load(Ordering::Relaxed) >= names.len() as u32);
    Ok(())
}
