# Two commands do everything on a fresh machine that has cargo and apt (as root or with sudo):
#
#   make demo    runs a connectivity test on a simulated site and prints the verdicts
#   make test    checks format, lints and docs, and runs all tests against real peers
#
# Both first install what is missing, and say what they do.

SHELL := /bin/bash
CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PEERS := target/peers
PYTHON ?= $(or $(shell command -v python3.11 || command -v python3),python3)

# Asks what packages there are, unless this was asked within the hour.
UPDATED := target/apt-updated
update = { [ -n "$$(find $(UPDATED) -mmin -60 2>/dev/null)" ] || { $(SUDO) apt-get update -qq && mkdir -p target && touch $(UPDATED); }; }
# $(call install,PACKAGES): installs them with apt, and says so; nothing if there are none.
install = if [ -n "$(strip $(1))" ]; then echo "installing $(strip $(1)) (apt)"; \
	$(update) && \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; fi
# $(call without,THING,PACKAGE): the package if there is no such command.
without = $(if $(shell command -v $(1)),,$(2))

.PHONY: demo test test-waiting test-others compiled setup setup-test build bench fuzz schemas clean

demo: setup
	@$(CARGO) build
	@target/debug/netdiag demo

build: setup
	$(CARGO) build --release

# The library to capture with, and the tools that the tests look over our shoulder with.
setup:
	@command -v $(CARGO) >/dev/null || { echo "$(CARGO) is missing: Rust 1.89 or newer, with clippy and rustfmt, from https://rustup.rs"; exit 1; }
	@$(call install,$(if $(wildcard /usr/include/pcap/pcap.h),,libpcap-dev) $(call without,cc,gcc libc6-dev) $(call without,ip,iproute2))

# tshark: a second opinion on captures. dropbear: a secure shell to be greeted by. setpriv: takes rights away. systemd-analyze: judges
# the unit. None of them is started but by a test.
setup-test: setup $(PEERS)/ready $(PEERS)/influxdb
	@$(call install,$(call without,tshark,tshark) $(call without,dropbear,dropbear-bin) $(call without,setpriv,util-linux) \
		$(call without,systemd-analyze,systemd))

# A database for the time series. It is unpacked only: installed, it would start a service.
$(PEERS)/influxdb:
	@echo "fetching influxdb (apt, unpacked into $@), to write time series to"
	@mkdir -p $(PEERS)/download $@.partial
	@$(update) && cd $(PEERS)/download && apt-get -o APT::Sandbox::User=root download -qq influxdb
	@dpkg -x $(PEERS)/download/influxdb_*.deb $@.partial && mv $@.partial $@

# Real peers for the tests: a Modbus server and a DNP3 outstation and master that are not ours.
$(PEERS)/ready: integration/peers/requirements.txt
	@echo "installing the peers that the tests talk to (pip, into $(PEERS))"
	@$(PYTHON) -m venv $(PEERS) 2>/dev/null || { \
		$(update) && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null && \
		$(PYTHON) -m venv $(PEERS); \
	}
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r integration/peers/requirements.txt
	@touch $@

# What the tests need is fetched while they are compiled. The tests that are long because they wait run beside the others.
test: setup
	@$(MAKE) --no-print-directory -j2 setup-test compiled
	@$(MAKE) --no-print-directory -j2 -k --output-sync=target test-waiting test-others

# `--examples` (of which there are none as programs) has cargo see the dependencies as the tests do; without it most of them would be
# compiled once more.
compiled: setup
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets -- -D warnings
	$(CARGO) clippy --quiet --no-default-features --lib --bins --examples -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --lib --examples
	$(CARGO) test --quiet --no-run

WAITING := monitor series service site soak topology
OTHERS := $(filter-out $(WAITING),$(basename $(notdir $(wildcard integration/*.rs))))
TEST := RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),4) NETDIAG_REQUIRE_PEERS=1 $(CARGO) test --quiet --no-fail-fast
test-waiting:
	$(TEST) $(addprefix --test ,$(WAITING))
test-others:
	$(TEST) --lib $(addprefix --test ,$(OTHERS))
	$(TEST) --doc

bench: setup
	$(CARGO) bench

# Feeds made bytes to every parser of outside bytes, one after the other, 600 s each; or to one: make fuzz TARGET=fims_codec SECONDS=60.
# What is found goes to fuzz/work, a crash to fuzz/artifacts; fuzz/corpus, which the tests replay, stays as it is. The commit is not
# named in what is built, for each commit would have everything compiled anew.
FUZZ_TARGETS := $(sort $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))))
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz"; exit 1; }
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { echo "a nightly toolchain is missing: rustup toolchain install nightly"; exit 1; }
	@$(if $(filter-out $(FUZZ_TARGETS),$(TARGET)),echo "there is no fuzz target $(TARGET); there are $(FUZZ_TARGETS)"; exit 1)
	@set -e; for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
		echo "fuzzing $$target for $(or $(SECONDS),600) s"; mkdir -p fuzz/work/$$target; \
		NETDIAG_COMMIT=fuzzed $(CARGO) +nightly fuzz run $$target fuzz/work/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(or $(SECONDS),600) -timeout=20 -rss_limit_mb=2048; \
	done

# Writes schemas/ anew after a type of the bus has changed.
schemas:
	NETDIAG_WRITE_SCHEMAS=1 $(CARGO) test --quiet --lib api::schema

clean:
	$(CARGO) clean
