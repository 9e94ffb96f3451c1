// SPDX-License-Identifier: GPL-2.0

//! ruaufs: an aufs-compatible union filesystem.
//!
//! The layers, from the bottom: `bindings` and `helpers/` (C), [`compat`] (kernels), [`fs`] (safe
//! abstractions, all `unsafe`), [`logic`] (pure decisions), [`union`] (the file
//! system). See `Documentation/ruaufs/architecture.rst`.

#![crate_name = "ruaufs"]
#![deny(clippy::undocumented_unsafe_blocks)]

#[allow(
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
mod bindings;
mod compat;
mod fs;
#[path = "logic/lib.rs"]
mod logic;
mod union;

use fs::{
    base::{
        parameters::Parameters,
        procfs::{
            ControlDir,
            ControlFile, //
        }, //
    },
    callbacks::registered::Registration,
    objects::inode_cache::InodeCache, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use union::{
    types::Union,
    views::{
        claim_file::ClaimFile,
        global::{
            self,
            Global, //
        },
        plink_maint::PlinkMaint, //
    }, //
};

module! {
    type: Ruaufs,
    name: "ruaufs",
    authors: ["ruaufs contributors"],
    description: "aufs-compatible union filesystem",
    license: "GPL",
    alias: ["aufs", "fs-aufs", "fs-ruaufs"],
}

/// The loaded module. Fields are dropped from top to bottom: the types go before the cache that
/// their inodes come from, and before the state that their mounts share.
#[pin_data]
struct Ruaufs {
    #[pin]
    own: Registration<Union>,
    /// The same file system under the name that aufs's users mount.
    #[pin]
    alias: Registration<Union>,
    /// `/proc/fs/aufs/plink_maint`, unless somebody else has it.
    plink_maint: Option<ControlFile<PlinkMaint>>,
    /// `/proc/fs/aufs/claim`, unless somebody else has it.
    claim: Option<ControlFile<ClaimFile>>,
    cache: Arc<InodeCache<Union>>,
    global: Arc<Global>,
}

impl Ruaufs {
    /// Registers the type `aufs`, if that is wanted. Without it the module is still of use.
    fn register_alias(global: &Global, alias: Pin<&mut Registration<Union>>) -> bool {
        if !global.parameters.aufs_alias {
            return false;
        }
        let registered = alias.register();
        if let Err(error) = registered {
            pr_warn!(
                "file system type aufs: not registered ({:?}), mount as type ruaufs\n",
                error
            );
        }
        registered.is_ok()
    }
}

impl kernel::InPlaceModule for Ruaufs {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let dir = global::optional("/proc/fs/aufs", ControlDir::new(c"fs/aufs"));
        try_pin_init!(Self {
            cache: Arc::new(InodeCache::new(c"ruaufs_inode")?, GFP_KERNEL)?,
            global: Arc::pin_init(Global::new(module, Parameters::given()), GFP_KERNEL)?,
            plink_maint: dir.as_ref().and_then(|dir| global::optional(
                "/proc/fs/aufs/plink_maint",
                ControlFile::new(dir, c"plink_maint", global.clone())
            )),
            claim: dir.as_ref().and_then(|dir| global::optional(
                "/proc/fs/aufs/claim",
                ControlFile::new(dir, c"claim", global.claims.clone())
            )),
            alias <- Registration::new(c"aufs", module, cache.clone(), global.clone()),
            own <- Registration::new(c"ruaufs", module, cache.clone(), global.clone()),
            _: {
                own.register()?;
                let alias = if Self::register_alias(global, alias) { ", aufs" } else { "" };
                pr_info!("file system types ruaufs{}\n", alias);
            },
        })
    }
}
