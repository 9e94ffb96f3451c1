# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced after lib.sh: Debian packages of $SUITE, from the mirror and with the
# apt settings (proxy, checks) which this machine uses already.

# debian_mirror: the address from which this machine gets Debian itself.
debian_mirror() {
	local codename site
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# The origin is known where the index was fetched; else go by the name only.
	# shellcheck disable=SC2016 # $(SITE) and the others are apt's.
	site=$(apt-get indextargets --format \
		'$(SITE) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
		awk -v codename="$codename" '
			$3 == "main" && ($2 == codename || $2 == "stable" || $2 == "oldstable") {
				if ($4 == "Debian") { best = $1; exit }
				if (!any) any = $1
			}
			END { print best ? best : any }')
	case $site in
	mirror+file:*) # A file that lists mirrors, as in the cloud images.
		site=$(awk '!/^#/ && NF { print $1; exit }' "${site#mirror+file:}") ;;
	esac
	[[ -n $site ]] || die "no Debian mirror in this machine's apt sources" \
		"add a line for '$codename main' to them and run 'apt-get update'"
	echo "$site"
}

# suite_sources [POCKET...]: one-line apt sources; POCKET is '', updates, backports.  Those
# that $POCKETS names come on top.
suite_sources() {
	local mirror pocket
	mirror=$(debian_mirror)
	for pocket in "$@" ${POCKETS:-}; do
		echo "deb $mirror $SUITE${pocket:+-$pocket} main"
	done
}

# host_apt_settings: this machine's proxies and download checks, as apt.conf lines.
host_apt_settings() {
	apt-config dump | grep -E \
		'^Acquire::(http|https|Retries|ForceIPv[46]|Check-(Valid-Until|Date))(::[^ ]+)? "[^"]' ||
		[[ $? == 1 ]] # No such line is fine.
}

# backports COMMAND...: apt-get or apt-cache on backports alone, with state of its
# own below the cache: nothing of this machine's package system is touched.
backports() {
	local dir=$CACHE/apt command=$1
	shift
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	suite_sources backports >"$dir/sources.list"
	"$command" -o Dir::State="$dir" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root \
		-o Dir::Etc::sourcelist="$dir/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null "$@"
}

# fetch_backports DIR PACKAGE[=VERSION]...: download packages into DIR.
fetch_backports() {
	local dir=$1
	shift
	mkdir -p "$dir"
	(cd "$dir" && backports apt-get -q download "$@")
}

# kernel_deb_version: the package version of release $KERNEL.
kernel_deb_version() {
	backports apt-cache show "linux-headers-$KERNEL" |
		awk '/^Version:/ { print $2; exit }'
}

# newest_kernel SERIES FLAVOUR: the newest release that backports has, such as 7.3.4+FLAVOUR.
newest_kernel() {
	backports apt-cache pkgnames "linux-binary-$1." |
		sed -n "s/^linux-binary-\($1\.[0-9]*+$2\)$/\1/p" | sort -V | tail -n 1 | grep .
}

# fetch_source DIR PACKAGE: download the source of a package, as its authors made it, into DIR.
fetch_source() {
	local dir=$1 state=$1.apt
	mkdir -p "$dir" "$state"/{lists/partial,cache/archives/partial}
	echo "deb-src $(debian_mirror) $SUITE main" >"$state/sources.list"
	local options=(
		-o Dir::State="$state" -o Dir::State::status=/dev/null -o Dir::Cache="$state/cache"
		-o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$state/sources.list"
		-o Dir::Etc::sourceparts=/dev/null
	)
	apt-get -q "${options[@]}" -o APT::Update::Error-Mode=any update
	(cd "$dir" && apt-get -q "${options[@]}" --download-only --tar-only source "$2")
	rm -rf "$state"
}
