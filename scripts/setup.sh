#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: setup.sh
#
# Makes, once, all that build and guest need: host packages, the build root, the
# kernel tree and the guest image.  With all in the cache it takes no time and no
# network.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

NEEDED_GB=7

check_machine() {
	local system
	system=$(sed -nE 's/^(ID|VERSION_ID)="?([^"]*)"?$/\1=\2/p' /etc/os-release | sort | xargs)
	[[ $system == "ID=debian VERSION_ID=1"[23] ]] ||
		die "this set-up knows Debian 12 and 13, not '$system'" \
			"use a Debian machine or container; plain 'make KDIR=...' works anywhere"
	[[ $(uname -m) == x86_64 ]] || die "this set-up is for x86-64, not $(uname -m)"
	((EUID == 0)) || die "set-up must run as root: it makes Debian trees" \
		"run the same command as root (sudo, or a container)"
}

host_packages() {
	local entry missing=()
	for entry in "${HOST_COMMANDS[@]}"; do
		command -v "${entry%%=*}" >/dev/null || missing+=("${entry#*=}")
	done
	compgen -G "/usr/share/keyrings/debian-archive-$SUITE-*" >/dev/null ||
		missing+=(debian-archive-keyring)
	((${#missing[@]})) || return 0
	ADVICE="look at this machine's network and apt sources, then run again" \
		step "install on this machine: ${missing[*]}" \
		with_lock host-packages apt_install "${missing[@]}"
}

apt_install() {
	apt-get -q update
	DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 install "$@"
}

# Finds the newest release of the series, once; it holds until KERNEL_FILE is removed.
resolve_kernel() {
	local newest
	backports apt-get -q -o APT::Update::Error-Mode=any update
	newest=$(newest_kernel "$KERNEL_SERIES" "$KERNEL_FLAVOUR") ||
		die "$SUITE-backports has no kernel $KERNEL_SERIES.*+$KERNEL_FLAVOUR" \
			"its newest: $(backports apt-cache pkgnames linux-binary- | sort -V | tail -n 1)" \
			"set KERNEL_SERIES in scripts/versions.sh to that series"
	echo "$newest" >"$KERNEL_FILE.partial"
	mv "$KERNEL_FILE.partial" "$KERNEL_FILE"
}

build_root() {
	ADVICE=$network cached "$BUILD_ROOT" "make the build root (Debian $SUITE)" \
		"$SRC/scripts/make-root.sh" "${BUILD_PACKAGES[*]}"
}

fetch_kernel() {
	ADVICE=$moved cached "$KERNEL_IMAGE" "fetch kernel $KERNEL" \
		"$SRC/scripts/make-kernel-image.sh"
	[[ -e $KERNEL_TREE ]] || ADVICE=$moved with_lock fetch-tree \
		step "fetch and unpack the source of $KERNEL" \
		"$SRC/scripts/make-kernel-tree.sh" fetch "$KERNEL_TREE.partial"
}

kernel_tree() {
	cached "$KERNEL_TREE" "prepare the kernel tree (Rust metadata)" \
		"$SRC/scripts/make-kernel-tree.sh" prepare
}

guest_image() {
	ADVICE=$network cached "$GUEST" "make the guest image" "$SRC/scripts/make-guest.sh"
}

complete() {
	[[ $KERNEL != unknown && -e $BUILD_ROOT && -e $KERNEL_IMAGE &&
		-e $KERNEL_TREE && -e $GUEST ]]
}

# Entries of older recipes, packages and kernels are large.
prune() {
	find "$CACHE" -maxdepth 1 -type d -mtime +7 \( -name 'build-root-*' \
		-o -name 'packaging-root-*' -o -name 'headers-*' -o -name 'module-*' -o -name 'stock-*' \
		-o -name 'kernel-*' -o -name 'guest-*' -o -name 'programs-*' -o -name 'lint-*' -o -name 'debug-*' \) -exec rm -rf {} +
}

network="if this is the network: packages come from the mirror of this machine's apt
       sources, by apt's own settings; run again and it goes on from here"
moved="if the package is gone from the mirror: remove $KERNEL_FILE
       and run again, which takes the newest release; else look at the network"

check_machine
mkdir -p "$CACHE"
host_packages
if complete; then
	touch "$BUILD_ROOT" "$KERNEL_IMAGE" "$KERNEL_TREE" "$GUEST" # Used today: see prune().
	exit
fi

start=$SECONDS
need_disk $NEEDED_GB
if [[ -z ${RUAUFS_KERNEL:-} ]]; then
	ADVICE=$network with_lock resolve step "look for the newest $KERNEL_SERIES kernel" resolve_kernel
	name_kernel "$(<"$KERNEL_FILE")"
	export RUAUFS_KERNEL=$KERNEL # All steps below speak of the same one.
else
	ADVICE=$network with_lock resolve step "update the index of $SUITE-backports" backports apt-get -q -o APT::Update::Error-Mode=any update
fi
say "kernel: $KERNEL"

[[ -e $BUILD_ROOT && -e $KERNEL_IMAGE ]] || side_by_side build_root fetch_kernel
side_by_side kernel_tree guest_image
prune
say "set-up: done in $((SECONDS - start)) s, in $CACHE"
