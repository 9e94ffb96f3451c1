// SPDX-License-Identifier: GPL-2.0

//! What the union shows of itself: `/proc/mounts`.

#![forbid(unsafe_code)]

use super::sb::SbInfo;
use crate::fs::seq::Seq;
use kernel::{
    prelude::*,
    str::CString, //
};

/// The options, each with a leading comma; they can be mounted again.
///
/// Branches come last. As type `ruaufs` there is one `br=` for each, so that none is too long for
/// fsconfig(2); as type `aufs` they are `br:` with colons, as aufs's tools read them.
pub(crate) fn options(info: &SbInfo, out: &Seq<'_>) -> Result {
    let mut write = |text: &[u8]| out.bytes(text);
    info.settings().write_before_si(&mut write);
    out.bytes(b",si=");
    out.bytes(CString::try_from_fmt(fmt!("{:x}", info.si))?.to_bytes());
    info.settings().write_to(&mut write);
    for (i, branch) in info.table().order.iter().enumerate() {
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
