// SPDX-License-Identifier: GPL-2.0

//! debugfs: `aufs/si_<hex>/plink`, as aufs has it.
//!
//! Three lines: the number of hash buckets, how many pseudo-links are in each, and
//! how many there are. There is one bucket, as they are not kept in a hash table.
//! The other files of aufs show tables of inode numbers, of which there are none.
//!
//! # Locking
//!
//! [`Pseudolinks::branches`] is taken by readers, at mount and at a change of
//! branches; under it only the leaf locks of [`super::plink`].

#![forbid(unsafe_code)]

use super::{
    branch::BranchTable,
    global::Global,
    plink::{
        self,
        Plinks, //
    }, //
};
use core::pin::Pin;
use kernel::{
    debugfs::{
        Dir,
        File,
        Writer, //
    },
    fmt,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// The pseudo-links of a union.
#[pin_data]
pub(crate) struct Pseudolinks {
    /// Those in memory.
    links: Arc<Plinks>,
    /// Those on the branches.
    #[pin]
    branches: Mutex<KVec<Arc<plink::Index>>>,
}

impl Writer for Pseudolinks {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let branches = self.branches.lock();
        let count = branches.iter().fold(self.links.count(), |sum, index| {
            sum.saturating_add(index.count())
        });
        out.write_fmt(fmt!("1\n{}\n{}\n", count, count))
    }
}

/// The files of a union; dropping it removes them.
pub(crate) struct Files {
    plink: Pin<KBox<File<Pseudolinks>>>,
    // After its file.
    _dir: Dir,
}

impl Files {
    /// Of the union `si`.
    pub(crate) fn new(global: &Global, si: u64, links: Arc<Plinks>) -> Result<Self> {
        let dir = global
            .debugfs
            .subdir(&CString::try_from_fmt(fmt!("si_{:x}", si))?);
        let data = pin_init!(Pseudolinks {
            links,
            branches <- new_mutex!(KVec::new(), "ruaufs_debugfs"),
        });
        let plink = KBox::pin_init(dir.read_only_file(c"plink", data), GFP_KERNEL)?;
        Ok(Files { plink, _dir: dir })
    }

    /// Shows the branches of `table`; to be called whenever a new table is in force.
    pub(crate) fn update(&self, table: &BranchTable) -> Result {
        let mut branches = KVec::with_capacity(table.order.len(), GFP_KERNEL)?;
        for branch in table.order.iter() {
            branches.push(branch.plinks.clone(), GFP_KERNEL)?;
        }
        let old = core::mem::replace(&mut *self.plink.branches.lock(), branches);
        drop(old);
        Ok(())
    }
}
