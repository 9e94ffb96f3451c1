# SPDX-License-Identifier: GPL-2.0
#
# `make help` lists what there is.  Read by kbuild (KERNELRELEASE is set), this is
# the list of directories to build; called by hand, it is a wrapper of kbuild and
# of scripts/.

ifneq ($(KERNELRELEASE),)

obj-m := rust/

else

# The kernel to build for: any build tree which carries Rust metadata.
KDIR ?= /lib/modules/$(shell uname -r)/build
# Guest tests to run: those whose name contains this.
T ?=

.PHONY: modules modules_install clean help setup run test shell host-test vm-test
.PHONY: test-debug test-debug-selftest test-programs shell-debug
.PHONY: bench lint check check-commits fmt rust-analyzer clean-cache

modules:

# --- plain out-of-tree build --------------------------------------------------

modules modules_install: kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(kdir-cc) $@

# The kernel's own compiler, unless another one is asked for.
kdir-cc = $(if $(filter default,$(origin CC)),CC=$(shell sed -n \
	's/^CONFIG_CC_VERSION_TEXT="*\([^ "]*\).*/\1/p' $(KDIR)/include/config/auto.conf),CC=$(CC))

.PHONY: kdir
kdir:
	@$(if $(filter default,$(origin CC)),,CC='$(CC)') scripts/check-kdir.sh $(KDIR)

# kbuild's own clean wants a build tree; this must work without one.
clean:
	scripts/clean.sh

# --- build root and guest -------------------------------------------------------

setup:
	@scripts/setup.sh

.PHONY: build
build: setup
	@scripts/build.sh

rust-analyzer: setup
	@scripts/build.sh rust-analyzer

run: setup
	@scripts/run.sh

# DESTDIR, prefix and helperdir: see the script.
.PHONY: tools tools-install
tools: setup
	@scripts/build-tools.sh

tools-install: setup
	@DESTDIR='$(DESTDIR)' prefix='$(prefix)' helperdir='$(helperdir)' scripts/install-tools.sh

# OUT, KERNELS, KEY: see the scripts.
.PHONY: dist packages
dist: setup
	@scripts/make-dist.sh $(or $(OUT),.)

packages: setup
	@KERNELS='$(KERNELS)' KEY='$(KEY)' scripts/make-packages.sh $(OUT)

shell: setup
	@scripts/build.sh
	@scripts/vm.sh --interactive $(if $(TOOLS),--file "$$(scripts/build-tools.sh)/bin") -- bash -l

test: setup
	@scripts/test.sh

host-test: setup
	@scripts/test.sh host

vm-test: setup
	@scripts/test.sh guest "$(T)"

test-programs: setup
	@scripts/test-programs.sh "$(T)"

# KERNELS: see the script.
.PHONY: test-kernels
test-kernels: setup
	@KERNELS='$(KERNELS)' scripts/test-kernels.sh $(T)

test-debug: setup
	@scripts/test.sh debug "$(T)"

test-debug-selftest: setup
	@scripts/debug-selftest.sh

shell-debug: setup
	@scripts/build-debug.sh
	@scripts/vm.sh --debug --interactive -- bash -l

bench: setup
	@scripts/bench.sh $(if $(QUICK),--quick) $(if $(BASE),--base '$(BASE)')

lint check: setup
	@scripts/lint.sh

check-commits:
	@scripts/check-commits.sh $(BASE)

fmt: setup
	@scripts/fmt.sh

clean-cache:
	@scripts/clean.sh --cache

help:
	@echo 'For a Debian 12 or 13 machine, as root; all they need is made by itself, once:'
	@echo '  make run            build, boot the stock kernel in QEMU, show the main job'
	@echo '  make test           all tests; the last line counts them'
	@echo '  make shell          a shell in the guest, with the module at hand (TOOLS=1: the tools, too)'
	@echo '  make vm-test T=x    guest tests whose name contains x'
	@echo '  make test-debug     the guest tests (T=x: some) on a kernel that looks for bugs'
	@echo '  make test-debug-selftest  plants bugs, to see that such a run reports them'
	@echo '  make test-kernels   some guest tests (T=x: others) for each kernel that is supported'
	@echo '                      (KERNELS="release..."; RUAUFS_KERNEL=release with any target: that one)'
	@echo '  make test-programs  well-known programs in unions (T=x: some)'
	@echo '  make shell-debug    a shell in the guest with that kernel'
	@echo '  make bench          cost beside overlayfs and the bare file system, in instructions'
	@echo '                      (QUICK=1: fewer; BASE=results.csv: compare with that run)'
	@echo '  make host-test      tests of the pure logic, on this machine'
	@echo '  make build          rust/ruaufs.ko for the stock Debian kernel'
	@echo '  make tools          the user-space tools: ruaufs, mount.ruaufs, auplink, ...'
	@echo '  make tools-install  install them (DESTDIR=, prefix=/usr/local, helperdir=/usr/sbin)'
	@echo '  make packages       Debian packages and an apt repository in packages/'
	@echo '                      (OUT=directory KERNELS="release..." KEY=key of gpg)'
	@echo '  make dist           ruaufs-VERSION.tar.xz, with the crates that it needs'
	@echo '  make lint           clippy, rustfmt, layers, documents, shellcheck: no warnings allowed'
	@echo '  make check-commits  form and sign-off of commits (BASE=x: those after x)'
	@echo '  make fmt            format the Rust sources'
	@echo '  make rust-analyzer  write rust-project.json for editors'
	@echo '  make setup          just make the environment'
	@echo '  make clean-cache    remove the environment'
	@echo
	@echo 'For any machine whose kernel build tree carries Rust metadata:'
	@echo '  make [KDIR=...]     build rust/ruaufs.ko for the running kernel'
	@echo '  make modules_install'
	@echo '  make clean'

endif
