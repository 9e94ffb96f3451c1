// SPDX-License-Identifier: GPL-2.0

//! Listing a directory for a program that merges by itself.
//!
//! [`list`] hands out the entries of all instances of a directory as they are,
//! branch by branch from the top, whiteouts and duplicates included. The program
//! merges them and then asks [`numbers`] for the inode numbers of what is left.
//! Names that would be whiteouts, on a branch whose whiteouts do not count, are
//! left out: the program cannot know.
//!
//! The position is a cookie of the caller: a branch and a position in its
//! directory. Entries are gathered in the kernel first, as the branch's directory
//! is locked meanwhile and user memory may fault. For the same reason instances are
//! looked up inside a section, and listed outside: their open files are enough.

#![forbid(unsafe_code)]

use super::argument::{
    read,
    read_into,
    write, //
};
use crate::fs::{
    access::{
        dirop,
        io::{
            KernelFile,
            Whence, //
        }, //
    },
    base::task,
    objects::file::File, //
};
use crate::logic::uapi::{
    Rdu,
    RduEntry, //
};
use crate::union::{
    branches::{
        branch::BranchTable,
        ino::Lower,
        whiteout, //
    },
    types::Union, //
};
use kernel::prelude::*;

/// How many bytes are gathered before they go to user space.
const CHUNK: usize = 32 << 10;

/// Reads the request. `EINVAL` if the caller has another structure in mind.
fn request(arg: usize) -> Result<Rdu> {
    let rdu = Rdu::decode(&read(arg)?);
    if usize::from(rdu.verify) != Rdu::SIZE {
        return Err(EINVAL);
    }
    Ok(rdu)
}

/// Names the branches and their order, never 0.
fn generation(table: &BranchTable) -> u32 {
    let ids = table
        .order
        .iter()
        .map(|branch| u64::from(branch.id.number()));
    let all = ids.fold(table.order.len() as u64, |sum, id| {
        sum.rotate_left(5) ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    // CAST: The halves are mixed.
    ((all >> 32) as u32 ^ all as u32).max(1)
}

/// How a chunk ended.
enum End {
    /// With the directory of the branch.
    Directory,
    /// With the buffer: there is more, from here on.
    Buffer(i64),
}

/// An instance that is to be listed next.
struct Instance {
    file: KernelFile,
    /// The place of its branch.
    index: i16,
    /// Its whiteouts count.
    marks: bool,
}

impl Instance {
    /// The first one of the directory `file` that is on the branch `from` or below it, if the
    /// branches are those of `generation`; 0 stands for those that there are.
    fn next(file: &File<Union>, generation: &mut u32, from: i16) -> Result<Option<Self>> {
        let inode = file.inode();
        let info = inode.sb().data();
        let reading = inode.sb().read();
        let section = reading.section();
        let table = section.table();
        let now = self::generation(table);
        if *generation == 0 {
            *generation = now;
        }
        if *generation != now {
            return Err(EAGAIN);
        }
        for slot in inode.stack(section)?.iter() {
            let index = table.index_of(slot.branch().id).ok_or(EAGAIN)?;
            let index = i16::try_from(index)?;
            if index >= from {
                return Ok(Some(Instance {
                    file: info.cred.scope(|| KernelFile::dir(slot.path()?, true))?,
                    index,
                    marks: slot.branch().access.honours_whiteouts(),
                }));
            }
        }
        Ok(None)
    }

    /// Gathers entries from `position` on, at most `limit` bytes. The mounter's credentials are in
    /// force.
    fn gather(
        &mut self,
        position: i64,
        records: &mut KVec<u8>,
        stored: &mut u64,
        limit: usize,
    ) -> Result<End> {
        let file = &mut self.file;
        file.seek(0, position, Whence::Start)?;
        let mut full = false;
        let result = file.each_entry(&mut |name, ino, kind| {
            if !self.marks && whiteout::user(name).is_none() {
                return Ok(());
            }
            let entry = RduEntry {
                ino,
                index: self.index,
                kind,
                ..RduEntry::default()
            };
            if entry.append(name, records, limit)? {
                *stored = stored.saturating_add(1);
                Ok(())
            } else {
                full = true;
                Err(ENOSPC)
            }
        });
        if full {
            return Ok(End::Buffer(file.position()));
        }
        result?;
        Ok(End::Directory)
    }
}

/// [`RDU`](crate::logic::uapi::RDU): fills the caller's buffer.
pub(crate) fn list(file: &File<Union>, arg: usize) -> Result<isize> {
    let mut rdu = request(arg)?;
    let info = file.inode().sb().data();
    let begin = usize::try_from(rdu.entries).map_err(|_| EFAULT)?;
    let room = usize::try_from(rdu.amount).map_err(|_| EINVAL)?;
    let mut used: usize = 0;
    rdu.stored = 0;
    rdu.full = 0;
    let mut records: KVec<u8> = KVec::new();

    'slots: while let Some(mut next) = Instance::next(file, &mut rdu.generation, rdu.index)? {
        if next.index != rdu.index {
            rdu.index = next.index;
            rdu.position = 0;
        }
        loop {
            if task::killed() {
                return Err(EINTR);
            }
            let left = room.saturating_sub(used);
            let position = i64::try_from(rdu.position).map_err(|_| EINVAL)?;
            records.clear();
            let end = info
                .cred
                .scope(|| next.gather(position, &mut records, &mut rdu.stored, left.min(CHUNK)))?;
            write(begin.wrapping_add(used), &records)?;
            used = used.saturating_add(records.len());
            match end {
                End::Directory => break,
                End::Buffer(position) => {
                    rdu.position = u64::try_from(position).map_err(|_| EIO)?;
                    // A chunk takes any entry: what did not fit was the caller's buffer.
                    if left <= CHUNK || records.is_empty() {
                        rdu.full = 1;
                        break 'slots;
                    }
                }
            }
        }
        rdu.index = next.index.checked_add(1).ok_or(EOVERFLOW)?;
        rdu.position = 0;
    }

    let (block, shwh) = {
        let reading = file.inode().sb().read();
        let section = reading.section();
        (section.settings().rdblk, section.settings().shwh)
    };
    if rdu.block == 0 {
        rdu.block = block;
    }
    rdu.show_whiteouts = u8::from(shwh);
    rdu.tail = begin.wrapping_add(used) as u64;
    write(arg, &rdu.encode())?;
    Ok(0)
}

/// [`RDU_INO`](crate::logic::uapi::RDU_INO): turns the numbers of branches into the union's.
pub(crate) fn numbers(file: &File<Union>, arg: usize) -> Result<isize> {
    let rdu = request(arg)?;
    let mut at = usize::try_from(rdu.entries).map_err(|_| EFAULT)?;
    for _ in 0..rdu.amount {
        if task::killed() {
            return Err(EINTR);
        }
        let mut entry = RduEntry::decode(&read(at)?);
        entry.ino = number(file, &entry, at)?;
        write(at, &entry.ino.to_ne_bytes())?;
        at = at.wrapping_add(RduEntry::record_len(entry.name_len));
    }
    write(arg, &rdu.encode())?;
    Ok(0)
}

/// The union's number of an entry of the directory `file`, which the caller has at `at`.
fn number(file: &File<Union>, entry: &RduEntry, at: usize) -> Result<u64> {
    let dir = file.inode();
    let info = dir.sb().data();
    let (lower, instance) = {
        let reading = dir.sb().read();
        let section = reading.section();
        let index = usize::try_from(entry.index).map_err(|_| EINVAL)?;
        let branch = section.table().order.get(index).ok_or(EINVAL)?;
        if entry.is_dot() {
            return Ok(dir.ino());
        }
        if entry.is_dot_dot() {
            return Ok(file.dentry().parent().object()?.ino());
        }
        let instance = dir.slot_on(section, branch.id)?;
        let place = instance.map_or(branch.root.dentry(), |slot| slot.dentry());
        let lower = Lower {
            space: info.ino.space(branch, place)?,
            number: entry.ino,
        };
        (lower, instance.cloned())
    };
    if let Some(number) = info.ino.known_number(lower) {
        return Ok(number);
    }
    // It takes memory or a window to give it one, so it must be the number of something. It may
    // have gone since it was listed.
    let mut name = KVec::from_elem(0, usize::from(entry.name_len), GFP_KERNEL)?;
    read_into(at.wrapping_add(RduEntry::NAME), &mut name)?;
    let is_name = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
    let Some(slot) = instance.filter(|_| is_name) else {
        return Ok(0);
    };
    let found = info
        .cred
        .scope(|| dirop::lookup_positive(slot.dentry().dir()?, &name))?;
    match found.as_ref().and_then(|found| found.inode()) {
        Some(found) if found.ino() == entry.ino => info.ino.number(lower),
        _ => Ok(0),
    }
}
