// SPDX-License-Identifier: GPL-2.0

//! Whether, and by whom, the pseudo-links of a union are being maintained.
//!
//! # Locking
//!
//! [`Maintenance`] has two locks. That of the holder is a leaf. That of the links is held while
//! pseudo-links are dropped: at unmount and by `clean`, one after the other, so that no inode is
//! left to drop when the super block goes.

#![forbid(unsafe_code)]

use crate::fs::base::{
    once::load_acquire,
    task::Process, //
};
use crate::union::objects::kept::Plinks;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Release, //
        },
        Arc,
        Mutex, //
    }, //
};

/// Whether, and by whom, the pseudo-links of a union are being maintained.
#[pin_data]
pub(crate) struct Maintenance {
    /// The union.
    si: u64,
    /// There is a holder: most copies ask no further.
    held: Atomic<bool>,
    /// The process that maintains it.
    #[pin]
    holder: Mutex<Option<Process>>,
    /// Its pseudo-links; `None` once it is unmounted.
    #[pin]
    links: Mutex<Option<Arc<Plinks>>>,
}

impl Maintenance {
    /// Nobody maintains the union `si`.
    pub(crate) fn new(si: u64, links: Arc<Plinks>) -> impl PinInit<Self> {
        pin_init!(Maintenance {
            si,
            held: Atomic::new(false),
            holder <- new_mutex!(None, "ruaufs_plink_holder"),
            links <- new_mutex!(Some(links), "ruaufs_plink_links"),
        })
    }

    /// The union.
    pub(crate) fn si(&self) -> u64 {
        self.si
    }

    /// Whether somebody else maintains it.
    fn is_foreign(&self) -> bool {
        load_acquire(&self.held)
            && self
                .holder
                .lock()
                .as_ref()
                .is_some_and(|holder| !holder.is_above_current())
    }

    /// `EAGAIN` if somebody else maintains it.
    pub(crate) fn check(&self) -> Result {
        if self.is_foreign() {
            Err(EAGAIN)
        } else {
            Ok(())
        }
    }

    /// The current process becomes the holder. `EBUSY` if there is one.
    pub(super) fn hold(&self) -> Result {
        let mut holder = self.holder.lock();
        if holder.is_some() {
            return Err(EBUSY);
        }
        *holder = Some(Process::current());
        self.held.store(true, Release);
        Ok(())
    }

    /// There is no holder any more.
    pub(super) fn release(&self) {
        self.held.store(false, Release);
        let old = self.holder.lock().take();
        drop(old);
    }

    /// Forgets the pseudo-links: all names are links now.
    pub(super) fn clean(&self) {
        if let Some(links) = &*self.links.lock() {
            links.clean();
        }
    }

    /// The union is being unmounted: drops all pseudo-links.
    pub(crate) fn end(&self) {
        let mut links = self.links.lock();
        if let Some(links) = links.take() {
            links.release();
        }
    }
}

/// The mounted unions.
#[pin_data]
pub(crate) struct Unions {
    #[pin]
    pub(super) all: Mutex<KVVec<Arc<Maintenance>>>,
}

impl Unions {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Unions {
            all <- new_mutex!(KVVec::new(), "ruaufs_unions"),
        })
    }

    /// The union `si`.
    pub(super) fn find(&self, si: u64) -> Option<Arc<Maintenance>> {
        let all = self.all.lock();
        all.iter().find(|union| union.si == si).cloned()
    }
}
