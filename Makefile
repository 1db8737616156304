# Every target sets up what it needs first; the second time that costs nothing.
.DEFAULT_GOAL := help
.PHONY: help setup run test nightly bench check clean vagrant-up vagrant-down vagrant-test
MAKEFLAGS += --no-print-directory
bin := .venv/bin
export PYO3_PYTHON := $(CURDIR)/$(bin)/python
cargo := tools/as-owner tools/rust cargo
workspace := --manifest-path native/Cargo.toml

# Somebody who does not own the checkout (sudo make) leaves no files in it that its owner could not remove.
ifneq ($(shell id -u),$(shell stat -c %u .))
export PYTHONDONTWRITEBYTECODE := 1
export PYTEST_ADDOPTS += -p no:cacheprovider
export MYPY_CACHE_DIR := /dev/null
export RUFF_NO_CACHE := true
export HYPOTHESIS_STORAGE_DIRECTORY := $(shell mktemp -du)
ifneq ($(shell id -u),0)
export CARGO_TARGET_DIR := $(shell mktemp -du)
endif
endif

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## install what is missing (system packages as root) and make .venv
	@tools/setup

# Some shells export HOST on their own: this host is touched only when the command line says so.
ifeq ($(origin HOST),command line)
run: command := $(bin)/qfilter install --print '$(POLICY)' && exec $(bin)/qfilter run '$(POLICY)'
ifeq ($(POLICY),)
$(error HOST=1 needs a policy: sudo make run HOST=1 POLICY=rules/workstation.yaml)
endif
else
ifeq ($(origin POLICY),command line)
$(error POLICY needs HOST=1, and is in force on this host then: sudo make run HOST=1 POLICY=$(POLICY))
endif
run: command := $(bin)/python -m tests.lab.demo
endif
run: setup ## the demonstration in a private lab; with HOST=1 POLICY=file on this host
	@$(command)

test: setup ## all tests; as root also those on real queues
	@$(cargo) test $(workspace) --workspace --locked --quiet
	@$(bin)/pytest

# What fuzzes needs a nightly compiler and cargo-fuzz, see native/fuzz/run: left out where they are not.
nightly: setup ## both engines compared fifty times as much, every fuzzer for ten minutes
	@QFILTER_FUZZ=50 $(bin)/pytest tests/fuzz/test_engines_agree.py
	@if $(cargo) +nightly fuzz --version >/dev/null 2>&1; then tools/as-owner tools/rust native/fuzz/run 600; \
	else echo 'nightly: no cargo +nightly fuzz here, left out'; fi

bench: setup ## measure (as root, about 45 minutes) and rewrite docs/performance.md; ARGS='network --rounds 3' for a part
	@$(bin)/python -m benchmarks $(ARGS)

vagrant-up: ## virtual machines client, firewall and server, with Debian's kernel (as root; see docs/lab.md). RELEASE=bookworm-backports: a newer one
	@QFILTER_RELEASE='$(RELEASE)' vagrant/lab up

vagrant-down: ## take them down
	@vagrant/lab down

vagrant-test: ## up, all tests that need such a kernel, attacks, a boot; then down. RELEASE=bookworm-backports: a newer kernel
	@QFILTER_RELEASE='$(RELEASE)' vagrant/lab test

# What some systems package apart from cargo is asked only where it is.
where_installed = if $(cargo) $1 --version >/dev/null 2>&1; then $(cargo) $1 $2; else echo 'check: no cargo $1 here, left out'; fi

check: setup ## style, types, import layers
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo --no-cache
	@shellcheck .ci/run tools/* vagrant/box/build vagrant/box/customize vagrant/driver vagrant/lab vagrant/packages vagrant/provision \
	  vagrant/server native/fuzz/run
	@if command -v vagrant >/dev/null; then cd vagrant && home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	QFILTER_DRIVER=qemu VAGRANT_HOME=$$home VAGRANT_DOTFILE_PATH=$$home/machines vagrant validate --ignore-provider >/dev/null; \
	else echo 'check: no vagrant here, its Vagrantfile left out'; fi
	@$(call where_installed,fmt,$(workspace) --all --check)
	@$(call where_installed,clippy,$(workspace) --workspace --all-targets --locked --quiet -- -D warnings)

clean: ## remove .venv and everything that a build or a test left
	@! [ -e vagrant/.lab/keeper ] || { echo 'clean: the lab is up: sudo make vagrant-down' >&2; exit 1; }
	@rm -rf vagrant/.lab vagrant/.vagrant vagrant/wheels .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info native/target qfilter/_native.*.so
	@find . -name __pycache__ -prune -exec rm -rf {} +
