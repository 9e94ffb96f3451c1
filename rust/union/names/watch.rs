// SPDX-License-Identifier: GPL-2.0

//! `udba=notify`: nothing that is changed behind the union's back stays unnoticed.
//!
//! `udba=reval` compares what a name was found by ([`super::revalidate`]). That
//! misses what appears where nothing was found: a name, a whiteout or an opaque
//! mark on another branch. With `udba=notify` each instance of a cached directory is
//! watched, except on `rr` branches. When a name comes or goes in one of them, all
//! names that are cached of that directory are looked at again at their next use:
//! asked of the branches, and kept if the answer is the same.
//!
//! # Terms
//!
//! - *pulse*: counts what happened in the instances of a directory.
//! - *seen*: the pulses that a name depends on at the last look, kept in the dentry.
//!   Compared inside RCU walk.
//!
//! # Locking
//!
//! [`Watches::list`] is a leaf lock but for the locks of the notification system.

#![forbid(unsafe_code)]

use super::{
    index::View,
    lookup::{
        self,
        Depth, //
    }, //
};
use crate::fs::{
    access::notify::{
        Group,
        Pulse,
        Watch, //
    },
    objects::dentry::{
        Validity,
        Walk, //
    }, //
};
use crate::logic::{
    branch_spec::Perm,
    options::Udba, //
};
use crate::union::{
    branches::branch::Stack,
    objects::object::{
        self,
        InodeInfo, //
    },
    plink,
    state::sb::Shape,
    Dentry,
    Inode,
    Section,
    Union, //
};
use crate::warn_limited;
use core::pin::Pin;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        Arc,
        LockClassKey,
        Mutex,
        SetOnce, //
    }, //
};

/// The watches of a directory.
#[pin_data]
pub(crate) struct Watches {
    /// Set when the first is made.
    pulse: SetOnce<Arc<Pulse>>,
    #[pin]
    list: Mutex<KVec<Watch>>,
}

/// A lock class for each depth of stacking: a union on a union takes both locks.
fn list_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

impl Watches {
    /// None.
    pub(crate) fn new(depth: i32) -> impl PinInit<Self> {
        pin_init!(Watches {
            pulse: SetOnce::new(),
            list <- Mutex::new(KVec::new(), c"ruaufs_watches", list_class(depth)),
        })
    }

    /// Ends all.
    pub(crate) fn end(&self) {
        let list = core::mem::replace(&mut *self.list.lock(), KVec::new());
        drop(list);
    }

    /// Ends all, of an inode that nobody has any more. That may be to win memory, for which who
    /// has the lock of another inode's may wait: so this is no lock that is waited for.
    pub(crate) fn end_last(&self) {
        let free = self.list.try_lock();
        let list = free.map(|mut list| core::mem::replace(&mut *list, KVec::new()));
        drop(list);
    }

    /// Makes all names of the directory be looked at again.
    fn disturb(&self) {
        if let Some(pulse) = self.pulse.as_ref() {
            pulse.beat();
        }
    }

    /// The pulse now; 0 if nothing was ever watched.
    pub(crate) fn count(&self) -> u64 {
        self.pulse.as_ref().map_or(0, |pulse| pulse.count())
    }
}

/// Makes the watches of `inode` those of its instances. With another `udba=` it has none.
pub(crate) fn watch(section: Section<'_>, inode: &Inode) -> Result {
    if !inode.is_dir() {
        return Ok(());
    }
    let info = inode.sb().data();
    let watches = &inode.data().watches;
    if section.settings().udba != Udba::Notify {
        return Ok(());
    }
    let group = info.watchers()?;
    if watches.pulse.as_ref().is_none() {
        watches
            .pulse
            .populate(Arc::new(Pulse::new(), GFP_KERNEL_ACCOUNT)?);
    }
    let pulse = watches.pulse.as_ref().ok_or(EIO)?;
    let stack = inode.stack(section)?;
    let mut list = watches.list.lock();
    let mut ended = KVec::new();
    let mut at = 0;
    while let Some(watch) = list.get(at) {
        if stack
            .iter()
            .any(|slot| slot.inode().is_ok_and(|dir| watch.is_of(dir)))
        {
            at = at.saturating_add(1);
            continue;
        }
        ended.reserve(1, GFP_KERNEL)?;
        if let Ok(watch) = list.remove(at) {
            ended.push(watch, GFP_KERNEL)?;
        }
    }
    let result = add(group, stack, pulse, &mut list);
    drop(list);
    drop(ended);
    result
}

/// Adds what is missing.
fn add(group: &Group, stack: &Stack, pulse: &Arc<Pulse>, list: &mut KVec<Watch>) -> Result {
    for slot in stack.iter() {
        let dir = slot.inode()?;
        if slot.branch().access.perm != Perm::Rr && !list.iter().any(|watch| watch.is_of(dir)) {
            list.reserve(1, GFP_KERNEL_ACCOUNT)?;
            list.push(Watch::new(group, dir, pulse.clone())?, GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(())
}

/// As [`watch`], where it is too late for an error: what is not watched is as with `udba=reval`.
pub(crate) fn watch_or_log(section: Section<'_>, inode: &Inode) {
    if let Err(error) = watch(section, inode) {
        warn_limited!("cannot watch inode {}: {:?}\n", inode.ino(), error);
    }
}

/// Whether cached names depend on pulses.
pub(crate) fn is_on(shape: &Shape) -> bool {
    shape.settings.udba == Udba::Notify
}

/// What a name of `dir` that leads to `inode` depends on. For a directory these are its own
/// instances, too, since an opaque mark is inside one. Both only grow, so their sum tells.
fn pulses(dir: &InodeInfo, inode: Option<&InodeInfo>) -> u64 {
    let own = inode.map_or(0, |inode| inode.watches.count());
    dir.watches.count().wrapping_add(own)
}

/// Whether the name that is walked must be looked at again, as the pulses are not what they were at
/// the last look.
pub(crate) fn has_moved(walk: &Walk<'_, Union>) -> bool {
    let inode = walk.inode().map(|inode| inode.data());
    is_on(walk.shape()) && pulses(walk.dir().data(), inode) != walk.seen()
}

/// Looks at a cached name again: asks the branches, and compares.
pub(crate) fn look_again(
    section: Section<'_>,
    dir: &Inode,
    dentry: &Dentry,
    name: &[u8],
) -> Validity {
    match same(section, dir, dentry, name) {
        Ok(true) => Validity::Valid,
        // The look-up that follows meets the same error and says so.
        Ok(false) | Err(_) => Validity::Stale,
    }
}

fn same(section: Section<'_>, dir: &Inode, dentry: &Dentry, name: &[u8]) -> Result<bool> {
    let info = dir.sb().data();
    let seen = pulses(dir.data(), dentry.inode().map(|inode| inode.data()));
    let answer = info.cred.scope(|| {
        lookup::probe(
            &View::plain(info, section.shape(), dir.stack(section)?),
            0,
            name,
            Depth::All,
        )
    })?;
    let same = match (dentry.inode(), answer.slots.first()) {
        (None, None) => true,
        (Some(inode), Some(top)) if inode.is_dir() => {
            let lower = top.inode()?;
            let lock = inode.promotion_lock();
            let known = inode.stack(section)?;
            let mut all = true;
            for (a, b) in Iterator::zip(known.iter(), answer.slots.iter()) {
                all = all && a.dentry().is(b.dentry());
            }
            if core::ptr::eq(known.top_inode(), lower) {
                if known.len() != answer.slots.len() || !all {
                    // It gained or lost an instance below.
                    let stack = object::stack_of(answer.slots)?;
                    inode.publish(section, stack);
                    inode.forget_names();
                    drop(lock);
                    watch(section, inode)?;
                    // What its names were found by has changed, too.
                    inode.data().watches.disturb();
                }
                true
            } else {
                false
            }
        }
        (Some(inode), Some(top)) => {
            inode.ever_led_to(section, top.inode()?)
                || match plink::resolve(section, top)? {
                    Some(known) => inode.ever_led_to(section, known.slot.inode()?),
                    None => false,
                }
        }
        _ => false,
    };
    if same {
        dentry.set_guard(answer.guard);
        dentry.set_seen(seen);
    }
    Ok(same)
}
