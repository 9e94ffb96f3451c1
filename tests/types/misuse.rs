// SPDX-License-Identifier: GPL-2.0

//! What must not compile: ways to undefined behaviour in safe code, each with the error that the
//! compiler gives for it. `scripts/check-types.sh` makes this a module of `union`.
//! `Documentation/ruaufs/invariants.rst` names them.

#![allow(dead_code)]

use crate::fs::{
    access::{
        attr::Change,
        dirop,
        io::{
            self,
            KernelFile,
            Whence, //
        }, //
    },
    objects::{
        entry::Entry,
        ours::Dying,
        path::{
            Mount,
            PathRef, //
        },
        section::{
            Alone,
            Closed,
            Replaced, //
        },
        stack::RcuStack,
        walk::Walk, //
    },
    operations::inode::{
        MoveNames,
        Tie,
        Tied, //
    }, //
};
use crate::union::{
    branches::branch::{
        Branch,
        Slot,
        Stack, //
    },
    state::sb::{
        reshape,
        Shape, //
    },
    types::{
        Dentry,
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
        Arc, //
    },
    types::NotThreadSafe, //
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
fn shape_past_its_freeing(alone: &mut Alone<'_, Union>, replaced: Replaced<'_, Union>) -> usize {
    let table = alone.section().table();
    replaced.free(alone); //~ E0502
    table.order.len()
}

/// What is retired without a change is not seen by who waits for those outside.
fn stack_retired_without_a_change(closed: &mut Closed<'_, Union>, inode: &Inode) {
    closed.prune(inode, &mut |_| true); //~ E0599
}

/// A change is one: it has one old shape.
fn shape_replaced_twice(closed: Closed<'_, Union>, one: Arc<Shape>, two: Arc<Shape>) {
    drop(reshape(closed, one));
    drop(reshape(closed, two)); //~ E0382
}

/// Who decides about a stack cannot take it out meanwhile.
fn stack_retired_inside(mut replaced: Replaced<'_, Union>, inode: &Inode) {
    let mut unwanted = |_: &Stack| {
        replaced.prune(inode, &mut |_| true);
        true
    };
    replaced.prune(inode, &mut unwanted); //~ E0499
}

/// What a change retired is freed by it, after its own grace period.
fn retired_by_hand(replaced: Replaced<'_, Union>) {
    drop(replaced.retired); //~ E0616
}

/// Nor does another change free it.
fn retired_by_another(one: &mut Replaced<'_, Union>, two: &mut Replaced<'_, Union>) {
    core::mem::swap(&mut one.retired, &mut two.retired); //~ E0616
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
    drop(reshape(reading, shape)); //~ E0308
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
fn stack_past_its_walk<'a>(walk: Walk<'a, Union>) -> Option<RcuStack<'a, Branch>> {
    walk.stack() //~ E0515
}

/// The references of a living inode are in use.
fn release_of_a_living_inode(inode: &Inode) {
    inode.cell().release(); //~ E0624
}

/// Nobody says that an inode is dying but who is told so.
fn death_of_a_living_inode(inode: &Inode) -> Dying<'_, Union> {
    Dying(inode, NotThreadSafe) //~ E0423
}

/// The place of a slot is compared by address, whatever it is.
fn place_that_is_no_address(slot: &Slot, place: Branch) -> Slot {
    Slot::new(place, slot.dentry().clone()) //~ E0308
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

/// The name of an entry is that of its dentry.
fn entry_of_another_name<'a>(mut entry: Entry<'a, Union>, name: &'a [u8]) -> Entry<'a, Union> {
    entry.name = name; //~ E0616
    entry
}

/// A name in look-up is tied once.
fn tie_to_two_inodes(tie: Tie<'_, Union>, one: ARef<Inode>, two: ARef<Inode>) -> Tied {
    tie.to(Some(one));
    tie.to(Some(two)) //~ E0382
}

/// Who did not tie a name does not say so.
fn look_up_without_a_tie() -> Result<Tied> {
    Ok(Tied(())) //~ E0423
}

/// The names of a rename are moved once.
fn names_moved_twice(names: MoveNames<'_, Union>) {
    names.commit();
    names.commit(); //~ E0382
}

/// A listing moves the position of the file, as others do at the same time.
fn listing_of_a_shared_file(file: &KernelFile) -> Result {
    file.each_entry(&mut |_, _, _| Ok(())) //~ E0596
}

/// So does a search for data.
fn search_in_a_shared_file(file: Arc<KernelFile>) -> Result<i64> {
    file.seek(0, 0, Whence::End) //~ E0596
}
