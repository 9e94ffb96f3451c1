#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: clean.sh [--cache]
#
# Removes what builds left in the checkout or, with --cache, all that is cached.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if [[ ${1:-} == --cache ]]; then
	say "remove $CACHE"
	rm -rf --one-file-system "$CACHE"
	exit
fi
cd "$SRC"
find . rust -maxdepth 1 -type f \( -name '*.o' -o -name '*.ko' -o -name '*.mod' \
	-o -name '*.mod.c' -o -name '.*.cmd' -o -name '.*.d' -o -name '*.rsi' \
	-o -name 'modules.order' -o -name 'Module.symvers' \
	-o -name 'bindings_generated.rs' -o -name 'compat_cfg' -o -name 'rust-project.json' \) -delete
