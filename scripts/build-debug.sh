#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: build-debug.sh [MAKE-ARGUMENT...]
#
# Makes, once, the debug kernel, and builds ruaufs.ko for it in $DEBUG_BUILD: the
# objects for the stock kernel stay as they are in the checkout.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

NEEDED_GB=6

# Sources alone: bindings and objects are those of the kernel's configuration.
build() {
	mkdir -p "$DEBUG_BUILD"
	"$SRC/scripts/chroot.sh" rsync -a --delete --exclude='.*' --exclude='*.o' \
		--exclude='*.ko' --exclude='*.mod' --exclude='*.mod.c' --exclude='*.rsi' \
		--exclude='modules.order' --exclude='Module.symvers' \
		--exclude='bindings_generated.rs' --exclude='compat_cfg' "$SRC/Makefile" "$SRC/rust" "$DEBUG_BUILD/"
	"$SRC/scripts/chroot.sh" make -s -C "$DEBUG_KERNEL" LLVM=1 M="$DEBUG_BUILD" \
		KRUSTFLAGS=-Cdebuginfo=2 KCFLAGS=-g "$@" # For the lines in reports.
}

[[ -e $DEBUG_KERNEL ]] || need_disk $NEEDED_GB
ADVICE="if this is the network: it goes on from here; else look at scripts/debug.config" \
	cached "$DEBUG_KERNEL" "build the debug kernel" "$SRC/scripts/make-debug-kernel.sh"
touch "$DEBUG_KERNEL" # Used today: see setup.sh, prune().
step "build the module for the debug kernel" with_lock "$DEBUG_LOCK" build "${@:-modules}"
