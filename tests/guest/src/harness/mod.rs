// SPDX-License-Identifier: GPL-2.0

//! What tests are made of. See `main.rs` for the picture.

pub(crate) mod acl;
pub(crate) mod aio;
pub(crate) mod compare;
pub(crate) mod context;
pub(crate) mod device;
pub(crate) mod dir;
pub(crate) mod fuse;
pub(crate) mod handle;
pub(crate) mod hold;
pub(crate) mod idmap;
pub(crate) mod inject;
pub(crate) mod ioctl;
pub(crate) mod klog;
pub(crate) mod map;
pub(crate) mod nfs;
pub(crate) mod paths;
pub(crate) mod policy;
pub(crate) mod random;
pub(crate) mod run;
pub(crate) mod scratch;
pub(crate) mod snapshot;
pub(crate) mod sys;
pub(crate) mod trace;
pub(crate) mod tree;
pub(crate) mod union;
pub(crate) mod uring;
pub(crate) mod users;
pub(crate) mod watchdog;
pub(crate) mod writelog;

/// What nearly every test module needs.
pub(crate) mod prelude {
    pub(crate) use anyhow::{Context as _, Result};

    pub(crate) use super::{
        context::{Ctx, Layout, ALL, BASIC, ONCE, WIDE, WRITABLE, XATTRS},
        dir::{self, names, set},
        run::cases,
        scratch::Kind,
        sys::{self, errno, exists, text, Errno, FileType, Mode, OFlags},
        tree::{Tree, MTIME},
        union::{Api, Union},
        users,
    };
}
