# SPDX-License-Identifier: GPL-2.0
# The front door. What needs a kernel, a guest or packages gets them; the second time that is quick.
# Kbuild has the module's recipe.

FLAVOUR ?= release
LAB     ?= fullnat
export KDIR RUSTC LLVM BINDGEN CARGO LIBCLANG_PATH DESTDIR PREFIX

# One thing after the other: the parts use all processors themselves.
.NOTPARALLEL:
.PHONY: help demo test check modules tools install install-toa lab bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo               set up everything, boot the guest and run the FullNAT lab'
	@echo 'make test               formatting, lints, host tests, then the selftests on both kernels'
	@echo 'make check              of these, what runs on the host'
	@echo 'make modules            rlvs.ko (FLAVOUR=release|debug, or KDIR=TREE for a kernel tree of your own)'
	@echo 'make tools              rlvsadm, and rlvs-toa for the real servers'
	@echo 'make install            what make modules and make tools have built (KDIR and FLAVOUR as there; DESTDIR, PREFIX)'
	@echo 'make install-toa        of these, what a real server needs: rlvs-toa, no module'
	@echo 'make lab LAB=NAME       one lab, explained as it runs: $(notdir $(shell grep -lx "\# A lab: .*" labs/*))'
	@echo 'make bench              instructions per packet, rlvs beside ip_vs'
	@echo 'make clean              remove what was built here (kernels and guest stay in the cache)'
	@echo
	@echo 'qemu/run -- CMD ARG...  runs one command in the guest; qemu/run -- bash gives a shell'

demo: LAB = fullnat
demo: lab

lab: modules tools
	@echo 'booting the guest ...'
	@qemu/run -- labs/run $(LAB) </dev/null

modules:
	@scripts/modules $(if $(KDIR),kdir,$(FLAVOUR))

tools:
	@scripts/tools

install:
	@scripts/install $(if $(KDIR),kdir,$(FLAVOUR))

install-toa:
	@scripts/install toa

test:
	@scripts/test

check:
	@scripts/test --host

bench: tools
	@scripts/modules release
	@bench/run

clean:
	rm -rf build target
