// SPDX-License-Identifier: GPL-2.0

//! What the VFS asks of the union's inodes: each callback is handed to who does it.
//!
//! Knows all folders; the callbacks of the other objects are where their work is.

#![forbid(unsafe_code)]

use crate::fs::{
    self,
    access::{
        acl,
        attr as fs_attr,
        xattr::Setting, //
    },
    objects::{
        entry::Entry,
        file::File,
        path::{
            IdMap,
            PathRef,
            Writable, //
        }, //
    },
    operations::{
        inode::{
            Make,
            MoveNames,
            Tie,
            Tied, //
        },
        mountable, //
    },
    types, //
};
use crate::union::{
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
    types::{
        Dentry,
        Inode,
        Section,
        Union,
        MAGIC, //
    },
    views::global, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

impl types::FileSystem for Union {
    type Global = global::Global;
    type Data = sb::SbInfo;
    type Shape = sb::Shape;
    type Inode = object::InodeInfo;
    type Place = branch::Branch;
    type Dir = readdir::OpenDir;

    const MAGIC: usize = MAGIC;
}

impl mountable::Mountable for Union {}

impl fs::operations::inode::Operations for Union {
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
        idmap: IdMap<'_>,
    ) -> Result {
        xattr::set(section, dentry, name, setting, idmap)
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
