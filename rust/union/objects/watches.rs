// SPDX-License-Identifier: GPL-2.0

//! What watches the instances of a directory (`udba=notify`).

#![forbid(unsafe_code)]

use crate::fs::access::notify::{
    Pulse,
    Watch, //
};
use core::pin::Pin;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        Arc,
        LockClassKey,
        Mutex,
        SetOnce, //
    }, //
};

/// The watches of a directory.
#[pin_data]
pub(crate) struct Watches {
    /// Set when the first is made.
    pub(crate) pulse: SetOnce<Arc<Pulse>>,
    #[pin]
    pub(crate) list: Mutex<KVec<Watch>>,
}

/// A lock class for each depth of stacking: a union on a union takes both locks.
fn list_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

impl Watches {
    /// None.
    pub(crate) fn new(depth: i32) -> impl PinInit<Self> {
        pin_init!(Watches {
            pulse: SetOnce::new(),
            list <- Mutex::new(KVec::new(), c"ruaufs_watches", list_class(depth)),
        })
    }

    /// Ends all.
    pub(crate) fn end(&self) {
        let list = core::mem::replace(&mut *self.list.lock(), KVec::new());
        drop(list);
    }

    /// Ends all, of an inode that nobody has any more. That may be to win memory, for which who
    /// has the lock of another inode's may wait: so this is no lock that is waited for.
    pub(crate) fn end_last(&self) {
        let free = self.list.try_lock();
        let list = free.map(|mut list| core::mem::replace(&mut *list, KVec::new()));
        drop(list);
    }

    /// Makes all names of the directory be looked at again.
    pub(crate) fn disturb(&self) {
        if let Some(pulse) = self.pulse.as_ref() {
            pulse.beat();
        }
    }

    /// The pulse now; 0 if nothing was ever watched.
    pub(crate) fn count(&self) -> u64 {
        self.pulse.as_ref().map_or(0, |pulse| pulse.count())
    }
}
