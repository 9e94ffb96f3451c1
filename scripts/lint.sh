#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: lint.sh [layers|order|docs|version|types|copies|rustfmt|shell|kernel|cargo]
#
# All that is checked without running: layers, order of folders, references of the
# documentation, versions, what types forbid, kernel clippy and C warnings, cargo clippy,
# rustfmt, shellcheck, our copies of kernel settings.  A warning is an error.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
in_root=("$SRC/scripts/chroot.sh")
work=$CACHE/lint-$(key "$SRC")

# A module built with clippy must never be loaded (its code may differ), so it is
# checked in a copy, which also leaves the objects of the checkout alone.
kernel_lints() {
	local helpers=("$SRC"/rust/helpers/*.c)
	helpers=("${helpers[@]#"$SRC/"}")
	mkdir -p "$work"
	"${in_root[@]}" rsync -a --delete --include='/rust/' --include='/rust/**/' \
		--include='*.rs' --include='*.[ch]' --include='Makefile' \
		--include='bindgen_parameters' --include='.*.cmd' --include='*.o' \
		--exclude='*' "$SRC/Makefile" "$SRC/rust" "$work/"
	cp "$SRC/.clippy.toml" "$work/"
	"${in_root[@]}" make -s -C "$KERNEL_TREE" CC="$KERNEL_CC" M="$work" \
		CLIPPY=1 KRUSTFLAGS=-Dwarnings KCFLAGS=-Werror W=1 \
		rust/ruaufs_main.o "${helpers[@]/%.c/.o}"
}

cargo_lints() {
	local crate
	for crate in "$SRC"/rust/logic "$SRC"/tests/{host,guest,bench} "$SRC/tools"; do
		[[ -e $crate/Cargo.toml ]] || continue
		CARGO_TARGET_DIR=$CACHE/target/${crate##*/}-$(key "$SRC") "${in_root[@]}" \
			cargo clippy --quiet --locked --all-targets \
			--manifest-path "$crate/Cargo.toml" -- -D warnings
	done
}

# The kernel's variables are not visible to an external module, so rust/Makefile
# and the two dot files repeat them; they must be moved along with the kernel.  Ours are the
# flags of all kernels.
copies() {
	local skipped='/bindgen_skip_c_flags :=/,/[^\\]$/{s/.*:=//;s/\\$//;p}' missing
	missing=$(comm -23 <(sed -n "$skipped" "$KERNEL_TREE/rust/Makefile" | xargs -n 1 | sort) \
		<(sed -n "$skipped" "$SRC/rust/Makefile" | xargs -n 1 | sort))
	[[ -z $missing ]] || {
		echo "error: rust/Makefile: the kernel's bindgen flags that it lacks:" "$missing"
		return 1
	}
	diff "$KERNEL_TREE/.rustfmt.toml" "$SRC/.rustfmt.toml"
	diff "$KERNEL_TREE/.clippy.toml" "$SRC/.clippy.toml"
	diff <(grep -oE '^config RUAUFS_\w+' "$SRC/Kconfig" | cut -d' ' -f2 | sort) \
		<(grep -oE 'CONFIG_RUAUFS_\w+' "$SRC/rust/Makefile" | cut -d_ -f2- | sort -u)
}

shell_lints() {
	cd "$SRC"
	{
		find .ci/run scripts/guest scripts tests tools -type f \
			\( -name '*.sh' -o -path '.ci/*' -o -path 'scripts/guest/*' \) -print0
		grep -rlZE '^#!/bin/(ba)?sh' debian dkms
	} | sort -zu | xargs -0 "${in_root[@]}" shellcheck -x
}

# check NAME TITLE COMMAND...: one of them, if it is asked for.
check() {
	[[ $only == all || $only == "$1" ]] || return 0
	shift
	step "$@"
}

only=${1:-all}
check layers "layers" "$SRC/scripts/check-layers.sh"
check order "order of the folders" "${in_root[@]}" "$SRC/scripts/check-order.py"
check docs "references of the documentation" "${in_root[@]}" "$SRC/scripts/check-docs.py"
check version "versions" "$SRC/scripts/check-version.sh"
check types "what types forbid" "$SRC/scripts/check-types.sh"
check copies "copies of kernel settings" copies
check rustfmt "rustfmt" "$SRC/scripts/fmt.sh" --check
check shell "shellcheck" shell_lints
check kernel "clippy with the kernel's lints" kernel_lints
check cargo "clippy of the tests and tools" cargo_lints
