#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: [KERNELS='RELEASE...'] test-kernels.sh [FILTER]
#
# Builds the module for each kernel, and runs the guest tests whose names contain FILTER
# (default: model::behaves) there.  KERNELS: releases, or series (7.2: its newest release of the
# default flavour); by default the newest release of each series and flavour that is supported.
# Ends with a line for each kernel, and 'N passed, N failed' of all.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

filter=${1:-model::behaves}
output=$CACHE/log/test-kernels-$(key "$SRC").log
passed=0
failed=0

# newest SERIES FLAVOUR: names that release.
newest() {
	newest_kernel "$1" "$2" ||
		die "$SUITE-backports has no kernel $1.*+$2" "name others: KERNELS=..."
}

# The kernels that are asked for, one a line.
chosen() {
	local word series flavour
	backports apt-get -q -o APT::Update::Error-Mode=any update >&2
	for word in ${KERNELS:-}; do
		if [[ $word =~ ^[0-9]+\.[0-9]+$ ]]; then
			newest "$word" "$KERNEL_FLAVOUR"
		else
			echo "$word"
		fi
	done
	[[ -z ${KERNELS:-} ]] || return 0
	for series in "${KERNEL_SERIES_ALL[@]}"; do
		for flavour in "${KERNEL_FLAVOURS[@]}"; do
			newest "$series" "$flavour"
		done
	done
}

# one RELEASE: set up, build and test; adds to the counts.
one() {
	local ok=0 bad=0
	say "kernel $1"
	if RUAUFS_KERNEL=$1 "$SRC/scripts/setup.sh" &&
		RUAUFS_KERNEL=$1 "$SRC/scripts/test.sh" guest "$filter" | tee "$output"; then
		:
	else
		bad=1
	fi
	read -r ok bad < <(sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$output" |
		grep . || echo "0 $bad")
	summary+=("$1: $ok passed, $bad failed")
	((passed += ok, failed += bad)) || :
}

listing=$(chosen)
mapfile -t kernels <<<"$listing"
summary=()
for kernel in "${kernels[@]}"; do
	: >"$output"
	one "$kernel"
done
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
