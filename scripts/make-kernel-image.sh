#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-kernel-image.sh DIR
#
# Fetches the stock kernel $KERNEL: DIR/vmlinuz and DIR/usr/lib/modules/$KERNEL.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

dir=$1
rm -rf "$dir"
fetch_backports "$dir/debs" "linux-base-$KERNEL" "linux-binary-$KERNEL" "linux-modules-$KERNEL"
for deb in "$dir"/debs/*.deb; do
	dpkg-deb -x "$deb" "$dir"
done
# Decompressed here, once: under emulation xz costs seconds per module.
find "$dir/usr/lib/modules" -name '*.ko.xz' -print0 | xargs -0 -r -P "$(nproc)" -n 50 xz -d
mv "$dir/usr/lib/modules/$KERNEL/vmlinuz" "$dir/vmlinuz"
rm -rf "${dir:?}/debs" "${dir:?}/usr/share"
