// SPDX-License-Identifier: GPL-2.0

//! Tests of the layer `logic` on the host.

#[cfg(test)]
mod tests;
