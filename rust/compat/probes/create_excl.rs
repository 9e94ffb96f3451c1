// SPDX-License-Identifier: GPL-2.0
//! `->create()` of inodes gets `excl`.
use kernel::bindings::{dentry, inode, inode_operations, mnt_idmap, umode_t};
pub fn set(
    table: &mut inode_operations,
    create: unsafe extern "C" fn(*mut mnt_idmap, *mut inode, *mut dentry, umode_t, bool) -> i32,
) {
    table.create = Some(create);
}
