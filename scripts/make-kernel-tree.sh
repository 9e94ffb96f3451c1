#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-kernel-tree.sh fetch|prepare DIR
#
# Makes DIR a tree against which Rust modules for the stock kernel $KERNEL can be
# built.  Debian's headers carry no Rust metadata, so it is made here from the
# distribution's source with the distribution's configuration: the same compiler
# version gives the same symbol names, and thus a module the stock kernel takes.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

command=$1
dir=$2

# Unpacks the source without what no out-of-tree build reads.
fetch() {
	local debs=$dir/debs headers
	[[ ! -e $dir/unpacked ]] || return 0
	rm -rf "$dir"
	fetch_backports "$debs" "linux-headers-$KERNEL" \
		"linux-source-$KERNEL_SERIES=$(kernel_deb_version)"
	for deb in "$debs"/*.deb; do
		dpkg-deb -x "$deb" "$debs"
	done
	xz -dc -T0 "$debs/usr/src/linux-source-$KERNEL_SERIES.tar.xz" |
		tar -x -C "$dir" --strip-components=1 \
			--exclude='*/drivers/*.c' --exclude='*/sound/*.c' \
			--exclude='*/arch/*.dts*' --exclude='*/tools/perf/*' \
			--exclude='*/tools/testing/*' \
			--exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.yaml'
	headers=$debs/usr/src/linux-headers-$KERNEL
	# This vmlinux holds just the type information from which the module's is made.
	cp "$headers/.config" "$headers/Module.symvers" "$headers/vmlinux" "$dir"
	cp "$headers/.config" "$dir/config.debian"
	echo "+${KERNEL#*+}" >"$dir/localversion"
	rm -rf "$debs"
	touch "$dir/unpacked"
}

prepare() {
	fetch # At once if set-up has done so while the build root was made.
	"$SRC/scripts/chroot.sh" make -s -C "$dir" CC="$KERNEL_CC" olddefconfig
	# Options may drop out only with a tool that is older than Debian's builder.
	if diff "$dir/config.debian" "$dir/.config" | grep -E '^> CONFIG_'; then
		die "the kernel's configuration changed on the way" \
			"the build root does not match kernel $KERNEL"
	fi
	"$SRC/scripts/chroot.sh" make -C "$dir" CC="$KERNEL_CC" -j"$(nproc)" \
		prepare modules_prepare
	[[ $(<"$dir/include/config/kernel.release") == "$KERNEL" ]] ||
		die "the source is not of release $KERNEL" "remove $KERNEL_FILE and try again"
}

"$command"
