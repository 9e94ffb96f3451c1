#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: [DESTDIR=] [prefix=/usr/local] [helperdir=/usr/sbin] install-tools.sh [--here]
#
# Builds and installs the user-space tools.  mount(8) looks for its helpers in /sbin
# only, so they do not follow the prefix.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

: "${DESTDIR:=}" "${prefix:=/usr/local}" "${helperdir:=/usr/sbin}"
from=$("$SRC/scripts/build-tools.sh" "$@")
share=$DESTDIR$prefix/share

install -D -m 755 "$from/bin/ruaufs" "$DESTDIR$prefix/bin/ruaufs"
for name in auplink aubusy auibusy auchk aubrsync aumvdown; do
	ln -sfn ruaufs "$DESTDIR$prefix/bin/$name"
done
mkdir -p "$DESTDIR$helperdir"
for name in {mount,umount}.{ruaufs,aufs}; do
	ln -sfnr "$DESTDIR$prefix/bin/ruaufs" "$DESTDIR$helperdir/$name"
done
for page in "$from"/man/*; do
	install -D -m 644 -t "$share/man/man${page##*.}" "$page"
done
install -D -m 644 -t "$share/bash-completion/completions" "$from"/completions/bash/*
install -D -m 644 -t "$share/zsh/vendor-completions" "$from"/completions/zsh/*
install -D -m 644 -t "$share/fish/vendor_completions.d" "$from"/completions/fish/*
say "installed: the tools in $DESTDIR$prefix, mount helpers in $DESTDIR$helperdir"
