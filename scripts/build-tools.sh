#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: build-tools.sh [--here]
#
# Builds the user-space tools with their manuals and shell completion, and prints
# where: bin/ruaufs (static, so that it runs anywhere, in an initramfs too), man/,
# completions/.  --here: with this machine's cargo instead of the build root's.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

in_root=("$SRC/scripts/chroot.sh")
[[ ${1:-} != --here ]] || in_root=()
target=x86_64-unknown-linux-gnu
export CARGO_TARGET_DIR
CARGO_TARGET_DIR=$CACHE/target/tools-$(key "$SRC" "${in_root[@]}")
out=$CARGO_TARGET_DIR/tools

build() {
	# With a target of their own the flags are not those of build scripts and macros.
	"${in_root[@]}" cargo build --release --locked --manifest-path "$SRC/tools/Cargo.toml" \
		--target $target \
		--config "target.$target.rustflags = ['-C', 'target-feature=+crt-static']"
	rm -rf "$out.new"
	mkdir -p "$out.new/bin"
	cp "$CARGO_TARGET_DIR/$target/release/ruaufs" "$out.new/bin/"
	"$CARGO_TARGET_DIR/$target/release/ruaufs-manuals" "$out.new"
	rm -rf "$out"
	mv "$out.new" "$out"
}

step "build the tools" build >&2
echo "$out"
