#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: test.sh [host|guest [FILTER]|debug [FILTER]]
#
# Runs the tests (all, or one kind; debug: those of the guest, on the debug kernel)
# and ends with the line 'N passed, N failed'.
# Fails if a test fails, if none ran, or if the guest's kernel reported a bug.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

kind=${1:-all}
filter=${2:-}
passed=0
failed=0
target=$CACHE/target
export CARGO_TARGET_DIR

# run NAME COMMAND...: a test program; adds up what its result lines say.  If it
# fails in another way than by a counted test, that is one more failure.
run() {
	local name=$1 output rc=0 ok bad
	shift
	output=$CACHE/log/${name// /-}-$(key "$SRC").log
	say "$name"
	"$@" 2>&1 | tee "$output" || rc=$?
	read -r ok bad < <(sed -nE 's/.*test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' \
		"$output" | awk '{ ok += $1; bad += $2 } END { print ok + 0, bad + 0 }')
	if ((rc != 0 && bad == 0)); then
		echo "error: $name: failed with status $rc, see above" >&2
		bad=1
	fi
	((passed += ok, failed += bad)) || :
	if ((ok + bad == 0)); then
		echo "error: $name: no test was run" >&2
		failed=1
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

# guest_tests [--debug]: the time limits are for emulation.
guest_tests() {
	local name names tests profile=dev tools=() environment=() options=(--timeout 2700)
	if [[ ${1:-} == --debug ]]; then
		: "${RUAUFS_TEST_TIMEOUT:=1200}"
		options=(--debug --timeout 14400 --log "$CACHE/log/kernel-debug-$(key "$SRC").log")
	fi
	# A long run: of any length, and optimized.
	[[ -z ${STEPS:-} ]] || profile=soak
	[[ -z ${STEPS:-} ]] || options=("${options[@]//2700/86400}")
	CARGO_TARGET_DIR=$target/guest-$(key "$SRC")
	step "build the guest tests" "$SRC/scripts/chroot.sh" cargo build --locked \
		--profile "$profile" --manifest-path "$SRC/tests/guest/Cargo.toml"
	tests=$CARGO_TARGET_DIR/${profile/dev/debug}/ruaufs-guest-tests
	names=$("$SRC/scripts/chroot.sh" "$tests" --list ${filter:+"$filter"})
	if [[ $'\n'$names == *$'\n'tools_* ]]; then # No other test needs them.
		tools=(--file "$("$SRC/scripts/build-tools.sh")/bin/ruaufs")
	fi
	# See tests/guest/src/main.rs.
	for name in SEED STEPS CASE SOAK FUZZ CUTS MINUTES RUAUFS_TEST_TIMEOUT; do
		[[ -z ${!name:-} ]] || environment+=(--env "$name=${!name}")
	done
	run "guest tests" "$SRC/scripts/vm.sh" "${options[@]}" "${environment[@]}" \
		--file "$tests" "${tools[@]}" \
		--file "$SRC/scripts/guest/run-tests" --file "$SRC/scripts/guest/check-leaks" \
		-- /ruaufs/run-tests ${filter:+"$filter"}
}

mkdir -p "$CACHE/log"
start=$SECONDS
case $kind in
all)
	step "layers" "$SRC/scripts/check-layers.sh"
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
