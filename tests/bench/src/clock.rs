// SPDX-License-Identifier: GPL-2.0

//! A clock that counts instructions.
//!
//! Under QEMU's `-icount shift=0` one instruction takes 1 ns of guest time. The kernel derives
//! CLOCK_MONOTONIC from a TSC whose frequency it has measured, so one instruction is one
//! nanosecond but for a factor near 1, which a loop of known length tells.

use std::{arch::asm, hint::black_box};

use anyhow::{ensure, Result};
use rustix::time::{clock_gettime, ClockId};

use crate::sample;

#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// Instructions per nanosecond.
    factor: f64,
    /// What reading the clock twice costs, in nanoseconds.
    overhead: f64,
}

/// Now, in nanoseconds.
#[inline]
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Executes `2 * n` instructions.
#[inline(never)]
fn known_loop(n: u64) {
    // SAFETY: touches nothing but one register and the flags.
    unsafe {
        asm!("2:", "dec {0}", "jnz 2b", inout(reg) n => _, options(nomem, nostack));
    }
}

impl Clock {
    /// Finds factor and overhead; refuses a clock that does not count instructions.
    pub(crate) fn calibrate(any: bool) -> Result<Self> {
        // Short enough to fall between two timer ticks, most of the time.
        const N: u64 = 20_000;
        let time = |n| {
            let start = now();
            known_loop(black_box(n));
            (now() - start) as f64
        };
        // The difference of two lengths: what surrounds the loop falls out.
        let lengths: Vec<f64> = (0..101).map(|_| time(3 * N) - time(N)).collect();
        let measured = sample::median(&lengths);
        let factor = (4 * N) as f64 / measured;
        let steady = sample::decile(&lengths, 8) - sample::decile(&lengths, 2);
        ensure!(
            any || ((factor - 1.0).abs() < 0.01 && steady / measured < 0.001),
            "the clock does not count instructions: {} took {measured} ns, give or take {steady}; \
             is this guest run by vm.sh --icount?",
            4 * N,
        );
        let pairs: Vec<f64> = (0..1001)
            .map(|_| {
                let start = now();
                (now() - start) as f64
            })
            .collect();
        Ok(Self {
            factor,
            overhead: sample::median(&pairs),
        })
    }

    pub(crate) fn factor(&self) -> f64 {
        self.factor
    }

    /// Instructions that reading the clock takes.
    pub(crate) fn overhead(&self) -> f64 {
        self.overhead * self.factor
    }

    /// Instructions that `body` executes.
    #[inline]
    pub(crate) fn count(&self, body: impl FnOnce() -> Result<()>) -> Result<f64> {
        let start = now();
        body()?;
        let end = now();
        Ok(((end - start) as f64 - self.overhead) * self.factor)
    }
}
