#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: vm.sh [OPTION...] -- COMMAND [ARG...]
#
# Boots the stock kernel (or the debug kernel) in QEMU, runs COMMAND there as root
# and returns its exit status.  Fails when the kernel's log holds a report of a bug.
# A kernel that does not come up, as was seen under emulation, is started once more.
#
#   --timeout SECONDS   end the guest after that time (default 600)
#   --interactive       give COMMAND this terminal; no time limit
#   --file PATH         take a file or directory along, to /ruaufs/ (repeatable)
#   --disk NAME=FILE    one more disk, /dev/disk/by-id/virtio-NAME; changes last as long
#                       as the guest runs (repeatable)
#   --env NAME=VALUE    set a variable for COMMAND (repeatable)
#   --log FILE          where to leave the kernel's log (default: one per checkout,
#                       in the cache)
#   --no-module         leave rust/ruaufs.ko behind
#   --icount            one CPU whose clock counts instructions
#   --debug             the debug kernel, with what build-debug.sh built
#
# The guest has its root file system on vda, where changes last as long as it
# runs, and four empty disks of 2 GiB: /dev/vdb ... vde, also to be had as
# /dev/disk/by-id/virtio-scratch0 ... scratch3.
#
# RUAUFS_VM_MEMORY and RUAUFS_VM_CPUS change its size (default 2G and 2; the debug
# kernel has 4G),
# RUAUFS_VM_ACCEL=kvm its speed where KVM can run a Debian kernel.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

timeout=600
interactive=
icount=
debug=
kernel=$KERNEL_IMAGE/vmlinuz
memory=2G
module=$SRC/rust/ruaufs.ko
module_lock=$BUILD_LOCK
log=$CACHE/log/kernel-$(key "$SRC").log
files=()
disks=()
environment=()
while (($#)); do
	case $1 in
	--timeout) timeout=$2; shift 2 ;;
	--interactive) interactive=yes; shift ;;
	--file) files+=("$2"); shift 2 ;;
	--disk) disks+=("$2"); shift 2 ;;
	--env) environment+=("$2"); shift 2 ;;
	--log) log=$2; shift 2 ;;
	--no-module) module=; shift ;;
	--icount) icount=yes; shift ;;
	--debug) debug=yes; shift ;;
	--) shift; break ;;
	*) die "vm.sh: unknown option $1" "see the head of scripts/vm.sh" ;;
	esac
done
(($#)) || die "vm.sh: no command"
if [[ -n $debug ]]; then
	kernel=$DEBUG_KERNEL/arch/x86/boot/bzImage
	memory=4G
	[[ -z $module ]] || module=$DEBUG_BUILD/rust/ruaufs.ko
	module_lock=$DEBUG_LOCK
	[[ -e $kernel ]] || die "there is no debug kernel yet" "run scripts/build-debug.sh first"
fi
[[ -e $GUEST ]] || die "there is no guest image yet" "run scripts/setup.sh first"
[[ -z $module || -e $module ]] || die "there is no $module" "run scripts/build.sh first"

# What killed runs left behind.
find "$CACHE" -maxdepth 1 -name 'vm.*' -mtime +1 -exec rm -rf {} +
run=$(mktemp -d "$CACHE/vm.XXXXXX")
running=() # What is to be ended with this script.
trap '[[ -z ${running[*]} ]] || kill "${running[@]}"; rm -rf "$run"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The payload: appended to the initramfs, so that no image is made for a run.
mkdir -p "$run/payload" "$(dirname "$log")"
cp "$SRC/scripts/guest/init" "$run/payload/init"
if [[ -n $module ]]; then
	with_lock "$module_lock" cp "$module" "$run/payload/" # Not half a module.
fi
archived=(payload)
if [[ -n $debug ]]; then
	# In the initramfs it takes the place of the stock kernel's.
	cp "$DEBUG_KERNEL/drivers/block/virtio_blk.ko" "$run/"
	archived+=(virtio_blk.ko)
	mkdir "$run/payload/modules"
	cp "$DEBUG_KERNEL"/modules.{builtin,builtin.modinfo,order} "$run/payload/modules/"
fi
for file in "${files[@]}"; do
	cp -rL "$file" "$run/payload/"
done
printf '%q ' "$@" >"$run/payload/command"
if [[ -n $interactive ]]; then
	touch "$run/payload/interactive"
	environment+=("HOST_TERM=${TERM:-vt100}")
	if size=$(stty size 2>/dev/null); then
		environment+=("HOST_LINES=${size% *}" "HOST_COLUMNS=${size#* }")
	fi
fi
for variable in "${environment[@]}"; do
	printf 'export %s=%q\n' "${variable%%=*}" "${variable#*=}"
done >"$run/payload/environment"
{
	cat "$GUEST/initramfs.cpio"
	(cd "$run" && find "${archived[@]}" | cpio -o -H newc --quiet)
} >"$run/initramfs.cpio"

# A bug of the kernel ends the guest at once (panic=-1, oops=panic): waiting for
# the time limit would tell no more.  Mitigations cost much under emulation.
append="console=ttyS0 loglevel=7 panic=-1 oops=panic hung_task_panic=1 mitigations=off"
# The test whether timer interrupts arrive fails when the host is too busy to emulate them.
append+=" no_timer_check"
# Slabs with checks have no per-CPU arrays.  Those keep old pointers, and kmemleak takes what
# these point to as still known.
[[ -z $debug ]] || append+=" kasan_multi_shot slab_debug=F"
# The clock that counts is the TSC.  While the guest waits for the host it jumps to
# the next timer, so what takes long is no defect.  The rest makes one run like another.
[[ -z $icount ]] || append+=" tsc=reliable nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
[[ -z $icount ]] || append+=" sysctl.kernel.hung_task_timeout_secs=0 nokaslr norandmaps randomize_kstack_offset=off"
# shellcheck disable=SC2054 # The commas are QEMU's.
qemu=(
	qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none
	-machine q35 -m "${RUAUFS_VM_MEMORY:-$memory}" -smp "${RUAUFS_VM_CPUS:-2}"
	-kernel "$kernel" -initrd "$run/initramfs.cpio" -append "$append"
	-serial "file:$run/kernel.log"
	-device virtio-serial-pci,max_ports=4
	-chardev "file,id=status,path=$run/status"
	-device virtserialport,chardev=status,name=ruaufs.status
	-drive "if=none,id=root,format=raw,snapshot=on,file=$GUEST/root.ext4"
	-device virtio-blk-pci,drive=root,serial=root # First, hence vda.
)
case ${icount:-${RUAUFS_VM_ACCEL:-tcg}} in
yes)
	# The last -smp is taken.  Each round of a string instruction counts: without
	# ERMS the kernel copies by words, not by bytes.
	qemu+=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -cpu "max,-erms" -smp 1
		-seed 1 -rtc "base=2026-01-01,clock=vm") ;;
kvm) qemu+=(-accel kvm -cpu host) ;;
# While the kernel looks at its first CPU, it takes five-level page tables for four-level ones:
# KASAN then reports any interrupt that comes at this moment.
tcg) qemu+=(-accel "tcg,thread=multi" -cpu "max${debug:+,la57=off}") ;;
*) die "RUAUFS_VM_ACCEL is neither tcg nor kvm" ;;
esac
for n in 0 1 2 3; do
	truncate -s 2G "$run/scratch$n"
	qemu+=(
		-drive "if=none,id=scratch$n,format=raw,cache=unsafe,discard=unmap,file=$run/scratch$n"
		-device "virtio-blk-pci,drive=scratch$n,serial=scratch$n"
	)
done
for disk in "${disks[@]}"; do
	qemu+=(
		-drive "if=none,id=disk-${disk%%=*},format=raw,snapshot=on,file=${disk#*=}"
		-device "virtio-blk-pci,drive=disk-${disk%%=*},serial=${disk%%=*}"
	)
done
if [[ -n $interactive ]]; then
	qemu+=(-chardev "stdio,id=terminal,signal=off" -device "virtconsole,chardev=terminal")
else
	# Not -chardev stdio: at the end of its input it would close the port.
	mkfifo "$run/output"
	qemu+=(-chardev "file,id=output,path=$run/output"
		-device "virtserialport,chardev=output,name=ruaufs.output")
	qemu=(timeout --foreground --kill-after=10 "$timeout" "${qemu[@]}")
fi

# Seconds until the guest must have begun with its command.
BOOT_LIMIT=300

is_up() { grep -qx up "$run/status" 2>/dev/null; }

# boot: run the guest to its end; leaves $rc.
boot() {
	local cat qemu_pid
	rm -f "$run/status"
	rc=0
	cat "$run/output" &
	cat=$!
	"${qemu[@]}" </dev/null &
	qemu_pid=$!
	(
		trap 'kill "$!"; exit' TERM
		sleep "$BOOT_LIMIT" &
		wait
		is_up || kill "$qemu_pid"
		sleep infinity & # Ended by who waits for the guest.
		wait
	) &
	running=("$qemu_pid" $!)
	wait "$qemu_pid" || rc=$?
	kill "${running[1]}"
	wait "$cat" "${running[1]}" || :
	running=()
}

# Snapshots are temporary files of QEMU's; they are large, so keep them off /tmp.
export TMPDIR=$run
rc=0
if [[ -n $interactive ]]; then
	"${qemu[@]}" || rc=$?
else
	boot
	if ! is_up; then
		echo "warning: the guest's kernel did not come up; it is started once more" >&2
		tail -n 20 "$run/kernel.log" | tr -d '\r' | sed 's/^/    | /' >&2 || :
		boot
	fi
fi
tr -d '\r' <"$run/kernel.log" >"$log"

if grep -qE "$KERNEL_REPORTS" "$log"; then
	if [[ -n $module ]] && "$SRC/scripts/decode.sh" "$module" <"$log" >"$run/decoded"; then
		[[ ! -s $run/decoded ]] || cp "$run/decoded" "$log"
	fi
	{
		echo "error: the guest's kernel reported a bug:"
		grep -nE -m 1 -B 3 -A 120 "$KERNEL_REPORTS" "$log" | sed 's/^/    | /'
		echo "       the whole log: $log"
	} >&2
	exit 70
fi
case $rc in
0) ;;
124 | 137)
	tail -n 20 "$log" | sed 's/^/    | /' >&2
	die "the guest did not end within $timeout s" "the kernel's log: $log" ;;
*) die "QEMU failed with status $rc" ;;
esac
if ! grep -q '^exit status' "$run/status"; then
	tail -n 20 "$log" | sed 's/^/    | /' >&2
	die "the guest stopped before its command had ended" "the kernel's log: $log"
fi
read -r _ _ status < <(grep '^exit status' "$run/status") || :
exit "$status"
