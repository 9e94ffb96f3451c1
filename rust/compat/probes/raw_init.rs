// SPDX-License-Identifier: GPL-2.0
//! An initialiser is run by `raw_init()`.
use pin_init::raw_init;
