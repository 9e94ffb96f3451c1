#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-root.sh PACKAGES DIR [HOOK]
#
# Makes a Debian tree of $SUITE in DIR with the listed packages; HOOK is a shell
# command to run at the end, with the tree as $1.  What was downloaded is kept in
# DIR.debs until all is done, so that an interrupted run need not fetch it again.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

packages=$1
dir=$2
hook=${3:-}

rm -rf --one-file-system "$dir"
mkdir -p "$dir.debs"
host_apt_settings >"$dir.apt.conf"
mapfile -t sources < <(suite_sources '' updates)

# The mount name space is ours: the bind mount ends with it.
unshare --mount mmdebstrap --mode=root --variant=apt --format=directory \
	--aptopt="$dir.apt.conf" --dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--skip=download/empty,essential/unlink,cleanup/apt/cache \
	--setup-hook="mkdir -p \"\$1/var/cache/apt/archives\" &&
		mount --bind '$dir.debs' \"\$1/var/cache/apt/archives\"" \
	${hook:+--customize-hook="$hook"} --include="${packages// /,}" "$SUITE" "$dir" "${sources[@]}"
rm -rf "$dir.debs" "$dir.apt.conf"
