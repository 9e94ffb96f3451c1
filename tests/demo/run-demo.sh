#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: run-demo.sh [--shell]
#
# The main job on real input, in the guest: a Debian root tree in a read-only
# squashfs becomes a system that can be changed, and all changes are in one
# directory.  Exits with a failure if anything of that is not so.  --shell: ends
# with a shell on the mounted union.
#
# UNION=overlay does the same with the kernel's overlayfs, to compare.
set -euo pipefail

union=${UNION:-ruaufs}
base=/srv/demo
squash=$base/squash
rw=$base/rw
mnt=/mnt
debs=/usr/share/ruaufs/debs
here=$(dirname "$0")
failed=0

bold='' dim='' plain=''
if [[ -t 1 ]]; then
	bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

headline() { printf '\n%s--- %s%s\n' "$bold" "$*" "$plain"; }

show() {
	printf '%s# %s%s\n' "$dim" "$*" "$plain"
	"$@"
}

inside() { show chroot "$mnt" "$@"; }

# check TEXT COMMAND...: does COMMAND succeed?
check() {
	local text=$1
	shift
	if "$@" >/dev/null 2>&1; then
		printf '  ok       %s\n' "$text"
	else
		printf '  MISSING  %s\n' "$text"
		failed=1
	fi
}

mount_union() {
	if [[ $union == overlay ]]; then
		mkdir -p "$rw/upper" "$rw/work"
		show mount -t overlay -o "lowerdir=$squash,upperdir=$rw/upper,workdir=$rw/work" none "$mnt"
	else
		show mount -t "$union" -o "br=$rw=rw:$squash=ro" none "$mnt"
	fi
	for dir in proc sys dev; do
		mount --rbind --make-rslave /$dir "$mnt/$dir"
	done
}

umount_union() {
	for dir in proc sys dev; do
		umount --recursive "$mnt/$dir"
	done
	show umount "$mnt"
}

# What the writable branch holds, one line for each object: class, tab, path.
classify() {
	local upper=$rw path name type
	[[ $union != overlay ]] || upper=$rw/upper
	(cd "$upper" && find . -mindepth 1 -printf '%y %P\n') | while read -r type path; do
		name=${path##*/}
		case $path in
		*/.wh..wh..opq)
			[[ ! -d $squash/${path%/*} ]] || printf 'opaque\t/%s\n' "${path%/*}"
			continue ;;
		.wh..wh.* | */.wh..wh.* | lost+found) continue ;; # The union's or the disk's own.
		.wh.* | */.wh.*)
			printf 'whiteout\t/%s\n' "${path%"$name"}${name#.wh.}"
			continue ;;
		esac
		if [[ $type == c && $(stat -c %t,%T "$upper/$path") == 0,0 ]]; then
			printf 'whiteout\t/%s\n' "$path"
		elif [[ ! -e $squash/$path && ! -L $squash/$path ]]; then
			printf 'new\t/%s\n' "$path"
		elif [[ $type != d ]]; then
			printf 'copy\t/%s\n' "$path"
		elif getfattr -n trusted.overlay.opaque "$upper/$path" >/dev/null 2>&1; then
			printf 'opaque\t/%s\n' "$path"
		fi # Else a directory that only leads to something.
	done
}

# list CLASS TITLE: the paths of a class; what is below a listed one is counted with it.
list() {
	awk -F '\t' -v class="$1" -v title="$2" '
		$1 != class { next }
		{
			total++
			for (at = length($2); at > 1; at--)
				if (substr($2, at, 1) == "/" && substr($2, 1, at - 1) in below) {
					below[substr($2, 1, at - 1)]++
					next
				}
			below[$2] = 0
			order[++n] = $2
		}
		END {
			printf "%s: %d\n", title, total
			for (i = 1; i <= n && i <= 16; i++)
				printf "    %s%s\n", order[i], \
					below[order[i]] ? "/  and " below[order[i]] " below it" : ""
			if (n > 16)
				printf "    ... and %d more\n", n - 16
		}' /tmp/branch.list
}

headline "a Debian root tree becomes a read-only squashfs"
mkdir -p "$base"
mkfs.ext4 -q -L demo /dev/disk/by-id/virtio-scratch0
mount /dev/disk/by-id/virtio-scratch0 "$base"
mkdir -p "$squash" "$rw"
mkdir -p /srv/root
mount --bind / /srv/root # The tree alone, without what is mounted in it.
# Uncompressed: under emulation, compressing it would take most of the time.
show mksquashfs /srv/root "$base/root.squashfs" -quiet -no-progress \
	-noI -noD -noF -noX -e usr/lib/modules srv
umount /srv/root
show mount -o loop,ro "$base/root.squashfs" "$squash"
ls -lh "$base/root.squashfs"

headline "a writable branch above it, mounted as one tree ($union)"
mount_union
grep " $mnt " /proc/mounts
check "the union shows the tree" test -x "$mnt/usr/bin/dpkg"

headline "real packages are installed in it"
inside sh -c "DEBIAN_FRONTEND=noninteractive dpkg -i $debs/*.deb"

headline "files of the system are edited, removed and renamed"
bash_doc=$(cd "$squash" && ls -d usr/share/doc/bash)
inside rm -r /usr/share/doc/gcc-14-base
inside rm -r /usr/share/doc/coreutils
inside mkdir /usr/share/doc/coreutils
inside sed -i 's/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 90/' /etc/login.defs
inside sh -c 'echo demo >/etc/hostname'
inside mv /etc/issue /etc/issue.before
inside mv "/$bash_doc" "/$bash_doc.moved"
inside ln /etc/profile /etc/profile.link
inside sh -c 'echo "# demo" >>/etc/profile.link'
inside chmod 600 /etc/fstab
inside useradd --create-home --shell /bin/bash demo

headline "a program is compiled and run inside"
cp "$here/hello.c" "$mnt/root/"
inside gcc -Wall -o /usr/local/bin/union-hello /root/hello.c
inside /usr/local/bin/union-hello
inside figlet union

headline "unmounted and mounted again: is all of it there?"
umount_union
check "nothing is left on $mnt" test -z "$(ls -A "$mnt")"
mount_union
for deb in "$debs"/*.deb; do
	package=$(dpkg-deb -f "$deb" Package)
	check "package $package is installed" chroot "$mnt" dpkg --status "$package"
	check "package $package passes dpkg --verify" \
		test -z "$(chroot "$mnt" dpkg --verify "$package" 2>&1)"
done
check "hello runs" chroot "$mnt" hello
check "tree runs" chroot "$mnt" tree -L 1 /
check "sudo is set-uid root" test "$(stat -c %u:%a "$mnt/usr/bin/sudo")" = 0:4755
check "user demo exists, with a home" chroot "$mnt" su demo -c 'test -f ~/.bashrc'
check "login.defs is edited" grep -qx 'PASS_MAX_DAYS 90' "$mnt/etc/login.defs"
check "profile and its hard link are one file" test "$mnt/etc/profile" -ef "$mnt/etc/profile.link"
check "what was written to one is in the other" grep -qx '# demo' "$mnt/etc/profile"
check "hostname is overwritten" grep -qx demo "$mnt/etc/hostname"
check "fstab has its new mode" test "$(stat -c %a "$mnt/etc/fstab")" = 600
check "issue is gone" test ! -e "$mnt/etc/issue"
check "issue.before is there" cmp "$squash/etc/issue" "$mnt/etc/issue.before"
check "the removed directory is gone" test ! -e "$mnt/usr/share/doc/gcc-14-base"
check "the directory made anew is empty" test -z "$(ls -A "$mnt/usr/share/doc/coreutils")"
check "the moved directory is gone" test ! -e "$mnt/$bash_doc"
check "and is whole at its new place" diff -r "$squash/$bash_doc" "$mnt/$bash_doc.moved"
check "the compiled program runs" chroot "$mnt" union-hello
check "no whiteout is visible" test -z "$(find "$mnt" -xdev -name '.wh.*' -print -quit)"
check "the tree below has no trace of it" test ! -e "$squash/usr/bin/hello" -a -e "$squash/etc/issue"

headline "what the writable branch holds"
classify | LC_ALL=C sort >/tmp/branch.list
list whiteout 'whiteouts, each hides a removed object'
list opaque 'opaque directories, made anew where one was removed'
list copy 'copies of changed files'
list new 'new objects'

if ((failed)); then
	printf '\nThe demonstration FAILED: see MISSING above.\n'
	exit 1
fi
printf '\nAll is as it should be.\n'

if [[ ${1:-} != --shell ]]; then
	umount_union
	umount "$squash" "$base"
	show modprobe -r "$union" # Fails if anything still holds it.
	exit
fi

cat <<END

A shell in the guest.  The union is mounted on $mnt, its branches are
$rw (writable) and $squash (read-only).  To try:
    chroot $mnt                look around in the changed system
    rm $mnt/etc/motd           a removal: now see ls -A $rw/etc
    touch $mnt/etc/networks    a copy-up: now see $rw/etc/networks
    grep $mnt /proc/mounts     the mount's options
    dmesg | tail                what the kernel said
'exit' ends the guest; nothing in it is kept.
END
cd "$mnt"
bash -i || : # What the last command in it returned is no result of the demonstration.
