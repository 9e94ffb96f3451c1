// SPDX-License-Identifier: GPL-2.0

//! debugfs: `aufs/si_<hex>/stats`, what the union counts ([`crate::union::branches::stats`]), and
//! `plink`, as aufs has it.
//!
//! `plink` has three lines: the number of hash buckets, how many pseudo-links are in each, and
//! how many there are. There is one bucket, as they are not kept in a hash table.
//! The other files of aufs show tables of inode numbers, of which there are none.
//!
//! # Locking
//!
//! [`Pseudolinks::branches`] is taken by readers, at mount and at a change of
//! branches; under it only the leaf locks of [`crate::union::plink`].

#![forbid(unsafe_code)]

use super::global::Global;
use crate::fs::base::debugfs::{
    Dir,
    File, //
};
use crate::logic::stats::Counter;
use crate::union::{
    branches::{
        branch::BranchTable,
        notes,
        stats::Stats, //
    },
    objects::kept::Plinks, //
};
use kernel::{
    debugfs::Writer,
    fmt,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// What the files of a union show.
#[pin_data]
struct Content {
    /// The pseudo-links in memory.
    links: Arc<Plinks>,
    /// Those on the branches.
    #[pin]
    branches: Mutex<KVec<Arc<notes::Index>>>,
    stats: Stats,
}

/// A file of them.
struct Shown(Arc<Content>, Which);

enum Which {
    Plink,
    Stats,
}

impl Writer for Shown {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Which::Plink => self.0.write_plink(out),
            Which::Stats => self.0.write_stats(out),
        }
    }
}

impl Content {
    fn write_plink(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let branches = self.branches.lock();
        let count = branches.iter().fold(self.links.count(), |sum, index| {
            sum.saturating_add(index.count())
        });
        out.write_fmt(fmt!("1\n{}\n{}\n", count, count))
    }

    /// A line for each counter: its name and its value.
    fn write_stats(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for counter in Counter::all() {
            out.write_fmt(fmt!("{} {}\n", counter.name(), self.stats.get(*counter)))?;
        }
        Ok(())
    }
}

/// The files of a union; dropping it removes them.
pub(crate) struct Files {
    _plink: File<Shown>,
    _stats: File<Shown>,
    content: Arc<Content>,
}

impl Files {
    /// Of the union `si`.
    pub(crate) fn new(global: &Global, si: u64, links: Arc<Plinks>) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("si_{:x}", si))?;
        let dir = Dir::new(Some(&global.debugfs), &name)?;
        let stats = Stats::new()?;
        let content = pin_init!(Content {
            links,
            branches <- new_mutex!(KVec::new(), "ruaufs_debugfs"),
            stats,
        });
        let content = Arc::pin_init(content, GFP_KERNEL)?;
        let file = |name, which| -> Result<File<Shown>> {
            let shown = Arc::new(Shown(content.clone(), which), GFP_KERNEL)?;
            Ok(File::new(&dir, name, shown))
        };
        Ok(Files {
            _plink: file(c"plink", Which::Plink)?,
            _stats: file(c"stats", Which::Stats)?,
            content: content.clone(),
        })
    }

    /// What the union counts.
    #[inline]
    pub(crate) fn stats(&self) -> &Stats {
        &self.content.stats
    }

    /// Shows the branches of `table`; to be called whenever a new table is in force.
    pub(crate) fn update(&self, table: &BranchTable) -> Result {
        // Before anything can fail: each keeps a dentry of its branch, which must not outlive the
        // branch's mount.
        let stays = |index: &Arc<notes::Index>| {
            let mut order = table.order.iter();
            order.any(|branch| Arc::ptr_eq(&branch.plinks, index))
        };
        self.content.branches.lock().retain(|index| stays(index));
        let mut branches = KVec::with_capacity(table.order.len(), GFP_KERNEL)?;
        for branch in table.order.iter() {
            branches.push(branch.plinks.clone(), GFP_KERNEL)?;
        }
        let old = core::mem::replace(&mut *self.content.branches.lock(), branches);
        drop(old);
        Ok(())
    }
}
