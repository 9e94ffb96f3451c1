// SPDX-License-Identifier: GPL-2.0

//! What the VFS asks of the union's super block: root, statfs, sync, unmount.

#![forbid(unsafe_code)]

use super::options::{
    First,
    Options, //
};
use crate::fs::{
    access::{
        io,
        statfs::Statfs, //
    },
    base::seq::Seq,
    objects::{
        ours::Dying,
        section::Alone, //
    },
    operations::{
        context::Context,
        sb::Operations, //
    }, //
};
use crate::union::{
    branches::{
        branch::Branch,
        whiteout, //
    },
    names::find,
    types::{
        Inode,
        Section,
        SuperBlock,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

impl Operations for Union {
    fn root(
        context: &Context<'_>,
        options: &mut Options,
        alone: &Alone<'_, Union>,
    ) -> Result<ARef<Inode>> {
        let section = alone.section();
        // Undone, unless all goes well.
        let First { slots, made } = options.begin(context, section)?;
        let root = find::get_root(section, slots)?;
        made.keep(section.table());
        Ok(root)
    }

    fn statfs(section: Section<'_>) -> Result<Statfs> {
        let order = &section.table().order;
        let top = order.first().ok_or(EIO)?;
        let mut total = Statfs::of(top.root.here())?;
        if section.settings().sum {
            for (i, branch) in order.iter().enumerate() {
                // Each file system counts once.
                if !order
                    .iter()
                    .take(i.max(1))
                    .any(|other| other.fs == branch.fs)
                {
                    total.add(&Statfs::of(branch.root.here())?);
                }
            }
        }
        total.magic = crate::union::types::MAGIC;
        total.name_max = whiteout::NAME_MAX as u64;
        total.id = section.sb().device();
        Ok(total)
    }

    fn sync(sb: &SuperBlock) -> Result {
        let mut written: KVec<Arc<Branch>> = KVec::new();
        {
            let reading = sb.read();
            for branch in reading.section().table().order.iter() {
                // Each file system once.
                let known = written.iter().any(|other| other.fs == branch.fs);
                if branch.was_written && !known {
                    written.push(branch.clone(), GFP_KERNEL)?;
                }
            }
        }
        let mut result = Ok(());
        for branch in written {
            // One that fails does not keep the others from being written.
            if let Err(error) = io::sync_fs(branch.root.here()) {
                result = Err(error);
            }
        }
        // Those of earlier on, too, and those of a branch that was writable once.
        let reading = sb.read();
        for branch in reading.section().table().order.iter() {
            branch.tell_errors(sb);
        }
        result
    }

    fn unmount(alone: &Alone<'_, Union>) {
        let section = alone.section();
        let info = section.data();
        info.views.remove();
        if let Some(fhsm) = info.fhsm.get() {
            fhsm.end();
        }
        info.worker.wait();
        for branch in section.table().order.iter() {
            info.leave(branch, false, None);
        }
        info.maintenance.end();
    }

    fn dies(dying: &Dying<'_, Union>) {
        if dying.nlink() == 0 {
            dying.state().moves.forget(dying.ino());
        }
        dying.data().release();
    }

    fn show_options(section: Section<'_>, out: &Seq<'_>) -> Result {
        super::show::options(section, out)
    }
}
