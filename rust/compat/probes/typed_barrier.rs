// SPDX-License-Identifier: GPL-2.0
//! A barrier is told its ordering.
pub fn full() {
    kernel::sync::barrier::smp_mb(kernel::sync::atomic::Full);
}
