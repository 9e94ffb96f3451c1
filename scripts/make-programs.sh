#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-programs.sh DIR
#
# Makes DIR/programs.ext4: a Debian tree with the programs that `make test-programs` runs, and
# data for them below /work.  It is the lower branch of the unions they run in.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"

dir=$1
root=$dir/root
rm -rf --one-file-system "$dir"
mkdir -p "$dir"

# shellcheck disable=SC2016 # Expanded by mmdebstrap's shell.
"$SRC/scripts/make-root.sh" "${PROGRAM_PACKAGES[*]}" "$root" '
	mkdir -p "$1/work/debs" && cd "$1/work/debs" &&
	APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -o APT::Sandbox::User=root download '"${DEMO_PACKAGES[*]}"
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/etc/resolv.conf"
: >"$root/etc/apt/sources.list" # It installs from files.
mkdir -p "$root"/{ruaufs,outside}

# fsx is in no Debian package.
CARGO_TARGET_DIR=$CACHE/target/programs "$SRC/scripts/chroot.sh" \
	cargo install --locked --version "$FSX_VERSION" --root "$dir/fsx" fsx
cp "$dir/fsx/bin/fsx" "$root/usr/local/bin/"

# The tests of the storage driver need no more than themselves.
"$SRC/scripts/make-root.sh" "${STORAGE_PACKAGES[*]}" "$dir/go"
# shellcheck disable=SC2016 # Expanded in the tree.
chroot "$dir/go" /bin/sh -euc '
	export HOME=/root GOROOT=/usr/lib/go GOPATH=/usr/share/gocode GO111MODULE=off CGO_ENABLED=0
	cd $GOPATH/src/github.com/containers/storage
	go test -c -o /storage-aufs \
		-tags "exclude_graphdriver_btrfs exclude_graphdriver_devicemapper" ./drivers/aufs'
cp "$dir/go/storage-aufs" "$root/usr/local/bin/"
rm -rf --one-file-system "$dir/go"

# A C project with tests of its own, as a git repository.
fetch_source "$dir/source" "$C_PROJECT"
mkdir -p "$dir/project"
tar -C "$dir/project" --strip-components=1 -xf "$dir/source/$C_PROJECT"_*.orig.tar.*
cp -r "$dir/project" "$root/work/project"
chroot "$root" /bin/sh -euc '
	export HOME=/root
	git config --global user.name ruaufs
	git config --global user.email ruaufs@localhost
	git config --global init.defaultBranch main
	git config --global safe.directory "*"
	cd /work/project
	git init -q
	git add -A
	git commit -q -m "As Debian has it"
	git clone -q --bare /work/project /work/project.git
	rm -rf /work/project'

# A tree with all that rsync and tar can carry.
# shellcheck disable=SC2016 # Expanded in the tree.
chroot "$root" /bin/bash -euc '
	mkdir -p /work/tree/{deep/er/still,sticky,setgid,acl,many}
	cd /work/tree
	for n in {1..300}; do echo "file $n" >many/$n; done
	head -c 300000 /dev/urandom >deep/er/random
	truncate -s 5M deep/sparse
	echo data | dd of=deep/sparse bs=1M seek=3 conv=notrunc status=none
	ln many/1 deep/link-1; ln many/1 deep/er/link-2; ln deep/er/random link-3
	ln -s ../many/2 deep/symlink; ln -s nowhere dangling
	mkfifo fifo; mknod null c 1 3; mknod disk b 7 0
	chmod 1777 sticky; chmod 2775 setgid; chmod 4711 many/3; chmod 000 many/4
	chown 1001:1002 many/5 deep/er/still; chown -h 1003:1004 dangling
	setfacl -m u:1001:rw,g:1002:r many/6; setfacl -d -m u:1001:rwx,g::rx acl
	setfattr -n user.color -v blue many/7; setfattr -n user.kind -v tree deep
	setfattr -n trusted.secret -v yes many/8
	setcap cap_net_raw+ep many/9
	touch -d "2001-02-03 04:05:06.789" many/10; touch -h -d "2002-03-04" deep/symlink
	touch -d "2003-04-05" deep'

mke2fs -q -t ext4 -L programs -O ^has_journal -d "$root" "$dir/programs.ext4" 3G
rm -rf --one-file-system "$root" "$dir/fsx" "$dir/source" "$dir/project"
