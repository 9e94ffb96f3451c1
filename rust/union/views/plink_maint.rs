// SPDX-License-Identifier: GPL-2.0

//! `/proc/fs/aufs/plink_maint`: pseudo-links are being turned into hard links.
//!
//! aufs's `auplink` writes `si=<hex>` and thereby becomes the *holder* of a union.
//! It makes each name of a pseudo-linked file a link of the copy, writes `clean`,
//! and removes the pseudo-links from the branch. No new ones may come meanwhile:
//! who would make one gets `EAGAIN`, and so does a remount, but for the holder and
//! its descendants. Nobody waits, as the holder may need what a waiter has locked.
//! Closing the file ends it.
//!
//! # Locking
//!
//! The mutex of an open file comes before the locks of [`maintenance`](super::maintenance).

#![forbid(unsafe_code)]

use super::{
    global::Global,
    maintenance::Maintenance, //
};
use crate::fs::base::{
    procfs::{
        Commands,
        Opener, //
    },
    task, //
};
use crate::logic::num;
use crate::union::objects::kept::Plinks;
use core::{
    ops::Deref,
    pin::Pin, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// The maintenance of a union that `plink_maint` finds as long as this lives.
pub(crate) struct Registered {
    maintenance: Arc<Maintenance>,
    /// Its pseudo-links.
    pub(crate) links: Arc<Plinks>,
    /// What all unions share.
    pub(crate) global: Arc<Global>,
}

impl Registered {
    /// Makes the union `si`, which has no pseudo-links yet, known.
    pub(crate) fn new(global: &Arc<Global>, si: u64) -> Result<Self> {
        let links = Arc::pin_init(Plinks::new(), GFP_KERNEL)?;
        let maintenance = Arc::pin_init(Maintenance::new(si, links.clone()), GFP_KERNEL)?;
        let mut all = global.unions.all.lock();
        all.push(maintenance.clone(), GFP_KERNEL)?;
        drop(all);
        let global = global.clone();
        Ok(Registered {
            maintenance,
            links,
            global,
        })
    }
}

impl Deref for Registered {
    type Target = Maintenance;

    fn deref(&self) -> &Maintenance {
        &self.maintenance
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut all = self.global.unions.all.lock();
        let this = |other: &Arc<Maintenance>| Arc::ptr_eq(other, &self.maintenance);
        let found = all.iter().position(this);
        let old = found.and_then(|at| all.remove(at).ok());
        drop(all);
        drop(old);
    }
}

/// An open `plink_maint`.
pub(crate) struct Open {
    global: Arc<Global>,
    held: Pin<KBox<Mutex<Option<Arc<Maintenance>>>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(held) = self.held.lock().take() {
            held.release();
        }
    }
}

/// The file.
pub(crate) enum PlinkMaint {}

impl Commands for PlinkMaint {
    type Target = Global;
    type Open = Open;

    const ANSWERS: bool = false;

    /// # Errors
    ///
    /// `EACCES` without `CAP_SYS_ADMIN`: whoever opened it may make a program write that has it.
    fn open(target: &Arc<Global>) -> Result<KBox<Open>> {
        if !task::is_admin() {
            return Err(EACCES);
        }
        let held = KBox::pin_init(new_mutex!(None, "ruaufs_plink_maint"), GFP_KERNEL)?;
        let global = target.clone();
        Ok(KBox::new(Open { global, held }, GFP_KERNEL)?)
    }

    /// # Errors
    ///
    /// `EACCES` without `CAP_SYS_ADMIN`; `EINVAL` for anything but `si=<hex>` of a mounted union
    /// and `clean` after it; `EBUSY` if this file, or another one, holds a union already.
    fn command(open: &Open, _opener: Opener<'_>, text: &[u8]) -> Result {
        if !task::is_admin() {
            return Err(EACCES);
        }
        let mut held = open.held.lock();
        if text == b"clean" {
            held.as_ref().ok_or(EINVAL)?.clean();
            return Ok(());
        }
        let si = text.strip_prefix(b"si=").ok_or(EINVAL)?;
        let si = num::parse_hex(si.strip_suffix(b"\n").unwrap_or(si)).ok_or(EINVAL)?;
        if held.is_some() {
            return Err(EBUSY);
        }
        let union = open.global.unions.find(si).ok_or(EINVAL)?;
        union.hold()?;
        *held = Some(union);
        Ok(())
    }
}
