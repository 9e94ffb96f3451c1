// SPDX-License-Identifier: GPL-2.0

//! What a remount found out about names. Why it holds is said in [`super`].

#![forbid(unsafe_code)]

use crate::fs::objects::sb::random_id;
use crate::logic::hash::{
    Key,
    Table, //
};
use crate::union::{
    names::lookup::Answer,
    state::sb::SbInfo,
    types::Inode, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};

/// What was found out about a name.
struct Known {
    name: KVec<u8>,
    /// The number of what is known of the directory: its list of instances.
    dir: u32,
    /// The inode that the name led to, by its mark: the number of what was first known of it.
    mark: u32,
    /// The stack of the inode ([`Stack::serial`](crate::fs::objects::stack::Stack::serial)).
    serial: u32,
    hash: u32,
    answer: Arc<Answer>,
}

/// What a remount found out about names. It holds no references to inodes and names of ours, which
/// would look as if somebody used them.
///
/// Users may have many names of one inode, so all are found by a hash that they cannot guess.
pub(crate) struct Memory<'a> {
    info: &'a SbInfo,
    /// The number of the first.
    first: u32,
    known: KVVec<Known>,
    /// Places in `known`, by hash.
    table: Table,
    /// For how many the table has room.
    room: usize,
    key: Key,
}

/// For how many names the table has room at first.
const ROOM: usize = 256;

impl<'a> Memory<'a> {
    pub(crate) fn new(info: &'a SbInfo) -> Result<Self> {
        Ok(Memory {
            info,
            first: info.known.load(Relaxed),
            known: KVVec::new(),
            table: Table::new(ROOM)?,
            room: ROOM,
            key: Key(random_id(), random_id()),
        })
    }

    fn get(&self, number: u32) -> Option<&Known> {
        let at = number.wrapping_sub(self.first);
        self.known.get(usize::try_from(at).ok()?)
    }

    fn hash(&self, mark: u32, serial: u32, dir: u32, name: &[u8]) -> u32 {
        let Key(a, b) = self.key;
        let inode = u64::from(mark) << u32::BITS | u64::from(serial);
        Key(a ^ inode, b ^ u64::from(dir)).hash(name)
    }

    /// What is known of `name` in the list of instances `dir`, if it leads to `inode` and that has
    /// the stack `serial`, as it did then; and its number.
    pub(crate) fn find(
        &self,
        inode: &Inode,
        serial: u32,
        dir: u32,
        name: &[u8],
    ) -> Option<(u32, Arc<Answer>)> {
        let mark = inode.noted();
        // Marks that were given before are of no use to anybody.
        self.get(mark)?;
        let is_it = |at: u32| {
            let known = self.known.get(at as usize);
            known.is_some_and(|known| {
                known.mark == mark
                    && known.dir == dir
                    && known.serial == serial
                    && *known.name == *name
            })
        };
        let hash = self.hash(mark, serial, dir, name);
        let at = self.table.find(hash, is_it).ok()?;
        let known = self.known.get(at as usize)?;
        Some((self.first.wrapping_add(at), known.answer.clone()))
    }

    /// Remembers the answer, which is not known yet, and gives its number.
    pub(crate) fn remember(
        &mut self,
        inode: &Inode,
        serial: u32,
        dir: u32,
        name: KVec<u8>,
        answer: Arc<Answer>,
    ) -> Result<u32> {
        let at = u32::try_from(self.known.len())?;
        let number = self.first.wrapping_add(at);
        let noted = inode.noted();
        let mark = if self.get(noted).is_some() {
            noted
        } else {
            number
        };
        if self.known.len() >= self.room {
            self.grow()?;
        }
        let hash = self.hash(mark, serial, dir, &name);
        let known = Known {
            name,
            dir,
            mark,
            serial,
            hash,
            answer,
        };
        self.known.push(known, GFP_KERNEL)?;
        let (place, _) = self.table.find_place(hash, |_| false);
        self.table.set(place, at);
        self.info.known.store(number.wrapping_add(1), Relaxed);
        inode.note(mark);
        Ok(number)
    }

    /// Makes room for twice as many.
    fn grow(&mut self) -> Result {
        let room = self.room.checked_mul(2).ok_or(ENOMEM)?;
        let mut table = Table::new(room)?;
        for (at, known) in (0..).zip(self.known.iter()) {
            let (place, _) = table.find_place(known.hash, |_| false);
            table.set(place, at);
        }
        self.table = table;
        self.room = room;
        Ok(())
    }
}
