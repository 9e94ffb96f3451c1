#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-layers.sh
#
# Checks by text what the compiler cannot check of the layers (see
# Documentation/ruaufs/architecture.rst): fs knows nothing of branches, union and
# logic hold nothing unsafe, logic calls no kernel, one file knows the names of marks.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$SRC/rust"
failed=0

# layer NAME: the source files of a layer.  What stands in for the kernel is none of it.
layer() {
	[[ ! -e $1.rs ]] || echo "$1.rs"
	[[ ! -d $1 ]] || find "$1" -path logic/env -prune -o -name '*.rs' -print | sort
}

# forbid LAYER WHY REGEX [EXCEPT-FILE]: no code line may match; comments may.
forbid() {
	local file
	while read -r file; do
		[[ $file != "${4:-}" ]] || continue
		sed -E 's,(^|[^:"])//.*,\1,' "$file" | grep -nE -- "$3" |
			sed "s,^,rust/$file:," || continue
		echo "error: layer $1: $2"
		failed=1
	done < <(layer "$1")
}

for name in union logic; do
	while read -r file; do
		grep -qx '#!\[forbid(unsafe_code)\]' "$file" || {
			echo "error: rust/$file: has no #![forbid(unsafe_code)]"
			failed=1
		}
	done < <(layer $name)
	forbid $name "raw C belongs into fs" '\bbindings\b|\bas \*(mut|const)\b|extern "C"|\bcontainer_of\b'
done
# It is a crate of its own, too: what is outside has other names there, or none.
forbid logic "names nothing outside but by env" \
	'\bcfg\(CONFIG_RUST\)|\bkernel::|\bcrate::|\bmacro_use\b|\bextern crate\b|\b(alloc|std)::' logic/env.rs
forbid compat "knows nothing of the layers above" '\b(crate|super)::(fs|union|logic)\b'
for name in fs union logic; do
	forbid $name "differences between kernels belong into compat" '\bcfg.*\bruaufs_'
done
forbid fs "knows nothing of the layers above" '\b(crate|super)::(union|logic)\b|\b(union|logic)::'

# How branches store whiteouts and opaque marks is said once; comments count, too.
marks=logic/marks/aufs.rs
if grep -rnF '.wh.' --include='*.rs' --include='*.[ch]' . | grep -v "^./$marks:"; then
	echo "error: only rust/$marks knows reserved names; union/branches/whiteout.rs is to be asked"
	failed=1
fi

((failed == 0)) || exit 1
