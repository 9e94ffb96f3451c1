# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Shared by all scripts, which source it first: messages, timed steps, the cache
# and its locks, the names of what is cached.
set -euo pipefail

SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ruaufs
# shellcheck source=scripts/versions.sh
. "$SRC/scripts/versions.sh"

# --- messages ---------------------------------------------------------------

say() { printf '==> %s\n' "$*"; }

# die WHAT [ADVICE...]: say what failed and, line by line, what to do about it.
die() {
	printf 'error: %s\n' "$1" >&2
	shift
	(($# == 0)) || printf '       %s\n' "$@" >&2
	exit 1
}

# step TITLE COMMAND...: run COMMAND with its output in a log, showing that it
# goes on and how long it took.  $ADVICE is printed when it fails.
#
# COMMAND is run in the foreground (so that Ctrl-C reaches it) and outside any
# condition (or `set -e` would not hold in it).
step() {
	local title=$1 final log start=$SECONDS ticker rc
	shift
	mkdir -p "$CACHE/log"
	final=$CACHE/log/${title//[^a-zA-Z0-9.]/-}.log
	log=$final.$BASHPID # Others may be at the same step.
	say "$title"
	: >"$log"
	(
		trap 'kill "$pause" 2>/dev/null; exit' TERM
		while :; do
			sleep 15 >/dev/null 2>&1 &
			pause=$!
			wait "$pause"
			printf '    %s: %d s, %s\n' "$title" $((SECONDS - start)) \
				"$(tail -n 1 "$log" | tr '\r' '\n' | tail -n 1 | cut -c1-100)"
		done
	) </dev/null &
	ticker=$!
	set +e
	(
		set -e
		"$@"
	) >"$log" 2>&1 </dev/null
	rc=$?
	kill "$ticker" 2>/dev/null
	wait "$ticker" 2>/dev/null
	set -e
	mv "$log" "$final"
	if ((rc != 0)); then
		tail -n 25 "$final" | sed 's/^/    | /' >&2
		die "$title: failed with status $rc" "the whole output: $final" \
			"${ADVICE:-run the same command again to go on from here}"
	fi
	say "$title: done in $((SECONDS - start)) s"
}

# side_by_side COMMAND...: run commands at the same time, each one word with its arguments
# behind blanks; if one fails, end the others.  Each gets a process group, so that all it
# started can be ended.
side_by_side() {
	local command pids=() rc=0
	set -m
	for command in "$@"; do
		# shellcheck disable=SC2086 # Words.
		$command &
		pids+=($!)
	done
	set +m
	# shellcheck disable=SC2064 # The process ids of now.
	trap "kill -- ${pids[*]/#/-} 2>/dev/null" EXIT
	for command in "$@"; do
		((rc)) || wait -n || rc=$?
	done
	((rc == 0)) || exit "$rc"
	trap - EXIT
}

# need_disk GB: fails where less is free below the cache.
need_disk() {
	local free
	mkdir -p "$CACHE"
	free=$(df --output=avail -BG "$CACHE" | tail -n 1 | tr -dc 0-9)
	((free >= $1)) ||
		die "too little disk: $free GB free below $CACHE, $1 GB needed" \
			"free some, or set XDG_CACHE_HOME to a directory on a larger disk"
}

# What must not be in a kernel's log.  A stock boot prints none of it.
KERNEL_REPORTS='\bBUG\b|WARNING:|Oops|Kernel panic|Call Trace|general protection|invalid opcode'
KERNEL_REPORTS+='|unable to handle|possible (circular|recursive|irq)|suspicious RCU|bad unlock'
KERNEL_REPORTS+='|held lock freed|still held when returning|INFO: (task|rcu|possible)|rcu: INFO'
KERNEL_REPORTS+='|detected stall|soft lockup|hard LOCKUP|blocked for more than|still in use'
KERNEL_REPORTS+='|KASAN|KCSAN|KFENCE:|UBSAN|ODEBUG|refcount_t:'
KERNEL_REPORTS+='|(list_add|list_del|slab|memory) corruption|Poison overwritten|Objects remaining'
KERNEL_REPORTS+='|VFS: Busy inodes|rust_kernel: panicked|scheduling while atomic|sleeping function'

# --- the cache --------------------------------------------------------------

# key WORD...: a short hash of the words.
key() { printf '%s\n' "$@" | sha256sum | cut -c1-12; }

# with_lock NAME COMMAND...: one at a time, among all checkouts.
with_lock() {
	local name=$1 fd
	shift
	mkdir -p "$CACHE/lock"
	exec {fd}>"$CACHE/lock/$name"
	if ! flock -n "$fd"; then
		say "waiting: another run is busy with $name"
		flock "$fd"
	fi
	"$@"
	exec {fd}>&-
}

# cached PATH TITLE SCRIPT: make PATH by `SCRIPT PATH.partial`, unless it is
# there.  The rename comes last: what has the final name is complete.
cached() {
	[[ -e $1 ]] || with_lock "$(basename "$1")" make_cached "$@"
}

make_cached() {
	local path=$1 title=$2
	shift 2
	[[ ! -e $path ]] || return 0 # The holder of the lock made it.
	step "$title" "$@" "$path.partial"
	mv "$path.partial" "$path"
}

# script_key SCRIPT WORD...: key of what SCRIPT makes from the words.
script_key() {
	local script=$SRC/scripts/$1
	shift
	key "$(sha256sum <"$script")" "$SUITE" "$@"
}

BUILD_ROOT=$CACHE/build-root-$(script_key make-root.sh "${BUILD_PACKAGES[@]}")
PACKAGING_ROOT=$CACHE/packaging-root-$(script_key make-root.sh "${PACKAGING_PACKAGES[@]}")

# Held while objects in this checkout are made or taken.
BUILD_LOCK=build-$(key "$SRC")
# Where the module for the debug kernel is built: a copy of this checkout's rust/.
DEBUG_BUILD=$CACHE/debug-$(key "$SRC")
DEBUG_LOCK=debug-$(key "$SRC")

# The kernel's release is known once set-up has looked into the index.
KERNEL_FILE=$CACHE/kernel-$KERNEL_SERIES-$KERNEL_FLAVOUR

# name_kernel RELEASE: set the names of all that depends on the kernel.
name_kernel() {
	KERNEL=$1
	[[ ! $KERNEL =~ ^[0-9]+\.[0-9]+ ]] || KERNEL_SERIES=${BASH_REMATCH[0]}
	KERNEL_IMAGE=$CACHE/kernel-image-$KERNEL-$(script_key make-kernel-image.sh)
	KERNEL_TREE=$CACHE/kernel-tree-$KERNEL-$(script_key make-kernel-tree.sh \
		"$BUILD_ROOT" "$KERNEL_CC")
	DEBUG_KERNEL=$CACHE/kernel-debug-$KERNEL-$(script_key make-debug-kernel.sh \
		"$BUILD_ROOT" "$(cat "$SRC/scripts/debug.config")")
	GUEST=$CACHE/guest-$KERNEL-$(script_key make-guest.sh "$KERNEL_IMAGE" \
		"$(cat "$SRC"/scripts/make-root.sh "$SRC"/scripts/guest/initramfs-init)" \
		"${GUEST_PACKAGES[@]}" / "${DEMO_PACKAGES[@]}")
	PROGRAMS=$CACHE/programs-$(script_key make-programs.sh \
		"$(cat "$SRC"/scripts/make-root.sh)" "${PROGRAM_PACKAGES[@]}" \
		"${DEMO_PACKAGES[@]}" "$FSX_VERSION" "$C_PROJECT" "${STORAGE_PACKAGES[@]}")
}

if [[ -n ${RUAUFS_KERNEL:-} ]]; then
	name_kernel "$RUAUFS_KERNEL"
elif [[ -s $KERNEL_FILE ]]; then
	name_kernel "$(<"$KERNEL_FILE")"
else
	name_kernel unknown
fi
