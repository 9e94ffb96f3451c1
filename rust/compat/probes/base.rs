// SPDX-License-Identifier: GPL-2.0
//! Compiles with every kernel: where this does not, the other probes say nothing.
pub use kernel::bindings::inode_operations;
pub use kernel::error::code::EPERM;
