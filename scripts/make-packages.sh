#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: [KERNELS='RELEASE...'] [KEY=ID] make-packages.sh [DIR]
#
# Makes, of HEAD, Debian packages in DIR (default: packages/ in the checkout): the tools, the
# module for DKMS, and the module ready-made for the kernels KERNELS (default: all releases
# and flavours of the series that it fits), with a package for each flavour that follows its
# newest kernel.  DIR becomes an apt repository; with KEY, a secret key of gpg's, a signed one.
#
# Packages are made aside and moved into DIR when all are there and lintian found no error;
# what an interrupted run had compiled is in the cache.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/apt.sh
. "$SRC/scripts/apt.sh"
cd "$SRC"

NEEDED_GB=5
KEYRING=ruaufs-archive-keyring.gpg
export ADVICE="if this is the network: packages come from the mirror of this machine's apt
       sources; run the same command again to go on from here"

# in_packaging COMMAND...: in the tree that packages are made in.
in_packaging() { ROOT=$PACKAGING_ROOT BIND=$out "$SRC/scripts/chroot.sh" "$@"; }

# The kernels in the index that the module fits, one a line.
all_kernels() {
	local series
	for series in "${KERNEL_SERIES_ALL[@]}"; do
		backports apt-cache pkgnames "linux-headers-$series." |
			sed -n 's/^linux-headers-\(.*+deb.*-amd64\)$/\1/p'
	done | sort -V
}

# Sets kernels.
choose_kernels() {
	if [[ -n ${KERNELS:-} ]]; then
		read -ra kernels <<<"$KERNELS"
	else
		mapfile -t kernels < <(all_kernels)
	fi
	((${#kernels[@]})) || die "the index of $SUITE-backports has no kernel that the module fits" \
		"series: ${KERNEL_SERIES_ALL[*]}"
	local release known
	for release in "${kernels[@]}"; do
		known=$(backports apt-cache pkgnames "linux-headers-$release")
		grep -qxF "linux-headers-$release" <<<"$known" ||
			die "$SUITE-backports has no kernel $release" "it has: $(all_kernels | xargs)"
	done
	say "kernels: ${kernels[*]}"
}

# headers_of RELEASE: names the directory in which the headers of RELEASE were unpacked.
headers_of() { echo "$CACHE/headers-$1"; }

fetch_headers() {
	local release=$1 dir=$2 common
	common=${release#*+}
	common=${release%%+*}+${common%%-*} # 7.3.4+deb13
	rm -rf "$dir"
	fetch_backports "$dir/debs" "linux-headers-$release" "linux-headers-$common-common" \
		"linux-kbuild-$common"
	for deb in "$dir"/debs/*.deb; do
		dpkg-deb -x "$deb" "$dir"
	done
	dpkg-deb -f "$dir/debs/linux-headers-$release"_*.deb Version >"$dir/version"
	rm -rf "${dir:?}/debs"
}

# kernel_rust_of VERSION: names the directory with the kernel's rust/ of VERSION, such as 7.3.4.
kernel_rust_of() { echo "$CACHE/kernel-rust-$1-$(key "$(<dkms/kernel-rust)")"; }

fetch_kernel_rust() {
	local version=$1 dir=$2 series=${1%.*} package
	package=$(backports apt-cache madison "linux-source-$series" |
		awk -v v="$version-" 'index($3, v) == 1 { print $3; exit }')
	[[ -n $package ]] || die "the index has no linux-source-$series of version $version" \
		"name other kernels: KERNELS=..."
	rm -rf "$dir"
	fetch_backports "$dir.debs" "linux-source-$series=$package"
	dpkg-deb -x "$dir.debs"/linux-source-*.deb "$dir.debs"
	dkms/kernel-rust "$dir.debs/usr/src/linux-source-$series.tar.xz" "$dir"
	rm -rf "$dir.debs"
}

# module_of RELEASE: names the directory with the module for RELEASE.
module_of() {
	echo "$CACHE/module-$1-$(key "$(<"$(headers_of "$1")/version")" "$BUILD_ROOT" \
		"$(git rev-parse HEAD:Makefile HEAD:dkms HEAD:rust HEAD:scripts/check-kdir.sh)")"
}

# build_module RELEASE DIR: compile the module in a copy of the sources; leave it in DIR.
build_module() {
	local release=$1 dir=$2 headers
	headers=$(headers_of "$release")
	rm -rf "$dir"
	mkdir -p "$dir/build"
	cp -a "$tree"/{Makefile,dkms,rust,scripts} "$work/kernel-rust" "$dir/build/"
	scripts/chroot.sh env RUAUFS_CACHE="$CACHE/metadata" RUAUFS_HEADERS_ROOT="$headers" \
		"$dir/build/dkms/build" "$release" "$headers/usr/src/linux-headers-$release"
	scripts/chroot.sh strip --strip-debug -o "$dir/ruaufs.ko" "$dir/build/rust/ruaufs.ko"
	rm -rf "$dir/build"
}

# fill FILE RELEASE: a template with its words replaced.
fill() {
	sed -e "s/@RELEASE@/$2/g" -e "s/@FLAVOUR@/${2#*+deb*-}/g" \
		-e "s/@KERNEL_VERSION@/$(<"$(headers_of "$2")/version")/g" \
		-e "s/@MAINTAINER@/$(sed -n 's/^Maintainer: //p' debian/control)/" "$1"
}

# The newest of the kernels of each flavour, one a line.
newest_kernels() {
	printf '%s\n' "${kernels[@]}" | sort -V |
		awk '{ flavour = $0; sub(/.*\+deb[0-9]+-/, "", flavour); newest[flavour] = $0 }
			END { for (f in newest) print newest[f] }' | sort
}

# modules_source DIR: the source package of the ready-made modules.
modules_source() {
	local dir=$1 release newest
	mkdir -p "$dir/debian/source"
	cp -a debian/modules/rules debian/copyright "$dir/debian/"
	echo '3.0 (native)' >"$dir/debian/source/format"
	sed "1s/.*/ruaufs-modules ($version) unstable; urgency=medium/" "$tree/debian/changelog" \
		>"$dir/debian/changelog"
	fill debian/modules/control.source "${kernels[0]}" >"$dir/debian/control"
	for release in "${kernels[@]}"; do
		install -D -m 644 -t "$dir/modules/$release" "$(module_of "$release")/ruaufs.ko"
		fill debian/modules/control.module "$release" >>"$dir/debian/control"
		fill debian/modules/postinst "$release" >"$dir/debian/ruaufs-modules-$release.postinst"
		fill debian/modules/postrm "$release" >"$dir/debian/ruaufs-modules-$release.postrm"
	done
	mapfile -t newest < <(newest_kernels)
	for release in "${newest[@]}"; do
		fill debian/modules/control.flavour "$release" >>"$dir/debian/control"
	done
}

# Puts the version at hand on top of the changelog.
complete_changelog() {
	local changelog=$tree/debian/changelog
	sed -i "1s/(.*)/($version-1)/; 0,/^ -- /s/\(^ -- .*>  \).*/\1$(git log -1 --format=%cD)/" \
		"$changelog"
}

# deb DIR OPTION...: make packages of the sources in DIR.
deb() {
	local dir=$1
	shift
	(cd "$dir" && in_packaging env DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage --no-sign "$@")
}

main_packages() {
	# The kernel's rust/ is in the binary packages alone: no source of ours has it.
	deb "$tree" --build=source
	cp -a "$work/kernel-rust" "$tree/"
	deb "$tree" --build=binary --build-profiles=pkg.ruaufs.kernel-rust
}

lint_packages() {
	in_packaging lintian --fail-on error --tag-display-limit 0 "$work"/*.changes
}

# make_index DIR: index and signature of what lies in $out.
make_index() {
	local dir=$1
	(
		cd "$out"
		in_packaging apt-ftparchive packages . >"$dir/Packages"
		in_packaging apt-ftparchive sources . >"$dir/Sources"
		cd "$dir"
		xz -k Packages Sources
		in_packaging apt-ftparchive -o APT::FTPArchive::Release::Origin=ruaufs \
			-o APT::FTPArchive::Release::Label=ruaufs release . >"$work/Release"
		mv "$work/Release" .
	)
	cat >"$dir/ruaufs.sources" <<-END
		Types: deb
		URIs: file:$out
		Suites: ./
	END
	if [[ -n ${KEY:-} ]]; then
		gpg --batch --yes --local-user "$KEY" --output "$dir/InRelease" --clearsign "$dir/Release"
		gpg --batch --yes --output "$dir/$KEYRING" --export "$KEY"
		echo "Signed-By: /etc/apt/keyrings/$KEYRING" >>"$dir/ruaufs.sources"
	else
		echo "Trusted: yes" >>"$dir/ruaufs.sources"
	fi
}

# Moves what was made into $out; the index last, and of it the file that apt reads first.
publish() {
	local index=$work/index new=$out/.new.$$
	rm -rf "$out"/.new.*
	mkdir -p "$new" "$index"
	cp "$work"/*.{deb,dsc,orig.tar.xz,debian.tar.xz} "$new/"
	mv "$new"/* "$out/"
	make_index "$index"
	cp "$index"/* "$new/"
	rm -f "$out/InRelease"
	mv "$new"/{Packages,Sources}* "$out/"
	mv "$new"/* "$out/"
	rmdir "$new"
}

check_key() {
	[[ -n ${KEY:-} ]] || return 0
	command -v gpg >/dev/null || die "there is no gpg to sign with" "install gnupg"
	gpg --batch --list-secret-keys "$KEY" >/dev/null 2>&1 ||
		die "gpg has no secret key $KEY" "gpg --list-secret-keys shows those that it has"
}

out=${1:-packages}
mkdir -p "$out"
out=$(cd "$out" && pwd)
check_key
need_disk $NEEDED_GB
# What killed runs left behind.
find "$CACHE" -maxdepth 1 -name 'packages.*' -mtime +1 -exec rm -rf {} +
[[ -z $(git status --porcelain --untracked-files=no) ]] ||
	say "warning: what is not committed will not be in the packages"
cached "$PACKAGING_ROOT" "make the root for packaging (Debian $SUITE)" \
	scripts/make-root.sh "${PACKAGING_PACKAGES[*]}"
touch "$PACKAGING_ROOT" # Used today: see setup.sh, prune().
with_lock resolve step "update the index of $SUITE-backports" \
	backports apt-get -q -o APT::Update::Error-Mode=any update
choose_kernels

work=$(mktemp -d "$CACHE/packages.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
version=$(scripts/make-dist.sh "$work")
tree=$work/ruaufs-$version
tar -C "$work" -xf "$work/ruaufs-$version.tar.xz"
mv "$work/ruaufs-$version.tar.xz" "$work/ruaufs_$version.orig.tar.xz"
complete_changelog

mkdir "$work/kernel-rust"
for upstream in $(printf '%s\n' "${kernels[@]%%+*}" | sort -u); do
	from=$(kernel_rust_of "$upstream")
	cached "$from" "fetch the kernel's rust/ of $upstream" fetch_kernel_rust "$upstream"
	cp -a "$from" "$work/kernel-rust/$upstream"
done
for release in "${kernels[@]}"; do
	cached "$(headers_of "$release")" "fetch the headers of $release" fetch_headers "$release"
	touch "$(headers_of "$release")"
	ADVICE='' cached "$(module_of "$release")" "build the module for $release" \
		build_module "$release"
done

ADVICE=''
step "make the packages of tools and DKMS" main_packages
modules=$work/ruaufs-modules-$version
modules_source "$modules"
step "make the packages of ready-made modules" deb "$modules" --build=binary
step "check the packages (lintian)" lint_packages
grep -E '^W: ' "$CACHE/log/check-the-packages--lintian-.log" || :
with_lock "publish-$(key "$out")" step "move the packages to $out, make the index" publish
say "packages of $version: in $out${KEY:+, signed by $KEY}"
say "Documentation/filesystems/ruaufs-install.rst says how apt reads them"
