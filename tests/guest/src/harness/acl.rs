// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists as the extended attributes `system.posix_acl_*` hold them.

/// One entry: tag, permission bits, user or group.
pub(crate) type Entry = (u16, u16, u32);

/// The value of the attribute, version 2.
pub(crate) fn acl(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
