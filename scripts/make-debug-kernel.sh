#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-debug-kernel.sh DIR
#
# Makes DIR a built tree of the stock kernel's source with debug.config: it looks
# for bugs at the price of speed.  Built with clang, which KASAN with Rust needs.
# An interrupted run goes on where it stopped.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

dir=$1

fetch() {
	local debs=$dir/debs
	[[ ! -e $dir/unpacked ]] || return 0
	rm -rf "$dir"
	fetch_backports "$debs" "linux-source-$KERNEL_SERIES=$(kernel_deb_version)"
	dpkg-deb -x "$debs"/*.deb "$debs"
	xz -dc -T0 "$debs/usr/src/linux-source-$KERNEL_SERIES.tar.xz" |
		tar -x -C "$dir" --strip-components=1 --exclude='*/arch/*.dts*' \
			--exclude='*/tools/perf/*' --exclude='*/tools/testing/*' \
			--exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.yaml'
	rm -rf "$debs"
	touch "$dir/unpacked"
}

# The machine may have other work: this is a quarter of an hour.
build() {
	nice -n 10 "$SRC/scripts/chroot.sh" make -C "$dir" LLVM=1 -j"$(nproc)" "$@"
}

# What depends on something that is not there drops out without a word.
configure() {
	local lost
	cp "$SRC/scripts/debug.config" "$dir/"
	build -s KCONFIG_ALLCONFIG=debug.config allnoconfig
	lost=$(grep '^CONFIG_' "$dir/debug.config" | grep -vxFf "$dir/.config") || :
	[[ -z $lost ]] || die "the kernel's configuration lacks what debug.config lists:" \
		"${lost//$'\n'/$'\n'       }" "add what these depend on (make menuconfig shows it)"
}

fetch
configure
build bzImage modules
# Kept: what modules are built against, and the source that reports name.
find "$dir" -name '*.[oa]' -not -path "$dir/scripts/*" -not -path "$dir/tools/*" -delete
rm -rf "$dir"/{vmlinux.unstripped,arch/x86/boot/compressed}
