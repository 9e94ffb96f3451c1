#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: build.sh [MAKE-ARGUMENT...]
#
# Builds rust/ruaufs.ko for the stock kernel in the build root (or, with
# arguments, what they name: rust-analyzer, V=1 modules, ...).
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

kbuild() {
	"$SRC/scripts/chroot.sh" make -s -C "$KERNEL_TREE" CC="$KERNEL_CC" M="$SRC" "$@"
}

# One build at a time in one checkout; its own messages go to the terminal.
with_lock "$BUILD_LOCK" kbuild "${@:-modules}"
