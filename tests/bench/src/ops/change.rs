// SPDX-License-Identifier: GPL-2.0

//! Changes of names and attributes. Each name is used once, so that each is looked for in all
//! layers.

use std::ffi::CStr;

use anyhow::Result;
use rustix::fs::{
    chmodat, linkat, mkdirat, openat, readlinkat_raw, renameat, symlinkat, unlinkat, AtFlags, Mode,
    OFlags,
};

use super::names;
use crate::run::Session;

pub(super) fn create(s: &Session<'_>, name: &CStr) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    openat(&s.root, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

fn unlink(s: &Session<'_>, name: &CStr) -> Result<()> {
    Ok(unlinkat(&s.root, name, AtFlags::empty())?)
}

pub(crate) fn run(s: &Session<'_>) -> Result<()> {
    let count = s.plan.counts.small;
    let root = &s.root;
    let nothing = |_: &_| Ok(());

    // Names in the directory are looked up, its listing is read and its blocks are in memory.
    create(s, c"change/first")?;
    unlink(s, c"change/first")?;

    s.each("create", &names("change/create-", count), nothing, |name| {
        create(s, name)?;
        unlink(s, name)
    })?;
    s.each("mkdir", &names("change/mkdir-", count), nothing, |name| {
        mkdirat(root, name, Mode::from_raw_mode(0o755))?;
        Ok(unlinkat(root, name, AtFlags::REMOVEDIR)?)
    })?;
    let mut target = [std::mem::MaybeUninit::uninit(); 64];
    s.each(
        "symlink",
        &names("change/symlink-", count),
        nothing,
        |name| {
            symlinkat(c"some/target", root, name)?;
            readlinkat_raw(root, name, &mut target)?;
            unlink(s, name)
        },
    )?;

    let mut old = c"change/rename".to_owned();
    create(s, &old)?;
    s.each("rename", &names("change/rename-", count), nothing, |name| {
        renameat(root, &old, root, name)?;
        old.clone_from(name);
        Ok(())
    })?;
    unlink(s, &old)?;

    let old = c"change/link";
    create(s, old)?;
    s.each("link", &names("change/link-", count), nothing, |name| {
        linkat(root, old, root, name, AtFlags::empty())?;
        unlink(s, name)
    })?;
    unlink(s, old)?;

    s.each(
        "unlink.lower",
        &names("used/unlink-", count),
        nothing,
        |name| unlink(s, name),
    )?;
    s.each(
        "chmod.lower",
        &names("used/chmod-", count),
        nothing,
        |name| {
            Ok(chmodat(
                root,
                name,
                Mode::from_raw_mode(0o600),
                AtFlags::empty(),
            )?)
        },
    )
}
