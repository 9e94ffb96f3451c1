// SPDX-License-Identifier: GPL-2.0

//! What must compile: the right use of what `misuse.rs` uses wrongly, so that the errors there are
//! not those of a test that is out of date.

#![allow(dead_code)]

use crate::fs::{
    access::{
        attr::Change,
        dirop,
        io::KernelFile, //
    },
    objects::{
        path::{
            Path,
            WriteAccess, //
        },
        section::{
            Alone,
            Closed, //
        },
        walk::Walk, //
    },
    operations::inode::{
        MoveNames,
        Tie,
        Tied, //
    }, //
};
use crate::union::{
    state::sb::{
        reshape,
        Shape, //
    },
    types::{
        Inode,
        LowerDentry,
        LowerInode,
        Section,
        SuperBlock,
        Union, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

fn stack_in_its_section(inode: &Inode) -> Result<ARef<LowerInode>> {
    let reading = inode.sb().read();
    Ok(inode.stack(reading.section())?.top_inode().into())
}

fn table_in_its_section(sb: &SuperBlock) -> usize {
    let reading = sb.read();
    let count = reading.section().table().order.len();
    drop(reading);
    count
}

fn stack_as_long_as_its_section<'a>(
    section: Section<'a>,
    inode: &'a Inode,
) -> Result<&'a LowerInode> {
    Ok(inode.stack(section)?.top_inode())
}

fn shape_before_and_after(
    alone: &mut Alone<'_, Union>,
    closed: Closed<'_, Union>,
    shape: Arc<Shape>,
    inode: &Inode,
) -> usize {
    let before = alone.section().table().order.len();
    let mut replaced = reshape(closed, shape);
    replaced.prune(inode, &mut |stack| stack.len() == before);
    replaced.free(alone);
    alone.section().table().order.len().max(before)
}

fn comparison_in_a_walk(walk: &Walk<'_, Union>) -> bool {
    walk.stack()
        .is_some_and(|stack| stack.top().is_unhashed() && stack.top_inode().is_dir())
}

fn reference_where_there_is_one(walk: &Walk<'_, Union>) -> Option<ARef<Inode>> {
    Some(walk.held()?.dir.into())
}

fn change_with_write_access(path: &Path, dentry: &LowerDentry, write: &WriteAccess<'_>) -> Result {
    Change::new().modified().apply(write.to(path.at(dentry)?)?)
}

fn lookup_in_a_directory(dentry: &LowerDentry) -> Result<Option<ARef<LowerDentry>>> {
    dirop::lookup(dentry.dir()?, b"name")
}

fn tie_to_one_inode(tie: Tie<'_, Union>, inode: ARef<Inode>) -> Tied {
    tie.to(Some(inode))
}

fn names_moved_once(names: MoveNames<'_, Union>) {
    names.commit();
}

fn listing_of_a_shared_file(file: &Mutex<KernelFile>) -> Result {
    file.lock().each_entry(&mut |_, _, _| Ok(()))
}
