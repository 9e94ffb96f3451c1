// SPDX-License-Identifier: GPL-2.0

//! What user-space tools need to know about ruaufs and aufs.
//!
//! ```text
//! mounted unions   mounts   the mount table;       union    a union and its branches
//!                  options  mount options as text; mountapi both mount APIs
//!                  ioctl    aufs's ioctls;         plink    pseudo-links and their maintenance
//!                  busy     who holds a branch;    stats    what a union counts
//! branches on disk names    names with `.wh.`;     dir      all that opens names
//!                  layers   look-up in a stack;    object   copying and removing objects
//!                  diff, commit, check             what the commands of these names do
//!                  claim    a branch for ourselves;  system   files of the kernel
//! ```
//!
//! Only `ioctl` has unsafe code.

#![deny(unsafe_code, missing_docs)]

pub mod branch;
pub mod busy;
pub mod check;
pub mod claim;
pub mod commit;
pub mod diff;
pub mod dir;
pub mod ioctl;
pub mod layers;
pub mod mountapi;
pub mod mounts;
pub mod names;
pub mod object;
pub mod options;
pub mod plink;
pub mod stats;
mod system;
pub mod union;

/// The errno at the root of an error, if it has one.
pub fn errno_of(error: &anyhow::Error) -> Option<rustix::io::Errno> {
    error.chain().find_map(|cause| {
        let errno = cause.downcast_ref::<rustix::io::Errno>().copied();
        let io = cause.downcast_ref::<std::io::Error>();
        errno.or_else(|| io.and_then(rustix::io::Errno::from_io_error))
    })
}
