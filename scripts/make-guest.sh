#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: make-guest.sh DIR
#
# Makes the guest's disk and start-up: DIR/root.ext4, a Debian tree with the
# kernel's modules, which is never written to; DIR/initramfs.cpio, which mounts it.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

dir=$1
root=$dir/root
modules=usr/lib/modules/$KERNEL

rm -rf --one-file-system "$dir/initramfs"
mkdir -p "$dir"
# shellcheck disable=SC2016 # Expanded by mmdebstrap's shell.
"$SRC/scripts/make-root.sh" "${GUEST_PACKAGES[*]}" "$root" '
	mkdir -p "$1/usr/share/ruaufs/debs" && cd "$1/usr/share/ruaufs/debs" &&
	APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -o APT::Sandbox::User=root download '"${DEMO_PACKAGES[*]}"

cp -a "$KERNEL_IMAGE/usr/lib/modules" "$root/usr/lib/"
chroot "$root" depmod "$KERNEL"
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" # The guest installs man pages again.
mkdir -p "$root/ruaufs" # The payload of a run is mounted here.
echo ruaufs >"$root/etc/hostname"
printf '127.0.0.1 localhost ruaufs\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"

mkdir -p "$dir/initramfs"/{bin,dev,proc,newroot}
cp "$root/bin/busybox" "$dir/initramfs/bin/"
cp "$SRC/scripts/guest/initramfs-init" "$dir/initramfs/init"
cp "$root/$modules/kernel/drivers/block/virtio_blk.ko" "$dir/initramfs/"
(cd "$dir/initramfs" && find . | cpio -o -H newc --quiet) >"$dir/initramfs.cpio"

# The size is that of a sparse file: room for what a session installs.
rm -f "$dir/root.ext4"
mke2fs -q -t ext4 -L guest -d "$root" "$dir/root.ext4" 4G
rm -rf --one-file-system "$root" "$dir/initramfs"
