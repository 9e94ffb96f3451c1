// SPDX-License-Identifier: GPL-2.0

//! What create policies remember between two calls: the free space of the
//! branches, measured every so many seconds, and whose turn it is.
//!
//! # Locking
//!
//! A leaf lock for what was measured; branches are asked without it, so two tasks
//! may measure at the same time, and the later one counts.

#![forbid(unsafe_code)]

use super::branch::{
    Branch,
    BranchId,
    BranchTable, //
};
use crate::fs::access::statfs::Statfs;
use crate::logic::create::{
    self,
    Turn, //
};
use crate::warn_limited;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// The free space of the writable branches at one moment.
struct Measured {
    when: Instant<Monotonic>,
    free: KVec<(BranchId, u64)>,
}

/// See the module documentation.
#[pin_data]
pub(crate) struct Space {
    #[pin]
    measured: Mutex<Option<Measured>>,
    /// Files that got their branch by turns.
    turns: Atomic<u64>,
}

impl Space {
    /// Nothing is known yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Space {
            measured <- new_mutex!(None, "ruaufs_space"),
            turns: Atomic::new(0),
        })
    }

    /// Whose turn it is. With a file the turn goes on.
    pub(crate) fn turn(&self, is_dir: bool) -> Turn {
        if is_dir {
            Turn::Dir(self.turns.load(Relaxed))
        } else {
            Turn::File(self.turns.fetch_add(1, Relaxed))
        }
    }

    /// Something was full: what was measured is not believed any longer.
    pub(crate) fn forget(&self) {
        let old = self.measured.lock().take();
        drop(old);
    }

    /// Says in `facts`, which describe the branches of `table`, how much space is free. What was
    /// measured less than `seconds` ago is believed. The mounter's credentials are in force.
    pub(crate) fn tell(
        &self,
        table: &BranchTable,
        facts: &mut [create::Branch],
        seconds: u16,
    ) -> Result {
        if self.recall(table, facts, seconds) {
            return Ok(());
        }
        let mut free = KVec::with_capacity(table.order.len(), GFP_KERNEL)?;
        for (branch, fact) in table.order.iter().zip(facts) {
            if fact.writable {
                fact.free = free_bytes(branch);
                free.push((branch.id, fact.free), GFP_KERNEL)?;
            }
        }
        let when = Instant::now();
        let old = self.measured.lock().replace(Measured { when, free });
        drop(old);
        Ok(())
    }

    /// As [`Space::tell`], from memory; `false` if something is not known, or no longer.
    fn recall(&self, table: &BranchTable, facts: &mut [create::Branch], seconds: u16) -> bool {
        let measured = self.measured.lock();
        let Some(measured) = measured.as_ref() else {
            return false;
        };
        if measured.when.elapsed() >= Delta::from_secs(i64::from(seconds)) {
            return false;
        }
        for (branch, fact) in table.order.iter().zip(facts) {
            if !fact.writable {
                continue;
            }
            match measured.free.iter().find(|(id, _)| *id == branch.id) {
                Some((_, free)) => fact.free = *free,
                None => return false,
            }
        }
        true
    }
}

/// The bytes that are free on `branch` for everybody; none if it cannot tell.
fn free_bytes(branch: &Branch) -> u64 {
    match Statfs::of(branch.root.here()) {
        Ok(stat) => stat.blocks_available.saturating_mul(stat.block_size),
        Err(error) => {
            warn_limited!("cannot measure the free space of a branch: {:?}\n", error);
            0
        }
    }
}
