# What a person runs. Each target does everything it needs by itself, set-up included.

.DEFAULT_GOAL := help
.PHONY: help setup kernel userspace install shell demo check check-kcsan check-all torture check-linux bench bench-native
.PHONY: series check-series clean
# One thing after the other; the scripts use all processors themselves.
.NOTPARALLEL:

help:
	@echo 'UMS for Linux: user-mode scheduling. Runs on Debian 12, as root or with sudo.'
	@echo
	@echo '  make demo       set up everything, then run real programs under a user scheduler'
	@echo '  make check      every test (PARTS="host ums-4" for some; see scripts/check --help)'
	@echo '  make torture    the torture test, ten minutes on each of both kernels'
	@echo '  make check-kcsan'
	@echo '                  the tests on a kernel that looks for data races'
	@echo '  make check-all  every check listed here; an hour and a half'
	@echo '  make check-linux'
	@echo '                  selftests of Linux itself, on the unpatched and the patched kernel, compared'
	@echo '  make bench      measure, print a table, write build/bench/results.json'
	@echo '  make bench-native'
	@echo '                  switches in user mode on this machine, without a guest, as ratios'
	@echo '  make series     the kernel part as patches for git am and a cover letter, in build/series'
	@echo '  make check-series'
	@echo '                  apply and compile these one by one, run checkpatch, sparse, kernel-doc on them'
	@echo '  make kernel     build the patched kernel and print its folder'
	@echo '  make userspace  build the library, its tools and tests in build/userspace'
	@echo '  make install    install the library (PREFIX=/usr/local, DESTDIR=)'
	@echo '  make shell      a prompt in the guest'
	@echo '  make clean      remove build/ (the cache outside of the clone stays)'
	@echo
	@echo '  scripts/guest [--debug|--kcsan|--plain] [--smp N] [--mem M] [--icount] [--timeout S] -- COMMAND'
	@echo '                  run COMMAND under the test kernel, on the files of this machine'
	@echo
	@echo 'KERNEL_SRC= takes a tarball, tree or git checkout of Linux 6.12.y instead of Debian'"'"'s.'
	@echo 'UMS_CACHE= and UMS_ACCEL= are explained in README.md.'

setup:
	@scripts/setup all

kernel:
	@scripts/kernel

userspace:
	@scripts/userspace

PREFIX ?= /usr/local
install: userspace
	@DESTDIR="$(DESTDIR)" cmake --install build/userspace --prefix "$(PREFIX)"

shell: kernel
	@echo '==> booting; exit or Ctrl-D leaves the guest'
	@scripts/guest --tty --timeout 86400 -- /bin/bash -l

demo:
	@scripts/demo

check:
	@scripts/check $(PARTS)

torture:
	@scripts/check --long 600 --only '^ums:torture$$' ums-4 debug-4

check-kcsan:
	@scripts/check kcsan-4

check-all:
	@scripts/check-all

check-linux:
	@scripts/check-linux

bench:
	@scripts/bench

bench-native:
	@scripts/bench --native

series:
	@scripts/series

check-series:
	@scripts/check-series

clean:
	rm -rf build
