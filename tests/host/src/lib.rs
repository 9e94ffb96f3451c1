// SPDX-License-Identifier: GPL-2.0

//! The layer `logic`, compiled for the host.
//!
//! The modules are the very files of `rust/logic`; the crate `kernel` is a stand-in.

// Where `mod logic;` is resolved as it is in the kernel crate: rust/logic.rs and rust/logic/.
#[path = "../../../rust"]
mod rust {
    pub(crate) mod logic;
}

#[cfg(test)]
mod tests;
