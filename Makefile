# SPDX-License-Identifier: GPL-2.0-only
# For people. The kernel's build reads Kbuild instead.

KDIR ?= /lib/modules/$(shell uname -r)/build
BUILD ?= $(CURDIR)/build

TOOLS := lib xbzrle example
# Which kernel the tests boot: debug, or one of the table in tools/vm/cache.sh.
KERNEL ?= 6.1
export BUILD KERNEL

VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
# What the module is built of; tools/graft adds Kconfig and the KUnit tests.
MODULE_FILES := Kbuild $(wildcard *.[ch]) $(wildcard compat/*.h) \
	$(wildcard include/xbzrle/*.h) $(wildcard include/uapi/linux/*.h)
DKMS_SOURCE := $(DESTDIR)/usr/src/xbzrle-$(VERSION)

all: module tools

help:
	@echo 'all        the module for the running kernel, and the tools'
	@echo 'module     the module; KDIR=DIR for another kernel'
	@echo 'tools      the tool, its library and the example, into build/'
	@echo 'load       load the module'
	@echo 'unload     unload it'
	@echo 'install    the module and the tools; also install-module,'
	@echo '           install-tools, uninstall-tools; PREFIX=, DESTDIR='
	@echo 'install-dkms  the source of the module for dkms, in /usr/src'
	@echo 'demo       migrate a busy redis-server in a VM'
	@echo 'check      every test and the demo; says what passed'
	@echo 'check-matrix  the tests that boot a kernel, on each kernel'
	@echo 'lint       checkpatch, sparse, coccicheck, clang-tidy and others'
	@echo 'kunit      the KUnit suites, in a user-mode Linux'
	@echo 'selftest   the tests that run in a VM with the module'
	@echo 'fuzz       the codec and the parsers; SECONDS=N TARGET=NAME'
	@echo 'torture    random tracking test; SECONDS=N SEED=N CONFIG=NAME'
	@echo 'check-debug  what of that runs in a debug kernel, alone'
	@echo 'coverage   which lines of the module the tests run'
	@echo 'check-mutations  does a test notice each deliberate bug? MUTATION=GLOB'
	@echo 'check-packages  Debian packages: build, install, boot, migrate'
	@echo 'bench      costs of the codec and of a round; JSON=1'
	@echo 'clean      what was built here; not the cache folder'

module:
	@[ -d $(KDIR) ] || { echo "no kernel headers in $(KDIR): install" \
		"linux-headers-$$(uname -r), or name others with KDIR="; \
		exit 1; } >&2
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

tools: $(TOOLS:%=tool-%)

$(TOOLS:%=tool-%): tool-%:
	$(MAKE) -C tools/$* all

tool-xbzrle tool-example: tool-lib

load:
	insmod xbzrle.ko

unload:
	rmmod xbzrle

install: install-module install-tools

install-module: module
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) \
		modules_install

install-tools: tool-lib tool-xbzrle
	$(MAKE) -C tools/lib install
	$(MAKE) -C tools/xbzrle install

uninstall-tools:
	$(MAKE) -C tools/lib uninstall
	$(MAKE) -C tools/xbzrle uninstall

install-dkms:
	set -e; for file in $(filter-out %.mod.c,$(MODULE_FILES)); do \
		install -D -m 644 $$file $(DKMS_SOURCE)/$$file; \
	done
	install -m 644 dkms.conf $(DKMS_SOURCE)/dkms.conf

check:
	@tools/check

demo:
	@tools/demo/run

lint:
	@tools/lint

kunit:
	@tools/kunit

selftest:
	@tools/selftests/run-in-vm

torture:
	@tools/selftests/run-in-vm torture "$(SECONDS)" "$(SEED)" "$(CONFIG)"

fuzz:
	@tools/fuzz/run $(if $(SECONDS),--seconds '$(SECONDS)') $(TARGET)

check-matrix:
	@tools/check --matrix

check-debug:
	@tools/check debug failnth

coverage:
	@tools/coverage

check-mutations:
	@tools/mutations/run $(if $(MUTATION),'$(MUTATION)')

check-packages:
	@tools/packages/run

bench:
	@tools/bench/run $(if $(JSON),--json)

clean:
	if [ -d $(KDIR) ]; then $(MAKE) -C $(KDIR) M=$(CURDIR) clean; fi
	rm -rf $(BUILD)

.PHONY: all help module tools load unload install install-module \
	install-tools uninstall-tools install-dkms check demo lint kunit \
	selftest torture fuzz check-matrix check-debug coverage check-mutations \
	check-packages bench clean $(TOOLS:%=tool-%)
