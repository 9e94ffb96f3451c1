#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-kdir.sh KDIR
#
# Says, in one line each, what keeps `make` from building the module against the
# kernel build tree KDIR, and what to install or do.  Fails if anything does.
#
# $RUAUFS_METADATA=made: the caller makes the Rust metadata itself if there are none.
#
# Plain sh, and nothing of lib.sh: it runs on the machines of users, not in the
# build root.
set -u

# The kernel series that the sources fit.
SERIES='7.2 7.3'

kdir=$1
failed=0

# problem WHAT ADVICE: one line on standard error.
problem() {
	printf 'error: %s: %s\n' "$1" "$2" >&2
	failed=1
}

# config NAME: the value of CONFIG_NAME of the tree.
config() {
	sed -n "s/^CONFIG_$1=//p" "$kdir/include/config/auto.conf" 2>/dev/null |
		sed 's/^"\(.*\)"$/\1/'
}

# version COMMAND: the first version number that it prints.
version() {
	"$1" --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1
}

if [ ! -e "$kdir/Makefile" ]; then
	problem "there is no kernel build tree in $kdir" \
		"install the headers of your kernel (on Debian linux-headers-$(uname -r)), or name a tree: make KDIR=..."
	exit 1
fi
if [ ! -e "$kdir/include/config/auto.conf" ]; then
	problem "$kdir is not configured" "make -C $kdir olddefconfig prepare"
	exit 1
fi

release=$(cat "$kdir/include/config/kernel.release" 2>/dev/null)
case " $SERIES " in
*" $(printf %s "$release" | grep -oE '^[0-9]+\.[0-9]+') "*) ;;
*) problem "$kdir is of Linux ${release:-(unknown)}" "this version of ruaufs is for Linux $SERIES" ;;
esac

if [ "$(config RUST)" != y ]; then
	problem "the kernel of $kdir is built without Rust (CONFIG_RUST)" \
		"use a kernel that has it, such as those of Debian's backports"
	exit 1 # The rest would only repeat it.
fi
[ -e "$kdir/rust/libkernel.rmeta" ] || [ "${RUAUFS_METADATA:-}" = made ] ||
	problem "$kdir carries no Rust metadata (rust/libkernel.rmeta)" \
		"Debian's headers do not ship it: use 'make build', which prepares a tree, or name one: make KDIR=..."

rustc=${RUSTC:-rustc}
wanted=$(config RUSTC_VERSION_TEXT | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)
if ! command -v "$rustc" >/dev/null; then
	problem "there is no $rustc" "install rustc $wanted (package rustc), with which the kernel was built"
elif [ "$(version "$rustc")" != "$wanted" ]; then
	problem "$rustc is version $(version "$rustc")" \
		"the kernel was built with rustc $wanted, and metadata fit one version only: make RUSTC=..."
fi

bindgen=${BINDGEN:-bindgen}
if ! command -v "$bindgen" >/dev/null; then
	problem "there is no $bindgen" "install it (package bindgen)"
else
	# It finds libclang when it reads a header.
	header=$(mktemp --suffix=.h) || exit 1
	said=$("$bindgen" --formatter=none "$header" 2>&1 >/dev/null) || case $said in
	*libclang*) problem "bindgen finds no libclang" "install it (package libclang-dev)" ;;
	*) problem "bindgen does not work" "${said:-it says nothing}" ;;
	esac
	rm -f "$header"
fi

# Its first word is the command, as in "x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0".
text=$(config CC_VERSION_TEXT)
cc=${CC:-${text%% *}}
if ! command -v "$cc" >/dev/null; then
	problem "there is no $cc" "install the compiler that built the kernel ($text), or name one: make CC=..."
fi

exit "$failed"
