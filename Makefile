# Everything that people and .ci/run do here. `make` alone lists the targets.
#
# Variables, from the command line or the environment:
#   CARGO             cargo
#   CARGO_TARGET_DIR  where cargo builds, ./target by default
#   QUORATE_LAB_CACHE where the lab keeps what it made once, /var/cache/quorate-lab by default
#   FAST_THREADS      how many tests without a lab run at a time, 4 by default: many of them wait
#   LAB_THREADS       how many tests on lab hosts run at a time, 3 by default: they keep two processors busy
#   QUORATE_CHAOS_SECONDS, _SEED, _FROM, _EDITS  how long `chaos` goes on, what it draws, see tests/chaos/campaign.rs
#   QUORATE_TEST_ETCD which etcd the lab tests take where they name none, 3.5.16 by default
#   QUORATE_EXPLORE_ONLY  part of the name of what `explore` searches
#   N, HOST, NAME     hosts of `lab-up`, host of `lab-ssh`, name of the lab

SHELL := /bin/bash
CARGO ?= cargo
LAB_THREADS ?= 3
FAST_THREADS ?= 4
N ?= 3
HOST ?= 1
NAME ?= lab

# Cargo runs in this directory, so a relative target directory starts here as well.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
BIN := $(abspath $(CARGO_TARGET_DIR))/debug
LAB := $(BIN)/lab

# Every integration test of the workspace. Those on lab hosts run last, a few at a time.
TESTS := $(sort $(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)) \
	$(patsubst tests/lab/tests/%.rs,%,$(wildcard tests/lab/tests/*.rs)) explore)
LAB_TESTS := $(filter accidents chaos cluster readme hosts faults cleanup,$(TESTS))
FAST_TESTS := $(filter-out $(LAB_TESTS) explore,$(TESTS))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help packages tools root build setup test test-fast test-old sabotage explore chaos demo bench lab-up lab-ssh lab-down lab-status fmt lint doc

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

packages:
	@tests/lab/bootstrap.sh

tools:
	@command -v $(CARGO) >/dev/null || { \
		echo "make: cargo is missing. Install Rust 1.88 or newer with rustup, and have cargo in PATH." >&2; exit 1; }

# Test targets are built along, so that whatever comes next finds the same features and builds nothing twice.
build: packages tools ## Build quorate, the lab and the tests
	@$(CARGO) test --workspace --no-run --quiet
	@$(CARGO) build --workspace --bins --quiet

setup: root build ## Make all that demo and tests need: packages, programs, root file system, etcd releases
	@$(LAB) setup >/dev/null

root:
	@[ "$$(id -u)" = 0 ] && [ -r /etc/debian_version ] || { \
		echo "make: the lab boots real hosts, which takes root on a Debian machine." >&2; \
		echo "make: elsewhere \`make test-fast\` runs the tests that need no hosts; it needs Rust, protoc, OpenSSL's" >&2; \
		echo "make: and zlib's headers, pkg-config and a C compiler." >&2; exit 1; }

# Where `setup` brought them, a replay that is left out is no success.
test: export QUORATE_REPLAY_REQUIRED = 3.4.23 3.5.16
test: setup ## Run all tests; those on lab hosts come last
	@$(CARGO) test --workspace --no-fail-fast --lib --bins $(addprefix --test ,$(FAST_TESTS)) -- --test-threads=$(FAST_THREADS)
	@$(CARGO) test --workspace --test explore -- --nocapture
	@$(MAKE) --no-print-directory sabotage
	@$(CARGO) test --workspace --no-fail-fast --doc
	@$(CARGO) test --workspace --no-fail-fast $(addprefix --test ,$(LAB_TESTS)) -- --test-threads=$(LAB_THREADS)

test-fast: tools ## Run the tests that need no lab, nor root
	@$(CARGO) test --workspace --no-fail-fast --lib --bins $(addprefix --test ,$(FAST_TESTS)) -- --test-threads=$(FAST_THREADS)
	@$(CARGO) test --workspace --test explore -- --nocapture
	@$(MAKE) --no-print-directory sabotage

# The default of these tests is 3.5.16; every point that they make holds here as well.
test-old: export QUORATE_TEST_ETCD = 3.4.23
test-old: setup ## Run the tests on lab hosts of living clusters once more, on etcd 3.4.23
	@$(CARGO) test --workspace --no-fail-fast --test cluster --test accidents -- --test-threads=$(LAB_THREADS)

sabotage: tools ## Put deliberate bugs into planner and scheduler: each has to be found
	@$(CARGO) test -p quorate-explore --features sabotage bugs -- --nocapture

explore: tools ## Search more of what can happen than every test run has time for; prints what was reached
	@QUORATE_EXPLORE_DEPTH=1 $(CARGO) test -p quorate-explore --test explore -- --nocapture

chaos: export QUORATE_CHAOS_SECONDS ?= 1800
chaos: export QUORATE_CHAOS_SEED ?= random
chaos: setup ## Edits, faults and kill -9 at random, for half an hour
	@trap '$(LAB) clean >/dev/null' EXIT; $(CARGO) test --test chaos -- --nocapture campaign

demo: setup ## Boot three hosts, take them through plan, apply, status, plan and destroy, and remove them
	@PATH="$(BIN):$$PATH" examples/demo.sh

bench: root tools ## Measure a release build against OpenSSH, a shell script and Ansible
	@tests/bench/run

lab-up: setup ## Boot N=3 hosts that stay until lab-down, and write a cluster file for them
	@$(LAB) up --hosts $(N) --name $(NAME)
	@mkdir -p .lab/$(NAME) && $(LAB) cluster-file --name $(NAME) > .lab/$(NAME)/cluster.toml
	@echo
	@echo "The hosts' network is their own. To work on them:"
	@echo "  cd .lab/$(NAME)"
	@echo "  $(LAB) exec --name $(NAME) -- $(BIN)/quorate plan"

lab-ssh: ## Log in to HOST=1 of the lab
	@$(LAB) ssh --name $(NAME) etcd-$(HOST)

lab-down: ## Remove the lab
	@$(LAB) down --name $(NAME)
	@rm -rf .lab/$(NAME)

lab-status: ## Show the labs of this machine
	@$(LAB) status

fmt: tools ## Format the sources
	@$(CARGO) fmt --all

lint: tools ## Check formatting, clippy and what must not be in the sources
	@.ci/lint

doc: tools ## Build the documentation of the library
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace
