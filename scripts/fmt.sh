#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: fmt.sh [--check]
#
# Formats (or checks) all Rust sources but generated ones, in the kernel's style.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$SRC"
find rust tests tools -name '*.rs' ! -name '*generated*' -print0 |
	xargs -0 scripts/chroot.sh rustfmt --config-path .rustfmt.toml \
		--config skip_children=true "$@"
