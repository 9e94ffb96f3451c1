#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: run.sh
#
# Builds, boots, shows the main job in the guest; on a terminal a shell follows.
# UNION=overlay shows the same with the kernel's overlayfs, to compare.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

step "build the module" "$SRC/scripts/build.sh"
demo=(--env "UNION=${UNION:-ruaufs}" --file "$SRC/tests/demo/run-demo.sh" --file "$SRC/tests/demo/hello.c")
if [[ -t 0 && -t 1 ]]; then
	say "boot the guest; its shell comes after the demonstration"
	exec "$SRC/scripts/vm.sh" --interactive "${demo[@]}" -- /ruaufs/run-demo.sh --shell
fi
say "boot the guest"
exec "$SRC/scripts/vm.sh" --timeout 900 "${demo[@]}" -- /ruaufs/run-demo.sh
