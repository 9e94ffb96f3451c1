// SPDX-License-Identifier: GPL-2.0

//! Whether a name still leads where it led, asked of the branches (`udba=notify`).

#![forbid(unsafe_code)]

use super::{
    index::View,
    lookup::{
        self,
        Depth, //
    },
    watch, //
};
use crate::fs::operations::dentry::Validity;
use crate::union::{
    branches::{
        stack,
        whiteout, //
    },
    plink,
    types::{
        Dentry,
        Inode,
        Section, //
    }, //
};
use kernel::prelude::*;

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
    let seen = watch::pulses(dir.data(), dentry.inode().map(|inode| inode.data()));
    let answer = info.cred.scope(|| {
        lookup::probe(
            &View::plain(info, section.shape(), dir.stack(section)?),
            0,
            whiteout::sought(name),
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
                    let stack = stack::stack_of(answer.slots)?;
                    inode.publish(section, stack);
                    inode.forget_names();
                    drop(lock);
                    watch::watch(section, inode)?;
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
                || match plink::originals::resolve(section, top)? {
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
