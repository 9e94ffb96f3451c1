#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: bench.sh [--quick] [--base CSV] [OPTION...]
#
# Measures file operations on ruaufs, overlayfs and the bare file system in one boot
# of a guest whose clock counts instructions, and leaves tables, CSV and a plot in
# bench-results/.  --quick does less; --base compares with an earlier CSV.  OPTIONs
# are those of `ruaufs-bench run`: --fs, --layers, --only, --options, and --profile, which
# shows where the instructions of an operation are spent instead.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Results go to the file; what is said goes to the terminal too.
progress() {
	local line
	while IFS= read -r line; do
		[[ $line == csv,* ]] || printf '    %4d s: %s\n' $((SECONDS - start)) "$line"
	done
}

# A function, so that an edit of this file during a run does no harm.
main() {
	base=
	name=$(date +%Y%m%d-%H%M%S)-$(git -C "$SRC" describe --always --dirty 2>/dev/null || echo unknown)
	options=()
	while (($#)); do
		case $1 in
		--quick) options+=(--quick); name+=-quick; shift ;;
		--base) base=$2; shift 2 ;;
		*) options+=("$1"); shift ;;
		esac
	done
	if [[ -n $base ]]; then
		base=$(realpath "$base")
		[[ -s $base ]] || die "there is no $base" "BASE is the results.csv of an earlier run"
	fi
	results=$SRC/bench-results/$name
	program=$CACHE/target/bench-$(key "$SRC")
	export CARGO_TARGET_DIR=$program
	program+=/release/ruaufs-bench

	step "build the module" "$SRC/scripts/build.sh"
	step "build the benchmark" "$SRC/scripts/chroot.sh" \
		cargo build --release --locked --manifest-path "$SRC/tests/bench/Cargo.toml"

	mkdir -p "$results"
	say "measure (in $results)"
	start=$SECONDS
	rc=0
	RUAUFS_VM_MEMORY=${RUAUFS_VM_MEMORY:-4G} "$SRC/scripts/vm.sh" --icount --timeout 5400 \
		--log "$results/kernel.log" --file "$program" \
		-- /ruaufs/ruaufs-bench run "${options[@]}" |
		tee "$results/output.txt" | progress || rc=$?
	sed -n 's/^csv,//p' "$results/output.txt" >"$results/results.csv"
	say "measure: done in $((SECONDS - start)) s"
	[[ " ${options[*]} " != *' --profile '* ]] || exit "$rc" # All is said.
	[[ -s $results/results.csv ]] || die "nothing was measured" "see $results/output.txt"

	# The base may be anywhere; the build root sees checkout and cache only.
	[[ -z $base ]] || cp "$base" "$results/base.csv"
	"$SRC/scripts/chroot.sh" "$program" report "$results/results.csv" \
		${base:+--base "$results/base.csv"} --plot "$results/cost.svg" |
		tee "$results/report.txt"
	echo
	say "results are in $results:" "$(cd "$results" && echo ./*)"
	((rc == 0)) || die "the guest failed with status $rc" "see $results/output.txt"
}

main "$@"
exit
