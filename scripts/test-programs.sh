#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: test-programs.sh [FILTER]
#
# Runs well-known programs in unions, and on plain ext4 to tell their own defects from ours;
# those whose names contain FILTER.  Ends with the line 'N passed, N failed'.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

filter=${1:-}
mkdir -p "$CACHE/log"
ADVICE="if this is the network: packages come from the mirror of this machine's apt sources" \
	cached "$PROGRAMS" "make the image with programs" "$SRC/scripts/make-programs.sh"
touch "$PROGRAMS" # Used today: see setup.sh.
step "build the module" "$SRC/scripts/build.sh"

log=$CACHE/log/programs-$(key "$SRC").log
rc=0
"$SRC/scripts/vm.sh" --timeout 5400 --disk "programs=$PROGRAMS/programs.ext4" \
	--disk "control=$PROGRAMS/programs.ext4" \
	--file "$SRC/tests/programs/run-programs" --file "$SRC/tests/programs/programs" \
	-- /ruaufs/run-programs ${filter:+"$filter"} 2>&1 | tee "$log" || rc=$?
read -r passed failed < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" | tail -n 1)
: "${passed:=0}" "${failed:=0}"
if ((rc != 0 && failed == 0)); then
	echo "error: failed with status $rc, see above" >&2
	failed=1
	echo "$passed passed, $failed failed"
fi
((failed == 0 && passed > 0))
