#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: debug-selftest.sh [BUG...]
#
# Sees that the debug kernel reports bugs and that a run with a report fails: for
# each bug of tests/debug, or those named, boots, plants it, and looks at what
# vm.sh says.  Ends with the line 'N passed, N failed'.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# What the report of each must say.  The first is no bug and must not be one.
declare -A REPORTS=(
	[none]=''
	[leak]='error: kmemleak: 1 objects'
	[use-after-free]='KASAN: slab-use-after-free'
	[out-of-bounds]='KASAN: slab-out-of-bounds'
	[overflow]='UBSAN: shift-out-of-bounds'
	[inversion]='possible circular locking dependency'
	[sleep-in-atomic]='BUG: scheduling while atomic|sleeping function called from invalid context'
	[lost-lock]='lock held when returning to user space'
	[bad-list]='list_add (corruption|double add)'
	[hang]='blocked for more than'
)
ORDER=(none leak use-after-free out-of-bounds overflow inversion sleep-in-atomic lost-lock
	bad-list hang)

dir=$CACHE/debug-planted-$(key "$SRC")
passed=0
failed=0

build() {
	mkdir -p "$dir"
	cp "$SRC"/tests/debug/* "$dir/"
	"$SRC/scripts/chroot.sh" make -s -C "$DEBUG_KERNEL" LLVM=1 M="$dir" modules
}

# plant BUG: prints what vm.sh says, and gives its status.
plant() {
	# shellcheck disable=SC2016 # Expanded in the guest.
	"$SRC/scripts/vm.sh" --debug --no-module --timeout 600 --log "$dir/kernel.log" \
		--file "$dir/ruaufs_planted.ko" --file "$SRC/scripts/guest/check-leaks" \
		-- bash -c '
			echo 10 >/proc/sys/kernel/hung_task_timeout_secs
			/ruaufs/check-leaks --forget
			insmod /ruaufs/ruaufs_planted.ko bug="$0" || exit
			/ruaufs/check-leaks' "$1" 2>&1
}

"$SRC/scripts/build-debug.sh"
step "build the module with planted bugs" build
if (($#)); then
	ORDER=("$@")
fi
for bug in "${ORDER[@]}"; do
	rc=0
	said=$(plant "$bug") || rc=$?
	case $bug in
	none) ((rc == 0)) && good=yes || good= ;;
	*) ((rc != 0)) && grep -qE "${REPORTS[$bug]}" <<<"$said" && good=yes || good= ;;
	esac
	if [[ -n $good ]]; then
		echo "planted: $bug: ok"
		((++passed))
	else
		printf 'planted: %s: FAILED, status %d\n%s\n' "$bug" "$rc" "$said"
		((++failed))
	fi
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
