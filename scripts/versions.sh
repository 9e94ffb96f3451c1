# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# What the build and test environment is made of.  Each cached piece is keyed by
# the lines it depends on, so that an edit here remakes just what it changes.

# The release of build root and guest.  Its backports carry the stock kernel
# which ruaufs is built for, and its rustc and gcc are the ones that built it.
SUITE=trixie

# The newest SERIES.*-FLAVOUR kernel of the index is taken; RUAUFS_KERNEL=VERSION
# (a full release such as 7.3.4+deb13-cloud-amd64) picks another one.
KERNEL_SERIES=7.3
KERNEL_FLAVOUR=deb13-cloud-amd64
# The series whose kernels the module fits, for packages and test-kernels.sh: those that
# check-kdir.sh takes; and their flavours.
read -ra KERNEL_SERIES_ALL < <(sed -n "s/^SERIES='\(.*\)'$/\1/p" "$SRC/scripts/check-kdir.sh")
KERNEL_FLAVOURS=(deb13-cloud-amd64 deb13-amd64 deb13-rt-amd64)
KERNEL_CC=x86_64-linux-gnu-gcc-14

# For the host: command=package.  The keyring is checked by file.
HOST_COMMANDS=(
	mmdebstrap=mmdebstrap qemu-system-x86_64=qemu-system-x86 cpio=cpio
	mke2fs=e2fsprogs mount=mount xz=xz-utils
)

BUILD_PACKAGES=(
	bc bindgen bison ca-certificates cargo clang cpio flex gcc gcc-14 kmod
	libc6-dev libclang-dev libelf-dev libssl-dev lld llvm make pahole perl
	python3 rsync rust-clippy rust-src rustc rustfmt shellcheck xz-utils zstd
)

# What makes packages of what was built.
PACKAGING_PACKAGES=(
	apt-utils build-essential ca-certificates cargo debhelper dpkg-dev libc6-dev lintian rustc xz-utils
)

# For make test-packages: a machine with the stock kernel, and one that has DKMS build for it.
STOCK_PACKAGES=(dbus e2fsprogs initramfs-tools kmod man-db mount systemd-sysv udev zstd)
DKMS_PACKAGES=(
	bindgen dkms gcc-14 kmod libclang-dev make pahole rust-src rustc sed xz-utils
)

GUEST_PACKAGES=(
	acl attr btrfs-progs busybox-static dmsetup e2fsprogs file fuse3 gcc
	genisoimage kmod less libapparmor1 libc6-dev libcap2-bin mount procps
	squashfs-tools strace util-linux xfsprogs xz-utils zstd
)

# Real packages for the demo to install on a union: plain ones, one with
# alternatives and a conffile (nano), one with set-uid programs, several
# conffiles and maintainer scripts (sudo).
DEMO_PACKAGES=(hello tree figlet nano sudo)

# What `make test-programs` runs, beside what DEMO_PACKAGES installs: test programs, and tools
# whose work is a test.  fsx is a crate; the C project is a source package that is built there.
PROGRAM_PACKAGES=(
	acl attr apt dbench dpkg fio fsmark gcc git libc6-dev libcap2-bin make rsync stress-ng tar
)
FSX_VERSION=0.3.2
C_PROJECT=zlib
# The tests of a storage driver of containers that uses aufs: one Go program.
STORAGE_PACKAGES=(golang-go golang-github-containers-storage-dev)
