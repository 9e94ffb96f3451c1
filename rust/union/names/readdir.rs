// SPDX-License-Identifier: GPL-2.0

//! Listing directories.
//!
//! A directory with one instance is passed through: positions are the branch's
//! own, reserved names are left out. One with several is merged in memory
//! ([`crate::logic::merge`]) and kept while the change stamps of all instances
//! hold, for some seconds (`rdcache=`); all openers share it. An open directory keeps the listing
//! with which it began until it is rewound.
//!
//! # Locking
//!
//! Listings are built without a lock and published under
//! [`crate::union::objects::object::InodeInfo::dir`]; who loses a race drops its own. What entries
//! are read from is found inside a section of the gate and used outside: a listing in memory, or
//! the open file of the only instance, which a remount does not take away ([`Listed`]).

#![forbid(unsafe_code)]

use crate::compat::errno::{
    ENOKEY,
    ENOTEMPTY, //
};
use crate::fs::{
    access::{
        dir::{
            pass_through,
            Emitter, //
        },
        io::{
            KernelFile,
            Whence, //
        }, //
    },
    objects::{
        file::File,
        inode::Address,
        time::Stamp, //
    },
    operations::dir::Operations, //
};
use crate::logic::{
    branch_spec::Perm,
    merge::{
        self,
        Layer,
        Listing as Names, //
    },
    stats::Counter, //
};
use crate::union::{
    branches::{
        branch::{
            Slot,
            Stack, //
        },
        ino::Lower,
        stack::link_count,
        whiteout, //
    },
    objects::{
        cache::Listing,
        shown::Print, //
    },
    state::sb::SbInfo,
    types::{
        Inode,
        Section,
        SuperBlock,
        Union, //
    }, //
};
use core::pin::Pin;
use kernel::{
    new_mutex,
    prelude::*,
    static_lock_class,
    sync::{
        aref::ARef,
        Arc,
        LockClassKey,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// What an open directory reads from.
#[derive(Clone)]
pub(crate) enum Source {
    /// Nothing yet.
    None,
    /// The only instance.
    One(Arc<One>),
    /// All instances, merged.
    Merged(Arc<Listing>),
}

/// The only instance of a directory.
#[pin_data]
pub(crate) struct One {
    /// Who lists, or seeks, has it for itself.
    #[pin]
    file: Mutex<KernelFile>,
    /// Where the inode of the file lies.
    address: Address,
    _listed: Listed,
    /// The number space of its entries.
    space: u16,
    /// Its whiteouts are shown (`shwh`).
    shwh: bool,
}

/// Counts an open directory that reads from the only instance: a remount must not take that away.
struct Listed(ARef<Inode>);

impl Listed {
    fn new(inode: &Inode) -> Self {
        inode.listing_begins();
        Listed(inode.into())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.listing_ends();
    }
}

/// An open directory.
#[pin_data]
pub(crate) struct OpenDir {
    #[pin]
    source: Mutex<Source>,
}

/// `DT_DIR`.
const DT_DIR: u8 = 4;
/// `DT_UNKNOWN`.
const DT_UNKNOWN: u8 = 0;
/// Positions of `.` and `..`; entries of a merged listing follow.
const DOTS: i64 = 2;

/// A lock class for each depth of stacking: who lists a union on a union has both files.
fn file_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

/// Opens the instance `slot` for listing.
fn open_slot(slot: &Slot) -> Result<KernelFile> {
    let keep_atime = slot.branch().access.perm != Perm::Rw;
    KernelFile::dir(slot.path()?, keep_atime)
}

/// Reads the names in all instances. The mounter's credentials are in force.
fn layers(info: &SbInfo, stack: &Stack) -> Result<KVec<Layer>> {
    let mut layers = KVec::with_capacity(stack.len(), GFP_KERNEL)?;
    for slot in stack.iter() {
        if stack.len() > 1 && slot.branch().access.honours_whiteouts() && slot.dentry().is_locked()
        {
            // What it hides is not known.
            return Err(ENOKEY.into());
        }
        let mut listing = Names::new();
        let read = slot.path().and_then(|dir| {
            whiteout::each_entry(dir, |name, role, ino, dtype| {
                listing.push(name, role, ino, dtype)
            })
        });
        match read {
            // Somebody removed this instance, and others are left.
            Err(error) if error == ENOENT && !layers.is_empty() => {}
            other => other?,
        }
        let space = info.ino.space(slot.branch(), slot.dentry())?;
        layers.push(
            Layer {
                listing,
                space,
                honours_whiteouts: slot.branch().access.honours_whiteouts(),
            },
            GFP_KERNEL,
        )?;
    }
    Ok(layers)
}

/// The change stamps of all instances.
fn stamps(stack: &Stack) -> Result<KVec<Stamp>> {
    let mut stamps = KVec::with_capacity(stack.len(), GFP_KERNEL)?;
    for slot in stack.iter() {
        stamps.push(slot.inode()?.stamp(), GFP_KERNEL)?;
    }
    Ok(stamps)
}

/// `ENOTEMPTY` if the directory shows any name. The mounter's credentials are in force.
pub(crate) fn check_empty(section: Section<'_>, inode: &Inode) -> Result {
    let layers = layers(inode.sb().data(), inode.stack(section)?)?;
    if merge::merge(&layers, false)?.is_empty() {
        Ok(())
    } else {
        Err(ENOTEMPTY.into())
    }
}

/// `ENOTEMPTY` if the directory shows anything from its `skip`-th instance on. The mounter's
/// credentials are in force.
pub(crate) fn check_empty_below(section: Section<'_>, inode: &Inode, skip: usize) -> Result {
    let layers = layers(inode.sb().data(), inode.stack(section)?)?;
    let (above, below) = layers.split_at_checked(skip).ok_or(EINVAL)?;
    let all = merge::merge(&layers, false)?;
    let above = merge::merge(above, false)?;
    let below = merge::merge(below, false)?;
    for i in 0..all.len() {
        let entry = all.get(i).ok_or(EIO)?;
        let upper = above.contains(entry.name).and_then(|at| above.get(at));
        let hides = upper.is_some_and(|upper| {
            // A directory shows what its namesakes below hold.
            !matches!(upper.dtype, DT_DIR | DT_UNKNOWN) || below.contains(entry.name).is_none()
        });
        if !hides {
            return Err(ENOTEMPTY.into());
        }
    }
    Ok(())
}

/// Whether a listing that was read at some time, and whose change stamps hold, is believed: a
/// change within one tick of a branch's clock may leave no trace in them, so where others may
/// change a branch it is read again after `rdcache=` seconds.
fn believed(section: Section<'_>, stack: &Stack, read: Instant<Monotonic>) -> bool {
    let seconds = section.settings().rdcache;
    let fixed = |slot: &Slot| {
        let branch = slot.branch();
        branch.access.perm == Perm::Rr || branch.root.mount().sb_is_read_only()
    };
    seconds != 0
        && (stack.iter().all(fixed) || read.elapsed() < Delta::from_secs(i64::from(seconds)))
}

/// The merged listing of `inode`, a cached one if it still holds.
fn listing(section: Section<'_>, inode: &Inode) -> Result<Arc<Listing>> {
    let stack = inode.stack(section)?;
    let now = stamps(stack)?;
    let changes = inode.changes();
    let shwh = section.settings().shwh;
    {
        let cache = inode.data().dir.lock();
        if let Some(cached) = cache.listing.as_ref() {
            let same = *cached.stamps == *now && cached.changes == changes && cached.shwh == shwh;
            if same && believed(section, stack, cached.read) {
                return Ok(cached.clone());
            }
        }
    }
    let read = Instant::now();
    let info = inode.sb().data();
    info.stats().count(Counter::Listings);
    let counted = (link_count(stack)?, Print::lasting(stack)?);
    let layers = info.cred.scope(|| layers(info, stack))?;
    let made = Arc::new(
        Listing {
            names: merge::merge(&layers, shwh)?,
            // From before it was read: a change meanwhile makes the next reader read again.
            stamps: now,
            changes,
            shwh,
            read,
        },
        GFP_KERNEL_ACCOUNT,
    )?;
    let old = inode.data().dir.lock().listing.replace(made.clone());
    drop(old);
    if let Some(subdirs) = made.names.subdirs().filter(|_| !shwh) {
        let (count, print) = counted;
        // If the instances are as they were before they were listed. Coarse times alone do not
        // tell.
        let now = Some(Print::of(stack)?);
        let same = inode.changes() == changes && *stamps(stack)? == *made.stamps;
        if let Some(print) = print.filter(|_| same && now == print) {
            inode.counted(stack, count, print, subdirs)?;
        }
    }
    Ok(made)
}

/// Emits from a merged listing.
fn emit(sb: &SuperBlock, listing: &Listing, out: &mut Emitter<'_>) -> Result {
    if !out.dots() {
        return Ok(());
    }
    let info = sb.data();
    let from = u64::try_from(out.pos().saturating_sub(DOTS)).unwrap_or(0);
    let mut at = listing.names.seek(from);
    let mut next = listing.names.get(at);
    if let Some(entry) = &next {
        out.set_pos(position(entry.cookie));
    }
    while let Some(entry) = next {
        let number = info.ino.number(Lower {
            space: entry.space,
            number: entry.ino,
        })?;
        if !out.emit(entry.name, number, entry.dtype) {
            return Ok(());
        }
        at = at.saturating_add(1);
        next = listing.names.get(at);
        let cookie = next.as_ref().map(|next| next.cookie);
        out.set_pos(position(cookie.unwrap_or(entry.cookie.saturating_add(1))));
    }
    Ok(())
}

/// Whether the instance that an open directory reads is all there is.
fn still_alone(stack: &Stack, one: &One) -> bool {
    stack.len() == 1 && one.address == stack.top_inode().address()
}

/// The position of the entry with a cookie.
fn position(cookie: u64) -> i64 {
    i64::try_from(cookie)
        .unwrap_or(i64::MAX)
        .saturating_add(DOTS)
}

impl Operations for Union {
    type Listing = Source;

    fn open_dir(_file: &File<Union>) -> Result<Pin<KBox<OpenDir>>> {
        KBox::pin_init(
            pin_init!(OpenDir {
                source <- new_mutex!(Source::None, "ruaufs_dir"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    fn listing(
        section: Section<'_>,
        file: &File<Union>,
        dir: &OpenDir,
        pos: i64,
    ) -> Result<Source> {
        let inode = file.inode();
        let fresh = pos == 0;
        {
            let source = dir.source.lock();
            match &*source {
                Source::One(one) if !fresh || still_alone(inode.stack(section)?, one) => {
                    return Ok(Source::One(one.clone()));
                }
                Source::Merged(listing) if !fresh => return Ok(Source::Merged(listing.clone())),
                _ => {}
            }
        }
        let info = inode.sb().data();
        let stack = inode.stack(section)?;
        let source = if stack.len() == 1 {
            let file = info.cred.scope(|| open_slot(stack.top()))?;
            let branch = stack.top().branch();
            let space = info.ino.space(branch, stack.top().dentry())?;
            let class = file_class(inode.sb().stack_depth());
            let one = pin_init!(One {
                file <- Mutex::new(file, c"ruaufs_listed", class),
                address: stack.top_inode().address(),
                _listed: Listed::new(inode),
                space,
                shwh: section.settings().shwh && branch.access.honours_whiteouts(),
            });
            Source::One(Arc::pin_init(one, GFP_KERNEL_ACCOUNT)?)
        } else {
            Source::Merged(listing(section, inode)?)
        };
        let old = core::mem::replace(&mut *dir.source.lock(), source.clone());
        drop(old);
        Ok(source)
    }

    fn emit(file: &File<Union>, source: &Source, out: &mut Emitter<'_>) -> Result {
        let inode = file.inode();
        let info = inode.sb().data();
        let one = match source {
            Source::None => return Ok(()),
            Source::Merged(listing) => return emit(inode.sb(), listing, out),
            Source::One(one) => one,
        };
        let own = inode.ino();
        let parent: ARef<crate::union::types::Dentry> = file.dentry().parent();
        let parent = parent.object()?.ino();
        let mut failed = Ok(());
        let lower = |number| Lower {
            space: one.space,
            number,
        };
        let plain = |name: &[u8], number| match whiteout::is_plain(name) {
            true => info.ino.computed(lower(number)),
            false => None,
        };
        let map = |name: &[u8], number| match name {
            b"." => Some(own),
            b".." => Some(parent),
            _ if !whiteout::is_shown(name, one.shwh) => None,
            _ => info
                .ino
                .number(lower(number))
                .map_err(|error| failed = Err(error))
                .ok(),
        };
        let result = info
            .cred
            .scope(|| pass_through(&mut one.file.lock(), out, plain, map));
        result.and(failed)
    }

    fn seek_dir(file: &File<Union>, dir: &OpenDir, offset: i64, whence: Whence) -> Result<i64> {
        let source = match &*dir.source.lock() {
            Source::One(one) => Some(one.clone()),
            _ => None,
        };
        if let Some(one) = source {
            let cred = &file.inode().sb().data().cred;
            return cred.scope(|| one.file.lock().seek(file.pos(), offset, whence));
        }
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => file.pos(),
            Whence::End => match &*dir.source.lock() {
                Source::Merged(listing) => position(
                    listing
                        .names
                        .len()
                        .checked_sub(1)
                        .and_then(|last| listing.names.get(last))
                        .map_or(0, |last| last.cookie.saturating_add(1)),
                ),
                _ => 0,
            },
        };
        let pos = base.checked_add(offset).ok_or(EOVERFLOW)?;
        if pos < 0 {
            return Err(EINVAL);
        }
        Ok(pos)
    }

    fn to_sync(
        section: Section<'_>,
        file: &File<Union>,
        f: &mut dyn FnMut(KernelFile) -> Result,
    ) -> Result {
        let inode = file.inode();
        let cred = &inode.sb().data().cred;
        for slot in inode.stack(section)?.iter() {
            // What was made before it became read-only may be on no disk yet.
            if slot.branch().was_written {
                f(cred.scope(|| KernelFile::dir(slot.path()?, true))?)?;
            }
        }
        Ok(())
    }
}
