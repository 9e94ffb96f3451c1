// SPDX-License-Identifier: GPL-2.0

//! File handles: what `name_to_handle_at(2)` and fanotify name objects by.
//!
//! # What a handle says
//!
//! It names the instance that gave the object its inode number: the *origin*. So
//! it stays the same when the object is copied up, moved or forgotten, and so does
//! what a client took it for. [`crate::logic::handle`] has the layout.
//!
//! Nothing but the branch's file system says what a handle there leads to, and that
//! holds more than the branch: what lies beside it, bookkeeping, objects that the
//! union hides. And anybody may change a handle. So an instance that a handle leads
//! to counts only if the union shows the object, which is seen under one of its
//! names. For a directory the file system finds that. The handle of a file with one
//! name has its directory on the branch in it (the *hint*), in which its name is
//! found again. What has several names, or is on a writable branch, where it may be
//! moved to another directory, has a *seal* ([`crate::union::branches::seal`]): the union gave this
//! handle, so it showed the object then. On the topmost branch, which is writable,
//! nothing hides an object but the union itself, which removes it: a sealed handle
//! of such a file needs no name, unless the branch is so small that looking for one
//! costs nothing. It has no hint either, and stays the same when the file is moved.
//!
//! # How it is resolved
//!
//! handle - instance on its branch - [`Moves`](crate::union::state::moves::Moves): is it another
//! one now? - the inode, if it is in memory, or what the union shows under a name of the instance:
//! one in memory, in the directory of the hint, or, if the handle is sealed, anywhere on the
//! branch. No name: `ESTALE`, but see above.
//!
//! # What is remembered
//!
//! From the first use of a handle on, [`Moves`](crate::union::state::moves::Moves) says of each
//! object that is copied up what its origin was and where it is now. It ends with the mount:
//! afterwards a handle of an object that was copied up, by then, leads nowhere (`ESTALE`).
//!
//! # Locking
//!
//! [`Moves`](crate::union::state::moves::Moves) is a leaf lock, which an inode that is freed takes:
//! that may be to win memory for somebody. So nothing is allocated under it, in whatever context a
//! handle is made: what is to be added is made before, and what is asked for is counted, not
//! copied. A handle is resolved without a lock, since names are looked up.

#![forbid(unsafe_code)]

use super::search::{
    self,
    Found,
    Trust, //
};
use crate::compat::errno::ESTALE;
use crate::fs::{
    access::export,
    base::seats::Doing,
    operations::export::Operations, //
};
use crate::logic::{
    handle::{
        self,
        Object,
        Target,
        MAX_WORDS, //
    },
    ino, //
};
use crate::union::{
    branches::{
        branch::{
            Slot,
            Stack, //
        },
        sealing, //
    },
    state::{
        encode,
        sb::SbInfo, //
    },
    types::{
        Dentry,
        Inode,
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
        atomic::Release, //
    }, //
};

/// Keeps the key that handles are sealed with, at the first need.
fn keep_key(sb: &SuperBlock) {
    let is_kept = {
        let reading = sb.read();
        let current = sealing::current(reading.section().table());
        current.is_none_or(|(_, key)| key.is_stored())
    };
    if !is_kept {
        let entered = sb.enter(Doing::Attributes);
        sb.data().cred.scope(|| sealing::keep(&entered));
    }
}

/// The dentry of the object that `object` stands for.
///
/// Branches may come and go between its steps: each looks at what is there then.
fn resolve(sb: &SuperBlock, object: &Object<'_>) -> Result<ARef<Dentry>> {
    let info = sb.data();
    info.moves.used.store(true, Release);
    let found = info.cred.scope(|| Found::new(sb, object))?;
    if found.lower.is(found.branch.root.dentry()) {
        return Ok(sb.root().ok_or(ESTALE)?);
    }
    if let Some(dentry) = found.cached()? {
        return Ok(dentry);
    }
    if found.lower.is_dir() {
        return Ok(found.at(&found.lower)?.ok_or(ESTALE)?);
    }
    let (dentry, elsewhere) = found.under_known_name()?;
    if let Some(dentry) = dentry {
        return Ok(dentry);
    }
    if found.trust == Trust::Forged {
        return Err(ESTALE.into());
    }
    // The only name is known, and does not lead there.
    if elsewhere && found.lower_inode()?.nlink() <= 1 {
        return Err(ESTALE.into());
    }
    found.anywhere()
}

/// Returns the instance in `stack` that gave the object its number. It need not be the top one: a
/// directory may have got another instance on top since.
fn origin_of<'s>(info: &SbInfo, inode: &Inode, stack: &'s Stack) -> &'s Slot {
    let is_origin = |slot: &Slot| {
        let lower = info.ino.lower(slot.branch(), slot.dentry());
        lower.is_ok_and(|lower| info.ino.packed(lower) == Some(inode.ino()))
    };
    stack
        .iter()
        .find(|slot| is_origin(slot))
        .unwrap_or(stack.top())
}

impl Operations for Union {
    fn encode(section: Section<'_>, inode: &Inode, out: &mut KVec<u32>) -> Result {
        if inode.ino() == ino::ROOT {
            return Target::Root.write(out);
        }
        let info = inode.sb().data();
        if info.moves.origin(inode.ino(), out)? {
            return Ok(());
        }
        info.moves.used.store(true, Release);
        let stack = inode.stack(section)?;
        let slot = origin_of(info, inode, stack);
        info.cred.scope(|| {
            encode::write(
                section,
                info,
                slot,
                slot.inode()?,
                &mut [0; 2 * MAX_WORDS],
                out,
            )
        })
    }

    fn decode<'a>(sb: &SuperBlock, words: &'a [u32]) -> Result<(ARef<Dentry>, &'a [u32])> {
        keep_key(sb);
        match handle::parse(words) {
            None => Err(ESTALE.into()),
            Some((Target::Root, rest)) => Ok((sb.root().ok_or(ESTALE)?, rest)),
            Some((Target::Object(object), rest)) => {
                Ok((resolve(sb, &object).map_err(search::stale)?, rest))
            }
        }
    }

    fn skip(words: &[u32]) -> Option<&[u32]> {
        handle::parse(words).map(|(_, rest)| rest)
    }

    fn commit_metadata(inode: &Inode) -> Result {
        let reading = inode.sb().read();
        let section = reading.section();
        let stack = inode.stack(section)?;
        // Before the inode, which it keeps mounted.
        let _branch = stack.top().branch().clone();
        let lower: ARef<LowerInode> = stack.top_inode().into();
        drop(reading);
        export::commit(&lower)
    }
}
