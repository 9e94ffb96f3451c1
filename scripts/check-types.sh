#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-types.sh
#
# Checks that types forbid what Documentation/ruaufs/invariants.rst says: makes
# tests/types/misuse.rs a module of rust/union, where the compiler must give the errors
# that it expects (//~ CODE) and no others, and tests/types/right.rs, which must compile.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

command=$SRC/rust/.ruaufs_main.o.cmd
work=$CACHE/types-$(key "$SRC")

# The command that compiles the module, and the bindings, are those of a build of these sources.
"$SRC/scripts/build.sh"
mkdir -p "$work"
rustc=$(sed -nE 's/^savedcmd_[^ ]+ := //p' "$command" |
	sed -E 's/--emit=dep-info[^ ]*//; s/--emit=obj[^ ]*/--emit=metadata/' |
	sed -E "s,--out-dir [^ ]+,--out-dir $work,")
[[ $rustc == *--emit=metadata* ]] || die "the command in $command is not known"

# compile NAME: the module with tests/types/NAME.rs as a part of union; the errors go to
# NAME.errors, as FILE:LINE:COLUMN: error[CODE]: MESSAGE.
compile() {
	rm -rf "$work/rust"
	mkdir "$work/rust"
	(cd "$SRC/rust" && find . -name '*.rs' ! -name bindings_generated.rs -print0 |
		xargs -0 cp --parents -t "$work/rust")
	cp "$SRC/tests/types/$1.rs" "$work/rust/union/$1.rs"
	printf '\nmod %s;\n' "$1" >>"$work/rust/union.rs"
	(cd "$work" && RUSTC_BOOTSTRAP=1 "$SRC/scripts/chroot.sh" env RUSTC_BOOTSTRAP=1 \
		RUAUFS_OBJ="$SRC/rust" bash -c "$rustc --error-format=short") \
		>"$work/$1.errors" 2>&1
}

# found NAME: the errors that there were in NAME.rs, as LINE CODE.
found() {
	sed -nE "s,^rust/union/$1\.rs:([0-9]+):[0-9]+: error\[(E[0-9]+)\].*,\1 \2,p" \
		"$work/$1.errors" | sort -nu
}

# expected NAME: those that it expects.
expected() {
	grep -noE '//~ E[0-9]+' "$SRC/tests/types/$1.rs" | sed -E 's,:.* , ,'
}

compile right || {
	grep -E ' error(\[|:)' "$work/right.errors" || cat "$work/right.errors"
	die "tests/types/right.rs does not compile"
}
if compile misuse; then
	die "tests/types/misuse.rs compiles"
fi
if grep -E '^[^:]+:[0-9]+:[0-9]+: error' "$work/misuse.errors" |
	grep -v '^rust/union/misuse\.rs:'; then
	die "these errors are not in tests/types/misuse.rs"
fi
diff <(expected misuse) <(found misuse) ||
	die "tests/types/misuse.rs: expected (<) and found (>) errors differ"
say "types forbid $(expected misuse | wc -l) ways of misuse"
