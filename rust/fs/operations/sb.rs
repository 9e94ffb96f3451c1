// SPDX-License-Identifier: GPL-2.0

//! Super blocks: root, statistics, sync, death.

use super::context::Context;
use crate::fs::{
    access::statfs::Statfs,
    base::seq::Seq,
    objects::{
        inode::Inode,
        ours::Dying,
        sb::SuperBlock,
        section::{
            Alone,
            Section, //
        }, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Callbacks on the super block.
pub(crate) trait Operations: super::context::Operations {
    /// The root directory of a super block whose state is in place: the last step of a mount.
    fn root(
        context: &Context<'_>,
        options: &mut Self::Options,
        alone: &Alone<'_, Self>,
    ) -> Result<ARef<Inode<Self>>>;

    /// statfs(2).
    fn statfs(section: Section<'_, Self>) -> Result<Statfs>;

    /// syncfs(2) and unmount: brings all data to disk. Runs outside the gate, since it waits for
    /// `s_umount` of foreign super blocks.
    fn sync(sb: &SuperBlock<Self>) -> Result;

    /// The last mount is gone: gives up what refers to inodes of the super block itself.
    fn unmount(alone: &Alone<'_, Self>);

    /// The last reference to an inode is gone: gives up its references to other objects, but for
    /// those of its stack, which end next. Walks under RCU may still look at what is built for
    /// them; memory is freed by `Drop` of the data beside the inode, after a grace period of RCU,
    /// in a context that must not sleep.
    fn dies(dying: &Dying<'_, Self>);

    /// The options of the mount, as `/proc/mounts` shows them, each with a leading comma.
    fn show_options(section: Section<'_, Self>, out: &Seq<'_>) -> Result;
}
