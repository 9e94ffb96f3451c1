#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-version.sh
#
# Prints the version, which is written in tools/Cargo.toml.  The module, the lock file of
# the tools and the head of CHANGELOG.md must have the same one.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$SRC"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' tools/Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] ||
	die "tools/Cargo.toml: '$version' is no version" "write version = \"MAJOR.MINOR.PATCH\""

failed=0
# same WHERE VERSION
same() {
	[[ $2 == "$version" ]] && return
	echo "error: $1 has version '$2', tools/Cargo.toml has '$version'"
	failed=1
}
same rust/helpers/version.c "$(sed -n 's/^MODULE_VERSION("\(.*\)");$/\1/p' rust/helpers/version.c)"
for crate in ruaufs-tools ruaufs-user; do
	same "tools/Cargo.lock: $crate" \
		"$(sed -n "/^name = \"$crate\"$/{n;s/^version = \"\(.*\)\"$/\1/p}" tools/Cargo.lock)"
done

# The newest section is what is not released yet, or this version.
head=$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)
[[ $head == Unreleased ]] || same "the first section of CHANGELOG.md" "${head%% *}"
((failed == 0))
echo "$version"
