// SPDX-License-Identifier: GPL-2.0

//! `/sys/fs/aufs`: what the unions are made of, as aufs shows it.
//!
//! A mounted union has a directory `si_<hex>` with `br<N>`, `brid<N>` for each
//! branch from the top and `xi_path`. The hexadecimal number is that of `si=` in
//! `/proc/mounts`. A file holds a reference to its branch, no table: a reader
//! never waits for a change of branches.
//!
//! # Locking
//!
//! [`Views`] has a mutex, taken at mount, at a change of branches and at unmount,
//! under `s_umount`. Removing a file waits for its readers, which take the mutex
//! of the file only.

#![forbid(unsafe_code)]

use super::global::Global;
use crate::fs::base::sysfs::{
    Attribute,
    Directory,
    Page, //
};
use crate::logic::escape;
use crate::union::branches::branch::{
    Branch,
    BranchTable, //
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// A file of a union.
enum View {
    /// `br<N>`: path and access of a branch.
    Branch(usize, Arc<Branch>),
    /// `brid<N>`: its identity.
    Id(usize, Arc<Branch>),
    /// `xi_path`: the file of inode numbers. There is none.
    XinoPath,
}

impl View {
    /// The position of its branch.
    fn index(&self) -> Option<usize> {
        match self {
            View::Branch(index, _) | View::Id(index, _) => Some(*index),
            View::XinoPath => None,
        }
    }
}

impl Attribute for View {
    fn show(&self, out: &mut Page<'_>) -> Result {
        match self {
            View::Branch(_, branch) => {
                let path = branch.shown.to_bytes()?;
                let mut result = Ok(());
                let mut write = |text: &[u8]| {
                    if result.is_ok() {
                        result = out.bytes(text);
                    }
                };
                escape::write(&path, &mut write);
                write(b"=");
                branch.access.write_to(&mut write);
                write(b"\n");
                result
            }
            View::Id(_, branch) => {
                out.bytes(CString::try_from_fmt(fmt!("{}\n", branch.id.number()))?.to_bytes())
            }
            View::XinoPath => out.bytes(b"\n"),
        }
    }
}

/// The directory of a union.
#[pin_data]
pub(crate) struct Views {
    /// `None` once the union is unmounted, or if there is no `/sys/fs/aufs`.
    #[pin]
    dir: Mutex<Option<Directory<View>>>,
    /// Whether branches are shown there.
    branches: bool,
}

impl Views {
    /// The directory of the union `si`, without branches yet.
    pub(crate) fn new(global: &Global, si: u64) -> Result<impl PinInit<Self>> {
        let dir = match &global.sysfs {
            Some(root) => {
                let name = CString::try_from_fmt(fmt!("si_{:x}", si))?;
                let mut dir = root.child(&name)?;
                dir.put(c"xi_path", View::XinoPath)?;
                Some(dir)
            }
            None => None,
        };
        let branches = global.parameters.brs && dir.is_some();
        Ok(pin_init!(Self {
            dir <- new_mutex!(dir, "ruaufs_views"),
            branches,
        }))
    }

    /// Whether branches are shown in sysfs, so that `/proc/mounts` need not.
    pub(crate) fn show_branches(&self) -> bool {
        self.branches
    }

    /// Shows the branches of `table`; to be called whenever a new table is in force.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: some branches may be shown as they were before.
    pub(crate) fn update(&self, table: &BranchTable) -> Result {
        if !self.branches {
            return Ok(());
        }
        let mut dir = self.dir.lock();
        let Some(dir) = &mut *dir else {
            return Ok(());
        };
        for (n, branch) in table.order.iter().enumerate() {
            let path = CString::try_from_fmt(fmt!("br{}", n))?;
            dir.put(&path, View::Branch(n, branch.clone()))?;
            let id = CString::try_from_fmt(fmt!("brid{}", n))?;
            dir.put(&id, View::Id(n, branch.clone()))?;
        }
        let stays = |view: &View| view.index().is_none_or(|n| n < table.order.len());
        dir.retain(stays);
        Ok(())
    }

    /// Removes the directory, at unmount.
    pub(crate) fn remove(&self) {
        let dir = self.dir.lock().take();
        drop(dir);
    }
}
