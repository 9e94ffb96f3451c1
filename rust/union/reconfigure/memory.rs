// SPDX-License-Identifier: GPL-2.0

//! What a remount found out about names. Why it holds is said in [`super`].

#![forbid(unsafe_code)]

use super::super::{
    lookup::Answer,
    sb::SbInfo,
    Inode, //
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
    /// The stack of the inode that the name led to ([`Stack::serial`]).
    serial: u32,
    /// What was known of the inode before.
    older: u32,
    answer: Arc<Answer>,
}

/// What a remount found out about names. It holds no references to inodes and names of ours, which
/// would look as if somebody used them.
pub(super) struct Memory<'a> {
    info: &'a SbInfo,
    /// The number of the first.
    first: u32,
    known: KVVec<Known>,
}

impl<'a> Memory<'a> {
    pub(super) fn new(info: &'a SbInfo) -> Self {
        Memory {
            info,
            first: info.known.load(Relaxed),
            known: KVVec::new(),
        }
    }

    fn get(&self, number: u32) -> Option<&Known> {
        let at = number.wrapping_sub(self.first);
        self.known.get(usize::try_from(at).ok()?)
    }

    /// What is known of `name` in the list of instances `dir`, if it leads to `inode` and that has
    /// the stack `serial`, as it did then; and its number.
    pub(super) fn find(
        &self,
        inode: &Inode,
        serial: u32,
        dir: u32,
        name: &[u8],
    ) -> Option<(u32, Arc<Answer>)> {
        let mut number = inode.noted();
        loop {
            let known = self.get(number)?;
            if known.dir == dir && known.serial == serial && *known.name == *name {
                return Some((number, known.answer.clone()));
            }
            number = known.older;
        }
    }

    /// Remembers the answer, and gives its number.
    pub(super) fn remember(
        &mut self,
        inode: &Inode,
        serial: u32,
        dir: u32,
        name: KVec<u8>,
        answer: Arc<Answer>,
    ) -> Result<u32> {
        let known = Known {
            name,
            dir,
            serial,
            older: inode.noted(),
            answer,
        };
        self.known.push(known, GFP_KERNEL)?;
        // Numbers that were given before are of no use to anybody.
        let number = self.info.known.fetch_add(1, Relaxed);
        inode.note(number);
        Ok(number)
    }
}
