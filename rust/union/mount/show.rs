// SPDX-License-Identifier: GPL-2.0

//! What the union shows of itself: `/proc/mounts`.

#![forbid(unsafe_code)]

use crate::fs::base::seq::Seq;
use crate::union::types::Section;
use kernel::{
    prelude::*,
    str::CString, //
};

/// The options, each with a leading comma; they can be mounted again.
///
/// Branches come last. As type `ruaufs` there is one `br=` for each, so that none is too long for
/// fsconfig(2). As type `aufs` they are shown as aufs does it: in sysfs or, with the module's
/// parameter `brs=0`, here as `br:` with colons.
pub(crate) fn options(section: Section<'_>, out: &Seq<'_>) -> Result {
    let info = section.data();
    let mut write = |text: &[u8]| out.bytes(text);
    section.settings().write_before_si(&mut write);
    out.bytes(b",si=");
    out.bytes(CString::try_from_fmt(fmt!("{:x}", info.si))?.to_bytes());
    section.settings().write_to(&mut write);
    if info.as_aufs && info.views.show_branches() {
        return Ok(());
    }
    for (i, branch) in section.table().order.iter().enumerate() {
        out.bytes(match (info.as_aufs, i) {
            (true, 0) => b",br:",
            (true, _) => b":",
            (false, _) => b",br=",
        });
        match branch.shown.to_bytes() {
            Ok(path) => out.escaped(&path),
            // A path that is too long must not hide all other mounts.
            Err(_) => out.bytes(b"?"),
        }
        out.bytes(b"=");
        branch.access.write_to(&mut write);
    }
    Ok(())
}
