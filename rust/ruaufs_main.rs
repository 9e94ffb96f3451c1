// SPDX-License-Identifier: GPL-2.0

//! ruaufs: an aufs-compatible union filesystem.

#![crate_name = "ruaufs"]

use kernel::prelude::*;

#[allow(dead_code, unused_imports)]
mod bindings;

module! {
    type: Ruaufs,
    name: "ruaufs",
    authors: ["ruaufs contributors"],
    description: "aufs-compatible union filesystem",
    license: "GPL",
    alias: ["fs-ruaufs", "fs-aufs"],
}

struct Ruaufs;

impl kernel::Module for Ruaufs {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pr_info!("loaded\n");
        Ok(Ruaufs)
    }
}

impl Drop for Ruaufs {
    fn drop(&mut self) {
        pr_info!("unloaded\n");
    }
}
