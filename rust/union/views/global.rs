// SPDX-License-Identifier: GPL-2.0

//! The state of the loaded module, which all unions share.

#![forbid(unsafe_code)]

use super::{
    constants,
    maintenance::Unions, //
};
use crate::fs::base::{
    debugfs::Dir,
    parameters::Parameters,
    sysfs::{
        Directory,
        ModuleLink, //
    },
};
use crate::union::branches::{
    askers::Askers,
    claim::Claims, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The state of the loaded module.
#[pin_data]
pub(crate) struct Global {
    /// What it was loaded with.
    pub(crate) parameters: Parameters,
    /// `/sys/fs/aufs`, unless somebody else has it.
    pub(crate) sysfs: Option<Directory<constants::Constant>>,
    /// The mounted unions, for `/proc/fs/aufs/plink_maint`.
    #[pin]
    pub(crate) unions: Unions,
    /// Who uses which directory as a branch.
    pub(crate) claims: Arc<Claims>,
    /// Asks branches that may not answer.
    pub(crate) askers: Arc<Askers>,
    /// `aufs` in debugfs.
    pub(crate) debugfs: Arc<Dir>,
    /// `/sys/module/aufs`.
    alias: Option<ModuleLink>,
}

impl Global {
    /// The state of a module being loaded. What user space only looks at may be missing.
    pub(crate) fn new(
        module: &'static ThisModule,
        parameters: Parameters,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            sysfs: optional("/sys/fs/aufs", constants::root()),
            alias: optional("/sys/module/aufs", ModuleLink::new(module, c"aufs")),
            debugfs: Dir::new(None, c"aufs")?,
            unions <- Unions::new(),
            claims: Arc::pin_init(Claims::new(), GFP_KERNEL)?,
            askers: Askers::new()?,
            parameters,
        })
    }
}

/// Says what is missing.
#[inline(never)]
pub(crate) fn optional<T>(what: &str, made: Result<T>) -> Option<T> {
    made.inspect_err(|error| pr_warn!("{}: cannot be made: {:?}\n", what, error))
        .ok()
}
