#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-dist.sh DIR
#
# Makes DIR/ruaufs-VERSION.tar.xz of HEAD: the sources with the crates that the tools need
# (tools/vendor), so that it builds without a network.  The same commit gives the same bytes.
# VERSION is that of check-version.sh; between releases with the commit's time and name.
# Prints the version.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$SRC"

TARGET=x86_64-unknown-linux-gnu

dist_version() {
	local version
	version=$(scripts/check-version.sh)
	if [[ $(git tag --points-at HEAD) != *"v$version"* ]]; then
		version+="~git$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d%H%M%S)"
		version+=".$(git log -1 --format=%h --abbrev=8)"
	fi
	echo "$version"
}

# cargo ARGUMENT...: in the build root.  With a home of its own: cargo would wait for all that
# runs with the common one.
cargo() { scripts/chroot.sh env CARGO_HOME="$work/cargo" cargo "$@"; }

# vendored ARGUMENT...: cargo on the tree alone, in which the crates are.
vendored() {
	local tree=$1
	shift
	cargo "$@" --locked --offline --manifest-path "$tree/Cargo.toml" \
		--config "source.crates-io.replace-with='vendored'" \
		--config "source.vendored.directory='$tree/vendor'"
}

# Crates for other systems are needed by name only: cargo reads their manifests, and no more.
empty_foreign_crates() {
	local dir=$1 crate name used
	used=$(vendored "$dir" tree --workspace --edges normal,build,dev --target $TARGET \
		--prefix none --format '{p}' | awk '{ print $1 }' | sort -u)
	for crate in "$dir"/vendor/*; do
		name=$(sed -n '/^\[package\]/,/^\[/s/^name = "\(.*\)"$/\1/p' "$crate/Cargo.toml")
		! grep -qxF "$name" <<<"$used" || continue
		find "$crate" -mindepth 1 -maxdepth 1 ! -name Cargo.toml ! -name .cargo-checksum.json \
			-exec rm -rf {} +
		mkdir "$crate/src"
		: >"$crate/src/lib.rs"
		# Some manifests name files of which nothing is left.
		sed -i '/^build = /d; /^links = /d; /^readme = /d; /^\[\[\(bin\|test\|bench\|example\)\]\]/,/^$/d' \
			"$crate/Cargo.toml"
		sed -i 's/"files":{.*},"package"/"files":{},"package"/' "$crate/.cargo-checksum.json"
	done
}

make_tree() {
	local tree=$1
	git archive HEAD | tar -x -C "$tree"
	mkdir "$work/cargo"
	[[ ! -e $CACHE/cargo/config.toml ]] || cp "$CACHE/cargo/config.toml" "$work/cargo/"
	cargo vendor --locked --manifest-path "$tree/tools/Cargo.toml" "$tree/tools/vendor" >/dev/null
	empty_foreign_crates "$tree/tools"
	vendored "$tree/tools" metadata --format-version 1 >/dev/null # It is complete.
	scripts/chroot.sh python3 "$tree/debian/crates-copyright.py" "$tree/tools/vendor" \
		>>"$tree/debian/copyright"
}

make_tarball() {
	tar -C "$work" --sort=name --mtime="@$(git log -1 --format=%ct)" --owner=0 --group=0 \
		--numeric-owner --mode=go=rX,u+rw,a-s --format=gnu -c "$name" |
		xz -6 --threads=1 >"$work/tarball"
}

mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(dist_version)
work=$(mktemp -d "$CACHE/dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
name=ruaufs-$version
mkdir "$work/$name"
step "collect sources and crates of $name" make_tree "$work/$name" >&2
step "pack $name.tar.xz" make_tarball >&2
mv "$work/tarball" "$out/$name.tar.xz"
echo "$version"
