// SPDX-License-Identifier: GPL-2.0

//! What must not compile: ways to undefined behaviour in safe code, each with the error that the
//! compiler gives for it. `scripts/check-types.sh` makes this a module of `union`.
//! `Documentation/ruaufs/invariants.rst` names them.

#![allow(dead_code)]

use super::{
    branch::Branch,
    sb::{
        reshape,
        Shape, //
    },
    Dentry,
    Inode,
    LowerDentry,
    LowerInode,
    Section,
    SuperBlock,
    Union, //
};
use crate::fs::{
    attr::Change,
    dentry::Walk,
    dirop,
    gate::{
        Retired,
        Room, //
    },
    io,
    path::{
        Mount,
        PathRef, //
    },
    section::{
        Alone,
        Closed, //
    },
    stack::{
        Chain,
        RcuStack, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};

/// What a stack shows may be freed when its section is over.
fn stack_past_its_section(inode: &Inode) -> Result<&LowerInode> {
    let reading = inode.sb().read();
    Ok(inode.stack(reading.section())?.top_inode()) //~ E0515
}

/// So may the table of branches.
fn table_past_its_section(sb: &SuperBlock) -> usize {
    let reading = sb.read();
    let table = reading.section().table();
    drop(reading); //~ E0505
    table.order.len()
}

/// Who frees a shape must not have looked at it.
fn shape_past_its_freeing(
    alone: &mut Alone<'_, Union>,
    closed: Closed<'_, Union>,
    room: Room<Arc<Shape>, Chain<Arc<Branch>>>,
    old: Retired<Arc<Shape>>,
) -> usize {
    let table = alone.section().table();
    closed.free(alone, room, old, Chain::none()); //~ E0502
    table.order.len()
}

/// A section is over when its own task says so.
fn section_of_another_task(section: Section<'_>) -> Option<usize> {
    io::on_worker(|| section.table().order.len()) //~ E0277
}

/// Who does not show a section gets no stack.
fn stack_without_a_section(inode: &Inode) -> bool {
    inode.stack().is_ok() //~ E0061
}

/// A read section does not make its owner the one who replaces the shape.
fn shape_replaced_by_a_reader(sb: &SuperBlock, shape: Arc<Shape>) {
    let reading = sb.read();
    drop(reshape(&reading, shape)); //~ E0308
}

/// An inode that a walk under RCU shows may be about to go.
fn reference_from_a_walk(walk: &Walk<'_, Union>) -> Option<ARef<LowerInode>> {
    Some(walk.stack()?.top_inode().into()) //~ E0277
}

/// The name of a dentry that a walk under RCU shows may be about to go.
fn name_from_a_walk(walk: &Walk<'_, Union>) -> Result<KVec<u8>> {
    walk.stack().ok_or(EIO)?.top().name() //~ E0599
}

/// Our own dentry, too, is not referenced by every walk.
fn dentry_from_a_walk(walk: &Walk<'_, Union>) -> ARef<Dentry> {
    walk.dentry().into() //~ E0599
}

/// What a walk has seen may be freed when it is over.
fn stack_past_its_walk<'a>(walk: Walk<'a, Union>) -> Option<RcuStack<'a, Arc<Branch>>> {
    walk.stack() //~ E0515
}

/// The references of a living inode are in use.
fn release_of_a_living_inode(inode: &Inode) {
    inode.data().release(inode); //~ E0308
}

/// The same, past the data beside the inode.
fn release_of_a_living_stack(inode: &Inode) {
    inode.data().stack_cell().release::<Union>(inode); //~ E0308
}

/// A mount shows the objects of its own file system.
fn path_of_another_mount<'a>(mut path: PathRef<'a>, mount: &'a Mount) -> PathRef<'a> {
    path.mount = mount; //~ E0616
    path
}

/// A path and a dentry need not belong together.
fn path_without_a_check<'a>(path: PathRef<'a>, dentry: &'a LowerDentry) -> PathRef<'a> {
    path.at(dentry) //~ E0308
}

/// What is changed is changed through write access to its own mount.
fn change_without_write_access(path: PathRef<'_>) -> Result {
    Change::new().modified().apply(path) //~ E0308
}

/// Where there is no directory nothing can be looked up.
fn lookup_in_a_file(dentry: &LowerDentry) -> Result<Option<ARef<LowerDentry>>> {
    dirop::lookup(dentry, b"name") //~ E0308
}

/// A name that leads to an object cannot be given another one.
fn instantiate_a_positive_dentry(dentry: &Dentry, inode: ARef<Inode>) {
    dentry.instantiate(inode); //~ E0599
}
