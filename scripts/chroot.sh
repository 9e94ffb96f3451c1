#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: chroot.sh COMMAND [ARG...]
#
# Runs COMMAND in the build root (or in the tree $ROOT), in the current directory.  Checkout
# and cache (and the directory $BIND) have the same path inside as outside, so messages and
# recorded paths hold in both.  All mounts are made in a mount name space that ends with the
# command.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

: "${ROOT:=$BUILD_ROOT}"
[[ -e $ROOT ]] || die "there is no build root yet" "run scripts/setup.sh first"

# shellcheck disable=SC2016 # Expanded by the inner shell.
exec unshare --mount bash -euc '
root=$1 src=$2 cache=$3 bind=$4 cwd=$5
shift 5

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
for dir in "$src" "$cache" ${bind:+"$bind"}; do
	mkdir -p "$root$dir"
	mount --bind "$dir" "$root$dir"
done
# Names and certificates are looked up as on this machine.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
	[[ -s $file ]] || continue
	mkdir -p "$root${file%/*}"
	[[ -e $root$file ]] || : >"$root$file"
	mount --bind "$file" "$root$file"
done
# cargo finds the same registry as outside, but keeps its files in the cache.
mkdir -p "$cache/cargo"
for file in "${CARGO_HOME:-$HOME/.cargo}"/config.toml; do
	[[ ! -e $file ]] || cp "$file" "$cache/cargo/"
done

environment=(
	PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$cache/home" LC_ALL=C.UTF-8
	TERM="${TERM:-dumb}" CARGO_HOME="$cache/cargo"
	SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY \
	CARGO_TARGET_DIR WRITE_DOCS RUST_BACKTRACE PROPTEST_CASES; do
	[[ -z ${!name:-} ]] || environment+=("$name=${!name}")
done
mkdir -p "$cache/home"
exec env -i "${environment[@]}" chroot "$root" bash -c "cd \"\$0\" && exec \"\$@\"" "$cwd" "$@"
' chroot.sh "$ROOT" "$SRC" "$CACHE" "${BIND:-}" "$PWD" "$@"
