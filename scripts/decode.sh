#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: decode.sh MODULE <LOG
#
# Makes a kernel's log readable: Rust names as they are in the source and, for a
# MODULE with debug information, the lines to which frames in it belong (innermost
# first where functions were inlined).
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
in_root=("$SRC/scripts/chroot.sh")

module=$1
work=$(mktemp -d "$CACHE/decode.XXXXXX")
trap 'rm -rf "$work"' EXIT
cat >"$work/log"

# Frames as NAME+0xOFFSET; of what was called, the address is that of the return.
grep -oE '[A-Za-z0-9_.]+\+0x[0-9a-f]+/0x[0-9a-f]+ \[ruaufs\]' "$work/log" |
	cut -d/ -f1 | sort -u >"$work/frames" || :
while IFS=+ read -r name offset; do
	printf '%s+%#x\n' "$name" $((offset > 0 ? offset - 1 : 0))
done <"$work/frames" >"$work/addresses"
"${in_root[@]}" llvm-symbolizer --obj="$module" --functions=none --inlines \
	<"$work/addresses" >"$work/lines"
# One line for each frame: its places, joined.  A blank line ends a frame's.
sed -E 's|^.*/rust/|rust/|; s|:[0-9]+$||' "$work/lines" |
	awk -v RS= -F '\n' '{
		for (i = 1; i <= NF; i++) if ($i !~ /^\?/) printf " %s", $i
		print ""
	}' |
	paste "$work/frames" - >"$work/places"
awk -F '\t' '
	FILENAME == ARGV[1] { at[$1] = $2; next }
	match($0, /[A-Za-z0-9_.]+\+0x[0-9a-f]+\/0x[0-9a-f]+ \[ruaufs\]/) {
		frame = substr($0, RSTART, RLENGTH)
		sub("/.*", "", frame)
		$0 = $0 at[frame]
	}
	{ print }' "$work/places" "$work/log" | "${in_root[@]}" llvm-cxxfilt
