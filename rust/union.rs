// SPDX-License-Identifier: GPL-2.0

//! Layer `union`: the union file system itself.
//!
//! # Terms
//!
//! - *branch*: a directory that is stacked into the union ([`branch`]).
//! - *slot*: one branch's instance of an object; an inode's slots, topmost first,
//!   are its stack ([`crate::fs::objects::stack`]). A non-directory has one slot.
//! - *whiteout*: a file `.wh.NAME`, hides NAME on the branches below
//!   ([`whiteout`](crate::union::branches::whiteout)).
//! - *opaque*: a directory that hides what its namesakes below hold.
//! - *copy-up*, *promotion*: giving an object an instance on a writable branch
//!   ([`copyup`]).
//! - *guard*: a negative dentry of a writable branch, which tells that nobody put
//!   the name there behind our back ([`revalidate`](crate::union::names::revalidate)).
//!
//! # Locking
//!
//! Outermost first: `i_rwsem` of our inodes (the VFS) - the gate of the super block
//! ([`crate::fs::base::gate`]) -
//! [`object::InodeInfo::lock`](crate::union::objects::object::InodeInfo::lock), one at a time -
//! [`sb::SbInfo::replace`](crate::union::state::sb::SbInfo::replace) - write access to a branch's
//! mount - `i_rwsem` of branch directories ([`crate::fs::access::dirop`]) - leaf locks
//! ([`ino`](crate::union::branches::ino),
//! [`object::InodeInfo::dir`](crate::union::objects::object::InodeInfo::dir), [`plink`]), under
//! which nothing is called. `Documentation/ruaufs/locking.rst` has the whole table.

#![forbid(unsafe_code)]

pub(crate) mod branches;
pub(crate) mod change;
pub(crate) mod copyup;
pub(crate) mod files;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod plink;
pub(crate) mod state;
pub(crate) mod user;
pub(crate) mod views;

use self::{
    branches::branch,
    change::{
        create,
        remove,
        rename, //
    },
    files::{
        attr,
        xattr, //
    },
    names::{
        lookup,
        readdir, //
    },
    objects::object,
    state::sb,
    views::global, //
};
use crate::fs::{
    self,
    access::{
        acl,
        attr as fs_attr,
        xattr::Setting, //
    },
    callbacks::{
        file_ops::File,
        inode_ops::{
            Entry,
            Make,
            MoveNames,
            Tie,
            Tied, //
        }, //
    },
    objects::path::{
        IdMap,
        PathRef,
        Writable, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// The file system.
pub(crate) struct Union;

/// An inode of the union.
pub(crate) type Inode = fs::objects::inode::Inode<Union>;
/// A dentry of the union.
pub(crate) type Dentry = fs::objects::dentry::Dentry<Union>;
/// A super block of the union.
pub(crate) type SuperBlock = fs::objects::sb::SuperBlock<Union>;
/// A section of a super block of the union: what a callback works in.
pub(crate) type Section<'r> = fs::objects::section::Section<'r, Union>;
/// A dentry of a branch.
pub(crate) type LowerDentry = fs::objects::dentry::Dentry;
/// An inode of a branch.
pub(crate) type LowerInode = fs::objects::inode::Inode;

/// aufs's magic number, ASCII "aufs".
pub(crate) const MAGIC: usize = 0x6175_6673;

impl fs::FileSystem for Union {
    type Global = global::Global;
    type Data = sb::SbInfo;
    type Shape = sb::Shape;
    type Inode = object::InodeInfo;
    type Place = branch::Branch;
    type Dir = readdir::OpenDir;

    const MAGIC: usize = MAGIC;
}

impl fs::Mountable for Union {}

impl fs::callbacks::inode_ops::Operations for Union {
    fn lookup(
        section: Section<'_>,
        dir: &Inode,
        entry: Entry<'_, Union>,
        tie: Tie<'_, Union>,
    ) -> Result<Tied> {
        lookup::lookup(section, dir, entry, tie)
    }

    fn make(
        section: Section<'_>,
        dir: &Inode,
        entry: Entry<'_, Union>,
        make: Make<'_>,
        mode: u16,
        idmap: IdMap<'_>,
    ) -> Result<ARef<Inode>> {
        create::make(section, dir, entry, make, mode, idmap)
    }

    fn tmpfile(
        section: Section<'_>,
        dir: &Inode,
        entry: Entry<'_, Union>,
        file: &File<Union>,
        mode: u16,
        idmap: IdMap<'_>,
    ) -> Result<(ARef<Inode>, fs::access::backing::OpenFile)> {
        create::tmpfile(section, dir, entry, file, mode, idmap)
    }

    fn link(section: Section<'_>, old: &Dentry, dir: &Inode, entry: Entry<'_, Union>) -> Result {
        create::link(section, old, dir, entry)
    }

    fn unlink(section: Section<'_>, dir: &Inode, entry: Entry<'_, Union>) -> Result {
        remove::unlink(section, dir, entry)
    }

    fn rmdir(section: Section<'_>, dir: &Inode, entry: Entry<'_, Union>) -> Result {
        remove::rmdir(section, dir, entry)
    }

    fn rename(
        section: Section<'_>,
        from: (&Inode, Entry<'_, Union>),
        to: (&Inode, Entry<'_, Union>),
        flags: u32,
        names: MoveNames<'_, Union>,
        idmap: IdMap<'_>,
    ) -> Result {
        rename::rename(section, from, to, flags, names, idmap)
    }

    #[inline]
    fn plain_source<'a>(section: Section<'a>, inode: &'a Inode) -> Result<Option<PathRef<'a>>> {
        attr::plain_source(section, inode)
    }

    fn getattr(
        section: Section<'_>,
        inode: &Inode,
        stat: fs_attr::Stat<'_>,
        idmap: IdMap<'_>,
    ) -> Result {
        attr::getattr(section, inode, stat, idmap)
    }

    fn setattr(
        section: Section<'_>,
        dentry: &Dentry,
        request: fs_attr::Request<'_>,
        idmap: IdMap<'_>,
    ) -> Result {
        attr::setattr(section, dentry, request, idmap)
    }

    fn get_xattr(
        section: Section<'_>,
        dentry: &Dentry,
        name: &CStr,
        value: &mut [u8],
    ) -> Result<usize> {
        xattr::get(section, dentry, name, value)
    }

    fn set_xattr(
        section: Section<'_>,
        dentry: &Dentry,
        name: &CStr,
        setting: Setting<'_>,
    ) -> Result {
        xattr::set(section, dentry, name, setting)
    }

    fn list_xattrs(section: Section<'_>, dentry: &Dentry, names: &mut [u8]) -> Result<usize> {
        xattr::list(section, dentry, names)
    }

    fn get_acl(section: Section<'_>, inode: &Inode, which: acl::Which) -> Result<Option<acl::Acl>> {
        xattr::get_acl(section, inode, which)
    }

    fn set_acl(
        section: Section<'_>,
        dentry: &Dentry,
        request: acl::Request,
        idmap: IdMap<'_>,
    ) -> Result {
        xattr::set_acl(section, dentry, request, idmap)
    }

    fn show_flags(
        section: Section<'_>,
        dentry: &Dentry,
        f: &mut dyn FnMut(PathRef<'_>) -> Result,
    ) -> Result {
        attr::show_flags(section, dentry, f)
    }

    fn change_flags(
        section: Section<'_>,
        dentry: &Dentry,
        has: &mut dyn FnMut(PathRef<'_>) -> bool,
        f: &mut dyn FnMut(Writable<'_>) -> Result,
    ) -> Result {
        attr::change_flags(section, dentry, has, f)
    }
}
