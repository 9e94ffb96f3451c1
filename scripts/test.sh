#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: test.sh [host|guest [FILTER]|debug [FILTER]]
#
# Runs the tests (all, or one kind; debug: those of the guest, on the debug kernel)
# and ends with the line 'N passed, N failed'.  All: with lint.sh, which counts as one test.
# Fails if a test fails, if none ran, or if the guest's kernel reported a bug.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

kind=${1:-all}
filter=${2:-}
passed=0
failed=0
target=$CACHE/target
export CARGO_TARGET_DIR

# run NAME COMMAND...: a test program.
run() {
	local name=$1 output rc=0
	shift
	output=$CACHE/log/${name// /-}-$(key "$SRC").log
	say "$name"
	"$@" 2>&1 | tee "$output" || rc=$?
	count "$name" "$output" "$rc"
}

# count NAME OUTPUT STATUS: add up what the result lines of a test program say.  If it
# failed in another way than by a counted test, that is one more failure.
count() {
	local ok bad
	read -r ok bad < <(sed -nE 's/.*test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' \
		"$2" | awk '{ ok += $1; bad += $2 } END { print ok + 0, bad + 0 }')
	if (($3 != 0 && bad == 0)); then
		echo "error: $1: failed with status $3, see above" >&2
		bad=1
	fi
	((passed += ok, failed += bad)) || :
	if ((ok + bad == 0)); then
		echo "error: $1: no test was run" >&2
		failed=1
	fi
}

# A defect that lint finds is a failure, but no reason not to run the tests.
lint() {
	if "$SRC/scripts/lint.sh"; then
		((passed += 1))
	else
		echo "error: make lint fails, see above" >&2
		((failed += 1))
	fi
}

host_tests() {
	CARGO_TARGET_DIR=$target/host-$(key "$SRC")
	run "host tests" "$SRC/scripts/chroot.sh" \
		cargo test --locked --manifest-path "$SRC/tests/host/Cargo.toml"
	CARGO_TARGET_DIR=$target/tools-tests-$(key "$SRC")
	run "tests of the tools" "$SRC/scripts/chroot.sh" \
		cargo test --locked --manifest-path "$SRC/tools/Cargo.toml"
}

# guests COUNT GB: how many guests to run COUNT tests in, side by side: one for each core,
# if there is memory for it and enough to do; or $GUESTS.
guests() {
	local free number
	free=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
	number=$(printf '%s\n' "$(nproc)" $((free / ($2 + 1))) $(($1 / 20)) | sort -n | head -n 1)
	number=${GUESTS:-$((number > 0 ? number : 1))}
	[[ $number =~ ^[1-9][0-9]*$ ]] || die "GUESTS=$number is not a number of guests" "try GUESTS=1"
	echo $((number < $1 ? number : $1))
}

# guest NUMBER: one part of the tests in a guest; leaves its status beside its output.
guest() {
	local rc=0
	"${guest[@]}" --log "$part-$1-kernel.log" --file "$part-$1-names" \
		--env "RUAUFS_TESTS=/ruaufs/$(basename "$part-$1-names")" \
		-- /ruaufs/run-tests 2>&1 | sed -u "$([[ $guests == 1 ]] || echo "s/^/$1| /")" |
		tee "$part-$1-output" || rc=$?
	echo "$rc" >"$part-$1-status"
}

# guest_tests [--debug]: the time limits are for emulation.
guest_tests() {
	local name names tests profile=dev options=(--timeout 3600) guest guests memory=2 part
	local listing=()
	part=$CACHE/log/guest-$(key "$SRC")
	if [[ ${1:-} == --debug ]]; then
		: "${RUAUFS_TEST_TIMEOUT:=1200}"
		options=(--debug --timeout 14400)
		memory=4
		listing=(env RUAUFS_DEBUG=1)
		part+=-debug
	fi
	# A long run: of any length, and optimized.
	[[ -z ${STEPS:-} ]] || profile=soak
	[[ -z ${STEPS:-} ]] || options=("${options[@]//3600/86400}")
	CARGO_TARGET_DIR=$target/guest-$(key "$SRC")
	step "build the guest tests" "$SRC/scripts/chroot.sh" cargo build --locked \
		--profile "$profile" --manifest-path "$SRC/tests/guest/Cargo.toml"
	tests=$CARGO_TARGET_DIR/${profile/dev/debug}/ruaufs-guest-tests
	names=$("$SRC/scripts/chroot.sh" "${listing[@]}" "$tests" --list ${filter:+"$filter"})
	[[ -n $names ]] || die "there is no guest test with $filter in its name"
	guest=("$SRC/scripts/vm.sh" "${options[@]}" --file "$tests"
		--file "$SRC/scripts/guest/run-tests" --file "$SRC/scripts/guest/check-leaks")
	# No other test needs them.
	if [[ $'\n'$names == *$'\n'tools_* || $'\n'$names == *$'\n'documents::* ]]; then
		guest+=(--file "$("$SRC/scripts/build-tools.sh")/bin/ruaufs")
	fi
	# See tests/guest/src/main.rs.
	for name in SEED STEPS CASE SOAK FUZZ CUTS MINUTES RUAUFS_TEST_TIMEOUT; do
		[[ -z ${!name:-} ]] || guest+=(--env "$name=${!name}")
	done
	guests=$(guests "$(wc -l <<<"$names")" "$memory")
	say "guest tests: $(wc -l <<<"$names") in $guests guest(s)"
	with_lock "$(basename "$part")" share_out
}

# share_out: run $names in $guests guests, and count.  The files of $part are those of one run.
share_out() {
	local name numbers
	# A test is there once for each layout, and the layouts go to different guests by turns.
	rm -f "$part"-[0-9]*
	awk -v guests="$guests" -v part="$part" '{
		sub(/: test$/, "")
		print >(part "-" (NR + int((NR - 1) / guests)) % guests + 1 "-names")
	}' <<<"$names"
	mapfile -t numbers < <(seq "$guests")
	side_by_side "${numbers[@]/#/guest }"
	for name in "${numbers[@]}"; do
		count "guest tests, guest $name" "$part-$name-output" "$(<"$part-$name-status")"
	done
}

mkdir -p "$CACHE/log"
start=$SECONDS
case $kind in
all)
	lint
	step "build the module" "$SRC/scripts/build.sh"
	host_tests
	guest_tests
	;;
host) host_tests ;;
guest)
	step "build the module" "$SRC/scripts/build.sh"
	guest_tests
	;;
debug)
	"$SRC/scripts/build-debug.sh"
	guest_tests --debug
	;;
*) die "test.sh: unknown kind of tests: $kind" ;;
esac
say "tests: done in $((SECONDS - start)) s"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
